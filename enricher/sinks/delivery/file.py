# SPDX-License-Identifier: Apache-2.0
"""A file as a destination: one message a line, rotated as the service's output is. See docs/sinks/file.md.

Owns the options and what a write that failed half-way means for each message. Never syncs: what was taken is in the
kernel, which a kill does not take away and a power cut may.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enricher.config.kinds import Mode, Name, Path, Size
from enricher.config.options import needed, option
from enricher.errors import EnricherError
from enricher.sinks.compress import Compressor
from enricher.sinks.delivery.message import ALL_TAKEN, Receipt, Unreachable
from enricher.sinks.rotating import RotatingFile
from enricher.sinks.seal import Sealer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enricher.sinks.delivery.message import Message

_MOST: Final = 512


@dataclass(frozen=True)
class FileOptions:
    """What can be set of a destination of type `file`."""

    path: str = needed("the file that events are written to", kind=Path())
    mode: int = option(0o640, "the mode of a file that is made; one that is there keeps its own", Mode())
    group: str = option("", "the group of a file that is made; empty: the service's", Name())
    rotate_size: int = option(64 << 20, "start a new file when this size is reached", Size())
    rotate_keep: int = option(8, "how many older files to keep, as PATH.1 (the newest of them) and so on")
    compress: bool = option(
        default=False, doc="compress older files with gzip, which are PATH.1.gz and so on then"
    )
    seal: bool = option(
        default=False,
        doc="write seals between the lines, by which the command verify shows that the file is as it was written",
    )
    seal_key: str = option(
        "",
        "the file with the key of the seals, which the service replaces; empty: seals without a key",
        Path(optional=True),
    )


class FileSender:
    """A `Sender`. Raises OutputFailed where the file cannot be opened. A line that went out half goes out again."""

    acknowledged = True
    most = _MOST

    def __init__(self, options: FileOptions) -> None:
        self._options = options
        self._compressor: Compressor | None = None
        self._file: RotatingFile | None = self._open()

    def _open(self) -> RotatingFile:
        options = self._options
        self._compressor = Compressor(options.path) if options.compress else None
        return RotatingFile(
            options.path,
            size=options.rotate_size,
            keep=options.rotate_keep,
            group=options.group,
            mode=options.mode,
            compressor=self._compressor,
            sealer=Sealer(options.path, options.seal_key) if options.seal else None,
        )

    @property
    def advice(self) -> str:
        """What the operator might want to know; "" if nothing."""
        if self._file is not None and self._file.advice:
            return self._file.advice
        return "" if self._compressor is None else self._compressor.error

    def send(self, messages: Sequence[Message]) -> Receipt:
        """See `Sender`."""
        before = 0
        try:
            if self._file is None:
                self._file = self._open()
            before = self._file.written
            if self._compressor is not None and not self._compressor.started:
                self._compressor.wake()  # not before: this thread has no more capabilities than it may
            self._file.write([message.body + b"\n" for message in messages])
        except EnricherError as error:
            done = self._file.written - before if self._file is not None else 0
            if not done:
                raise Unreachable(error.message, error.hint) from error
            return Receipt({}, range(done, len(messages)))
        return ALL_TAKEN

    def close(self) -> None:
        """See `Sender`. Raises Unreachable where a write of before turns out to have failed."""
        file, self._file = self._file, None
        if self._compressor is not None:
            self._compressor.close()
        if file is not None:
            try:
                file.close()
            except EnricherError as error:
                raise Unreachable(error.message, error.hint) from error
