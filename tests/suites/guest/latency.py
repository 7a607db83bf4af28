# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: from an exec to its line in the output file, in milliseconds, as a JSON list.

Usage: latency.py OUTPUT PROGRAM TRIES [--idle]. Between tries it waits until the output has been still for a while.
With --idle each is a pair: the time, and how much of it the CPU had nothing to do. That is what was waited for; all
else is work, and takes as long as the machine is slow.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

STILL = 0.5
GIVE_UP = 5.0


def settle(path: str) -> int:
    """Wait until the file has not grown for STILL seconds; returns its size."""
    size, since = Path(path).stat().st_size, time.monotonic()
    while time.monotonic() - since < STILL:
        time.sleep(0.01)
        now = Path(path).stat().st_size
        if now != size:
            size, since = now, time.monotonic()
    return size


def idle() -> float:
    """Seconds that the CPU had nothing to do, since boot."""
    fields = Path("/proc/stat").read_text().split(maxsplit=6)
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def main(path: str, program: str, tries: int, *, with_idle: bool) -> None:
    """Measure."""
    times = []
    for number in range(tries):
        size = settle(path)
        before, nothing = time.monotonic(), idle()
        child = os.posix_spawn(program, ["truth-leaf", f"try={number}"], {})
        os.waitpid(child, 0)
        while Path(path).stat().st_size == size and time.monotonic() - before < GIVE_UP:
            time.sleep(0.001)
        took = (time.monotonic() - before) * 1000
        times.append((took, (idle() - nothing) * 1000) if with_idle else took)
    print(json.dumps(times))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), with_idle="--idle" in sys.argv)
