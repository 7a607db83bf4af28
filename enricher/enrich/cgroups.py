# SPDX-License-Identifier: Apache-2.0
"""The cgroups of this boot by their id, and what each says about where its tasks are.

Owns the table, how long a removed cgroup is remembered, and the members of an event that follow from a path. Never
asks about a process and never guesses: an id that nobody told of is not in the table.

Ids are never used again within a boot, so an entry can be late to go and is never another's.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, Literal, cast

from enricher.enrich.recognise import recognise
from enricher.enrich.values import text_of
from enricher.model import CgroupOp

if TYPE_CHECKING:
    from enricher.enrich.places import Found
    from enricher.enrich.shape import CgroupEntry, Container, ContainerName
    from enricher.model import Batch, CgroupChange

KEPT: Final = 30.0
"""Seconds for which a removed cgroup is remembered: records of its last tasks may be on their way."""

LIMIT: Final = 65_536
"""Cgroups that are remembered. Beyond, the oldest goes: an event from there says that it does not know."""


class Home:
    """One cgroup: the members that every event of a task in it has, made once."""

    __slots__ = ("cgroup", "container", "path", "removed", "where")

    def __init__(self, ident: int, path: bytes) -> None:
        self.path = path
        self.removed = False
        place = recognise(path.decode("utf-8", "surrogateescape"))
        self.where: Literal["host", "container", "unknown"] = place.where
        text, exact = text_of(path)
        self.cgroup: CgroupEntry = {"id": str(ident), "path": text}
        if exact is not None:
            self.cgroup["path_hex"] = exact
        if place.unit:
            self.cgroup["unit"] = _printable(place.unit)
        self.container: Container | None = _container(place.chain) if place.where == "container" else None


def _printable(text: str) -> str:
    """Text out of a name on disk, which may hold bytes that are not UTF-8."""
    return text_of(text.encode("utf-8", "surrogateescape"))[0]


def _name(found: Found) -> ContainerName:
    named: ContainerName = {"id": _printable(found.id)}
    if found.name:
        named["name"] = _printable(found.name)
    if found.runtime:
        named["runtime"] = found.runtime
    if found.pod:
        named["pod"] = {"uid": found.pod}
    return named


def _container(chain: tuple[Found, ...]) -> Container:
    """Return the innermost container, with the chain of all where there are several."""
    names = [_name(found) for found in chain]
    container = cast("Container", names[-1].copy())
    if len(chain) > 1:
        container["chain"] = names
    return container


class CgroupTable:
    """What is known of cgroups; `learn` before the events of the same batch are made."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._homes: OrderedDict[int, Home] = OrderedDict()
        self._removed: deque[tuple[float, int]] = deque()
        self._limit = limit
        self.forgotten = 0  # for want of room, while they were there

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._homes)

    def of(self, ident: int) -> Home | None:
        """Return the cgroup with this id, None where nobody told of it."""
        return self._homes.get(ident)

    def learn(self, batch: Batch) -> None:
        """Enter what a batch tells of cgroups, and forget what was removed long ago."""
        for change in batch.cgroups:
            self._enter(change, batch.now)
        removed = self._removed
        while removed and removed[0][0] <= batch.now:
            self._homes.pop(removed.popleft()[1], None)

    def _enter(self, change: CgroupChange, now: float) -> None:
        known = self._homes.get(change.id)
        if change.op in (CgroupOp.REMOVED, CgroupOp.RELEASED):
            # Where both come, and they do, the first one counts. The path is told once more.
            if known is None and change.path:
                known = self._add(change)
            if known is not None and not known.removed:
                known.removed = True
                self._removed.append((now + KEPT, change.id))
        elif change.op == CgroupOp.RENAMED:
            self._rename(change)
        elif known is None and change.path:
            self._add(change)

    def _add(self, change: CgroupChange) -> Home:
        while len(self._homes) >= self._limit:
            _, oldest = self._homes.popitem(last=False)
            self.forgotten += not oldest.removed
        home = self._homes[change.id] = Home(change.id, change.path)
        return home

    def _rename(self, change: CgroupChange) -> None:
        """Give it its new path, and so to all below it."""
        known = self._homes.get(change.id)
        if not change.path or (known is not None and known.path == change.path):
            return
        if known is None:
            self._add(change)
            return
        below = known.path + b"/"
        for ident, home in list(self._homes.items()):
            if ident == change.id or home.path.startswith(below):
                path = change.path + home.path[len(known.path) :]
                fresh = self._homes[ident] = Home(ident, path)
                fresh.removed = home.removed
