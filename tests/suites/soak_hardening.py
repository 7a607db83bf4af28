# SPDX-License-Identifier: Apache-2.0
"""A mixed load and one fault after the other, at random, for most of an hour: `make soak-hardening`.

    python -m tests.suites.soak_hardening [--minutes N] [--seed N] [--kernel SLOT] [--only FAULT,FAULT..]

Owns the order of the faults, which the seed decides, the count and the verdict. A step is a fault under load and the
reckoning of it (tests/suites/reckoning.py). What is done stands in build/soak/hardening-SLOT-SEED.json after each step,
and is not done again: a run that was interrupted goes on behind it, in a new guest, until the minutes are full.
In the second half there are only faults that the service lives through, so that one process is looked at long enough
to say whether its memory grows.

Exit status 1 where a record is unaccounted for, a fact is wrong, or memory grows. The limit of all of it is an hour.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.suites.faults import FAULTS, FULL, SMALL, Size, load, main_pid
from tests.suites.reckoning import Reckoning
from tests.suites.rules import Rules
from tests.suites.staging import installed, stage
from tests.suites.test_service import UNIT, serving
from tests.vm.kernels import SLOTS

if TYPE_CHECKING:
    from tests.suites.test_service import Service

INTO: Final = Path(__file__).resolve().parents[2] / "build/soak"
LONGEST: Final = 59
"""Minutes: the machine that runs it may give no more than an hour to a command."""
BOOT: Final = 2.5
"""Minutes of them for the packages, the boot and the end."""
GROWTH: Final = 0.05
"""The line through what was resident may rise by that share of it, from one end of what is judged to the other."""
LEAST: Final = 8
"""Looks at one process, without which nothing is said of its memory."""


class Step(NamedTuple):
    """One fault and what came of it."""

    number: int
    fault: str
    seconds: float
    records: int
    lost: int
    """Told as lost, or as never read."""
    unaccounted: int
    wrong: int
    pid: int
    resident: int
    """KiB of the service's process afterwards."""
    at: float
    """Seconds of soak, all runs of this seed together."""


def fault_of(seed: int, number: int, share: float, only: list[str]) -> tuple[str, Size]:
    """The fault of a step, by nothing but the seed and its number; `share` is how much of the time is over."""
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - nothing is kept secret by it
    names = only or [name for name, fault in FAULTS.items() if share < 0.5 or not fault.ends]
    name = chance.choice(names)
    size = Size(chance.uniform(1, 12), chance.randrange(60, 300), (chance.randrange(50, 500), 10), SMALL.pids)
    return name, size if chance.random() < 0.9 else size._replace(seconds=FULL.seconds / 2)


def slope(steps: list[Step]) -> tuple[float, float, int]:
    """Of the process that was looked at most, without the first third: KiB a minute, KiB in all, and how many looks."""
    if not steps:
        return 0.0, 0.0, 0
    (pid, _), *_ = Counter(step.pid for step in steps).most_common(1)
    looks = [step for step in steps if step.pid == pid]
    looks = looks[len(looks) // 3 :]
    if len(looks) < 2:
        return 0.0, 0.0, len(looks)
    line = statistics.linear_regression([each.at for each in looks], [each.resident for each in looks])
    return float(line.slope * 60), float(line.slope * (looks[-1].at - looks[0].at)), len(looks)


def faults(steps: list[Step]) -> list[str]:
    """What is not as it has to be; empty where all is."""
    said = []
    unaccounted, wrong = sum(step.unaccounted for step in steps), sum(step.wrong for step in steps)
    if unaccounted:
        said.append(f"{unaccounted} records are unaccounted for")
    if wrong:
        said.append(f"{wrong} facts are wrong")
    minute, growth, looks = slope(steps)
    if looks < LEAST:
        said.append(f"too few looks at one process to say anything of its memory: {looks}")
    elif growth > GROWTH * statistics.median(step.resident for step in steps):
        said.append(f"memory grows: {minute:.1f} KiB a minute, {growth:.0f} KiB in all")
    return said


class Soak:
    """One seed's steps on one kernel, and the file that they are in."""

    def __init__(self, slot: str, seed: int) -> None:
        self._path = INTO / f"hardening-{slot}-{seed}.json"
        self._seed = seed
        self.steps: list[Step] = []
        if self._path.exists():
            read = json.loads(self._path.read_text())
            self.steps = [Step(**step) for step in read["steps"]]

    @property
    def done(self) -> float:
        """Seconds of soak so far."""
        return self.steps[-1].at if self.steps else 0.0

    def run(self, service: Service, seconds: float, until: float, only: list[str]) -> None:
        """Make steps until so many seconds are full, or the clock is at `until`."""
        with Reckoning(service) as reckoning:
            while self.done < seconds and time.monotonic() < until:
                name, size = fault_of(self._seed, len(self.steps), self.done / seconds, only)
                self._add(self._step(service, reckoning, name, size))

    def _step(self, service: Service, reckoning: Reckoning, name: str, size: Size) -> Step:
        begin = time.monotonic()
        number = len(self.steps)
        # Faults start it by hand, more often in a minute than systemd lets anybody.
        service.sh(f"systemctl reset-failed {UNIT}")
        with load(service, f"soak-{number}"):
            FAULTS[name].make(service, size)
        told = reckoning.told()
        for line in told.wrong[:20]:
            say(f"  {line}")
        if told.wrong or told.unaccounted:
            # The guest is gone afterwards, and the same seed need not bring the same.
            INTO.mkdir(parents=True, exist_ok=True)
            self._path.with_suffix(f".{number}").write_text(json.dumps(told.events))
        resident = service.status()["rss"] >> 10
        seconds = time.monotonic() - begin
        pid = int(main_pid(service))
        numbers = (told.records, told.lost, told.unaccounted, len(told.wrong))
        return Step(number, name, round(seconds, 1), *numbers, pid, resident, round(self.done + seconds, 1))

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        say(" ".join(f"{name}={value}" for name, value in step._asdict().items()))
        INTO.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps({"seed": self._seed, "steps": [each._asdict() for each in self.steps]}))
        fresh.replace(self._path)

    def summary(self) -> dict[str, Any]:
        """The figures."""
        minute, growth, looks = slope(self.steps)
        return {
            "minutes": round(self.done / 60, 1),
            "steps": len(self.steps),
            "faults": dict(Counter(step.fault for step in self.steps)),
            "records": sum(step.records for step in self.steps),
            "told as lost": sum(step.lost for step in self.steps),
            "unaccounted": sum(step.unaccounted for step in self.steps),
            "wrong": sum(step.wrong for step in self.steps),
            "KiB a minute": round(minute, 1),
            "KiB in all": round(growth),
            "looks": looks,
        }


def say(words: str) -> None:
    """One line to whoever watches."""
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="soak_hardening", allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=55)
    parser.add_argument("--seed", type=int, default=0, help="0: one that is made up, and said")
    parser.add_argument("--kernel", choices=list(SLOTS), default="newest")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=[], help="of the faults these alone"
    )
    options = parser.parse_args(words)
    if not 0 < options.minutes < LONGEST:
        parser.error(f"--minutes is more than 0 and less than {LONGEST}")
    if unknown := set(options.only) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    seed = options.seed or random.SystemRandom().randrange(1, 1 << 32)
    soak = Soak(options.kernel, seed)
    say(f"seed {seed}, {len(soak.steps)} steps and {soak.done / 60:.1f} minutes are done")
    until = time.monotonic() + 60 * (options.minutes - min(BOOT, options.minutes / 4))
    with tempfile.TemporaryDirectory() as directory:
        share = stage(Path(directory))
        with installed(options.kernel, share) as guest:
            rules = Rules(guest)
            rules.clear()
            with serving(guest, rules) as service:
                soak.run(service, 60 * options.minutes, until, options.only)
    say(json.dumps(soak.summary(), indent=1))
    said = faults(soak.steps)
    for line in said:
        say(f"FAILED: {line}")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
