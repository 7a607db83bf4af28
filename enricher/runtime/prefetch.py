# SPDX-License-Identifier: Apache-2.0
"""Which containers are asked for, and when: between the table of cgroups and the helper that reads state files.

Owns what waits to be asked, what rests until an event wants it, and the answers for the next batch. Never waits, never
makes a system call but for a request or an answer, and never sees an event: the table says what is wanted.

A cgroup is asked for as it is made. Its runtime may write its state a moment later, so it is asked for again by a
timer while that is a matter of a second, and then only when an event wants it, ever more rarely. Each side, root's and
users', has its own room, as in `runtime.lookups`.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from enricher.config import settings as rows
from enricher.model import Answer, Known, Metadata
from enricher.runtime import helper
from enricher.runtime.lookups import Key, Lookups, Missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.clock import Clock
    from enricher.config.load import Settings
    from enricher.enrich.cgroups import Inquiry

PENDING_MAX: Final = 1024
"""What waits to be asked. Beyond, the next event in that cgroup asks again."""
RESTING_MAX: Final = 4096
"""What is left alone until it may be asked again. Beyond, each event finds out that it may not."""
_ASKED_MAX: Final = 64
"""Of what waits, what has been handed on: less than the queue there takes."""
SOON: Final = 1.0
"""Seconds: what may be asked again so soon is, without an event."""
_NOBODY: Final = 300.0
"""Seconds for which that rests for which nobody's state can answer."""


class _Side:
    """What is wanted of root's containers, or of users'."""

    __slots__ = ("asked", "due", "pending", "resting")

    def __init__(self) -> None:
        self.pending: dict[Key, Inquiry] = {}
        self.due: list[tuple[float, int, Key]] = []  # a heap of those of them that are not asked
        self.asked: set[Key] = set()
        self.resting: list[tuple[float, int, Inquiry]] = []  # a heap


class Prefetch:
    """Made with `lookups`, which it closes. ``labels`` are told on request only."""

    def __init__(self, lookups: Lookups, *, labels: bool = False) -> None:
        self._lookups = lookups
        self._labels = labels
        self._root, self._users = self._sides = (_Side(), _Side())
        self._answers: list[Answer] = []
        self._told: tuple[tuple[int, int], ...] = ()
        self._made = 0  # entries of heaps so far: what decides between equal times
        self._now = 0.0
        self._dropped = 0
        self._gone = 0

    def fileno(self) -> int:
        """Return what becomes readable when `serve` has something to do."""
        return self._lookups.fileno()

    def want(self, inquiry: Inquiry) -> bool:
        """See to an inquiry. Return whether there is room."""
        if self._lookups.gone:
            return True  # nobody can be asked any more
        key = Key(inquiry.asked, inquiry.cgroup)
        side = self._side(key)
        if key in side.pending:
            return True
        due = self._lookups.again(key)
        if due > self._now + SOON:
            return self._rest(side, due, inquiry)
        if len(side.pending) >= PENDING_MAX:
            self._dropped += 1
            return False
        side.pending[key] = inquiry
        self._put(side, due, key)
        return True

    def turn(self, now: float) -> None:
        """Ask for what is due."""
        self._now = now
        for side in self._sides:
            while side.resting and side.resting[0][0] <= now:
                heapq.heappop(side.resting)[2].wants = True
            while side.due and side.due[0][0] <= now and len(side.asked) < _ASKED_MAX:
                key = heapq.heappop(side.due)[2]
                inquiry = side.pending[key]
                if inquiry.removed and not inquiry.noticed:
                    # It came and went, and no event has been there: a burst of those costs nothing.
                    del side.pending[key]
                    inquiry.wants = True
                    self._gone += 1
                    continue
                self._ask(side, key, inquiry)
        self._settle()

    def serve(self) -> None:
        """Take the answer that has come, and ask for what is next."""
        self._lookups.serve()
        self._settle()
        if self._lookups.gone:
            for side in self._sides:
                side.pending.clear()
                side.due.clear()
                side.asked.clear()
                side.resting.clear()
        else:
            self.turn(self._now)

    def take(self) -> list[Answer]:
        """Return what was answered since this was last asked."""
        answers, self._answers = self._answers, []
        return answers

    def take_helpers(self) -> tuple[tuple[int, int], ...]:
        """Return the helper's processes where one is new, else ()."""
        if self._lookups.processes == self._told:
            return ()
        self._told = self._lookups.processes
        return self._told

    def wait(self, now: float) -> float | None:
        """Return the seconds until something is due; None where nothing is."""
        wait = None
        for side in self._sides:
            if side.due and len(side.asked) < _ASKED_MAX:
                until = max(0.0, side.due[0][0] - now)
                if wait is None or until < wait:
                    wait = until
        return wait

    def close(self) -> None:
        """End the helper."""
        self._lookups.close()

    @property
    def runs(self) -> bool:
        """Whether there is still somebody to ask."""
        return not self._lookups.gone

    def counts(self) -> dict[str, int]:
        """Return what `Lookups` counts, and what was not even asked.

        ``pending`` and ``resting`` now, ``overfull`` for want of room, ``short_lived``: went before their turn.
        """
        return {
            **self._lookups.counts(),
            "pending": sum(len(side.pending) for side in self._sides),
            "resting": sum(len(side.resting) for side in self._sides),
            "overfull": self._dropped,
            "short_lived": self._gone,
        }

    def _side(self, key: Key) -> _Side:
        return self._users if self._lookups.is_users(key) else self._root

    def _put(self, side: _Side, due: float, key: Key) -> None:
        self._made += 1
        heapq.heappush(side.due, (due, self._made, key))

    def _rest(self, side: _Side, until: float, inquiry: Inquiry) -> bool:
        if len(side.resting) >= RESTING_MAX:
            return False
        self._made += 1
        heapq.heappush(side.resting, (until, self._made, inquiry))
        return True

    def _ask(self, side: _Side, key: Key, inquiry: Inquiry) -> None:
        asked, instance = key
        if isinstance(asked, str):
            said: object = self._lookups.ask_cgroup(asked, instance)
        else:
            said = self._lookups.ask(asked, instance)
        if isinstance(said, Metadata | Known):
            del side.pending[key]
            self._answers.append(Answer(instance, said if self._labels else _without_labels(said)))
            return
        if said is Missing.PENDING:
            side.asked.add(key)
            return
        due = self._lookups.again(key)
        if self._now < due <= self._now + SOON:
            self._put(side, due, key)
            return
        del side.pending[key]
        # Where no time is told nobody can answer for this cgroup at all.
        inquiry.wants = not self._rest(side, due if due > self._now else self._now + _NOBODY, inquiry)

    def _settle(self) -> None:
        if not self._lookups.news:
            return
        for key in self._lookups.settled():
            side = self._side(key)
            side.asked.discard(key)
            if (inquiry := side.pending.get(key)) is not None:
                self._ask(side, key, inquiry)


def _without_labels(said: Metadata | Known) -> Metadata | Known:
    if isinstance(said, Known):
        return said._replace(metadata=said.metadata._replace(labels=()))
    return said._replace(labels=())


def start(settings: Settings, clock: Clock, say: Callable[[str], None]) -> Prefetch | None:
    """Start the helper, where the settings want one. It has to be before there are threads or privileges are dropped.

    Where it cannot be started `say` is told, and containers stay without names.
    """
    if not settings[rows.METADATA]:
        return None
    try:
        started = helper.start()
    except OSError as error:
        say(f"containers will have no names: {error.strerror or error}")
        return None
    if not started.privileged:
        say(
            "containers have names only where everybody may read their runtime's state: CAP_DAC_READ_SEARCH is missing"
        )
    return Prefetch(Lookups(started, clock), labels=settings[rows.LABELS])
