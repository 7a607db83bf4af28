# SPDX-License-Identifier: Apache-2.0
"""What goes into the journal's tables, row by row: contexts, cgroups, and segments with their stamps.

Owns the statements that write them, in a transaction that the caller has begun. Never decides what is kept for how
long, and never opens a file.
"""

from __future__ import annotations

import time
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.journalformat import (
    BLOCK_BITS,
    LIFE_COLUMNS,
    NAMESPACE_COLUMNS,
    SEGMENT_MAX,
    Entry,
    checksum,
    context_sum,
    numbers_of,
    pack,
    signed,
)

if TYPE_CHECKING:
    import sqlite3


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


_PIECE: Final = 128
"""Events after which the loop may have its turn: all is written beside it, and Python runs in one of both at a time."""
_BREATH: Final = 0.0005
"""Seconds for it."""
GROWN_MAX: Final = 512
"""Entries of a row that is not written anew any more: what it has by then would be packed again with each write."""


class Waiting(NamedTuple):
    """What is to be written: stamps with the numbers of their contexts, rows by their numbers, `size` bytes of them.

    ``removed`` has the times at which cgroups went, in milliseconds since the epoch. Not changed while it is written.
    """

    events: list[tuple[bytes, int]]
    cgroups: dict[int, CgroupRow]
    contexts: dict[int, ContextRow]
    removed: dict[int, int]
    size: int


class Draft(NamedTuple):
    """What one transaction writes; rows by their numbers. ``removed`` has the times at which cgroups went."""

    entries: list[Entry]
    cgroups: dict[int, CgroupRow]
    contexts: dict[int, ContextRow]
    removed: dict[int, int]


class Segment(NamedTuple):
    """A row: all its entries, and which of them are new to it."""

    number: int
    entries: list[Entry]
    fresh: list[Entry]


class _Span(NamedTuple):
    """When a context was in use, and the newest segment that says so."""

    first: Entry
    last: Entry
    segment: int


def draft_of(waiting: Waiting) -> Draft:
    """Return what of it goes into the file: what no event refers to does not."""
    new = tuple.__new__  # not Entry(): that takes twice as long
    # A dict and no set: it keeps the order in which they came, which is nearly that in which they are to be.
    entries: dict[Entry, None] = {}
    for at in range(0, len(waiting.events), _PIECE):
        for stamp, context in waiting.events[at : at + _PIECE]:
            numbers = numbers_of(stamp)
            if numbers is not None:
                entries[new(Entry, (*numbers, context))] = None
        _breathe()
    used = {context for _, context in waiting.events}
    if len(entries) < len(waiting.events):  # else each has one
        used = {entry.context for entry in entries}
    contexts = {number: row for number, row in waiting.contexts.items() if number in used}
    homes = {row.cgroup for row in contexts.values()}
    cgroups = {number: row for number, row in waiting.cgroups.items() if number in homes}
    return Draft(sorted(entries), cgroups, contexts, waiting.removed)


def _breathe() -> None:
    """Let another thread run: compiled code never does by itself, and one that only offers to is the first again."""
    time.sleep(_BREATH)


def _blocks(entries: list[Entry]) -> list[tuple[int, list[Entry]]]:
    """Return sorted entries by their blocks."""
    if entries and entries[0].serial >> BLOCK_BITS == entries[-1].serial >> BLOCK_BITS:
        return [(entries[0].serial >> BLOCK_BITS, entries)]
    blocks = groupby(entries, key=lambda entry: entry.serial >> BLOCK_BITS)
    return [(block, list(group)) for block, group in blocks]


def segments_for(entries: list[Entry], grown: Segment | None, number: int) -> list[Segment]:
    """Return the rows that hold these entries: the one that is still open, grown, and new ones from `number` on."""
    rows: list[Segment] = []
    for block, fresh in _blocks(entries):
        if (
            grown is not None
            and grown.entries[0].serial >> BLOCK_BITS == block
            and len(grown.entries) < GROWN_MAX
            and len(grown.entries) + len(fresh) <= SEGMENT_MAX
        ):
            rows.append(Segment(grown.number, sorted(grown.entries + fresh), fresh))
            continue
        for at in range(0, len(fresh), SEGMENT_MAX):
            part = fresh[at : at + SEGMENT_MAX]
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
        _put_cgroup(db, boot, number, cgroup, draft.entries[0].ms)
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
    times = [entry.ms for entry in entries]
    first, last = min(times), max(times)
    content = pack(entries, first)
    _breathe()
    values = (number, boot, entries[0].serial, entries[-1].serial, first, last, len(entries))
    db.execute(
        "INSERT OR REPLACE INTO segments(number, boot, first_serial, last_serial, first_ms, last_ms, events, sum,"
        " content) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*values, checksum(*values, content), content),
    )
    return first, last


def _spans(segments: list[Segment]) -> dict[int, _Span]:
    spans: dict[int, _Span] = {}
    for segment in segments:
        # In order: of each context the last one stays, and the first one where they are taken from the end.
        last = {entry.context: entry for entry in segment.fresh}
        for context, first in {entry.context: entry for entry in reversed(segment.fresh)}.items():
            span = spans.get(context)
            if span is None:
                spans[context] = _Span(first, last[context], segment.number)
            else:
                spans[context] = _Span(span.first, last[context], max(span.segment, segment.number))
    return spans
