# SPDX-License-Identifier: Apache-2.0
"""The journal's file: its tables, how stamps are packed into a row, and what makes a row believable.

Owns the format that `sinks.journal` writes and `sources.journal` reads. Never opens a file.

A context stands for a set of namespaces in a cgroup; a segment says which context the event of which stamp had. All
stamps of a segment have serials of one `BLOCK`, so that one look into an index finds every segment that can hold a
serial, whatever order events were finished in and wherever serials wrap.

SQLite has no checksum of its own: a flipped bit in an inum would be another inum. Each row has one over everything
that is believed of it, its own number included. It tells damage, not malice.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher import scan
from enricher.model import KINDS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

NAME: Final = "journal.sqlite"
APPLICATION_ID: Final = 0x41454A31
VERSION: Final = 2
READABLE: Final = (1, VERSION)
"""Version 1 has no lives of namespaces."""
BLOCK_BITS: Final = 12
BLOCK: Final = 1 << BLOCK_BITS
"""Serials of which one segment can hold stamps."""
SEGMENT_MAX: Final = 2 * BLOCK
"""Stamps in a segment: the same serial may come with several times."""
SERIALS: Final = 1 << 32

_NAMESPACES: Final = ", ".join(f"{kind} INTEGER NOT NULL, {kind}_id INTEGER NOT NULL" for kind in KINDS)
NAMESPACE_COLUMNS: Final = ", ".join(f"{kind}, {kind}_id" for kind in KINDS)

_LIVES: Final = tuple(f"{kind}_life INTEGER" for kind in KINDS)
LIFE_COLUMNS: Final = ", ".join(f"{kind}_life" for kind in KINDS)

_TABLES_1: Final = (
    (
        "CREATE TABLE boots(number INTEGER PRIMARY KEY AUTOINCREMENT, boot_id TEXT NOT NULL, name TEXT NOT NULL,"
        " machine_id TEXT NOT NULL, ns_dev TEXT NOT NULL, initial BLOB NOT NULL, first_ms INTEGER NOT NULL,"
        " last_ms INTEGER NOT NULL, last_segment INTEGER NOT NULL, sum INTEGER NOT NULL)"
    ),
    (
        "CREATE TABLE cgroups(number INTEGER PRIMARY KEY AUTOINCREMENT, boot INTEGER NOT NULL, id INTEGER NOT NULL,"
        " path BLOB NOT NULL, said TEXT, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, removed_ms INTEGER,"
        " last_segment INTEGER NOT NULL, sum INTEGER NOT NULL)"
    ),
    (
        "CREATE TABLE contexts(number INTEGER PRIMARY KEY AUTOINCREMENT, boot INTEGER NOT NULL,"
        f" home INTEGER NOT NULL, flags INTEGER NOT NULL, {_NAMESPACES}, first_ms INTEGER NOT NULL,"
        " first_serial INTEGER NOT NULL, last_ms INTEGER NOT NULL, last_serial INTEGER NOT NULL,"
        " last_segment INTEGER NOT NULL, sum INTEGER NOT NULL)"
    ),
    (
        "CREATE TABLE segments(number INTEGER PRIMARY KEY AUTOINCREMENT, boot INTEGER NOT NULL,"
        " first_serial INTEGER NOT NULL, last_serial INTEGER NOT NULL, first_ms INTEGER NOT NULL,"
        " last_ms INTEGER NOT NULL, events INTEGER NOT NULL, sum INTEGER NOT NULL, content BLOB NOT NULL)"
    ),
    "CREATE INDEX segments_by_serial ON segments(first_serial, first_ms, last_ms)",
    "CREATE INDEX segments_by_time ON segments(last_ms, events)",
    "CREATE INDEX contexts_by_use ON contexts(last_segment)",
    "CREATE INDEX cgroups_by_use ON cgroups(last_segment)",
)
UPGRADE: Final = tuple(f"ALTER TABLE contexts ADD COLUMN {column}" for column in _LIVES)
"""What makes a file of version 1 one of version 2. What a program wrote that did not know lives has none."""

TABLES: Final = tuple(
    statement[:-1]
    + "".join(f", {column}" for column in _LIVES)
    + ")"  # as UPGRADE leaves it behind, to the letter
    if statement.startswith("CREATE TABLE contexts(")
    else statement
    for statement in _TABLES_1
)
"""Times are milliseconds since the epoch. ``last_segment`` is the newest one that refers to the row: when all that are
left are newer, nothing does. ``said`` is what a runtime said of the container, as JSON; ``removed_ms`` is when the
cgroup went, null where that was not seen. 64-bit ids stand as two's complement. A ``KIND_life`` is nanoseconds since
boot, as in `correlate.lives`: null where it was not known when the context was met, and where the id is the life."""


class Damaged(ValueError):
    """A value is not what was written, or never was one of ours."""


class Entry(NamedTuple):
    """One event: its stamp in numbers, and its context's number."""

    serial: int
    ms: int
    context: int


class Columns(NamedTuple):
    """Entries, each member in a list of its own: no object for an entry. A segment's are sorted by serial."""

    serials: list[int]
    times: list[int]
    contexts: list[int]


# -- numbers -----------------------------------------------------------------------------------------

_ZERO, _DOT, _COLON = 0x30, 0x2E, 0x3A
_SERIALS: Final = SERIALS


def numbers_of(stamp: bytes) -> tuple[int, int] | None:
    """Return a stamp's serial and milliseconds since the epoch; None where the kernel would not write it so."""
    # By place, for each event: a pattern with its groups takes several times as long, and makes an object of each.
    data, size = stamp, len(stamp)
    dot = scan.digits(data, 0, size)
    colon = scan.digits(data, dot + 1, size)
    begin = colon + 1
    if not 1 <= dot <= 12 or colon != dot + 4 or not 1 <= size - begin <= 10:  # noqa: PLR2004 - digits
        return None
    if data[dot] != _DOT or data[colon] != _COLON or scan.digits(data, begin, size) != size:
        return None
    if (data[0] == _ZERO and dot > 1) or (data[begin] == _ZERO and size - begin > 1):
        return None
    serial = scan.number(data, begin, size)
    if serial >= _SERIALS:
        return None
    return serial, 1000 * scan.number(data, 0, dot) + scan.number(data, dot + 1, colon)


def signed(number: int) -> int:
    """Return a number of 64 bits as SQLite can hold it."""
    return number - (1 << 64) if number >> 63 else number


def unsigned(number: int) -> int:
    """Undo `signed`."""
    return number & ((1 << 64) - 1)


def checksum(*values: object) -> int:
    """Return the checksum of a row's values: int, bytes, str and None."""
    return zlib.crc32(repr(values).encode("utf-8", "backslashreplace"))


def context_sum(values: Sequence[int], born: Sequence[int | None]) -> int:
    """Return the checksum of a context's row; where no life is known that of version 1."""
    return checksum(*values, *(born if any(life is not None for life in born) else ()))


def packed_inums(inums: Sequence[int]) -> bytes:
    """Return inums in the order of `KINDS`, four bytes each."""
    return b"".join(inum.to_bytes(4, "little") for inum in inums)


def unpacked_inums(content: bytes) -> tuple[int, ...]:
    """Undo `packed_inums`. Raises Damaged."""
    if len(content) != 4 * len(KINDS):
        raise Damaged("not ten inums")
    return tuple(int.from_bytes(content[at : at + 4], "little") for at in range(0, len(content), 4))


# -- segments ----------------------------------------------------------------------------------------

_CODES: Final = {array(code).itemsize: code for code in "BHIQ"}
_COLUMNS: Final = 4
_HEAD: Final = _COLUMNS + 2
_LARGEST: Final = _HEAD + SEGMENT_MAX * (8 + 8 + 8 + 8)


def _column(values: list[int]) -> tuple[int, bytes]:
    """Return the bytes of one number, and those of all."""
    most = max(values, default=0)
    width = next(width for width in sorted(_CODES) if most < 1 << 8 * width)
    if width == 1:
        return 1, bytes(values)
    column = array(_CODES[width], values)
    if sys.byteorder == "big":
        column.byteswap()
    return width, column.tobytes()


def _steps(serials: list[int]) -> list[int]:
    """Return by how much each is more than the one before it, the first one than itself."""
    made = []
    before = serials[0]
    for serial in serials:
        made.append(serial - before)
        before = serial
    return made


def _folded(times: list[int], ms: int) -> list[int]:
    """Return the change from each time to the next, as a number without a sign; the first from `ms`."""
    made = []
    before = ms
    for time in times:
        change = time - before
        before = time
        made.append(2 * change if change >= 0 else -2 * change - 1)
    return made


def _unfolded(number: int) -> int:
    """Undo `_folded`, of one."""
    return -(number + 1 >> 1) if number & 1 else number >> 1


def pack(entries: Columns, ms: int) -> bytes:
    """Pack sorted entries of one block: the steps from each to the next, and contexts by their place in a list.

    Where they begin is not in it: the first one's serial and the earliest time, `ms`, are columns of the row.
    """
    contexts = sorted(set(entries.contexts))
    place = {context: at for at, context in enumerate(contexts)}
    columns = [
        _column(_steps(entries.serials)),
        _column(_folded(entries.times, ms)),
        _column(contexts),
        _column([place[context] for context in entries.contexts]),
    ]
    widths = bytes(width for width, _ in columns)
    head = widths + len(contexts).to_bytes(2, "little")
    return zlib.compress(head + b"".join(column for _, column in columns), 6)


def unpack(content: bytes, events: int, serial: int, ms: int) -> Columns:
    """Undo `pack`, given how many there are and where they begin. Raises Damaged for all but what it made."""
    if not 0 < events <= SEGMENT_MAX:
        raise Damaged("a number of events that no segment has")
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(content, _LARGEST)
    except zlib.error as error:
        raise Damaged("a segment cannot be unpacked") from error
    if not unpacker.eof or unpacker.unused_data or len(raw) < _HEAD:
        raise Damaged("a segment is too long or too short")
    contexts = int.from_bytes(raw[_COLUMNS:_HEAD], "little")
    columns: list[array[int]] = []
    at = _HEAD
    for width, count in zip(raw[:_COLUMNS], (events, events, contexts, events), strict=True):
        if width not in _CODES or at + width * count > len(raw):
            raise Damaged("a column of a segment is too short")
        column = array(_CODES[width], raw[at : at + width * count])
        if sys.byteorder == "big":
            column.byteswap()
        columns.append(column)
        at += width * count
    if at != len(raw) or max(columns[3]) >= contexts:
        raise Damaged("the columns of a segment do not fit together")
    return Columns(
        list(accumulate(columns[0], initial=serial))[1:],
        list(accumulate(map(_unfolded, columns[1]), initial=ms))[1:],
        list(map(columns[2].__getitem__, columns[3])),
    )


# -- the file ----------------------------------------------------------------------------------------


def create(db: sqlite3.Connection) -> None:
    """Make the tables; the caller has begun a transaction. Raises sqlite3.Error."""
    for statement in TABLES:
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {VERSION}")


def upgrade(db: sqlite3.Connection) -> None:
    """Make a file of version 1 one of this version; the caller has begun a transaction. Raises sqlite3.Error."""
    for statement in UPGRADE:
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")


@cache
def _expected(version: int) -> frozenset[tuple[object, ...]]:
    tables = TABLES if version == VERSION else _TABLES_1
    return frozenset((statement.split()[1].lower(), statement) for statement in tables)


def version_of(db: sqlite3.Connection) -> int:
    """Return the version that a file says it is of. Raises sqlite3.Error."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def complaint(db: sqlite3.Connection, readable: tuple[int, ...] = (VERSION,)) -> str:
    """Return why a database is no journal of one of these versions, "" where it is one. Raises sqlite3.Error.

    Whoever wrote it could have put a view or a trigger in a table's place: nothing but our own tables is accepted.
    """
    (ident,) = db.execute("PRAGMA application_id").fetchone()
    version = version_of(db)
    if ident != APPLICATION_ID:
        return "it is another program's"
    if version not in readable:
        return f"it is of version {version}, this program's is {VERSION}"
    found = db.execute(
        "SELECT type, sql FROM sqlite_master"
        " WHERE name NOT IN ('sqlite_sequence', 'sqlite_stat1', 'sqlite_stat4') LIMIT 99"
    )
    return "" if frozenset(found.fetchall()) == _expected(version) else "its tables are not ours"


def is_empty(db: sqlite3.Connection) -> bool:
    """Whether nothing was made in it yet. Raises sqlite3.Error."""
    (ident,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return not (ident or version or db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone())
