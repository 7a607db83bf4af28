# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of the container identifiers' socket, as a pidfd: the one who connected, or his parent.

Owns that question. Never takes a process's number from what a peer says, and never judges what he may do: the store in
the kernel does.

Since 6.5 the kernel gives the peer's pidfd (SO_PEERPIDFD). Before, the number in SO_PEERCRED may be another process's
by now. So its pidfd is opened *before* a nonce is sent; the request has to bring the nonce back in a message that the
kernel marks with the sender's number (SCM_CREDENTIALS), and the process of the pidfd must be alive after that. Whoever
had the number when the message was sent is then the process of the pidfd, for that held the number all the time.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from enricher.sources.host import PROC

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SO_PEERPIDFD: Final = 77  # asm-generic/socket.h, Linux 6.5
_UCRED: Final = struct.Struct("=iII")
FDS_MAX: Final = 4
"""Descriptors that a message may bring; all but one are refused, more are not even taken."""
ROOM: Final = socket.CMSG_SPACE(_UCRED.size) + socket.CMSG_SPACE(FDS_MAX * 4)

_SAME: Final = (
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
)
"""Lines of /proc/PID/status that a process and the one it acts for must have in common."""


class NotKnown(Exception):
    """It cannot be told who asks, or for whom. The message says why, in words for the peer."""


class Message(NamedTuple):
    """What came: its bytes, the sender's process number as the kernel marked it (0: not), descriptors."""

    data: bytes
    pid: int
    fds: list[int]
    cut: bool  # descriptors were left out


def receive(connection: socket.socket, most: int) -> Message:
    """Take what is there. Raises OSError; the descriptors are the caller's to close."""
    data, ancillary, flags, _ = connection.recvmsg(most, ROOM, socket.MSG_CMSG_CLOEXEC)
    pid, fds = 0, []
    for level, kind, content in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_RIGHTS:
            whole = len(content) - len(content) % 4
            fds += [fd for (fd,) in struct.iter_unpack("=i", content[:whole])]
        elif kind == socket.SCM_CREDENTIALS and len(content) >= _UCRED.size:
            pid = _UCRED.unpack_from(content)[0]
    return Message(data, pid, fds, bool(flags & socket.MSG_CTRUNC))


class Peer:
    """Who connected; owns a pidfd. ``pid`` and ``uid`` are those of then, ``sure`` says the kernel gave the pidfd."""

    def __init__(self, pidfd: int, pid: int, uid: int, *, sure: bool) -> None:
        self.pidfd, self.pid, self.uid = pidfd, pid, uid
        self.sure = sure

    @classmethod
    def of(cls, connection: socket.socket, *, ask_kernel: bool = True) -> Self:
        """Find out. Raises NotKnown where he is gone or of another pid namespace."""
        said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, _gid = _UCRED.unpack(said)
        if pid <= 0:
            raise NotKnown("the peer's process has no number here")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        if ask_kernel:
            try:
                return cls(connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD), pid, uid, sure=True)
            except OSError:
                pass  # a kernel before 6.5, or the peer is gone: the other way tells
        try:
            return cls(os.pidfd_open(pid), pid, uid, sure=False)
        except OSError as error:
            raise NotKnown(f"the peer's process: {error.strerror}") from error

    def confirm(self, message: Message) -> None:
        """Raise NotKnown unless this message, which has the nonce, makes sure that the pidfd is the peer's."""
        if not self.sure and message.pid != self.pid:
            raise NotKnown("the request was not sent by the process that connected")
        if gone(self.pidfd):
            raise NotKnown("the process that connected has ended")

    def judged(self, proc: Path = PROC) -> None:
        """Raise NotKnown where his user is another than when he connected: he would be judged with other rights."""
        if _status(self.pidfd, self.pid, proc).get("Uid", "").split()[1:2] != [str(self.uid)]:
            raise NotKnown("the process that connected has changed its user")

    def parent(self, proc: Path = PROC) -> tuple[int, int]:
        """Return the pidfd, which is the caller's to close, and the number of his parent.

        Raises NotKnown where it is gone or does not have the same credentials.
        """
        mine = _status(self.pidfd, self.pid, proc)
        number = _number(mine.get("PPid", ""))
        if number <= 0:
            raise NotKnown("the process that connected has no parent here")
        try:
            pidfd = os.pidfd_open(number)
        except OSError as error:
            raise NotKnown(f"the parent's process: {error.strerror}") from error
        try:
            _compare(mine, _status(pidfd, number, proc), _status(self.pidfd, self.pid, proc))
        except BaseException:
            os.close(pidfd)
            raise
        return pidfd, number

    def close(self) -> None:
        """Let go of the pidfd. A second call does nothing."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def gone(pidfd: int) -> bool:
    """Whether the process has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _status(pidfd: int, pid: int, proc: Path) -> Mapping[str, str]:
    """Return the lines of /proc/PID/status, which is of the pidfd's process: that is alive after it was read."""
    try:
        text = (proc / str(pid) / "status").read_text("utf-8", "replace")
    except OSError as error:
        raise NotKnown(
            f"/proc/{pid} cannot be read: {error.strerror}; in the service's unit ProtectProc= has to be default"
        ) from error
    if gone(pidfd):
        raise NotKnown(f"process {pid} has ended")
    pairs = (line.partition(":") for line in text.split("\n"))
    return {name: " ".join(value.split()) for name, _, value in pairs}


def _compare(mine: Mapping[str, str], theirs: Mapping[str, str], again: Mapping[str, str]) -> None:
    """Raise NotKnown unless the second is of the parent of the first, with the same credentials.

    `again` is the first, read behind the second: had the parent ended before its pidfd was opened, it would have
    another one by now.
    """
    if mine.get("PPid") != again.get("PPid"):
        raise NotKnown("the parent has ended")
    for name in _SAME:
        if not mine.get(name) == theirs.get(name) == again.get(name):
            raise NotKnown(f"the parent has other credentials ({name})")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.lstrip("-").isdecimal() and len(text) <= _DIGITS else -1


_DIGITS: Final = 10
