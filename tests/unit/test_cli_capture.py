# SPDX-License-Identifier: Apache-2.0
"""`run --capture` and `record`: a capture that is evidence, and nothing left of a start that failed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from enricher import errors
from enricher.cli import main as command
from enricher.cli import run as run_command
from enricher.errors import OutputFailed
from enricher.runtime import startup
from enricher.runtime.pipeline import Pipeline
from enricher.runtime.selftest import Proof, Trial
from enricher.sources import capture
from enricher.sources.capture import End
from tests.unit.fake_host import Host, image, install, started
from tests.unit.sample_capture import kinds, read
from tests.unit.sample_stream import EOE, context, records, tally

EARLY = context(101), tally(101, 2)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host on which start-up succeeds, with one event already read."""
    made = Host()
    install(made, monkeypatch)
    trial = Trial(Proof.PROVED, 100, records(101, 1300, EOE), [EARLY[0]], [EARLY[1]])
    made.serial = 101

    def start(*_: object, tap: bool, **__: object) -> startup.Started:
        made.tap = [image(each) for each in EARLY] if tap else None
        return started(made, trial)

    monkeypatch.setattr(startup, "start", start)
    monkeypatch.setattr(run_command, "pick", lambda *_, **__: None)
    return made


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be started."""

    def start(*_: object, **__: object) -> None:
        raise AssertionError("something was attached")

    monkeypatch.setattr(startup, "start", start)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    return str(tmp_path / "events.json"), str(tmp_path / "capture")


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("argv", [["run", "--capture"], ["record"]])
def test_a_capture_that_exists_is_refused_before_anything_is_attached(
    argv: list[str], files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path(files[1]).write_bytes(b"evidence")
    assert command.main([*argv, files[1]]) == 9
    assert capsys.readouterr().err.endswith(
        f"audit-enricher: {files[1]}: exists\n  hint: a capture is never written over: name another file\n"
    )
    assert Path(files[1]).read_bytes() == b"evidence"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("argv", [["run", "--capture"], ["record"]])
def test_a_capture_that_cannot_be_made_is_refused_as_well(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([*argv, str(tmp_path / "no" / "capture")]) == 9
    assert "cannot be made: No such file or directory" in capsys.readouterr().err


@pytest.mark.usefixtures("untouched")
def test_events_and_capture_do_not_share_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    assert command.main(["run", "--capture", "-"]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert "give --output FILE as well" in said.err


@pytest.mark.usefixtures("untouched")
def test_events_and_capture_do_not_share_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    name, other = tmp_path / "x", tmp_path / "link" / "x"
    assert command.main(["run", "--capture", str(name), "--output", str(other)]) == 2
    assert "name two files" in capsys.readouterr().err
    assert not name.exists()


@pytest.mark.usefixtures("untouched")
def test_an_output_that_cannot_be_written_leaves_no_capture(files: tuple[str, str], tmp_path: Path) -> None:
    argv = ["run", "--capture", files[1], "--output"]
    assert command.main([*argv, str(tmp_path)]) == 9
    assert not Path(files[1]).exists()
    assert command.main([*argv, files[0], "--type", "SYSCAL"]) == 2
    assert not Path(files[1]).exists()


def test_a_start_that_fails_leaves_no_capture(
    files: tuple[str, str], monkeypatch: pytest.MonkeyPatch, host: Host
) -> None:
    whole = startup.start

    def start(*_: object, **__: object) -> None:
        raise errors.MissingCapability("CAP_BPF")

    monkeypatch.setattr(startup, "start", start)
    assert command.main(["record", files[1]]) == 3
    assert not Path(files[1]).exists()
    monkeypatch.setattr(startup, "start", whole)
    assert command.main(["record", files[1], "--for", "1s"]) == 0
    assert Path(files[1]).exists()
    assert host.log[-3:] == ["close"] * 3


# -- what is captured --------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["json", "text"])
def test_a_replay_gives_the_bytes_of_the_run(
    host: Host, files: tuple[str, str], tmp_path: Path, view: str
) -> None:
    host.script = [host.event, lambda: setattr(host, "dropped", 3)]
    argv = ["run", "--for", "9s", "--format", view, "--output", files[0], "--capture", files[1]]
    assert command.main(argv) == 0
    events = Path(files[0]).read_bytes()
    assert events.count(b"\n") >= 3
    again = tmp_path / "again"
    assert command.main(["replay", files[1], "--format", view, "--output", str(again)]) == 0
    assert again.read_bytes() == events


def test_without_a_capture_nothing_is_tapped(host: Host, files: tuple[str, str]) -> None:
    assert command.main(["run", "--for", "1s", "--output", files[0]]) == 0
    assert host.tap is None


def test_record_writes_the_capture_alone(
    host: Host, files: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    host.script = [host.event]
    assert command.main(["record", files[1], "--for", "2s"]) == 0
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.endswith("every record is accounted for\n")
    frames = read(Path(files[1]).read_bytes())
    assert kinds(frames)[0] == "head"
    assert "stop" in kinds(frames)
    assert isinstance(frames[-1], End)


def test_the_replay_of_a_record_is_told_as_the_run_was(
    host: Host, files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    host.script = [host.event]
    assert command.main(["record", files[1], "--for", "2s"]) == 0
    account = capsys.readouterr().err.partition("audit-enricher: ready\n")[2]
    assert account.startswith("events ")
    assert command.main(["replay", files[1], "--output", files[0]]) == 0
    assert capsys.readouterr().err.partition("made by version")[2].partition("\n")[2] == account


def test_record_to_standard_output(host: Host, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert command.main(["record", "-", "--for", "2s"]) == 0
    assert host.log[-1] == "close"
    assert isinstance(read(capfdbinary.readouterr().out)[-1], End)


def test_record_ends_when_the_capture_is_large_enough(host: Host, files: tuple[str, str]) -> None:
    def more() -> None:
        host.event()
        host.script.append(more)

    host.script = [more]
    assert command.main(["record", files[1], "--max-size", "4K"]) == 0
    assert 4096 <= Path(files[1]).stat().st_size < 6000
    assert isinstance(read(Path(files[1]).read_bytes())[-1], End)


# -- SIGUSR1 -----------------------------------------------------------------------------------------


def test_an_account_on_demand(host: Host, files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    host.script = [
        None,
        lambda: signal.raise_signal(signal.SIGUSR1),
        host.event,
        lambda: signal.raise_signal(signal.SIGTERM),
    ]
    assert command.main(["run", "--output", files[0]]) == 0
    said = capsys.readouterr().err.partition("audit-enricher: ready\n")[2]
    delivered = [line.split()[-1] for line in said.splitlines() if line.startswith("records delivered")]
    assert delivered == ["2", "5"], "one when asked, one at the end, and the run went on between"
    assert Path(files[0]).read_bytes().count(b"\n") == 3


# -- outputs that fail -------------------------------------------------------------------------------


def failing(monkeypatch: pytest.MonkeyPatch, name: str, after: int) -> None:
    """Let that writer fail after so many calls."""
    owner, _, method = name.rpartition(".")
    module, _, kind = owner.rpartition(".")
    writer = getattr({"capture": capture, "run": run_command}[module], kind)
    real: Callable[..., object] = getattr(writer, method)
    calls = iter(range(after))

    def write(*arguments: object) -> object:
        if next(calls, None) is None:
            raise OutputFailed("the disk is full", "free some")
        return real(*arguments)

    monkeypatch.setattr(writer, method, write)


@pytest.mark.parametrize("name", ["run.Output.emit", "capture.CaptureWriter.turn"])
@pytest.mark.parametrize("after", [1, 2])
def test_an_output_that_fails_in_the_middle(  # noqa: PLR0913 - fixtures
    host: Host,
    files: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    after: int,
) -> None:
    """The account so far, the error, and everything is taken down."""
    failing(monkeypatch, name, after)
    host.script = [host.event, host.event, host.event]
    assert command.main(["run", "--for", "9s", "--output", files[0], "--capture", files[1]]) == 9
    said = capsys.readouterr().err
    assert said.endswith("audit-enricher: the disk is full\n  hint: free some\n")
    assert "\nrecords delivered " in said
    assert "not marked by a self-test record at both ends" in said
    assert host.log[-3:] == ["close"] * 3
    assert Path(files[1]).stat().st_size > 100


def test_an_output_that_fails_at_the_end(
    host: Host, files: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def finish(_: Pipeline) -> None:
        raise OutputFailed("the disk is full")

    monkeypatch.setattr(Pipeline, "finish", finish)
    assert command.main(["run", "--for", "1s", "--output", files[0]]) == 9
    assert "\nrecords delivered " in capsys.readouterr().err
    assert host.log[-3:] == ["close"] * 3


def test_a_disk_that_is_full_from_the_beginning(
    host: Host, files: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, "capture.CaptureWriter.head", 0)
    assert command.main(["record", files[1]]) == 9
    assert capsys.readouterr().err.endswith("audit-enricher: the disk is full\n  hint: free some\n")
    assert host.log[-3:] == ["close"] * 3
    assert not Path(files[1]).exists()
