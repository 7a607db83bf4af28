# SPDX-License-Identifier: Apache-2.0
"""Runs the fuzz targets, two at a time where there are two cores, and fails when one has a finding.

    python -m tests.fuzz [--seconds N] [--jobs N] [TARGET ...]     every target, or these
    python -m tests.fuzz TARGET FILE                               one input, for instance a finding

Owns the directory .cache/fuzz/TARGET: ``corpus`` grows from run to run, so that a run goes on where the
last one ended; ``findings`` has a file for every input that broke something; ``log`` is what the fuzzer
said in the last run. A finding fails every run until it is mended: then it moves into the corpus. The run ends with a
table of what each target did, as it is in docs/testing.md.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.one import limited
from tests.fuzz.targets import TARGETS

WORK = Path(".cache/fuzz")
SECONDS = 660
HANGS = (
    300  # seconds by the clock, which stops with the machine; what an input may take of a CPU is in one.py
)
MEMORY = 1_024  # MiB, the fuzzer's own included
JOBS = min(
    2, os.cpu_count() or 1
)  # all targets one after the other take longer than the hour that a soak has
HEAD = "| target | date | seconds | executions | findings |\n|---|---|--:|--:|--:|"


class Outcome(NamedTuple):
    """What one target's run came to. ``executions`` is None where the fuzzer did not end in its own way."""

    name: str
    date: str
    seconds: int
    executions: int | None
    findings: int
    status: int

    @property
    def good(self) -> bool:
        """Whether it ran to its end, and there is no finding, old or new."""
        return self.status == 0 and not self.findings

    @property
    def row(self) -> str:
        """Its line in the table."""
        executions = "unknown" if self.executions is None else f"{self.executions:,}"
        return f"| {self.name} | {self.date} | {self.seconds} | {executions} | {self.findings} |"


def main() -> int:
    options = arguments().parse_args()
    if len(options.targets) == 2 and options.targets[0] in TARGETS and Path(options.targets[1]).is_file():
        limited(TARGETS[options.targets[0]].run)(Path(options.targets[1]).read_bytes())
        return 0
    names = options.targets or list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS]:
        print(f"no such target: {', '.join(unknown)}; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(lambda name: fuzz(name, options.seconds), names))
    print("", HEAD, *(outcome.row for outcome in outcomes), "", sep="\n")
    bad = [outcome.name for outcome in outcomes if not outcome.good]
    for name in bad:
        print(f"{name}: FAILED; findings, if the target itself ran, in {WORK / name / 'findings'}")
    return 1 if bad else 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each target (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=JOBS, help="targets at a time (default: %(default)s)")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    return parser


def fuzz(name: str, seconds: int) -> Outcome:
    """Run one target, after a look at what earlier runs found."""
    corpus, findings, words = prepare(name)
    for finding in sorted(findings.iterdir()):
        if reproduced(name, finding):
            print(f"{name}: still there: {finding}")
        else:
            print(f"{name}: mended: {finding}")
            finding.rename(corpus / finding.name)
    command = [sys.executable, "-m", "tests.fuzz.one", name, str(corpus), f"-max_total_time={seconds}"]
    command += [
        f"-artifact_prefix={findings}/",
        f"-timeout={HANGS}",
        f"-report_slow_units={HANGS}",
        f"-rss_limit_mb={MEMORY}",
        "-max_len=8192",
    ]
    command += ["-print_final_stats=1", "-verbosity=0", *([f"-dict={words}"] if TARGETS[name].words else [])]
    print(f"{name}: {seconds} s, {len(list(corpus.iterdir()))} inputs to begin with", flush=True)
    log = WORK / name / "log"
    began = time.monotonic()
    with log.open("wb") as said:
        done = subprocess.run(command, check=False, stdout=said, stderr=subprocess.STDOUT)
    outcome = Outcome(
        name,
        datetime.now(UTC).date().isoformat(),
        round(time.monotonic() - began),
        executed(log),
        len(list(findings.iterdir())),
        done.returncode,
    )
    print(
        f"{name}: exit {done.returncode} after {outcome.seconds} s, {outcome.executions} executions, "
        f"{len(list(corpus.iterdir()))} inputs kept, {outcome.findings} findings; {log} has the rest",
        flush=True,
    )
    return outcome


def executed(log: Path) -> int | None:
    """How many inputs ran, as the fuzzer says at its end; a finding is no regular end."""
    found = re.search(rb"stat::number_of_executed_units: +([0-9]+)", log.read_bytes())
    return int(found[1]) if found else None


def prepare(name: str) -> tuple[Path, Path, Path]:
    """The target's corpus, with the seeds in it, its findings and its dictionary."""
    corpus, findings = WORK / name / "corpus", WORK / name / "findings"
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(exist_ok=True)
    for seed in TARGETS[name].seeds:
        (corpus / sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    words = WORK / name / "words"
    words.write_text("".join(f'"{escaped(word)}"\n' for word in TARGETS[name].words))
    return corpus, findings, words


def escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02X}" for byte in word)


def reproduced(name: str, finding: Path) -> bool:
    command = [sys.executable, "-m", "tests.fuzz", name, str(finding)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=HANGS)
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


if __name__ == "__main__":
    sys.exit(main())
