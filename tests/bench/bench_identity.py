# SPDX-License-Identifier: Apache-2.0
"""What it costs to say where a task is: microseconds per event, and the memory of many cgroups, on one core.

    python -m tests.bench.bench_identity [events]

The same events are made with a table that knows their cgroup and with one that knows none, in turns; the difference is
the identity. Then cgroups in the shape of containers are made and removed, 10 000 and 20 000 of them. Best of five.
"""

from __future__ import annotations

import sys
import time
import tracemalloc

from enricher.enrich.cgroups import KEPT, CgroupTable
from enricher.enrich.native import NativeBuilder
from enricher.enrich.recognise import recognise
from enricher.enrich.surroundings import Surroundings
from enricher.model import Batch, CgroupChange, CgroupOp, Event
from tests.bench.bench_views import EVENTS, HOST, exec_event

RUNS = 5
CHURN = 10_000


def path_of(number: int) -> bytes:
    return b"/system.slice/docker-%064x.scope" % number


def batch(*changes: CgroupChange, now: float = 0.0) -> Batch:
    return Batch([], [], [], parked=False, now=now, wall=0.0, cgroups=changes)


def seconds(builder: NativeBuilder, events: list[Event]) -> float:
    begin = time.perf_counter()
    for event in events:
        builder.build(event)
    return time.perf_counter() - begin


def churn(count: int) -> tuple[float, int, int]:
    """Make and remove so many, a thousand a second; returns seconds, cgroups kept at the end, and peak bytes."""
    table = CgroupTable()
    tracemalloc.start()
    begin = time.perf_counter()
    for number in range(count):
        now = number / 1000
        table.learn(batch(CgroupChange(number, CgroupOp.MADE, path_of(number), 0), now=now))
        table.learn(batch(CgroupChange(number, CgroupOp.REMOVED, path_of(number), 0), now=now))
    took = time.perf_counter() - begin
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    table.learn(batch(CgroupChange(count, CgroupOp.MADE, b"/x", 0), now=count / 1000 + KEPT))
    return took, len(table), peak


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    events = [exec_event(number) for number in range(count)]
    ids = {event.context.cgroup_id for event in events if event.context}
    known = CgroupTable()
    known.learn(batch(*(CgroupChange(ident, CgroupOp.MADE, path_of(ident), 0) for ident in ids)))
    pairs = []
    for _ in range(RUNS):
        without = seconds(NativeBuilder(HOST), events)
        pairs.append((seconds(NativeBuilder(HOST, around=Surroundings(HOST, known)), events), without))
    identity = min(pair[0] for pair in pairs) - min(pair[1] for pair in pairs)
    print(f"native event of a known cgroup: {min(pair[0] for pair in pairs) / count * 1e6:.2f} us")
    print(f"  of that for where, container and cgroup: {identity / count * 1e6:+.2f} us an event")
    begin = time.perf_counter()
    for number in range(count):
        recognise(path_of(number).decode())
    print(f"a path recognised, once per cgroup: {(time.perf_counter() - begin) / count * 1e6:.2f} us")
    for many in (CHURN, 2 * CHURN):
        took, kept, peak = churn(many)
        print(
            f"{many} cgroups made and removed: {took / many * 1e6:.1f} us each, {kept} kept, peak {peak >> 10} KiB"
        )


if __name__ == "__main__":
    main()
