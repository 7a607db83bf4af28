# SPDX-License-Identifier: Apache-2.0
"""Somebody changes audit, or takes the hook's probe away: it is told while it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.suites.live import Live
from tests.suites.staging import SHARE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

pytestmark = pytest.mark.only_on("newest")  # where the hook is a kprobe

TRUTH = f"{SHARE}/workload/truth"
SWITCH = "/sys/kernel/debug/kprobes/enabled"
BURST = 70
"""Events; from 64 without a context in a row on it is doubted that the hook is there."""
ROUNDS = 60
"""Bursts at most until it is told; each takes a good part of a second, and the counts are read once in one."""


def notices(live: Live, kind: str) -> list[str]:
    return [
        event["notice"]["text"]
        for event in live.events()
        if event["type"] == "NOTICE" and event["notice"]["kind"] == kind
    ]


def test_changes_of_audit_are_told(guest: Guest, rules: Rules) -> None:
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "swapoff", "-k", "watched")
    before = guest.run(["auditctl", "-s"], check=True).stdout.decode()
    limit = next(line.split()[1] for line in before.splitlines() if line.startswith("backlog_limit"))
    with Live(guest) as live:
        for value in ("8191", limit):
            guest.run(["auditctl", "-b", value], check=True)
        rules.clear()
        guest.run(["auditctl", "-e", "0"], check=True)
        guest.run(["auditctl", "-e", "1"], check=True)
        live.stop()
    told = notices(live, "audit")
    assert [text for text in told if text.startswith("audit's audit_backlog_limit")] == [
        f"audit's audit_backlog_limit was set from {limit} to 8191",
        f"audit's audit_backlog_limit was set from 8191 to {limit}",
    ]
    assert "rules of audit were removed: 1" in told
    # While audit is off the kernel writes no such record, so nothing tells that it was switched on.
    enabled = [text for text in told if text.startswith("audit's audit_enabled")]
    assert enabled == ["audit's audit_enabled was set from 1 to 0"]


def test_kprobes_switched_off(guest: Guest, rules: Rules) -> None:
    """Where the hook is a kprobe it is told that it is gone, and that it is back; elsewhere nothing happens to it."""
    mounted = guest.run(["mountpoint", "-q", "/sys/kernel/debug"]).returncode == 0
    if not mounted:
        guest.run(["mount", "-t", "debugfs", "none", "/sys/kernel/debug"], check=True)
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    with Live(guest) as live:
        try:
            guest.run(["sh", "-c", f"echo 0 >{SWITCH}"], check=True)
            rounds = bursts(guest)
            if "part" in live.hook:
                assert any(notices(live, "blind") for _ in rounds)
            else:
                next(rounds)
        finally:
            guest.run(["sh", "-c", f"echo 1 >{SWITCH}"], check=True)
        guest.run([TRUTH, "1", "seen"], check=True)
        live.stop()
        told = notices(live, "blind")
        if "part" in live.hook:
            assert len(told) == 2
            assert "none of the records" in told[0]
            assert "sees records again" in told[1]
        else:
            assert told == []
    if not mounted:
        guest.run(["umount", "/sys/kernel/debug"], check=True)


def bursts(guest: Guest) -> Iterator[None]:
    for _ in range(ROUNDS):
        guest.run([TRUTH, str(BURST), "unseen"], check=True)
        yield
