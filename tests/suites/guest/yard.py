# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: has several boxes (box.sh) execute a command each, all at the same time.

Usage: yard.py DIRECTORY <JSON

The JSON is an object: the box's name, and its command line. Prints the same with the exit statuses. A box that does
not take its command, or does not answer, is named and ends the program.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from pathlib import Path

PATIENCE = 240


def tell(fifo: Path, words: str) -> None:
    """Write one line; the open waits for the box's."""
    with fifo.open("w") as out:
        out.write(words + "\n")


def main(directory: Path) -> None:
    """Tell all, then hear all."""
    wanted: dict[str, str] = json.load(sys.stdin)
    waiting = ""

    def give_up(_number: int, _frame: object) -> None:
        sys.exit(f"no answer from {waiting}")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    # Both ends, so that a box that is done first does not wait for the others to be heard.
    ears = {os.open(directory / f"{name}.out", os.O_RDWR | os.O_NONBLOCK): name for name in wanted}
    for name, words in wanted.items():
        waiting = name
        tell(directory / f"{name}.in", words)
    said: dict[str, int] = {}
    ends = time.monotonic() + PATIENCE
    while len(said) < len(wanted):
        waiting = ", ".join(sorted(set(wanted) - set(said)))
        ready, _, _ = select.select(list(ears), [], [], max(0.0, ends - time.monotonic()))
        for ear in ready:
            said[ears[ear]] = int(os.read(ear, 64).split()[0])
    print(json.dumps(said))


main(Path(sys.argv[1]))
