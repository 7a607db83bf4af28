# SPDX-License-Identifier: Apache-2.0
"""The helper process that reads state files: how it is started, what it may do, and what becomes of it when it hangs.

Owns the fork, the privileges of what it starts, and the time that one request may take. Two processes, both forks of
ours: the keeper, which holds CAP_DAC_READ_SEARCH and our socket and touches no file, and the worker that it starts,
which reads. A worker that takes too long or dies is killed and replaced, and the request is answered all the same.
We could not do that: we have given up the capability by then. Never takes a descriptor of ours along.

Both are told with their start times, so that the records which they cause can be known for ours: at the start, and
again when a worker was replaced, before it is given anything to read. The times are those of the clock before and
after the fork: neither opens a file for it, which a rule could record before we know whose it is, and which the
service's unit would not let the keeper read of its worker.

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
import time
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
"""Seconds that a worker may stand still over a request before it is killed: without an answer, and without any use of
a processor, of which it may get little on a host that has none to spare."""
_BUSY_TIMES: Final = 5
"""So many times as long as that may a request take whose worker does not stand still."""
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
_TICK: Final = 10_000_000
"""Nanoseconds of a clock tick, as proc(5) counts a process's start."""
_FORK_TICKS: Final = 100
"""Ticks within which a fork is over; one that takes longer leaves the start of its process not known."""


class Helper(NamedTuple):
    """Our end of a started helper."""

    socket: socket.socket
    """SOCK_SEQPACKET, not blocking: a request a message, an answer a message, in turns."""

    pid: int
    """The keeper's."""

    privileged: bool
    """Whether it may read what is not for everybody."""

    processes: tuple[tuple[int, int], ...] = ()
    """Its processes: pid, and start in clock ticks since boot, once for each tick in which that may have been."""


def start(work: Callable[[bytes], bytes] = answer, request_time: float = REQUEST_TIME) -> Helper:
    """Start it; `work` makes an answer of a request. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    keep = privileges.held() & KEPT
    forked = _ticks()
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        raise
    if not pid:
        born = _starts(os.getpid(), forked)
        _run(lambda: _keeper(theirs, parent, keep, Keeper(work, request_time, born)))
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


def _keeper(theirs: socket.socket, parent: int, keep: int, keeper: Keeper) -> None:
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
    keeper.run(socket.socket(fileno=_SOCKET))


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


def _ticks() -> int:
    """Return the time since boot, sleep included, in clock ticks: that by which the kernel dates a process."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _TICK


def _starts(pid: int, forked: int) -> list[tuple[int, int]]:
    """Return what to tell of a process of ours that was made between that tick and now."""
    ticks = range(forked, _ticks() + 1)
    return [(pid, tick) for tick in ticks] if len(ticks) <= _FORK_TICKS else [(pid, 0)]


def _used(pid: int) -> int:
    """Return the time of processors that a process has used, in nanoseconds; 0 where it is gone."""
    try:
        return time.clock_gettime_ns(~pid << 3 | 2)  # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)
    except OSError:
        return 0


class _Worker(NamedTuple):
    socket: socket.socket
    pid: int


class Keeper:
    """The keeper's loop: a request from our parent, an answer from the worker, or the reason why there is none."""

    def __init__(
        self, work: Callable[[bytes], bytes], request_time: float, born: list[tuple[int, int]]
    ) -> None:
        """`born` is what to tell of this process."""
        self._parent: socket.socket
        self._work = work
        self._request_time = request_time
        self._born = born
        self._worker: _Worker | None = None
        self._dead: list[int] = []  # killed, and not yet gone

    def run(self, parent: socket.socket) -> None:
        """Serve until the parent closes its end."""
        self._parent = parent
        try:
            self._worker = self._start()
        except OSError:
            self._tell([])  # it is tried again for each request
        while request := parent.recv(REQUEST_MAX):
            parent.sendall(self._answer(request))

    def _answer(self, request: bytes) -> bytes:
        self._reap()
        if len(self._dead) >= STUCK_MAX:
            return _failed("stuck")
        try:
            worker = self._worker = self._worker or self._start()
            worker.socket.sendall(request)
            if not self._answers(worker):
                self._kill()
                return _failed("time-out")
            said = worker.socket.recv(ANSWER_MAX + 1)
        except OSError:
            said = b""
        if not said:
            self._kill()
            return _failed("crash")
        return said

    def _answers(self, worker: _Worker) -> bool:
        """Wait for the worker's answer or its end; False where there will be none in time."""
        poll = select.poll()
        poll.register(worker.socket, select.POLLIN)
        used = _used(worker.pid)
        for _ in range(_BUSY_TIMES):
            if poll.poll(self._request_time * 1000):
                return True
            before, used = used, _used(worker.pid)
            if used == before:
                break
        return False

    def _start(self) -> _Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        forked = _ticks()
        try:
            pid = os.fork()
        except OSError:
            theirs.close()
            raise
        if not pid:
            _run(lambda: self._serve(theirs, ours, parent))
        theirs.close()
        self._tell(_starts(pid, forked))
        return _Worker(ours, pid)

    def _tell(self, worker: list[tuple[int, int]]) -> None:
        """Tell our parent of our processes."""
        self._parent.sendall(json.dumps({"helpers": self._born + worker}).encode("ascii") + b"\n")

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
