# SPDX-License-Identifier: Apache-2.0
"""The command line: what it understands, what it refuses and with which status, and that it cleans up."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from enricher import errors
from enricher.cli import main as command
from enricher.cli import options as values
from enricher.cli import run
from enricher.enrich.cgroups import CgroupTable
from enricher.runtime import startup
from enricher.runtime.selftest import Proof, Trial
from enricher.sinks.stream import OutputClosed
from enricher.sources.bpf.hook import Hook
from tests import schema
from tests.unit.fake_host import Host, install, started
from tests.unit.sample_stream import EOE, context, records, tally

Start = Callable[..., startup.Started]


def leaves(cls: type[errors.EnricherError]) -> list[type[errors.EnricherError]]:
    below = [leaf for child in cls.__subclasses__() for leaf in leaves(child)]
    return below or [cls]


LEAVES = [leaf for leaf in leaves(errors.EnricherError) if leaf is not OutputClosed]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host on which start-up succeeds, with one event already read."""
    made = Host()
    install(made, monkeypatch)
    trial = Trial(Proof.PROVED, 100, records(101, 1300, EOE), [context(101)], [tally(101, 2)])
    made.serial = 101
    monkeypatch.setattr(startup, "start", lambda *_, **__: started(made, trial))
    return made


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    def make(error: BaseException) -> None:
        def start(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(startup, "start", start)

    return make


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be started."""

    def start(*_: object, **__: object) -> None:
        raise AssertionError("something was attached")

    monkeypatch.setattr(startup, "start", start)


# -- what is understood ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv", [["--help"], ["run", "--help"], ["record", "--help"], ["replay", "--help"], ["--version"]]
)
def test_help(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(argv)
    assert caught.value.code == 0
    assert "audit-enricher" in capsys.readouterr().out


def test_exit_codes_are_those_of_the_errors() -> None:
    listed = {int(line.split()[0]) for line in command.EXIT_CODES.splitlines()[1:]}
    assert listed == {0, 1, 10, 11} | {leaf.exit_code for leaf in LEAVES}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("30s", 30),
        ("500ms", 0.5),
        ("0.5", 0.5),
        ("5m", 300),
        ("1.5h", 5400),
        ("1000h", 3_600_000),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert values.duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("65536", 65536), ("64K", 65536), ("32M", 32 << 20), ("1G", 1 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert values.size(text) == size


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (values.duration, ["", "s", "0", "0s", "0.0h", "-1", "1w", "1 s", "1e3", "nan", "inf", ".5", "30s "]),
        (values.size, ["", "K", "0", "0M", "-1", "1.5M", "32m", "32MB", "0x10", "1 K"]),
        (values.count, ["", "0", "-1", "1.5", "one", "\u00b2", " 1"]),
    ],
)
def test_what_is_no_duration_size_or_count(kind: Callable[[str], object], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError, match="is not a"):
            kind(text)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["walk"],
        ["run", "--for", "0"],
        ["run", "--count", "none"],
        ["run", "--ring-memory", "0"],
        ["run", "--format", "xml"],
        ["run", "--hook", "audit_log_start"],
        ["run", "now"],
        ["run", "--outpu"],
        ["run", "--max-size", "1G"],
        ["record"],
        ["record", "file", "--max-size", "0"],
        ["record", "file", "--format", "json"],
        ["replay"],
        ["replay", "file", "--hook", "auto"],
    ],
)
def test_command_lines_that_say_nothing_we_can_do(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(argv)
    assert caught.value.code == 2
    assert "usage: audit-enricher" in capsys.readouterr().err


def test_options_reach_the_start(monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
    asked: dict[str, object] = {}

    def start(_note: object, **options: object) -> startup.Started:
        asked.update(options)
        host.registered.clear()
        return started(host)

    monkeypatch.setattr(startup, "start", start)
    monkeypatch.setattr(run, "pick", lambda name, _note, *, verbose: (name, verbose))
    argv = ["run", "--for", "1s", "--hook", "skb_queue_tail", "--ring-memory", "64K", "--verbose"]
    assert command.main([*argv, "--receive-buffer", "2M", "--loader", "libbpf"]) == 0
    assert asked == {
        "forced": Hook.QUEUE,
        "budget": 65536,
        "receive_buffer": 2 << 20,
        "tap": False,
        "verbose": True,
        "loader": ("libbpf", True),
    }
    assert command.main(["run", "--for", "1s"]) == 0
    assert asked == {
        "forced": None,
        "budget": 32 << 20,
        "receive_buffer": 16 << 20,
        "tap": False,
        "verbose": False,
        "loader": ("auto", False),
    }


# -- errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_error_is_a_message_a_hint_and_a_status(
    leaf: type[errors.EnricherError],
    refuse: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    refuse(leaf("what went wrong", "what to do"))
    assert command.main(["run"]) == leaf.exit_code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.endswith("audit-enricher: what went wrong\n  hint: what to do\n")


def test_no_hint_no_line(refuse: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]) -> None:
    refuse(errors.LoadFailed("what went wrong"))
    assert command.main(["run"]) == 7
    assert "hint" not in capsys.readouterr().err


def test_a_bug_is_a_traceback(refuse: Callable[[BaseException], None]) -> None:
    refuse(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        command.main(["run"])


@pytest.mark.usefixtures("untouched")
def test_unknown_type_is_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "events.json"
    assert command.main(["run", "--type", "SYSCAL", "--output", str(output)]) == 2
    assert "hint: did you mean SYSCALL" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("name", ["nowhere/events.json", "."])
def test_unwritable_output_is_refused_before_anything_is_attached(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["run", "--output", str(tmp_path / name)]) == 9
    assert "cannot open" in capsys.readouterr().err


# -- a run -------------------------------------------------------------------------------------------


def test_a_run(host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "events.json"
    output.touch(mode=0o644)
    output.chmod(0o644)
    assert command.main(["run", "--for", "1s", "--output", str(output)]) == 0
    events = schema.parse(output.read_bytes())
    assert [event["id"].rpartition(":")[2] for event in events] == ["101", "102"]
    said = capsys.readouterr()
    assert said.out == ""
    assert "keeps its mode 0644" in said.err
    assert "hook audit_log_end (told to), self-test proved, loader double, 2 rings of 16384 KiB\n" in said.err
    assert "audit-enricher: ready\nevents " in said.err
    assert said.err.endswith("every record is accounted for\n")
    assert host.log[-3:] == ["close"] * 3


def test_a_count_ends_it(host: Host, tmp_path: Path) -> None:
    output = tmp_path / "events.json"
    assert command.main(["run", "--count", "1", "--output", str(output)]) == 0
    assert output.read_bytes().count(b"\n") == 1
    assert host.waits == [pytest.approx(3.0)], "only the wait for the last nonce"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(host: Host, tmp_path: Path, number: signal.Signals) -> None:
    host.script = [None, lambda: signal.raise_signal(number)]
    assert command.main(["run", "--output", str(tmp_path / "events.json")]) == 0
    assert b"op=audit-enricher-stop" in host.sent[0]


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.mark.parametrize("outcome", ["done", "refused", "bug"])
def test_nothing_is_left_behind(
    host: Host, refuse: Callable[[BaseException], None], tmp_path: Path, outcome: str
) -> None:
    """Handlers, wake-up descriptor, open files: as before, however it ends."""
    if outcome == "refused":
        refuse(errors.LoadFailed("no"))
    if outcome == "bug":
        host.refusal = ZeroDivisionError()
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    handlers = [signal.getsignal(number) for number in caught]
    before = descriptors()
    argv = ["run", "--for", "1s", "--output", str(tmp_path / "events.json")]
    if outcome == "bug":
        with pytest.raises(ZeroDivisionError):
            command.main(argv)
    else:
        command.main(argv)
    assert [signal.getsignal(number) for number in caught] == handlers
    assert signal.set_wakeup_fd(-1) == -1
    assert descriptors() == before
    assert (host.log[-3:] == ["close"] * 3) == (outcome != "refused")


class Gone:
    """`Output` whose reader has gone when the events come."""

    advice = ""
    full = False

    def __init__(self, *_: object, **__: object) -> None:
        self.cgroups = CgroupTable()

    def __enter__(self) -> Gone:  # noqa: PYI034 - a double
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def learn(self, _: object) -> None:
        pass

    def emit(self, _: object) -> None:
        raise OutputClosed("the reader of standard output has gone")


def test_reader_that_went_away_at_the_first_event(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The end of the work, not a failure: also while what the start has read is written."""
    monkeypatch.setattr(run, "Output", Gone)
    assert command.main(["run"]) == 0
    said = capsys.readouterr().err
    assert said.endswith("audit-enricher: the reader of the output went away\n")
    assert host.log[-3:] == ["close"] * 3


class Closed:
    """A standard error whose reader has gone."""

    def write(self, _: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


def test_nobody_is_left_to_be_told(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`2>&1 | head`: standard error goes with standard output."""
    monkeypatch.setattr(sys, "stderr", Closed())
    output = tmp_path / "events.json"
    assert command.main(["run", "--for", "1s", "--output", str(output)]) == 0
    assert output.read_bytes().count(b"\n") == 2
    assert host.log[-3:] == ["close"] * 3


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "enricher", "run", "--count", "0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "not a whole number of 1 or more" in done.stderr
