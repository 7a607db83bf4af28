# SPDX-License-Identifier: Apache-2.0
"""Whose a namespace is: the cgroups in which programs were executed in it, in the order in which that happened.

Owns the table and the one conclusion from it: a namespace belongs to the first container in which a program was
executed with it since it was made. What entered it later (`nsenter` from another container, a container that shares
it) changes nothing of that. Of one that was there before the programs nobody saw who was first: it is the container's
that alone had tasks in it at the start. Never concludes where that is not known: where several had, where the look at
the start missed a task, or where a cgroup is one that nobody can name.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from enricher.facts import Member
from enricher.model import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enricher.correlate.lives import Lives
    from enricher.enrich.cgroups import CgroupTable, Home
    from enricher.enrich.shape import Container, ContainerOf
    from enricher.facts import Fact
    from enricher.model import Context

LIMIT: Final = 65_536
"""Namespaces whose cgroups are remembered; the oldest goes and is nobody's from then on."""

CGROUPS_MAX: Final = 32
"""Cgroups of one namespace: a pod has few containers; the host's own has many, and is not asked for."""

OWNED: Final = tuple(KINDS.index(kind) for kind in ("mnt", "net", "pid"))
"""Kinds by which one says "inside of a container"."""

_NOT_KNOWN: Final = 0  # no cgroup's id

_Key = tuple[int, int]  # inum, life


class Tenants:
    """``forgotten`` counts namespaces that went for want of room; ``epoch`` changes with what is remembered."""

    def __init__(self, lives: Lives, cgroups: CgroupTable, initial: tuple[int, ...]) -> None:
        self._lives = lives
        self._cgroups = cgroups
        self._initial = initial
        self._members: OrderedDict[_Key, dict[int, int]] = OrderedDict()  # cgroups, and since when
        self.forgotten = 0
        self.epoch = 0

    def learn(self, facts: Iterable[Fact]) -> None:
        """Enter who was executed where; `lives` has been told of the same facts already."""
        members = sorted((fact for fact in facts if isinstance(fact, Member)), key=_time)
        for member in members:
            for kind in OWNED:
                inum = member.inums[kind]
                if inum and inum != self._initial[kind]:
                    self._enter(inum, member.time, member.ids[kind], self._cgroup_of(member))

    def _cgroup_of(self, member: Member) -> int:
        """Return the cgroup, `_NOT_KNOWN` where it does not tell whether the program is in a container."""
        home = self._cgroups.of(member.cgroup_id)
        doubted = home is not None and home.seen_by(member.inums, self._initial) is not home
        return _NOT_KNOWN if doubted else member.cgroup_id

    def _enter(self, inum: int, time: int, ident: int, cgroup: int) -> None:
        life = self._lives.at(inum, time, ident)
        if life is None:
            return
        cgroups = self._members.get((inum, life.born))
        if cgroups is None:
            if len(self._members) >= LIMIT:
                self._members.popitem(last=False)
                self.forgotten += 1
            cgroups = self._members[inum, life.born] = {}
        if cgroup not in cgroups and len(cgroups) < CGROUPS_MAX:
            cgroups[cgroup] = time
            self.epoch += 1

    def owner(self, inum: int, time: int, ident: int = 0) -> Home | None:
        """Return the container whose namespace this was at that moment; None where it is nobody's or not known."""
        life = self._lives.at(inum, time, ident)
        if life is None:
            return None
        cgroups = self._members.get((inum, life.born), {})
        if life.born == 0:
            return self._only(cgroups)
        for cgroup, since in cgroups.items():
            if since > life.ended:
                continue  # it came before the message of that end did
            home = self._cgroups.of(cgroup)
            if home is None or home.where == "unknown":
                return None
            if home.where == "container":
                return home
        return None

    def _only(self, cgroups: dict[int, int]) -> Home | None:
        """Return the one container among the cgroups that were in it at the start, None where there is not just one.

        Who came later says nothing of who was first. A list that is full may lack one.
        """
        only: Home | None = None
        if len(cgroups) >= CGROUPS_MAX:
            return None
        for cgroup, since in cgroups.items():
            if since > self._lives.complete:
                continue
            home = self._cgroups.of(cgroup)
            if home is None or home.where == "unknown":
                return None
            if home.where != "container" or home.container is None:
                continue
            if (
                only is not None
                and only.container is not None
                and only.container["id"] != home.container["id"]
            ):
                return None
            only = home
        return only

    def of(self, context: Context, home: Home | None) -> list[ContainerOf]:
        """Return the containers whose namespaces the task has, when that differs from where it is."""
        found: dict[str, ContainerOf] = {}
        own = () if home is None or home.container is None else _ids(home.container)
        for kind in OWNED:
            inum = context.inums[kind]
            if not inum or inum == self._initial[kind]:
                continue
            owner = self.owner(inum, context.time, context.ids[kind])
            if owner is None or owner.container is None or owner.container["id"] in own:
                continue
            container = owner.container
            entry = found.get(container["id"])
            if entry is None:
                entry = {"id": container["id"], "kinds": []}
                if "name" in container:
                    entry["name"] = container["name"]
                if "runtime" in container:
                    entry["runtime"] = container["runtime"]
                found[container["id"]] = entry
            entry["kinds"].append(KINDS[kind])
        return list(found.values())

    def steady(self, context: Context) -> bool:
        """Whether `of` says the same of all with these namespaces whose lives are the same, while no epoch changes."""
        for kind in OWNED:
            ident = context.ids[kind]
            if ident and not self._lives.steady(context.inums[kind], ident):
                return False
        return True

    def inside(self, inum: int, time: int, ident: int = 0) -> list[Home] | None:
        """Return the containers in which programs were executed with this namespace, each once.

        Those that had ended by then are not in it. None where the list would not be certain to have all.
        """
        life = self._lives.at(inum, time, ident)
        if life is None or (
            life.born == 0 and not self._lives.complete
        ):  # who was in it before us was not seen
            return None
        cgroups = self._members.get((inum, life.born), {})
        found: dict[str, Home] = {}
        if _NOT_KNOWN in cgroups:
            return None
        for cgroup, since in cgroups.items():
            home = self._cgroups.of(cgroup)
            if home is None or since > life.ended or (home.ended and home.ended < time):
                continue
            if home.where == "unknown":
                return None
            if home.container is not None:
                found.setdefault(home.container["id"], home)
        return list(found.values()) if len(cgroups) < CGROUPS_MAX else None


def _ids(container: Container) -> set[str]:
    """The ids of a container and of all around it."""
    return {container["id"], *(each["id"] for each in container.get("chain", ()))}


def _time(member: Member) -> int:
    return member.time
