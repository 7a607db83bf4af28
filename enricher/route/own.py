# SPDX-License-Identifier: Apache-2.0
"""Which facts that no rule asked for are told as events of our own.

Owns that choice (the settings ``namespaces.changes`` and ``namespaces.lives``). Never drops an event of the kernel's,
a loss or a notice.

With "containers" a change is told when a task that is in a container made it, when a task enters a
container's namespaces, and when one enters the host's. What a runtime does to start a container is not: those
namespaces are new, and nobody's. Where it cannot be known whose they are, the change is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enricher.enrich.tenants import OWNED
from enricher.facts import Change, ChangeOp, NamespaceLife, NamespaceOp
from enricher.model import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enricher.enrich.surroundings import Surroundings
    from enricher.facts import Told
    from enricher.model import Event, HostFacts


class OwnEvents:
    """``changes`` is "containers", "all" or "none"; with ``lives`` every namespace's making and end is told."""

    def __init__(self, host: HostFacts, around: Surroundings, *, changes: str, lives: bool) -> None:
        self._initial = host.initial
        self._around = around
        self._changes = changes
        self._lives = lives

    def chosen(self, events: list[Event]) -> list[Event]:
        """Return the events without those that nobody wants told."""
        for event in events:  # no `all`: it is asked for every event, and seldom is there one
            if event.told is not None:
                return [event for event in events if event.told is None or self._wanted(event.told)]
        return events

    def _wanted(self, told: Told) -> bool:
        if isinstance(told, NamespaceLife):
            return self._lives and self._tells_of_one(told)
        if not isinstance(told, Change):
            return True
        if self._changes != "containers":
            return self._changes == "all"
        home = self._around.cgroups.of(told.actor_cgroup)
        if home is None or home.where != "host":
            return True
        changed = list(self._changed(told))
        if any(told.who.inums[kind] == self._initial[kind] for kind in changed):
            return True
        return told.op == ChangeOp.SETNS and any(self._may_be_owned(told, kind) for kind in changed)

    def _tells_of_one(self, told: NamespaceLife) -> bool:
        """Whether it is a beginning, or the end of what had one: a creation that fails inside has an end only.

        One that was found at the start has its beginning there, but was it made since then, that one.
        """
        if told.op == NamespaceOp.FOUND:
            return self._around.lives.began(told)
        if told.op != NamespaceOp.FREED:
            return True
        life = self._around.lives.at(told.inum, told.time, told.id)
        return life is not None and life.kind >= 0

    @staticmethod
    def _changed(change: Change) -> Iterable[int]:
        who = change.who
        for kind in range(len(KINDS)):
            if (who.inums[kind], who.ids[kind]) != (change.before[kind], change.before_ids[kind]):
                yield kind

    def _may_be_owned(self, change: Change, kind: int) -> bool:
        if kind not in OWNED:
            return False
        inum, time, ident = change.who.inums[kind], change.who.time, change.who.ids[kind]
        life = self._around.lives.at(inum, time, ident)
        if life is None or life.born == 0:
            return True  # from before the start: nobody has seen whose it is
        return self._around.tenants.owner(inum, time, ident) is not None
