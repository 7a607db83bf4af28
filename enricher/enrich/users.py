# SPDX-License-Identifier: Apache-2.0
"""User namespaces: which number a user or group has inside of one, and the namespaces above it.

Owns the table of maps, and the member ``subject.inside``. The kernel side tells a namespace's maps before the first
message about a task in it, and again when they were written. Never gives a number where the map has none: the 65534
that a process reads there of itself is nobody's. Where the map of just this namespace was not told nothing is said.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from enricher.facts import UserMap
from enricher.model import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enricher.correlate.lives import Lives
    from enricher.enrich.namespaces import NamespaceEntries
    from enricher.enrich.shape import Inside, NsEntry, Subject
    from enricher.facts import Extent, Fact
    from enricher.messages import Context

LIMIT: Final = 65_536
"""Numbers of user namespaces whose maps are remembered; the one told of longest ago goes. Numbers are used again, so
there are as many as such namespaces lived at a time."""

KEPT: Final = 60 * 10**9
"""Nanoseconds for which a map is remembered after the next one of the same number, and longer where the reader of
records is further behind."""

STATES_MAX: Final = 64
"""Maps of one number in that time: a namespace has three states, and its number may change hands quickly."""

SAID_MAX: Final = 4096  # members that are kept: few users act in a namespace

USER: Final = KINDS.index("user")
_USER: Final = USER
NUMBERS: Final = ("uid", "gid", "euid", "suid", "fsuid", "egid", "sgid", "fsgid")
UIDS: Final = frozenset(name for name in NUMBERS if name.endswith("uid"))


class Numbers:
    """One map the way it is asked: from a number of the initial user namespace to the one inside."""

    __slots__ = ("_extents", "_starts")

    def __init__(self, extents: tuple[Extent, ...]) -> None:
        self._extents = sorted(extents, key=_lower)
        self._starts = [extent.lower_first for extent in self._extents]

    def inside(self, number: int) -> int | None:
        """Return the number inside; None where it has none."""
        place = bisect_right(self._starts, number) - 1
        if place < 0:
            return None
        first, lower, size = self._extents[place]
        return first + number - lower if number - lower < size else None


class UsersOf(NamedTuple):
    """How a user namespace numbers, from ``told.time`` on."""

    told: UserMap
    uids: Numbers
    gids: Numbers


class UserMaps:
    """``forgotten`` counts maps that went for want of room. `lives` is to be told of the same facts first."""

    def __init__(self, lives: Lives, limit: int = LIMIT) -> None:
        self._lives = lives
        self._limit = limit
        self._maps: dict[int, list[UsersOf]] = {}  # by inum, each list in the order of time
        self._said: dict[tuple[object, ...], Inside] = {}
        self.forgotten = 0

    def learn(self, facts: Iterable[Fact], oldest: int = 0) -> None:
        """Enter maps. Those of different rings may come in another order than they were told.

        `oldest` is when the oldest event was that is not given out yet, 0 where there is none.
        """
        for fact in facts:
            if isinstance(fact, UserMap):
                self._enter(UsersOf(fact, Numbers(fact.uids), Numbers(fact.gids)), oldest)

    def _enter(self, known: UsersOf, oldest: int) -> None:
        inum = known.told.inum
        maps = self._maps.pop(inum, None)  # and put in again behind all others
        if maps is None:
            maps = []
            if len(self._maps) >= self._limit:
                self.forgotten += len(self._maps.pop(next(iter(self._maps))))
        self._maps[inum] = maps
        maps.insert(bisect_right(maps, known.told.time, key=_time), known)
        old = 0
        newest = maps[-1].told.time
        before = (min(newest, oldest) if oldest else newest) - KEPT
        while old < len(maps) - 1 and maps[old + 1].told.time < before:
            old += 1  # the one after it was in force already that long ago
        if len(maps) - old > STATES_MAX:
            self.forgotten += len(maps) - old - STATES_MAX
            old = len(maps) - STATES_MAX
        del maps[:old]

    def at(self, inum: int, time: int, ident: int = 0) -> UsersOf | None:
        """Return the user namespace that had this number at that moment; None where its map is not known.

        `ident` is the kernel's own number for it that is never used again, 0 where the kernel has none.
        """
        maps = self._maps.get(inum)
        if maps is None:
            return None
        place = bisect_right(maps, time, key=_time) - 1
        while ident and place >= 0 and maps[place].told.ids[:1] != (ident,):
            place -= 1
        if place < 0:
            return None
        if not ident:
            life = self._lives.at(inum, time)
            if life is None or maps[place].told.time < life.born:
                return None
        return maps[place]

    def knows(self, context: Context) -> bool:
        """Whether `inside` may say anything: in the initial namespace it does not, at the price of a look-up."""
        return context.inums[_USER] in self._maps

    def inside(self, context: Context, subject: Subject, entries: NamespaceEntries) -> Inside | None:
        """Return what `subject`, who has this context and the kernel's numbers, is inside of his user namespace.

        None in the initial one, and where the map is not known. A number that the map does not have is absent. The
        dict is shared between events: read-only.
        """
        inum = context.inums[USER]
        known = self.at(inum, context.time, context.ids[USER]) if self.knows(context) else None
        if known is None:
            return None
        numbers = cast("dict[str, int]", subject)
        # The namespaces above cannot end before this one does: what was once known of them stays true.
        key = (inum, known.told.time, *map(numbers.get, NUMBERS))
        inside = self._said.get(key)
        if inside is None:
            if len(self._said) >= SAID_MAX:
                del self._said[next(iter(self._said))]
            inside = self._said[key] = self._inside(known, context.time, numbers, entries)
        return inside

    def _inside(
        self, known: UsersOf, time: int, numbers: dict[str, int], entries: NamespaceEntries
    ) -> Inside:
        inside: dict[str, object] = {}
        for name in NUMBERS:
            outside = numbers.get(name)
            map_ = known.uids if name in UIDS else known.gids
            number = None if outside is None else map_.inside(outside)
            if number is not None:
                inside[name] = number
        inside["owner"] = {"uid": known.told.owner_uid, "gid": known.told.owner_gid}
        inside["user_ns"] = self.chain(known.told, time, entries)
        return cast("Inside", inside)

    def chain(self, told: UserMap, time: int, entries: NamespaceEntries) -> list[NsEntry]:
        """Return the user namespaces from this one up to the initial one, as they were at that moment."""
        chain: list[NsEntry] = []
        for place, inum in enumerate((told.inum, *told.above)):
            ident = told.ids[place] if place < len(told.ids) else 0
            life = None if ident else self._lives.at(inum, time)
            chain.append(entries.entry(USER, inum, ident, None if life is None else life.born))
        return chain


def _time(known: UsersOf) -> int:
    return known.told.time


def _lower(extent: Extent) -> int:
    return extent.lower_first
