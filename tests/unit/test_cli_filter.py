# SPDX-License-Identifier: Apache-2.0
"""`replay --filter`: events of captures and logs, in every form of output, and what is said of a wrong filter."""

from __future__ import annotations

from pathlib import Path

import pytest

from enricher.cli import main as command
from tests.unit.sample_capture import write
from tests.unit.test_cli_replay import GOOD, LOG, replay


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "capture"
    write(path, GOOD)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.log"
    path.write_bytes(LOG)
    return path


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("type == EXECVE", ["SYSCALL"]),
        ("not user == root", ["USER_AVC"]),
        ("user == root and syscall == execve", ["SYSCALL"]),
        ("where == unknown", ["SYSCALL", "USER_AVC"]),
        ("where == container", []),
    ],
)
def test_an_expression(
    text: str, types: list[str], good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = replay(capsys, tmp_path / "out", good, "--filter", text)
    assert done.code == 0
    assert [event["type"] for event in done.events] == types
    whole = replay(capsys, tmp_path / "out", good)
    assert [line for line in whole.lines if line in done.lines] == done.lines


@pytest.mark.parametrize("view", ["json", "text", "table"])
def test_a_filter_is_the_same_for_every_view(
    view: str, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[bytes] = []
    for options in ([], ["--filter", "pid == 4711 and where != host"], ["--filter", "pid == 1"]):
        path = tmp_path / f"out{len(written)}"
        assert (
            command.main(["replay", str(log), "--format", view, "--output", str(path), "--raw", *options])
            == 0
        )
        written.append(path.read_bytes())
    everything, same, nothing = written
    assert same == everything
    assert nothing == (b"" if view != "table" else everything.splitlines(keepends=True)[0])
    capsys.readouterr()


def test_a_filter_counts_what_it_lets_through(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.write_bytes(b"".join(LOG.replace(b":101)", b":%d)" % number) for number in range(101, 109)))
    done = replay(capsys, tmp_path / "out", log, "--filter", "pid == 4711", "--count", "3")
    assert len(done.events) == 3


def test_a_wrong_filter_is_an_error_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["replay", str(tmp_path / "none.log"), "--filter", "user = root"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "audit-enricher: filter, column 6: = means nothing here",
        "  user = root",
        "       ^",
        "  hint: equal is written ==",
    ]
