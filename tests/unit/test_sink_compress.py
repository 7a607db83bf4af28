# SPDX-License-Identifier: Apache-2.0
"""Older files that are compressed: no line is lost, and no half file is taken for whole, wherever it is stopped."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import stat
import threading
from collections import Counter
from pathlib import Path

import pytest

from enricher.clock import ManualClock
from enricher.sinks import compress
from enricher.sinks.compress import Compressor
from enricher.sinks.delivery.file import FileOptions, FileSender
from enricher.sinks.delivery.message import ALL_TAKEN, Message
from enricher.sinks.rotating import RotatingFile

DEADLINE = 20.0


class Stopped(BaseException):
    """The process ends here."""


class Quiet(Compressor):
    """Without a thread: a test says when it works."""

    def wake(self) -> None:
        pass


def line(number: int) -> bytes:
    return b"line %04d\n" % number


def made(path: Path, *, keep: int = 3, packs: bool = True) -> tuple[RotatingFile, Quiet]:
    compressor = Quiet(str(path))
    more = compressor if packs else None
    return RotatingFile(str(path), size=1, keep=keep, clock=ManualClock(), compressor=more), compressor


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def text(file: Path) -> bytes:
    data = file.read_bytes()
    return gzip.decompress(data) if file.suffix == ".gz" else data  # raises for what is not whole


def lines(path: Path) -> Counter[bytes]:
    return Counter(
        each
        for file in path.parent.iterdir()
        if not file.name.endswith(".part")
        for each in text(file).splitlines(keepends=True)
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    return tmp_path / "log" / "events"


def test_older_files_are_compressed_and_count_as_older_files(path: Path) -> None:
    file, compressor = made(path)
    for number in range(8):
        file.write([line(number)])
        compressor.work()
    assert names(path) == ["events", "events.1.gz", "events.2.gz", "events.3.gz"]
    assert [text(path.parent / name) for name in names(path)] == [line(7), line(6), line(5), line(4)]
    assert (compressor.done, compressor.error) == (7, "")


def test_several_that_wait_are_compressed_under_the_numbers_that_they_have(path: Path) -> None:
    file, compressor = made(path)
    for number in range(4):
        file.write([line(number)])
    compressor.work()
    assert [text(path.parent / f"events.{number}.gz") for number in (3, 2, 1)] == [line(0), line(1), line(2)]


def test_a_compressed_file_has_the_mode_and_the_time_of_the_plain_one(path: Path) -> None:
    file, compressor = made(path)
    file.write([line(0)])
    file.write([line(1)])
    older = path.with_name("events.1")
    older.chmod(0o604)
    os.utime(older, (5.0, 7.0))
    compressor.work()
    status = path.with_name("events.1.gz").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o604, 7.0)


@pytest.mark.parametrize("packs", [True, False])
def test_numbers_are_kept_whatever_the_setting_was_before(path: Path, *, packs: bool) -> None:
    """What was compressed goes on being counted, and what was not is compressed."""
    before, compressor = made(path, packs=not packs)
    for number in range(3):
        before.write([line(number)])
        if not packs:
            compressor.work()
    before.close()
    file, compressor = made(path, packs=packs)
    for number in range(3, 5):
        file.write([line(number)])
        if packs:
            compressor.work()
    ends = [".gz"] * 3 if packs else ["", "", ".gz"]
    assert names(path) == ["events", *(f"events.{number}{end}" for number, end in enumerate(ends, start=1))]
    assert lines(path) == Counter(map(line, range(1, 5)))


@pytest.mark.parametrize("keep", [0, 1])
def test_the_fewest_that_can_be_kept(path: Path, keep: int) -> None:
    file, compressor = made(path, keep=keep)
    for number in range(4):
        file.write([line(number)])
        compressor.work()
    assert lines(path) == Counter(map(line, range(3 - keep, 4)))


def test_what_is_too_many_goes_compressed_or_not(path: Path) -> None:
    for number in (4, 6):
        path.with_name(f"events.{number}.gz").write_bytes(gzip.compress(b"x\n"))
    path.with_name("events.5").write_bytes(b"x\n")
    file, _ = made(path)
    file.write([line(0)])
    file.write([line(1)])
    assert names(path) == ["events", "events.1"]


# -- stopped anywhere --------------------------------------------------------------------------------

CALLS = ("open", "fsync", "fchmod", "utime", "rename", "unlink", "lstat")


def stop_at(monkeypatch: pytest.MonkeyPatch, which: int) -> list[str]:
    """End the process at the call with this number, of those that matter; returns the calls."""
    made: list[str] = []
    for name in CALLS:
        real = getattr(os, name)

        def call(*words: object, name: str = name, real: object = real, **more: object) -> object:
            made.append(name)
            if len(made) >= which:  # nothing is tidied up by who is gone
                raise Stopped
            return real(*words, **more)  # type: ignore[operator]

        monkeypatch.setattr(os, name, call)
    return made


def test_a_stop_anywhere_loses_nothing_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotations and compressions in turn, ended at every system call; then the next run goes on."""
    ended, which = True, 0
    while ended:
        which += 1
        path = tmp_path / str(which) / "events"
        path.parent.mkdir()
        file, compressor = made(path, keep=9)
        with monkeypatch.context() as patch:
            stop_at(patch, which)
            written = 0
            ended = True
            with contextlib.suppress(Stopped):
                for number in range(3):
                    file.write([line(number)])
                    written = number + 1
                    compressor.work()
                ended = False
        found = lines(path)  # every .gz is whole at this moment
        assert set(map(line, range(written))) <= set(found), which
        file.close()
        again, compressor = made(path, keep=9)
        again.write([line(9)])
        compressor.work()
        assert lines(path) == Counter([*map(line, range(written)), line(9)]), which
        assert not path.with_name("events.gz.part").exists()
        again.close()
    assert which > 20, "what is counted did not happen"


def test_a_part_that_a_crash_left_is_not_taken_for_a_file(path: Path) -> None:
    path.with_name("events.gz.part").write_bytes(gzip.compress(b"half\n" * 1000)[:20])
    file, compressor = made(path)
    file.write([line(0)])
    file.write([line(1)])
    compressor.work()
    assert names(path) == ["events", "events.1.gz"]
    assert lines(path) == Counter(map(line, range(2)))


@pytest.mark.parametrize("packed", [gzip.compress(line(5)), gzip.compress(line(0))[:-3], b"", b"no gzip"])
def test_a_compressed_file_of_somebody_elses_beside_a_plain_one_costs_neither(
    path: Path, packed: bytes
) -> None:
    file, compressor = made(path)
    file.write([line(0)])
    file.write([line(1)])
    path.with_name("events.1.gz").write_bytes(packed)
    compressor.work()
    assert path.with_name("events.1").read_bytes() == line(0)
    assert path.with_name("events.1.gz").read_bytes() == packed
    file.write([line(2)])
    assert (path.with_name("events.2").read_bytes(), path.with_name("events.2.gz").read_bytes()) == (
        line(0),
        packed,
    )


# -- beside who writes -------------------------------------------------------------------------------


def test_the_file_that_is_written_is_not_compressed_when_somebody_moved_it(path: Path) -> None:
    file, compressor = made(path)
    file.write([line(0)])
    path.rename(path.with_name("events.1"))  # not noticed before a second has passed
    compressor.work()
    assert names(path) == ["events.1"]
    file.write([line(1)])
    compressor.work()
    assert names(path) == ["events", "events.1.gz"]
    assert lines(path) == Counter(map(line, range(2)))


def test_a_file_that_grew_meanwhile_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, compressor = made(path)
    file.write([line(0)])
    file.write([line(1)])
    real = os.fsync

    def grow(fd: int) -> None:
        real(fd)
        with path.with_name("events.1").open("ab") as other:
            other.write(b"more\n")

    monkeypatch.setattr(os, "fsync", grow)
    compressor.work()
    assert names(path) == ["events", "events.1"]
    assert path.with_name("events.1").read_bytes() == line(0) + b"more\n"


def test_a_rotation_meanwhile_moves_the_file_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, compressor = made(path)
    file.write([line(0)])
    file.write([line(1)])
    real = os.fchmod

    def rotate(fd: int, mode: int) -> None:
        monkeypatch.setattr(os, "fchmod", real)
        file.write([line(2)])
        real(fd, mode)

    monkeypatch.setattr(os, "fchmod", rotate)
    compressor.work()
    assert names(path) == ["events", "events.1.gz", "events.2.gz"]
    assert text(path.with_name("events.2.gz")) == line(0)


def test_a_part_of_one_that_came_after_us_is_neither_renamed_nor_removed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, compressor = made(path)
    file.write([line(0)])
    file.write([line(1)])
    part = path.with_name("events.gz.part")
    real = os.fsync

    def begin_anew(fd: int) -> None:
        real(fd)
        part.unlink()
        part.write_bytes(b"half")

    monkeypatch.setattr(os, "fsync", begin_anew)
    compressor.work()
    assert names(path) == ["events", "events.1", "events.gz.part"]
    assert part.read_bytes() == b"half"


def test_a_full_disk_is_told_and_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, compressor = made(path)
    file.write([line(0)])
    file.write([line(1)])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        compressor.work()
    assert compressor.error.endswith(
        "events.1 cannot be compressed and stays as it is: No space left on device"
    )
    assert names(path) == ["events", "events.1"]
    compressor.work()
    assert (compressor.error, names(path)) == ("", ["events", "events.1.gz"])


def message(number: int) -> Message:
    return Message(f"b/{number}", 1.0, "SYSCALL", line(number)[:-1], number, 1)


def test_a_delivery_does_not_wait_for_a_compression(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one file is being compressed, and for as long as that takes, messages are taken and files rotated."""
    held, let_go, took = threading.Event(), threading.Event(), threading.Event()
    real = compress._sync

    class Slow(gzip.GzipFile):
        def write(self, data: object) -> int:
            held.set()
            assert let_go.wait(DEADLINE)
            return super().write(data)  # type: ignore[arg-type]

    def sync(directory: Path) -> None:
        real(directory)
        took.set()

    monkeypatch.setattr(gzip, "GzipFile", Slow)
    monkeypatch.setattr(compress, "_sync", sync)
    sender = FileSender(FileOptions(str(path), rotate_size=1, compress=True))
    for number in range(2):
        assert sender.send([message(number)]) == ALL_TAKEN
    assert held.wait(DEADLINE)
    for number in range(2, 5):
        assert sender.send([message(number)]) == ALL_TAKEN
    assert names(path) == ["events", *(f"events.{number}" for number in range(1, 5)), "events.gz.part"]
    let_go.set()
    assert took.wait(DEADLINE)
    sender.close()
    assert not path.with_name("events.gz.part").exists()
    assert lines(path) == Counter(map(line, range(5)))
    assert path.with_name("events.4.gz").exists()


def test_an_end_does_not_wait_for_a_large_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up between two chunks, and begins anew the next time."""
    path.with_name("events.1").write_bytes(b"x" * 1000 + b"\n")
    reached, let_go = threading.Event(), threading.Event()

    class Slow(gzip.GzipFile):
        def write(self, data: object) -> int:
            reached.set()
            assert let_go.wait(DEADLINE)
            return super().write(data)  # type: ignore[arg-type]

    monkeypatch.setattr(compress, "_CHUNK", 10)
    with monkeypatch.context() as patch:
        patch.setattr(gzip, "GzipFile", Slow)
        sender = FileSender(FileOptions(str(path), compress=True))
        sender.send([message(0)])
        assert reached.wait(DEADLINE)
        assert sender._compressor is not None
        sender._compressor._stop = True
        let_go.set()
        sender.close()
    assert names(path) == ["events", "events.1"]
    compressor = Compressor(str(path))
    compressor.work()
    assert names(path) == ["events.1.gz", "events"][::-1]


def test_without_the_setting_nothing_is_compressed(path: Path) -> None:
    sender = FileSender(FileOptions(str(path), rotate_size=1))
    for number in range(3):
        sender.send([message(number)])
    sender.close()
    assert names(path) == ["events", "events.1", "events.2"]
    assert not [thread for thread in threading.enumerate() if thread.name == "compress"]
