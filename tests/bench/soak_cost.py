# SPDX-License-Identifier: Apache-2.0
"""Does a record cost the same after ten million of them, and with 5 000 containers alive? `make soak-cost`.

    python -m tests.bench.soak_cost [--records N] [--anew]

Owns the two questions and their limit. A pipeline that has done much and one that has done little get the same batches,
in turns, and the ratio of their CPU time is taken pair by pair: nothing else tells age from what the machine does
besides. The pipeline is what a replay and the service have: ring messages decoded, join and account, native event,
JSON, a file (/dev/null). No two events are alike (tests/bench/line.py).

* Age: at 10 000, 100 000 and so on records up to `--records`, against one that has seen 10 000.
* Containers: 100, 1 000 and 5 000 that take turns, the worst order for whatever is kept of them, against ten.

A step that is done stands in build/bench/soak-cost.json, with the commit it was of, and is not done again at the same
commit: what was interrupted goes on. Exit status 1 where a ratio is over the limit.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from enricher.enrich.native import NativeBuilder
from enricher.enrich.surroundings import Surroundings
from enricher.forms import form
from enricher.model import Batch
from enricher.route.views.native_json import render
from enricher.runtime.stages import Opening, Stages
from enricher.sinks.stream import FileSink
from enricher.sources.bpf import wire
from tests.bench.bench_views import HOST
from tests.bench.line import Made, cgroups, made

if TYPE_CHECKING:
    from enricher.model import Event

INTO: Final = Path(__file__).resolve().parents[2] / "build/bench/soak-cost.json"
FEWEST: Final = 10_000
RECORDS: Final = 10_000_000
CONTAINERS: Final = (10, 100, 1_000, 5_000)
PAIRS: Final = 41
BATCHES: Final = 2
"""In each half of a pair: some 750 records."""
LIMIT: Final = 1.15
"""The median of the pairs may be that much."""

Json = dict[str, Any]


class Pipeline:
    """From a batch as the kernel sends it to written lines, with so many containers alive."""

    def __init__(self, containers: int) -> None:
        around = Surroundings(HOST)
        self._builder = NativeBuilder(HOST, around=around)
        self._sink = FileSink("/dev/null")
        self._stages = Stages(Opening(1, "0badcafe", None), self._emit, around.learn)
        self._turns = 0
        self.records = 0
        self.events = 0
        news = Batch([], [], [], parked=False, now=0.0, wall=0.0, cgroups=cgroups(containers))
        self._stages.take(news)

    def _emit(self, events: list[Event]) -> None:
        build = self._builder.build
        self._sink.write([render(build(event)) for event in events])
        self.events += len(events)

    def take(self, batch: Made) -> None:
        """Do all of it."""
        self._turns += 1
        now = self._turns * 0.02
        contexts = [wire.decode_context(message, 0) for message in batch.contexts]
        tallies = [wire.decode_tally(message, 0) for message in batch.tallies]
        self._stages.take(Batch(batch.records, contexts, tallies, parked=False, now=now, wall=now))
        self.records += len(batch.records)

    def close(self) -> None:
        """Let go of the file."""
        self._sink.close()


def spent(pipeline: Pipeline, batches: list[Made]) -> float:
    """Seconds of CPU for these batches."""
    begin = time.thread_time()
    for batch in batches:
        pipeline.take(batch)
    return time.thread_time() - begin


def pairs(one: tuple[Pipeline, int], other: tuple[Pipeline, int], first: int) -> list[tuple[float, float]]:
    """Microseconds a record of both, pair by pair; each is given the events in its own number of containers."""
    found = []
    for at in range(PAIRS):
        numbers = range(first + at * BATCHES, first + (at + 1) * BATCHES)
        mine, theirs = ([made(number, side[1]) for number in numbers] for side in (one, other))
        records = sum(len(batch.records) for batch in mine)
        if at % 2:
            second, begin = spent(other[0], theirs), spent(one[0], mine)
        else:
            begin, second = spent(one[0], mine), spent(other[0], theirs)
        found.append((begin / records * 1e6, second / records * 1e6))
    return found


def judged(found: list[tuple[float, float]]) -> Json:
    """The ratio of a step, median and quartiles, and what its records cost."""
    ratios = sorted(one / other for one, other in found)
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "ratio": round(middle, 4),
        "quartiles": [round(low, 4), round(high, 4)],
        "of_sums": round(sum(one for one, _ in found) / sum(other for _, other in found), 4),
        "us": round(statistics.median(one for one, _ in found), 3),
        "us_against": round(statistics.median(other for _, other in found), 3),
        "pairs": len(found),
    }


def of_age(pipeline: Pipeline, records: int, batch: int) -> tuple[Json, int]:
    """Let it do the rest up to so many records, and hold it against a young one; returns the next batch's number."""
    while pipeline.records < records:
        pipeline.take(made(batch))
        batch += 1
    young, number = Pipeline(40), batch
    while young.records < FEWEST:
        young.take(made(number))
        number += 1
    # The old one has seen the events that the young one was warmed with as little as the young one has seen others.
    for again in range(batch, number):
        pipeline.take(made(again))
    found = judged(pairs((pipeline, 40), (young, 40), number))
    young.close()
    return found, number + PAIRS * BATCHES


def of_containers(count: int) -> Json:
    """Hold a pipeline with so many containers against one with ten; every container has been seen twice before."""
    pipelines = []
    warm = 2 * max(CONTAINERS) // 73 + 1
    for containers in (count, CONTAINERS[0]):
        pipeline = Pipeline(containers)
        for number in range(warm):
            pipeline.take(made(number, containers))
        pipelines.append((pipeline, containers))
    found = judged(pairs(pipelines[0], pipelines[1], warm))
    for pipeline, _ in pipelines:
        pipeline.close()
    return found


class Done:
    """The steps that are done, in the file, at one commit."""

    def __init__(self, path: Path, commit: str, *, anew: bool) -> None:
        self._path = path
        about = {"commit": commit, "form": form(), "python": platform.python_version(), "limit": LIMIT}
        self.said: Json = {**about, "steps": {}}
        if not anew and path.exists():
            before = json.loads(path.read_text())
            if {name: before.get(name) for name in about} == about:
                self.said = before

    def get(self, step: str) -> Json | None:
        """Return what came of a step; None where it is to be done."""
        found: Json | None = self.said["steps"].get(step)
        return found

    def put(self, step: str, found: Json) -> None:
        """Keep what came of a step."""
        self.said["steps"][step] = found
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self.said, indent=1) + "\n")


def tell(step: str, found: Json) -> None:
    low, high = found["quartiles"]
    word = "" if found["ratio"] <= LIMIT else f"  OVER {LIMIT}"
    print(
        f"{step:>24}: ratio {found['ratio']:.3f} ({low:.3f} to {high:.3f}), "
        f"{found['us']:.2f} us a record against {found['us_against']:.2f}{word}",
        flush=True,
    )


def faults(steps: Json) -> list[str]:
    """Return the steps whose records cost more than the limit allows."""
    return [step for step, found in steps.items() if found["ratio"] > LIMIT]


def main(words: list[str]) -> int:
    """Do what is not done yet; returns the exit status."""
    parser = argparse.ArgumentParser(prog="soak_cost", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--anew", action="store_true", help="do what is done already once more")
    options = parser.parse_args(words)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    done = Done(INTO, head.stdout.strip(), anew=options.anew)
    for count in CONTAINERS[1:]:
        step = f"{count:,} containers"
        found = done.get(step)
        if found is None:
            found = of_containers(count)
            done.put(step, found)
        tell(step, found)
    ages: list[int] = []
    while not ages or ages[-1] < options.records:
        ages.append(min(options.records, FEWEST * 10 ** len(ages)))
    steps = [f"{age:,} records" for age in ages]
    if any(done.get(step) is None for step in steps):
        # What is behind the last step that is done has to be gone through again, without being measured.
        pipeline, batch = Pipeline(40), 0
        for age, step in zip(ages, steps, strict=True):
            if done.get(step) is None:
                found, batch = of_age(pipeline, age, batch)
                done.put(step, found)
                tell(step, found)
    else:
        for step in steps:
            tell(step, done.said["steps"][step])
    for step in faults(done.said["steps"]):
        print(f"soak_cost: {step}: a record costs more than {LIMIT} times as much", file=sys.stderr)
    return 1 if faults(done.said["steps"]) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
