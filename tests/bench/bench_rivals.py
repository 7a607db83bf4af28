# SPDX-License-Identifier: Apache-2.0
"""Offline throughput beside LAUREL and auparse: the same audit.log to JSON, one core, whole processes.

    python -m tests.bench.bench_rivals [--events N] [--rounds N] [--sample N] [--rows KEY,...] [--logs NAME,...]

First a sample of each log is decoded by LAUREL and by us, and every field compared (tests/bench/equal.py): a difference
that no rule knows ends the run. Then every row reads logs of distinct events: those that tests/bench/captures.py has
made, each of --events; and two of half as many, of real records of the corpus and made ones (tests/bench/distinct.py
says what is changed in them). All rows take turns in each round, beginning with another one each time, on one core.
What counts is CPU time of user and system, start and end of the process included, so that other work on the machine
spoils little. The ratio is LAUREL's CPU time over the row's in the same round: above 1 is faster than LAUREL.

All write files in one directory. How often our memories had what they were asked for is counted in runs of their own,
which are not timed. Everything comes into build/bench/rivals.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.bench import captures
from tests.bench.captured import captured_log
from tests.bench.distinct import Log, made_log, real_log
from tests.bench.equal import score
from tests.bench.rows import KEYS, REFERENCE, SCORED, Row, Run, rows
from tests.suites.corpus import CORPUS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

EVENTS: Final = 50_000
"""Of each capture, and half as many of the others; the issue asks for 500 000: --events 500000."""
ROUNDS: Final = 3
SAMPLE: Final = 20_000
INTO: Final = Path(__file__).resolve().parents[2] / "build/bench"
_SHOWN: Final = 20

Results = dict[str, dict[str, list[Run]]]
"""By log and row, the runs of all rounds."""


def corpus() -> tuple[list[str], list[bytes]]:
    """The names and texts of what the suites in guests have left."""
    paths = sorted(CORPUS.glob("*.text"))
    return [path.stem for path in paths], [path.read_bytes() for path in paths]


class Source(NamedTuple):
    """Where a log comes from: how it is made of so many events, which part of --events it has, and what it is."""

    make: Callable[[Path, int], Log]
    share: int
    words: str


def sources(wanted: Sequence[str] | None) -> dict[str, Source]:
    """The logs that there can be, or those of them that are asked for; tells what is missing."""
    names, texts = corpus()
    found = {}
    if texts:
        found["real"] = Source(
            lambda path, events: real_log(path, texts, events), 2, f"records of {', '.join(names)}, copied"
        )
    else:
        print(f"NO RECORDS OF REAL KERNELS in {CORPUS.name}: `make test` leaves them.")
    found["made"] = Source(made_log, 2, "execs of tests/bench/bench_views.py")
    made = captures.there()
    if not made:
        print("No captures of real workloads: `make bench-captures` makes them, in guests.")
    for name, path in made.items():
        found[name] = Source(partial(_captured, path), 1, "a capture")
    if wanted and (missing := set(wanted) - set(found)):
        sys.exit(f"bench_rivals: no log {', '.join(sorted(missing))}; there are: {', '.join(found)}")
    return {name: source for name, source in found.items() if not wanted or name in wanted}


def _captured(capture: Path, path: Path, events: int) -> Log:
    return captured_log(path, capture, events)


def write_logs(known: dict[str, Source], events: int, into: Path) -> dict[str, Log]:
    """Write the logs that are read, and tell what they are."""
    logs = {}
    for name, source in known.items():
        logs[name] = log = source.make(into / f"{name}.log", max(1, events // source.share))
        told = f"{name}: {log.words}, all distinct: {source.words}"
        if log.real:
            told += f", {log.real:,} events as they were"
        if log.templates:
            told += f", {log.events - log.real:,} copies of {log.templates:,} events with other values"
        print(f"{told} (left out as repeating: {log.left_out:,} events and {log.repeated:,} copies)")
    return logs


def compare(log: Log, ours: Row, theirs: Row, core: int, into: Path) -> dict[str, object]:
    """Compare what both decode, and tell. Ends the program where something is not explained."""
    with tempfile.TemporaryDirectory(dir=into) as first, tempfile.TemporaryDirectory(dir=into) as second:
        mine, other = Path(first), Path(second)
        ours.run(log.path, mine, core)
        theirs.run(log.path, other, core)
        said = "".join((other / name).read_text(errors="replace") for name in ("stdout", "errors"))
        with (mine / "out").open() as left, (other / "out").open() as right:
            found = score(left, right, said)
    print(f"  {log.words}: {found.fields:,} fields compared, {found.equal:,} the same")
    for reason, count in found.kinds.most_common():
        print(f"  {count:9,}  {reason}")
    for each in found.unexplained[:_SHOWN]:
        print(
            f"  NOT EXPLAINED {each.ident} {each.kind} {each.name}: LAUREL {each.theirs!r}, we {each.ours!r}"
        )
    if not found.passed:
        sys.exit(
            f"bench_rivals: {len(found.unexplained)} differences that nothing explains; nothing was measured"
        )
    return {
        "events": found.events,
        "fields": found.fields,
        "equal": found.equal,
        "differences": dict(found.kinds),
    }


def measure(
    logs: dict[str, Log], wanted: Sequence[Row], rounds: int, core: int, into: Path
) -> Iterator[Results]:
    """Run every row on every log in each round; yield what there is after each, to be kept if a later one fails."""
    found: Results = {name: {row.key: [] for row in wanted} for name in logs}
    for number in range(rounds):
        turn = number % len(wanted)
        for name, log in logs.items():
            for row in (*wanted[turn:], *wanted[:turn]):
                run = row.once(log.path, core, into)
                found[name][row.key].append(run)
                print(f"round {number + 1}, {name}, {row.key}: {run.cpu:.2f} s", file=sys.stderr, flush=True)
        yield found


def ratios(found: dict[str, list[Run]], key: str) -> list[float]:
    """LAUREL's CPU time over a row's, round by round; empty where LAUREL was not run."""
    return [theirs.cpu / run.cpu for theirs, run in zip(found.get(REFERENCE, []), found[key], strict=False)]


def spread(values: list[float], digits: int = 2) -> str:
    """Return min, median and max."""
    if not values:
        return "-"
    return " / ".join(
        f"{value:,.{digits}f}" for value in (min(values), statistics.median(values), max(values))
    )


def table(log: Log, found: dict[str, list[Run]], wanted: Sequence[Row]) -> list[str]:
    """The lines of a log's table, Markdown."""
    lines = [
        "| program | version | records/s of CPU | times LAUREL's speed, min / median / max | at most MiB | lines out |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for row in wanted:
        runs = found[row.key]
        rate = statistics.median(log.records / run.cpu for run in runs)
        lines.append(
            f"| {row.words} | {row.version} | {rate:,.0f} | {spread(ratios(found, row.key))}"
            f" | {max(run.memory for run in runs) / 1024:.0f} | {runs[0].lines:,} |"
        )
    return lines


def memories(logs: dict[str, Log], core: int, into: Path) -> dict[str, dict[str, int]]:
    """Count how often our memories had what was asked for, by log, and tell; one run each, not timed."""
    [row] = rows(["json-count"])
    counted = {}
    for name, log in logs.items():
        with tempfile.TemporaryDirectory(dir=into) as directory:
            row.run(log.path, Path(directory), core)
            counts = json.loads((Path(directory) / "errors").read_text().splitlines()[-1])
        counted[name] = counts
        shares = [
            f"{key} {counts.get(f'{key} found', 0) / (times or 1):.1%}"
            for key, times in counts.items()
            if not key.endswith(" found")
        ]
        print(f"found in our memories, {name}: {', '.join(shares)}")
    return counted


def machine() -> dict[str, object]:
    """What this was measured on."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    model = next(
        (line.partition(":")[2].strip() for line in cpu.splitlines() if line[:10] == "model name"), "?"
    )
    return {"cpu": model, "cpus": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()}


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Offline throughput beside LAUREL and auparse")
    parser.add_argument(
        "--events", type=int, default=EVENTS, help=f"of each capture; others have half ({EVENTS})"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--sample",
        type=int,
        default=SAMPLE,
        help="events of each whose decoding is compared; 0 leaves it out",
    )
    parser.add_argument(
        "--logs", type=lambda text: text.split(","), help="real, made, WORKLOAD-RULES; default: all"
    )
    parser.add_argument("--rows", type=lambda text: text.split(","), default=list(KEYS), help=", ".join(KEYS))
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--into", type=Path, default=INTO)
    return parser.parse_args()


def main() -> None:
    """Compare, measure, print."""
    asked = options()
    known = sources(asked.logs)
    asked.into.mkdir(parents=True, exist_ok=True)
    host = machine()
    print(f"{host['cpu']}, {host['cpus']} CPUs, Linux {host['kernel']}, load {spread(list(os.getloadavg()))}")
    with tempfile.TemporaryDirectory(dir=asked.into) as scratch:
        into = Path(scratch)
        decoding: dict[str, object] = {}
        if asked.sample:
            print("Decoding, LAUREL's beside ours:")
            pair = {row.key: row for row in rows([SCORED, REFERENCE])}
            for name, source in known.items():
                # Execs that are made are all of one kind.
                log = source.make(into / "sample", max(1, asked.sample // (10 if name == "made" else 1)))
                print(f"  {name}:")
                decoding[name] = compare(log, pair[SCORED], pair[REFERENCE], asked.core, into)
        else:
            print("Decoding was not compared (--sample 0): the figures below are of that much less worth.")
        logs = write_logs(known, asked.events, into)
        wanted = rows(asked.rows)
        result: dict[str, object] = {
            "machine": host,
            "core": asked.core,
            "decoding": decoding,
            "logs": {name: log._asdict() | {"path": name} for name, log in logs.items()},
            "versions": {row.key: [row.words, row.version] for row in wanted},
            "memories": memories(logs, asked.core, into),
        }
        found: Results = {}
        for found in measure(logs, wanted, asked.rounds, asked.core, into):
            result["runs"] = {
                name: {key: [run._asdict() for run in runs] for key, runs in each.items()}
                for name, each in found.items()
            }
            (asked.into / "rivals.json").write_text(json.dumps(result, indent=1) + "\n")
    for name, log in logs.items():
        print(f"\n{name}, {asked.rounds} rounds\n", *table(log, found[name], wanted), sep="\n")
    print(f"\nraw data: {asked.into / 'rivals.json'}")


if __name__ == "__main__":
    main()
