# SPDX-License-Identifier: Apache-2.0
"""What a spool costs: microseconds per message to put and to take, and bytes of disk. On one core.

    python -m tests.bench.bench_spool [messages] [directory]

Messages of 1, 2 and 8 KiB, 50 in a `put` and 500 in a `take`, each batch done at once. `put` writes and does not
wait for the disk; `take` brings what was written to the disk once a second, and the cursor is written for each batch,
to the disk where a segment goes. Each run first puts all and then takes all, best of three; then both at once. The
directory is one of the system's for temporary files if none is named: what the disk is makes a difference.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from enricher.sinks.delivery.memory import MemoryQueue
from enricher.sinks.delivery.message import Message, Queue
from enricher.sinks.delivery.spool import Limits, Spool

RUNS = 3
PUT = 50
TAKE = 500
BODIES = (1024, 2048, 8192)


class Cost(NamedTuple):
    """Seconds to put and to take, of them on the CPU, the longest single `put`, and bytes of files between the two."""

    putting: float
    taking: float
    cpu_putting: float
    cpu_taking: float
    longest: float
    size: int


def made(count: int, body: int) -> list[Message]:
    """Make messages whose bodies differ."""
    filler = os.urandom(body)
    return [
        Message(
            f"3f2a4c1e-9d1b-4c5e-8f00-000000000000/1772366400.{number % 1000:03d}:{number}",
            1_772_366_400.0 + number / 1000,
            "SYSCALL",
            b"%012d" % number + filler[12:],
            number + 1,
            7,
        )
        for number in range(count)
    ]


def put_all(queue: Queue, messages: list[Message]) -> float:
    """Put all, and return how long the longest took."""
    longest = 0.0
    for at in range(0, len(messages), PUT):
        begin = time.perf_counter()
        queue.put(messages[at : at + PUT])
        longest = max(longest, time.perf_counter() - begin)
    return longest


def take_all(queue: Queue, count: int) -> None:
    """Take so many."""
    while count:
        batch = queue.take(TAKE, 1.0)
        queue.done(len(batch))
        count -= len(batch)


def run(queue: Queue, messages: list[Message], path: Path | None) -> Cost:
    """Put all, then take all."""
    begin, cpu = time.perf_counter(), time.process_time()
    longest = put_all(queue, messages)
    putting, cpu_putting = time.perf_counter() - begin, time.process_time() - cpu
    size = sum(file.stat().st_size for file in path.iterdir()) if path else 0
    begin, cpu = time.perf_counter(), time.process_time()
    take_all(queue, len(messages))
    taking, cpu_taking = time.perf_counter() - begin, time.process_time() - cpu
    queue.close()
    assert not queue.losses()
    return Cost(putting, taking, cpu_putting, cpu_taking, longest, size)


def at_once(queue: Queue, messages: list[Message]) -> tuple[float, float]:
    """Put and take in two threads; return the seconds, and the longest `put`."""
    begin = time.perf_counter()
    thread = Thread(target=take_all, args=(queue, len(messages)))
    thread.start()
    longest = put_all(queue, messages)
    thread.join()
    seconds = time.perf_counter() - begin
    queue.close()
    return seconds, longest


def measure(count: int, body: int, directory: str | None) -> None:
    """Print what messages of one size cost."""
    messages = made(count, body)
    limits = Limits(1 << 40)
    costs = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory(dir=directory) as name:
            costs.append(run(Spool(f"{name}/s", limits), messages, Path(name, "s")))
    putting, taking, *cpu = (1e6 * min(values) / count for values in list(zip(*costs, strict=True))[:4])
    each = costs[0].size / count
    print(
        f"{body} bytes: put {putting:.2f} us ({cpu[0]:.2f} CPU), take and done {taking:.2f} us"
        f" ({cpu[1]:.2f} CPU) a message; {each:.0f} bytes on disk; the longest put of {PUT}:"
        f" {1e3 * max(cost.longest for cost in costs):.1f} ms"
    )
    with tempfile.TemporaryDirectory(dir=directory) as name:
        seconds, longest = at_once(Spool(f"{name}/s", limits), messages)
    print(
        f"{body} bytes: both at once {1e6 * seconds / count:.2f} us a message; longest put {1e3 * longest:.1f} ms"
    )
    memory = [
        run(MemoryQueue(most=count, size=1 << 40, policy="drop_oldest"), messages, None) for _ in range(RUNS)
    ]
    putting, taking = (1e6 * min(values) / count for values in list(zip(*memory, strict=True))[:2])
    print(f"{body} bytes: in memory put {putting:.2f} us, take and done {taking:.2f} us a message")


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    directory = sys.argv[2] if len(sys.argv) > 2 else None
    for body in BODIES:
        measure(count // max(1, body // 2048), body, directory)


if __name__ == "__main__":
    main()
