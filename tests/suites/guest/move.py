# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: moves tasks between cgroups, in every hierarchy that the host has.

Usage: move.py PID CGROUPS [COMMAND..]

CGROUPS is a copy of some task's /proc/PID/cgroup, read on the host. With COMMAND the PID is "self", and the command
is executed in the place of this program, there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def directories(cgroups: str) -> list[Path]:
    """Where a line of the file is mounted: v2 alone, v1 by its controllers, v2 beside it.

    nspawn makes a hierarchy "name=systemd" on a host of v2 too, for a payload that it takes for an old one; the host
    has that one nowhere.
    """
    found = []
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount = ROOT / "unified" if (ROOT / "unified").is_dir() else ROOT
            if (mount / "cgroup.procs").exists():
                found.append(mount / path.lstrip("/"))
        else:
            mount = ROOT / controllers.removeprefix("name=")
            if mount.is_dir():
                found.append(mount / path.lstrip("/"))
    return found


def main(pid: str, cgroups: str, command: list[str]) -> None:
    """Move it."""
    task = str(os.getpid()) if pid == "self" else pid
    for directory in directories(Path(cgroups).read_text()):
        (directory / "cgroup.procs").write_text(task)
    if command:
        os.execv(command[0], command)  # noqa: S606


main(sys.argv[1], sys.argv[2], sys.argv[3:])
