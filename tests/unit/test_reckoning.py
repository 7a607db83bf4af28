# SPDX-License-Identifier: Apache-2.0
"""The judge of the faults: what it must call unaccounted, and what it must not."""

from __future__ import annotations

from typing import Any

import pytest

from tests import schema
from tests.suites.reckoning import EOE, NEAR, SERIALS, parted, reckon

SEEN = [(serial, kind) for serial in range(101, 111) for kind in (1300, 1307, EOE)]


def event(serial: int, records: int = 2) -> dict[str, Any]:
    made = [{"type": "SYSCALL", "fields": {}}, {"type": "CWD", "fields": {}}, {"type": "EOE", "fields": {}}]
    return {"id": f"1.000:{serial}", "uid": f"b/{serial}", "type": "SYSCALL", "records": made[:records]}


def own(**said: object) -> dict[str, Any]:
    return {"id": "1.000:0", "uid": f"b/r/{said}", "type": "X", "records": [], **said}


ALL = [event(serial) for serial in range(101, 111)]


def test_all_is_there() -> None:
    told = reckon(ALL, SEEN)
    assert (told.records, told.unaccounted, told.wrong, told.lost) == (20, 0, [], 0)


@pytest.mark.parametrize("broken", [ALL[1:], [event(101, 1), *ALL[1:]]])
def test_what_is_missing_is_unaccounted(broken: list[dict[str, Any]]) -> None:
    assert reckon(broken, SEEN).unaccounted == 20 - sum(len(each["records"]) for each in broken)


def test_gaps_and_losses_have_room_for_what_they_say() -> None:
    gap = own(notice={"kind": "gap", "first": 101, "last": 103})
    assert reckon([*ALL[3:], gap], SEEN).unaccounted == 0
    assert reckon([*ALL[4:], gap], SEEN).unaccounted == 2
    loss = own(lost={"cause": "netlink", "records": 3, "first": 101, "last": 102})
    told = reckon([*ALL[2:], loss], SEEN)
    assert (told.unaccounted, told.lost) == (1, 3)
    somewhere = own(lost={"cause": "kernel", "records": 1})
    assert reckon([*ALL[2:], loss, somewhere], SEEN).unaccounted == 0
    assert reckon([*ALL[3:], loss], SEEN).unaccounted == 3


def test_twice_or_too_many_is_wrong() -> None:
    assert len(reckon([*ALL, ALL[0]], SEEN).wrong) == 2


def parted_at(numbers: list[int], at: int) -> tuple[list[int], list[int]]:
    return parted(numbers, at, numbers[at], lambda number: number)


def test_the_counter_goes_round() -> None:
    """A serial that was there before is another event's; so is the mark's own."""
    top = SERIALS - 2
    numbers = [500, 501, 40_000, top, top + 1, 0, 1, 499, 500, 501, 502]
    assert parted_at(numbers, 8) == ([500, 40_000, top, top + 1, 0, 1, 499, 500], [501, 501, 502])
    assert parted_at([30_000, 30_001, 0xC0000000, 7, 8, 30_000], 3) == (
        [30_000, 30_001, 0xC0000000, 7],
        [8, 30_000],
    )


def test_what_was_taken_at_the_same_time_is_parted_by_its_serial() -> None:
    numbers = [90, 102, 100, 100, 0, 98, 103, 100 - NEAR, 100 + NEAR]
    assert parted_at(numbers, 2) == ([90, 100, 100, 98], [102, 0, 103, 100 - NEAR, 100 + NEAR])
    at_the_top = [SERIALS - 1, 2, 1, SERIALS - 3]
    assert parted_at(at_the_top, 2) == ([SERIALS - 1, 1, SERIALS - 3], [2])


def test_a_cut_line_is_no_event() -> None:
    assert [schema.is_whole(line) for line in (b'{"id": 1}', b'{"id": {}', b"[]", b"")] == [
        True,
        False,
        False,
        False,
    ]
