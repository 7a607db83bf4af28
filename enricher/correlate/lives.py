# SPDX-License-Identifier: Apache-2.0
"""Which life an inum was of at a moment: the kernel gives a freed namespace's number to the next one at once.

Owns the table of lives. Never takes one life for another: where messages were lost, what is not proved any more is
not known. A number that was never given out since the start is of a namespace that was there before; what is told of
it at the start (it was found) counts only where nothing was made or freed with that number before that moment.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.facts import OF_ONE, Member, NamespaceLife, NamespaceOp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from enricher.facts import Fact

KEPT: Final = 60 * 10**9
"""Nanoseconds for which a freed namespace is remembered at least: records of its last tasks may be on their way, and
where the reader of records is further behind than that, it is remembered until they have come."""

LIMIT: Final = 65_536
"""Beginnings and ends that are remembered, one of each at least for each number that was ever given out: of those there
are as many as namespaces lived at a time. Beyond, all is forgotten, and only what is made from then on is known."""

FOREVER: Final = 1 << 63


class Life(NamedTuple):
    """One namespace from its making to its end, both in nanoseconds since boot.

    ``born`` is 0 where it was there before this program; ``ended`` is `FOREVER` while it lives. ``kind`` is an index
    into `model.KINDS`, -1 where nobody told; the rest is as in `facts.NamespaceLife`, 0 where not known.
    """

    inum: int
    born: int = 0
    ended: int = FOREVER
    kind: int = -1
    id: int = 0
    parent: int = 0
    owner: int = 0


class Born(NamedTuple):
    """When each namespace of a set was made, see `Lives.born_of`, and for which epoch and moments that holds."""

    born: tuple[int | None, ...]
    epoch: int
    since: int
    until: int


class _Number:
    """What was told of one number: beginnings and ends, each in the order of time, in whatever order they came."""

    __slots__ = ("births", "deaths", "found")

    def __init__(self) -> None:
        self.births: list[Life] = []
        self.deaths: list[tuple[int, int]] = []  # time, and the kernel's own number of what ended, 0 for none
        self.found: tuple[int, Life] | None = None  # the earliest moment at which it was found, and what

    def __len__(self) -> int:
        return len(self.births) + len(self.deaths) + (self.found is not None)

    def find(self, time: int, life: Life) -> None:
        """Enter what had the number at that moment of the start."""
        if self.found is None or time < self.found[0]:
            self.found = time, life

    def older(self) -> Life | None:
        """Return what was found, where it had the number before anything was told of that; None for nothing.

        What had been freed or made by then is why another namespace may have been found: one whose making was told of
        by itself, or was not seen. Such a one is not taken for one that was there before.
        """
        if self.found is None:
            return None
        time, life = self.found
        ended = min(
            self.deaths[0][0] if self.deaths else FOREVER, self.births[0].born if self.births else FOREVER
        )
        return None if ended <= time else life._replace(ended=ended)

    def ending(self, place: int) -> int:
        """When the life at this place ended: what is told of its end, else the beginning of the next one."""
        life = self.births[place]
        following = self.births[place + 1].born if place + 1 < len(self.births) else FOREVER
        if life.id:
            return next((time for time, ident in self.deaths if ident == life.id), following)
        after = bisect_left(self.deaths, (life.born, 0))
        return min(self.deaths[after][0], following) if after < len(self.deaths) else following

    def forget(self, before: int) -> None:
        """Forget what ended before that, but the last of each: that the number was given out must stay known."""
        if self.found is not None and ((older := self.older()) is None or older.ended < before):
            self.found = None  # what is not older now is not made so by any message that is still to come
        old = bisect_left(self.births, before, key=_born)
        while old and (old == len(self.births) or self.ending(old - 1) >= before):
            old -= 1
        if old:
            oldest = self.births[old].born
            del self.births[:old]
            del self.deaths[: bisect_left(self.deaths, (oldest, 0))]
        if len(self.deaths) > len(self.births) + 1:
            del self.deaths[: max(0, bisect_left(self.deaths, (before, 0)) - 1)]


class Lives:
    """``epoch`` changes whenever an answer of `at` may. ``forgotten`` counts what went for want of room."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._numbers: dict[int, _Number] = {}
        self._doubted = 0  # what was born up to here is not known; 0: nothing was lost
        self._limit = limit
        self._count = 0
        self.watched = False
        """Whether anything is told of namespaces at all; before that nothing is known of any."""
        self.complete = 0
        """The moment by which it was told of all tasks of the start where they were; 0 where it was not."""
        self.epoch = 0
        self.forgotten = 0

    def learn(self, facts: Iterable[Fact], oldest: int = 0) -> None:
        """Enter what was told. Messages of different rings may come in another order than they were sent.

        `oldest` is when the oldest event was that is not given out yet, 0 where there is none.
        """
        for fact in facts:
            if isinstance(fact, Member) and not self.watched:
                self.watched = True
                self.epoch += 1
            if not isinstance(fact, NamespaceLife):
                continue
            self.watched = True
            self.epoch += 1
            if fact.op == NamespaceOp.LOST:
                self._doubted = max(self._doubted, fact.time)
                continue
            if fact.op == NamespaceOp.ALL_FOUND:
                self.complete = fact.time
                continue
            if fact.op not in OF_ONE:
                continue
            number = self._numbers.setdefault(fact.inum, _Number())
            before = len(number)
            if fact.op == NamespaceOp.FREED:
                insort(number.deaths, (fact.time, fact.id))
            elif fact.op == NamespaceOp.FOUND:
                number.find(fact.time, _life(fact))
            else:
                insort(number.births, _life(fact), key=_born)
            number.forget((min(fact.time, oldest) if oldest else fact.time) - KEPT)
            self._count += len(number) - before
            if self._count > self._limit:
                self._forget_all(fact.time)

    def _forget_all(self, now: int) -> None:
        self.forgotten += self._count
        self._count = 0
        self._numbers.clear()
        self._doubted = now

    def at(self, inum: int, time: int, ident: int = 0) -> Life | None:
        """Return the life that this number was of at that moment; None where that is not known.

        `ident` is the kernel's own unique number where it has one: another life's is not taken for it.
        """
        if not self.watched:
            return None
        number = self._numbers.get(inum)
        if number is None:
            return None if self._doubted else Life(inum)
        births = number.births
        if ident:
            place = next((each for each, life in enumerate(births) if life.id == ident), -1)
        else:
            place = bisect_right(births, time, key=_born) - 1
        if place < 0:
            return self._before(inum, number, time, ident)
        life, ended = births[place], number.ending(place)
        if not ident and (life.born < self._doubted or time > ended):
            return None
        return life if ended == FOREVER else life._replace(ended=ended)

    def steady(self, inum: int, ident: int) -> bool:
        """Whether `at` says the same of this number, whose own unique one is known, of every moment of this epoch."""
        number = self._numbers.get(inum)
        if number is None or any(life.id == ident for life in number.births):
            return True
        return number.older() is not None

    def born_of(self, inums: Sequence[int], ids: Sequence[int], time: int) -> Born:
        """Return when the namespaces were made that a task had at that moment, 0 for before this program.

        None where that is not known or not needed: a number of the kernel's that is never used again is the life.
        """
        asked = [inum if inum and not ident else 0 for inum, ident in zip(inums, ids, strict=True)]
        lives = [self.at(inum, time) if inum else None for inum in asked]
        known = [life for life in lives if life is not None]
        # What is not known of one may be known of the next that has its number: it holds for this moment only.
        whole = len(known) == sum(map(bool, asked)) or not self.watched
        return Born(
            tuple([None if life is None else life.born for life in lives]),
            self.epoch,
            max([life.born for life in known], default=0) if whole else time,
            min([life.ended for life in known], default=FOREVER) if whole else time,
        )

    def _before(self, inum: int, number: _Number, time: int, ident: int) -> Life | None:
        """Return what had the number before it was given out while somebody looked."""
        found = number.older()
        if found is not None:
            if ident:
                return found if ident == found.id else None
            return None if self._doubted or time > found.ended else found
        if ident and number.births and number.births[0].born <= time:
            # A message did not come: a program is skipped where a task was preempted inside of it.
            return None
        first = number.births[0].born if number.births else FOREVER
        ended = number.deaths[0][0] if number.deaths else 0
        if not time <= ended < first or self._doubted:
            return None
        return Life(inum, 0, ended)

    def living(self) -> Iterator[tuple[Life, int]]:
        """Yield what lives now and was seen being made, with 0, and what was found, with a moment at which it lived.

        Only what is sure without asking for the kernel's own number: nothing that a loss may hide the end of.
        """
        if not self.watched:
            return
        for number in self._numbers.values():
            if number.births:
                life = number.births[-1]
                if life.born >= self._doubted and number.ending(len(number.births) - 1) == FOREVER:
                    yield life, 0
            elif number.found is not None and not self._doubted:
                older = number.older()
                if older is not None and older.ended == FOREVER:
                    yield older, number.found[0]

    def began(self, found: NamespaceLife) -> bool:
        """Whether this message tells of a namespace that was there before, and is the one of it that counts."""
        number = self._numbers.get(found.inum)
        if number is None or number.found is None or number.found[0] != found.time:
            return False
        older = number.older()
        return older is not None and (older.id != 0 or not self._doubted)


def _life(fact: NamespaceLife) -> Life:
    return Life(
        fact.inum,
        0 if fact.op == NamespaceOp.FOUND else fact.time,
        FOREVER,
        fact.kind,
        fact.id,
        fact.parent,
        fact.owner,
    )


def _born(life: Life) -> int:
    return life.born
