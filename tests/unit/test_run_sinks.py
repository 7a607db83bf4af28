# SPDX-License-Identifier: Apache-2.0
"""`run --sinks`: the events of a run reach destinations, alone or beside the output, and what is lost is told."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest

from enricher.cli import main as command
from enricher.errors import ConfigInvalid, OutputFailed, UsageError
from enricher.runtime.routes import Routes
from tests import schema
from tests.unit.fake_host import Host
from tests.unit.sample_capture import write
from tests.unit.sample_sinks import Double, install, table
from tests.unit.test_cli import host, untouched
from tests.unit.test_cli_replay import GOOD

__all__ = ["host", "untouched"]


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Double:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr(Routes.stop, "__defaults__", (5.0,))
    return install(monkeypatch)


class Bench:
    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.output = directory / "events.json"
        self.file = directory / "conf.toml"
        self._capsys = capsys
        self.said = ""

    def run(self, tables: str, *argv: str) -> int:
        self.file.write_text(tables)
        code = command.main(["run", "--for", "1s", "--config", str(self.file), "--sinks", *argv])
        said = self._capsys.readouterr()
        assert said.out == ""
        self.said = said.err
        return code

    def events(self) -> list[dict[str, Any]]:
        return schema.parse(self.output.read_bytes())


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, capsys)


def got(double: Double, address: str) -> list[dict[str, Any]]:
    return schema.parse(b"\n".join(double.bodies(address)))


@pytest.mark.usefixtures("host")
def test_destinations_get_the_events_and_standard_output_nothing(bench: Bench, double: Double) -> None:
    assert bench.run(table("a") + table("b", 'filter = "type == LOGIN"')) == 0
    assert [event["id"].rpartition(":")[2] for event in got(double, "a:1")] == ["101", "102"]
    assert got(double, "b:1") == []
    assert "a: 2 taken, 0 retries, 0 waiting, 0 refused, 0 lost, 0 unsure\n" in bench.said
    assert "every record is accounted for\na: 2 taken" in bench.said


@pytest.mark.usefixtures("host")
def test_the_output_stands_beside_them_with_its_own_filter(bench: Bench, double: Double) -> None:
    assert bench.run(table("a"), "--output", str(bench.output), "--type", "SYSCALL") == 0
    sent = got(double, "a:1")
    assert bench.events() == [event for event in sent if event["type"] == "SYSCALL"] != []
    assert len(sent) == 2


@pytest.mark.usefixtures("host")
def test_a_count_is_that_of_the_output(bench: Bench, double: Double) -> None:
    assert bench.run(table("a"), "--output", str(bench.output), "--count", "1") == 0
    assert len(bench.events()) == 1
    assert len(got(double, "a:1")) == 2


@pytest.mark.usefixtures("host")
def test_what_waits_is_in_the_spool_for_the_next_start(
    bench: Bench, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Routes.stop, "__defaults__", (0.1,))
    double.away.add("a:1")
    assert bench.run(table("a")) == OutputFailed.exit_code
    assert "a: 2 messages wait for the next start\n" in bench.said
    assert re.search(
        r"^a: 0 taken, \d+ retries, 2 waiting, 0 refused, 0 lost, 0 unsure$", bench.said, re.MULTILINE
    )
    double.away.clear()
    other = bench.file.with_name("capture")
    write(other, GOOD)
    assert command.main(["replay", str(other), "--config", str(bench.file), "--sinks"]) == 0
    assert [event["id"].rpartition(":")[2] for event in got(double, "a:1")][:2] == ["101", "102"]


@pytest.mark.usefixtures("host")
def test_a_loss_is_told_in_the_stream(bench: Bench, double: Double) -> None:
    double.refuses.add("a:1")
    assert bench.run(table("a") + table("b"), "--output", str(bench.output)) == OutputFailed.exit_code
    told = [event["lost"] for event in bench.events() if event["type"] == "LOST"]
    # Two records of the first event, one of the nonce at the end.
    assert sum(lost["records"] for lost in told) == 3
    assert {(lost["stage"], lost["sink"]) for lost in told} == {("sink", "a")}
    # What is told after the couriers have ended waits in the spools for the next start.
    assert len([event for event in got(double, "b:1") if event["type"] != "LOST"]) == 2


@pytest.mark.usefixtures("host")
def test_what_a_queue_in_memory_gives_up_at_the_end_is_told(
    bench: Bench, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Routes.stop, "__defaults__", (0.1,))
    double.away.add("a:1")
    assert bench.run(table("a", 'queue = "memory"'), "--output", str(bench.output)) == OutputFailed.exit_code
    (lost,) = [event["lost"] for event in bench.events() if event["type"] == "LOST"]
    assert (lost["stage"], lost["records"], lost["sink"]) == ("queue", 3, "a")
    assert ", 2 lost, " in bench.said


def test_losses_are_told_while_it_runs(host: Host, bench: Bench, double: Double) -> None:
    """No message fits into the queue, which is known at once: it is told before the run's last nonce."""
    host.script = [host.event, host.event]
    code = bench.run(table("a", 'queue = "memory"\nmax_size = 1'), "--output", str(bench.output))
    types = [event["type"] for event in bench.events()]
    assert types.index("LOST") < types.index("USER_AVC")
    assert code == OutputFailed.exit_code
    assert got(double, "a:1") == []


@pytest.mark.usefixtures("host")
def test_a_signal_ends_it(host: Host, bench: Bench, double: Double) -> None:
    host.script = [None, lambda: signal.raise_signal(signal.SIGINT)]
    assert bench.run(table("a")) == 0
    assert len(got(double, "a:1")) == 2
    assert host.log[-3:] == ["close"] * 3


@pytest.mark.usefixtures("untouched", "double")
@pytest.mark.parametrize(
    "text, argv, code, said",
    [
        ("", [], UsageError, "no destination is configured"),
        (table("a"), ["--count", "3"], UsageError, "--count is of the output"),
        (table("a"), ["--no-self"], UsageError, "--no-self is of the output"),
        (table("a"), ["--filter", "type == LOGIN"], UsageError, "--filter is of the output"),
        ("[sinks.a]\ntype = 'relpp'\n", [], ConfigInvalid, "conf.toml:2: type: there is no type 'relpp'"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_attached(
    text: str, argv: list[str], code: type[UsageError], said: str, bench: Bench
) -> None:
    assert bench.run(text, *argv) == code.exit_code
    assert said in bench.said


@pytest.mark.usefixtures("untouched")
def test_a_destination_that_cannot_be_had_is_said_before_anything_is_attached(
    bench: Bench, double: Double
) -> None:
    double.wrong.add("a:1")
    assert bench.run(table("a")) == ConfigInvalid.exit_code
    assert "[sinks.a]: ca_file: no such file" in bench.said


@pytest.mark.usefixtures("host")
def test_a_capture_may_go_to_standard_output(
    tmp_path: Path, double: Double, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "conf.toml").write_text(table("a"))
    argv = ["run", "--for", "1s", "--config", str(tmp_path / "conf.toml"), "--sinks", "--capture", "-"]
    assert command.main(argv) == 0
    assert capfdbinary.readouterr().out.startswith(b"AUDENRC\x01")
    assert len(got(double, "a:1")) == 2
