# SPDX-License-Identifier: Apache-2.0
"""Where the time of a record goes: microseconds of CPU at each stage, from the socket to the file, on one core.

    python -m tests.bench.bench_stages [--batches N] [--rounds N] [--into DIRECTORY]

The stages and their sample are those of tests/bench/line.py. Each figure is the median of the rounds, with the least
and the most beside it; stages take turns batch by batch, so that other work on the machine hits all of them alike. The
one system call is measured apart, on a socket of the kernel's where one may be had: nothing else waits for a kernel.
The table and the picture come into build/bench as stages.json and stages.svg.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

from enricher.sources.audit.netlink import HEADER, HEADER_SIZE
from enricher.sources.audit.receiver import Receiver
from tests.bench.bench_receive import netlink_pair, unix_pair
from tests.bench.line import ROWS, Line, Step, made, rows_of
from tests.bench.picture import bars

INTO: Final = Path(__file__).resolve().parents[2] / "build/bench"
WARM: Final = 20
"""Batches that are not counted."""


def walk(batches: int, first: int) -> dict[str, float]:
    """Microseconds of CPU for each record, by step."""
    spent: Counter[str] = Counter()

    def meter(name: str, step: Step) -> object:
        begin = time.thread_time_ns()
        result = step()
        spent[name] += time.thread_time_ns() - begin
        return result

    records = 0
    with Line() as line:
        for number in range(first, first + WARM):
            line.pass_on(made(number), lambda _, step: step())
        for number in range(first + WARM, first + WARM + batches):
            batch = made(number)
            records += len(batch.records)
            line.pass_on(batch, meter)
    return {name: nanoseconds / records / 1000 for name, nanoseconds in spent.items()}


def system_call(rounds: int) -> tuple[float, str]:
    """Microseconds of CPU that the kernel takes for each datagram of a batch, and which socket that was."""
    try:
        reader, writer = netlink_pair()
        kind = "netlink"
    except OSError:
        reader, writer = unix_pair()
        kind = "a Unix socket: there is no netlink here"
    reader.settimeout(0)
    writer.settimeout(0)
    texts = [(record.type, record.text) for record in made(0).records]
    receiver = Receiver(reader, kernel_only=False)
    spent = got = 0
    for _ in range(rounds):
        queued = 0
        for number, text in texts:
            try:
                writer.send(HEADER.pack(HEADER_SIZE + len(text), number, 0, 0, 0) + text)
            except BlockingIOError:
                break
            queued += 1
        begin = time.thread_time_ns()
        while queued > 0:
            here = receiver._fill()
            queued -= here
            got += here
        spent += time.thread_time_ns() - begin
    writer.close()
    receiver.close()
    return spent / got / 1000, kind


def measure(batches: int, rounds: int) -> tuple[dict[str, list[float]], str]:
    """Stages by name with the figures of all rounds, and what was received from."""
    found: dict[str, list[float]] = {row.name: [] for row in ROWS}
    gc.disable()
    kind = ""
    for number in range(rounds):
        steps = walk(batches, number * (batches + WARM))
        gc.collect()
        stages = rows_of(steps)
        received, kind = system_call(batches)
        # What `Line` has in the system call's place is no system call.
        stages["receive"] = received
        for name, figure in stages.items():
            found[name].append(figure)
    return found, kind


def main(words: list[str]) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="bench_stages", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batches", type=int, default=150, help="of 373 records, in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--into", type=Path, default=INTO)
    options = parser.parse_args(words)
    found, kind = measure(options.batches, options.rounds)
    middle = {name: statistics.median(figures) for name, figures in found.items()}
    whole = sum(middle.values())
    print("| stage | us a record | least, most | share | what |\n|---|--:|--:|--:|---|")
    for row in ROWS:
        figures = found[row.name]
        print(
            f"| {row.name} | {middle[row.name]:.2f} | {min(figures):.2f}, {max(figures):.2f} "
            f"| {middle[row.name] / whole:.0%} | {row.what} |"
        )
    print(f"| all | {whole:.2f} | | | {1e6 / whole:,.0f} records a second of CPU |")
    print(f"received from {kind}; Python {platform.python_version()}")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "kernel": os.uname().release,
        "cpus": os.cpu_count(),
        "received from": kind,
        "records of a round": options.batches * len(made(0).records),
    }
    options.into.mkdir(parents=True, exist_ok=True)
    said = {
        **about,
        "us_per_record": {name: [round(each, 4) for each in figures] for name, figures in found.items()},
    }
    (options.into / "stages.json").write_text(json.dumps(said, indent=1) + "\n")
    picture = bars("Microseconds of CPU a record takes at each stage", middle, "us")
    (options.into / "stages.svg").write_text(picture)


if __name__ == "__main__":
    main(sys.argv[1:])
