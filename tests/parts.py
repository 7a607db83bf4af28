# SPDX-License-Identifier: Apache-2.0
"""Runs pytest in parts, two beside each other: one for each kernel, one for guests that are not shared, and the rest.

    python -m tests.parts [--lanes N] [--kernel SLOT].. [--ids ID,ID..] [pytest's options and paths]

Owns the division, and the order of what is printed: the output of a part in one piece when it has ended, at the end
which parts failed and their failures. Never looks into a test. What compares over all kernels' records comes last.
A guest takes one core and a part boots one guest at a time, so there are two lanes where there are two cores, and the
memory for two guests.

Exit status: 0, or 1 if a part failed or none had a test.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tests.vm.kernels import SLOTS

ROOT: Final = Path(__file__).resolve().parents[1]
_TWO_GUESTS: Final = 8 << 30
"""Bytes: two guests, their emulators, and what builds packages and runs tests beside them."""
_MEMORY: Final = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
LANES: Final = 2 if (os.cpu_count() or 1) > 1 and _MEMORY >= _TWO_GUESTS else 1
LOGS: Final = ROOT / "build" / "test"
NO_TESTS: Final = 5
"""pytest's exit status where it had none to run."""

_LAST: Final = "interop"
_POLL: Final = 0.2
_SWIFT: Final = "--ignore=tests/unit"  # thousands of tests that only one part has
# Those that take longest first, so that no lane has a long one when the other is done.
_ORDER: Final = ("newest", "5.10", "6.12", "6.1")


@dataclass
class Part:
    """One run of pytest: its name, and what selects its tests."""

    name: str
    select: list[str]
    process: subprocess.Popen[bytes] | None = None
    output: IO[bytes] | None = None
    started: float = 0.0

    @property
    def log(self) -> Path:
        """Where its output is, of the last run too."""
        return LOGS / f"{self.name}.log"


def parts(kernels: list[str]) -> list[Part]:
    """All that can run beside each other."""
    slots = [slot for slot in _ORDER if slot in kernels]
    found = [Part(slot, ["--kernel", slot, "-m", f"kernel and not {_LAST}", _SWIFT]) for slot in slots]
    # What fails within seconds is known before the guests of the first kernels are up.
    found.insert(0, Part("units", ["-m", f"not kernel and not vm and not {_LAST}"]))
    found.append(Part("own", ["-m", f"vm and not kernel and not {_LAST}", _SWIFT]))
    return found


def last_parts(kernels: list[str]) -> list[Part]:
    """What reads the records of all kernels."""
    asked = [word for slot in kernels for word in ("--kernel", slot)]
    return [
        Part("fields", [*asked, "-m", _LAST, _SWIFT, "--ignore-glob=*/interop/test_[!a]*"]),
        Part("interop", [*asked, "-m", _LAST, _SWIFT, "--ignore-glob=*/interop/test_a*"]),
    ]


def parts_of(ids: list[str]) -> list[Part]:
    """One part for each value of the parameter that the tests have."""
    return [Part(value, ["-k", f"[{value}]"]) for value in ids]


def run(part: Part, options: list[str]) -> None:
    """Start it; its end is for the caller to see."""
    LOGS.mkdir(parents=True, exist_ok=True)
    part.started = time.monotonic()
    part.output = part.log.open("wb")
    command = [sys.executable, "-m", "pytest", "-o", f"cache_dir=.cache/pytest/{part.name}"]
    part.process = subprocess.Popen(  # noqa: S603 - our own words
        [*command, *part.select, *options], cwd=ROOT, stdout=part.output, stderr=subprocess.STDOUT
    )
    tell(f"{part.name}: begun, output in {part.log.relative_to(ROOT)}")


def ended(part: Part) -> int | None:
    """Its exit status, None as long as it runs; its output is printed then."""
    assert part.process is not None
    assert part.output is not None
    status = part.process.poll()
    if status is None:
        return None
    part.output.close()
    took = time.monotonic() - part.started
    if status == NO_TESTS:
        tell(f"{part.name}: no tests")
        return status
    sys.stdout.flush()
    sys.stdout.buffer.write(part.log.read_bytes())
    tell(f"{part.name}: exit status {status} after {took:.0f} s")
    return status


def perform(waiting: list[Part], options: list[str], lanes: int) -> dict[str, int]:
    """Run all, `lanes` at a time; by name the exit status of each. On Ctrl-C those that run end as pytest does."""
    statuses: dict[str, int] = {}
    running: list[Part] = []
    try:
        while waiting or running:
            while waiting and len(running) < lanes:
                running.append(waiting.pop(0))
                run(running[-1], options)
            for part in list(running):
                status = ended(part)
                if status is not None:
                    statuses[part.name] = status
                    running.remove(part)
            time.sleep(_POLL)
    except BaseException:
        for part in running:
            assert part.process is not None
            assert part.output is not None
            part.process.terminate()
            part.process.wait()
            part.output.close()
        raise
    return statuses


def tell(words: str) -> None:
    """One line about the parts."""
    sys.stdout.flush()
    sys.stdout.buffer.write(f"parts: {words}\n".encode())
    sys.stdout.buffer.flush()


def summary(statuses: dict[str, int], seconds: float) -> None:
    """Of each part its last line, and of one that failed what failed."""
    print("\n==== parts ====")  # noqa: T201 - it is what the command is for
    for name, status in statuses.items():
        if status == NO_TESTS:
            continue
        lines = Part(name, []).log.read_text(errors="replace").splitlines()
        for line in lines:
            if status and line.startswith(("FAILED ", "ERROR ")):
                print(line)  # noqa: T201
        print(f"{name:8} {lines[-1] if lines else 'said nothing'}")  # noqa: T201
    print(f"all in {seconds:.0f} seconds", flush=True)  # noqa: T201


def main(arguments: list[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.parts", allow_abbrev=False)
    parser.add_argument("--lanes", type=int, default=LANES)
    parser.add_argument("--kernel", action="append", choices=list(SLOTS))
    parser.add_argument("--ids", type=lambda text: text.split(","), help="parts by the tests' parameter")
    known, options = parser.parse_known_args(arguments)
    began = time.monotonic()
    lanes = max(1, known.lanes)
    if known.ids:
        statuses = perform(parts_of(known.ids), options, lanes)
    else:
        statuses = perform(parts(known.kernel or list(SLOTS)), options, lanes)
        statuses |= perform(last_parts(known.kernel or []), options, lanes)
    summary(statuses, time.monotonic() - began)
    ran = [status for status in statuses.values() if status != NO_TESTS]
    return 0 if ran and not any(ran) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
