# SPDX-License-Identifier: Apache-2.0
"""A file that starts anew when it has grown: PATH is written to, PATH.1 is the newest of the older ones.

Owns when that happens and in which order files are renamed, and notices a file that somebody else moved or
removed. Never ends a file inside a line, never follows a symbolic link, and never stops writing because
renaming fails: the file then grows on, and `advice` says why.

A crash may come between any two renames. Each moves one file to a name that is free or that of the oldest, and
only files before the first free number are moved: so what a crash left half-way is completed the next time,
and no file is lost but the oldest. A file numbered higher than wanted, one after the other, is removed: they
are left over from when more were kept.

With a `Sealer` each file begins and ends with a seal, and has more in between (`enricher.sealformat`). They are
written after the lines that they are about, and are none of the lines in `written`.

A number may have its file as PATH.2 or, where they are compressed, as PATH.2.gz, whichever the settings are now: both
count, and go on together where both are there.
"""

from __future__ import annotations

import contextlib
import grp
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enricher.clock import SystemClock
from enricher.errors import OutputFailed
from enricher.sinks.compress import SUFFIX
from enricher.sinks.stream import FileSink

if TYPE_CHECKING:
    from enricher.clock import Clock
    from enricher.sinks.compress import Compressor
    from enricher.sinks.seal import Sealer

_LOOK_EVERY: Final = 1.0
"""Seconds between two looks at whether the path still names our file."""
_RETRY_AFTER: Final = 60.0
"""Seconds after which renaming is tried again where it failed."""

_GROUP, _ROTATE, _REOPEN, _CLOSE, _KEY = "group", "rotate", "reopen", "close", "key"  # troubles


class RotatingFile:
    """A `Sink` that appends to `path` and rotates it before a batch, once it has `size` bytes.

    `keep` older files are kept; both may be set anew at any time. A new file gets `mode` and the `group` ("": the
    process's), an existing one keeps what it has. What is no regular file is never rotated. Raises `OutputFailed`
    as `FileSink` does; while running only where a line would be lost: not written, or into a file that was removed
    and cannot be made again.

    A `compressor` of the same path is told which file is written, and woken when there is one more of the older ones.

    `advice` is "" or one sentence for the operator. It is set once for one trouble, and becomes "" when that is over.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        path: str,
        *,
        size: int,
        keep: int,
        group: str = "",
        mode: int = 0o640,
        clock: Clock | None = None,
        compressor: Compressor | None = None,
        sealer: Sealer | None = None,
    ) -> None:
        self.size = size
        self.keep = keep
        self.written = 0
        self.rotations = 0
        self.reopened = 0
        """How often the file was gone from its path, and made or opened anew."""
        self.advice = ""
        self._path = Path(path)
        self._mode = mode
        self._clock = clock or SystemClock()
        self._compressor = compressor
        self._sealer = sealer
        self._troubles: set[str] = set()  # of which the operator was told
        self._group = group
        self._gid = self._gid_of(group)
        self._retry_at = 0.0
        self._look_at = 0.0
        self._enter(self._open())

    def write(self, lines: list[bytes]) -> None:
        """See `Sink`."""
        if not lines:
            return
        now = self._clock.monotonic()
        if now >= self._look_at:
            self._look(now)
        if self._sealer is not None:
            self._begin_seals(lines[0])
        if self._bytes >= self.size and now >= self._retry_at:
            self._rotate(now)
            self._begin_seals(lines[0])
        sealer = self._sealer
        before = self._file.written
        try:
            self._file.write(lines)
        except OutputFailed:
            self._look_at = now  # what went out of it is not known: ask for the size
            if sealer is not None:
                sealer.begun = False
            raise
        finally:
            self.written += self._file.written - before
        for line in lines:
            self._bytes += len(line)
        if sealer is not None:
            sealer.add(lines)
            if sealer.due(now):
                self._seal(sealer.seal("lines"))

    def reopen(self) -> None:
        """Open the path anew if it does not name our file any more: after somebody else rotated it."""
        self._look(self._clock.monotonic())

    def flush(self) -> None:
        """See `Sink`. Nothing is held back between calls."""

    def close(self) -> None:
        """See `Sink`."""
        if self._sealer is not None and self._sealer.begun and self._sealer.has_unsealed:
            with contextlib.suppress(OutputFailed):  # the next start finds the lines without a seal
                self._seal(self._sealer.seal("lines"))
        self._file.close()

    def _begin_seals(self, first: bytes) -> None:
        if self._sealer is not None and not self._sealer.begun:
            self._file.mend()  # or the newline would come between what is hashed and its seal
            self._seal(self._sealer.begin(first))

    def _seal(self, line: bytes | None) -> None:
        """Write a seal. Raises OutputFailed, as `write` of lines does."""
        sealer = self._sealer
        if line is None or sealer is None:
            return
        try:
            self._file.write([line])
        except OutputFailed:
            sealer.begun = False  # it may be there in half
            raise
        self._bytes += len(line)
        sealer.written()
        if sealer.advice:
            self._complain(_KEY, sealer.advice)
        else:
            self._recover(_KEY)

    def fileno(self) -> int:
        """Return the present file's descriptor, -1 once closed."""
        return self._file.fileno()

    def _open(self) -> FileSink:
        file = FileSink(str(self._path), self._mode, self._gid)
        if file.advice:
            self.advice = file.advice
        elif file.new and self._gid not in {-1, os.fstat(file.fileno()).st_gid}:
            self._complain(_GROUP, f"{self._path} cannot be given to the group {self._group}")
        return file

    def _enter(self, file: FileSink) -> None:
        """Make this the present file."""
        status = os.fstat(file.fileno())
        self._file = file
        self._inode = (status.st_dev, status.st_ino)
        self._regular = stat.S_ISREG(status.st_mode)
        self._bytes = status.st_size if self._regular else 0
        self._look_at = self._clock.monotonic() + _LOOK_EVERY
        if self._compressor is not None:
            self._compressor.present = self._inode

    def _replace(self, file: FileSink) -> None:
        """Go on in `file`; the one before is ended at a line's end, or else its half line at the next one's start."""
        before = self._file
        before.mend()
        sealer = self._sealer
        if sealer is not None and sealer.begun:
            try:
                self._seal(sealer.seal("end"))
            except OutputFailed as error:
                self._complain(_CLOSE, error.message)  # what was not sealed is told by `verify`
        self._enter(file)
        if sealer is not None:
            sealer.begun = False  # the new one, which may be one that was there, is looked at
        if before.torn:
            file.torn = True
        try:
            before.close()
        except OutputFailed as error:
            self._complain(_CLOSE, error.message)  # of a write long past

    def _look(self, now: float) -> None:
        """See that the path is still our file, and how large it is. Raises OutputFailed where lines would be lost."""
        self._look_at = now + _LOOK_EVERY
        try:
            status = os.lstat(self._path)
        except OSError:
            pass  # opening it says why
        else:
            if (status.st_dev, status.st_ino) == self._inode:
                self._bytes = status.st_size if self._regular else 0
                return
        try:
            file = self._open()
        except OutputFailed as error:
            if not os.fstat(self._file.fileno()).st_nlink:
                # What is written now would be gone with the file: nothing is, until there is one again.
                self._look_at = now
                raise
            self._complain(_REOPEN, f"{error.message}; the file that was moved away is written on")
            return
        self._replace(file)
        self.reopened += 1
        self._recover(_REOPEN)

    def _rotate(self, now: float) -> None:
        """Move the files on by one number and start a new one; where that fails, all is as it was or nearly so."""
        self._look(now)
        if self._bytes < self.size:
            return  # somebody else was faster
        compressor = self._compressor
        with contextlib.nullcontext() if compressor is None else compressor.lock:
            rotated = self._move_on(now)
        if rotated and compressor is not None:
            compressor.wake()

    def _move_on(self, now: float) -> bool:
        """Do it, while nobody else renames; returns whether there is a new file."""
        newest = self._numbered(1)
        try:
            self._make_room()
            self._path.rename(newest)
        except OSError as error:
            self._put_off(now, f"{error.filename} cannot be renamed: {error.strerror}")
            return False
        try:
            file = self._open()
        except OutputFailed as error:
            with contextlib.suppress(OSError):
                newest.rename(self._path)  # PATH.1 is free then, which the next rotation finds
            self._put_off(now, error.message)
            return False
        self._replace(file)
        self.rotations += 1
        self._recover(_ROTATE)
        self._prune()
        return True

    def _make_room(self) -> None:
        """Free PATH.1: move what is before the first free number, or before the oldest, which goes."""
        last = max(self.keep, 1)
        free = next((number for number in range(1, last) if not self._endings(number)), last)
        for number in range(free - 1, 0, -1):
            endings = self._endings(number)
            # Only the oldest has files left, and of those one that no other takes the name of goes by itself.
            for ending in self._endings(number + 1) - endings:
                self._numbered(number + 1, ending).unlink()
            for ending in sorted(endings):
                self._numbered(number, ending).rename(self._numbered(number + 1, ending))
        if free == 1:
            # PATH takes the name of a plain one, where a single file is kept.
            for ending in self._endings(1) - {""}:
                self._numbered(1, ending).unlink()

    def _prune(self) -> None:
        number = self.keep + 1
        with contextlib.suppress(OSError):
            while endings := self._endings(number):
                for ending in endings:
                    self._numbered(number, ending).unlink()
                number += 1

    def _numbered(self, number: int, ending: str = "") -> Path:
        return Path(f"{self._path}.{number}{ending}")

    def _endings(self, number: int) -> set[str]:
        """Return as what the number's file is there: "" is plain."""
        return {ending for ending in ("", SUFFIX) if os.path.lexists(self._numbered(number, ending))}

    def _put_off(self, now: float, why: str) -> None:
        self._retry_at = now + _RETRY_AFTER
        self._complain(_ROTATE, f"{self._path} cannot be rotated and grows on: {why}")

    def _complain(self, trouble: str, sentence: str) -> None:
        if trouble not in self._troubles:
            self._troubles.add(trouble)
            self.advice = sentence

    def _recover(self, trouble: str) -> None:
        if trouble in self._troubles:
            self._troubles.discard(trouble)
            self.advice = ""

    def _gid_of(self, group: str) -> int:
        if not group:
            return -1
        try:
            return grp.getgrnam(group).gr_gid
        except KeyError:
            self._complain(_GROUP, f"there is no group {group}: {self._path} cannot be given to it")
            return -1
