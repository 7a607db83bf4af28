# SPDX-License-Identifier: Apache-2.0
"""The journal when something is wrong: with the disk, with the file, with whoever made the file."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.errors import DamagedInput, EnricherError, UsageError
from enricher.journalformat import BLOCK, NAME
from enricher.model import CgroupChange, CgroupOp, Recalled
from enricher.sinks import journal as journals
from enricher.sinks.journal import HELD_MAX
from enricher.sources.journal import UNKNOWN, JournalReader
from tests.unit.sample_events import HOST, context
from tests.unit.sample_facts import made as namespace_made
from tests.unit.sample_journal import (
    BOX,
    BOX_PATH,
    DAEMON,
    NEXT_BOOT,
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


# -- what goes wrong ---------------------------------------------------------------------------------


def test_what_cannot_be_written_waits(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.write(of(1))
    holder = sqlite3.connect(kept.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for serial in (2, 3):
        kept.write(of(serial))
        kept.later()
    assert kept.said == [
        f"{kept.path} cannot be written: database is locked; up to {HELD_MAX} events wait for it in memory"
    ]
    facts = kept.journal.facts()
    assert (facts["failed"], facts["waiting"], facts["error"]) == (2, 2, "database is locked")
    assert kept.journal.due(kept.clock.now)
    monkeypatch.setattr(journals, "HELD_MAX", 2)
    kept.journal.take([of(4), of(5)])
    assert kept.journal.lost == 2
    holder.close()
    kept.journal.flush(WALL)
    assert serials(kept.path, range(1, 6)) == [1, 4, 5]
    assert kept.journal.facts()["error"] == ""


def test_a_full_disk(kept: Kept) -> None:
    """Of a database that may not grow, which SQLite tells as a full disk."""
    assert kept.journal._file is not None
    kept.write(of(1))
    pages = kept.journal._file._pages()
    kept.journal._file._db.execute(f"PRAGMA max_page_count = {pages}")
    events = [of(serial, context(inums=[4026531840 + serial] * 10)) for serial in range(2, 600)]
    kept.write(*events)
    assert "full" in kept.journal.error
    kept.journal._file._db.execute("PRAGMA max_page_count = 10000")
    kept.journal.flush(WALL)
    assert kept.journal.error == ""
    assert serials(kept.path, range(1, 600)) == list(range(1, 600))


def test_contexts_that_cannot_be_written_are_bounded(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = sqlite3.connect(kept.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(journals, "FRESH_MAX", 3200)
    kept.journal.take([of(serial, context(inums=[serial] * 10)) for serial in range(1, 50)])
    kept.journal.flush(WALL)
    assert kept.journal.lost > 20
    holder.close()
    kept.journal.flush(WALL)
    kept.write(of(100, BOX))
    assert len(serials(kept.path, range(1, 101))) == 50 - kept.journal.lost


def test_more_contexts_than_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "KNOWN_MAX", 4)
    kept = Kept(tmp_path)
    kept.write(*(of(serial, context(inums=[serial % 7 + 1] * 10)) for serial in range(1, 50)))
    assert [
        each.inums[0] for each in read(kept.path, *map(stamp, range(1, 50))) if isinstance(each, Recalled)
    ] == [serial % 7 + 1 for serial in range(1, 50)]


def test_what_has_no_events_any_more_is_forgotten(kept: Kept) -> None:
    """Else a host that makes containers all day remembers all of them."""
    changes = [
        CgroupChange(number, CgroupOp.MADE, b"/box-%d" % number, 0) for number in range(10_000, 10_050)
    ]
    kept.learn(*changes)
    serial = 1
    for begin in range(10_000, 10_050, 10):
        made = range(begin, begin + 10)
        kept.write(*(of(serial + at, context(cgroup_id=ident)) for at, ident in enumerate(made)))
        kept.learn(*(CgroupChange(ident, CgroupOp.REMOVED, b"", 0) for ident in made))
        serial += 10
        kept.clock.now += journals.KEPT * 0.6
        kept.learn()
    assert 10 <= len(kept.journal._known) <= 40
    assert 10 <= len(kept.journal._known_cgroups) <= 20
    found = [
        each.cgroup_path
        for each in read(kept.path, *map(stamp, range(1, serial)))
        if isinstance(each, Recalled)
    ]
    assert found == [change.path for change in changes]


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    made = Kept(tmp_path / "later")
    made.write(of(1), of(2))
    assert made.journal.failed == 2
    assert len(made.said) == 1
    (tmp_path / "later").mkdir()
    made.journal.flush(WALL)
    assert serials(made.path, [1, 2]) == [1, 2]
    assert made.said[1:] == [f"{made.path} can be written again"]


def test_a_file_that_comes_back_with_numbers_of_its_own(tmp_path: Path) -> None:
    first = Kept(tmp_path)
    first.write(of(1, BOX))
    first.close()
    away = tmp_path.with_name(tmp_path.name + "-away")
    tmp_path.rename(away)
    made = Kept(tmp_path)
    made.write(of(2))
    away.rename(tmp_path)
    made.journal.flush(WALL)
    made.write(of(3))
    assert made.journal.lost == 1
    assert read(made.path, stamp(1), stamp(2), stamp(3)) == [
        expected(BOX, BOX_PATH),
        UNKNOWN,
        expected(DAEMON, SSHD),
    ]


@pytest.mark.parametrize("what", ["noise", "empty", "foreign", "newer", "view", "directory", "cut"])
def test_a_file_that_is_none_is_moved_aside(tmp_path: Path, what: str) -> None:
    path = tmp_path / NAME
    if what == "noise":
        path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 64)
    elif what == "directory":
        path.mkdir()
    elif what in {"newer", "view", "cut"}:
        made = Kept(tmp_path)
        made.write(*map(of, range(100)))
        made.close()
        if what == "cut":
            os.truncate(path, 8192)
        else:
            with sqlite3.connect(path) as db:
                db.execute("PRAGMA user_version = 9" if what == "newer" else "CREATE VIEW x AS SELECT 1")
            db.close()
    else:
        with sqlite3.connect(path) as db:
            db.execute("VACUUM" if what == "empty" else "CREATE TABLE x(y)")
        db.close()
    made = Kept(tmp_path)
    made.write(of(1))
    assert serials(path, [1]) == [1]
    aside = [each.name for each in tmp_path.iterdir() if "damaged" in each.name]
    assert aside == ([] if what == "empty" else [f"{NAME}.damaged-1"])
    assert len(made.said) == len(aside)
    made.close()


def test_files_moved_aside_are_few(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / NAME).write_bytes(b"%d" % number * 4096)
        Kept(tmp_path).close()
    aside = sorted(path for path in tmp_path.iterdir() if "damaged" in path.name)
    assert [path.read_bytes()[:1] for path in aside] == [b"5", b"4", b"3"]


def test_damage_that_shows_while_it_is_written(kept: Kept) -> None:
    kept.write(*map(of, range(100)))
    assert kept.journal._file is not None
    kept.journal._file._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with kept.path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(os.urandom(64)) * 64 * 20)
    another = sqlite3.connect(kept.path)  # so that its pages are read anew
    another.close()
    kept.journal._file._db.execute("PRAGMA shrink_memory")
    kept.write(of(200))
    kept.write(of(201))
    assert any("a new one is begun" in line for line in kept.said), kept.said
    assert serials(kept.path, [201]) == [201]


# -- a file that is anyone's -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[bytes, Recalled]]:
    """A journal of a few hundred events in many rows, and the truth."""
    directory = tmp_path_factory.mktemp("whole")
    truth: dict[bytes, Recalled] = {}
    for facts in (HOST, NEXT_BOOT):
        made = Kept(directory, facts)
        for block in range(12):
            box = context(cgroup_id=block + 1, inums=[4026531840 + block] * 10)
            made.lives.learn([namespace_made("net", 4026531840 + block, 1_000 + block)])
            events = [of(block * BLOCK + number, box, MS + number + (facts is HOST)) for number in range(30)]
            made.write(*events)
            truth |= {each.stamp: expected(box, b"", facts, (1_000 + block,) * 10) for each in events}
        made.close()
    both = {stamp(block * BLOCK + number, MS + number + 1) for block in range(12) for number in range(30)}
    assert both <= set(truth)
    return (directory / NAME).read_bytes(), truth


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damage_is_told_or_makes_unknown_and_is_never_wrong(
    whole: tuple[bytes, dict[bytes, Recalled]], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content, truth = bytearray(whole[0]), whole[1]
    pages = st.one_of(st.integers(0, 4095), st.integers(0, len(content) - 1))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(pages)
        fill = data.draw(st.binary(min_size=1, max_size=40))
        content[at : at + len(fill)] = fill
    if data.draw(st.booleans()):
        del content[data.draw(pages) :]
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    for beside in ("-wal", "-shm"):
        Path(f"{path}{beside}").unlink(missing_ok=True)
    with suppress(UsageError, DamagedInput), closing(JournalReader(str(path))) as reader:
        for each, right in truth.items():
            found = reader.find(each)
            assert isinstance(found, str) or found._replace(key=b"") == right


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_the_service_goes_on_over_any_damage(
    whole: tuple[bytes, dict[bytes, Recalled]], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(whole[0])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 40] = data.draw(st.binary(min_size=40, max_size=40))
    directory = tmp_path_factory.mktemp("damaged")
    (directory / NAME).write_bytes(content)
    made = Kept(directory)
    for serial in (1 << 20, 1 << 21):
        made.write(of(serial, BOX))
        made.later()
    made.journal.facts()
    made.close()
    shutil.rmtree(directory)


def test_a_bit_of_an_inum_is_not_believed(whole: tuple[bytes, dict[bytes, Recalled]], tmp_path: Path) -> None:
    """SQLite has no checksum, and takes any number for one."""
    content = bytearray(whole[0])
    inum = (4026531840 + 5).to_bytes(6, "big")  # as SQLite stores a number of that size
    content[content.index(inum) + 5] ^= 0x40
    (tmp_path / NAME).write_bytes(content)
    with closing(JournalReader(str(tmp_path / NAME))) as reader:
        assert not isinstance(reader.find(stamp(6 * BLOCK, MS)), str)
        with pytest.raises(DamagedInput, match="checksum"):
            list(map(reader.find, whole[1]))


def test_the_truth_of_the_whole(whole: tuple[bytes, dict[bytes, Recalled]], tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(whole[0])
    assert read(tmp_path / NAME, *whole[1]) == list(whole[1].values())


def test_a_directory_that_cannot_be_written_to(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a log beside it; with one it would not be the whole. Root writes everywhere: SQLite is made to refuse."""
    connect = sqlite3.connect

    def refusing(name: str, **how: Any) -> sqlite3.Connection:  # noqa: ANN401 - sqlite3's own
        made: sqlite3.Connection = connect(name if "immutable" in name else "file:/nowhere/x?mode=ro", **how)
        return made

    kept.write(of(1))
    copy = kept.path.with_name("copy")
    shutil.copy(kept.path, copy)
    shutil.copy(f"{kept.path}-wal", f"{copy}-wal")
    kept.close()
    monkeypatch.setattr(sqlite3, "connect", refusing)
    assert serials(kept.path, [1]) == [1]
    with pytest.raises(UsageError) as caught:
        JournalReader(str(copy))
    assert "-wal" in caught.value.hint
    reader = JournalReader(str(kept.path))
    os.utime(kept.path, (1, 1))
    with pytest.raises(DamagedInput, match="written while it was read"):
        reader.find(stamp(1))
    reader.close()


@pytest.mark.parametrize("what", ["nowhere", "directory", "text", "foreign", "newer"])
def test_what_is_no_journal_is_told(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x ?#%"
    if what == "directory":
        path.mkdir()
    elif what == "text":
        path.write_text("type=SYSCALL msg=audit(1.000:1):\n" * 200)
    elif what in {"foreign", "newer"}:
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE segments(x)")
            if what == "newer":
                db.execute(f"PRAGMA application_id = {0x41454A31}")
                db.execute("PRAGMA user_version = 2")
        db.close()
    with pytest.raises(EnricherError, match="x \\?#%: ") as caught:
        JournalReader(str(path))
    assert isinstance(caught.value, DamagedInput if what == "text" else UsageError)
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_names_with_odd_characters(kept: Kept, tmp_path: Path) -> None:
    kept.write(of(1))
    kept.close()
    odd = tmp_path / "a?mode=rwc#b%41 \udcff"
    shutil.move(kept.path, odd)
    assert serials(odd, [1]) == [1]
