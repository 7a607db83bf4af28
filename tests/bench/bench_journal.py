# SPDX-License-Identifier: Apache-2.0
"""What the journal costs: microseconds per event, bytes per event on disk, and the time of a look-up. On one core.

    python -m tests.bench.bench_journal [events]

Events of ten contexts, in no order, about one a millisecond: taken as the service does, 200 at a time, and written
every 4096. Then a busier host: each twenty events are of a container of their own. Best of three for time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from enricher.clock import TurnClock
from enricher.correlate.lives import Lives
from enricher.enrich.cgroups import CgroupTable
from enricher.facts import NamespaceLife, NamespaceOp
from enricher.journalformat import NAME
from enricher.model import Batch, CgroupChange, CgroupOp
from enricher.sinks.journal import FLUSH_AT, Journal
from enricher.sources.journal import JournalReader
from tests.bench.bench_views import EVENTS, HOST, exec_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.model import Event

RUNS = 3
TURN = 200
BEGIN_MS = 1_772_366_400_000
LOOK_UPS = 2_000
BORN, LATER = 10**14, 2 * 10**14
"""Nanoseconds since boot: a day after it, and later than that."""


class Cost(NamedTuple):
    """Seconds of a run, and bytes of the file at its end."""

    taking: float
    writing: float
    size: int


def stamps_of(count: int) -> list[bytes]:
    """Make stamps: serials with a gap now and then, and times as they come."""
    random = Random(4711)  # noqa: S311 - the same each time
    ms, serial, made = BEGIN_MS, 100_000, []
    for _ in range(count):
        ms += random.choice((0, 0, 0, 0, 1, 1, 2, 5))
        serial += random.choice((1, 1, 1, 1, 1, 1, 1, 2))
        made.append(b"%d.%03d:%d" % (*divmod(ms, 1000), serial))
    return made


def events_of(stamps: list[bytes], which: Callable[[int], int]) -> list[Event]:
    """Make events whose number gives their container."""
    made = [exec_event(number % 1000) for number in range(len(stamps))]
    for number, event in enumerate(made):
        event.stamp = stamps[number]
        container = which(number)
        assert event.context is not None
        inums = tuple(4026532000 + container * 8 + kind for kind in range(10))
        event.context = event.context._replace(
            cgroup_id=7000 + container, inums=inums, key=repr(inums).encode(), time=LATER
        )
    return made


def run(directory: Path, events: list[Event], containers: int) -> Cost:
    """Keep all of them in a new journal."""
    cgroups = CgroupTable()
    paths = [
        CgroupChange(7000 + number, CgroupOp.MADE, b"/system.slice/docker-%064x.scope" % number, 0)
        for number in range(containers)
    ]
    cgroups.learn(Batch([], [], [], parked=False, now=0.0, wall=0.0, cgroups=paths))
    lives = Lives()
    lives.learn(
        NamespaceLife(BORN + inum, NamespaceOp.MADE, inum, 0, *(0,) * 9, b"")
        for inum in range(4026532000, 4026532000 + 8 * containers + 10)
    )
    journal = Journal(
        str(directory), HOST, cgroups, TurnClock(), print, lives=lives, max_size=1 << 30, max_age=1e9
    )
    taking = writing = 0.0
    waiting = 0
    for at in range(0, len(events), TURN):
        turn = events[at : at + TURN]
        begin = time.perf_counter()
        journal.take(turn)
        taking += time.perf_counter() - begin
        waiting += len(turn)
        if waiting >= FLUSH_AT:
            begin = time.perf_counter()
            journal.flush(BEGIN_MS / 1000)
            writing += time.perf_counter() - begin
            waiting = 0
    begin = time.perf_counter()
    journal.close(BEGIN_MS / 1000)
    writing += time.perf_counter() - begin
    assert journal.lost == journal.failed == 0
    return Cost(taking, writing, (directory / NAME).stat().st_size)


def look_up(path: Path, every: list[bytes], step: int) -> float:
    """Return the seconds of a look-up, `step` events from each to the next."""
    stamps = [every[number * step % len(every)] for number in range(LOOK_UPS)]
    reader = JournalReader(str(path))
    begin = time.perf_counter()
    for each in stamps:
        assert not isinstance(reader.find(each), str)
    seconds = (time.perf_counter() - begin) / len(stamps)
    reader.close()
    return seconds


def measure(name: str, count: int, which: Callable[[int], int], containers: int) -> None:
    """Print what one kind of host costs."""
    stamps = stamps_of(count)
    events = events_of(stamps, which)
    costs = []
    for last in range(RUNS):
        with tempfile.TemporaryDirectory() as directory:
            costs.append(run(Path(directory), events, containers))
            if last == RUNS - 1:
                path = Path(directory, NAME)
                print(f"{name}: look-up in order {1e6 * look_up(path, stamps, 1):.2f} us")
                print(f"{name}: look-up here and there {1e6 * look_up(path, stamps, 7919):.2f} us")
    taking = 1e6 * min(cost.taking for cost in costs) / count
    writing = 1e6 * min(cost.writing for cost in costs) / count
    print(f"{name}: {taking:.2f} us an event to take, {writing:.2f} us to write; {count} events")
    print(f"{name}: {costs[-1].size / count:.1f} bytes an event on disk")


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10 * EVENTS
    random = Random(12)  # noqa: S311 - as above
    measure("ten contexts", count, lambda _: random.randrange(10), 10)
    measure("a container each 20 events", count, lambda number: number // 20, count // 20)


if __name__ == "__main__":
    main()
