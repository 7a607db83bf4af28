# SPDX-License-Identifier: Apache-2.0
"""The file of what a receiver will never take, and why: JSON, a message a line.

Owns the shape of a line. Never raises: a file that cannot be written is counted and told, and the receiver's other
messages go on. PATH.1 is what was full before; together they take twice the size, and a message.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from enricher.codec import dumps
from enricher.errors import EnricherError
from enricher.sinks.rotating import RotatingFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enricher.clock import Clock
    from enricher.sinks.delivery.message import Message

SIZE: Final = 4 << 20
"""Bytes after which a new file begins."""
BODY_MAX: Final = 1 << 20
"""Bytes of a body that are kept."""
REASON_MAX: Final = 1000
"""Characters of a reason that are kept."""


class RejectedFile:
    """It is made, with mode 0600, when the first message is refused. ``error`` is why the last write failed."""

    def __init__(self, path: str, *, size: int = SIZE, clock: Clock | None = None) -> None:
        self.written = 0
        self.failed = 0
        self.error = ""
        self._path = path
        self._size = size
        self._clock = clock
        self._file: RotatingFile | None = None

    def write(self, refused: Sequence[tuple[Message, str]]) -> None:
        """Write them down."""
        for message, reason in refused:
            try:
                if self._file is None:
                    self._file = RotatingFile(
                        self._path, size=self._size, keep=1, mode=0o600, clock=self._clock
                    )
                self._file.write([line(message, reason)])
            except EnricherError as error:
                self.failed += 1
                self.error = error.message
            else:
                self.written += 1
                self.error = self._file.advice

    def close(self) -> None:
        """Close it; a second call does nothing."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except EnricherError as error:
                self.error = error.message


def line(message: Message, reason: str) -> bytes:
    """Return the line of one message: its body as text where it is UTF-8, in base64 where it is not."""
    members: dict[str, str | float | bool] = {
        "uid": _printable(message.uid),
        "time": message.time,
        "type": _printable(message.type),
        "reason": _printable(reason[:REASON_MAX]),
    }
    body = message.body[:BODY_MAX]
    if len(body) < len(message.body):
        members["truncated"] = True
    try:
        members["body"] = body.decode()
    except UnicodeDecodeError:
        members["body_base64"] = base64.b64encode(body).decode()
    return dumps(members) + b"\n"


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
