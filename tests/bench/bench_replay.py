# SPDX-License-Identifier: Apache-2.0
"""What `replay` does in a second: a capture to JSON on one core, whole and stage by stage.

    python -m tests.bench.bench_replay [events]

The capture is made first: 500 000 distinct execs of seven records each, as bench_views makes them, with
the messages of the kernel side, in batches of 512 records. No two events are alike: serial, pid, addresses,
arguments and start time differ; what repeats on a busy host repeats here (tests/bench/bench_views.py says
what). The whole is the command itself, in a process of its own; the stages are measured in this process over
a tenth of the events, each by what it adds to the ones before, in CPU time, the least of five runs.
"""

from __future__ import annotations

import io
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from enricher.enrich.native import NativeBuilder
from enricher.model import Batch, Event, KernelCounts, TallyFlag
from enricher.route.views.native_json import render
from enricher.runtime.stages import Opening, Stages
from enricher.sources.audit.text import split_stamp
from enricher.sources.bpf import wire
from enricher.sources.capture import CaptureReader, CaptureWriter, Head
from tests.bench.bench_views import HOST, exec_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVENTS = 500_000
BATCH = 73  # events of seven records: what recvmmsg brings at once
PAGE = 4096


def context_message(event: Event) -> bytes:
    """The event's context as it stands in a ring (``bpf/include/events.h``)."""
    context = event.context
    assert context is not None
    values = (
        (wire.EVENT_CONTEXT, wire.EVENT_VERSION, wire.SIZES["context_event"], context.time),
        split_stamp(context.stamp),
        (context.record_type, context.flags, 0, context.pid, context.tid, context.ppid, context.auid),
        (context.ses, len(context.levels), context.start, context.cgroup_id, context.comm),
        context.inums,
        context.ids,
    )
    layout = "=" + "".join(code for _, code in wire.CONTEXT_FIELDS)
    packed = struct.pack(layout, *(value for group in values for value in group))
    levels = b"".join(struct.pack("=II", *level) for level in context.levels)
    return packed + levels.ljust(8 * wire.LEVELS_INLINE, b"\0")


def tally_message(event: Event) -> bytes:
    """The count of its records."""
    layout = "=" + "".join(code for _, code in wire.TALLY_FIELDS)
    runs = b"".join(struct.pack("=HH", record.type, 1) for record in event.records)
    header = (wire.EVENT_TALLY, wire.EVENT_VERSION, wire.SIZES["tally_event"], 0)
    numbers = (len(event.records), int(TallyFlag.EOE), len(event.records))
    return struct.pack(layout, *header, *split_stamp(event.stamp), *numbers) + runs.ljust(
        4 * wire.TALLY_RUNS, b"\0"
    )


def make_capture(path: Path, events: int) -> int:
    """Write the capture; returns how many records it has."""
    writer = CaptureWriter(str(path))
    writer.head(Head(HOST, 1, "0badcafe", "0", "bench", "audit_log_end", "bench", 0))
    records = 0
    for first in range(1, events + 1, BATCH):
        made = [exec_event(number) for number in range(first, min(first + BATCH, events + 1))]
        received = [record for event in made for record in event.records]
        records += len(received)
        messages = [message for event in made for message in (context_message(event), tally_message(event))]
        now = float(first)
        writer.turn(Batch(received, [], [], parked=False, now=now, wall=now), messages)
    writer.end(float(events), float(events), KernelCounts())
    writer.close()
    return records


def whole(path: Path, records: int, *options: str) -> None:
    """The command itself."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    command = [sys.executable, "-m", "enricher", "replay", str(path), "--output", "/dev/null", *options]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{' '.join(options):16} {records / seconds:10,.0f} records/s, {records / cpu:10,.0f} a second of CPU,"
        f" {cpu / records * 1e6:5.2f} us of CPU a record, at most {after.ru_maxrss >> 10} MiB"
    )


def batches(data: bytes) -> Iterator[Batch]:
    for frame in CaptureReader(io.BytesIO(data), "bench").frames():
        if isinstance(frame, Batch):
            yield frame


def spent(data: bytes, work: Callable[[Batch], object]) -> float:
    begin = time.process_time()
    for batch in batches(data):
        work(batch)
    return time.process_time() - begin


def stages(path: Path, records: int) -> None:
    """Microseconds a record, stage by stage."""
    data = path.read_bytes()

    def joined(each: Callable[[list[Event]], object]) -> Callable[[Batch], object]:
        def emit(events: list[Event]) -> None:
            each(events)

        return Stages(Opening(1, "0badcafe", 0), emit).take

    build = NativeBuilder(HOST).build
    fd = os.open("/dev/null", os.O_WRONLY)
    steps: dict[str, Callable[[Batch], object]] = {
        "read, check and decode": lambda _: None,
        "join and account": joined(lambda _: None),
        "native event": joined(lambda events: [build(event) for event in events]),
        "JSON": joined(lambda events: [render(build(event)) for event in events]),
        "write": joined(lambda events: os.write(fd, b"".join([render(build(event)) for event in events]))),
    }
    before = 0.0
    for name, work in steps.items():
        now = min(spent(data, work) for _ in range(5)) / records * 1e6
        print(f"  {name:24} {now - before:6.2f} us a record, {now:6.2f} with all before it")
        before = now
    os.close(fd)


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "bench.capture")
        records = make_capture(path, events)
        print(f"{events} events, {records} records, {path.stat().st_size >> 20} MiB of capture")
        whole(path, records, "--format=json")
        whole(path, records, "--format=text")
        few = Path(directory, "few.capture")
        stages(few, make_capture(few, events // 10))


if __name__ == "__main__":
    main()
