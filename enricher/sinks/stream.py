# SPDX-License-Identifier: Apache-2.0
"""The plainest destinations: a file, and standard output.

Owns opening them safely, whole-batch writes and what is known after a write that failed half-way. Never
buffers across calls, never rotates (`rotating` does), never decides to drop: the caller reads `written` and
keeps the ledger.

A batch is one write(2) unless the kernel takes only part of it. Audit records hold command lines and
file names of everyone on the machine, so a new file is for its owner alone unless the caller says who else,
and no symbolic link is followed; an existing file keeps its mode and owner, since the operator may have
arranged both for a collector, and `FileSink.advice` says so when more can read it than a new one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
from itertools import accumulate
from typing import Protocol

from enricher.errors import EnricherError, OutputFailed

_ACCEPTED = (stat.S_ISREG, stat.S_ISCHR, stat.S_ISFIFO)

_HINTS = {
    errno.ENOSPC: "free some space, or name an output on another file system",
    errno.EDQUOT: "the quota is used up: raise it, or name an output on another file system",
    errno.EFBIG: "the file reached the size limit of the process or of its file system",
    errno.ELOOP: "the path is a symbolic link, which is never followed: name the file itself",
    errno.ENXIO: "nothing reads the FIFO: start the reader first",
    errno.ENOENT: "the directory does not exist: create it first",
    errno.EACCES: "the directory or the file does not admit this user",
}


class OutputClosed(EnricherError):
    """The reader of standard output went away (``| head``): the end of the work, not a failure."""

    exit_code = 0


class Sink(Protocol):
    """A destination for finished events: each element of a batch is one event's line or lines."""

    written: int

    def write(self, lines: list[bytes]) -> None:
        """Write the batch. On an error `written` has grown by the elements that went out whole."""
        ...

    def flush(self) -> None:
        """Hand over whatever is still held in this process."""
        ...

    def close(self) -> None:
        """Release the destination; a second call does nothing."""
        ...


def _write_all(fd: int, data: bytes) -> tuple[int, OSError | None]:
    """Write ``data`` and return how much of it went out and the error that stopped it, if any."""
    sent = 0
    while sent < len(data):
        try:
            sent += os.write(fd, memoryview(data)[sent:] if sent else data)
        except BlockingIOError:
            # Standard output may share an O_NONBLOCK description with whatever started us.
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
        except OSError as error:
            return sent, error
    return sent, None


class _DescriptorSink:
    """What both sinks share: one descriptor, whole batches, the count of what went out."""

    def __init__(self, fd: int, name: str) -> None:
        self.written = 0
        self.name = name
        self._fd = fd
        self.torn = False
        """The last byte written is in the middle of a line."""

    def write(self, lines: list[bytes]) -> None:
        """See `Sink`. Raises what `_failed` makes of the error."""
        if not lines:
            return
        # After a half line comes a newline first: it stays as a line of its own, to be seen and skipped.
        mend = b"\n" if self.torn else b""
        data = mend + b"".join(lines) if mend or len(lines) != 1 else lines[0]
        sent, error = _write_all(self._fd, data)
        if sent:
            self.torn = not data.endswith(b"\n", 0, sent)
        if error is None:
            self.written += len(lines)
            return
        self._fail(lines, len(mend), sent, error)

    def _fail(self, lines: list[bytes], mended: int, sent: int, error: OSError) -> None:
        ends = accumulate(map(len, lines), initial=mended)
        # One that lacks nothing but its newline is out: that comes before whatever is written next.
        self.written += sum(1 for end in ends if mended < end <= sent + 1)
        raise self._failed(error) from error

    def _failed(self, error: OSError) -> EnricherError:
        return OutputFailed(
            f"cannot write to {self.name}: {error.strerror}", _HINTS.get(error.errno or 0, "")
        )

    def mend(self) -> None:
        """End a half line now, if there is one and it can be done: nothing else may follow it."""
        if self.torn:
            _, error = _write_all(self._fd, b"\n")
            self.torn = error is not None

    def flush(self) -> None:
        """See `Sink`. Nothing is held back between calls."""

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""
        return self._fd


def _open(path: str, mode: int, gid: int) -> tuple[int, bool]:
    """Open for appending and return the descriptor and whether the file is new.

    A new one is its owner's alone until it has its group. O_NONBLOCK so that a FIFO without reader, or a
    modem line, is an error now and not a hang; O_NOCTTY so that a terminal does not become ours.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    while True:
        try:
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            if gid >= 0:
                with contextlib.suppress(OSError):  # not ours to give: it keeps the process's group
                    os.fchown(fd, -1, gid)
            os.fchmod(fd, mode)  # a umask can only take bits away, and it may have taken ours
            return fd, True
        try:
            return os.open(path, flags), False
        except FileNotFoundError:
            # Rotated away between the two calls; a dangling link fails here with ELOOP and does not loop.
            continue


def _ends_inside_line(path: str, opened: os.stat_result) -> bool:
    """Whether the last byte of an existing regular file is not a newline (a full disk cut it, say)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False  # append-only for us: the file's state cannot be told
    try:
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) != (opened.st_dev, opened.st_ino) or not found.st_size:
            return False
        return os.pread(fd, 1, found.st_size - 1) != b"\n"
    finally:
        os.close(fd)


class FileSink(_DescriptorSink):
    """Append to a regular file, a FIFO that has a reader, or a character device.

    A new file gets this mode, and the group `gid` (-1: the process's) where the process may give it away. Raises
    `OutputFailed` when the path is a symbolic link, a directory, a socket or a block device, or cannot be
    opened or written. ``advice`` is "" or one sentence the command line may show.
    """

    def __init__(self, path: str, mode: int = 0o600, gid: int = -1) -> None:
        try:
            fd, self.new = _open(path, mode, gid)
        except OSError as error:
            raise OutputFailed(
                f"cannot open {path}: {error.strerror}", _HINTS.get(error.errno or 0, "")
            ) from error
        status = os.fstat(fd)
        if not any(accepted(status.st_mode) for accepted in _ACCEPTED):
            os.close(fd)
            raise OutputFailed(
                f"cannot write to {path}: it is no regular file, FIFO or character device",
                "name a file; for standard output, leave the option out",
            )
        os.set_blocking(fd, True)
        super().__init__(fd, path)
        self.advice = ""
        if stat.S_ISREG(status.st_mode) and not self.new:
            self.torn = _ends_inside_line(path, status)
            if status.st_mode & 0o077 & ~mode:
                kept = stat.S_IMODE(status.st_mode)
                self.advice = (
                    f"{path} existed and keeps its mode {kept:04o}: others can read it or write to it"
                )

    def close(self) -> None:
        """See `Sink`. A delayed write error (NFS, quota) shows here and raises `OutputFailed`."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            os.close(fd)
        except OSError as error:
            raise self._failed(error) from error


class StdoutSink(_DescriptorSink):
    """Write to standard output, past Python's buffering. Raises `OutputClosed` when the reader is gone."""

    def __init__(self, fd: int = 1) -> None:
        super().__init__(fd, "standard output")

    def _failed(self, error: OSError) -> EnricherError:
        if error.errno == errno.EPIPE:
            return OutputClosed("the reader of standard output has gone")
        return super()._failed(error)

    def close(self) -> None:
        """See `Sink`. The descriptor belongs to the process and stays open."""
        self._fd = -1


class NullSink:
    """Nowhere: for a command whose product is something else."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, lines: list[bytes]) -> None:
        """See `Sink`."""
        self.written += len(lines)

    def flush(self) -> None:
        """See `Sink`."""

    def close(self) -> None:
        """See `Sink`."""
