# SPDX-License-Identifier: Apache-2.0
"""Entries of namespaces: which life they name, and what may be kept from one event to the next."""

from __future__ import annotations

from typing import cast

from enricher.correlate.lives import Lives
from enricher.enrich.namespaces import NamespaceEntries
from enricher.enrich.shape import NsEntry
from enricher.facts import ChangeOp, NamespaceLife
from enricher.model import Context
from tests.unit.sample_events import BOX_INUMS, HOST, HOST_INUMS, context
from tests.unit.sample_facts import change, freed, made, member

NET = BOX_INUMS[3]


def entries(*facts: NamespaceLife) -> NamespaceEntries:
    lives = Lives()
    lives.learn([member(1), *facts])
    return NamespaceEntries(HOST, lives)


def at(time: int) -> Context:
    return context(inums=BOX_INUMS)._replace(time=time)


def life(made_entries: NamespaceEntries, time: int) -> str | None:
    entry = cast("NsEntry", made_entries.of(at(time))[0]["net"])
    return entry.get("life")


def test_one_batch_may_hold_two_lives_of_one_set_of_numbers() -> None:
    known = entries(made("net", NET, 100), freed(NET, 200), made("net", NET, 300), freed(NET, 400))
    assert [life(known, time) for time in (150, 350, 150, 350, 200, 300)] == [
        *("100", "300", "100", "300", "100", "300")
    ]
    assert life(known, 250) is None
    assert life(known, 350) == "300"


def test_what_is_told_later_counts() -> None:
    lives = Lives()
    lives.learn([member(1)])
    known = NamespaceEntries(HOST, lives)
    assert life(known, 500) == "0"
    lives.learn([made("net", NET, 400)])
    assert life(known, 500) == "400"


def test_the_same_namespaces_are_made_once() -> None:
    known = entries(made("net", NET, 100))
    first, second = known.of(at(150))[0], known.of(at(160))[0]
    assert first is second


def test_nothing_watched_nothing_told() -> None:
    known = NamespaceEntries(HOST)
    assert life(known, 150) is None
    assert known.of(at(150))[0] is known.of(at(999))[0]


def test_a_change_names_the_life_that_was_left_and_may_have_ended() -> None:
    known = entries(made("net", NET, 100), freed(NET, 81_000_000_000))
    left = change(context(), op=ChangeOp.SETNS, before=BOX_INUMS)
    step = known.change(left)["net"]
    assert step == {
        "from": {"ino": NET, "life": "100", "host": False},
        "to": {"ino": HOST_INUMS[3], "life": "0", "host": True},
        "host": "entered",
    }
