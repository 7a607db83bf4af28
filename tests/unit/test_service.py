# SPDX-License-Identifier: Apache-2.0
"""One run of the service on a host that is a double: what it leaves, says, reloads and survives."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from enricher.cli import main as command
from enricher.clock import TurnClock
from enricher.config import load as config
from enricher.config import settings as rows
from enricher.config.load import Settings
from enricher.correlate.ledger import Summary
from enricher.errors import (
    LoadFailed,
    MissingCapability,
    NoBtf,
    NotProved,
    OutputFailed,
    SelfTestFailed,
    UsageError,
)
from enricher.runtime import helper, prefetch, privileges, service, startup, state
from enricher.runtime.lookups import Lookups as RealLookups
from enricher.runtime.prefetch import Prefetch
from enricher.runtime.selftest import Proof, Trial
from enricher.runtime.state import Left
from enricher.sources.host import read_host_facts
from tests import schema
from tests.unit.fake_host import Host, install, started
from tests.unit.sample_events import HOST

BLIND = Trial(Proof.HOOK_MISSED, 100, [], [], [])


class Asked:
    """Signals that a test sends: one act for each turn, and then the end."""

    fd = 999

    def __init__(self, *acts: Callable[[Asked], object]) -> None:
        self.acts = list(acts)
        self.reload = self.report = False

    @property
    def stopped(self) -> bool:
        if not self.acts:
            return True
        self.acts.pop(0)(self)
        return False

    def take_report(self) -> bool:
        taken, self.report = self.report, False
        return taken

    def take_reload(self) -> bool:
        taken, self.reload = self.reload, False
        return taken


class Bench:
    """A service, its directories and what it says."""

    def __init__(self, tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = host
        self.directory = tmp_path
        self.events_file = tmp_path / "events.json"
        self.file = tmp_path / "settings.toml"
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(tmp_path / "notify"))
        self.manager.settimeout(0)
        self.said: list[str] = []
        self.dropped = self.kept = self.aside = 0
        self.running: service.Service
        self.configure()
        monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "8000000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        monkeypatch.setattr(service, "read_host_facts", lambda: read_host_facts()._replace(facts=HOST))
        monkeypatch.setattr(startup, "start", lambda *_, **__: started(host))
        monkeypatch.setattr(startup, "stop", lambda _: host.log.append("stopped"))
        monkeypatch.setattr(
            startup, "start_blind", lambda *_, **__: started(host, BLIND)._replace(candidate=None)
        )
        monkeypatch.setattr(privileges, "drop", self.drop)
        monkeypatch.setattr(service, "TurnClock", self.clock)

    def clock(self) -> TurnClock:
        made = TurnClock()
        made.now = self.host.now
        return made

    def drop(self, works: Callable[[], bool], also: int = 0, aside: int = 0) -> int:
        assert works()
        self.kept, self.aside = also, aside
        self.dropped += 1
        return 1 << 29 | aside

    def configure(self, **output: object) -> None:
        lines = [f"{key} = {json.dumps(value)}" for key, value in output.items()]
        self.file.write_text(
            f'[control]\nsocket = "{self.directory}/control.sock"\ngroup = ""\n'
            f'[output]\npath = "{self.events_file}"\n' + "\n".join(lines) + "\n"
        )

    def run(self, *acts: Callable[[Asked], object], settings: Settings | None = None) -> Summary:
        path = str(self.file)
        settings = settings or config.load(path, {})
        self.running = service.Service(path, settings, Asked(*acts), self.said.append)
        return self.running.run()

    def event(self, _: Asked) -> None:
        self.host.script.append(self.host.event)

    def saved(self, _: Asked) -> None:
        """Let what is written beside the loop be written."""
        journal = self.running._journal
        for task in (self.running._saving, None if journal is None else journal._task):
            if task is not None:
                task._over.wait(30)

    def reload(self, asked: Asked) -> None:
        asked.reload = True

    def events(self) -> list[dict[str, Any]]:
        return schema.parse(self.events_file.read_bytes())

    def notices(self) -> list[dict[str, Any]]:
        return [event["notice"] for event in self.events() if event["type"] == "NOTICE"]

    def told(self) -> list[str]:
        """What the manager was told: the first line of each message."""
        messages = []
        while True:
            try:
                messages.append(self.manager.recv(65_536).decode().partition("\n")[0])
            except BlockingIOError:
                return messages

    def leave(self, serial: int, *, closed: bool = True, boot: str = HOST.boot_id, hook: str = "") -> None:
        state.save(str(self.directory), Left(boot, serial, closed, hook or "audit_log_end", "6.1.0"))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    host = Host()
    install(host, monkeypatch)
    made = Bench(tmp_path, host, monkeypatch)
    yield made
    made.manager.close()


def test_a_run_from_ready_to_its_account(bench: Bench) -> None:
    summary = bench.run(bench.event, bench.event)
    assert summary.balanced
    assert summary.gap is None
    serials = [int(event["id"].rpartition(":")[2]) for event in bench.events()]
    assert serials == [101, 102, 103]
    assert bench.dropped == 1
    assert bench.host.log[-2:] == ["epoll closed", "stopped"]
    assert not (bench.directory / "control.sock").exists()
    assert state.load(str(bench.directory)) == Left(
        HOST.boot_id, 103, closed=True, hook="audit_log_end", release=os.uname().release
    )
    told = bench.told()
    assert told[0] == "READY=1"
    assert told[-1] == "STOPPING=1"
    assert "WATCHDOG=1" in told


def test_the_watchdog_is_fed_while_nothing_happens(bench: Bench) -> None:
    bench.run(*[lambda _: None] * 6)
    assert bench.host.waits[0] == 4.0
    assert bench.told().count("WATCHDOG=1") >= 6


def test_the_gap_since_the_last_run_is_told_first(bench: Bench) -> None:
    bench.leave(90)
    summary = bench.run(bench.event)
    assert summary.gap == (91, 99, "restart")
    notice = bench.events()[0]["notice"]
    assert (notice["kind"], notice["first"], notice["last"], notice["reason"]) == ("gap", 91, 99, "restart")
    assert "at most 9 events" in notice["text"]


@pytest.mark.parametrize(
    ("left", "reason", "first"),
    [({"serial": 90, "closed": False}, "crash", 91), ({"serial": 7, "boot": "another"}, "boot", 1)],
)
def test_other_gaps(bench: Bench, left: dict[str, Any], reason: str, first: int) -> None:
    bench.leave(**left)
    bench.run()
    (notice,) = bench.notices()
    assert (notice["reason"], notice["first"], notice["last"]) == (reason, first, 99)


def test_two_runs_without_a_record_between_them_have_no_gap(bench: Bench) -> None:
    bench.leave(99)
    assert bench.run().gap is None
    assert bench.notices() == []


def test_what_cannot_be_told_of_the_last_run_is_told(bench: Bench) -> None:
    (bench.directory / state.NAME).write_text("{}")
    bench.run(lambda _: None)
    (notice,) = bench.notices()
    assert notice["kind"] == "gap"
    assert "damaged" in notice["text"]
    assert "first" not in notice


def test_two_services_do_not_share_a_state(bench: Bench) -> None:
    """Whatever sockets they have: each would say the other's end is its own."""

    def second(_: Asked) -> None:
        other = config.load(str(bench.file), {}).replaced(rows.SOCKET, f"{bench.directory}/2.sock", "here")
        with pytest.raises(UsageError, match="another service"):
            service.run(str(bench.file), other, Asked(), bench.said.append)

    bench.run(second)


def test_what_waits_for_a_disk_was_not_given_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state stays at what was written: all of the rest is the next start's gap."""
    from enricher.sinks.rotating import RotatingFile

    full = OutputFailed("cannot write: No space left on device")
    write = RotatingFile.write

    def fill(_: Asked) -> None:
        def fail(*_: object) -> None:
            raise full

        monkeypatch.setattr(RotatingFile, "write", fail)

    bench.run(bench.event, *[bench.saved] * 5, fill, bench.event)
    left = state.load(str(bench.directory))
    assert left is not None
    assert (left.serial, left.closed) == (101, False)
    assert any("the next start tells it as a gap" in line for line in bench.said)
    monkeypatch.setattr(RotatingFile, "write", write)


def test_another_hook_than_last_time_is_told(bench: Bench) -> None:
    bench.leave(99, hook="audit_log_end.part.0")
    bench.run()
    (notice,) = bench.notices()
    assert notice["kind"] == "hook"
    assert "audit_log_end.part.0 on Linux 6.1.0" in notice["text"]


def test_how_far_it_has_come_is_on_disk_before_a_crash(bench: Bench) -> None:
    """And says that no account closed the run."""
    seen = []

    def look(asked: Asked) -> None:
        bench.saved(asked)
        seen.append(state.load(str(bench.directory)))

    bench.run(bench.event, look, look, look, look, look)
    assert seen[-1] == Left(HOST.boot_id, 101, closed=False, hook="audit_log_end", release=os.uname().release)


def test_a_state_directory_that_cannot_be_written_is_told_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(bench.directory / "nowhere"))
    bench.run(bench.event, *[lambda _: None] * 6)
    told = [line for line in bench.said if "nowhere" in line and "journal.sqlite" not in line]
    assert len(told) == 2, "while running, and at the end"


def test_the_journal_has_what_the_filter_left_out(bench: Bench) -> None:
    """It is written after a while, at a reload and at the end; the next run goes on with it."""
    seen: list[dict[str, Any]] = []

    def look(_: Asked) -> None:
        facts: dict[str, Any] = bench.running._journal.facts() if bench.running._journal else {}
        seen.append(facts)

    bench.configure(keys=["nobody"])
    bench.run(bench.event, look, bench.reload, look, look)
    assert bench.events() == []
    journal = seen[0]
    assert journal["path"] == str(bench.directory / "journal.sqlite")
    assert [each["events"] for each in seen] == [0, 1, 1]
    (bench.directory / "audit.log").write_bytes(b'type=CWD msg=audit(1772366400.042:101): cwd="/"\n')
    out = bench.directory / "out.json"
    replay = [
        "replay",
        "--journal",
        journal["path"],
        str(bench.directory / "audit.log"),
        "--output",
        str(out),
    ]
    assert command.main(replay) == 0
    (event,) = schema.parse(out.read_bytes())
    assert event["enrichment"]["context"] == "journal"
    assert event["host"]["boot_id"] == HOST.boot_id


def test_without_a_journal(bench: Bench) -> None:
    bench.file.write_text(bench.file.read_text() + "[journal]\nenabled = false\n")
    seen: list[object] = []
    bench.run(bench.event, lambda _: seen.append(bench.running._status()["journal"]))
    assert seen == [None]
    assert not (bench.directory / "journal.sqlite").exists()


def test_a_boot_that_is_not_known_has_no_journal(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = HOST._replace(boot_id="")
    monkeypatch.setattr(service, "read_host_facts", lambda: read_host_facts()._replace(facts=facts))
    bench.run(bench.event)
    assert "no journal is kept: which boot this is cannot be told" in bench.said
    assert not (bench.directory / "journal.sqlite").exists()


def test_a_python_without_sqlite(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "enricher.sinks.journal", None)
    bench.run(bench.event)
    assert any(line.startswith("no journal is kept: import of") for line in bench.said)


def test_a_journal_that_cannot_be_had_stops_nothing(bench: Bench) -> None:
    (bench.directory / "journal.sqlite").write_bytes(b"no journal" * 1000)
    bench.run(bench.event)
    assert bench.events()
    assert any("a new one is begun" in line for line in bench.said)


def test_a_reload(bench: Bench) -> None:
    other = bench.directory / "other.json"

    def change(asked: Asked) -> None:
        bench.configure()
        bench.file.write_text(
            bench.file.read_text().replace("events.json", "other.json") + '[source]\nring_memory = "1M"\n'
        )
        asked.reload = True

    summary = bench.run(bench.event, change, bench.event)
    assert summary.balanced
    before, after = bench.events(), schema.parse(other.read_bytes())
    assert [event["id"].rpartition(":")[2] for event in before] == ["101"]
    assert after[0]["notice"]["settings"] == ["source.ring_memory", "output.path"]
    assert [event["id"].rpartition(":")[2] for event in after[1:]] == ["102", "103"]
    assert any("next start only: source.ring_memory" in line for line in bench.said)
    told = [line for line in bench.told() if line != "WATCHDOG=1"]
    assert told == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]


def test_wrong_settings_leave_the_old_ones(bench: Bench) -> None:
    def spoil(asked: Asked) -> None:
        bench.file.write_text("[output]\npath = 5\n")
        asked.reload = True

    bench.run(spoil, bench.event)
    (notice,) = bench.notices()
    assert notice["kind"] == "refused"
    assert any(f"{bench.file}:2: path: 5 is not an absolute path" in line for line in bench.said)
    assert bench.told().count("READY=1") == 2, "a reload that is never ready again ends the service"


def test_a_reload_without_a_change_makes_no_notice(bench: Bench) -> None:
    bench.run(bench.reload, bench.event)
    assert bench.notices() == []


def test_the_account_on_demand(bench: Bench) -> None:
    def ask(asked: Asked) -> None:
        asked.report = True

    bench.run(ask, bench.event)
    assert len([line for line in bench.said if "records finished by the kernel" in line]) == 1


def test_the_status_is_json_and_has_what_is_documented(bench: Bench) -> None:
    found: list[dict[str, Any]] = []
    bench.leave(90)
    bench.run(bench.event, lambda _: found.append(bench.running._status()))
    (status,) = json.loads(json.dumps(found))
    assert status["mode"] == "full"
    assert status["hook"] == "audit_log_end"
    assert status["output"]["path"] == str(bench.events_file)
    assert status["gap"] == {"first": 91, "last": 99, "reason": "restart", "events": 9}
    assert status["capabilities"] == ["CAP_AUDIT_WRITE"]
    assert status["way"] == "multicast"
    assert status["account"]["gap"]["first"] == 91
    assert status["config"]["files"] == [str(bench.file)]
    assert status["rss"] > 1 << 20
    assert status["metadata"] == {"state": "failed"}, "the host that is a double starts none"


def test_the_helper_comes_first_and_goes_last(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the output is opened and before privileges go; what it answered is in the status."""
    order: list[str] = []

    class Told(RealLookups):
        def close(self) -> None:
            order.append("closed")
            super().close()

    def start(settings: Settings, clock: TurnClock, _: object) -> Prefetch:
        order.append(f"started {bench.events_file.exists()} {bench.dropped} {settings[rows.METADATA]}")
        return Prefetch(Told(helper.start(), clock))

    monkeypatch.setattr(prefetch, "start", start)
    found: list[dict[str, Any]] = []
    bench.run(bench.event, lambda _: found.append(bench.running._status()))
    assert order == ["started False 0 True", "closed"]
    assert found[0]["metadata"]["state"] == "on"
    assert set(found[0]["metadata"]) == {"state"} | documented("The counters in `metadata`")
    assert bench.running._output.cgroups.asker is not None


def documented(words: str) -> set[str]:
    """The names in code of the first column of the table behind these words in docs/control.md."""
    text = (Path(__file__).parents[2] / "docs" / "control.md").read_text().partition(words)[2]
    table = text.partition("\n\n| member")[2].partition("\n\n")[0]
    return {name for row in table.splitlines()[2:] for name in re.findall("`(\\w+)`", row.split("|")[1])}


def test_a_second_service_is_refused(bench: Bench) -> None:
    def second(_: Asked) -> None:
        with pytest.raises(UsageError):
            service.run(str(bench.file), config.load(str(bench.file), {}), Asked(), bench.said.append)

    bench.run(second)
    assert not bench.notices()


# -- no hook -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [NoBtf, LoadFailed, SelfTestFailed])
def test_without_a_hook_it_runs_and_says_so_on_every_event(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("the kernel has nothing\nand a log of many lines", "boot another")

    monkeypatch.setattr(startup, "start", fail)
    bench.host.hook_sees = False
    bench.run(bench.event)
    notice, *events = bench.events()
    assert notice["notice"]["kind"] == "degraded"
    assert "the kernel has nothing" in notice["notice"]["text"]
    assert "many lines" not in notice["notice"]["text"]
    assert [event["enrichment"]["reason"] for event in events] == ["no context: the kernel has nothing"] * 2
    assert all("complete" not in event["enrichment"] for event in events)
    assert bench.running._in_one_line() == "degraded, no hook: the kernel has nothing"


def test_a_service_that_is_told_to_refuses(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NoBtf("the kernel has nothing")

    monkeypatch.setattr(startup, "start", fail)
    settings = config.load(str(bench.file), {}).replaced(rows.WITHOUT_HOOK, "refuse", "here")
    with pytest.raises(NoBtf):
        bench.run(settings=settings)


def test_what_may_pass_is_no_reason_to_go_without(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotProved("the self-test's record was dropped 5 times")

    monkeypatch.setattr(startup, "start", fail)
    with pytest.raises(NotProved):
        bench.run()


def test_a_missing_capability_is_no_reason_to_go_without(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MissingCapability("CAP_BPF is missing")

    monkeypatch.setattr(startup, "start", fail)
    with pytest.raises(MissingCapability):
        bench.run()
