# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: from an exec to its line in the output file, in milliseconds, as a JSON list.

Usage: latency.py OUTPUT PROGRAM TRIES. Between tries it waits until the output has been still for a while.
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


def main(path: str, program: str, tries: int) -> None:
    """Measure."""
    times = []
    for number in range(tries):
        size = settle(path)
        before = time.monotonic()
        child = os.posix_spawn(program, ["truth-leaf", f"try={number}"], {})
        os.waitpid(child, 0)
        while Path(path).stat().st_size == size and time.monotonic() - before < GIVE_UP:
            time.sleep(0.001)
        times.append((time.monotonic() - before) * 1000)
    print(json.dumps(times))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
