# SPDX-License-Identifier: Apache-2.0
"""Which audit container identifiers containers have: as engines announced them, from their set to their drop.

Owns the table, and what it says of those in a net namespace: a packet, which has no task, is told them.
Never says more than that: one that was set without the name of a container is of none here. Of those that were set
before this run it is known by the cgroup that they are bound to.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from enricher.facts import ContainerOp
from enricher.model import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enricher.enrich.cgroups import CgroupTable
    from enricher.enrich.tenants import Tenants
    from enricher.facts import Fact, PacketNet
    from enricher.sources.contid import ContidEntry

LIMIT: Final = 16_384
"""Identifiers that are remembered, also after their end: records of before may be on their way. The oldest goes."""

_NET: Final = KINDS.index("net")
_FOREVER: Final = 1 << 63


class _Box:
    """What one identifier was given to. Times are nanoseconds since boot."""

    __slots__ = ("chain", "container", "since", "until")

    def __init__(self, container: str, chain: tuple[int, ...], since: int) -> None:
        self.container, self.chain, self.since = container, chain, since
        self.until = _FOREVER


class ContidBoxes:
    """``forgotten`` counts identifiers in use that went for want of room."""

    def __init__(
        self, tenants: Tenants, cgroups: CgroupTable, initial: tuple[int, ...], limit: int = LIMIT
    ) -> None:
        self._tenants = tenants
        self._cgroups = cgroups
        self._initial = initial
        self._limit = limit
        self._boxes: OrderedDict[int, _Box] = OrderedDict()  # in the order in which they were announced
        self._of: dict[str, list[int]] = {}  # by container
        self.forgotten = 0

    def take_over(self, entries: Iterable[ContidEntry]) -> None:
        """Enter what is in use when the run begins, of a cgroup; before any of the run's facts."""
        for entry in entries:
            home = self._cgroups.of(entry.cgroup) if entry.cgroup else None
            if home is not None and home.container is not None:
                self._enter(entry.chain or (entry.contid,), home.container["id"], 0)

    def learn(self, facts: Iterable[Fact]) -> None:
        """Enter what was announced, and what has ended."""
        for fact in facts:
            if not isinstance(fact, ContainerOp):
                continue
            if fact.op == "drop":
                if fact.old and (box := self._boxes.get(fact.old[0])) is not None:
                    box.until = min(box.until, fact.time)
            elif fact.op == "set" and not fact.res and fact.engine is not None and fact.engine.id:
                self._enter((fact.contid, *fact.old), fact.engine.id, fact.time)

    def _enter(self, chain: tuple[int, ...], container: str, since: int) -> None:
        contid = chain[0]
        box = self._boxes.get(contid)
        if box is not None:
            if box.until == _FOREVER:
                return  # one process more that has it
            self._forget(contid, box)
        elif len(self._boxes) >= self._limit:
            oldest, gone = next(iter(self._boxes.items()))
            self.forgotten += gone.until == _FOREVER
            self._forget(oldest, gone)
        self._boxes[contid] = _Box(container, chain, since)
        self._of.setdefault(container, []).append(contid)

    def _forget(self, contid: int, box: _Box) -> None:
        del self._boxes[contid]
        of = self._of[box.container]
        of.remove(contid)
        if not of:
            del self._of[box.container]

    def fill(self, packet: PacketNet) -> PacketNet:
        """Return the fact with the identifiers of the containers in its net namespace at its time.

        None where nobody can say which containers those are, and for the host's own.
        """
        if not self._of or packet.inum == self._initial[_NET]:
            return packet
        found = [
            box.chain
            for home in self._tenants.inside(packet.inum, packet.time, packet.id) or ()
            if home.container is not None
            for contid in self._of.get(home.container["id"], ())
            if (box := self._boxes[contid]).since <= packet.time < box.until
        ]
        return packet._replace(contids=tuple(found)) if found else packet
