# SPDX-License-Identifier: Apache-2.0
"""The journal, written and read: exact, bounded, and never in anyone's way."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enricher.enrich.cgroups import home_of
from enricher.enrich.metadata import said_from, said_text
from enricher.journalformat import BLOCK, NAME
from enricher.model import Answer, CgroupChange, CgroupOp, ContextFlag, Known, Metadata, Recalled
from enricher.sinks.journal import FLUSH_AT, FLUSH_EVERY
from enricher.sources.journal import AMBIGUOUS, ELSEWHERE, UNKNOWN, JournalReader
from tests.unit.sample_events import EXEC, HOST, context, event
from tests.unit.sample_journal import (
    BOX,
    BOX_PATH,
    DAEMON,
    NEXT_BOOT,
    SIZE,
    WALL,
    Kept,
    expected,
    of,
    read,
    serials,
    stamp,
)

MS = 1772366400_042
SSHD = b"/system.slice/sshd.service"


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


# -- exact -------------------------------------------------------------------------------------------


def test_what_was_written_is_found_and_nothing_else(kept: Kept) -> None:
    kept.write(of(9001), of(9002, BOX), of(9003, BOX, MS + 1))
    kept.close()
    assert read(kept.path, stamp(9001), stamp(9002), stamp(9003, MS + 1)) == [
        expected(DAEMON, SSHD),
        expected(BOX, BOX_PATH),
        expected(BOX, BOX_PATH),
    ]
    near = [stamp(9003), stamp(9001, MS + 1), stamp(9001, MS - 1), stamp(9004), b"1772366400.42:9001", b"x"]
    assert read(kept.path, *near) == [UNKNOWN] * len(near)
    assert kept.said == []


def test_only_what_may_stand_for_the_subject_is_kept(kept: Kept) -> None:
    bystander = context(flags=ContextFlag.INTERRUPT)
    another = event((1300, EXEC[0][1].replace(b" pid=4711", b" pid=4712")), stamp=stamp(3))
    another.context = DAEMON
    left = context(flags=ContextFlag.SUBJECT | ContextFlag.AFTER_SERVING)
    kept.write(of(1, None), of(2, bystander), another, of(4), of(5, left))
    assert serials(kept.path, range(1, 6)) == [4, 5]
    assert read(kept.path, stamp(5)) == [expected(left, SSHD)]


def test_an_event_in_parts_is_one(kept: Kept) -> None:
    again = of(9001)
    again.part = 2
    kept.write(of(9001), again)
    kept.write(again)
    assert read(kept.path, stamp(9001)) == [expected(DAEMON, SSHD)]


def test_two_boots_with_the_same_stamps(tmp_path: Path) -> None:
    """Times tell them apart; where they do not, nobody does."""
    first = Kept(tmp_path)
    first.write(of(1), of(2, BOX), of(3))
    first.close()
    second = Kept(tmp_path, NEXT_BOOT)
    second.write(of(1, DAEMON, MS + 60_000), of(2, BOX))
    second.close()
    assert read(first.path, stamp(1), stamp(1, MS + 60_000), stamp(2), stamp(3)) == [
        expected(DAEMON, SSHD),
        expected(DAEMON, SSHD, NEXT_BOOT),
        AMBIGUOUS,
        expected(DAEMON, SSHD),
    ]


def test_another_host_is_not_this_one(kept: Kept) -> None:
    kept.write(of(1))
    assert read(kept.path, stamp(1), node=b"web1") == [expected(DAEMON, SSHD)]
    assert read(kept.path, stamp(1), node=b"web2") == [ELSEWHERE]


def test_serials_wrap_and_blocks_end(kept: Kept) -> None:
    wrapped = [(1 << 32) - 2, (1 << 32) - 1, 1, 2, BLOCK - 1, BLOCK, BLOCK + 1]
    kept.write(*map(of, wrapped))
    kept.write(*(of(serial, BOX) for serial in (3, BLOCK - 2, BLOCK + 2)))
    assert serials(kept.path, wrapped) == wrapped
    assert serials(kept.path, [0, 3, 4, BLOCK - 2, BLOCK + 2]) == [3, BLOCK - 2, BLOCK + 2]


def test_a_cgroup_that_gets_another_path(kept: Kept) -> None:
    kept.write(of(1))
    kept.learn(CgroupChange(DAEMON.cgroup_id, CgroupOp.RENAMED, b"/renamed", 0))
    kept.write(of(2))
    unheard = context(cgroup_id=99)
    kept.write(of(3, unheard))
    kept.learn(CgroupChange(99, CgroupOp.FOUND, b"/late", 0))
    kept.write(of(4, unheard), of(5, context(cgroup_id=0)))
    found = read(kept.path, *map(stamp, range(1, 6)))
    assert [each.cgroup_path for each in found if isinstance(each, Recalled)] == [
        SSHD,
        b"/renamed",
        b"",
        b"/late",
        b"",
    ]


def test_what_a_runtime_said_is_kept_from_then_on(kept: Kept) -> None:
    """And its container is found by that alone where the path is free."""
    free = b"/anything/box"
    runc = DAEMON._replace(cgroup_id=99, key=b"99")
    kept.learn(CgroupChange(99, CgroupOp.MADE, free, 0))
    kept.write(of(1, BOX), of(2, runc), of(3, DAEMON))
    docker = Metadata("docker", "shop", "a/b:1", (("k", "v"),))
    known = Known("runc", "box", "/anything/box", Metadata("runc"))
    kept.learn(answers=(Answer(BOX.cgroup_id, docker), Answer(99, known)))
    kept.write(of(4, BOX), of(5, runc), of(6, DAEMON))
    found = read(kept.path, *map(stamp, range(1, 7)))
    homes = [
        home_of(each.cgroup_id, each.cgroup_path, each.cgroup_said)
        for each in found
        if isinstance(each, Recalled)
    ]
    assert [home.answered for home in homes] == ["", "", "", "docker", "runc", ""]
    assert [home.where for home in homes] == [
        "container",
        "unknown",
        "host",
        "container",
        "container",
        "host",
    ]
    names = [home.container and (home.container["id"], home.container.get("name")) for home in homes]
    assert names == [("ab" * 32, None), None, None, ("ab" * 32, "shop"), ("box", None), None]
    assert [home.provenance for home in homes[3:5]] == ["cgroup", "runtime"]


@pytest.mark.parametrize(
    "said",
    ["", "[", "[" * 9999, '["docker"]', '["runc","box","/other",["runc","","",[],"","",""]]', "1" * 99_999],
)
def test_what_nobody_said_is_left(said: str) -> None:
    home = home_of(7, b"/anything/box", said)
    assert (home.where, home.answered, home.container) == ("unknown", "", None)


def test_of_many_labels_none_are_kept() -> None:
    many = tuple((f"key-{number:03}", "v" * 100) for number in range(64))
    metadata = Metadata("docker", "shop", labels=many)
    assert said_from(said_text(metadata)) == metadata._replace(labels=())
    known = Known("runc", "box", "/b", metadata._replace(labels=many[:2]))
    assert said_from(said_text(known)) == known


def test_lifetimes(kept: Kept) -> None:
    kept.write(of(1, BOX), of(2, BOX, MS + 7))
    kept.write(of(3, BOX, MS + 9), of(4))
    kept.learn(CgroupChange(BOX.cgroup_id, CgroupOp.REMOVED, b"", 0))
    kept.journal.flush(WALL)
    kept.close()
    with sqlite3.connect(kept.path) as db:
        (row,) = db.execute(
            "SELECT first_ms, first_serial, last_ms, last_serial FROM contexts WHERE net_id < 0"
        ).fetchall()
        assert row == (MS, 1, MS + 9, 3)
        (row,) = db.execute("SELECT first_ms, last_ms, removed_ms FROM cgroups WHERE id < 0").fetchall()
        assert row == (MS, MS + 9, WALL * 1000)
        assert db.execute("SELECT removed_ms FROM cgroups WHERE id > 0").fetchall() == [(None,)]
    db.close()


STAMPS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 60), st.integers(4000, 4200), st.integers((1 << 32) - 9, (1 << 32) - 1)),
        st.integers(0, 40),
        st.integers(0, 5),
    ),
    max_size=80,
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STAMPS, max_size=5), st.data())
def test_whatever_is_written_is_found_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[tuple[int, int, int]]], data: st.DataObject
) -> None:
    """Several runs over two boots, events in any order, flushed anywhere."""
    directory = tmp_path_factory.mktemp("journal")
    contexts = [context(cgroup_id=number, inums=[4026531840 + number] * 10) for number in range(6)]
    truth: dict[tuple[int, int], set[Recalled]] = {}
    for run in runs:
        facts = data.draw(st.sampled_from((HOST, NEXT_BOOT)))
        made = Kept(directory, facts)
        cuts = data.draw(st.sets(st.integers(0, 80), max_size=3))
        for at, (serial, ms, which) in enumerate(run):
            made.journal.take([of(serial, contexts[which], MS + ms)])
            truth.setdefault((serial, MS + ms), set()).add(expected(contexts[which], b"", facts))
            if at in cuts:
                made.journal.flush(WALL)
        made.close()
        assert made.said == []
    if not runs:
        return
    asked = [(serial, MS + ms) for serial in (*range(62), *range(4000, 4200, 3)) for ms in range(0, 41, 4)]
    asked += truth
    found = read(directory / NAME, *(stamp(*each) for each in asked))
    for each, answer in zip(asked, found, strict=True):
        right = truth.get(each, set())
        assert answer == (UNKNOWN if not right else AMBIGUOUS if len(right) > 1 else next(iter(right)))
    shutil.rmtree(directory)


# -- when it is written ------------------------------------------------------------------------------


def test_it_is_written_after_a_while_and_only_for_others(kept: Kept) -> None:
    ours = of(1)
    ours.self_caused = True
    kept.journal.take([ours])
    kept.clock.now += 10 * FLUSH_EVERY
    assert not kept.journal.due(kept.clock.now)
    assert kept.journal.patience > 1e9
    kept.journal.take([of(2)])
    assert kept.journal.patience == FLUSH_EVERY
    assert not kept.journal.due(kept.clock.now)
    kept.later()
    assert kept.journal.due(kept.clock.now)
    kept.journal.flush(WALL)
    assert serials(kept.path, [1, 2]) == [1, 2]
    assert not kept.journal.due(kept.clock.now + 1e9)


def test_a_burst_is_written_at_once(kept: Kept) -> None:
    kept.journal.take([of(serial) for serial in range(FLUSH_AT - 1)])
    assert not kept.journal.due(kept.clock.now)
    kept.journal.take([of(FLUSH_AT)])
    assert kept.journal.due(kept.clock.now)


def test_nothing_is_written_while_nothing_happens(kept: Kept) -> None:
    kept.write(of(1))
    log = Path(f"{kept.path}-wal")
    before = (kept.path.stat(), log.stat())
    kept.journal.flush(WALL)
    kept.write(of(2, None))
    assert (kept.path.stat(), log.stat()) == before


def test_a_segment_grows_until_its_block_is_full(kept: Kept) -> None:
    for serial in range(1, 300):
        kept.write(of(serial))
    kept.write(of(BLOCK + 1))
    kept.close()
    with sqlite3.connect(kept.path) as db:
        assert db.execute("SELECT events FROM segments ORDER BY number").fetchall() == [(299,), (1,)]
    db.close()


def test_a_restart_goes_on_in_the_same_boot(tmp_path: Path) -> None:
    made = Kept(tmp_path)
    for serial in (1, 2, 3):
        made.close()
        made = Kept(tmp_path)
        made.write(of(serial))
        assert made.journal.facts()["events"] == serial
    made.close()
    assert serials(made.path, [1, 2, 3]) == [1, 2, 3]
    with sqlite3.connect(made.path) as db:
        assert db.execute("SELECT count(*) FROM boots").fetchone() == (1,)
    db.close()
    assert made.path.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME]


# -- bounds ------------------------------------------------------------------------------------------


def size_of(path: Path) -> int:
    return sum(Path(f"{path}{beside}").stat().st_size for beside in ("", "-wal", "-shm"))


def churn(made: Kept, batches: int, begin: int = 0) -> tuple[int, int]:
    """Write so many batches of a hundred containers each; returns the next serial and the largest size."""
    most, serial = 0, begin
    for batch in range(batches):
        events = []
        for number in range(100):
            ident = serial * 1000 + number
            box = context(cgroup_id=ident, inums=[4026531840 + batch * 100 + number] * 10)
            made.learn(CgroupChange(ident, CgroupOp.MADE, b"/x/%0900d" % ident, 0))
            serial += 41
            events.append(of(serial, box, MS + serial))
        made.write(*events, wall=(MS + serial) / 1000)
        most = max(most, size_of(made.path))
    return serial, most


def test_it_stays_within_its_size(tmp_path: Path) -> None:
    size = 2 << 20
    made = Kept(tmp_path, size=size)
    last, most = churn(made, 120)
    assert made.said == []
    assert (made.journal.lost, made.journal.failed) == (0, 0)
    assert size // 2 < most <= size
    assert serials(made.path, [41], MS + 41) == []
    assert serials(made.path, [last], MS + last) == [last]
    kept = made.journal.facts()["events"]
    made.close()
    with sqlite3.connect(made.path) as db:
        (events,) = db.execute("SELECT sum(events) FROM segments").fetchone()
        assert kept == events
        assert events < 12_000
        (contexts,) = db.execute("SELECT count(*) FROM contexts").fetchone()
        assert contexts < events + 4200, "what nothing refers to goes, but for what the oldest segments share"
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_one_segment_that_fills_it_goes_as_well(tmp_path: Path) -> None:
    """Containers by the thousand within one block of serials, each with a long path of its own."""
    made = Kept(tmp_path, size=1 << 20)
    numbers = range(0)
    for first in range(1, 4000, 40):
        numbers = range(first, first + 40)
        made.learn(
            *(CgroupChange(1000 + each, CgroupOp.MADE, b"/%b%d" % (b"x" * 900, each), 0) for each in numbers)
        )
        made.write(*(of(each, DAEMON._replace(cgroup_id=1000 + each, key=b"%d" % each)) for each in numbers))
    for _ in range(16):
        made.journal.flush(WALL)
    assert made.journal.error == ""
    assert serials(made.path, numbers) == list(numbers)
    assert size_of(made.path) <= 1 << 20
    made.close()


def test_what_comes_again_after_it_was_let_go(tmp_path: Path) -> None:
    """A context of which all segments have gone, and so its row, while its number was still remembered."""
    made = Kept(tmp_path, size=2 << 20)
    made.write(of(1, BOX))
    last, _ = churn(made, 40, 41)
    assert serials(made.path, [1]) == []
    made.write(of(last + 1, BOX, MS + last))
    again = context(cgroup_id=BOX.cgroup_id)
    made.write(of(last + 2, again, MS + last))
    assert read(made.path, stamp(last + 1, MS + last), stamp(last + 2, MS + last)) == [
        expected(BOX, BOX_PATH),
        expected(again, BOX_PATH),
    ]
    made.close()


def test_what_is_used_again_just_when_it_would_go(tmp_path: Path) -> None:
    made = Kept(tmp_path, age=60.0)
    made.write(of(1, BOX), wall=MS / 1000)
    made.write(of(BLOCK, DAEMON, MS + 59_000), wall=MS / 1000 + 59)
    late = context(cgroup_id=BOX.cgroup_id)
    made.write(of(2 * BLOCK, BOX, MS + 61_000), of(3 * BLOCK, late, MS + 61_000), wall=MS / 1000 + 61)
    assert read(made.path, stamp(2 * BLOCK, MS + 61_000), stamp(3 * BLOCK, MS + 61_000)) == [
        expected(BOX, BOX_PATH),
        expected(late, BOX_PATH),
    ]
    made.close()


def test_a_lower_bound_takes_effect_at_the_next_start(tmp_path: Path) -> None:
    made = Kept(tmp_path, size=8 << 20)
    last, _ = churn(made, 60)
    made.close()
    assert made.path.stat().st_size > 4 << 20
    again = Kept(tmp_path, size=1 << 20)
    assert size_of(again.path) <= 1 << 20
    assert serials(again.path, [last], MS + last) == [last]
    again.write(of(1, DAEMON, MS + last), wall=(MS + last) / 1000)
    assert again.said == []
    again.close()


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    made = Kept(tmp_path, age=60.0)
    made.write(of(1, BOX), wall=MS / 1000)
    made.write(of(BLOCK, DAEMON, MS + 59_000), wall=MS / 1000 + 59)
    assert serials(made.path, [1]) == [1]
    made.write(of(2 * BLOCK, DAEMON, MS + 61_000), wall=MS / 1000 + 61)
    assert serials(made.path, [1]) == []
    assert serials(made.path, [BLOCK], MS + 59_000) == [BLOCK]
    made.close()
    with sqlite3.connect(made.path) as db:
        assert db.execute("SELECT count(*) FROM cgroups WHERE id < 0").fetchone() == (0,)
    db.close()


def test_a_reader_that_holds_on_does_not_make_it_grow(tmp_path: Path) -> None:
    size = 2 << 20
    made = Kept(tmp_path, size=size)
    made.write(of(1))
    holder = sqlite3.connect(made.path, isolation_level=None)
    holder.execute("BEGIN")
    holder.execute("SELECT * FROM segments").fetchall()
    _, most = churn(made, 60)
    assert most <= size
    assert made.journal.failed
    assert "another program reads it" in made.journal.error
    holder.close()
    made.journal.flush(WALL)
    assert made.journal.error == ""
    assert made.said[-1].endswith("can be written again")
    made.write(of(5))
    assert serials(made.path, [5]) == [5]
    made.close()


def test_two_numbers_for_one_context_are_one_answer(tmp_path: Path) -> None:
    """Each run gives its own: the same stamp in both is still of the same boot."""
    for _ in range(2):
        made = Kept(tmp_path)
        made.write(of(7, BOX))
        made.close()
    assert read(tmp_path / NAME, stamp(7)) == [expected(BOX, BOX_PATH)]


def test_a_reader_at_work_sees_what_is_written_meanwhile(kept: Kept) -> None:
    kept.write(of(1))
    reader = JournalReader(str(kept.path))
    assert not isinstance(reader.find(stamp(1)), str)
    kept.write(of(BLOCK))
    assert not isinstance(reader.find(stamp(BLOCK)), str)
    reader.close()


def test_the_bound_of_the_settings_is_the_default() -> None:
    from enricher.config import settings as rows

    assert rows.JOURNAL_SIZE.default == SIZE
