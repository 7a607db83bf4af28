# SPDX-License-Identifier: Apache-2.0
"""Captures that benchmarks read: what is taken of them, what is made of them, and which are kept."""

from __future__ import annotations

import json
import re
import shutil
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, BinaryIO, Self

import pytest

from tests.bench import bench_rivals, capture_guest, captures
from tests.bench.captured import captured_log

if TYPE_CHECKING:
    from collections.abc import Callable

_LINES = (
    b"type=DAEMON_START msg=audit(1700000000.000:77): op=start ver=3.0.9 pid=5 res=success",
    b"type=CONFIG_CHANGE msg=audit(1700000000.010:10): op=set audit_backlog_limit=8192 old=64 auid=1000 res=1",
    b'type=SYSCALL msg=audit(1700000000.020:11): syscall=87 a0=4020c8 pid=100 comm="cc" key="delete"',
    # Another CPU's event, in between.
    b'type=SYSCALL msg=audit(1700000000.020:12): syscall=87 a0=4020c8 pid=101 comm="cc" key="delete"',
    b'type=PATH msg=audit(1700000000.020:11): item=0 name="/obj/unit-1.o" inode=77 nametype=DELETE',
    b'type=PATH msg=audit(1700000000.020:12): item=0 name="/obj/unit-2.o" inode=78 nametype=DELETE',
    b'type=SYSCALL msg=audit(1700000000.021:13): syscall=87 a0=4020c8 pid=100 comm="cc" key="delete"',
    b'type=PATH msg=audit(1700000000.021:13): item=0 name="/obj/unit-1.o" inode=77 nametype=DELETE',
    b"type=USER_ACCT msg=audit(1700000001.000:14): pid=100 uid=0 msg='op=x res=success'",
)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "capture"
    path.write_bytes(b"\n".join(_LINES) + b"\ntype=PATH msg=audit(170000")
    return path


def events_of(path: Path) -> dict[bytes, list[tuple[bytes, bytes]]]:
    events = defaultdict(list)
    for line in path.read_bytes().splitlines():
        found = re.fullmatch(rb"type=(\S+) msg=audit\(([0-9.:]+)\):(.*)", line)
        assert found, line
        events[found[2]].append((found[1], found[3]))
    return events


def test_events_stay_as_and_where_they_are(capture: Path, tmp_path: Path) -> None:
    """But for one that is another's but for its stamp, the daemon's own, and a line that was cut off."""
    log = captured_log(tmp_path / "log", capture, 4)
    first, second = (b"type=EOE msg=audit(1700000000.020:%d): " % serial for serial in (11, 12))
    expected = [*_LINES[1:5], first, _LINES[5], second, _LINES[8]]
    assert log.path.read_bytes().splitlines() == expected
    assert (log.events, log.records, log.real, log.repeated, log.templates) == (4, 6, 4, 1, 0)
    assert log.size == log.path.stat().st_size


def test_the_first_are_taken_where_fewer_are_wanted(capture: Path, tmp_path: Path) -> None:
    log = captured_log(tmp_path / "log", capture, 2)
    assert (log.events, log.records, log.real) == (2, 3, 2)
    assert [stamp[-2:] for stamp in events_of(log.path)] == [b"10", b"11"]


def test_copies_come_behind_and_none_is_like_another(capture: Path, tmp_path: Path) -> None:
    log = captured_log(tmp_path / "log", capture, 300)
    events = events_of(log.path)
    assert (log.events, log.real, log.templates, log.left_out) == (300, 4, 3, 1)
    assert len(events) == 300
    assert len({tuple(lines) for lines in events.values()}) == 300
    assert log.records == sum(kind != b"EOE" for lines in events.values() for kind, _ in lines)
    stamps = [(float(stamp.split(b":")[0]), int(stamp.split(b":")[1])) for stamp in events]
    assert stamps == sorted(stamps)
    kinds = {kind for stamp in list(events)[4:] for kind, _ in events[stamp]}
    assert kinds == {b"SYSCALL", b"PATH", b"USER_ACCT", b"EOE"}, "what cannot be changed is not copied"


def test_a_capture_of_nothing_that_can_be_changed_is_not_enough(tmp_path: Path) -> None:
    (tmp_path / "capture").write_bytes(_LINES[1] + b"\n")
    with pytest.raises(ValueError, match="can be changed"):
        captured_log(tmp_path / "log", tmp_path / "capture", 2)


def test_each_pair_has_the_files_that_the_rules_readme_asks_for() -> None:
    assert len(captures.PAIRS) == 6
    for pair in captures.PAIRS:
        assert pair.files == sorted(pair.files)
        assert pair.files[0] == "10-base-config.rules"
        assert "31-privileged.rules" in pair.files
        assert pair.files[-1] == "99-finalize.rules"
    assert {pair.files[2] for pair in captures.PAIRS} == {"30-stig.rules", "30-pci-dss-v31.rules"}


@pytest.fixture
def into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(captures, "INTO", tmp_path)
    return tmp_path


@pytest.fixture
def booted(monkeypatch: pytest.MonkeyPatch, into: Path) -> Callable[..., int]:
    """A guest that is none; returns how often one was booted for the captures that were asked for."""
    (into / "hostload").touch()

    def boot(*pairs: str, **changes: object) -> int:
        told = {"rules": {"loaded": 60, "refused": [["-w /x", "no such file"]]}, "events": 9, "seconds": 1.0}
        told |= {"lost": 0, "ended": None, "bytes": 4, **changes}
        boots = []

        class Guest:
            version = "6.12"

            def __init__(self, slot: str, **_: object) -> None:
                boots.append(slot)

            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def run(self, argv: list[str], *, stdout: BinaryIO | None = None, **_: object) -> SimpleNamespace:
                if stdout is not None:
                    stdout.write(b"log\n")
                return SimpleNamespace(argv=argv, stdout=json.dumps(told).encode() + b"\n")

        monkeypatch.setattr(captures, "Guest", Guest)
        monkeypatch.setattr(captures, "sample_rules", lambda _: "3.0.9")
        monkeypatch.setattr(shutil, "copy", lambda *_: None)
        captures.main(list(pairs))
        return len(boots)

    return boot


def test_what_is_there_is_not_made_again(
    booted: Callable[..., int], into: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert booted("web-pci") == 1
    assert captures.there() == {"web-pci": into / "web-pci.log"}
    assert booted("web-pci", "build-stig") == 1
    said = capsys.readouterr().out
    assert said.count("web-pci: 9 events in 1.0 s") == 2
    assert "not loaded: -w /x: no such file" in said
    (into / "web-pci.json").unlink()
    assert booted("web-pci") == 1


@pytest.mark.parametrize("change", [{"lost": 1}, {"ended": 1}, {"bytes": 5}])
def test_a_capture_that_is_not_whole_is_not_kept(booted: Callable[..., int], change: dict[str, int]) -> None:
    with pytest.raises(RuntimeError, match="web-pci: not kept"):
        booted("web-pci", **change)
    assert not captures.there()


def test_an_unknown_pair_is_told(booted: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        booted("web-none")
    assert "build-stig" in capsys.readouterr().err


def test_the_last_event_of_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.log"
    path.touch()
    monkeypatch.setattr(capture_guest, "LOG", path)
    assert capture_guest.serial() == 0
    path.write_bytes(b"x" * 100_000 + b"\n" + b"\n".join(_LINES))
    assert capture_guest.serial() == 14


def test_captures_are_logs_of_the_comparison(
    booted: Callable[..., int],
    into: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bench_rivals, "CORPUS", into / "none")
    assert set(bench_rivals.sources(None)) == {"made"}
    said = capsys.readouterr().out
    assert "make test" in said
    assert "make bench-captures" in said
    booted("web-pci")
    (into / "logs").mkdir()
    (into / "web-pci.log").write_bytes(b"\n".join(_LINES) + b"\n")
    assert set(bench_rivals.sources(None)) == {"made", "web-pci"}
    logs = bench_rivals.write_logs(bench_rivals.sources(["web-pci"]), 20, into / "logs")
    assert (logs["web-pci"].events, logs["web-pci"].real) == (20, 4)
    assert "4 events as they were, 16 copies of 3 events with other values" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"no log real; there are: made, web-pci"):
        bench_rivals.sources(["real"])
