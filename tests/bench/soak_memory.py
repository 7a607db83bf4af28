# SPDX-License-Identifier: Apache-2.0
"""Twenty minutes of a replay at 5 000 events a second: how much memory, and does it grow? `make soak-memory`.

    python -m tests.bench.soak_memory [--minutes N] [--rate N]

Owns the pace and the verdict. One process writes a capture of distinct events (tests/bench/line.py) into a pipe, as
fast as the rate says and no faster; the command `replay` reads it and writes JSON to /dev/null, and is looked at every
`EVERY` seconds. It maps no rings: what is resident is all its own.

Exit status 1 where more than 64 MiB are resident, where they grow (by the line through what was seen after the first
third), or where the rate was not reached, which is said: memory at another rate is the answer to another question.
Everything comes into build/bench/soak-memory.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from enricher.forms import form
from enricher.model import Batch, KernelCounts
from enricher.sources.bpf import wire
from enricher.sources.capture import CaptureWriter, Head
from tests.bench.bench_views import HOST
from tests.bench.line import EVENTS, cgroups, made

INTO: Final = Path(__file__).resolve().parents[2] / "build/bench/soak-memory.json"
CONTAINERS: Final = 200
EVERY: Final = 5.0
MOST: Final = 64 << 10
"""KiB resident."""
GROWTH: Final = 0.02
"""The line may rise by that share of what is resident, from one end of what is judged to the other."""
REACHED: Final = 0.98
"""Share of the rate that counts as having reached it."""


class Seen(NamedTuple):
    """One look at the replay."""

    seconds: float
    resident: int
    """KiB."""


def write(rate: int, minutes: float) -> None:
    """Write the capture to standard output at this pace; tells on standard error how many events, in which time."""
    writer = CaptureWriter("-")
    writer.head(Head(HOST, 1, "0badcafe", "0", "bench", "audit_log_end", "bench", 0))
    news = [wire.encode_cgroup(change) for change in cgroups(CONTAINERS)]
    writer.turn(Batch([], [], [], parked=False, now=0.0, wall=0.0), news)
    begin = time.monotonic()
    number = 0
    while (passed := time.monotonic() - begin) < minutes * 60:
        due = number * EVENTS / rate
        if due > passed:
            time.sleep(due - passed)
        batch = made(number, CONTAINERS)
        messages = [bytes(message) for message in (*batch.contexts, *batch.tallies)]
        writer.turn(Batch(batch.records, [], [], parked=False, now=due, wall=due), messages)
        number += 1
    passed = time.monotonic() - begin
    writer.end(passed, passed, KernelCounts())
    writer.close()
    sys.stderr.write(json.dumps({"events": number * EVENTS, "seconds": passed}) + "\n")


def resident(pid: int) -> int:
    """KiB that are resident of a process; 0 when it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS:")), 0)


def slope(seen: list[Seen]) -> float:
    """KiB a minute, of the line through what was seen; 0 of less than two looks."""
    if len(seen) < 2:
        return 0.0
    line = statistics.linear_regression([each.seconds for each in seen], [each.resident for each in seen])
    return float(line.slope * 60)


def settled(seen: list[Seen]) -> list[Seen]:
    """What is judged: all but the first third of the time, in which what is remembered reaches its bounds."""
    end = seen[-1].seconds if seen else 0.0
    return [each for each in seen if each.seconds >= end / 3]


def faults(seen: list[Seen], events: int, seconds: float, rate: int) -> list[str]:
    """Return what is not as it has to be."""
    said = []
    judged = settled(seen)
    if len(judged) < 3:
        return ["too short a time tells nothing"]
    most = max(each.resident for each in seen)
    if most > MOST:
        said.append(f"{most} KiB were resident, more than {MOST}")
    growth = slope(judged) / 60 * (judged[-1].seconds - judged[0].seconds)
    middle = statistics.median(each.resident for each in judged)
    if growth > GROWTH * middle:
        said.append(
            f"memory grows: by {growth:.0f} KiB, {slope(judged):.1f} KiB a minute, of {middle:.0f} KiB"
        )
    if events < rate * seconds * REACHED:
        said.append(f"THE RATE WAS NOT REACHED: {events / seconds:.0f} events a second of {rate}")
    return said


def main(words: list[str]) -> int:
    """Run both processes, look, judge; returns the exit status."""
    parser = argparse.ArgumentParser(prog="soak_memory", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--rate", type=int, default=5_000, help="events a second")
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.write:
        write(options.rate, options.minutes)
        return 0
    shape = ["--rate", str(options.rate), "--minutes", str(options.minutes)]
    command = [sys.executable, "-m", "enricher", "replay", "-", "--format", "json", "--output", "/dev/null"]
    seen: list[Seen] = []
    with (
        subprocess.Popen(
            [sys.executable, "-m", "tests.bench.soak_memory", "--write", *shape],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as source,
        subprocess.Popen(command, stdin=source.stdout, stderr=subprocess.PIPE) as replay,
    ):
        assert source.stdout is not None
        assert source.stderr is not None
        assert replay.stderr is not None
        source.stdout.close()
        begin = time.monotonic()
        while source.poll() is None and replay.poll() is None:
            time.sleep(min(EVERY, options.minutes * 2))
            if now := resident(replay.pid):
                seen.append(Seen(round(time.monotonic() - begin, 1), now))
        told = json.loads(source.stderr.read().splitlines()[-1])
        account = replay.stderr.read().decode()
        _, status, used = os.wait4(replay.pid, 0) if replay.returncode is None else (0, 0, None)
    cpu = 0.0 if used is None else used.ru_utime + used.ru_stime
    events, seconds = told["events"], told["seconds"]
    judged = settled(seen)
    said = faults(seen, events, seconds, options.rate)
    if status or not account:
        said.append(f"replay ended with status {status}: {account[-400:]}")
    print(
        f"{events:,} events in {seconds:.0f} s, {events / seconds:,.0f} a second; {cpu / seconds:.0%} of a CPU; "
        f"at most {max((each.resident for each in seen), default=0) / 1024:.1f} MiB resident, "
        f"{slope(judged):+.1f} KiB a minute"
    )
    figures = {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "form": form(),
        "rate": options.rate,
        "events": events,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "slope_kib_per_minute": round(slope(judged), 2),
        "seen": seen,
        "faults": said,
    }
    INTO.parent.mkdir(parents=True, exist_ok=True)
    INTO.write_text(json.dumps(figures) + "\n")
    for line in said:
        print(f"soak_memory: {line}", file=sys.stderr)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
