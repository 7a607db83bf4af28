# SPDX-License-Identifier: Apache-2.0
"""The service beside auditd with LAUREL, live in a guest: CPU for each event, loss, and how late a line is.

    python -m tests.bench.live [--kernel SLOT] [--rounds N] [--seconds N] [--shares 25,50,75,100] [--first NAME]
    python -m tests.bench.live --table FILE...    # the table of runs that were made, of one boot or several

Owns the order, the figures and their table. Both read the same load in the same boot, in turns: round by round first
one and then the other, and the other way around in the next, at shares of the rate at which one task does nothing but
audited execs while nobody reads. That rate is the guest's own, and printed.

The guest has one CPU, and the emulator's count of instructions as its clock: a nanosecond is an instruction, for times
and rates alike. So figures repeat whatever else the machine does, and are no times of any real processor.

What counts is CPU time of kauditd and of the reader's unit, with everything it started; of the journal too, since the
kernel prints records where there is no auditd. For each event that was started: what a reader does not do because it
lost the event would make it cheap, so loss stands beside. systemd's own audit reader is masked.

Everything comes into build/bench/live.json. Nothing here fails for being slow; a comparison in which a reader gives
nothing at all is none, and ends the program.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.accuracy import rivals
from tests.accuracy.rivals import Rivals
from tests.suites.rules import Rules
from tests.suites.staging import SHARE, installed, stage

if TYPE_CHECKING:
    from tests.vm.guest import Guest

INTO: Final = Path(__file__).resolve().parents[2] / "build/bench"
OURS: Final = "audit-enricher"
THEIRS: Final = "auditd + LAUREL"
UNITS: Final = {OURS: "audit-enricher.service", THEIRS: "auditd.service"}
JOURNAL: Final = "systemd-journald.service"
RELEASE: Final = "sid"
EVENTS: Final = "/var/log/audit-enricher/events.json"
_RULE: Final = ("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")

_HOST_SECONDS: Final = 300
"""That a second of the guest may take: counting instructions is slow, and other work makes it slower."""

Json = dict[str, Any]


class Run(NamedTuple):
    """One load and what a reader made of it, as guest/paced.py tells it."""

    program: str
    share: int
    """Percent of the guest's own saturation."""
    rate: int
    told: Json

    @property
    def lost(self) -> int:
        """Started and not in the file."""
        return int(self.told["started"]) - int(self.told["delivered"])

    @property
    def cost(self) -> float:
        """Microseconds of CPU for each event that was started, of kauditd and all that reads."""
        return float(sum(self.told["cpu"].values()) / self.told["started"] * 1e6)

    def late(self, share: int) -> float:
        """Milliseconds from an exec to its line that this share of the delivered ones took at most."""
        return float(self.told["latency_ms"][str(share)])


def paced(guest: Guest, path: str, rate: int, seconds: int, program: str = "") -> Json:
    """Let the load run; the file is what the reader writes."""
    units = [UNITS[program]] if program else []
    command = ["python3", f"{SHARE}/guest/paced.py", path, str(rate), str(seconds), *units, JOURNAL]
    told: Json = json.loads(guest.run(command, timeout=seconds * _HOST_SECONDS + 120, check=True).stdout)
    return told


@contextmanager
def service(guest: Guest) -> Iterator[str]:
    """Run our unit; yields its file."""
    unit = UNITS[OURS]
    guest.run(["systemctl", "unmask", unit], check=True)
    guest.run(["systemctl", "start", unit], timeout=120, check=True)
    guest.run(["sh", "-c", f"until [ -e {EVENTS} ]; do sleep 0.2; done"], timeout=60, check=True)
    try:
        yield EVENTS
    finally:
        guest.run(["systemctl", "stop", unit], timeout=120)


@contextmanager
def laurel(guest: Guest, versions: dict[str, str]) -> Iterator[str]:
    """Run auditd with its plug-in; yields LAUREL's file."""
    with Rivals(guest, versions) as running:
        yield running.laurels[0].log
    guest.run(["sh", "-c", "systemctl reset-failed auditd; true"])


def settle(guest: Guest) -> None:
    """Wait until the kernel's queue is empty: a load begins when the one before is over."""
    wait = "until auditctl -s | grep -qx 'backlog 0'; do sleep 0.2; done"
    guest.run(["sh", "-c", wait], timeout=120, check=True)


def measure(
    guest: Guest, versions: dict[str, str], options: argparse.Namespace, note: Callable[[Json], None]
) -> list[Run]:
    """Measure everything; `note` gets what is there after each load, to be kept if a later one fails."""
    rules = Rules(guest)
    guest.run(["systemctl", "mask", "--now", "systemd-journald-audit.socket"], check=True)
    rules.clear()
    rules.add(*_RULE)
    alone = paced(guest, "-", 0, options.seconds)
    saturation = alone["started"] / alone["seconds"]
    print(f"saturation: {saturation:.0f} audited execs a second, nobody reads", flush=True)
    runs: list[Run] = []
    readers: dict[str, Callable[[], AbstractContextManager[str]]] = {
        THEIRS: lambda: laurel(guest, versions),
        OURS: lambda: service(guest),
    }
    for number in range(options.rounds):
        order = sorted(options.only or readers, key=lambda name: (name == options.first) != (number % 2 == 0))
        for program in order:
            with readers[program]() as path:
                rules.clear()
                rules.add(*_RULE)
                paced(guest, path, 20, 3, program)  # whatever is looked up for the first time
                for share in options.shares:
                    settle(guest)
                    rate = max(1, round(saturation * share / 100)) if share < 100 else 0
                    run = Run(program, share, rate, paced(guest, path, rate, options.seconds, program))
                    if not run.told["delivered"]:
                        sys.exit(f"tests.bench.live: {program} gave out nothing: {run.told}")
                    runs.append(run)
                    print(line_of(run), flush=True)
                    note(
                        {"saturation": saturation, "alone": alone, "runs": [each._asdict() for each in runs]}
                    )
    rules.clear()
    return runs


def line_of(run: Run) -> str:
    """Return one run in a line."""
    achieved = run.told["started"] / run.told["seconds"]
    each = ", ".join(f"{name} {spent:.2f} s" for name, spent in run.told["cpu"].items())
    return (
        f"{run.program:16} {run.share:3} % {achieved:6.0f}/s  {run.cost:7.0f} us of CPU an event ({each})  "
        f"{run.lost} of {run.told['started']} lost  p50 {run.late(50):.1f} ms, p99 {run.late(99):.1f} ms"
    )


def table(runs: list[Run]) -> str:
    """Return the comparison as Markdown; each cell is the median of the rounds."""
    lines = [
        "| load | program | execs/s | us of CPU an event | times auditd + LAUREL's | lost | p50 ms | p99 ms |",
        "|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    for share in sorted({run.share for run in runs}):
        here = {name: [run for run in runs if (run.share, run.program) == (share, name)] for name in UNITS}
        for name, mine in here.items():
            if not mine:
                continue
            pairs = [run.cost / other.cost for run, other in zip(mine, here[THEIRS], strict=False)]
            achieved = statistics.median(run.told["started"] / run.told["seconds"] for run in mine)
            lost, started = sum(run.lost for run in mine), sum(run.told["started"] for run in mine)
            lines.append(
                f"| {share} % | {name} | {achieved:.0f} | {statistics.median(run.cost for run in mine):.0f} "
                f"| {_spread(pairs)} | {lost:,} of {started:,} | {_middle(mine, 50):.1f} "
                f"| {_middle(mine, 99):.1f} |"
            )
    return "\n".join(lines)


def _middle(runs: list[Run], share: int) -> float:
    return statistics.median(run.late(share) for run in runs)


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    middle = f"{statistics.median(values):.2f}"
    return middle if len(values) == 1 else f"{min(values):.2f} / {middle} / {max(values):.2f}"


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench.live", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kernel", default="6.12")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=5, help="of each load, of the guest's clock")
    parser.add_argument(
        "--shares", type=lambda text: [int(word) for word in text.split(",")], default=[25, 50, 75, 100]
    )
    parser.add_argument("--first", choices=list(UNITS), default=THEIRS, help="who begins the first round")
    parser.add_argument(
        "--only",
        action="append",
        choices=list(UNITS),
        help="one of both: where a boot with both takes too long",
    )
    parser.add_argument("--table", nargs="+", type=Path, metavar="FILE", help="only print the table of these")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    """Boot, measure, print, write."""
    options = _options(words)
    if options.table:
        found = [json.loads(path.read_text()) for path in options.table]
        print(table([Run(**run) for each in found for run in each["runs"]]))
        return
    INTO.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        share = stage(Path(directory))
        versions = rivals.stage(share, [RELEASE])
        with installed(options.kernel, share, icount=True) as guest:
            commit = subprocess.run(
                ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
            )
            about = {
                "date": time.strftime("%Y-%m-%d"),
                "commit": commit.stdout.strip(),
                "kernel": guest.version,
                "laurel": versions[RELEASE],
                "rule": " ".join(_RULE),
                "seconds": options.seconds,
                "rounds": options.rounds,
                "clock": "one emulated CPU; a nanosecond is an instruction",
            }

            def note(found: Json) -> None:
                (INTO / "live.json").write_text(json.dumps({**about, **found}, indent=1) + "\n")

            runs = measure(guest, versions, options, note)
    print(f"\nkernel {about['kernel']}, LAUREL {about['laurel']}\n\n{table(runs)}")


if __name__ == "__main__":
    main(sys.argv[1:])
