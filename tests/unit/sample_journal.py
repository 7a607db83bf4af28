# SPDX-License-Identifier: Apache-2.0
"""A journal in a directory of its own, with a clock that tests move, and what was put into it.

Never more than a few events of a few contexts: how it grows is for the tests that ask.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from enricher import journalformat
from enricher.clock import TurnClock
from enricher.correlate.lives import Lives
from enricher.enrich.cgroups import CgroupTable
from enricher.journalformat import NAME
from enricher.model import (
    KINDS,
    Answer,
    Batch,
    CgroupChange,
    CgroupOp,
    Context,
    Event,
    HostFacts,
    Recalled,
)
from enricher.sinks.aside import Aside
from enricher.sinks.journal import FLUSH_EVERY, Journal
from enricher.sources.journal import JournalReader
from tests.unit.sample_events import BOX_INUMS, EXEC, HOST, HOST_INUMS, context, event

WALL = 1772366450.0
NEXT_BOOT = HOST._replace(boot_id="7d0a5b1e-33c4-4d1f-8f7e-0a1b2c3d4e5f")
BOX_PATH = b"/system.slice/docker-" + b"ab" * 32 + b".scope"
BOX = context(inums=BOX_INUMS, ids=(0, 0, 0, 1 << 63, *(0,) * 6), cgroup_id=(1 << 63) + 7)
DAEMON = context(cgroup_id=7312)
SIZE = 256 << 20


def stamp(serial: int, ms: int = 1772366400_042) -> bytes:
    return b"%d.%03d:%d" % (*divmod(ms, 1000), serial)


def of(serial: int, in_context: Context | None = DAEMON, ms: int = 1772366400_042) -> Event:
    """An event with a context, as the join makes it."""
    made = event(EXEC[0], stamp=stamp(serial, ms))
    made.context = in_context
    return made


def told(*changes: CgroupChange, wall: float = WALL) -> Batch:
    return Batch([], [], [], parked=False, now=0.0, wall=wall, cgroups=changes)


class Kept:
    """The journal of a run in `directory`."""

    def __init__(
        self,
        directory: Path,
        facts: HostFacts = HOST,
        *,
        size: int = SIZE,
        age: float = 30 * 86_400.0,
        aside: Aside | None = None,
    ) -> None:
        self._aside = aside
        self.path = directory / NAME
        self.clock = TurnClock()
        self.clock.now = 1000.0
        self.cgroups = CgroupTable()
        self.lives = Lives()
        self.said: list[str] = []
        self.journal = Journal(
            str(directory),
            facts,
            self.cgroups,
            self.clock,
            self.said.append,
            lives=self.lives,
            max_size=size,
            max_age=age,
            aside=aside,
        )
        self.learn(
            CgroupChange(BOX.cgroup_id, CgroupOp.MADE, BOX_PATH, 0),
            CgroupChange(DAEMON.cgroup_id, CgroupOp.FOUND, b"/system.slice/sshd.service", 0),
        )

    def learn(self, *changes: CgroupChange, answers: Sequence[Answer] = ()) -> None:
        batch = told(*changes)._replace(answers=answers)
        self.cgroups.learn(batch)
        self.journal.learn(batch)

    def write(self, *events: Event, wall: float = WALL) -> None:
        """Take events and write them at once."""
        self.journal.take(list(events))
        self.journal.flush(wall)

    def later(self) -> None:
        self.clock.now += FLUSH_EVERY

    def close(self) -> None:
        self.journal.close(WALL)
        if self._aside is not None:
            self._aside.close()


NOBODY: tuple[int | None, ...] = (None,) * len(KINDS)


def expected(
    made: Context, path: bytes, host: HostFacts = HOST, born: tuple[int | None, ...] = NOBODY
) -> Recalled:
    """What a reader must say of an event with this context; the key is its own business."""
    return Recalled(host, made.flags & 32, made.cgroup_id, path, None, made.inums, made.ids, b"", born)


def of_version_1(path: Path) -> None:
    """Make a journal, of which no life is known, what a program of before wrote: other tables, the same rows."""
    old = path.with_name("old")
    with closing(sqlite3.connect(old, isolation_level=None)) as db:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        for statement in journalformat._TABLES_1:
            db.execute(statement)
        db.execute("ATTACH ? AS fresh", (str(path),))
        for table in ("boots", "cgroups", "contexts", "segments"):
            columns = ", ".join(row[1] for row in db.execute(f"PRAGMA main.table_info({table})").fetchall())
            db.execute(f"INSERT INTO main.{table}({columns}) SELECT {columns} FROM fresh.{table}")  # noqa: S608
        db.execute("DETACH fresh")
        db.execute(f"PRAGMA application_id = {journalformat.APPLICATION_ID}")
        db.execute("PRAGMA user_version = 1")
    for beside in ("-wal", "-shm"):
        Path(f"{path}{beside}").unlink(missing_ok=True)
    old.replace(path)


def read(path: Path, *stamps: bytes, node: bytes = b"") -> list[Recalled | str]:
    """What the file says of each stamp."""
    reader = JournalReader(str(path))
    try:
        return [_plain(reader.find(each, node)) for each in stamps]
    finally:
        reader.close()


def _plain(found: Recalled | str) -> Recalled | str:
    return found if isinstance(found, str) else found._replace(key=b"")


def serials(path: Path, wanted: Sequence[int], ms: int = 1772366400_042) -> list[int]:
    """Those of the serials that the file has."""
    found = read(path, *(stamp(serial, ms) for serial in wanted))
    return [serial for serial, each in zip(wanted, found, strict=True) if not isinstance(each, str)]


__all__ = ["BOX", "BOX_PATH", "DAEMON", "HOST_INUMS", "NEXT_BOOT", "SIZE", "WALL", "Kept", "expected", "of"]
