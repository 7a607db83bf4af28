# SPDX-License-Identifier: Apache-2.0
"""The other way in: as a plugin of auditd, beside a run that reads the multicast group. Both give the same events."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import schema
from tests.suites.live import Live, mismatches, truth_of
from tests.suites.main_job import TRUTH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.suites.live import Json
    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

CONF = "/etc/audit/plugins.d/audit-enricher.conf"
SHIPPED = Path(__file__).resolve().parents[2] / "packaging/auditd/audit-enricher.conf"
EVENTS = "/var/log/audit-enricher/events.json"
BURST, BURST_FULL = 300, 25_000
"""Execs, some eight records each."""
STATUS = "audit-enricher status --json"


@pytest.fixture
def plugin(guest: Guest, request: pytest.FixtureRequest) -> Iterator[None]:
    """auditd, with the plugin switched on as the documentation says: its file copied, and `active` changed."""
    shipped = SHIPPED.read_bytes()
    assert b"active = no" in shipped
    guest.run(["sh", "-c", f"systemctl stop audit-enricher; rm -f {EVENTS}*"], timeout=60)
    guest.put(CONF, shipped.replace(b"active = no", b"active = yes"), 0o640)
    request.getfixturevalue("auditd")
    guest.run(["sh", "-c", f"until {STATUS} >/dev/null 2>&1; do sleep 0.2; done"], timeout=90, check=True)
    try:
        yield
    finally:
        guest.run(["rm", CONF], check=True)


def plugins(guest: Guest) -> list[str]:
    return guest.run(["pgrep", "-f", "audit-enricher plugin"]).stdout.decode().split()


def until_written(guest: Guest, mark: str) -> None:
    guest.run(["auditctl", "-m", mark], check=True)
    guest.run(["sh", "-c", f"until grep -q {mark} {EVENTS}; do sleep 0.2; done"], timeout=300, check=True)


def gaps(guest: Guest) -> list[Json]:
    notices = [event["notice"] for event in schema.parse(guest.get(EVENTS)) if event["type"] == "NOTICE"]
    return [notice for notice in notices if notice["kind"] == "gap"]


def told(event: Json) -> Json:
    """All but what is of the run."""
    return {name: value for name, value in event.items() if name != "host"}


@pytest.mark.only_on("6.12", "newest")
@pytest.mark.usefixtures("plugin")
def test_the_plugin_has_the_same_events(guest: Guest, rules: Rules, request: pytest.FixtureRequest) -> None:
    burst = BURST_FULL if request.config.getoption("--full") else BURST
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    with Live(guest, "--receive-buffer", "64M") as live:
        guest.run([TRUTH, "-j", "2", str(burst // 2), "ways"], timeout=900, check=True)
        until_written(guest, "mark-behind-the-burst")
        account = live.stop()
        ours = {event["id"]: event for event in live.events() if event["id"]}
    assert account.balanced
    theirs = {event["id"]: event for event in schema.parse(guest.get(EVENTS)) if event["id"]}
    leaves = {ident: truth for ident, event in ours.items() if (truth := truth_of(event)) is not None}
    assert len([truth for truth in leaves.values() if truth.tag == "ways"]) == burst
    assert leaves.keys() <= theirs.keys()
    wrong = [line for ident, truth in leaves.items() for line in mismatches(theirs[ident], truth)]
    assert wrong == []
    different = [ident for ident in leaves if told(ours[ident]) != told(theirs[ident])]
    assert different == [], (ours[different[0]], theirs[different[0]])


@pytest.mark.only_on("6.12", "newest")
@pytest.mark.usefixtures("plugin")
def test_it_ends_with_auditd_and_begins_with_it(guest: Guest, rules: Rules) -> None:
    """And what came between is a gap, as between two runs of the service: it was told to end twice, and ended once."""
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    until_written(guest, "mark-before-the-end")
    before = plugins(guest)
    assert before
    told_before = gaps(guest)
    guest.run(["pkill", "-TERM", "-x", "auditd"], check=True)
    gone = " || ".join(f"[ -d /proc/{pid} ]" for pid in before)
    guest.run(["sh", "-c", f"while {gone}; do sleep 0.2; done"], timeout=60, check=True)
    guest.run(["systemctl", "start", "auditd"], timeout=60, check=True)
    guest.run(["sh", "-c", f"until {STATUS} >/dev/null 2>&1; do sleep 0.2; done"], timeout=90, check=True)
    assert set(plugins(guest)).isdisjoint(before)
    until_written(guest, "mark-after-the-start")
    (gap,) = gaps(guest)[len(told_before) :]
    assert gap.get("reason") == "restart", gap
    assert gap["first"] <= gap["last"]


@pytest.mark.only_on("6.12", "newest")
@pytest.mark.usefixtures("plugin")
def test_auditd_reloads_it(guest: Guest) -> None:
    """It passes SIGHUP on to its plugins."""
    before = plugins(guest)
    guest.run(["pkill", "-HUP", "-x", "auditd"], check=True)
    status = f'until {STATUS} | grep -q \'"reloaded": *"2\'; do sleep 0.2; done'
    guest.run(["sh", "-c", status], timeout=60, check=True)
    assert plugins(guest) == before


def test_what_it_says_of_itself_by_hand(guest: Guest) -> None:
    gone = "while pgrep -f '[a]udit-enricher plugin' >/dev/null; do sleep 0.2; done"
    guest.run(["sh", "-c", gone], timeout=60, check=True)
    done = guest.run(["audit-enricher", "plugin"], timeout=120)
    said = done.stderr.decode()
    assert done.returncode == 4, said
    assert "Traceback" not in said
    assert "auditd has to be running" in said
