# SPDX-License-Identifier: Apache-2.0
"""The other ways in: as a plugin of auditd, and as the audit daemon; each beside a run that reads the multicast group.

Both give the events that the multicast group gives, for the same serials and all of them. The full size is that of
`make soak-ways`.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import schema
from tests.suites.live import Live, mismatches, truth_of
from tests.suites.main_job import TRUTH
from tests.suites.test_service import DROP_IN, GONE, UNIT, Service, notices, whole_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.suites.live import Json
    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

ONE_KERNEL = pytest.mark.only_on("6.12")
CONF = "/etc/audit/plugins.d/audit-enricher.conf"
SHIPPED = Path(__file__).resolve().parents[2] / "packaging/auditd/audit-enricher.conf"
EVENTS = "/var/log/audit-enricher/events.json"
BURST, BURST_FULL = 300, 25_000
"""Execs, some eight records each."""
STATUS = "audit-enricher status --json"
AUDITD_CONF = "/etc/audit/auditd.conf"
ASK = """import os, sys
sys.path[:0] = ["/usr/lib/audit-enricher", "/usr/lib/audit-enricher/vendor"]
from enricher.errors import EnricherError
from enricher.sources.audit.daemon import DaemonSocket
try:
    DaemonSocket(1 << 16, print, holder=lambda: 0)
except EnricherError as error:
    sys.exit(error.message)
"""
"""Asks for the audit daemon's slot without asking first who has it, as no program of ours does."""


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


@pytest.fixture
def large_queue(guest: Guest) -> Iterator[None]:
    """What auditd holds for its plugins is by default less than such a burst may need."""
    configuration = guest.get(AUDITD_CONF)
    guest.put(AUDITD_CONF, re.sub(rb"(?m)^q_depth *=.*$", b"q_depth = 60000", configuration), 0o640)
    try:
        yield
    finally:
        guest.put(AUDITD_CONF, configuration, 0o640)


@pytest.fixture
def daemon(guest: Guest) -> Iterator[Service]:
    """The service as the audit daemon of the guest, whose auditd is not running, nor a plugin that it had fed."""
    guest.run(["sh", "-c", f"{GONE}; rm -f {EVENTS}*"], timeout=60, check=True)
    guest.put(DROP_IN, b"[service]\ndaemon = true\n")
    guest.run(["systemctl", "unmask", UNIT], check=True)
    made = Service(guest)
    try:
        made.unit("start")
        yield made
    finally:
        clean_up(guest)


def clean_up(guest: Guest) -> None:
    wipe = f"rm -rf {DROP_IN} /var/log/audit-enricher /var/lib/audit-enricher"
    guest.run(["sh", "-c", f"systemctl stop {UNIT}; systemctl reset-failed {UNIT}; {wipe}"], timeout=60)
    guest.run(["systemctl", "mask", UNIT], check=True)


def fixed(guest: Guest) -> dict[str, str]:
    """What of audit's state nobody but the operator may change."""
    lines = guest.run(["auditctl", "-s"], check=True).stdout.decode().splitlines()
    shown = dict(line.split(" ", 1) for line in lines)
    names = ("enabled", "failure", "rate_limit", "backlog_limit", "backlog_wait_time")
    return {name: shown[name] for name in names}


def slot(guest: Guest) -> int:
    """Who is audit's daemon, by the kernel's word."""
    lines = guest.run(["auditctl", "-s"], check=True).stdout.decode().splitlines()
    return int(dict(line.split(" ", 1) for line in lines)["pid"])


def effective(guest: Guest, pid: int) -> int:
    shown = guest.run(["grep", "CapEff", f"/proc/{pid}/status"], check=True).stdout
    return int(shown.split()[1], 16)


def figure(said: str, name: str) -> int:
    """A line of the last account in it."""
    return int(re.findall(rf"^{re.escape(name)} +(\d+)", said, re.MULTILINE)[-1])


def plugins(guest: Guest) -> list[str]:
    return guest.run(["pgrep", "-f", "audit-enricher plugin"]).stdout.decode().split()


def until_written(guest: Guest, mark: str) -> None:
    guest.run(["auditctl", "-m", mark], check=True)
    guest.run(["sh", "-c", f"until grep -q {mark} {EVENTS}; do sleep 0.2; done"], timeout=300, check=True)


def written(guest: Guest) -> list[Json]:
    """All events, those of rotated files first."""
    names = guest.run(["sh", "-c", f"ls -1 {EVENTS}*"], check=True).stdout.decode().split()
    names.sort(key=lambda name: -int(name.rpartition(".")[2] if name != EVENTS else 0))
    return [event for name in names for event in schema.parse(whole_lines(guest.get(name)))]


def gaps(guest: Guest) -> list[Json]:
    notices = [
        event["notice"] for event in schema.parse(whole_lines(guest.get(EVENTS))) if event["type"] == "NOTICE"
    ]
    return [notice for notice in notices if notice["kind"] == "gap"]


def told(event: Json) -> Json:
    """All but what is of the run."""
    return {name: value for name, value in event.items() if name != "host"}


def same_events(guest: Guest, rules: Rules, burst: int) -> None:
    """A burst, read by the service whatever way it has and by a run from the multicast group: the same, and whole."""
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    with Live(guest, "--receive-buffer", "64M") as live:
        guest.run([TRUTH, "-j", "2", str(burst // 2), "ways"], timeout=1800, check=True)
        until_written(guest, "mark-behind-the-burst")
        account = live.stop()
        ours = {event["id"]: event for event in live.events() if event["id"]}
    assert account.balanced, live.said
    # Its window is open: of what is under way one side may be ahead.
    figures = json.loads(guest.run(["sh", "-c", STATUS], check=True).stdout)["account"]
    assert (figures["counts"]["netlink_drops"], figures["counts"]["backlog"]) == (0, 0), figures
    assert figures["missing"] == 0, figures
    theirs = {event["id"]: event for event in written(guest) if event["id"]}
    leaves = {ident: truth for ident, event in ours.items() if (truth := truth_of(event)) is not None}
    assert len([truth for truth in leaves.values() if truth.tag == "ways"]) == burst
    assert leaves.keys() <= theirs.keys()
    wrong = [line for ident, truth in leaves.items() for line in mismatches(theirs[ident], truth)]
    assert wrong == []
    different = [ident for ident in leaves if told(ours[ident]) != told(theirs[ident])]
    assert different == [], (ours[different[0]], theirs[different[0]])


@ONE_KERNEL
@pytest.mark.usefixtures("plugin")
def test_the_plugin_has_the_same_events(guest: Guest, rules: Rules) -> None:
    same_events(guest, rules, BURST)


@pytest.mark.full
@pytest.mark.timeout(3600)
@ONE_KERNEL
@pytest.mark.usefixtures("large_queue", "plugin")
def test_the_plugin_has_all_of_200_000_records(guest: Guest, rules: Rules) -> None:
    same_events(guest, rules, BURST_FULL)


@ONE_KERNEL
def test_the_daemon_has_the_same_events(daemon: Service, guest: Guest, rules: Rules) -> None:
    status = daemon.status()
    assert (status["way"], slot(guest)) == ("daemon", status["pid"])
    assert "CAP_AUDIT_CONTROL" in status["capabilities"]
    assert not effective(guest, status["pid"]) >> 30 & 1
    same_events(guest, rules, BURST)


@pytest.mark.full
@pytest.mark.timeout(3600)
@ONE_KERNEL
@pytest.mark.usefixtures("daemon")
def test_the_daemon_has_all_of_200_000_records(guest: Guest, rules: Rules) -> None:
    same_events(guest, rules, BURST_FULL)


@pytest.mark.full
@ONE_KERNEL
def test_the_slot_from_the_first_start_to_the_last_end(daemon: Service, guest: Guest) -> None:
    """Nothing but the pid is set; it is kept from others, given back, and taken again after a kill."""
    before = fixed(guest)
    daemon.sh(f"systemctl stop {UNIT}")
    assert slot(guest) == 0
    assert fixed(guest) == before
    guest.run(["auditctl", "-m", "mark-that-the-kernel-kept"], check=True)
    daemon.unit("start")
    until_written(guest, "mark-behind-it")
    # It has no context, and is held until it is sure that none will come.
    kept = f"until grep -q mark-that-the-kernel-kept {EVENTS}; do sleep 0.2; done"
    guest.run(["sh", "-c", kept], timeout=60, check=True)

    pid = daemon.status()["pid"]
    done = guest.run(["python3", "-I", "-c", ASK])
    assert (done.returncode, done.stderr) == (
        1,
        b"another process has become the audit daemon of this host meanwhile\n",
    )
    assert slot(guest) == pid
    until_written(guest, "mark-behind-the-asking")
    refused = [each["text"] for each in notices(schema.parse(guest.get(EVENTS))) if each["kind"] == "audit"]
    assert any("audit_pid was refused to be set" in text for text in refused), refused

    daemon.sh(f"systemctl kill --kill-who=main --signal=KILL {UNIT}")
    again = "import json, sys; sys.exit(json.load(sys.stdin)['pid'] == int(sys.argv[1]))"
    daemon.sh(
        f"until {STATUS} 2>/dev/null | python3 -c {shlex.quote(again)} {pid} 2>/dev/null; do sleep 0.2; done"
    )
    assert slot(guest) == daemon.status()["pid"] != pid
    until_written(guest, "mark-behind-the-kill")
    assert fixed(guest) == before
    account = guest.run(
        ["sh", "-c", f"journalctl -q --no-pager -o cat -u {UNIT}"], check=True
    ).stdout.decode()
    assert "could not be given back" not in account


@pytest.mark.full
@ONE_KERNEL
def test_a_daemon_that_stands_still_loses_by_number(daemon: Service, guest: Guest, rules: Rules) -> None:
    """The kernel waits for it a while, keeps what the backlog limit allows, and gives up the rest: all is told."""
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    guest.put(DROP_IN, b'[service]\ndaemon = true\n[source]\nreceive_buffer = "64K"\n')
    daemon.unit("restart")
    limit = fixed(guest)["backlog_limit"]
    pid = str(daemon.status()["pid"])
    # In one: with audit standing still each command that is started has its own records to wait for.
    line = f"auditctl -b 64; kill -STOP {pid}; {TRUTH} -j 2 40 still; kill -CONT {pid}; auditctl -b {limit}"
    guest.run(["sh", "-c", line], timeout=300, check=True)
    assert slot(guest) == int(pid)
    until_written(guest, "mark-behind-the-stillness")
    daemon.sh(f"systemctl stop {UNIT}")
    said = guest.run(["sh", "-c", f"journalctl -q --no-pager -o cat -u {UNIT}"], check=True).stdout.decode()
    dropped, missing = (
        figure(said, "lost: netlink buffer full"),
        figure(said, "records finished and not delivered"),
    )
    assert dropped > 0, said
    assert (missing, figure(said, "  without a context")) == (dropped, 0), said
    lost = [event["lost"] for event in written(guest) if event["type"] == "LOST"]
    assert sum(each["records"] for each in lost if each["cause"] == "netlink") == dropped, lost


@pytest.mark.full
@ONE_KERNEL
@pytest.mark.usefixtures("auditd")
def test_auditd_keeps_the_slot(guest: Guest) -> None:
    """And the service says who has it, and leaves it at that."""
    holder = slot(guest)
    guest.put(DROP_IN, b"[service]\ndaemon = true\n")
    guest.run(["systemctl", "unmask", UNIT], check=True)
    try:
        assert guest.run(["systemctl", "start", UNIT], timeout=90).returncode != 0
        shown = guest.run(["systemctl", "show", "-p", "ExecMainStatus,NRestarts", UNIT], check=True).stdout
        assert b"ExecMainStatus=2" in shown
        said = guest.run(
            ["journalctl", "-q", "--no-pager", "-o", "cat", "-u", UNIT], check=True
        ).stdout.decode()
        assert f"process {holder} (auditd) is the audit daemon of this host already" in said, said
        found = guest.run(["audit-enricher", "doctor", "--no-load"], timeout=120).stdout.decode()
        assert f"pid {holder} has the slot" in found, found
    finally:
        clean_up(guest)
    assert slot(guest) == holder


@ONE_KERNEL
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


@pytest.mark.full
@ONE_KERNEL
@pytest.mark.usefixtures("plugin")
def test_auditd_reloads_it(guest: Guest) -> None:
    """It passes SIGHUP on to its plugins."""
    before = plugins(guest)
    guest.run(["pkill", "-HUP", "-x", "auditd"], check=True)
    status = f'until {STATUS} | grep -q \'"reloaded": *"2\'; do sleep 0.2; done'
    guest.run(["sh", "-c", status], timeout=60, check=True)
    assert plugins(guest) == before


@ONE_KERNEL
def test_what_it_says_of_itself_by_hand(guest: Guest) -> None:
    guest.run(["sh", "-c", GONE], timeout=60, check=True)
    done = guest.run(["audit-enricher", "plugin"], timeout=120)
    said = done.stderr.decode()
    assert done.returncode == 4, said
    assert "Traceback" not in said
    assert "auditd has to be running" in said
