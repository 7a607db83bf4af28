# SPDX-License-Identifier: Apache-2.0
"""The journal is written beside the loop: what that takes, what comes meanwhile, and how it can go wrong."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, get_ident
from typing import Any

import pytest

from enricher.journalformat import NAME
from enricher.model import CgroupChange, CgroupOp
from enricher.sinks import journal as module
from enricher.sinks.aside import Aside
from enricher.sinks.journal import FLUSH_AT, TAKE_IN
from enricher.sinks.journal_file import Gone, JournalFile
from tests.unit.sample_events import context
from tests.unit.sample_journal import BOX, BOX_PATH, DAEMON, WALL, Kept, of, read, serials, stamp

LATER = context(cgroup_id=7313, inums=[4026532999] * 10)
INNER = context(cgroup_id=BOX.cgroup_id, inums=[4026532998] * 10)  # a new context of a cgroup that is known


class Slow:
    """Writes that begin when they are let, in the thread that they are given to; `fail` is raised instead, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.let = Event()
        self.fail: Exception | None = None
        self.threads: list[int] = []
        self.under_way = self.most = 0
        self.wait = True
        real = JournalFile.write_all

        def write(file: JournalFile, *rest: Any) -> Gone:  # noqa: ANN401
            self.threads.append(get_ident())
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            try:
                if self.wait:
                    assert self.let.wait(30)
                error, self.fail = self.fail, None
                if error is not None:
                    raise error
                return real(file, *rest)
            finally:
                self.under_way -= 1

        monkeypatch.setattr(JournalFile, "write_all", write)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    return Slow(monkeypatch)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path, aside=Aside("journal"))
    yield made
    made.close()


def over(made: Kept) -> bool:
    """Wait until the write is over and have it taken in; returns whether another one is due."""
    task = made.journal._task
    assert task is not None
    task._over.wait(30)
    return made.journal.due(made.clock.now)


def begin(made: Kept, *events: Any) -> None:  # noqa: ANN401
    made.journal.take(list(events))
    made.journal.begin(WALL)


def test_the_loop_goes_on_while_it_is_written(kept: Kept, slow: Slow) -> None:
    begin(kept, of(1), of(2, BOX))
    kept.journal.take([of(3), of(4, LATER)])
    kept.later()
    assert not kept.journal.due(kept.clock.now), "one write at a time"
    assert kept.journal.patience == TAKE_IN
    assert kept.journal.facts()["waiting"] == 4
    slow.let.set()
    assert over(kept)
    assert serials(kept.path, range(1, 5)) == [1, 2]
    begin(kept)
    over(kept)
    assert serials(kept.path, range(1, 5)) == [1, 2, 3, 4]
    assert get_ident() not in slow.threads
    facts = kept.journal.facts()
    assert (facts["waiting"], facts["lost"], facts["events"]) == (0, 0, 4)


def test_two_writes_never_overlap(kept: Kept, slow: Slow) -> None:
    begin(kept, of(1))
    for serial in range(2, 5):
        begin(kept, of(serial))
    slow.let.set()
    kept.journal.flush(WALL)  # it waits for the one that is under way
    assert slow.most == 1
    assert len(slow.threads) == 2
    assert serials(kept.path, range(1, 5)) == [1, 2, 3, 4]


def test_the_end_waits_for_it(tmp_path: Path, slow: Slow) -> None:
    made = Kept(tmp_path, aside=Aside("journal"))
    begin(made, of(1))
    made.journal.take([of(2)])
    slow.let.set()
    made.close()
    assert serials(made.path, [1, 2]) == [1, 2]


@pytest.mark.parametrize("damage", [False, True])
def test_what_goes_wrong_beside_the_loop_is_told_in_it(kept: Kept, slow: Slow, *, damage: bool) -> None:
    slow.fail = sqlite3.DatabaseError("bits") if damage else OSError(28, "No space left on device")
    begin(kept, of(1), of(2, BOX))
    kept.journal.take([of(3), of(4, LATER)])
    slow.let.set()
    assert kept.journal.failed == 0
    assert not over(kept)
    facts = kept.journal.facts()
    assert facts["failed"] == 1
    if damage:
        assert facts["lost"] == 4, "their numbers are of the file that was set aside"
        assert "it is" in kept.said[-1]
        return
    assert "No space left on device" in kept.said[-1]
    assert (facts["waiting"], facts["lost"], facts["error"]) == (4, 0, "No space left on device")
    kept.later()
    assert kept.journal.due(kept.clock.now)
    begin(kept)
    over(kept)
    assert serials(kept.path, range(1, 5)) == [1, 2, 3, 4]
    assert "can be written again" in kept.said[-1]


def test_memory_is_bounded_while_a_disk_hangs(
    kept: Kept, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELD_MAX", 10)
    begin(kept, *map(of, range(1, 7)))
    kept.journal.take([of(serial) for serial in range(7, 20)])
    assert kept.journal.facts()["waiting"] == 10
    assert kept.journal.lost == 9
    slow.fail = OSError(5, "Input/output error")
    slow.let.set()
    over(kept)
    assert (kept.journal.facts()["waiting"], kept.journal.lost) == (10, 9)
    kept.journal.flush(WALL)
    assert serials(kept.path, range(1, 20)) == [*range(1, 7), *range(16, 20)]


@pytest.mark.parametrize(
    "gone", [lambda numbers: Gone(numbers, set()), lambda numbers: Gone(numbers, {1, 2, 3}), lambda _: None]
)
def test_a_row_that_went_meanwhile_is_made_anew(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, gone: Callable[[set[int]], Gone | None]
) -> None:
    """The bound or its age takes a context out of the file just as an event has it again."""
    kept.learn(CgroupChange(LATER.cgroup_id, CgroupOp.MADE, b"/system.slice/x.service", 0))
    kept.write(of(1, BOX), of(2))
    let, real = Event(), JournalFile.write_all

    def write(file: JournalFile, *rest: Any) -> Gone:  # noqa: ANN401
        assert let.wait(30)
        done = real(file, *rest)
        numbers = {number for number, *_ in file._db.execute("SELECT number FROM contexts").fetchall()}
        went = gone(numbers)
        if went is None:
            return done
        for table, each in zip(("contexts", "cgroups"), went, strict=True):
            file._db.executemany(f"DELETE FROM {table} WHERE number = ?", [(number,) for number in each])  # noqa: S608
        return Gone(done.contexts | went.contexts, done.cgroups | went.cgroups)

    monkeypatch.setattr(JournalFile, "write_all", write)
    begin(kept, of(3))
    kept.journal.take([of(4, BOX), of(5, LATER), of(6, INNER), of(7)])
    let.set()
    over(kept)
    monkeypatch.setattr(JournalFile, "write_all", real)
    kept.journal.flush(WALL)
    found = read(kept.path, *(stamp(serial) for serial in range(4, 8)))
    assert [isinstance(each, str) for each in found] == [False] * 4, found
    assert [(each.cgroup_path, each.inums) for each in found if not isinstance(each, str)] == [
        (BOX_PATH, BOX.inums),
        (b"/system.slice/x.service", LATER.inums),
        (BOX_PATH, INNER.inums),
        (b"/system.slice/sshd.service", DAEMON.inums),
    ]
    assert kept.journal.lost == 0
    assert kept.journal._fresh_size == 0


def test_a_burst_is_due_while_another_is_written_as_soon_as_that_is_over(kept: Kept, slow: Slow) -> None:
    begin(kept, of(1))
    kept.journal.take([of(serial) for serial in range(2, 2 + FLUSH_AT)])
    assert not kept.journal.due(kept.clock.now)
    slow.let.set()
    assert over(kept)


_CHILD = """
import sys
from pathlib import Path
from tests.unit.sample_journal import BOX, Kept, of
made = Kept(Path(sys.argv[1]))
for serial in range(1, 1 << 30):
    made.write(of(serial, BOX))
    print(serial, flush=True)
"""
_CHILD_ASIDE = """
import sys
from pathlib import Path
from enricher.sinks.aside import Aside
from tests.unit.sample_journal import BOX, WALL, Kept, of
made = Kept(Path(sys.argv[1]), aside=Aside("journal"))
journal = made.journal
for serial in range(1, 1 << 30):
    journal.take([of(serial, BOX)])
    journal.begin(WALL)
    journal._task.result()
    journal.due(made.clock.now)
    print(serial, flush=True)
"""


@pytest.mark.parametrize("program", [_CHILD, _CHILD_ASIDE], ids=["by the loop", "beside it"])
def test_what_was_written_outlives_a_kill(tmp_path: Path, program: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 300:
            child.kill()  # it is writing the next ones meanwhile
            break
    written = 300 + len(child.stdout.read().split())
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    copy = tmp_path / "copy"
    copy.mkdir()
    for beside in ("", "-wal"):
        shutil.copy(f"{tmp_path / NAME}{beside}", copy)
    assert serials(copy / NAME, range(1, written + 1)) == list(range(1, written + 1))
    again = Kept(tmp_path)
    assert again.said == []
    again.write(of(1 << 20))
    again.close()
    assert serials(again.path, [1, written, 1 << 20]) == [1, written, 1 << 20]
