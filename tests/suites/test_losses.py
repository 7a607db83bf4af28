# SPDX-License-Identifier: Apache-2.0
"""Every way to lose records, made to happen: each cause's figure, and their sum against a second reader.

The second reader (tests/suites/guest/second_reader.py) shares no code with the program. The kernel's own
`lost`, asked with auditctl, is the second source for what the kernel dropped.
"""

from __future__ import annotations

import itertools
import json
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from enricher.correlate.join import BEFORE_START
from tests.suites.corpus import replayed
from tests.suites.live import Live
from tests.suites.staging import SHARE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from tests.suites.live import Json
    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

TRUTH = f"{SHARE}/workload/truth"
NEWEST = pytest.mark.only_on("newest")
"""soak-records runs them on all."""
_numbers = itertools.count()


class SecondReader:
    """It reads within the block; afterwards `counted` has its figures."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._path = f"/run/second-{next(_numbers)}.json"
        script = f"{SHARE}/guest/second_reader.py"
        self._process = guest.popen(["python3", script, "count", self._path], stdin=True)
        self.counted: Json = {}

    def __enter__(self) -> Self:
        assert self._process.read_line(60) == b"ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:
            if error is not None:
                return
            self._process.close_stdin()
            assert self._process.wait(60) == 0, self._process.read()
            self.counted = json.loads(self._guest.get(self._path))
            assert self.counted["drops"] == 0, "the second reader lost records itself"


def status(guest: Guest) -> dict[str, int]:
    """`auditctl -s`."""
    lines = guest.run(["auditctl", "-s"], check=True).stdout.decode().splitlines()
    return {name: int(value) for name, value in (line.split(" ", 1) for line in lines) if value.isdigit()}


def losses(events: list[Json], cause: str) -> list[Json]:
    """What the LOST events of one cause tell."""
    return [event["lost"] for event in events if event["type"] == "LOST" and event["lost"]["cause"] == cause]


def causes(events: list[Json]) -> set[str]:
    """Why records and their contexts were lost.

    What is told beside them may be lost at any load: a program of ours is skipped where the scheduler takes its CPU
    for a task that calls it again.
    """
    return {event["lost"]["cause"] for event in events if event["type"] == "LOST"} - {"facts"}


@pytest.fixture
def execs(rules: Rules) -> None:
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")


@pytest.fixture
def settings(guest: Guest) -> Iterator[dict[str, int]]:
    """Limits of the kernel's audit, put back after the test."""
    before = status(guest)
    yield before
    guest.run(["auditctl", "-r", str(before["rate_limit"])], check=True)
    guest.run(["auditctl", "-b", str(before["backlog_limit"])], check=True)
    guest.run(["auditctl", "--backlog_wait_time", str(before["backlog_wait_time"])], check=True)


def while_stopped(guest: Guest, live: Live, *argv: str) -> None:
    """Run a command while the program cannot read."""
    guest.run(["kill", "-STOP", str(live.pid)], check=True)
    guest.run([*argv], timeout=120, check=True)
    guest.run(["kill", "-CONT", str(live.pid)], check=True)


@NEWEST
@pytest.mark.usefixtures("execs")
def test_receive_buffer_full(guest: Guest, tmp_path: Path) -> None:
    with SecondReader(guest) as second, Live(guest, "--receive-buffer", "32K", capture=True) as live:
        while_stopped(guest, live, TRUTH, "-j", "2", "60", "netlink")
        account = live.stop()
        events = live.events()
    # A replay tells the same losses, at the same time and with the same ids.
    assert replayed(guest.get(live.capture), tmp_path / "again.json") == live.output()
    assert account.netlink_drops > 0
    assert account.delivered + account.netlink_drops == second.counted["records"]
    assert account.missing == account.netlink_drops, live.said
    assert account.finished == second.counted["records"]
    assert not account.balanced
    told = losses(events, "netlink")
    assert causes(events) == {"netlink"}
    assert sum(lost["records"] for lost in told) == account.netlink_drops
    types = Counter[str]()
    for lost in told:
        types += Counter(lost["types"])
        assert lost["first"] <= lost["last"]
    assert types.total() == account.missing
    # What both readers have, by type: the rest is what the LOST events name.
    read = Counter(record["type"] for event in events for record in event["records"])
    assert types["EXECVE"] + read["EXECVE"] == second.counted["types"]["1309"] > 120


@NEWEST
@pytest.mark.usefixtures("execs")
def test_ring_full(guest: Guest) -> None:
    with SecondReader(guest) as second, Live(guest, "--ring-memory", "64K") as live:
        while_stopped(guest, live, TRUTH, "-j", "2", "300", "rings")
        account = live.stop()
        events = live.events()
    assert account.contexts_dropped > 0
    assert account.tallies_dropped > 0
    assert account.delivered == second.counted["records"]
    assert account.events == second.counted["events"]
    # Of all events, not of the execs alone: at any time the kernel frees a program of systemd's, and writes a record.
    none = [event for event in events if event["records"] and event["enrichment"]["context"] == "none"]
    without = [event for event in none if BEFORE_START not in event["enrichment"]["reason"]]
    assert len(without) == account.contexts_dropped
    assert all("namespaces" not in event and event["enrichment"]["reason"] for event in without)
    assert account.hook_records == account.counted + account.uncounted
    # The hook's count begins behind the first nonce, which the window contains.
    assert account.hook_records >= second.counted["records"] - 1
    assert causes(events) == {"ring"}
    told = losses(events, "ring")
    assert sum(lost["messages"] for lost in told) == account.contexts_dropped + account.tallies_dropped


@NEWEST
@pytest.mark.usefixtures("execs", "settings")
def test_over_the_rate_limit(guest: Guest) -> None:
    with SecondReader(guest) as second, Live(guest) as live:
        # Without auditd its hold queue may be full by now, and every record a loss to auditd: give it room.
        guest.run(["auditctl", "-b", "200000"], check=True)
        before = status(guest)["lost"]
        guest.run(["auditctl", "-r", "10"], check=True)
        guest.run([TRUTH, "-j", "2", "40", "rate"], timeout=120, check=True)
        guest.run(["auditctl", "-r", "0"], check=True)
        dropped = status(guest)["lost"] - before
        account = live.stop()
        events = live.events()
    assert account.rate_limit > 0
    assert account.rate_limit + account.lost_unseen == dropped
    assert account.status_lost == dropped + account.auditd_queue
    assert account.missing == dropped, live.said
    assert account.delivered == second.counted["records"]
    assert account.finished == second.counted["records"] + dropped
    assert causes(events) == {"rate_limit"} | ({"kernel"} if account.lost_unseen else set())
    told = losses(events, "rate_limit")
    assert sum(lost["records"] for lost in told) == account.rate_limit
    assert sum(Counter(lost["types"]).total() for lost in told) == dropped


@NEWEST
@pytest.mark.usefixtures("execs", "settings")
def test_buffer_ring_and_rate_limit_at_once(guest: Guest) -> None:
    """What the second reader has, and what the kernel says it threw away, is what was delivered and each loss."""
    with (
        SecondReader(guest) as second,
        Live(guest, "--receive-buffer", "32K", "--ring-memory", "64K") as live,
    ):
        guest.run(["auditctl", "-b", "200000"], check=True)
        before = status(guest)["lost"]
        guest.run(["kill", "-STOP", str(live.pid)], check=True)
        guest.run([TRUTH, "-j", "2", "150", "all"], timeout=120, check=True)
        guest.run(["auditctl", "-r", "10"], check=True)
        guest.run([TRUTH, "-j", "2", "20", "rate"], timeout=120, check=True)
        guest.run(["auditctl", "-r", "0"], check=True)
        guest.run(["kill", "-CONT", str(live.pid)], check=True)
        dropped = status(guest)["lost"] - before
        account = live.stop()
        events = live.events()
    assert (
        min(account.netlink_drops, account.contexts_dropped, account.tallies_dropped, account.rate_limit) > 0
    )
    assert account.rate_limit + account.lost_unseen == dropped
    assert account.delivered + account.netlink_drops == second.counted["records"]
    lost = account.netlink_drops + account.rate_limit + account.lost_unseen
    assert account.delivered + lost == second.counted["records"] + dropped
    assert account.hook_records == account.counted + account.uncounted
    assert account.hook_records >= second.counted["records"] + dropped - 1
    assert not account.balanced
    assert causes(events) >= {"netlink", "ring", "rate_limit"}
    assert sum(each["records"] for each in losses(events, "netlink")) == account.netlink_drops
    assert sum(each["records"] for each in losses(events, "rate_limit")) == account.rate_limit
    rings = account.contexts_dropped + account.tallies_dropped
    assert sum(each["messages"] for each in losses(events, "ring")) == rings


@NEWEST
@pytest.mark.usefixtures("auditd", "execs", "settings")
def test_over_the_backlog_limit(guest: Guest) -> None:
    """Records that were never made: no reader has them, and only the kernel can tell."""
    with SecondReader(guest) as second, Live(guest) as live:
        before = status(guest)["lost"]
        guest.run(["auditctl", "--backlog_wait_time", "0"], check=True)
        guest.run(["auditctl", "-b", "1"], check=True)
        guest.run([TRUTH, "-j", "2", "40", "backlog"], timeout=120, check=True)
        guest.run(["auditctl", "-b", "8192"], check=True)
        dropped = status(guest)["lost"] - before
        account = live.stop()
        events = live.events()
    assert account.backlog > 0
    # What auditd's own queue, which is as short as the backlog, loses is no loss to a reader.
    # A call that came while another task was preempted in one on the same CPU is known by its number alone.
    assert account.backlog + account.auditd_queue + account.lost_unseen == dropped == account.status_lost
    assert account.delivered == account.finished == second.counted["records"]
    assert not account.balanced
    assert causes(events) == {"backlog"} | ({"kernel"} if account.lost_unseen else set())
    assert sum(lost["records"] for lost in losses(events, "backlog")) == account.backlog


@pytest.mark.only_on("6.12")
@pytest.mark.usefixtures("execs")
def test_account_while_it_runs(guest: Guest) -> None:
    with Live(guest) as live:
        guest.run([TRUTH, "5", "asked"], check=True)
        live.send(signal.SIGUSR1)
        live.wait_for("every record is accounted for")
        account = live.stop()
    assert live.said.count("records delivered") == 2
    assert account.balanced
