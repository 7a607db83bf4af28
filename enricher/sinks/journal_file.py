# SPDX-License-Identifier: Apache-2.0
"""The journal's file as its only writer sees it: opened, made, moved aside, written to and kept within its bounds.

Owns the connection. Never decides when to write, and never blocks for another process: what is locked is tried again.
A write may be in another thread than the others, but not beside anything else.

What the bound is made of: the database's own pages, which `PRAGMA max_page_count` keeps SQLite itself from exceeding,
and the write-ahead log beside it, which is emptied when it reaches its share. A reader that holds a transaction open
keeps it from being emptied: then nothing is written until it has gone.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.journalformat import (
    READABLE,
    VERSION,
    checksum,
    complaint,
    create,
    is_empty,
    packed_inums,
    upgrade,
    version_of,
)
from enricher.sinks.journal_rows import Segment, draft_of, put, segments_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from enricher.journalformat import Columns
    from enricher.model import HostFacts
    from enricher.sinks.journal_rows import Draft, Waiting

PAGE: Final = 4096
ASIDE_MAX: Final = 3
"""Files that were moved aside and are kept."""

_LOG_SHARE: Final = 4 << 20  # bytes; less where the bound is small
_MARGIN: Final = 16  # pages that a transaction may take beyond what was counted
_ROUNDS: Final = 64  # segments that one transaction lets go for want of room
_AGED: Final = 64  # segments too old at a time
_VACUUM: Final = 256  # pages given back at a time

_PASSING: Final = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}
"""What the file is not to blame for."""


class Unfit(Exception):
    """What is there is no journal that can be gone on with; the message says why."""


class LogHeld(OSError):
    """Another process reads, and keeps the write-ahead log from being emptied."""


class Gone(NamedTuple):
    """Numbers of rows that went: who remembers one must not use it again."""

    contexts: set[int]
    cgroups: set[int]


def is_damage(error: Exception) -> bool:
    """Whether the file is not what it should be, rather than not to be had now."""
    if isinstance(error, Unfit | UnicodeError):  # the second where SQLite's message quotes bytes of the file
        return True
    if not isinstance(error, sqlite3.Error):
        return False
    # It has none where the module itself complains, of a text that is none.
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF not in _PASSING


class JournalFile:
    """Opening raises sqlite3.Error, OSError or Unfit; so does everything else. After Unfit or damage: `set_aside`.

    ``events`` in the file, of which the oldest began at ``oldest_ms``, milliseconds since the epoch, None without any
    or where that cannot be told: both as of the last write, to be read by any thread. ``next_cgroup``, ``next_context``
    are the first numbers that nothing in it had.
    """

    def __init__(self, path: str, facts: HostFacts, max_size: int, max_age: float) -> None:
        self.path = path
        self._facts = facts
        self._max_age_ms = int(max_age * 1000)
        self._log_share = min(_LOG_SHARE, max_size // 8)
        self._max_pages = max(64, (max_size - 2 * self._log_share - (64 << 10)) // PAGE)
        self._margin = _MARGIN
        self._boot = 0  # its row's number, 0 as long as it has none
        self._gone = Gone(set(), set())
        self._open: Segment | None = None  # the newest; it is written anew until its block is full
        self._db = self._connect()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    # -- opening -------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        path = Path(self.path)
        try:
            found = path.lstat()
        except FileNotFoundError:
            for beside in ("-wal", "-shm"):  # of a file that is gone
                Path(self.path + beside).unlink(missing_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(path, flags, 0o640)
            try:
                os.fchmod(fd, 0o640)  # SQLite gives the files beside it the same
            finally:
                os.close(fd)
        else:
            if not stat.S_ISREG(found.st_mode):
                raise Unfit("it is not a file")
        db = sqlite3.connect(self.path, timeout=0.0, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA trusted_schema = OFF")
        return db

    def _begin(self) -> None:
        db = self._db
        db.execute("PRAGMA cell_size_check = ON")
        if is_empty(db):
            db.execute(f"PRAGMA page_size = {PAGE}")
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN IMMEDIATE")
            create(db)
            db.execute("COMMIT")
        elif why := complaint(db, READABLE):
            raise Unfit(why)
        elif version_of(db) < VERSION:
            self._upgrade()
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {max(16, self._log_share // PAGE // 2)}")
        db.execute(f"PRAGMA journal_size_limit = {self._log_share}")
        db.execute(f"PRAGMA max_page_count = {self._max_pages}")
        # A number is never used again, or a reader that is at work might take one row for another.
        seen = dict(db.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
        numbers = [
            1 + max(_whole(seen.get(name, 0)), self._one(f"SELECT ifnull(max(number), 0) FROM {name}"))  # noqa: S608 - a constant
            for name in ("boots", "cgroups", "contexts", "segments")
        ]
        self._next_boot, self.next_cgroup, self.next_context, self._next_segment = numbers
        if self._pages() > self._max_pages:
            self._shrink()
        self.events = self._one("SELECT ifnull(sum(events), 0) FROM segments")
        self.oldest_ms = self._oldest()

    def _upgrade(self) -> None:
        """Go on with what the version before has written."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            upgrade(db)
            why = complaint(db)
            db.execute("ROLLBACK" if why else "COMMIT")
        except BaseException:
            self._roll_back()
            raise
        if why:
            raise Unfit(why)

    def _shrink(self) -> None:
        """Come down to a bound that is lower than that of the run before."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            while self._used() + self._margin > self._max_pages and self._drop_oldest():
                self._drop_unused()
            db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self._give_back(self._pages())
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        db.execute(f"PRAGMA max_page_count = {self._max_pages}")

    def close(self) -> None:
        """Close it; the write-ahead log is taken in. Raises nothing."""
        with suppress(sqlite3.Error):
            self._db.close()

    # -- writing -------------------------------------------------------------------------------------

    def write_all(self, waiting: Waiting, wall_ms: int) -> Gone:
        """Write what waits, or nothing of it; returns what is not in the file, whether it was or only waited."""
        draft = draft_of(waiting)
        gone = Gone(set(), set())
        if draft.entries.serials or draft.removed:
            gone = self.write(draft, wall_ms)
        return Gone(
            gone.contexts | (waiting.contexts.keys() - draft.contexts.keys()),
            gone.cgroups | (waiting.cgroups.keys() - draft.cgroups.keys()),
        )

    def write(self, draft: Draft, wall_ms: int) -> Gone:
        """Write all of it or nothing. The entries are sorted, and there are some, or removed cgroups."""
        self._empty_log()
        db = self._db
        self._gone = Gone(set(), set())
        db.execute("BEGIN IMMEDIATE")
        try:
            self._mark(draft)
            dropped = self._trim(draft, wall_ms)
            segments = segments_for(draft.entries, self._open, self._next_segment)
            if segments:
                put(db, self._boot_row(draft.entries), draft, segments)
            db.executemany(
                "UPDATE cgroups SET removed_ms = ? WHERE number = ? AND removed_ms IS NULL",
                [(when, number) for number, when in draft.removed.items()],
            )
            db.execute("COMMIT")
        except BaseException as error:
            self._roll_back()
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                if self._margin >= self._max_pages // 4:
                    self._open = None  # what is left is its own: it may go like the others
                self._margin = min(2 * self._margin, self._max_pages // 4)
            raise
        self._margin = _MARGIN
        self.events += len(draft.entries.serials) - dropped
        if segments:
            self._open = segments[-1]  # of the highest serials: it is the one that grows
            self._next_segment = max(self._next_segment, *(segment.number + 1 for segment in segments))
        self.oldest_ms = self._oldest()
        with suppress(sqlite3.Error, OSError):  # all is written: this is another time's matter
            if self._pages() > self._max_pages:
                self._give_back(_VACUUM)
            self._empty_log()
        return self._gone

    def _roll_back(self) -> None:
        self._boot = 0 if self._boot == self._next_boot - 1 else self._boot  # it may have gone with the rest
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _boot_row(self, entries: Columns) -> int:
        """Return this boot's number; a row is made with the first event, and again where a fact has changed."""
        if self._boot:
            return self._boot
        facts = self._facts
        initial = packed_inums(facts.initial)
        said = [text.encode("utf-8", "replace").decode() for text in (facts.boot_id, facts.name)]
        values = (*said, facts.machine_id, facts.ns_dev, initial)
        found = self._db.execute(
            "SELECT number FROM boots WHERE boot_id = ? AND name = ? AND machine_id = ? AND ns_dev = ?"
            " AND initial = ? ORDER BY number DESC LIMIT 1",
            values,
        ).fetchone()
        if found is None:
            number = self._next_boot
            self._next_boot += 1
            self._db.execute(
                "INSERT INTO boots(number, boot_id, name, machine_id, ns_dev, initial, first_ms, last_ms,"
                " last_segment, sum) VALUES(?, ?, ?, ?, ?, ?, ?, ?, 0, ?)",
                (number, *values, entries.times[0], entries.times[0], checksum(number, *values)),
            )
            found = (number,)
        self._boot = found[0]
        return self._boot

    # -- bounds --------------------------------------------------------------------------------------

    def _one(self, query: str) -> int:
        """Return the whole number that a query comes to."""
        return _whole(self._db.execute(query).fetchone()[0])

    def _pages(self) -> int:
        return self._one("PRAGMA page_count")

    def _used(self) -> int:
        return self._pages() - self._one("PRAGMA freelist_count")

    def _give_back(self, pages: int) -> None:
        """Make the file smaller by free pages."""
        # Not by execute(): it takes one step, and here that is one page.
        self._db.executescript(f"PRAGMA incremental_vacuum({pages})")

    def _mark(self, draft: Draft) -> None:
        """Keep what this transaction will refer to from going for want of room."""
        used = set(draft.entries.contexts)
        self._db.executemany(
            "UPDATE contexts SET last_segment = ? WHERE number = ?",
            [(self._next_segment, number) for number in used],
        )
        self._db.executemany(
            "UPDATE cgroups SET last_segment = ? WHERE number = (SELECT home FROM contexts WHERE number = ?)",
            [(self._next_segment, number) for number in used],
        )
        self._db.executemany(
            "UPDATE cgroups SET last_segment = ? WHERE number = ?",
            [(self._next_segment, row.cgroup) for row in draft.contexts.values()],
        )

    def _trim(self, draft: Draft, wall_ms: int) -> int:
        """Make room and let go what is too old; returns how many events went."""
        paths = sum(len(row.path) + len(row.said or "") + 256 for row in draft.cgroups.values())
        size = paths + 416 * len(draft.contexts) + 24 * len(draft.entries.serials)
        limit = self._max_pages - size // PAGE * 2 - self._margin
        opened = self._open.number if self._open else 0
        old = self._db.execute(
            "SELECT number, events FROM segments WHERE last_ms < ? AND number <> ? ORDER BY last_ms LIMIT ?",
            (wall_ms - self._max_age_ms, opened, _AGED),
        ).fetchall()
        dropped = self._drop(old)
        for _ in range(_ROUNDS):
            if self._used() <= limit:
                break
            oldest = self._drop_oldest()
            dropped += oldest
            if not oldest:
                break
            self._drop_unused()
        if old:
            self._drop_unused()
        return dropped

    def _drop_oldest(self) -> int:
        opened = self._open.number if self._open else 0
        return self._drop(
            self._db.execute(
                "SELECT number, events FROM segments WHERE number <> ? ORDER BY number LIMIT 1",
                (opened,),
            ).fetchall()
        )

    def _drop(self, segments: Iterable[tuple[int, int]]) -> int:
        listed = list(segments)
        self._db.executemany("DELETE FROM segments WHERE number = ?", [(number,) for number, _ in listed])
        return sum(_whole(events) for _, events in listed)

    def _drop_unused(self) -> None:
        """Let go what no segment refers to any more."""
        oldest = self._one(f"SELECT ifnull(min(number), {self._next_segment}) FROM segments")  # noqa: S608 - a number
        for table, gone in zip(("contexts", "cgroups"), self._gone, strict=True):
            found = self._db.execute(f"SELECT number FROM {table} WHERE last_segment < ?", (oldest,))  # noqa: S608 - a constant
            gone.update(number for (number,) in found.fetchall())
            self._db.execute(f"DELETE FROM {table} WHERE last_segment < ?", (oldest,))  # noqa: S608 - as above
        self._db.execute("DELETE FROM boots WHERE last_segment < ? AND number <> ?", (oldest, self._boot))

    def _empty_log(self) -> None:
        log = Path(self.path + "-wal")
        for last in (False, True):
            try:
                size = log.stat().st_size
            except FileNotFoundError:
                return
            if size <= self._log_share:
                return
            if last:
                raise LogHeld("another program reads it and keeps its write-ahead log from being emptied")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    # -- what is told --------------------------------------------------------------------------------

    def _oldest(self) -> int | None:
        with suppress(sqlite3.Error, Unfit):  # the next write tells it
            found = self._db.execute("SELECT first_ms FROM segments ORDER BY number LIMIT 1").fetchone()
            return _whole(found[0]) if found else None
        return None


def _whole(value: object) -> int:
    """Return what should be a whole number. Raises Unfit."""
    if type(value) is not int:
        raise Unfit("a value in it is no number")
    return value


def set_aside(path: str, say: Callable[[str], None], why: str) -> None:
    """Move a file and what belongs to it out of the way. Raises OSError."""
    for number in range(ASIDE_MAX, 0, -1):
        newer = f"{path}.damaged-{number - 1}" if number > 1 else path
        for beside in ("", "-wal"):
            with suppress(FileNotFoundError):
                Path(newer + beside).rename(f"{path}.damaged-{number}{beside}")
    Path(path + "-shm").unlink(missing_ok=True)
    say(f"{path} cannot be used: {why}; it is {path}.damaged-1 now, and a new one is begun")
