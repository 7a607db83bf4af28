# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: makes and removes cgroups in the shape of containers, at a pace, and looks at a process meanwhile.

Usage: churn.py COUNT PER_SECOND EVERY PROGRAM PID JOURNAL

In one of EVERY cgroups the program is executed, as `PROGRAM 1 churn`. Prints a JSON list: at the half and at the end
the KiB that are resident of the process, and the bytes of all files whose names begin with JOURNAL.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

SLICE = Path("/sys/fs/cgroup/system.slice")


def execute(program: str, directory: Path) -> None:
    """Execute it in there, and wait for it."""
    child = os.fork()
    if not child:
        try:
            (directory / "cgroup.procs").write_text("0")
            os.execv(program, [program, "1", "churn"])  # noqa: S606
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status == 0, status


def look(pid: int, journal: Path) -> tuple[int, int]:
    """What is resident, and how long the journal is."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    files = journal.parent.glob(journal.name + "*")
    return pages * resource.getpagesize() >> 10, sum(file.stat().st_size for file in files)


def main(count: int, per_second: float, every: int, program: str, watched: tuple[int, Path]) -> None:
    """Do all; `watched` is the process and its journal."""
    looks = []
    begin = time.monotonic()
    for number in range(1, count + 1):
        # It is the pace that decides how many are remembered at a time.
        time.sleep(max(0.0, begin + number / per_second - time.monotonic()))
        directory = SLICE / f"docker-{number:064x}.scope"
        directory.mkdir()
        if number % every == 0:
            execute(program, directory)
        directory.rmdir()
        if number in (count // 2, count):
            looks.append(look(*watched))
    print(json.dumps(looks))


main(
    int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4], (int(sys.argv[5]), Path(sys.argv[6]))
)
