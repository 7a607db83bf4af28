# SPDX-License-Identifier: Apache-2.0
"""The directory of a spool: its files, its one user, and how far the receiver has come.

Owns names, modes and the lock, and the cursor file. Everything goes through the directory's descriptor, so that no
symbolic link is followed and a directory that is moved stays the same one. Never reads a record.

Who has a spool is told by a lock on its directory, which goes with the process however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgpack

from enricher.errors import OutputFailed, UsageError
from enricher.sinks.delivery.segment import NUMBER_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

CURSOR: Final = "cursor"
_NEW: Final = "cursor.new"
_MAGIC: Final = b"AUDENSC"
_VERSION: Final = 1
_PREFIX: Final = struct.Struct("<7sBI")  # magic, version, CRC-32 of these and of what follows
_MODE: Final = 0o700
_CURSOR_MAX: Final = 1 << 20
_OURS: Final = re.compile(
    r"[0-9a-f]{16}\.seg(\.damaged)?|cursor(\.new)?|rejected(\.[0-9]+)?|lost\+found"
).fullmatch
_is_segment = re.compile(r"[0-9a-f]{16}\.seg").fullmatch


class Gap(NamedTuple):
    """Messages from ``first`` up to and without ``end`` that are not there, and which was told."""

    first: int
    end: int
    records: int


class Cursor(NamedTuple):
    """All messages with numbers below ``done`` need not be delivered any more; they stood for so many records.

    ``gaps`` are behind it; ``owed`` records were lost, and no loss has told it yet.
    """

    done: int
    before: int
    gaps: Sequence[Gap] = ()
    owed: int = 0


def segment_name(first: int) -> str:
    """Return the name of the segment that begins with this message."""
    return f"{first:016x}.seg"


def encode_cursor(cursor: Cursor) -> bytes:
    """Return the cursor file's content."""
    body: bytes = msgpack.packb([cursor.done, cursor.before, [list(gap) for gap in cursor.gaps], cursor.owed])
    check = zlib.crc32(body, zlib.crc32(_PREFIX.pack(_MAGIC, _VERSION, 0)))
    return _PREFIX.pack(_MAGIC, _VERSION, check) + body


def decode_cursor(data: bytes, name: str) -> Cursor | None:
    """Return the cursor, None where the file is damaged. Raises UsageError for another version's."""
    if len(data) < _PREFIX.size:
        return None
    magic, version, check = _PREFIX.unpack_from(data)
    body = data[_PREFIX.size :]
    if magic != _MAGIC or check != zlib.crc32(body, zlib.crc32(_PREFIX.pack(magic, version, 0))):
        return None
    if version != _VERSION:
        raise UsageError(
            f"{name}: a spool of another version ({version})",
            "empty it with the version that filled it, or move the directory away",
        )
    try:
        done, before, gaps, owed = msgpack.unpackb(body)
        cursor = Cursor(done, before, [Gap(*gap) for gap in gaps], owed)
    except (TypeError, ValueError, msgpack.exceptions.UnpackException):
        return None
    numbers = [done, before, owed, *(number for gap in cursor.gaps for number in gap)]
    if not all(type(number) is int and 0 <= number < NUMBER_MAX for number in numbers):
        return None
    return cursor


class Directory:
    """A spool's directory, made if need be, and held against others until it is closed.

    Raises OutputFailed where it cannot be had, UsageError where another process has it or it is something else's.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with contextlib.suppress(FileExistsError):
                Path(path).mkdir(mode=_MODE)
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            # What O_DIRECTORY says of a symbolic link is that it is no directory.
            wrong = error.errno in {errno.ENOTDIR, errno.ELOOP}
            why = "it is no directory, or a symbolic link" if wrong else error.strerror
            raise OutputFailed(f"cannot open the spool {path}: {why}") from error
        try:
            self._enter()
        except BaseException:
            self.close()
            raise

    def _enter(self) -> None:
        status = os.fstat(self._fd)
        if status.st_uid != os.geteuid():
            raise UsageError(
                f"the spool {self.path} belongs to another user",
                "name a directory of its own, or give it to the user that runs this",
            )
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"another process has the spool {self.path}",
                "every destination of every service needs a directory of its own",
            ) from error
        others = sorted(name for name in self._names() if not _OURS(name))
        if others:
            raise UsageError(
                f"{self.path} is no spool: it has {others[0]!r}",
                "name a directory that is empty, or none yet",
            )
        if stat.S_IMODE(status.st_mode) != _MODE:
            os.fchmod(self._fd, _MODE)
        self.remove(_NEW)

    def _names(self) -> list[str]:
        return os.listdir(self._fd)  # noqa: PTH208 - of a descriptor, which pathlib has nothing for

    def segments(self) -> list[str]:
        """Return the names of the segments, the oldest first."""
        return sorted(name for name in self._names() if _is_segment(name))

    def open(self, name: str, flags: int) -> int:
        """Open a file in it. Raises OSError; so it does for what is no file."""
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(name, flags, 0o600, dir_fd=self._fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "it is no file", name)
        return fd

    def remove(self, name: str) -> None:
        """Remove a file; that it is not there is well. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)

    def set_aside(self, name: str) -> None:
        """Keep a segment of which nothing can be read for whoever wants to look, in the place of the one before."""
        for old in self._names():
            if old.endswith(".damaged"):
                self.remove(old)
        os.rename(name, f"{name}.damaged", src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def sync(self, names: Sequence[str]) -> None:
        """Bring these files, and that they are there, to the disk; one that is gone need not be. Raises OSError."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                fd = self.open(name, os.O_RDONLY)
                try:
                    os.fdatasync(fd)
                finally:
                    os.close(fd)
        os.fsync(self._fd)

    def load(self) -> Cursor | None:
        """Return the cursor, None where there is none that can be read. Raises OSError and UsageError."""
        try:
            fd = self.open(CURSOR, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return decode_cursor(os.pread(fd, _CURSOR_MAX, 0), f"{self.path}/{CURSOR}")
        finally:
            os.close(fd)

    def save(self, cursor: Cursor, *, sync: bool) -> None:
        """Replace the cursor, on the disk at once if `sync`. Raises OSError."""
        data = encode_cursor(cursor)
        try:
            self._write(_NEW, os.O_CREAT | os.O_TRUNC, data, sync=sync)
            os.rename(_NEW, CURSOR, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            # What gives room on a full disk is removing segments, and that wants a cursor first. The old one has
            # its place on the disk; one that is torn is known for it and costs duplicates.
            with contextlib.suppress(OSError):
                self.remove(_NEW)
            self._write(CURSOR, 0, data, sync=sync)
        if sync:
            os.fsync(self._fd)

    def _write(self, name: str, flags: int, data: bytes, *, sync: bool) -> None:
        fd = self.open(name, os.O_WRONLY | flags)
        try:
            if os.write(fd, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
            if not flags & os.O_TRUNC:
                os.ftruncate(fd, len(data))
            if sync:
                os.fdatasync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let others have it; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
