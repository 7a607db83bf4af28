# SPDX-License-Identifier: Apache-2.0
"""Stamps and segments of the journal: packed and unpacked the same, and nothing else unpacked."""

from __future__ import annotations

import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.journalformat import (
    BLOCK,
    SEGMENT_MAX,
    Columns,
    Damaged,
    Entry,
    numbers_of,
    pack,
    packed_inums,
    signed,
    unpack,
    unpacked_inums,
    unsigned,
)

ENTRIES = st.lists(
    st.builds(Entry, st.integers(8192, 8191 + BLOCK), st.integers(0, 10**15), st.integers(1, 1 << 62)),
    min_size=1,
    max_size=300,
    unique=True,
).map(sorted)


def columns_of(entries: list[Entry]) -> Columns:
    """Return the same, each member in a list of its own."""
    return Columns(*map(list, zip(*entries, strict=True)))


@given(ENTRIES)
def test_what_was_packed_is_unpacked(entries: list[Entry]) -> None:
    ms = min(entry.ms for entry in entries)
    columns = unpack(pack(columns_of(entries), ms), len(entries), entries[0].serial, ms)
    assert list(map(Entry, *columns)) == entries


@given(ENTRIES, st.data())
def test_damage_is_told_or_does_not_matter(entries: list[Entry], data: st.DataObject) -> None:
    """Zlib has a checksum: what it takes for whole is what was packed."""
    ms = min(entry.ms for entry in entries)
    content = bytearray(pack(columns_of(entries), ms))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    try:
        found = unpack(bytes(content), len(entries), entries[0].serial, ms)
    except Damaged:
        return
    assert list(map(Entry, *found)) == entries


@given(st.binary(max_size=200), st.integers(-1, SEGMENT_MAX + 1), st.booleans())
def test_nothing_else_is_raised(content: bytes, events: int, packed: bool) -> None:  # noqa: FBT001 - drawn
    with suppress(Damaged):
        unpack(zlib.compress(content) if packed else content, events, 5, 7)


def test_a_bomb_is_not_unpacked() -> None:
    with pytest.raises(Damaged, match="too long"):
        unpack(zlib.compress(bytes(200 << 20), 9), 1, 0, 0)


@pytest.mark.parametrize(
    ("stamp", "numbers"),
    [
        (b"1772366400.042:9001", (9001, 1772366400042)),
        (b"0.000:0", (0, 0)),
        (b"1.000:4294967295", (4294967295, 1000)),
        (b"1.000:4294967296", None),
        (b"1.00:1", None),
        (b"1.0000:1", None),
        (b"01.000:1", None),
        (b"1.000:01", None),
        (b"1.000:1 ", None),
        (b"1.000:1\n", None),
        (b"1.000:", None),
        (b"1.000", None),
        (b".000:1", None),
        (b"1,000:1", None),
        (b"1.000.1", None),
        (b"1.0a0:1", None),
        (b"1.000:1a", None),
        (b"999999999999.999:1", (1, 999999999999999)),
        (b"1000000000000.000:1", None),
        (b"1.000:10000000000", None),
        (b"", None),
    ],
)
def test_only_the_kernels_own_spelling_is_a_stamp(stamp: bytes, numbers: tuple[int, int] | None) -> None:
    assert numbers_of(stamp) == numbers


@given(st.integers(0, (1 << 64) - 1))
def test_ids_of_64_bits(number: int) -> None:
    assert -(1 << 63) <= signed(number) < 1 << 63
    assert unsigned(signed(number)) == number


@given(st.lists(st.integers(0, (1 << 32) - 1), min_size=10, max_size=10))
def test_inums(inums: list[int]) -> None:
    assert unpacked_inums(packed_inums(inums)) == tuple(inums)
    with pytest.raises(Damaged):
        unpacked_inums(packed_inums(inums)[1:])
