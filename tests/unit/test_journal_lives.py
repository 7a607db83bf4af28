# SPDX-License-Identifier: Apache-2.0
"""Lives of namespaces in the journal: those that were known when the event was made, and files that have none."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from enricher.errors import DamagedInput
from enricher.facts import NamespaceLife, NamespaceOp
from enricher.journalformat import NAME, complaint, version_of
from enricher.sources.journal import AMBIGUOUS
from tests.unit.sample_events import BOX_INUMS
from tests.unit.sample_facts import freed, made
from tests.unit.sample_journal import (
    BOX,
    BOX_PATH,
    DAEMON,
    NOBODY,
    Kept,
    expected,
    of,
    of_version_1,
    read,
    serials,
    stamp,
)

MS = 1772366400_042
SSHD = b"/system.slice/sshd.service"


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


NET, UTS, PID = BOX_INUMS[3], BOX_INUMS[1], BOX_INUMS[4]
AT = BOX.time


def born(path: Path, serial: int, ms: int = MS) -> tuple[int | None, ...] | str:
    (found,) = read(path, stamp(serial, ms))
    return found if isinstance(found, str) else found.born


def lost(time: int) -> NamespaceLife:
    return freed(0, time)._replace(op=NamespaceOp.LOST)


def test_a_life_is_kept_where_it_is_known_and_where_no_id_is_it(kept: Kept) -> None:
    kept.lives.learn([made("uts", UTS, 1_000), made("pid", PID, 2_000)])
    kept.write(of(1, BOX))
    kept.lives.learn([lost(1_500)])
    kept.write(of(2, BOX))
    kept.close()
    # `BOX` has an id of its net namespace; what has a number twice is one namespace; the rest was there before.
    assert born(kept.path, 1) == (0, 1_000, 0, None, 2_000, 0, 0, 0, 2_000, 0)
    assert born(kept.path, 2) == (None, None, None, None, 2_000, None, None, None, 2_000, None)


def test_nothing_is_said_of_lives_where_nobody_tells(kept: Kept) -> None:
    kept.write(of(1, BOX))
    kept.close()
    assert born(kept.path, 1) == NOBODY


def test_two_namespaces_that_had_one_number_are_two_contexts(kept: Kept) -> None:
    """Also within a batch, in either order, and when the first of them comes again."""
    kept.lives.learn([made("uts", UTS, AT), freed(UTS, AT + 10), made("uts", UTS, AT + 20)])
    times = (AT + 5, AT + 25, AT + 5, AT + 30, AT + 15)
    kept.write(*(of(serial, BOX._replace(time=time)) for serial, time in enumerate(times)))
    kept.close()
    told = [born(kept.path, serial) for serial in range(5)]
    assert [life[1] for life in told] == [AT, AT + 20, AT, AT + 20, None]
    with closing(sqlite3.connect(kept.path)) as db:
        rows = db.execute("SELECT uts, uts_life FROM contexts").fetchall()
    assert sorted(rows, key=str) == [(UTS, AT), (UTS, AT + 20), (UTS, None)]


def test_what_is_told_later_changes_nothing_that_was_kept_and_all_that_comes(kept: Kept) -> None:
    kept.lives.learn([made("mnt", 5, 1)])
    kept.write(of(1, BOX))
    kept.lives.learn([made("uts", UTS, 1_000)])
    kept.write(of(2, BOX))
    kept.close()
    assert [told[1] for told in (born(kept.path, 1), born(kept.path, 2))] == [0, 1_000]


def test_of_an_event_in_parts_the_one_that_knew_a_life_counts(kept: Kept) -> None:
    kept.lives.learn([made("uts", UTS, 1_000)])
    kept.write(of(1, BOX))
    kept.lives.learn([lost(1_500)])
    kept.write(of(1, BOX))
    kept.close()
    assert born(kept.path, 1) == (0, 1_000, 0, None, 0, 0, 0, 0, 0, 0)


def test_of_two_that_disagree_no_life_is_told(kept: Kept) -> None:
    kept.lives.learn([made("uts", UTS, 1_000)])
    kept.write(of(1, BOX))
    kept.lives.learn([made("uts", UTS, 2_000)])
    kept.write(of(1, BOX))
    kept.close()
    assert born(kept.path, 1) == (0, None, 0, None, 0, 0, 0, 0, 0, 0)


def test_another_set_of_lives_does_not_make_another_host_or_cgroup_known(tmp_path: Path) -> None:
    for in_context in (BOX, DAEMON):
        run = Kept(tmp_path)
        run.lives.learn([made("uts", UTS, 1_000)])
        run.write(of(1, in_context))
        run.close()
    assert read(tmp_path / NAME, stamp(1)) == [AMBIGUOUS]


def test_a_life_that_was_changed_is_damage(kept: Kept) -> None:
    kept.lives.learn([made("uts", UTS, 1_000)])
    kept.write(of(1, BOX))
    kept.close()
    for value in (999, None):
        with closing(sqlite3.connect(kept.path)) as db, db:
            db.execute("UPDATE contexts SET uts_life = ?", (value,))
        with pytest.raises(DamagedInput):
            read(kept.path, stamp(1))


# -- files of before ---------------------------------------------------------------------------------


def test_a_journal_of_before_is_read_without_lives(kept: Kept) -> None:
    kept.write(of(1), of(2, BOX))
    kept.close()
    of_version_1(kept.path)
    content = kept.path.read_bytes()
    assert read(kept.path, stamp(1), stamp(2)) == [expected(DAEMON, SSHD), expected(BOX, BOX_PATH)]
    assert kept.path.read_bytes() == content


def test_the_service_goes_on_with_a_journal_of_before(tmp_path: Path) -> None:
    first = Kept(tmp_path)
    first.write(of(1, BOX))
    first.close()
    of_version_1(first.path)
    second = Kept(tmp_path)
    second.lives.learn([made("uts", UTS, 1_000)])
    second.write(of(2, BOX))
    second.close()
    assert second.said == []
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert [born(second.path, serial) for serial in (1, 2)] == [NOBODY, (0, 1_000, 0, None, *(0,) * 6)]
    with closing(sqlite3.connect(second.path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert (version_of(db), complaint(db)) == (2, "")
    Kept(tmp_path).close()


def test_what_only_says_that_it_is_of_before_is_set_aside(tmp_path: Path) -> None:
    first = Kept(tmp_path)
    first.write(of(1))
    first.close()
    of_version_1(first.path)
    with closing(sqlite3.connect(first.path)) as db:
        db.execute("CREATE TRIGGER x AFTER INSERT ON contexts BEGIN DELETE FROM contexts; END")
    second = Kept(tmp_path)
    second.write(of(2))
    assert serials(second.path, [1, 2]) == [2]
    assert "its tables are not ours" in second.said[0]
    second.close()
