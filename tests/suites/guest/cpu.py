# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: a process's CPU seconds at the beginning and at the end of a time.

Usage: cpu.py PID SECONDS

It asks twice and sleeps between, so that it makes hardly any system calls itself. Its own start made some
thousand: before the first question it waits until those are dealt with.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

SETTLE = 6.0


def used(pid: str) -> float:
    """Seconds on a CPU, as the scheduler counts them: a clock tick would charge a whole tick or nothing."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


time.sleep(SETTLE)
first = used(sys.argv[1])
time.sleep(float(sys.argv[2]))
print(first, used(sys.argv[1]))
