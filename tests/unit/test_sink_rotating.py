# SPDX-License-Identifier: Apache-2.0
"""The rotating file: no line lost, none torn, wherever it is stopped and whoever else moves files about."""

from __future__ import annotations

import contextlib
import errno
import grp
import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from enricher.clock import ManualClock
from enricher.errors import OutputFailed
from enricher.sinks.rotating import RotatingFile
from enricher.sinks.stream import Sink


class Stopped(BaseException):
    """The process ends here."""


def line(number: int) -> bytes:
    return b"line %04d\n" % number


def made(path: Path, size: int = 20, keep: int = 3, clock: ManualClock | None = None) -> RotatingFile:
    return RotatingFile(str(path), size=size, keep=keep, clock=clock or ManualClock())


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.parent.iterdir())}


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    def refused(*paths: object, **_: object) -> None:
        raise OSError(code, os.strerror(code), str(paths[0]))

    monkeypatch.setattr(os, name, refused)


def fill(path: Path, *, keep: int, batches: int) -> None:
    """One batch a file, numbered from 0."""
    sink = made(path, size=1, keep=keep)
    for number in range(batches):
        sink.write([line(number)])
    sink.close()


def test_a_new_file_begins_before_a_batch_once_the_size_is_reached(tmp_path: Path) -> None:
    path = tmp_path / "events"
    sink: Sink = made(path)
    for number in range(0, 10, 2):
        sink.write([line(number), line(number + 1)])
    sink.flush()
    sink.close()
    pairs = [line(number) + line(number + 1) for number in range(0, 10, 2)]
    assert content(path) == {
        "events": pairs[4],
        "events.1": pairs[3],
        "events.2": pairs[2],
        "events.3": pairs[1],
    }
    assert isinstance(sink, RotatingFile)
    assert (sink.written, sink.rotations, sink.reopened, sink.advice) == (10, 4, 0, "")


def test_below_the_size_and_without_lines_nothing_happens(tmp_path: Path) -> None:
    path = tmp_path / "events"
    sink = made(path, size=21)
    sink.write([line(0), line(1)])
    sink.write([])
    sink.write([line(2)])
    assert content(path) == {"events": line(0) + line(1) + line(2)}
    sink.close()
    sink.close()
    assert sink.fileno() == -1


def test_the_size_of_an_existing_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(line(0) * 2)
    sink = made(path)
    sink.write([line(1)])
    assert content(path) == {"events": line(1), "events.1": line(0) * 2}
    assert sink.rotations == 1


def test_none_is_kept_where_none_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "events"
    fill(path, keep=0, batches=4)
    assert content(path) == {"events": line(3)}


def test_files_from_when_more_were_kept_go_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "events"
    fill(path, keep=5, batches=6)
    for name in ("events.20260301", "events.9", "events.old"):
        (tmp_path / name).touch()
    sink = made(path, size=1, keep=2)
    sink.write([line(6)])
    assert list(content(path)) == [
        "events",
        "events.1",
        "events.2",
        "events.20260301",
        "events.9",
        "events.old",
    ]
    sink.keep, sink.size = 1, 30
    sink.write([line(7), line(8)])
    assert "events.2" in content(path), "it is not time yet"
    sink.write([line(9)])
    assert content(path)["events.1"] == line(6) + line(7) + line(8)
    assert "events.2" not in content(path)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_new_files_have_the_mode_and_old_ones_keep_theirs(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "events"
    path.touch()
    path.chmod(0o600)
    sink = made(path, size=1)
    before = os.umask(umask)
    try:
        sink.write([line(0)])
        sink.write([line(1)])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "events.1").stat().st_mode) == 0o600
    assert sink.advice == ""


def test_an_existing_file_that_more_can_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.touch()
    path.chmod(0o644)
    assert "0644" in made(path).advice
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_the_file_is_given_to_the_group_before_the_group_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def chown(fd: int, uid: int, gid: int) -> None:
        asked.append((uid, gid, stat.S_IMODE(os.fstat(fd).st_mode)))

    gid = os.getegid()
    monkeypatch.setattr(grp, "getgrnam", lambda _: grp.struct_group(("readers", "x", gid, [])))
    monkeypatch.setattr(os, "fchown", chown)
    path = tmp_path / "events"
    sink = RotatingFile(str(path), size=1, keep=1, group="readers")
    assert asked == [(-1, gid, 0o600)]
    assert (stat.S_IMODE(path.stat().st_mode), sink.advice) == (0o640, "")


@pytest.mark.parametrize("there", [False, True])
def test_a_group_that_it_cannot_have_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    if there:
        entry = grp.struct_group(("no-such-group", "x", os.getegid() + 1, []))
        monkeypatch.setattr(grp, "getgrnam", lambda _: entry)
        refuse(monkeypatch, "fchown", errno.EPERM)
    sink = RotatingFile(str(tmp_path / "events"), size=1, keep=1, group="no-such-group", clock=ManualClock())
    assert "no-such-group" in sink.advice
    sink.advice = ""
    for number in range(3):
        sink.write([line(number)])
    assert (sink.advice, sink.rotations) == ("", 2)


# -- stopped on the way ------------------------------------------------------------------------------


def stop_after(monkeypatch: pytest.MonkeyPatch, renames: int) -> None:
    """Let the process end in place of the rename behind so many."""
    rename = os.rename
    left = itertools.count(renames, -1)

    def stop(source: str, target: str) -> None:
        if not next(left):
            raise Stopped
        rename(source, target)

    monkeypatch.setattr(os, "rename", stop)


@pytest.mark.parametrize("steps", list(itertools.product(range(4), repeat=3)))
def test_a_crash_between_renames_loses_the_oldest_file_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: tuple[int, ...]
) -> None:
    """Started and stopped three times, each after any number of renames (three make a rotation)."""
    path = tmp_path / "events"
    fill(path, keep=3, batches=4)
    written = [line(number) for number in range(4)]
    for renames in steps:
        batch = line(len(written))
        sink = made(path, size=1)
        with monkeypatch.context() as patched:
            stop_after(patched, renames)
            with contextlib.suppress(Stopped):
                sink.write([batch])
                written.append(batch)
        sink.close()
        left = sorted(content(path).values())
        assert left == written[-len(left) :]
        assert len(left) >= 3
    sink = made(path, size=1)
    for number in range(6, 10):
        sink.write([line(number)])
    assert content(path) == {
        name: line(9 - age) for age, name in enumerate(("events", "events.1", "events.2", "events.3"))
    }


@pytest.mark.parametrize("steps", range(3))
def test_what_a_crash_left_half_way_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """The same rotation, stopped and begun again, costs one file."""
    path = tmp_path / "events"
    fill(path, keep=3, batches=4)
    with monkeypatch.context() as patched:
        stop_after(patched, steps)
        with pytest.raises(Stopped):
            made(path, size=1).write([line(4)])
    made(path, size=1).write([line(4)])
    assert sorted(content(path).values()) == [line(number) for number in range(1, 5)]
    assert content(path)["events"] == line(4)


@pytest.mark.parametrize("keep", [0, 3])
def test_a_crash_before_the_new_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    path = tmp_path / "events"
    sink = made(path, size=1, keep=keep)
    sink.write([line(0)])

    def stop(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", stop)
        with pytest.raises(Stopped):
            sink.write([line(1)])
    assert content(path) == {"events.1": line(0)}
    again = made(path, size=1, keep=keep)
    again.write([line(1)])
    assert content(path) == {"events": line(1), "events.1": line(0)}
    again.write([line(2)])
    assert list(content(path)) == (["events", "events.1", "events.2"] if keep else ["events"])


# -- trouble -----------------------------------------------------------------------------------------


def test_where_files_cannot_be_renamed_it_grows_on_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events"
    clock = ManualClock()
    sink = made(path, size=1, clock=clock)
    sink.write([line(0)])
    with monkeypatch.context() as patched:
        refuse(patched, "rename", errno.EACCES)
        sink.write([line(1)])
        assert "cannot be rotated" in sink.advice
        assert "Permission denied" in sink.advice
        sink.advice = "told"
        clock.advance(61)
        sink.write([line(2)])
        assert sink.advice == "told"
    sink.write([line(3)])
    assert sink.rotations == 0, "not tried at every batch"
    clock.advance(61)
    sink.write([line(4)])
    assert content(path) == {"events": line(4), "events.1": b"".join(map(line, range(4)))}
    assert (sink.written, sink.rotations, sink.advice) == (5, 1, "")
    with monkeypatch.context() as patched:
        refuse(patched, "rename", errno.EACCES)
        sink.write([line(5)])
    assert "cannot be rotated" in sink.advice, "it was over in between"


def test_where_no_new_file_can_be_made_all_stays_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events"
    clock = ManualClock()
    sink = made(path, size=1, clock=clock)
    sink.write([line(0)])
    with monkeypatch.context() as patched:
        refuse(patched, "open", errno.ENOSPC)
        sink.write([line(1)])
    assert content(path) == {"events": line(0) + line(1)}
    assert "No space left" in sink.advice
    clock.advance(61)
    sink.write([line(2)])
    assert content(path) == {"events": line(2), "events.1": line(0) + line(1)}


def fail_after(monkeypatch: pytest.MonkeyPatch, *plan: int) -> None:
    """Let os.write take so many bytes of each call; then nothing fits for one more call for each -1."""
    real = os.write
    left = list(plan)

    def write(fd: int, data: bytes) -> int:
        taken = left.pop(0) if left else len(data)
        if taken < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, bytes(data)[:taken])

    monkeypatch.setattr(os, "write", write)


def test_a_half_line_is_ended_before_the_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events"
    sink = made(path)
    fail_after(monkeypatch, 25, -1)
    with pytest.raises(OutputFailed):
        sink.write([line(0), line(1), line(2)])
    assert sink.written == 2
    sink.write([line(3)])
    assert content(path) == {"events": line(3), "events.1": line(0) + line(1) + b"line \n"}
    assert (sink.written, sink.rotations) == (3, 1)


def test_a_half_line_that_cannot_be_ended_is_ended_in_the_next_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events"
    sink = made(path)
    fail_after(monkeypatch, 25, -1, -1)
    with pytest.raises(OutputFailed):
        sink.write([line(0), line(1), line(2)])
    sink.write([line(3)])
    assert content(path) == {"events": b"\n" + line(3), "events.1": line(0) + line(1) + b"line "}
    assert sink.written == 3


# -- others ------------------------------------------------------------------------------------------


def moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def moved_and_made(path: Path) -> None:
    moved(path)
    path.write_bytes(b"theirs, without an end")
    path.chmod(0o640)


@pytest.mark.parametrize("act", [moved, moved_and_made, Path.unlink])
def test_a_file_that_others_moved_is_noticed_within_a_second(
    tmp_path: Path, act: Callable[[Path], None]
) -> None:
    path = tmp_path / "events"
    clock = ManualClock()
    sink = made(path, size=1000, clock=clock)
    sink.write([line(0)])
    act(path)
    clock.advance(0.9)
    sink.write([line(1)])  # goes where the file went
    clock.advance(0.1)
    sink.write([line(2)])
    theirs = b"theirs, without an end\n" if act is moved_and_made else b""
    assert path.read_bytes() == theirs + line(2)
    if act is not Path.unlink:
        assert (tmp_path / "elsewhere").read_bytes() == line(0) + line(1)
    assert (sink.written, sink.reopened, sink.rotations, sink.advice) == (3, 1, 0, "")


def test_reopen_looks_at_once_and_does_nothing_to_its_own_file(tmp_path: Path) -> None:
    path = tmp_path / "events"
    sink = made(path, size=1000)
    sink.write([line(0)])
    descriptor = sink.fileno()
    sink.reopen()
    assert (sink.fileno(), sink.reopened) == (descriptor, 0)
    moved(path)
    sink.reopen()
    sink.write([line(1)])
    assert content(path) == {"elsewhere": line(0), "events": line(1)}
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_nothing_is_asked_of_the_file_more_than_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    sink = made(tmp_path / "events", size=1 << 20, clock=clock)
    looks = []
    lstat = os.lstat

    def look(path: str) -> os.stat_result:
        looks.append(path)
        return lstat(path)

    monkeypatch.setattr(os, "lstat", look)
    for number in range(100):
        sink.write([line(number)])
        clock.advance(0.0625)
    assert len(looks) == 6


@pytest.mark.parametrize("later", [0, 1])
def test_a_file_that_others_cut_is_not_rotated_too_early(tmp_path: Path, later: float) -> None:
    path = tmp_path / "events"
    clock = ManualClock()
    sink = made(path, clock=clock)
    sink.write([line(0), line(1)])
    path.write_bytes(b"")
    clock.advance(later)
    sink.write([line(2)])
    assert content(path) == {"events": line(2)}


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "events"
    target = tmp_path / "target"
    target.write_bytes(b"")
    sink = made(path, size=1000)
    moved(path)
    path.symlink_to(target)
    sink.reopen()
    assert "written on" in sink.advice
    sink.advice = ""
    sink.reopen()
    assert sink.advice == ""
    sink.write([line(0)])
    assert (target.read_bytes(), (tmp_path / "elsewhere").read_bytes()) == (b"", line(0))
    path.unlink()
    sink.reopen()
    sink.write([line(1)])
    assert path.read_bytes() == line(1)
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(OutputFailed):
        made(link)


def test_numbered_links_are_moved_and_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "events"
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / "events.1").symlink_to(target)
    fill(path, keep=1, batches=3)
    assert content(path) == {"events": line(2), "events.1": line(1), "target": b"precious"}


def test_no_line_goes_into_a_file_that_nobody_can_find(tmp_path: Path) -> None:
    """Removed, and no other can be made: an error, until there is one again."""
    path = tmp_path / "events"
    clock = ManualClock()
    sink = made(path, size=1000, clock=clock)
    path.unlink()
    path.mkdir()
    clock.advance(1)
    for _ in range(2):
        with pytest.raises(OutputFailed):
            sink.write([line(0)])
    assert sink.written == 0
    path.rmdir()
    sink.write([line(1)])
    assert (content(path), sink.written) == ({"events": line(1)}, 1)


def test_what_is_no_file_is_not_rotated() -> None:
    sink = made(Path(os.devnull), size=1)
    for number in range(3):
        sink.write([line(number)])
    assert (sink.written, sink.rotations, sink.advice) == (3, 0, "")
    sink.close()


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_descriptors_of_files_left_behind_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "events"
    sink = made(path, size=1)
    sink.write([line(0)])
    before = descriptors()
    for number in range(1, 10):
        sink.write([line(number)])
    assert descriptors() == before
