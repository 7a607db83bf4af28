# SPDX-License-Identifier: Apache-2.0
"""Memory while containers come and go: rounds of 10 000, each with its cgroup, two events, and a stub that names it.

    python -m tests.bench.bench_churn [rounds]

The table of cgroups, what asks for metadata, a helper process whose work is the stub, the native event and the
journal, as the service puts them together. 8 MiB is all the journal may have, the least that settings allow. A thousand
containers a second of the clock that all of them are told. After each round what is resident and what is remembered is
printed. Exit status 1 if the last round has more memory than the one before it, or the journal more than it may.
"""

from __future__ import annotations

import gc
import json
import resource
import select
import sys
import tempfile
import time
from pathlib import Path

from enricher.clock import TurnClock
from enricher.enrich.cgroups import CgroupTable
from enricher.enrich.native import NativeBuilder
from enricher.enrich.surroundings import Surroundings
from enricher.journalformat import NAME
from enricher.model import Answer, Batch, CgroupChange, CgroupOp, Event
from enricher.runtime import helper
from enricher.runtime.lookups import Lookups
from enricher.runtime.prefetch import Prefetch
from enricher.sinks.journal import Journal
from tests.bench.bench_views import HOST, exec_event

ROUNDS = 6
CONTAINERS = 10_000
TURN = 20
"""Containers that one turn of the loop makes."""
JOURNAL = 8 << 20
SETTLED = 6
"""Rounds: a removed cgroup is remembered for as long as three of them take, and allocations go on a little."""
BEGIN = 1_772_366_400.0


def stub(request: bytes) -> bytes:
    """Name every container as a runtime would."""
    asked = json.loads(request)
    number = str(asked["found"][1])[-8:] if "found" in asked else ""
    said = ["docker", f"name-{number}", "registry/image:1", [], "", "", ""] if number else None
    return json.dumps({"metadata" if number else "known": said}).encode() + b"\n"


def path_of(number: int) -> bytes:
    return b"/system.slice/docker-%064x.scope" % number


GROWTH = 1.05
"""How much more may be resident after the last round than after the one before."""


def faults(residents: list[int], journal: int) -> list[str]:
    """Return what is not as it has to be; ``residents`` are KiB after each round."""
    found = []
    if len(residents) < SETTLED:
        found.append(f"{len(residents)} rounds tell nothing: it takes {SETTLED} until memory has settled")
    elif residents[-1] > residents[-2] * GROWTH:
        found.append(f"memory grows: {residents[-2]} KiB, then {residents[-1]} KiB")
    if journal > JOURNAL:
        found.append(f"the journal has {journal} bytes of {JOURNAL}")
    return found


def resident() -> int:
    """KiB of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() >> 10


class Churn:
    """The parts of a service that containers pass through, in turns of a loop."""

    def __init__(self, directory: str) -> None:
        self.clock = TurnClock()
        self.table = CgroupTable()
        self.prefetch = Prefetch(Lookups(helper.start(stub), self.clock))
        self.table.asker = self.prefetch.want
        around = Surroundings(HOST, self.table)
        self.builder = NativeBuilder(HOST, around=around)
        self.journal = Journal(
            *(directory, HOST, self.table, self.clock, print),
            lives=around.lives,
            max_size=JOURNAL,
            max_age=86_400.0,
        )
        self.named = self.events = 0

    def turn(self, seconds: float, *changes: CgroupChange) -> None:
        self.clock.now += seconds
        now = self.clock.now
        answers: list[Answer] = self.prefetch.take()
        batch = Batch([], [], [], parked=False, now=now, wall=BEGIN + now, cgroups=changes, answers=answers)
        self.table.learn(batch)
        self.journal.learn(batch)
        self.prefetch.turn(now)
        if self.journal.due(now):
            self.journal.flush(BEGIN + now)

    def emit(self, numbers: range) -> None:
        made = [self._event(number) for number in numbers]
        self.journal.take(made)
        for event in made:
            native = self.builder.build(event)
            self.named += "name" in native.get("container", {})
        self.events += len(made)

    def _event(self, number: int) -> Event:
        made = exec_event(number % 1000)
        assert made.context is not None
        stamp = b"%d.%03d:%d" % (
            *divmod(int((BEGIN + self.clock.now) * 1000), 1000),
            1 + self.events + number % TURN,
        )
        made.stamp = stamp
        made.context = made.context._replace(cgroup_id=number, stamp=stamp, key=b"%d" % number)
        return made

    def settle(self) -> None:
        """Serve what the helper has answered, until nothing is asked."""
        while self.prefetch.counts()["waiting"]:
            select.select([self.prefetch.fileno()], [], [])
            self.prefetch.serve()

    def round(self, begin: int) -> None:
        for first in range(begin, begin + CONTAINERS, TURN):
            numbers = range(first, first + TURN)
            self.turn(TURN / 1000, *(CgroupChange(each, CgroupOp.MADE, path_of(each), 0) for each in numbers))
            self.emit(numbers)
            self.settle()
            self.turn(0.0)
            self.emit(numbers)
            self.turn(0.0, *(CgroupChange(each, CgroupOp.REMOVED, path_of(each), 0) for each in numbers))


def main() -> int:
    """Measure and print; returns the exit status."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    residents: list[int] = []
    size = 0
    with tempfile.TemporaryDirectory() as directory:
        churn = Churn(directory)
        for number in range(rounds):
            begin = time.perf_counter()
            churn.named = churn.events = 0
            churn.round(1 + number * CONTAINERS)
            took = time.perf_counter() - begin
            gc.collect()
            size = sum(
                path.stat().st_size for path in Path(directory).iterdir() if path.name.startswith(NAME)
            )
            counts = churn.prefetch.counts()
            residents.append(resident())
            print(
                f"{(number + 1) * CONTAINERS} containers: resident {residents[-1] / 1024:.1f} MiB,"
                f" {len(churn.table)} cgroups and {counts['held']} answers remembered,"
                f" {counts['overfull'] + counts['dropped']} not asked for want of room, journal {size >> 10} KiB;"
                f" of {churn.events} events {churn.named} with the name; {took / CONTAINERS * 1e6:.0f} us a container"
            )
        churn.journal.close(BEGIN + churn.clock.now)
        churn.prefetch.close()
    wrong = faults(residents, size)
    for fault in wrong:
        print(fault, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
