# SPDX-License-Identifier: Apache-2.0
"""Beside auditd: the same records byte for byte, and auditd's settings as they were."""

from __future__ import annotations

import re

import pytest

from tests.suites.live import Live
from tests.suites.main_job import TRUTH
from tests.suites.rules import Rules
from tests.vm.guest import Guest

LOG = "/var/log/audit/audit.log"
ONLY_AUDITD = re.compile(rb"^type=DAEMON_")
ONLY_OURS = re.compile(rb"^type=(EOE|UNKNOWN\[139\d\]) ")
_SERIAL = re.compile(rb"msg=audit\(\d+\.\d+:(\d+)\)")
_NONCE = re.compile(rb"msg=audit\(\d+\.\d+:(\d+)\): .*op=audit-enricher-(start|stop)[ ']")


def settings(guest: Guest) -> tuple[bytes, dict[bytes, bytes]]:
    """The rules, and what of the status nobody but the operator may change."""
    rules = guest.run(["auditctl", "-l"], check=True).stdout
    status = dict(
        line.split(b" ", 1) for line in guest.run(["auditctl", "-s"], check=True).stdout.splitlines()
    )
    fixed = (b"enabled", b"failure", b"pid", b"rate_limit", b"backlog_limit", b"backlog_wait_time")
    return rules, {name: status[name] for name in fixed}


def window(lines: list[bytes]) -> list[bytes]:
    """What lies between the run's nonces by serial, in the order of the log."""
    bounds = {found[2]: int(found[1]) for line in lines if (found := _NONCE.search(line))}
    first, last = bounds[b"start"], bounds[b"stop"]
    return [line for line in lines if (found := _SERIAL.search(line)) and first <= int(found[1]) <= last]


@pytest.mark.only_on("newest")
@pytest.mark.usefixtures("auditd")
def test_same_records(guest: Guest, rules: Rules) -> None:
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    rules.add("-w", "/etc/passwd", "-p", "rwa", "-k", "passwd")
    before = settings(guest)
    with Live(guest, view="text") as live:
        guest.run([TRUTH, "-j", "2", "300", "beside"], timeout=120, check=True)
        guest.run(["cat", "/etc/passwd"], check=True)
        guest.run(["auditctl", "-m", "a message"], check=True)
        assert settings(guest) == before
        account = live.stop()
        ours = live.output()
    assert settings(guest) == before
    assert account.unmatched == 0, live.said
    # auditd writes when it gets to it: its log is whole once the record after our stop nonce is in it. What other
    # suites left fills its file, so that it may begin a new one in between; without rules not while both are read.
    rules.clear()
    guest.run(["auditctl", "-m", "marker-behind-the-run"], check=True)
    files = f"{LOG}.1 {LOG}"
    wait = f"until grep -qs marker-behind-the-run {files}; do sleep 0.2; done"
    guest.run(["sh", "-c", wait], timeout=60, check=True)
    log = guest.run(["sh", "-c", f"cat {files} 2>/dev/null || true"], check=True).stdout
    theirs = [line for line in window(log.splitlines()) if not ONLY_AUDITD.match(line)]
    mine = [line for line in window(ours.splitlines()) if not ONLY_OURS.match(line)]
    assert len(mine) > 2 * 300 * 6
    assert sorted(mine) == sorted(theirs)
