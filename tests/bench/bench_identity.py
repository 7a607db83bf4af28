# SPDX-License-Identifier: Apache-2.0
"""What it costs to say where a task is: microseconds per event, and the memory of many cgroups, on one core.

    python -m tests.bench.bench_identity [events]

First the identity alone: the cgroup looked up, what the namespaces let be told of it, and the members entered, a
million times. Exit status 1 if that takes a microsecond or more of CPU. Then whole events with a table that knows their
cgroup and with one that knows none, in turns. Then cgroups in the shape of containers are made and removed, 10 000 and
20 000 of them. Best of five.
"""

from __future__ import annotations

import sys
import time
import tracemalloc

from enricher.enrich.cgroups import KEPT, CgroupTable
from enricher.enrich.native import NativeBuilder
from enricher.enrich.recognise import recognise
from enricher.enrich.surroundings import Surroundings
from enricher.enrich.whereabouts import Whereabouts
from enricher.model import Batch, CgroupChange, CgroupOp, Context, Event
from tests.bench.bench_views import EVENTS, HOST, exec_event

RUNS = 5
CHURN = 10_000
CALLS = 1_000_000
LIMIT = 1.0
"""Microseconds of CPU for the identity of one record's task, in a cgroup that is known."""


def path_of(number: int) -> bytes:
    return b"/system.slice/docker-%064x.scope" % number


def batch(*changes: CgroupChange, now: float = 0.0) -> Batch:
    return Batch([], [], [], parked=False, now=now, wall=0.0, cgroups=changes)


def seconds(builder: NativeBuilder, events: list[Event]) -> float:
    begin = time.process_time()
    for event in events:
        builder.build(event)
    return time.process_time() - begin


def alone(around: Surroundings, contexts: list[Context]) -> float:
    """Seconds of CPU for CALLS times what `NativeBuilder.build` does to say which container, as it does it.

    The loop and the dict that each event has anyway are measured too, and taken off.
    """
    where = Whereabouts(HOST, around)
    native: dict[str, object] = {}
    rounds = -(-CALLS // len(contexts))
    begin = time.process_time()
    for _ in range(rounds):
        for context in contexts:
            native = {}
            where.enter(native, where.home_of(context), context.cgroup_id, ask=True)
    middle = time.process_time()
    for _ in range(rounds):
        for context in contexts:  # noqa: B007 - the same loop
            native = {}
    took = middle - begin - (time.process_time() - middle)
    assert native == {}
    return took


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


def main() -> int:
    """Measure and print; returns the exit status."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    events = [exec_event(number) for number in range(count)]
    ids = {event.context.cgroup_id for event in events if event.context}
    known = CgroupTable()
    known.learn(batch(*(CgroupChange(ident, CgroupOp.MADE, path_of(ident), 0) for ident in ids)))
    around = Surroundings(HOST, known)
    contexts = [event.context for event in events[:1000] if event.context]
    single = min(alone(around, contexts) for _ in range(RUNS)) / CALLS * 1e6
    print(f"identity alone, in a known cgroup: {single:.3f} us of CPU, {CALLS} times, best of {RUNS}")
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
    if single >= LIMIT:
        print(f"the identity alone takes {single:.3f} us: {LIMIT} is too much", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
