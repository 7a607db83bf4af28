# SPDX-License-Identifier: Apache-2.0
"""When namespaces were made, from the service that saw it to the command that shows it.

Owns the answer to `births` (docs/control.md) at both ends: what the service may say, and what the command believes of
it. Never says anything of a namespace whose end may have been missed, and never raises for what answers: a service of
another version, or whoever has its place, costs the exact times and nothing else.

Why a number in the answer is the namespace that the command has seen: it asks when its second look is over, and what
answers has read all that the kernel side told before (see `control.ControlServer`). A life that began before the first
look and had not ended by then is the one that was there at both.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from enricher.errors import EnricherError
from enricher.model import KINDS
from enricher.route.views.table import escape
from enricher.runtime import control_client

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enricher.correlate.lives import Life, Lives
    from enricher.facts import Fact

MOST: Final = 8192
"""Namespaces in each part of an answer, the youngest: less than `control_client.ANSWER_MAX` in all."""
WITHIN: Final = 5.0
"""Seconds that a service has for its answer. Its pauses are at most one each, and an answer takes two turns."""

_TRIES: Final = 50
_PAUSE: Final = 0.05  # a message that is being written is done in some microseconds
_NOTE_MAX: Final = 300
_KINDS: Final = KINDS[:8]
_number = re.compile(r"(?:0|[1-9][0-9]{0,19})", re.ASCII).fullmatch

Key = tuple[str, int]


class Reading(Protocol):
    """The part of `loader.Loaded` that says whether all was read."""

    facts: list[Fact]

    @property
    def parked(self) -> bool:
        """Whether a message was not finished when the rings were read."""
        ...

    def look_for_missed(self) -> None:
        """Add to ``facts`` where programs were skipped."""
        ...


def answer(lives: Lives, boot_id: str, loaded: Reading) -> dict[str, object]:
    """Return what the service says. Behind: something is still to be read, and another time there is an answer."""
    loaded.look_for_missed()
    behind = loaded.parked or bool(loaded.facts)
    born: list[Life] = []
    found: list[Life] = []
    for life, when in () if behind else lives.living():
        if 0 <= life.kind < len(_KINDS):
            (found if when else born).append(life._replace(born=when or life.born))
    return {
        "boot_id": boot_id,
        "now": str(time.clock_gettime_ns(time.CLOCK_BOOTTIME)),
        "watched": lives.watched,
        "behind": behind,
        "born": _rows(born),
        "found": _rows(found),
        "cut": max(len(born), len(found)) > MOST,
    }


def _rows(lives: list[Life]) -> dict[str, list[tuple[int, str, str]]]:
    rows: dict[str, list[tuple[int, str, str]]] = {}
    for life in sorted(lives, key=lambda life: -life.born)[:MOST]:
        rows.setdefault(_KINDS[life.kind], []).append((life.inum, str(life.born), str(life.id)))
    return rows


class Seen(NamedTuple):
    """A moment in ns since boot, and the kernel's own number of the namespace, 0 where it was not told."""

    time: int
    id: int


class Births(NamedTuple):
    """By kind and inum: when namespaces were made, and when such were there that had been made before.

    ``note`` says why there is nothing, or not all; "" where there is nothing to say.
    """

    born: Mapping[Key, Seen]
    found: Mapping[Key, Seen]
    note: str


def ask(path: str, group: str, boot_id: str, began: int, within: float = WITHIN) -> Births:
    """Ask the service at `path`, when the look that began at this time since boot (ns) is over."""
    until = time.monotonic() + within
    try:
        told = _told_once(path, group, boot_id, began, until)
        tries = 1
        while told is None and tries < _TRIES:
            time.sleep(min(_PAUSE, max(0.0, until - time.monotonic())))
            told = _told_once(path, group, boot_id, began, until)
            tries += 1
    except EnricherError as error:
        return _none(error.message.partition("\n")[0])
    return _none("the service has not read all that the kernel told") if told is None else told


def _told_once(path: str, group: str, boot_id: str, began: int, until: float) -> Births | None:
    """Return what is believed of one answer; None where another may say more in a moment."""
    asked = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    said = control_client.births(path, group, until - time.monotonic())
    if said.get("behind") is True:
        return None
    return believed(said, boot_id, began, (asked, time.clock_gettime_ns(time.CLOCK_BOOTTIME)))


def believed(said: Mapping[str, object], boot_id: str, began: int, asked: tuple[int, int]) -> Births:
    """Return what may be believed of an answer that came between these two times since boot."""
    born, found, now = _read(said.get("born")), _read(said.get("found")), _whole(said.get("now"))
    if born is None or found is None or now is None:
        return _none("the service's answer is not understood")
    if not boot_id or said.get("boot_id") != boot_id:
        return _none("what answers is not of this boot")
    if not asked[0] <= now <= asked[1]:
        return _none("the service's clock is not the one here")
    if said.get("watched") is not True:
        return _none("the service is told nothing of namespaces")
    note = "of some namespaces the service did not tell the exact time: there are too many"
    return Births(_before(born, began), _before(found, began), note if said.get("cut") is True else "")


def _none(why: str) -> Births:
    why = escape(why)
    why = why if len(why) <= _NOTE_MAX else why[:_NOTE_MAX] + ".."
    return Births({}, {}, f"no exact times: {why}; ages are bounds from processes and inodes")


def _before(rows: Mapping[Key, Seen], began: int) -> dict[Key, Seen]:
    """Leave out what was made, or found, when we had begun to look."""
    return {key: seen for key, seen in rows.items() if 0 < seen.time <= began}


def _read(said: object) -> dict[Key, Seen] | None:
    """Return the rows; None where they are not of the shape that they should have. Kinds that we do not know go."""
    if not isinstance(said, dict):
        return None
    rows: dict[Key, Seen] = {}
    for kind in _KINDS:
        listed = said.get(kind, [])
        if not isinstance(listed, list):
            return None
        for each in listed:
            row = _row(each) if isinstance(each, list) else None
            if row is None or (kind, row[0]) in rows:
                return None
            rows[kind, row[0]] = row[1]
    return rows


_ROW: Final = 3


def _row(said: Sequence[object]) -> tuple[int, Seen] | None:
    if len(said) < _ROW:
        return None
    inum, when, ident = said[0], _whole(said[1]), _whole(said[2])
    if type(inum) is not int or not 0 < inum < 1 << 32 or when is None or ident is None:
        return None
    return inum, Seen(when, ident)


def _whole(said: object) -> int | None:
    """Return a decimal string's number of 64 bits; None for anything else."""
    if not isinstance(said, str) or _number(said) is None or (number := int(said)) >> 64:
        return None
    return number
