# SPDX-License-Identifier: Apache-2.0
"""A fleet: many hosts publish to three servers, two collectors write; the leader and the collectors are killed.

`make soak-fleet` has a thousand hosts with a hundred events each; `make test` has fifty with twenty.
"""

from __future__ import annotations

import functools
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from enricher.cli.main import main
from tests.delivery import manyhosts
from tests.delivery.child import Child
from tests.delivery.conftest import figure
from tests.delivery.events import Events
from tests.delivery.natsservers import NatsServers
from tests.delivery.rsyslog import wait_for
from tests.delivery.test_collect import ask, collect, collector

MANY, FEW = (1_000, 100), (50, 20)
"""Hosts, and events of each."""
ROUNDS, SHARES, LANES = 5, 2, 2
MEMORY = 1 << 30
"""Bytes that no collector may have held, with these limits:"""
LIMITS = ("--memory", "256M", "--batch-size", "16M", "--interval", "2s")


class Fleet:
    """The cluster, what the hosts are to send, and the processes that are hosts and collectors."""

    def __init__(self, directory: Path, events: Events, hosts: int, each: int) -> None:
        idents = directory / "hosts"
        idents.write_text("".join(f"{manyhosts.ident(number)}\n" for number in range(hosts)))
        self._users = directory / "users"
        assert main(["fleet", "users", str(self._users), "--hosts", str(idents)]) == 0
        password = (self._users / "setup.password").read_text().strip()
        more = 'authorization { include "../../users/users.conf" }\n'
        self.servers = NatsServers(directory / "s", 3, more=more, login=f"setup:{password}")
        self.servers.start()
        words = self._login("setup")
        assert main(["fleet", "setup", "nats", "--servers", self.servers.address, *words]) == 0
        progress = directory / "progress"
        progress.mkdir()
        address = self.servers.address
        self.plan = manyhosts.Plan(events, hosts, each, ROUNDS, address, self._users, progress)
        self.out = directory / "out"
        self._log = directory / "hosts.log"
        self._children: list[Child] = []
        self.collectors: list[subprocess.Popen[str]] = []
        self.peak = 0

    def _login(self, user: str) -> list[str]:
        return ["--username", user, "--password-file", f"{self._users}/{user}.password"]

    def start_hosts(self) -> None:
        for share in range(SHARES):
            work = functools.partial(manyhosts.work, self.plan, share, SHARES)
            self._children.append(Child(work, self._log))

    @property
    def sent(self) -> bool:
        """Whether all hosts have sent all. That one failed is a failure here."""
        return all(child.succeeded for child in self._children)

    def open_gate(self, rounds: int) -> None:
        new = self.plan.gate.with_suffix(".new")
        new.write_text(str(rounds))
        new.rename(self.plan.gate)

    def until_round(self, number: int) -> None:
        wait_for(lambda: self.sent or min(manyhosts.turns(self.plan), default=0) >= number, f"round {number}")

    def start_collectors(self) -> None:
        for lane in range(LANES):
            words = ("--lane", f"{lane}/{LANES}", *LIMITS, *self._login("collect"))
            self.collectors.append(collector(self.servers.address, self.out, *words))

    def end_collectors(self, number: signal.Signals) -> None:
        """End them in the middle of their work: each has written something."""
        for process in self.collectors:
            assert process.stderr is not None
            # Behind what it may have to say of a server that does not answer in time.
            assert any("events in" in line for line in iter(process.stderr.readline, ""))
            self.peak = max(self.peak, _peak(process.pid))
            process.send_signal(number)
        for process in self.collectors:
            said = process.communicate(timeout=120)[1]
            assert process.returncode == (-number if number == signal.SIGKILL else 0), said
        self.collectors.clear()

    def collect_the_rest(self) -> None:
        for lane in range(LANES):
            words = ("--lane", f"{lane}/{LANES}", *LIMITS, *self._login("collect"))
            collect(self.servers.address, self.out, *words)

    def stop(self) -> None:
        for child in self._children:
            child.stop()
        for process in self.collectors:
            process.kill()
            process.communicate()
        self.servers.stop()


def _peak(pid: int) -> int:
    """Return the most bytes that the process has held."""
    [line] = [
        each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmHWM")
    ]
    return int(line.split()[1]) << 10


@pytest.fixture
def fleet(tmp_path: Path, events: Events, full: bool, count: int) -> Iterator[Fleet]:  # noqa: FBT001 - a fixture
    assert count  # which makes waits longer where there is more
    made = Fleet(tmp_path, events, *(MANY if full else FEW))
    try:
        yield made
    finally:
        made.stop()


@pytest.mark.timeout(3000)
@pytest.mark.grows
def test_every_event_of_every_host_is_there_once(fleet: Fleet) -> None:
    plan, begun = fleet.plan, time.monotonic()
    fleet.open_gate(2)
    fleet.start_collectors()
    fleet.start_hosts()
    fleet.until_round(1)
    leader = fleet.servers.leader()
    fleet.servers.kill(leader)
    fleet.until_round(2)
    fleet.servers.start(leader)
    fleet.end_collectors(signal.SIGKILL)
    fleet.start_collectors()
    fleet.open_gate(ROUNDS)  # so that both have something to write
    wait_for(lambda: fleet.sent, "all hosts have sent all")
    took = time.monotonic() - begun
    fleet.end_collectors(signal.SIGINT)
    fleet.collect_the_rest()

    total = plan.hosts * plan.each
    assert fleet.servers.count() == total
    everything = "read_parquet('/srv/audit/day=*/host=*/*.parquet', hive_types_autocast = false)"
    of_each = ask(fleet.out, f"SELECT host, count(*), count(DISTINCT uid) FROM {everything} GROUP BY 1")  # noqa: S608
    wanted = {manyhosts.ident(number): (plan.each, plan.each) for number in range(plan.hosts)}
    assert {host: (rows, different) for host, rows, different in of_each} == wanted
    foreign = (
        f"SELECT count(*) FROM {everything} WHERE json_extract_string(event, '$.host.machine_id') <> host"  # noqa: S608
    )
    assert ask(fleet.out, foreign) == [(0,)]
    assert fleet.peak < MEMORY
    files = list(fleet.out.glob("day=*/host=*/*.parquet"))
    ((size,),) = ask(fleet.out, f"SELECT sum(strlen(event)) FROM {everything}")  # noqa: S608
    figure("hosts, events of each", (plan.hosts, plan.each))
    figure("seconds from the first event to the last acknowledgement", round(took, 1))
    figure("bytes an event: as published, in Parquet", (size // total, sum(map(_size, files)) // total))
    figure("files", len(files))
    figure("the most that a collector held, MiB", fleet.peak >> 20)


def _size(path: Path) -> int:
    return path.stat().st_size
