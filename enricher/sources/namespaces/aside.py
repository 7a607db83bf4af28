# SPDX-License-Identifier: Apache-2.0
"""Work that may hang, or that changes the process it is done in: in a child of its own, with a deadline.

Owns the fork, the bounds (time, memory, bytes of the answer) and the child's end. Never does any work itself, and
never leaves a child that could be killed. For a command of one thread; the service has `runtime.helper`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

MEMORY: Final = 1 << 30
"""Bytes of address space that a child may have."""

_PIECE: Final = 65_536
_END: Final = 1.0  # seconds that a killed child is waited for: it may be stuck in a file system
_GRACE: Final = 5  # seconds after which a child ends itself, should we be gone


class Answer(NamedTuple):
    """What came of it: bytes, or a descriptor, which the caller closes; else ``why`` says why not."""

    data: bytes = b""
    fd: int = -1
    why: str = ""


def ask(work: Callable[[], bytes | int], seconds: float, most: int) -> Answer:
    """Have ``work`` done in a child: it returns the answer's bytes, ``most`` at most, or a descriptor."""
    ours, theirs = socket.socketpair()
    with ours:
        try:
            pid = os.fork()
        except OSError as error:
            theirs.close()
            return Answer(why=f"no process could be started: {error.strerror}")
        if not pid:
            _child(work, theirs, seconds)
        theirs.close()
        try:
            return _answer(ours, time.monotonic() + seconds, most)
        finally:
            _end(pid)


def _answer(ours: socket.socket, deadline: float, most: int) -> Answer:
    poll = select.poll()
    poll.register(ours, select.POLLIN)
    pieces: list[bytes] = []
    size = 0
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return Answer(why="no answer in time")
        piece, fds, _, _ = socket.recv_fds(ours, _PIECE, 1)
        if fds:
            return Answer(fd=fds[0])
        if not piece:
            return (
                Answer(b"".join(pieces)) if size else Answer(why="the process that was to look ended early")
            )
        pieces.append(piece)
        size += len(piece)
        if size > most:
            return Answer(why="too much to show")


def _child(work: Callable[[], bytes | int], theirs: socket.socket, seconds: float) -> NoReturn:
    """Live a child's life: nothing of the parent's is unwound, flushed or told at its end."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(int(seconds) + _GRACE)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        answer = work()
        if isinstance(answer, int):
            socket.send_fds(theirs, [b"f"], [answer])
        else:
            theirs.sendall(answer)
        status = 0
    finally:
        os._exit(status)


def _end(pid: int) -> None:
    """Kill the child, which may have ended, and take its end."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        handle = -1
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    if handle < 0:
        os.waitpid(pid, 0)
        return
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.poll(_END * 1000)
    os.close(handle)
    os.waitpid(pid, os.WNOHANG)
