# SPDX-License-Identifier: Apache-2.0
"""Older files of a rotated one, compressed beside what is written: PATH.2 becomes PATH.2.gz.

Owns the thread that does it, and when a compressed file takes the place of the plain one. Never holds up who
writes: the lock that it shares with the rotation is held for a rename, not for a compression. Never touches the file
that is being written, and follows no symbolic link.

What is compressed stands in PATH.gz.part until it is whole and on the disk; only then is it renamed, and only when
that is on the disk as well is the plain file removed. So a file that is named .gz is whole whenever we end, and what
was not finished begins anew. A crash between the two leaves both, which are compared the next time: the plain one goes
where they are equal, and both stay where they are not.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import stat
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX: Final = ".gz"
_PART: Final = ".gz.part"
_CHUNK: Final = 256 << 10
_LEVEL: Final = 6
_JOIN: Final = 5.0
"""Seconds for the thread to end: it looks after every chunk."""

Inode = tuple[int, int]


class Compressor:
    """For one path. ``lock`` is to be held by who renames its older files.

    ``present`` is the file that is written to; ``done`` counts files that were compressed; ``error`` is why the last
    try failed, "" where it did not.
    """

    def __init__(self, path: str) -> None:
        self.lock = threading.Lock()
        self.present: Inode = (0, 0)
        self.done = 0
        self.error = ""
        self._directory = Path(path).parent
        self._part = Path(path + _PART)
        self._numbered = re.compile(rf"{re.escape(Path(path).name)}\.[0-9]{{1,9}}")
        self._ours: Inode = (0, 0)
        self._wanted = threading.Event()
        self._stop = False
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Have it look for plain files; the first time makes the thread, which has its maker's capabilities."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="compress", daemon=True)
            self._thread.start()
        self._wanted.set()

    @property
    def started(self) -> bool:
        """Whether it was ever woken."""
        return self._thread is not None

    def close(self) -> None:
        """End; what is half done is for the next time. A second call does nothing."""
        self._stop = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(_JOIN)

    def _run(self) -> None:
        while not self._stop:
            self._wanted.wait()
            self._wanted.clear()
            self.work()

    def work(self) -> None:
        """Compress all plain files there are, the oldest first. Raises nothing: ``error`` says what went wrong."""
        error = ""
        seen: set[Inode] = set()
        while not self._stop and (name := self._next(seen)) is not None:
            try:
                self._compress(name)
            except OSError as failure:
                error = f"{name} cannot be compressed and stays as it is: {failure.strerror or failure}"
            finally:
                with contextlib.suppress(OSError):
                    if self._is_ours:
                        self._part.unlink()
        self.error = error

    def _plain(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Return regular files with a number, and what they are."""
        with contextlib.suppress(OSError), os.scandir(self._directory) as entries:
            for entry in entries:
                if self._numbered.fullmatch(entry.name):
                    with contextlib.suppress(OSError):  # it was renamed just now
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            yield self._directory / entry.name, status

    def _next(self, seen: set[Inode]) -> Path | None:
        """Return the oldest that was not looked at; None if there is none."""
        found = {
            name: _inode(status)
            for name, status in self._plain()
            if _inode(status) not in seen and _inode(status) != self.present
        }
        if not found:
            return None
        oldest = max(found, key=lambda name: int(name.suffix[1:]))
        seen.add(found[oldest])
        return oldest

    def _compress(self, name: Path) -> None:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as plain:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or _inode(status) == self.present:
                return
            if os.path.lexists(beside := _packed(name)):
                if self._same(plain, beside):
                    self._remove(status, _inode(beside.lstat()))
                return
            part = self._write(plain, status)
            if part is None or self._stop:
                return
            with self.lock:
                now = self._find(status)
                if now is None or os.path.lexists(_packed(now)) or not self._is_ours:
                    return  # it went, or grew; or one that came after us has begun its own
                self._part.rename(_packed(now))
        _sync(self._directory)
        self._remove(status, part)
        self.done += 1

    def _write(self, plain: BinaryIO, status: os.stat_result) -> Inode | None:
        """Compress into the part, and see that it is on the disk. Return which file it is; None if we are to end."""
        self._part.unlink(missing_ok=True)  # a crash left it
        fd = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._ours = _inode(os.fstat(fd))
        with os.fdopen(fd, "wb") as part:
            with gzip.GzipFile("", "wb", _LEVEL, part, status.st_mtime) as packed:
                while chunk := plain.read(_CHUNK):
                    if self._stop:
                        return None
                    packed.write(chunk)
            part.flush()
            with contextlib.suppress(OSError):  # not ours to give
                os.fchown(fd, status.st_uid, status.st_gid)
            os.fchmod(fd, stat.S_IMODE(status.st_mode))
            os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
            os.fsync(fd)
            return self._ours

    @property
    def _is_ours(self) -> bool:
        """Whether the part is the one that we have made."""
        return _inode(self._part.lstat()) == self._ours

    def _find(self, status: os.stat_result) -> Path | None:
        """Return the name that the file has now, if it is as it was; None where it is not. The lock is held."""
        for name, found in self._plain():
            if _inode(found) == _inode(status):
                same = (found.st_size, found.st_mtime_ns) == (status.st_size, status.st_mtime_ns)
                return name if same and _inode(found) != self.present else None
        return None

    def _remove(self, status: os.stat_result, packed: Inode) -> None:
        """Remove the plain file, whose compressed one stands beside it."""
        with self.lock, contextlib.suppress(FileNotFoundError):
            name = self._find(status)
            if name is not None and _inode(_packed(name).lstat()) == packed:
                name.unlink()

    def _same(self, plain: BinaryIO, name: Path) -> bool:
        """Whether a compressed file holds just what the plain one does."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as raw, gzip.GzipFile(fileobj=raw) as packed:
                while not self._stop:
                    chunk = plain.read(_CHUNK)
                    if cast("BinaryIO", packed).read(len(chunk) or 1) != chunk:
                        return False
                    if not chunk:
                        return True
        except (OSError, EOFError, zlib.error):
            return False  # somebody else's: ours are whole
        return False


def _inode(status: os.stat_result) -> Inode:
    return status.st_dev, status.st_ino


def _packed(name: Path) -> Path:
    return Path(f"{name}{SUFFIX}")


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
