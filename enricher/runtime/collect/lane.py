# SPDX-License-Identifier: Apache-2.0
"""What a collector has taken for good: its lane's directory, its lock, and the record that says how far it is.

Owns the order of steps by which a batch is there whole or not at all. Never looks into an event.

::

    DIRECTORY/.collect/lane-0-of-1.json     what is taken: the stream, the last sequence, and the files of that batch
    DIRECTORY/.collect/lane-0-of-1.lock     held by the collector that has the lane
    DIRECTORY/.collect/lane-0-of-1.new/     files of a batch that is not yet taken
    DIRECTORY/day=.../host=.../*.parquet    what is

The files of a batch are written and synced under ``.new``; then the record replaces the one before, which is the moment
at which the batch is taken; then the files get their names. A start after a kill gives names to what the record has,
and removes the rest, whose events the stream still has.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

from enricher.errors import OutputFailed, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_VERSION: Final = 1
_RECORD: Final = re.compile(r"lane-[0-9]+-of-([0-9]+)\.json")


@dataclass
class Position:
    """How far a lane is: `through` is the last number that is taken, of a stream its sequence.

    Counts are since ever.
    """

    stream: str = ""
    created: str = ""
    through: int = 0
    offsets: dict[str, int] = field(default_factory=dict)
    """Of a topic: the next offset of each partition."""
    batch: int = 0
    files: list[tuple[str, str]] = field(default_factory=list)
    """Of the last batch: name under ``.new``, and below the directory."""
    written: int = 0
    duplicates: int = 0
    late: int = 0
    rejected: int = 0
    expired: int = 0
    newest: int = 0
    """Milliseconds since the epoch of the newest event, by which others are late."""


class Lane:
    """One lane of a directory, locked. Raises UsageError where it is taken or others divide it, OutputFailed."""

    def __init__(self, directory: Path, number: int, count: int) -> None:
        self.directory = directory
        self.name = f"lane-{number}-of-{count}"
        self._own = directory / ".collect"
        self.new = self._own / f"{self.name}.new"
        self.rejected = self._own / f"{self.name}.rejected"
        try:
            self._own.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(
                self._own / f"{self.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise OutputFailed(
                f"{directory}: {error.strerror}", "name a directory that can be written"
            ) from error
        try:
            self._open(count)
        except BaseException:
            os.close(self._lock)
            raise

    def _open(self, count: int) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"{self.directory}: another collector has {self.name}",
                "each collector has a --lane of its own",
            ) from error
        others = {int(found[1]) for each in self._own.iterdir() if (found := _RECORD.fullmatch(each.name))}
        if others - {count}:
            raise UsageError(
                f"{self.directory} was divided into {max(others - {count})} lanes, not {count}",
                "give the same --lanes, or another directory",
            )
        try:
            self.position = self._load()
            self._name_files()
            self.clear()
        except OSError as error:
            raise OutputFailed(f"{self.directory}: {error.strerror}") from error

    def _load(self) -> Position:
        path = self._own / f"{self.name}.json"
        try:
            read = json.loads(path.read_bytes())
            if read.pop("version") != _VERSION:
                raise ValueError  # noqa: TRY301 - as everything else that is wrong in it
            position = Position(**read)
            position.files = [(str(new), str(name)) for new, name in position.files]
        except FileNotFoundError:
            return Position()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise OutputFailed(
                f"{path} is not what this version writes", "restore it; without it all is read again"
            ) from error
        return position

    def clear(self) -> None:
        """Remove what is not taken."""
        shutil.rmtree(self.new, ignore_errors=True)
        self.new.mkdir(mode=0o700)

    def take(self, position: Position, files: Sequence[tuple[str, str]]) -> None:
        """Take a batch whose `files` (as in `Position`) are under ``new``. Raises OutputFailed."""
        position.files = list(files)
        try:
            for new, _ in files:
                _sync(self.new / new)
            for parent in {(self.new / new).parent for new, _ in files}:
                _sync(parent)
            text = json.dumps({"version": _VERSION, **asdict(position)})
            part = self._own / f"{self.name}.part"
            part.write_text(text)
            _sync(part)
            part.rename(self._own / f"{self.name}.json")
            _sync(self._own)
            self.position = position
            self._name_files()
            self.clear()
        except OSError as error:
            raise OutputFailed(f"{self.directory}: {error.strerror}") from error

    def _name_files(self) -> None:
        """Give the files of the last batch their names, where a kill has not let it be done."""
        parents = set()
        for new, name in self.position.files:
            target = self.directory / name
            if (self.new / new).exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                (self.new / new).rename(target)
                parents |= {target.parent, target.parent.parent, self.directory}
        for parent in parents:
            _sync(parent)

    def close(self) -> None:
        """Let another collector have the lane."""
        os.close(self._lock)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
