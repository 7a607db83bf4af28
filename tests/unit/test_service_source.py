# SPDX-License-Identifier: Apache-2.0
"""The service and whoever brings the records: where it ends first, and where the service is the audit daemon."""

from __future__ import annotations

from typing import Any, cast

import pytest

from enricher.config import load as config
from enricher.errors import NoBtf, NotProved, UsageError
from enricher.runtime import privileges, service, servicesources, startup, state
from enricher.runtime.selftest import Proof, Trial
from enricher.runtime.startup import Started
from tests.unit.fake_host import Host, started
from tests.unit.test_service import Asked, Bench, bench

__all__ = ["bench"]


def test_the_end_of_what_brings_the_records(bench: Bench) -> None:
    """As when auditd ends: all that it handed on was given out, so what is missing begins behind that."""

    def end(_: Asked) -> None:
        bench.host.ended = True
        bench.host.delivers = False

    summary = bench.run(bench.event, bench.event, end, *[bench.event] * 9)
    assert summary.balanced
    last = max(int(event["id"].rpartition(":")[2]) for event in bench.events())
    left = state.load(str(bench.directory))
    assert left is not None
    assert (left.serial, left.closed) == (last, True)


class Daemon:
    """Who stands for `DaemonSocket`, and what happens to it and to privileges, in order."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = bench.host.log
        self.refusal: Exception | None = None
        bench.host.way = "daemon"
        bench.file.write_text(bench.file.read_text() + "[service]\ndaemon = true\n")
        monkeypatch.setattr(servicesources, "DaemonSocket", self.open)
        monkeypatch.setattr(privileges, "take_up", lambda: self.log.append("take up"))
        monkeypatch.setattr(privileges, "put_away", lambda mask: self.log.append(f"put away {mask:#x}"))
        monkeypatch.setattr(startup, "start", lambda *_, source, **__: self.start(bench.host, source))

    def open(self, size: int, _note: object) -> Daemon:
        if self.refusal:
            raise self.refusal
        self.log.append(f"open {size}")
        return self

    def start(self, host: Host, source: object) -> Started:
        assert source is self
        return started(host)

    def close(self) -> None:
        self.log.append("daemon closed")


@pytest.fixture
def daemon(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    return Daemon(bench, monkeypatch)


def acts(log: list[str]) -> list[str]:
    return [each for each in log if each not in {"receive", "drain", "settle"}]


def test_as_the_audit_daemon(bench: Bench, daemon: Daemon) -> None:
    """The slot is given back while the run ends, with what that takes in effect for no longer; then all is closed."""
    found: list[dict[str, Any]] = []
    summary = bench.run(bench.event, lambda _: found.append(bench.running._status()))
    assert summary.balanced
    assert acts(daemon.log) == [
        f"open {16 << 20}",
        "take up",
        "leave",
        "epoll closed",
        "put away 0x40000000",
        "take up",
        "stopped",
        "daemon closed",
    ]
    assert bench.aside == 1 << 30
    assert (found[0]["way"], found[0]["capabilities"]) == ("daemon", ["CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL"])


def test_nobody_is_made_the_audit_daemon_who_did_not_ask(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servicesources, "DaemonSocket", lambda *_: pytest.fail("it was asked for"))
    bench.run(bench.event)
    assert bench.aside == 0


def test_a_plugin_is_not_the_audit_daemon_whatever_the_settings_say(bench: Bench, daemon: Daemon) -> None:
    """That is auditd, which has started it."""
    bench.host.way = "plugin"
    settings = config.load(str(bench.file), {})
    bench.running = service.Service(
        None, settings, Asked(bench.event), bench.said.append, cast("Any", daemon)
    )
    bench.running.run()
    assert acts(daemon.log) == ["leave", "epoll closed", "stopped"]


def test_a_slot_that_is_taken_is_the_end(bench: Bench, daemon: Daemon) -> None:
    daemon.refusal = UsageError("process 812 (auditd) is the audit daemon of this host already")
    with pytest.raises(UsageError, match="812"):
        bench.run(bench.event)
    assert acts(daemon.log) == []
    assert bench.dropped == 0


def test_a_start_that_fails_gives_it_back(
    bench: Bench, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotProved("not now")

    monkeypatch.setattr(startup, "start", fail)
    with pytest.raises(NotProved):
        bench.run()
    assert acts(daemon.log) == [f"open {16 << 20}", "daemon closed"]


def test_a_run_that_ends_with_an_error_gives_it_back(bench: Bench, daemon: Daemon) -> None:
    def fail(_: Asked) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        bench.run(fail)
    assert acts(daemon.log)[-3:] == ["take up", "stopped", "daemon closed"]


def test_without_a_hook_it_stays_the_audit_daemon(
    bench: Bench, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second start uses the same socket: nothing is given back in between."""

    def fail(*_: object, **__: object) -> None:
        raise NoBtf("none")

    def blind(*_: object, source: object, **__: object) -> Started:
        assert source is daemon
        return started(bench.host, Trial(Proof.HOOK_MISSED, 100, [], [], []))._replace(candidate=None)

    monkeypatch.setattr(startup, "start", fail)
    monkeypatch.setattr(startup, "start_blind", blind)
    bench.run(bench.event)
    assert acts(daemon.log)[:2] == [f"open {16 << 20}", "take up"]
