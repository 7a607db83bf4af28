# SPDX-License-Identifier: Apache-2.0
"""Execs at a rate, and what a reader made of them: one line of JSON.

    paced.py OUTPUT RATE SECONDS UNIT...

OUTPUT is the file that the reader writes, "-" where there is none; the UNITs are systemd's, whose CPU time is noted,
their children's included, and kauditd's. It looks into the file a thousand times a second: a line's time is known as
exactly as that, where there is a CPU for it. What is told is of all that was started: the time after the last exec,
until every line came or the file was still for `STILL` seconds, is in it. Never starts or stops a reader.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PACE = "/opt/share/workload/pace"
LINE = re.compile(rb"pace=([0-9]+)@([0-9]+)[^0-9]")
EVERY = 0.001
STILL = 8.0
LONGEST = 40
"""Bytes that a LINE may have: what one look has left over belongs to the next."""


def kauditd() -> str:
    """The pid of the kernel's thread."""
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text() == "kauditd\n":
                return path.parent.name
        except OSError:
            continue
    sys.exit("paced.py: there is no kauditd")


def used(thread: str, units: list[str]) -> dict[str, float]:
    """Seconds of CPU so far, by name; a unit that is not there has used none."""
    seconds = {"kauditd": int(Path(f"/proc/{thread}/schedstat").read_text().split()[0]) / 1e9}
    for unit in units:
        try:
            text = Path(f"/sys/fs/cgroup/system.slice/{unit}/cpu.stat").read_text()
        except OSError:
            seconds[unit] = 0.0
        else:
            seconds[unit] = int(text.split()[1]) / 1e6
    return seconds


def of_it(unit: str) -> dict[str, float]:
    """Of a unit's seconds those in the kernel, and how often its tasks went to sleep and were made to wait."""
    group = Path(f"/sys/fs/cgroup/system.slice/{unit}")
    told = {"system": 0.0, "slept": 0.0, "preempted": 0.0}
    with suppress(OSError):
        told["system"] = int((group / "cpu.stat").read_text().split()[5]) / 1e6
        for thread in (group / "cgroup.threads").read_text().split():
            text = Path(f"/proc/{thread}/status").read_text()
            told["slept"] += int(text.split("\nvoluntary_ctxt_switches:", 1)[1].split()[0])
            told["preempted"] += int(text.split("\nnonvoluntary_ctxt_switches:", 1)[1].split()[0])
    return told


class Lines:
    """What came into the file since it was opened: how late each number was, in milliseconds."""

    def __init__(self, path: str) -> None:
        self.late: dict[int, float] = {}
        self.grown = time.monotonic()
        self._path = path
        self._rest = b""
        self._open()
        os.lseek(self._fd, 0, os.SEEK_END)

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_RDONLY)
        self._inode = os.fstat(self._fd).st_ino

    def look(self) -> None:
        """Read what is new; go over to a new file when the old one was renamed and is read."""
        while True:
            data = os.read(self._fd, 1 << 20)
            moment = time.monotonic_ns()
            if not data:
                break
            self.grown = moment / 1e9
            data = self._rest + data
            for number, started in LINE.findall(data):
                self.late.setdefault(int(number), (moment - int(started)) / 1e6)
            self._rest = data[-LONGEST:]
        if Path(self._path).stat().st_ino != self._inode:
            os.close(self._fd)
            self._open()
            self._rest = b""


def main(path: str, rate: str, seconds: str, units: list[str]) -> None:
    """Run and measure."""
    thread = kauditd()
    lines = None if path == "-" else Lines(path)
    before, begin = used(thread, units), time.monotonic()
    kernel = {unit: of_it(unit) for unit in units}
    with subprocess.Popen([PACE, rate, seconds], stdout=subprocess.PIPE) as pace:
        while pace.poll() is None:
            if lines is not None:
                lines.look()
            time.sleep(EVERY)
        assert pace.stdout is not None
        count, passed = (int(line) for line in pace.stdout.read().split())
    ended = time.monotonic()
    while lines is not None and len(lines.late) < count:
        lines.look()
        if time.monotonic() - max(lines.grown, ended) > STILL:
            break
        time.sleep(EVERY)
    after = used(thread, units)
    since = {unit: {name: now - kernel[unit][name] for name, now in of_it(unit).items()} for unit in units}
    late = sorted(lines.late.values()) if lines is not None else []
    told = {
        "started": count,
        "seconds": passed / 1e9,
        "whole": time.monotonic() - begin,
        "delivered": len(late),
        "cpu": {name: after[name] - before[name] for name in after},
        "of_it": since,
        "latency_ms": {
            str(share): late[min(len(late) - 1, len(late) * share // 100)] for share in (50, 90, 99)
        }
        if late
        else {},
        "latency_max_ms": late[-1] if late else None,
    }
    print(json.dumps(told))


main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
