# SPDX-License-Identifier: Apache-2.0
"""The judge of the faults: what it must call unaccounted, and what it must not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.suites.reckoning import EOE, after, is_to_come, is_whole, reckon

SEEN = [(serial, kind) for serial in range(101, 111) for kind in (1300, 1307, EOE)]


def event(serial: int, records: int = 2) -> dict[str, Any]:
    made = [{"type": "SYSCALL", "fields": {}}, {"type": "CWD", "fields": {}}, {"type": "EOE", "fields": {}}]
    return {"id": f"1.000:{serial}", "uid": f"b/{serial}", "type": "SYSCALL", "records": made[:records]}


def own(**said: object) -> dict[str, Any]:
    return {"id": "1.000:0", "uid": f"b/r/{said}", "type": "X", "records": [], **said}


ALL = [event(serial) for serial in range(101, 111)]


def test_all_is_there() -> None:
    told = reckon(ALL, SEEN, 100, 110)
    assert (told.records, told.unaccounted, told.wrong, told.lost) == (20, 0, [], 0)


def test_what_is_outside_is_not_reckoned() -> None:
    told = reckon(ALL[2:8], SEEN, 102, 108)
    assert (told.records, told.unaccounted) == (12, 0)


@pytest.mark.parametrize("broken", [ALL[1:], [event(101, 1), *ALL[1:]]])
def test_what_is_missing_is_unaccounted(broken: list[dict[str, Any]]) -> None:
    assert reckon(broken, SEEN, 100, 110).unaccounted == 20 - sum(len(each["records"]) for each in broken)


def test_gaps_and_losses_have_room_for_what_they_say() -> None:
    gap = own(notice={"kind": "gap", "first": 101, "last": 103})
    assert reckon([*ALL[3:], gap], SEEN, 100, 110).unaccounted == 0
    assert reckon([*ALL[4:], gap], SEEN, 100, 110).unaccounted == 2
    loss = own(lost={"cause": "netlink", "records": 3, "first": 101, "last": 102})
    told = reckon([*ALL[2:], loss], SEEN, 100, 110)
    assert (told.unaccounted, told.lost) == (1, 3)
    somewhere = own(lost={"cause": "kernel", "records": 1})
    assert reckon([*ALL[2:], loss, somewhere], SEEN, 100, 110).unaccounted == 0
    assert reckon([*ALL[3:], loss], SEEN, 100, 110).unaccounted == 3


def test_twice_or_too_many_is_wrong() -> None:
    assert len(reckon([*ALL, ALL[0]], SEEN, 100, 110).wrong) == 2


def test_the_counter_goes_round() -> None:
    top = (1 << 32) - 2
    seen = [(number % (1 << 32), 1300) for number in range(top, top + 6)]
    events = [event(number, 1) for number, _ in seen if number]
    # The kernel gives no event the serial 0 that the file could have: ours have it.
    told = reckon(events, [each for each in seen if each[0]], top - 1, 3)
    assert (told.records, told.unaccounted, told.wrong) == (5, 0, [])
    assert after(2, top)
    assert not after(top, 2)


def test_what_was_reckoned_does_not_come_again() -> None:
    assert [is_to_come(number, 100, 110) for number in (0, 99, 100, 105, 110, 111)] == [False] * 5 + [True]
    # From 30000 by 0xC0000000 to 500, all in one stretch of time: 30005 is behind 500, and was reckoned.
    there = [is_to_come(number, 30000, 500) for number in (30005, 0xC0000005, 500, 501)]
    assert there == [False] * 3 + [True]
    assert [is_to_come(number, 7, 7) for number in (6, 7, 8)] == [False, False, True]


def test_a_cut_line_is_no_event() -> None:
    assert [is_whole(line) for line in (b'{"id": 1}', b'{"id": {}', b"[]", b"")] == [
        True,
        False,
        False,
        False,
    ]
