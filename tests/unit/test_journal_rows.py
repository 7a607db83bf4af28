# SPDX-License-Identifier: Apache-2.0
"""Which rows a journal's entries come to: in order, each once, block by block."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from enricher.journalformat import BLOCK, BLOCK_BITS, Columns
from enricher.sinks.journal_rows import GROWN_MAX, Segment, Waiting, draft_of, segments_for

ENTRIES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(1, 3)), max_size=40)


def columns_of(entries: list[tuple[int, int, int]]) -> Columns:
    return Columns(*([entry[place] for entry in entries] for place in range(3)))


def waiting(entries: list[tuple[int, int, int]]) -> Waiting:
    return Waiting(columns_of(entries), {}, {}, {}, 0)


@given(ENTRIES)
def test_entries_are_sorted_and_each_is_there_once(entries: list[tuple[int, int, int]]) -> None:
    assert draft_of(waiting(entries)).entries == columns_of(sorted(set(entries)))


def test_what_comes_in_order_is_not_made_anew() -> None:
    given_ = waiting([(serial, 7, 1) for serial in range(100)])
    assert draft_of(given_).entries is given_.events


def numbers(count: int, begin: int = 0) -> Columns:
    return Columns(list(range(begin, begin + count)), [7] * count, [1] * count)


def test_a_row_has_serials_of_one_block() -> None:
    rows = segments_for(numbers(2 * BLOCK, begin=BLOCK // 2), None, 9)
    assert [row.number for row in rows] == [9, 10, 11]
    assert [len(row.entries.serials) for row in rows] == [BLOCK // 2, BLOCK, BLOCK // 2]
    for row in rows:
        assert len({serial >> BLOCK_BITS for serial in row.entries.serials}) == 1
        assert {len(column) for column in row.entries} == {len(row.entries.serials)}
        assert row.fresh is row.entries


def test_a_row_that_is_still_open_grows_in_order() -> None:
    grown = Segment(4, numbers(10, begin=5), numbers(10, begin=5))
    late = Columns([3, 20], [6, 8], [2, 2])
    (row,) = segments_for(late, grown, 5)
    assert row.number == 4
    assert row.entries.serials == [3, *range(5, 15), 20]
    assert row.entries.contexts == [2, *[1] * 10, 2]
    assert row.fresh == late


def test_a_row_that_is_long_stays_as_it_is() -> None:
    grown = Segment(4, numbers(GROWN_MAX), numbers(GROWN_MAX))
    (row,) = segments_for(numbers(1, begin=GROWN_MAX), grown, 5)
    assert (row.number, row.entries.serials) == (5, [GROWN_MAX])
