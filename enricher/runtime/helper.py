# SPDX-License-Identifier: Apache-2.0
"""The helper process that reads state files: how it is started, what it may do, and what becomes of it when it hangs.

Owns the fork, the privileges of what it starts, and the time that one request may take. Two processes, both forks of
ours: the keeper, which holds CAP_DAC_READ_SEARCH and our socket and touches no file, and the worker that it starts,
which reads. A worker that takes too long or dies is killed and replaced, and the request is answered all the same.
We could not do that: we have given up the capability by then. Never takes a descriptor of ours along.

A fork and no exec: it needs no interpreter to be found and no path to import from, and it starts before there is
anything to leak but settings. It must be made while there is one thread, and before privileges are dropped.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from enricher.enrich.metadata.worker import ANSWER_MAX, REQUEST_MAX, answer
from enricher.runtime import privileges

if TYPE_CHECKING:
    from collections.abc import Callable

CAP_DAC_READ_SEARCH: Final = 2  # linux/capability.h
KEPT: Final = 1 << CAP_DAC_READ_SEARCH

REQUEST_TIME: Final = 2.0
"""Seconds that a request may take before its worker is killed."""
STUCK_MAX: Final = 4
"""Killed workers that may wait, in a file system that hangs, for their end to come."""

_IGNORED: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""It goes when its socket does, or with us, and so outlives what the service does at its end."""
_PR_SET_PDEATHSIG: Final = 1
_SOCKET: Final = 3
"""Where the one descriptor that is kept goes."""
_NICE: Final = 5


class Helper(NamedTuple):
    """Our end of a started helper."""

    socket: socket.socket
    """SOCK_SEQPACKET, not blocking: a request a message, an answer a message, in turns."""

    pid: int
    """The keeper's."""

    privileged: bool
    """Whether it may read what is not for everybody."""


def start(work: Callable[[bytes], bytes] = answer, request_time: float = REQUEST_TIME) -> Helper:
    """Start it; `work` makes an answer of a request. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    keep = privileges.held() & KEPT
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        raise
    if not pid:
        _run(lambda: _keeper(theirs, parent, keep, work, request_time))
    theirs.close()
    ours.settimeout(0)
    return Helper(ours, pid, bool(keep))


def _run(act: Callable[[], None]) -> NoReturn:
    """Live a child's life: nothing of the parent's is unwound, flushed or told at its end."""
    status = 1
    try:
        act()
        status = 0
    finally:
        os._exit(status)


def _keeper(
    theirs: socket.socket, parent: int, keep: int, work: Callable[[bytes], bytes], request_time: float
) -> None:
    signal.set_wakeup_fd(-1)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    # What we inherited is never collected: an object's end could close a descriptor that is now another one.
    gc.freeze()
    os.dup2(theirs.detach(), _SOCKET)
    _close_others()
    _confine(keep)
    _die_with(parent)
    # The records come first.
    with suppress(OSError):
        os.nice(_NICE)
    Keeper(socket.socket(fileno=_SOCKET), work, request_time).run()


def _close_others() -> None:
    """Close everything but the socket. The standard three stay open, on nothing: somebody else may wait for theirs."""
    open_now = [int(link.name) for link in Path("/proc/self/fd").iterdir()]
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.closerange(_SOCKET + 1, max(*open_now, null) + 1)


def _confine(keep: int) -> None:
    """Give up all capabilities but these, for good. Raises OSError."""
    privileges._set(keep, keep)  # noqa: SLF001 - to be `privileges.keep_only(keep)`
    privileges._clear_ambient()  # noqa: SLF001
    privileges._call("prctl", privileges._PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # noqa: SLF001
    privileges._call("prctl", privileges._PR_SET_DUMPABLE, 0, 0, 0, 0)  # noqa: SLF001


def _die_with(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it was gone before we asked


class _Worker(NamedTuple):
    socket: socket.socket
    pid: int


class Keeper:
    """The keeper's loop: a request from our parent, an answer from the worker, or the reason why there is none."""

    def __init__(self, parent: socket.socket, work: Callable[[bytes], bytes], request_time: float) -> None:
        self._parent = parent
        self._work = work
        self._request_time = request_time
        self._worker: _Worker | None = None
        self._dead: list[int] = []  # killed, and not yet gone

    def run(self) -> None:
        """Serve until the parent closes its end."""
        while request := self._parent.recv(REQUEST_MAX):
            self._parent.sendall(self._answer(request))

    def _answer(self, request: bytes) -> bytes:
        self._reap()
        if len(self._dead) >= STUCK_MAX:
            return _failed("stuck")
        try:
            worker = self._worker = self._worker or self._start()
            worker.socket.sendall(request)
            poll = select.poll()
            poll.register(worker.socket, select.POLLIN)
            if not poll.poll(self._request_time * 1000):
                self._kill()
                return _failed("time-out")
            said = worker.socket.recv(ANSWER_MAX + 1)
        except OSError:
            said = b""
        if not said:
            self._kill()
            return _failed("crash")
        return said

    def _start(self) -> _Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            theirs.close()
            raise
        if not pid:
            _run(lambda: self._serve(theirs, ours, parent))
        theirs.close()
        return _Worker(ours, pid)

    def _serve(self, mine: socket.socket, keepers: socket.socket, parent: int) -> None:
        keepers.close()
        self._parent.close()
        _die_with(parent)
        while request := mine.recv(REQUEST_MAX):
            mine.sendall(self._work(request))

    def _kill(self) -> None:
        if self._worker is not None:
            self._worker.socket.close()
            os.kill(self._worker.pid, signal.SIGKILL)
            self._dead.append(self._worker.pid)
            self._worker = None
        self._reap()

    def _reap(self) -> None:
        self._dead = [pid for pid in self._dead if os.waitpid(pid, os.WNOHANG)[0] != pid]


def _failed(why: str) -> bytes:
    return json.dumps({"failed": why}).encode("ascii") + b"\n"
