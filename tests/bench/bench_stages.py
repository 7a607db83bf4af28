# SPDX-License-Identifier: Apache-2.0
"""Where the time of a record goes: microseconds of CPU at each stage, from the socket to the file, on one core.

    python -m tests.bench.bench_stages [--batches N] [--rounds N] [--into DIRECTORY]

The stages and their sample are those of tests/bench/line.py. Each figure is the median of the rounds, with the least
and the most beside it; stages take turns batch by batch, so that other work on the machine hits all of them alike, and
so do both forms of the modules, round by round, where there is a compiled one. The one system call is measured apart,
on a socket of the kernel's where one may be had: nothing else waits for a kernel.
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

from enricher.forms import VARIABLE, form
from enricher.sources.audit.netlink import HEADER, HEADER_SIZE
from enricher.sources.audit.receiver import Receiver
from tests.bench.bench_receive import netlink_pair, unix_pair
from tests.bench.line import ROWS, Line, Step, made, rows_of
from tests.bench.picture import bars

INTO: Final = Path(__file__).resolve().parents[2] / "build/bench"
WARM: Final = 20
"""Batches that are not counted."""

Figures = dict[str, dict[str, list[float]]]
"""By form and stage, of each round."""


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


def once(batches: int, first: int) -> dict[str, object]:
    """One round in this process: the stages' figures, and what was received from."""
    gc.disable()
    stages = rows_of(walk(batches, first))
    # What `Line` has in the system call's place is no system call.
    stages["receive"], kind = system_call(batches)
    return {"stages": stages, "received from": kind}


def measure(batches: int, rounds: int) -> tuple[Figures, str]:
    """The figures of all rounds by form and stage, and what was received from. Each round is a process of its own."""
    forms = {"interpreted": "1", "compiled": "0"} if form() == "compiled" else {"interpreted": "1"}
    found: Figures = {name: {row.name: [] for row in ROWS} for name in forms}
    kind = ""
    for number in range(rounds):
        for name, value in forms.items():
            done = subprocess.run(
                [sys.executable, "-m", __spec__.name, "--batches", str(batches), "--once", str(number)],
                env={**os.environ, VARIABLE: value},
                cwd=INTO.parents[1],
                stdout=subprocess.PIPE,
                check=True,
            )
            told = json.loads(done.stdout)
            kind = told["received from"]
            for stage, figure in told["stages"].items():
                found[name][stage].append(figure)
    return found, kind


def table(found: Figures) -> str:
    """Return the figures as Markdown: the median of each form's rounds, and the least and most of them."""
    lines = [
        f"| stage | {' | '.join(f'{name}: us a record | rounds | share' for name in found)} | what |",
        f"|---|{'--:|--:|--:|' * len(found)}---|",
    ]
    middles = {name: middle_of(stages) for name, stages in found.items()}
    sums = {name: sum(middle.values()) for name, middle in middles.items()}
    for row in ROWS:
        cells = [
            f"{middles[name][row.name]:.2f} | {min(stages[row.name]):.2f} to {max(stages[row.name]):.2f} "
            f"| {middles[name][row.name] / sums[name]:.0%}"
            for name, stages in found.items()
        ]
        lines.append(f"| {row.name} | {' | '.join(cells)} | {row.what} |")
    cells = [f"{whole:.2f} | | {1e6 / whole:,.0f} records/s" for whole in sums.values()]
    return "\n".join([*lines, f"| all | {' | '.join(cells)} | of CPU |"])


def middle_of(stages: dict[str, list[float]]) -> dict[str, float]:
    """Return the median of each stage."""
    return {name: statistics.median(figures) for name, figures in stages.items()}


def main(words: list[str]) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="bench_stages", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batches", type=int, default=150, help="of 373 records, in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--into", type=Path, default=INTO)
    parser.add_argument("--once", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.once is not None:
        print(json.dumps(once(options.batches, options.once * (options.batches + WARM))))
        return
    found, kind = measure(options.batches, options.rounds)
    print(f"{table(found)}\nreceived from {kind}; Python {platform.python_version()}")
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
        "us_per_record": {
            name: {stage: [round(each, 4) for each in figures] for stage, figures in stages.items()}
            for name, stages in found.items()
        },
    }
    options.into.mkdir(parents=True, exist_ok=True)
    (options.into / "stages.json").write_text(json.dumps(about, indent=1) + "\n")
    best = list(found)[-1]
    title = f"Microseconds of CPU a record takes at each stage, {best}"
    (options.into / "stages.svg").write_text(bars(title, middle_of(found[best]), "us"))


if __name__ == "__main__":
    main(sys.argv[1:])
