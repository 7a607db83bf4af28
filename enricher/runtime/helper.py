# SPDX-License-Identifier: Apache-2.0
"""The helper process that reads state files: how it is started, what it may do, and what becomes of it when it hangs.

Owns the fork, the privileges of what it starts, and the time that one request may take. Two processes, both forks of
ours: the keeper, which holds CAP_DAC_READ_SEARCH and our socket and touches no file, and the worker that it starts,
which reads. A worker that takes too long or dies is killed and replaced, and the request is answered all the same.
We could not do that: we have given up the capability by then. Never takes a descriptor of ours along.

Both are told with their start times, so that the records which they cause can be known for ours: at the start, and
again when a worker was replaced, before it is given anything to read.

A fork and no exec: it needs no interpreter to be found and no path to import from, and it starts before there is
anything to leak but settings. It must be made while there is one thread, and before privileges are dropped.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import json
import os
import select
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from enricher.enrich.metadata.files import member, parse
from enricher.enrich.metadata.worker import ANSWER_MAX, REQUEST_MAX, answer
from enricher.runtime import privileges

if TYPE_CHECKING:
    from collections.abc import Callable

CAP_DAC_READ_SEARCH: Final = 2  # linux/capability.h
KEPT: Final = 1 << CAP_DAC_READ_SEARCH

REQUEST_TIME: Final = 2.0
"""Seconds that a request may take before its worker is killed."""
_START_TIME: Final = 10.0
"""Seconds for its start."""
STUCK_MAX: Final = 4
"""Killed workers that may wait, in a file system that hangs, for their end to come."""

_IGNORED: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""It goes when its socket does, or with us, and so outlives what the service does at its end."""
_PR_SET_PDEATHSIG: Final = 1
_SOCKET: Final = 3
"""Where the one descriptor that is kept goes."""
_NICE: Final = 5
_NUMBER_MAX: Final = 64


class Helper(NamedTuple):
    """Our end of a started helper."""

    socket: socket.socket
    """SOCK_SEQPACKET, not blocking: a request a message, an answer a message, in turns."""

    pid: int
    """The keeper's."""

    privileged: bool
    """Whether it may read what is not for everybody."""

    processes: tuple[tuple[int, int], ...] = ()
    """Its processes: pid, and start in clock ticks since boot, 0 where that is not known."""


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
    helper = Helper(ours, pid, bool(keep))
    try:
        ours.settimeout(_START_TIME)
        processes = processes_of(parse(ours.recv(ANSWER_MAX)))
        ours.settimeout(0)
    except OSError:
        processes = None
    if processes is None:
        ours.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise OSError(errno.ECHILD, "the process that reads state files did not start")
    return helper._replace(processes=processes)


def processes_of(said: object) -> tuple[tuple[int, int], ...] | None:
    """Return the helper's processes where this message tells them, else None."""
    told = member(said, "helpers")
    if not isinstance(told, list):
        return None
    pairs = [pair for pair in told if isinstance(pair, list) and [type(each) for each in pair] == [int, int]]
    return tuple((pid, start) for pid, start in pairs)


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
    privileges.keep_only(keep)
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


def _die_with(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it was gone before we asked


def _started() -> int:
    """Return this process's start in clock ticks since boot; 0 where that cannot be read."""
    try:
        # Behind the name, which may hold anything: field 22 of proc(5).
        return int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


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
        self._started = _started()

    def run(self) -> None:
        """Serve until the parent closes its end."""
        try:
            self._worker = self._start()
        except OSError:
            self._tell(0, 0)  # it is tried again for each request
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
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        started = ours.recv(_NUMBER_MAX) if poll.poll(_START_TIME * 1000) else b""
        if not started:
            ours.close()
            os.kill(pid, signal.SIGKILL)
            self._dead.append(pid)
            raise OSError(errno.ECHILD, "the worker did not start")
        self._tell(pid, int(started))
        return _Worker(ours, pid)

    def _tell(self, pid: int, started: int) -> None:
        """Tell our parent of our processes."""
        processes = [(os.getpid(), self._started)] + ([(pid, started)] if pid else [])
        self._parent.sendall(json.dumps({"helpers": processes}).encode("ascii") + b"\n")

    def _serve(self, mine: socket.socket, keepers: socket.socket, parent: int) -> None:
        keepers.close()
        self._parent.close()
        _die_with(parent)
        mine.sendall(b"%d" % _started())
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
