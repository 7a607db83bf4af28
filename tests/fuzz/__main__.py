# SPDX-License-Identifier: Apache-2.0
"""Runs the fuzz targets, one after the other, and fails when one has a finding.

    python -m tests.fuzz [--seconds N] [--jobs N] [TARGET ...]     every target, or these
    python -m tests.fuzz TARGET FILE                               one input, for instance a finding

Owns the directory .cache/fuzz/TARGET: ``corpus`` grows from run to run, so that a run goes on where the
last one ended; ``findings`` has a file for every input that broke something; ``log`` is what the fuzzer
said in the last run. A finding fails every run until it is mended: then it moves into the corpus.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha1
from pathlib import Path

from tests.fuzz.targets import TARGETS

WORK = Path(".cache/fuzz")
SECONDS = 660
SLOW = 20  # seconds for one input
MEMORY = 1_024  # MiB, the fuzzer's own included


def main() -> int:
    options = arguments().parse_args()
    if len(options.targets) == 2 and options.targets[0] in TARGETS and Path(options.targets[1]).is_file():
        TARGETS[options.targets[0]].run(Path(options.targets[1]).read_bytes())
        return 0
    names = options.targets or list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS]:
        print(f"no such target: {', '.join(unknown)}; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(options.jobs) as pool:
        good = list(pool.map(lambda name: fuzz(name, options.seconds), names))
    bad = [name for name, is_good in zip(names, good, strict=True) if not is_good]
    for name in bad:
        print(f"{name}: FAILED; findings, if the target itself ran, in {WORK / name / 'findings'}")
    return 1 if bad else 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each target (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time (default: %(default)s)")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    return parser


def fuzz(name: str, seconds: int) -> bool:
    """Whether the target has no finding, old or new."""
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
        f"-timeout={SLOW}",
        f"-report_slow_units={SLOW}",
        f"-rss_limit_mb={MEMORY}",
        "-max_len=8192",
    ]
    command += ["-print_final_stats=1", "-verbosity=0", *([f"-dict={words}"] if TARGETS[name].words else [])]
    print(f"{name}: {seconds} s, {len(list(corpus.iterdir()))} inputs to begin with", flush=True)
    log = WORK / name / "log"
    began = time.monotonic()
    with log.open("wb") as said:
        done = subprocess.run(command, check=False, stdout=said, stderr=subprocess.STDOUT)
    left = list(findings.iterdir())
    print(
        f"{name}: exit {done.returncode} after {time.monotonic() - began:.0f} s, {executed(log)} executions, "
        f"{len(list(corpus.iterdir()))} inputs kept, {len(left)} findings; {log} has the rest",
        flush=True,
    )
    return done.returncode == 0 and not left


def executed(log: Path) -> str:
    """How many inputs ran, as the fuzzer says at its end; a finding is no regular end."""
    found = re.search(rb"stat::number_of_executed_units: +([0-9]+)", log.read_bytes())
    return found[1].decode() if found else "unknown"


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
        done = subprocess.run(command, check=False, capture_output=True, timeout=3 * SLOW)
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


if __name__ == "__main__":
    sys.exit(main())
