# SPDX-License-Identifier: Apache-2.0
"""All namespaces of the host: who is in them, what holds them, what is above them, what is in the network ones.

Owns the order of the looks and what of them counts in the end: what is still there when everything has been read, so
that what is shown was there together. Never says whose a namespace is.

A namespace's number is given to another one as soon as it is free. But a task that is in namespace N before the last
look began and still is after it kept the number from being free, and so did a mount and a descriptor.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.sources.host import PROC
from enricher.sources.namespaces import holders, network, nsfs, tasks
from enricher.sources.namespaces.aside import ask
from enricher.sources.namespaces.nsfs import Ns, Said

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import Any, Self

    from enricher.sources.cgroups import Hierarchy
    from enricher.sources.namespaces.holders import Fd, Held, Mount
    from enricher.sources.namespaces.network import Network
    from enricher.sources.namespaces.tasks import Looked, Task

MOUNT_SECONDS: Final = 2.0
"""To open one mount: it may lie in a file system that hangs."""
MOUNTS_SECONDS: Final = 20.0
"""For all of them."""
NETWORK_SECONDS: Final = 120.0
"""For the insides of all network namespaces."""
_WAYS: Final = 4  # that are tried, to open one namespace
TIME_UP: Final = "the time for all of them was up"


class Found(NamedTuple):
    """What was there all the time."""

    tasks: tuple[Task, ...]
    spaces: Mapping[Ns, Said]
    mounts: Mapping[Ns, list[Mount]]
    fds: Mapping[Ns, list[Fd]]
    networks: Mapping[int, Network | str]
    """By inum; a text says why it was not read. One that is missing was not asked for."""
    denied: int
    """Processes whose namespaces we may not read."""
    gone: int
    """Processes that went away, or elsewhere, while everything was read."""
    cut: bool
    """Whether there was more than is looked at."""


class Survey:
    """One look at everything, in steps. Holds descriptors, of network namespaces without a task: close it."""

    def __init__(self, watched: Hierarchy, proc: Path = PROC) -> None:
        self._proc = proc
        self._root = os.fspath(proc)
        self._dev = nsfs.device(proc)
        self._kept: dict[int, int] = {}  # descriptors of network namespaces that no task is in
        self._networks: dict[int, Network | str] = {}
        self.spaces: dict[Ns, Said] = {}
        self._looked: Looked = tasks.look(proc, watched)
        self._held: Held = holders.look(proc, self._looked.tasks)
        self._ways = self._ways_of(self._looked.tasks)
        self._ask_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._kept.values():
            os.close(fd)
        self._kept.clear()

    @property
    def tasks(self) -> list[Task]:
        """Those of the first look."""
        return self._looked.tasks

    def _ways_of(self, found: Iterable[Task]) -> dict[Ns, list[str]]:
        """The links by which each namespace of a task can be opened: more than one, since tasks end."""
        ways: defaultdict[Ns, list[str]] = defaultdict(list)
        for task in found:
            for ns in task.namespaces():
                if len(ways[ns]) < _WAYS:
                    ways[ns].append(f"{self._root}/{task.links}/{ns.kind}")
            for ns in task.for_children():
                if len(ways[ns]) < _WAYS:
                    ways[ns].append(f"{self._root}/{task.links}/{ns.kind}_for_children")
        return ways

    # -- what the kernel says of each, and what is above it ----------------------------------------------

    def _ask_all(self) -> None:
        for ns, ways in self._ways.items():
            try:
                fd = nsfs.open_any(ways, ns, self._dev)
            except OSError:
                self.spaces.setdefault(ns, Said())
                continue
            self._enter(ns, fd)
        until = time.monotonic() + MOUNTS_SECONDS
        for ns in sorted({*self._held.mounts, *self._held.fds} - set(self._ways)):
            fd = self._open_held(ns, until)
            if fd < 0:
                self.spaces.setdefault(ns, Said())
            elif ns.kind == "net":
                self._kept[ns.inum] = fd
                self._enter(ns, os.dup(fd))
            else:
                self._enter(ns, fd)

    def _open_held(self, ns: Ns, until: float) -> int:
        """Return a descriptor of a namespace that no task is in, -1 where there is no way to one."""
        for held in self._held.fds.get(ns, ())[:_WAYS]:
            try:
                return nsfs.open_at(f"{self._root}/{held.pid}/fd/{held.number}", ns, self._dev)
            except OSError:
                continue
        for mount in self._held.mounts.get(ns, ())[:_WAYS]:
            if time.monotonic() >= until:
                break
            path = os.fsencode(f"{self._root}/{mount.pid}/root") + mount.point
            answer = ask(partial(nsfs.open_at, path, ns, self._dev), MOUNT_SECONDS, 1)
            if answer.fd >= 0:
                return answer.fd
        return -1

    def _enter(self, ns: Ns, fd: int) -> None:
        """Note what the kernel says of it and, where they are new, of those above it; closes the descriptor."""
        waiting = [(ns, fd)]
        while waiting:
            each, number = waiting.pop()
            if self.spaces.get(each, Said()) == Said():
                self.spaces[each], above = nsfs.said_of(number, each)
                waiting += above
            os.close(number)

    # -- the insides of network namespaces ---------------------------------------------------------------

    def read_networks(self, wanted: Collection[int], initial: int, iproute: Callable[[], Any]) -> None:
        """Read these network namespaces, by inum. ``initial`` is the host's, where most peers are; 0 if not known."""
        known = [ns.inum for ns in self.spaces if ns.kind == "net"]
        known.sort(key=lambda inum: inum != initial)
        ways = {inum: self._way(inum) for inum in known}
        others = [way for way in ways.values() if way is not None]
        around = network.Around(self._own_network(), others, self._dev)
        until = time.monotonic() + NETWORK_SECONDS
        for inum in (each for each in known if each in wanted):
            way = ways[inum]
            if way is None:
                self._networks[inum] = "there is no way to open it"
            elif time.monotonic() >= until:
                self._networks[inum] = TIME_UP
            else:
                self._networks[inum] = network.read(way, around, iproute)

    def _way(self, inum: int) -> network.Way | None:
        if inum in self._kept:
            return network.Way(inum, fd=self._kept[inum])
        paths = self._ways.get(Ns("net", inum))
        return network.Way(inum, tuple(paths)) if paths else None

    def _own_network(self) -> int:
        try:
            ns = nsfs.parse_link(str((self._proc / "self/ns/net").readlink()))
        except OSError:
            return 0
        return ns.inum if ns else 0

    # -- what counts -------------------------------------------------------------------------------------

    def confirm(self) -> Found:
        """Look again, and return what is as it was."""
        stay = tuple(task for task in self._looked.tasks if tasks.is_still(self._proc, task))
        mounts = self._mounts_still()
        fds = {
            ns: kept
            for ns, found in self._held.fds.items()
            if (kept := [fd for fd in found if holders.is_still(self._proc, ns, fd)])
        }
        alive = {ns for task in stay for ns in (*task.namespaces(), *task.for_children())} | {*mounts, *fds}
        waiting = list(alive)
        while waiting:
            for above in self._above(waiting.pop()):
                if above not in alive:
                    alive.add(above)
                    waiting.append(above)
        return Found(
            stay,
            {ns: said for ns, said in self.spaces.items() if ns in alive},
            mounts,
            fds,
            network.agreed({inum: of for inum, of in self._networks.items() if Ns("net", inum) in alive}),
            self._looked.denied,
            self._looked.gone + len(self._looked.tasks) - len(stay),
            self._looked.cut or self._held.cut,
        )

    def _above(self, ns: Ns) -> Iterator[Ns]:
        said = self.spaces.get(ns, Said())
        if said.parent:
            yield Ns(ns.kind, said.parent)
        if said.owner:
            yield Ns("user", said.owner)

    def _mounts_still(self) -> dict[Ns, list[Mount]]:
        now: dict[int, set[tuple[Ns, bytes]]] = {}
        still: dict[Ns, list[Mount]] = {}
        for ns, mounts in self._held.mounts.items():
            for mount in mounts:
                if mount.pid not in now:
                    there = self._mount_namespace(mount.pid) == mount.inum
                    now[mount.pid] = set(holders.mounts_of(self._root, mount.pid) or ()) if there else set()
                if (ns, mount.point) in now[mount.pid]:
                    still.setdefault(ns, []).append(mount)
        return still

    def _mount_namespace(self, pid: int) -> int:
        try:
            ns = nsfs.parse_link(str((self._proc / f"{pid}/ns/mnt").readlink()))
        except OSError:
            return 0
        return ns.inum if ns else 0
