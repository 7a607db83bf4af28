# SPDX-License-Identifier: Apache-2.0
"""On an idle host: an event is out at once, and our own records do not feed themselves."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from enricher.enrich.recognise import recognise
from tests.suites.live import Live
from tests.suites.staging import SHARE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

pytestmark = pytest.mark.only_on("5.10")

TRIES = 9
IDLE_MIB = 40  # without the rings
WAITED_MS = 200.0
"""In which nobody works on an event of an idle host. What may not be waited for is a quarter of a second; where
the machine wakes the guest late, that counts too."""
SECONDS = 12
OWN_PER_SECOND = 400
"""A turn takes some 20. A write of the journal, beside the loop, gives way to it each half millisecond, by a call of
either: up to 300 in the second in which the rule is loaded, and all that came of it is written."""
HELPERS_PER_SECOND = 4000
"""A look at every runtime's state for a cgroup that none of them names takes some 500 records."""
LOOKS = 8
"""For each such cgroup in which nobody acts: at once, and after each delay of up to a second. Where our own calls are
audited a turn of the loop comes each second or two, and so does a look."""
PLACE = "/run/k3s/containerd/io.containerd.runtime.v2.task"
"""Where each look goes once; nothing is there in a guest."""
CGROUP = "/sys/fs/cgroup/nobodys"


@pytest.mark.parametrize("eoe", ["with-eoe", "without-eoe"])
def test_event_is_out_without_a_wait(
    guest: Guest, rules: Rules, eoe: str, record_property: Callable[[str, object], None]
) -> None:
    """Measured in the guest, from before the exec until the line is in the file.

    What counts is the time in which the guest's CPU had nothing to do: the rest is as long as the machine is slow.
    The median of nine: what waits for a poll always waits.
    """
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    if eoe == "without-eoe":
        rules.add("-a", "always,exclude", "-F", "msgtype=EOE")
    with Live(guest, "--key", "exec") as live:
        words = [
            "python3",
            f"{SHARE}/guest/latency.py",
            live.path,
            f"{SHARE}/workload/truth",
            str(TRIES),
            "--idle",
        ]
        done = guest.run(words, timeout=60, check=True)
        live.stop()
    times, waits = map(sorted, zip(*json.loads(done.stdout), strict=True))
    assert len(times) == TRIES
    record_property(
        f"latency {eoe}",
        f"median {times[TRIES // 2]:.0f} ms, worst {times[-1]:.0f} ms of {TRIES}; waited {waits[TRIES // 2]:.0f}",
    )
    assert waits[TRIES // 2] < WAITED_MS, (waits, times)


@pytest.mark.usefixtures("auditd")
def test_no_feedback(guest: Guest, rules: Rules, record_property: Callable[[str, object], None]) -> None:
    """A rule on every system call of every process: what we do ourselves must not keep us busy.

    Beside auditd, as on a real host: without it the kernel prints every record, which wakes the journal, whose
    system calls are audited, and the host is not idle whoever listens.
    """
    # Engines that other suites have started look after themselves every second: not idle.
    guest.run(["systemctl", "stop", "docker.socket", "docker", "containerd"], timeout=60, check=True)
    # One that other suites have left is looked for too.
    paths = guest.run(
        ["find", "/sys/fs/cgroup", "-ignore_readdir_race", "-type", "d", "-printf", r"/%P\n"], check=True
    ).stdout.decode()
    nobodys = [CGROUP, *(path for path in paths.splitlines() if recognise(path).where != "host")]
    with Live(guest) as live:
        pid = live.pid
        rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "all", "-k", "all")
        guest.run(["mkdir", CGROUP], check=True)
        start, stop = guest.run(
            ["python3", f"{SHARE}/guest/cpu.py", str(pid), str(SECONDS)], timeout=SECONDS + 30, check=True
        ).stdout.split()
        rules.clear()
        account = live.stop()
        events = live.events()
    guest.run(["rmdir", CGROUP], check=True)
    assert account.unmatched == 0, live.said
    own = [event for event in events if event["enrichment"].get("self_caused")]
    # The busiest second of all counts, the one in which the rule was loaded included.
    per_second = Counter[str]()
    helpers = Counter[str]()
    for event in own:
        by = per_second if event.get("subject", {}).get("pid") == pid else helpers
        by[event["time"][:19]] += len(event["records"])
    busy = (float(stop) - float(start)) / SECONDS
    # What the helper does is audited too, and must not be a reason for it to look once more.
    looks = sum(record["fields"].get("name") == PLACE for event in own for record in event["records"])
    record_property(
        "own noise",
        f"{max(per_second.values())} records in the busiest second, {looks} looks, {busy:.1%} of a CPU",
    )
    assert 0 < max(per_second.values()) < OWN_PER_SECOND
    assert 0 < looks <= LOOKS * len(nobodys), (nobodys, helpers)
    assert max(helpers.values()) < HELPERS_PER_SECOND


def test_memory_at_idle(guest: Guest, record_property: Callable[[str, object], None]) -> None:
    """What stays in memory of a program that has nothing to do; the rings' pages are the budget's matter."""
    with Live(guest) as live:
        guest.run([f"{SHARE}/workload/truth", "5", "memory"], check=True)
        maps = guest.run(["cat", f"/proc/{live.pid}/smaps"], check=True).stdout.decode()
        live.stop()
    resident = {True: 0, False: 0}  # by whether it is a map of the kernel side, in KiB
    ring = False
    for line in maps.splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            ring = "bpf-map" in line
        elif first == "Rss:":
            resident[ring] += int(rest[0])
    record_property("memory at idle", f"{resident[False] / 1024:.1f} MiB, and {resident[True]} KiB of rings")
    assert 1024 < resident[False] < IDLE_MIB * 1024
