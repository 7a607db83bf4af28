# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: many cgroups in the shape of containers at the same time, in some of which something is executed.

Usage: many.py COUNT EVERY PROGRAM TAG. In one of EVERY the program is executed as `PROGRAM 1 box-ID-TAG`. All are
removed at the end. Prints in how many.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

SLICE = Path("/sys/fs/cgroup/many.slice")
"""One of its own, which hands no controllers down: ten thousand times those of memory are no fault of the service."""
BASE = 0xC0 << 64


def main(count: int, every: int, program: str, tag: str) -> None:
    """Make all, execute, remove all."""
    boxes = [(f"{BASE + n:064x}", SLICE / f"docker-{BASE + n:064x}.scope") for n in range(count)]
    made = 0
    SLICE.mkdir()
    try:
        for ident, directory in boxes:
            directory.mkdir()
            made += 1
            if made % every:
                continue
            child = os.fork()
            if not child:
                try:
                    (directory / "cgroup.procs").write_text("0")
                    os.execv(program, [program, "1", f"box-{ident}-{tag}"])  # noqa: S606
                finally:
                    os._exit(1)
            _, status = os.waitpid(child, 0)
            assert status == 0, status
    finally:
        for _, directory in boxes[:made]:
            directory.rmdir()
        SLICE.rmdir()
    print(made // every)


main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
