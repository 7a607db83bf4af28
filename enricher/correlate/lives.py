# SPDX-License-Identifier: Apache-2.0
"""Which life an inum was of at a moment: the kernel gives a freed namespace's number to the next one at once.

Owns the table of lives. Never takes one life for another: where messages were lost, what is not proved any more is
not known. A number that was never given out since the start is of a namespace that was there before.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.facts import Member, NamespaceLife, NamespaceOp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enricher.facts import Fact

KEPT: Final = 60 * 10**9
"""Nanoseconds for which a freed namespace is remembered: records of its last tasks may be on their way."""

LIMIT: Final = 65_536
"""Lives that are remembered, one at least for each number that was ever given out: as many as namespaces lived at a
time. Beyond, all is forgotten, and only what is made from then on is known."""

FOREVER: Final = 1 << 63


class Life(NamedTuple):
    """One namespace from its making to its end, both in nanoseconds since boot.

    ``born`` is 0 where it was there before this program; ``ended`` is `FOREVER` while it lives. ``kind`` is an index
    into `model.KINDS`, -1 where nobody told; the rest is as in `facts.NamespaceLife`, 0 and b"" where not known.
    """

    inum: int
    born: int = 0
    ended: int = FOREVER
    kind: int = -1
    id: int = 0
    parent: int = 0
    owner: int = 0
    creator_pid: int = 0
    creator_start: int = 0
    creator_cgroup: int = 0
    creator_uid: int = 0
    creator_comm: bytes = b""


class Lives:
    """``epoch`` changes whenever an answer of `at` may. ``forgotten`` counts lives that went for want of room."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._lives: dict[int, list[Life]] = {}  # by inum, in the order of birth
        self._doubted = 0  # what was born up to here is not known; 0: nothing was lost
        self._limit = limit
        self._count = 0
        self.watched = False
        """Whether anything is told of namespaces at all; before that nothing is known of any."""
        self.epoch = 0
        self.forgotten = 0

    def learn(self, facts: Iterable[Fact]) -> None:
        """Enter what was told. Messages of different rings may come in another order than they were sent."""
        for fact in facts:
            if isinstance(fact, Member):
                self.watched = True
            if not isinstance(fact, NamespaceLife):
                continue
            self.watched = True
            op = fact.op
            self.epoch += 1
            if op == NamespaceOp.LOST:
                self._doubted = max(self._doubted, fact.time)
            elif op == NamespaceOp.FREED:
                self._free(fact.inum, fact.time, fact.id)
            else:
                self._enter(
                    Life(
                        fact.inum,
                        0 if op == NamespaceOp.FOUND else fact.time,
                        FOREVER,
                        fact.kind,
                        fact.id,
                        fact.parent,
                        fact.owner,
                        fact.creator_pid,
                        fact.creator_start,
                        fact.creator_cgroup,
                        fact.creator_uid,
                        fact.creator_comm,
                    )
                )

    def _enter(self, life: Life) -> None:
        lives = self._lives.setdefault(life.inum, [])
        place = bisect_right(lives, life.born, key=_born)
        if place < len(lives):
            life = life._replace(ended=lives[place].born)  # its end comes late
        if life.born == 0 and place:
            return  # found by two ways
        if place and lives[place - 1].ended > life.born:
            lives[place - 1] = lives[place - 1]._replace(ended=life.born)
        lives.insert(place, life)
        self._count += 1
        self._prune(life.inum, life.born)

    def _free(self, inum: int, time: int, ident: int) -> None:
        lives = self._lives.setdefault(inum, [])
        place = bisect_right(lives, time, key=_born) - 1
        if ident:
            # The kernel says which of them: what was told of the others does not matter.
            place = next((each for each, life in enumerate(lives) if life.id == ident), -1)
        if place < 0:
            # It was there before the start, or its making failed inside and nobody was ever in it.
            lives.insert(0, Life(inum, 0, time, id=ident))
            self._count += 1
        elif lives[place].ended >= time:
            lives[place] = lives[place]._replace(ended=time)
        self._prune(inum, time)

    def _prune(self, inum: int, now: int) -> None:
        """Forget lives of this number that ended long ago, but the last: that it was given out must stay known."""
        lives = self._lives[inum]
        old = 0
        while old < len(lives) - 1 and lives[old].ended < now - KEPT:
            old += 1
        del lives[:old]
        self._count -= old
        if self._count > self._limit:
            self.forgotten += self._count
            self._count = 0
            self._lives.clear()
            self._doubted = now

    def at(self, inum: int, time: int, ident: int = 0) -> Life | None:
        """Return the life that this number was of at that moment; None where that is not known.

        `ident` is the kernel's own unique number where it has one: another life's is not taken for it.
        """
        if not self.watched:
            return None
        lives = self._lives.get(inum)
        if lives is None:
            return None if self._doubted else Life(inum)
        if ident and (known := next((life for life in lives if life.id == ident), None)) is not None:
            return known
        place = bisect_right(lives, time, key=_born) - 1
        if place < 0:
            return None
        life = lives[place]
        if ident and life.id:
            return (
                None  # a message did not come: a program is skipped where a task was preempted inside of it
            )
        return life if time <= life.ended and life.born >= self._doubted else None

    def alive(self) -> list[Life]:
        """Return what lives now, of what was told."""
        return [lives[-1] for lives in self._lives.values() if lives and lives[-1].ended == FOREVER]


def _born(life: Life) -> int:
    return life.born
