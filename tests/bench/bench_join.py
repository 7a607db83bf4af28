# SPDX-License-Identifier: Apache-2.0
"""What the join costs: microseconds per event, from ring message and received record to joined event, on one core.

    python -m tests.bench.bench_join [events]

The events are those of bench_views: seven records each, in batches of 512 records, four tasks' records
interleaved. Best of five runs.
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable

from enricher.correlate.join import Correlator
from enricher.correlate.ledger import Ledger
from enricher.model import Event, Record
from enricher.sources.bpf import wire
from tests.bench.bench_views import exec_event

EVENTS = 20_000
RUNS = 5
TASKS = 4
BATCH = 512

_CONTEXT = struct.Struct("=" + "".join(code for _, code in wire.CONTEXT_FIELDS))
_TALLY = struct.Struct("=" + "".join(code for _, code in wire.TALLY_FIELDS))


def messages(event: Event) -> tuple[bytes, bytes]:
    """The event's two ring messages."""
    context = event.context
    assert context is not None
    second, _, serial = event.stamp.partition(b":")
    sec, ms = map(int, second.split(b"."))
    stamp = (sec, ms, int(serial))
    size = wire.SIZES["context_event"]
    first = _CONTEXT.pack(
        *(wire.EVENT_CONTEXT, 1, size, context.time),
        *stamp,
        *(1300, context.flags, 0, context.pid, context.tid, context.ppid, context.auid, context.ses),
        *(len(context.levels), context.start, context.cgroup_id, context.comm),
        *context.inums,
        *context.ids,
    )
    levels = b"".join(struct.pack("=II", level.ns, level.pid) for level in context.levels)
    runs = [(record.type, 1) for record in event.records]
    last = _TALLY.pack(wire.EVENT_TALLY, 1, wire.SIZES["tally_event"], 0, *stamp, len(runs), 1, len(runs))
    last += b"".join(struct.pack("=HH", *run) for run in runs)
    return (first + levels).ljust(size, b"\0"), last.ljust(wire.SIZES["tally_event"], b"\0")


def interleaved(events: list[Event]) -> list[Record]:
    """The events' records as TASKS tasks on different CPUs would write them."""
    records = []
    for at in range(0, len(events), TASKS):
        group = events[at : at + TASKS]
        for index in range(max(len(event.records) for event in group)):
            records += [event.records[index] for event in group if index < len(event.records)]
    return records


def best(work: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        before = time.perf_counter()
        work()
        times.append(time.perf_counter() - before)
    return min(times)


def main(count: int) -> None:
    events = [exec_event(number) for number in range(count)]
    raw = [messages(event) for event in events]
    contexts = [first for first, _ in raw]
    tallies = [last for _, last in raw]
    records = interleaved(events)
    decoded_contexts = [wire.decode_context(view, 0) for view in contexts]
    decoded_tallies = [wire.decode_tally(view, 0) for view in tallies]
    per_batch = BATCH * count // len(records)

    def join() -> None:
        correlator = Correlator()
        ledger = Ledger(None)
        done = 0
        for number, at in enumerate(range(0, len(records), BATCH)):
            taken = slice(number * per_batch, (number + 1) * per_batch)
            finished = correlator.feed(
                records[at : at + BATCH], decoded_contexts[taken], decoded_tallies[taken], number * 0.01
            )
            ledger.account(finished)
            done += len(finished)
        assert done + len(correlator) >= count

    steps: dict[str, Callable[[], object]] = {
        "decode context": lambda: [wire.decode_context(view, 0) for view in contexts],
        "decode tally": lambda: [wire.decode_tally(view, 0) for view in tallies],
        "join and account": join,
    }
    print(f"{count} events of {len(records) / count:.0f} records")
    for name, work in steps.items():
        seconds = best(work)
        print(f"{name:20} {seconds / count * 1e6:7.2f} us/event {len(records) / seconds:12,.0f} records/s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS)
