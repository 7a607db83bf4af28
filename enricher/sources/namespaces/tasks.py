# SPDX-License-Identifier: Apache-2.0
"""Which task is in which namespaces: one look through /proc, and a second one that confirms it.

Owns the reading of /proc/PID and of its threads. Never follows a link and never takes a number for a process: what
was read of a pid counts only if the process that has it started at the same time before and after.

A process stands for its threads but for those that are in other namespaces than its first one: they are tasks of
their own here. Threads share their user and their pid namespace always (user_namespaces(7), pid_namespaces(7)).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.model import KINDS
from enricher.sources.cgroups import V2
from enricher.sources.namespaces.nsfs import Ns, read_link

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from enricher.sources.cgroups import Hierarchy

MOST: Final = 131_072
"""Tasks of one look. Linux has four million at most; a host of so many is looked at in part."""

_LARGEST: Final = 65_536  # bytes of one file
_STARTED: Final = 19  # fields between ``)`` and the start: proc(5), field 22
_TRIES: Final = 2
_OF_THREADS: Final = tuple(place for place, kind in enumerate(KINDS) if kind not in ("user", "pid"))


class Task(NamedTuple):
    """A process, or a thread that is elsewhere than its process (``tid`` differs from ``pid``)."""

    pid: int
    tid: int
    start: int
    """Clock ticks since boot."""
    comm: bytes
    cgroup: str | None
    """The path in the hierarchy that is watched, as we see it; bytes that are not UTF-8 are surrogate escapes. None
    where it cannot be read."""
    inums: tuple[int, ...]
    """As in `KINDS`; 0 is "not known"."""

    @property
    def links(self) -> str:
        """The directory with its namespaces' links, below /proc."""
        return f"{self.pid}/ns" if self.tid == self.pid else f"{self.pid}/task/{self.tid}/ns"

    def namespaces(self) -> Iterator[Ns]:
        """Those that it is in."""
        for kind, inum in zip(KINDS[:8], self.inums, strict=False):
            if inum:
                yield Ns(kind, inum)

    def for_children(self) -> Iterator[Ns]:
        """Those that only its children are to be in."""
        for kind, own, inum in (("pid", 4, 8), ("time", 7, 9)):
            if self.inums[inum] not in (0, self.inums[own]):
                yield Ns(kind, self.inums[inum])


class Looked(NamedTuple):
    """What one look found."""

    tasks: list[Task]
    denied: int
    """Processes whose namespaces we may not read."""
    gone: int
    """Processes that ended, or changed, while they were read."""
    cut: bool
    """Whether there were more than `MOST`."""


def look(proc: Path, watched: Hierarchy) -> Looked:
    """Read every process. Raises nothing: what goes away meanwhile is counted."""
    tasks: list[Task] = []
    denied = gone = 0
    root = os.fspath(proc)
    for name in _numbers(root):
        if len(tasks) >= MOST:
            return Looked(tasks, denied, gone, cut=True)
        try:
            task = _task(root, name, name, watched)
        except PermissionError:
            denied += 1
            continue
        if task is None:
            gone += 1
            continue
        tasks.append(task)
        tasks += _elsewhere(root, task, watched)
    return Looked(tasks, denied, gone, cut=False)


def is_still(proc: Path, task: Task) -> bool:
    """Whether the task is there, and where it was."""
    base = _base(os.fspath(proc), task.pid, task.tid)
    try:
        return _inums(base, range(len(KINDS))) == task.inums and _stat(base)[0] == task.start
    except (OSError, ValueError):
        return False


def _numbers(directory: str) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(directory) if name.isascii() and name.isdigit())  # noqa: PTH208 - as for links
    except OSError:
        return []


def _base(root: str, pid: int, tid: int) -> str:
    return f"{root}/{pid}" if tid == pid else f"{root}/{pid}/task/{tid}"


def _task(root: str, pid: int, tid: int, watched: Hierarchy) -> Task | None:
    """Return the task; None if it went away or if another one got its number. Raises PermissionError."""
    base = _base(root, pid, tid)
    for _ in range(_TRIES):
        try:
            start, comm = _stat(base)
            inums = _inums(base, range(len(KINDS)))
            cgroup = _cgroup(base, watched)
            again = _stat(base)[0]
        except PermissionError:
            raise
        except (OSError, ValueError):
            return None
        if start == again:
            return Task(pid, tid, start, comm, cgroup, inums)
    return None


def _elsewhere(root: str, process: Task, watched: Hierarchy) -> Iterator[Task]:
    """Yield the threads that are in other namespaces than the first one."""
    threads = _numbers(f"{root}/{process.pid}/task")
    if len(threads) < 2:  # noqa: PLR2004
        return
    own = tuple(process.inums[place] for place in _OF_THREADS)
    for tid in threads:
        if tid == process.pid:
            continue
        try:
            inums = _inums(_base(root, process.pid, tid), _OF_THREADS)
            if inums == own or not any(inums):
                continue
            task = _task(root, process.pid, tid, watched)
        except OSError:
            continue
        if task is not None:
            yield task


def _inums(base: str, places: tuple[int, ...] | range) -> tuple[int, ...]:
    """Raises OSError; a link that is not there is 0, as the time namespace's before Linux 5.6."""
    found = []
    for place in places:
        kind = KINDS[place]
        ns = read_link(f"{base}/ns/{kind}")
        found.append(ns.inum if ns and ns.kind == kind.removesuffix("_for_children") else 0)
    return tuple(found)


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        room = _LARGEST
        while room > 0 and (piece := os.read(fd, room)):
            pieces.append(piece)
            room -= len(piece)
    finally:
        os.close(fd)
    return b"".join(pieces)


def _stat(base: str) -> tuple[int, bytes]:
    """Return the start and the name. Raises OSError and ValueError."""
    # The name may hold anything, parentheses, spaces and line feeds too: it ends with the last ``)``.
    before, found, after = _read(f"{base}/stat").rpartition(b")")
    fields = after.split()
    if not found or len(fields) <= _STARTED:
        raise ValueError(base)
    return int(fields[_STARTED]), before.partition(b"(")[2]


def _cgroup(base: str, watched: Hierarchy) -> str | None:
    try:
        return cgroup_path(_read(f"{base}/cgroup"), watched)
    except PermissionError:
        return None


def cgroup_path(text: bytes, watched: Hierarchy) -> str | None:
    """Return the path in the watched hierarchy out of /proc/PID/cgroup; None where it has none."""
    for line in text.split(b"\n"):
        number, _, rest = line.partition(b":")
        controllers, _, path = rest.partition(b":")
        if not path:
            continue
        if number == b"%d" % watched.number and (watched.subsystem != V2 or not controllers):
            return path.decode("utf-8", "surrogateescape")
    return None
