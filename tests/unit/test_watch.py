# SPDX-License-Identifier: Apache-2.0
"""What events tell of audit's own state and of a hook that is gone."""

from __future__ import annotations

import pytest

from enricher.correlate.join import BEFORE_START
from enricher.correlate.watch import BARE, Watch
from enricher.model import Event, Record
from tests.unit.sample_events import context

SET = b"audit(1.000:7): op=set audit_enabled=%b old=%b auid=%b ses=3 subj=unconfined res=%b"
REMOVED = b'audit(1.000:8): auid=1000 ses=3 subj=u op=remove_rule key="k" list=4 res=%b'


def event(*texts: bytes, kind: int = 1305, bare: bool = True) -> Event:
    made = Event(b"1.000:7", 0.0)
    made.records = [Record(kind, text) for text in texts or (b"audit(1.000:7): op=none",)]
    made.context = None if bare else context()
    return made


def texts(watch: Watch, *events: Event) -> list[str]:
    return [notice.text for notice in watch.look(list(events)) if notice.kind == "audit"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SET % (b"0", b"1", b"1000", b"1"), ["audit's audit_enabled was set from 1 to 0, by auid 1000"]),
        (SET % (b"0", b"1", b"4294967295", b"1"), ["audit's audit_enabled was set from 1 to 0"]),
        (
            SET % (b"0", b"2", b"0", b"0"),
            ["audit's audit_enabled was refused to be set from 2 to 0, by auid 0"],
        ),
        (SET % (b"1", b"1", b"0", b"1"), []),
        (REMOVED % b"1", ["rules of audit were removed: 1"]),
        (REMOVED % b"0", []),
        (b"audit(1.000:7): op=set audit_enabled=\xff old=1 res=1", []),
        (b"audit(1.000:7): op=set", []),
        (b"", []),
    ],
)
def test_what_a_change_tells(text: bytes, said: list[str]) -> None:
    assert texts(Watch(blind=False), event(text)) == said


def test_removed_rules_are_one_notice() -> None:
    assert texts(Watch(blind=False), *[event(REMOVED % b"1")] * 3) == ["rules of audit were removed: 3"]


def test_a_program_cannot_say_it() -> None:
    """Records of programs have other types, whatever is in them."""
    assert texts(Watch(blind=False), event(SET % (b"0", b"1", b"0", b"1"), kind=1107)) == []


def doubts(watch: Watch) -> bool:
    """For the type checker, to whom a property does not change by itself."""
    return watch.doubts


def kinds(watch: Watch, *events: Event) -> list[str]:
    return [notice.kind for notice in watch.look(list(events))]


def test_a_hook_that_is_gone_and_comes_back() -> None:
    watch = Watch(blind=False)
    assert kinds(watch, *[event() for _ in range(BARE - 1)]) == []
    assert not doubts(watch)
    assert kinds(watch, event()) == []
    assert doubts(watch)
    assert watch.count(100) == []
    # Equal counts prove nothing where no record came in between.
    assert watch.count(100) == []
    assert kinds(watch, event()) == []
    (notice,) = watch.count(100)
    assert notice.kind == "blind"
    assert not doubts(watch)
    assert watch.count(100) == []
    assert kinds(watch, event(bare=False)) == ["blind"]
    assert kinds(watch, event(bare=False)) == []


def test_a_full_ring_is_no_blindness() -> None:
    """Its events have no contexts either, but the hook counts their records."""
    watch = Watch(blind=False)
    watch.look([event() for _ in range(BARE)])
    assert watch.count(100) == []
    watch.look([event()])
    assert watch.count(108) == []
    assert not doubts(watch)


def test_where_no_context_is_expected() -> None:
    watch = Watch(blind=True)
    watch.look([event() for _ in range(2 * BARE)])
    assert not doubts(watch)
    watch = Watch(blind=False)
    before = [event() for _ in range(2 * BARE)]
    for each in before:
        each.reason = BEFORE_START
    watch.look(before)
    assert not doubts(watch)
