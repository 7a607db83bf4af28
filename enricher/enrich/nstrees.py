# SPDX-License-Identifier: Apache-2.0
"""From a look at the host's namespaces to the document that the command shows.

Owns the members and their order, and what may be said of a namespace's age. Never reads anything itself.

A namespace's age cannot be told from who is in it: a task may have made or entered it long after its own start. Two
things bound it: no process is older than the pid namespace that it is in, and no namespace is younger than the inode
by which somebody holds it. The exact time comes from who saw it being made, if anybody; who found it when he began to
look bounds it: `Told`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from enricher.clock import rfc3339
from enricher.correlate.lives import FOREVER
from enricher.enrich.values import text_of
from enricher.model import KINDS
from enricher.sources.namespaces.network import Network as Read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from enricher.enrich import nsshape as shape
    from enricher.enrich.places import Found as Container
    from enricher.enrich.places import Place
    from enricher.model import HostFacts
    from enricher.sources.namespaces.network import Link
    from enricher.sources.namespaces.nsfs import Ns, Said
    from enricher.sources.namespaces.survey import Found
    from enricher.sources.namespaces.tasks import Task

SCHEMA: Final = "audit-enricher-namespaces/1"
MOST_HOLDERS: Final = 64
"""Mounts and descriptors that are listed for one namespace; the rest is counted."""

_MS: Final = 1_000_000
_SECOND: Final = 1_000_000_000


class Times(NamedTuple):
    """Wall-clock times in ns since 1970; ``tick`` is a clock tick in ns."""

    began: int
    boot: int
    tick: int


class Told(NamedTuple):
    """Times in ns since boot, by (kind, inum), of namespaces that are still there, from who is told of them.

    ``born`` are those at which they were made; at those in ``found`` they had been made, nobody knows when.
    """

    born: Mapping[tuple[str, int], int]
    found: Mapping[tuple[str, int], int]


def unique_id(ns: Ns, said: Said, found: Found) -> int:
    """Return the kernel's number of a namespace that is never used again, 0 where it has none or it is not known."""
    network = found.networks.get(ns.inum) if ns.kind == "net" else None
    return said.ident or (network.cookie if isinstance(network, Read) else 0)


def document(  # noqa: PLR0913 - the parts of it, each from elsewhere
    found: Found,
    places: Mapping[Task, Place],
    shown: Iterable[Ns],
    host: HostFacts,
    times: Times,
    notes: Iterable[str],
    told: Told,
) -> shape.Document:
    """Return the document with these namespaces, parents first."""
    wanted = set(shown)
    of: defaultdict[Ns, list[Task]] = defaultdict(list)
    later: defaultdict[Ns, list[Task]] = defaultdict(list)
    processes = {task.pid: set(task.namespaces()) for task in found.tasks if task.tid == task.pid}
    for task in found.tasks:
        # A process stands for its threads wherever it is itself.
        its = processes.get(task.pid, set()) if task.tid != task.pid else set()
        for ns in task.namespaces():
            if ns not in its:
                of[ns].append(task)
        for ns in task.for_children():
            later[ns].append(task)
    maker = _Maker(found, places, host, times, told)
    order = {kind: place for place, kind in enumerate(KINDS)}
    spaces = sorted((ns for ns in found.spaces if ns in wanted), key=lambda ns: (order[ns.kind], ns.inum))
    there = [
        task for task in found.tasks if not wanted.isdisjoint((*task.namespaces(), *task.for_children()))
    ]
    made: shape.Document = {
        "schema": SCHEMA,
        "time": _wall(times.began),
        "host": _host(host),
        "namespaces": [maker.entry(ns, of[ns], later[ns]) for ns in spaces],
        "tasks": [maker.task(task) for task in there],
        "notes": list(notes),
    }
    if host.ns_dev:
        made["dev"] = host.ns_dev
    return made


def _host(host: HostFacts) -> shape.Host:
    facts = {"name": host.name, "machine_id": host.machine_id, "boot_id": host.boot_id}
    return cast("shape.Host", {name: fact for name, fact in facts.items() if fact})


def _wall(ns: int) -> str:
    return rfc3339(ns // _SECOND, ns % _SECOND // _MS)


def _text(value: str) -> tuple[str, str | None]:
    return text_of(value.encode("utf-8", "surrogateescape"))


class _Maker:
    """Makes the entries of one document."""

    def __init__(
        self,
        found: Found,
        places: Mapping[Task, Place],
        host: HostFacts,
        times: Times,
        told: Told,
    ) -> None:
        self._found = found
        self._places = places
        self._initial = dict(zip(KINDS, host.initial, strict=False))
        self._times = times
        self._told = told
        self._names = {
            (inum, link.ifindex): link.name
            for inum, network in found.networks.items()
            if isinstance(network, Read)
            for link in network.links
        }

    def entry(self, ns: Ns, tasks: list[Task], later: list[Task]) -> shape.Entry:
        said = self._found.spaces[ns]
        network = self._found.networks.get(ns.inum) if ns.kind == "net" else None
        made: shape.Entry = {
            "kind": cast("shape.Kind", ns.kind),
            "ino": ns.inum,
            "pids": sorted({task.pid for task in tasks if task.pid == task.tid}),
            "tasks": len(tasks),
            "host_tasks": sum(self._places[task].where == "host" for task in tasks),
            "unknown_tasks": sum(self._places[task].where == "unknown" for task in tasks),
            "containers": self._containers(tasks),
        }
        if ident := unique_id(ns, said, self._found):
            made["id"] = str(ident)
        if self._initial[ns.kind]:
            made["host"] = ns.inum == self._initial[ns.kind]
        if said.parent:
            made["parent"] = said.parent
        if said.owner:
            made["owner"] = said.owner
        if said.uid is not None:
            made["owner_uid"] = said.uid
        self._age(made, ns, tasks)
        if threads := [task for task in tasks if task.pid != task.tid]:
            made["threads"] = [{"pid": task.pid, "tid": task.tid} for task in threads]
        if later:
            made["for_children"] = sorted({task.pid for task in later})
        self._holders(made, ns)
        if network is not None:
            made["network"] = self._network(network)
        return made

    def _age(self, made: shape.Entry, ns: Ns, tasks: list[Task]) -> None:
        times = self._times
        bounds: list[tuple[int, shape.SinceFrom]] = []
        if tasks:
            oldest = min(tasks, key=lambda task: (task.start, task.pid, task.tid))
            started = times.boot + oldest.start * times.tick
            comm, exact = text_of(oldest.comm)
            made["oldest"] = {"pid": oldest.pid, "comm": comm, "started": _wall(started)}
            if oldest.tid != oldest.pid:
                made["oldest"]["tid"] = oldest.tid
            if exact is not None:
                made["oldest"]["comm_hex"] = exact
            if ns.kind == "pid":
                bounds.append((started, "process"))
        birth = self._told.born.get(ns)
        at_latest = min(
            ((task.start + 1) * times.tick for task in tasks if ns.kind == "pid"), default=FOREVER
        )
        if birth is not None and birth < at_latest:  # else who told of it took another one for this
            made["since"] = _wall(times.boot + birth)
            made["since_from"] = "service"
            return
        if (there := self._told.found.get(ns)) is not None:
            bounds.append((times.boot + there, "service"))
        # What was made while we looked is our own doing; what is older than the boot tells of a clock set since.
        if times.boot <= (noticed := self._found.spaces[ns].noticed) < times.began:
            bounds.append((noticed, "inode"))
        if bounds and not made.get("host"):
            earliest, made["since_from"] = min(bounds)
            made["since_at_latest"] = _wall(earliest)

    def _containers(self, tasks: list[Task]) -> list[shape.Box]:
        counts: dict[tuple[Container, ...], int] = {}
        for task in tasks:
            chain = self._places[task].chain
            if chain:
                counts[chain] = counts.get(chain, 0) + 1
        boxes = []
        for chain, count in sorted(counts.items(), key=lambda item: item[0][-1].path):
            box = cast("shape.Box", {**box_name(chain[-1]), "tasks": count})
            if len(chain) > 1:
                box["chain"] = [box_name(each) for each in chain]
            boxes.append(box)
        return boxes

    def _holders(self, made: shape.Entry, ns: Ns) -> None:
        initial = self._initial["mnt"]
        mounts = sorted(self._found.mounts.get(ns, ()), key=lambda mount: (mount.inum != initial, mount))
        if mounts:
            made["mounts"] = []
        for mount in mounts[:MOST_HOLDERS]:
            path, exact = text_of(mount.point)
            made["mounts"].append({"mnt": mount.inum, "path": path})
            if exact is not None:
                made["mounts"][-1]["path_hex"] = exact
        if len(mounts) > MOST_HOLDERS:
            made["more_mounts"] = len(mounts) - MOST_HOLDERS
        fds = sorted(self._found.fds.get(ns, ()))
        if fds:
            made["fds"] = [{"pid": fd.pid, "fd": fd.number} for fd in fds[:MOST_HOLDERS]]
        if len(fds) > MOST_HOLDERS:
            made["more_fds"] = len(fds) - MOST_HOLDERS

    def _network(self, network: Read | str) -> shape.Network:
        if isinstance(network, str):
            return {"reason": _text(network)[0]}
        made: shape.Network = {"links": [self._link(link) for link in network.links]}
        if network.cut:
            made["cut"] = True
        return made

    def _link(self, link: Link) -> shape.Link:
        name, exact = text_of(link.name)
        made: shape.Link = {
            "index": link.ifindex,
            "name": name,
            "state": link.state,
            "up": link.up,
            "addresses": list(link.addresses),
        }
        if exact is not None:
            made["name_hex"] = exact
        if link.kind:
            made["kind"] = link.kind
        if link.mac:
            made["mac"] = link.mac
        if link.peer is not None:
            made["peer"] = {"index": link.peer.ifindex}
            if link.peer.inum:
                made["peer"]["net"] = link.peer.inum
                other = self._names.get((link.peer.inum, link.peer.ifindex))
                if other is not None:
                    shown, other_exact = text_of(other)
                    made["peer"]["name"] = shown
                    if other_exact is not None:
                        made["peer"]["name_hex"] = other_exact
        return made

    def task(self, task: Task) -> shape.TaskEntry:
        place = self._places[task]
        comm, exact = text_of(task.comm)
        made: shape.TaskEntry = {
            "pid": task.pid,
            "start": str(task.start * self._times.tick),
            "comm": comm,
            "where": place.where,
            "namespaces": {kind: inum for kind, inum in zip(KINDS, task.inums, strict=True) if inum},
        }
        if task.tid != task.pid:
            made["tid"] = task.tid
        if exact is not None:
            made["comm_hex"] = exact
        if task.cgroup is not None:
            path, path_exact = _text(task.cgroup)
            made["cgroup"] = path
            if path_exact is not None:
                made["cgroup_hex"] = path_exact
        if place.chain:
            made["container"] = box_name(place.chain[-1])
        return made


def box_name(found: Container) -> shape.BoxName:
    """Return a container's members."""
    made: shape.BoxName = {"id": _text(found.id)[0]}
    for member, value in (("name", found.name), ("runtime", found.runtime), ("pod", found.pod)):
        if value:
            made[member] = _text(value)[0]  # type: ignore[literal-required]
    return made
