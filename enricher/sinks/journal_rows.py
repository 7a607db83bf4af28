# SPDX-License-Identifier: Apache-2.0
"""What goes into the journal's tables, row by row: contexts, cgroups, and segments with their stamps.

Owns the statements that write them, in a transaction that the caller has begun. Never decides what is kept for how
long, and never opens a file.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.journalformat import (
    BLOCK_BITS,
    LIFE_COLUMNS,
    NAMESPACE_COLUMNS,
    SEGMENT_MAX,
    Columns,
    Entry,
    checksum,
    context_sum,
    pack,
    signed,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator


class CgroupRow(NamedTuple):
    """A cgroup that is not in the file yet."""

    id: int
    path: bytes
    said: str | None
    """What its container's runtime said, as `enrich.metadata.said_text` writes it."""


class ContextRow(NamedTuple):
    """A context that is not in the file yet; ``cgroup`` is its cgroup's number, 0 for none.

    ``born`` as in `model.Recalled`.
    """

    cgroup: int
    flags: int
    inums: tuple[int, ...]
    ids: tuple[int, ...]
    born: tuple[int | None, ...]


_BREATH: Final = 0.0005
"""Seconds for the loop to have its turn: all is written beside it, and Python runs in one of both at a time."""
GROWN_MAX: Final = 512
"""Entries of a row that is not written anew any more: what it has by then would be packed again with each write."""


class Waiting(NamedTuple):
    """What is to be written: events as they came, rows by their numbers, `size` bytes of them.

    ``removed`` has the times at which cgroups went, in milliseconds since the epoch. Not changed while it is written.
    """

    events: Columns
    cgroups: dict[int, CgroupRow]
    contexts: dict[int, ContextRow]
    removed: dict[int, int]
    size: int


class Draft(NamedTuple):
    """What one transaction writes: sorted entries, rows by their numbers, the times at which cgroups went."""

    entries: Columns
    cgroups: dict[int, CgroupRow]
    contexts: dict[int, ContextRow]
    removed: dict[int, int]


class Segment(NamedTuple):
    """A row: all its entries, and which of them are new to it."""

    number: int
    entries: Columns
    fresh: Columns


class _Span(NamedTuple):
    """When a context was in use, and the newest segment that says so."""

    first: Entry
    last: Entry
    segment: int


def draft_of(waiting: Waiting) -> Draft:
    """Return what of it goes into the file: what no event refers to does not."""
    entries = _in_order(waiting.events)
    _breathe()
    used = set(entries.contexts)
    contexts = {number: row for number, row in waiting.contexts.items() if number in used}
    homes = {row.cgroup for row in contexts.values()}
    cgroups = {number: row for number, row in waiting.cgroups.items() if number in homes}
    return Draft(entries, cgroups, contexts, waiting.removed)


def _breathe() -> None:
    """Let another thread run: compiled code never does by itself, and one that only offers to is the first again."""
    time.sleep(_BREATH)


def _in_order(entries: Columns) -> Columns:
    """Return them by serial, each once."""
    last = -1
    for serial in entries.serials:
        if serial <= last:
            break
        last = serial
    else:
        return entries  # as they are finished where nothing overtakes: nothing is made
    serials: list[int] = []
    times: list[int] = []
    contexts: list[int] = []
    before = None
    # Tuples that are no more than that: sorting knows how to compare those, and they come nearly in order.
    for entry in sorted(zip(*entries, strict=True)):
        if entry != before:
            before = entry
            serials.append(entry[0])
            times.append(entry[1])
            contexts.append(entry[2])
    return Columns(serials, times, contexts)


def _part(entries: Columns, begin: int, end: int) -> Columns:
    """Return those from one place to another."""
    if end - begin == len(entries.serials):
        return entries
    return Columns(entries.serials[begin:end], entries.times[begin:end], entries.contexts[begin:end])


def joined(one: Columns, other: Columns) -> Columns:
    """Return both, one behind the other."""
    return Columns(one.serials + other.serials, one.times + other.times, one.contexts + other.contexts)


def _blocks(entries: Columns) -> Iterator[tuple[int, Columns]]:
    """Yield sorted entries by their blocks."""
    serials = entries.serials
    at = 0
    while at < len(serials):
        block = serials[at] >> BLOCK_BITS
        end = bisect_left(serials, (block + 1) << BLOCK_BITS, at)
        yield block, _part(entries, at, end)
        at = end


def segments_for(entries: Columns, grown: Segment | None, number: int) -> list[Segment]:
    """Return the rows that hold these entries: the one that is still open, grown, and new ones from `number` on."""
    rows: list[Segment] = []
    for block, fresh in _blocks(entries):
        count = len(fresh.serials)
        if (
            grown is not None
            and grown.entries.serials[0] >> BLOCK_BITS == block
            and len(grown.entries.serials) < GROWN_MAX
            and len(grown.entries.serials) + count <= SEGMENT_MAX
        ):
            rows.append(Segment(grown.number, _in_order(joined(grown.entries, fresh)), fresh))
            continue
        for at in range(0, count, SEGMENT_MAX):
            part = _part(fresh, at, min(at + SEGMENT_MAX, count))
            rows.append(Segment(number, part, part))
            number += 1
    return rows


def put(db: sqlite3.Connection, boot: int, draft: Draft, segments: list[Segment]) -> None:
    """Write all of a draft. Raises sqlite3.Error."""
    times = [_put_segment(db, boot, segment) for segment in segments]
    spans = _spans(segments)
    for number, row in draft.contexts.items():
        _put_context(db, boot, number, row, spans[number])
    for number, cgroup in draft.cgroups.items():
        _put_cgroup(db, boot, number, cgroup, draft.entries.times[0])
    db.executemany(
        "UPDATE contexts SET last_ms = ?, last_serial = ?, last_segment = max(last_segment, ?) WHERE number = ?",
        [(span.last.ms, span.last.serial, span.segment, number) for number, span in spans.items()],
    )
    db.executemany(
        "UPDATE cgroups SET first_ms = min(first_ms, ?), last_ms = max(last_ms, ?),"
        " last_segment = max(last_segment, ?) WHERE number = (SELECT home FROM contexts WHERE number = ?)",
        [(span.first.ms, span.last.ms, span.segment, number) for number, span in spans.items()],
    )
    db.execute(
        "UPDATE boots SET first_ms = min(first_ms, ?), last_ms = max(last_ms, ?), last_segment = ?"
        " WHERE number = ?",
        (
            min(first for first, _ in times),
            max(last for _, last in times),
            max(segment.number for segment in segments),
            boot,
        ),
    )


def _put_context(db: sqlite3.Connection, boot: int, number: int, row: ContextRow, span: _Span) -> None:
    namespaces = [
        value for inum, ident in zip(row.inums, row.ids, strict=True) for value in (inum, signed(ident))
    ]
    values = (number, boot, row.cgroup, row.flags, *namespaces)
    marks = ", ".join("?" * (len(values) + 6 + len(row.born)))
    db.execute(
        f"INSERT OR REPLACE INTO contexts(number, boot, home, flags, {NAMESPACE_COLUMNS}, first_ms, first_serial,"
        f" last_ms, last_serial, last_segment, sum, {LIFE_COLUMNS}) VALUES({marks})",
        (
            *values,
            *(span.first.ms, span.first.serial, span.last.ms, span.last.serial, span.segment),
            context_sum(values, row.born),
            *row.born,
        ),
    )


def _put_cgroup(db: sqlite3.Connection, boot: int, number: int, cgroup: CgroupRow, ms: int) -> None:
    ident = signed(cgroup.id)
    db.execute(
        "INSERT OR REPLACE INTO cgroups(number, boot, id, path, said, first_ms, last_ms, last_segment, sum)"
        " VALUES(?, ?, ?, ?, ?, ?, ?, 0, ?)",
        (
            *(number, boot, ident, cgroup.path, cgroup.said, ms, ms),
            checksum(number, boot, ident, cgroup.path, cgroup.said),
        ),
    )


def _put_segment(db: sqlite3.Connection, boot: int, segment: Segment) -> tuple[int, int]:
    """Write a row; returns the first and the last time in it."""
    _breathe()
    number, entries, _ = segment
    serials, times, _ = entries
    first, last = min(times), max(times)
    content = pack(entries, first)
    _breathe()
    values = (number, boot, serials[0], serials[-1], first, last, len(serials))
    db.execute(
        "INSERT OR REPLACE INTO segments(number, boot, first_serial, last_serial, first_ms, last_ms, events, sum,"
        " content) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*values, checksum(*values, content), content),
    )
    return first, last


def _spans(segments: list[Segment]) -> dict[int, _Span]:
    spans: dict[int, _Span] = {}
    for segment in segments:
        serials, times, contexts = segment.fresh
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for at, context in enumerate(contexts):
            if context not in first:
                first[context] = at
            last[context] = at
        for context, begin in first.items():
            end = last[context]
            until = Entry(serials[end], times[end], context)
            span = spans.get(context)
            if span is None:
                spans[context] = _Span(Entry(serials[begin], times[begin], context), until, segment.number)
            else:
                spans[context] = _Span(span.first, until, max(span.segment, segment.number))
    return spans
