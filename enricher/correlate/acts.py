# SPDX-License-Identifier: Apache-2.0
"""Which facts are of which event: by the link that a system call's facts carry until its stamp is known.

Owns the waiting, in tables that are bounded. Never guesses: facts whose link nobody named are of no event, and a
change of namespaces among them is told by itself.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from enricher.facts import (
    OF_ONE,
    Beside,
    Change,
    ContainerOp,
    Link,
    NamespaceLife,
    NamespaceOp,
    PacketNet,
    Refused,
    Target,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enricher.facts import Fact, Told

PATIENCE: Final = 1.0
"""Seconds after which a change has no record: its call is over, and said of no stamp. One that waits longer inside
its call, or whose task waits for a processor, is told twice, by itself and with its event. A call whose stamp was said
waits for its records, however far behind the reader is."""

SETTLED: Final = 0.05
"""Seconds after which a namespace's beginning and end are told, in the order of time: one ring may have been read
before the other had the beginning."""

CALLS_MAX: Final = 8192
STAMPS_MAX: Final = 8192
"""As many events may be under way between kernel and reader; the oldest goes, and its event tells less."""

TOLD_MAX: Final = 1024
"""Of as many calls a change is kept after it was told by itself; signals and traces change nothing, and are not."""

TARGETS_MAX: Final = 256

_Call = tuple[int, int]  # link, tid


class _Facts:
    """What one system call has done so far."""

    __slots__ = ("changes", "since", "targets")

    def __init__(self, now: float) -> None:
        self.since = now
        self.changes: list[Change] = []
        self.targets: list[Target] = []


class Acts:
    """``forgotten`` counts calls and stamps that went for want of room."""

    def __init__(self) -> None:
        self._calls: OrderedDict[_Call, _Facts] = OrderedDict()
        self._told: OrderedDict[_Call, _Facts] = OrderedDict()  # whose changes were told by themselves
        self._linked: OrderedDict[_Call, _Facts] = OrderedDict()  # whose stamp was said
        self._links: OrderedDict[bytes, Link] = OrderedDict()
        self._packets: OrderedDict[bytes, PacketNet] = OrderedDict()
        self._due: list[tuple[Told, float]] = []
        self._lives: list[tuple[NamespaceLife, float]] = []
        self.forgotten = 0

    @property
    def waits(self) -> bool:
        """Whether a change waits for its record, and another batch is wanted soon for its sake."""
        return bool(self._calls or self._lives)

    def learn(self, facts: Iterable[Fact], now: float) -> None:
        """Take in facts, before the events of the same batch are finished."""
        for fact in facts:
            if isinstance(fact, Change):
                if fact.link:
                    self._call((fact.link, fact.actor_tid), now).changes.append(fact)
                else:
                    self._due.append((fact, now))
            elif isinstance(fact, Link):
                self._link(fact, now)
            elif isinstance(fact, Target):
                targets = self._call((fact.link, fact.actor_tid), now).targets
                if len(targets) < TARGETS_MAX:
                    targets.append(fact)
            elif isinstance(fact, PacketNet):
                self._packets[fact.stamp] = fact
                self._bound(self._packets, STAMPS_MAX)
            elif isinstance(fact, NamespaceLife):
                if fact.op in OF_ONE:
                    self._lives.append((fact, now))
            elif isinstance(fact, Refused | ContainerOp):
                self._due.append((fact, now))

    def _link(self, link: Link, now: float) -> None:
        key = link.link, link.tid
        if key not in self._linked:
            # Its facts may be in a ring that is read later.
            waited = self._calls if key in self._calls else self._told
            self._linked[key] = waited.pop(key, _Facts(now))
            self._bound_calls(self._linked)
        self._links[link.stamp] = link
        self._bound(self._links, STAMPS_MAX)

    def _call(self, key: _Call, now: float) -> _Facts:
        call = self._linked.get(key) or self._calls.get(key)
        if call is None:
            call = self._calls[key] = _Facts(now)
            self._bound_calls(self._calls)
        return call

    def _bound_calls(self, calls: OrderedDict[_Call, _Facts]) -> None:
        if len(calls) > CALLS_MAX:
            _, oldest = calls.popitem(last=False)
            self._due += [(change, oldest.since) for change in oldest.changes]
            self.forgotten += 1

    def _bound(self, table: OrderedDict[bytes, Link] | OrderedDict[bytes, PacketNet], most: int) -> None:
        if len(table) > most:
            table.popitem(last=False)
            self.forgotten += 1

    def of(self, stamp: bytes) -> Beside | None:
        """Take what belongs to the event of this stamp; None where nothing is to be said. A second part gets none."""
        if not (self._links or self._packets):
            return None
        link = self._links.pop(stamp, None)
        packet = self._packets.pop(stamp, None) if self._packets else None
        if link is None:
            return None if packet is None else Beside(packet=packet)
        call = self._linked.pop((link.link, link.tid), None)
        if call is not None and (call.changes or call.targets):
            return Beside(tuple(call.changes), tuple(call.targets), link, packet)
        # Every exec is looked at where it may enter a time namespace, and has a link though nothing came of it.
        if packet is None and not link.untold and not link.child_pid:
            return None
        return Beside(link=link, packet=packet)

    def due(self, now: float) -> list[tuple[Told, float]]:
        """Take what is to be told by itself, and when it came."""
        calls = self._calls
        if not (calls or self._lives or self._due):
            return []
        while calls:
            key, call = next(iter(calls.items()))
            if now - call.since < PATIENCE:
                break
            del calls[key]
            self._due += [(change, call.since) for change in call.changes]
            if call.changes:
                self._told[key] = call
                if len(self._told) > TOLD_MAX:
                    self._told.popitem(last=False)
        if self._lives and now - self._lives[0][1] >= SETTLED:
            self._settle(now - SETTLED)
        due, self._due = self._due, []
        return due

    def _settle(self, limit: float) -> None:
        """Have told what came up to this moment, with what began before it and was read later."""
        newest = max(life.time for life, came in self._lives if came <= limit)
        told: list[tuple[NamespaceLife, float]] = []
        left: list[tuple[NamespaceLife, float]] = []
        for life, came in self._lives:
            early = life.op != NamespaceOp.FREED and life.time <= newest
            (told if came <= limit or early else left).append((life, came))
        told.sort(key=_time)
        self._due += told
        self._lives = left

    def finish(self) -> list[tuple[Told, float]]:
        """Take all that is left: the stream has ended. Of a call whose records never came the changes are told, too."""
        self._due += [(change, call.since) for call in self._linked.values() for change in call.changes]
        self._linked.clear()
        return self.due(float("inf"))


def _time(life: tuple[NamespaceLife, float]) -> int:
    return life[0].time
