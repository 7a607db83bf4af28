# SPDX-License-Identifier: Apache-2.0
"""Which cgroup hierarchy tells containers apart on this host, and the cgroups that it has now.

Owns the choice of the hierarchy and the look through its file system at the start; from then on the kernel side
tells what changes. Never reads what is in a cgroup, and never asks about a process.

A cgroup's id is the inode of its directory, on 64-bit machines (kernfs). The file system is looked at from the root
of the hierarchy: from inside a cgroup namespace that is not the initial one, ids are as good and names are not.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from enricher.model import CgroupChange, CgroupOp
from enricher.sources.host import PROC

V2: Final = 0xFFFFFFFF
"""No subsystem: the hierarchy is cgroup v2's (bpf/include/maps.h)."""

_CONTROLLERS: Final = ("pids", "memory", "cpuset", "freezer", "devices")
"""Of cgroup v1, in the order in which they are tried: every runtime uses the first two."""

_MOST: Final = 262_144  # cgroups; a host has some hundreds
_DEEPEST: Final = 64
_LONGEST: Final = (
    1022  # bytes of a path that a message takes whole (bpf/include/events.h): a replay must know no less
)


class Hierarchy(NamedTuple):
    """`number` and `subsystem` as the kernel side wants them; `root` is where it is mounted, None for nowhere.

    ``name`` is for people: "v2", or the controller of cgroup v1 that stands for all.
    """

    number: int
    subsystem: int
    root: Path | None
    name: str


def hierarchy(proc: Path = PROC) -> Hierarchy:
    """Return the hierarchy in which runtimes put their containers.

    Where a controller is in a hierarchy of cgroup v1 (legacy and hybrid set-ups) runtimes use that; the v2
    hierarchy of a hybrid one holds systemd's units only. Raises nothing: what cannot be read is as v2.
    """
    mounts = _mounts(proc)
    subsystems = _subsystems(proc)
    for controller in _CONTROLLERS:
        if controller in subsystems:
            index, number = subsystems[controller]
            if number:
                return Hierarchy(number, index, mounts.get(controller), controller)
    return Hierarchy(0, V2, mounts.get("v2"), "v2")


def _subsystems(proc: Path) -> dict[str, tuple[int, int]]:
    """Each subsystem's index in the kernel, which is its place in /proc/cgroups, and its hierarchy; 0 is v2."""
    try:
        lines = (proc / "cgroups").read_text("ascii").splitlines()
        rows = [line.split() for line in lines if not line.startswith("#")]
        return {row[0]: (index, int(row[1])) for index, row in enumerate(rows)}
    except (OSError, ValueError, IndexError):
        return {}


def _mounts(proc: Path) -> dict[str, Path]:
    """Where hierarchies are mounted with their root: "v2", or each controller of cgroup v1."""
    found: dict[str, Path] = {}
    try:
        lines = (proc / "self" / "mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return found
    for line in lines:
        # proc(5): ID PARENT DEV ROOT MOUNT-POINT OPTIONS [TAGS..] - TYPE SOURCE SUPER-OPTIONS
        before, _, after = line.partition(" - ")
        root, point = (before.split() + [""] * 5)[3:5]
        kind, _, options = (after.split() + [""] * 3)[:3]
        if root != "/":
            continue  # a part of it
        place = Path(point.encode("utf-8", "surrogateescape").decode("unicode_escape"))
        if kind == "cgroup2":
            found.setdefault("v2", place)
        elif kind == "cgroup":
            for controller in options.split(","):
                found.setdefault(controller, place)
    return found


def scan(watched: Hierarchy) -> list[CgroupChange]:
    """Return every cgroup of the hierarchy, parents first. What goes away meanwhile is left out."""
    if watched.root is None:
        return []
    found: list[CgroupChange] = []
    waiting = [(os.fsencode(watched.root), b"", 0)]
    while waiting and len(found) < _MOST:
        directory, path, depth = waiting.pop()
        try:
            ident = os.lstat(directory).st_ino
            with os.scandir(directory) as entries:
                below = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        if len(path) <= _LONGEST:
            found.append(CgroupChange(ident, CgroupOp.FOUND, path or b"/", 0))
        if depth < _DEEPEST:
            waiting += [(directory + b"/" + name, path + b"/" + name, depth + 1) for name in below]
    return found
