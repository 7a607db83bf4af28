# SPDX-License-Identifier: Apache-2.0
"""What keeps a namespace alive without a task: bind mounts, in any mount namespace, and open descriptors.

Owns the reading of mountinfo and of the descriptors' links. Never opens what they lead to: a mount point may lie in
a file system that hangs, and a descriptor may be another one by then. What only the kernel holds, such as a socket
whose maker has moved on, is not in /proc and not seen.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.sources.namespaces.nsfs import Ns, parse_link

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from enricher.sources.namespaces.tasks import Task

MOST_FDS: Final = 1_000_000
"""Descriptors that are looked at."""
MOST_MOUNTS: Final = 262_144
"""Mounts of namespaces that are remembered: each is in every mount namespace that it spread to."""
_LARGEST: Final = 64 << 20  # bytes of one mountinfo
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """A bind mount of a namespace: where it is, in which mount namespace, and the process by which that is seen."""

    inum: int
    point: bytes
    pid: int


class Fd(NamedTuple):
    """An open descriptor of a namespace."""

    pid: int
    number: int


class Held(NamedTuple):
    """Both, by the namespace; and whether there was more than is looked at."""

    mounts: dict[Ns, list[Mount]]
    fds: dict[Ns, list[Fd]]
    cut: bool


_MNT: Final = 0  # in `KINDS`


def look(proc: Path, tasks: Iterable[Task]) -> Held:
    """Look at one task of each mount namespace for mounts, and at every process for descriptors. Raises nothing."""
    held = Held({}, {}, cut=False)
    root = os.fspath(proc)
    seen: set[int] = set()
    room_mounts, room_fds = MOST_MOUNTS, MOST_FDS
    for task in tasks:
        if task.tid != task.pid:
            continue  # it has its process's descriptors
        inum = task.inums[_MNT]
        if inum and inum not in seen and room_mounts > 0:
            found = mounts_of(root, task.pid)
            if found is not None:
                seen.add(inum)
                for ns, point in found[:room_mounts]:
                    held.mounts.setdefault(ns, []).append(Mount(inum, point, task.pid))
                room_mounts -= len(found)
        if room_fds > 0:
            room_fds -= _fds(root, task.pid, held.fds, room_fds)
    return held._replace(cut=room_mounts <= 0 or room_fds <= 0)


def mounts_of(root: str, pid: int) -> list[tuple[Ns, bytes]] | None:
    """Return the namespaces that are mounted where this process can see them; None if it cannot be asked."""
    try:
        with open(f"{root}/{pid}/mountinfo", "rb") as file:  # noqa: PTH123 - a path of bytes and digits
            text = file.read(_LARGEST)
    except OSError:
        return None
    found = []
    for line in text.split(b"\n"):
        # proc(5): ID PARENT DEV ROOT MOUNT-POINT OPTIONS [TAGS..] - TYPE SOURCE SUPER-OPTIONS
        before, _, after = line.partition(b" - ")
        fields = before.split(b" ")
        if not after.startswith(b"nsfs ") or len(fields) < 5:  # noqa: PLR2004
            continue
        ns = parse_link(fields[3].decode("ascii", "replace"))
        if ns is not None:
            found.append((ns, _OCTAL.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), fields[4])))
    return found


def _fds(root: str, pid: int, found: dict[Ns, list[Fd]], room: int) -> int:
    """Enter the process's descriptors of namespaces; returns how many it has."""
    directory = f"{root}/{pid}/fd"
    try:
        names = os.listdir(directory)  # noqa: PTH208 - as for links
    except OSError:
        return 0
    for name in names[:room]:
        try:
            ns = parse_link(os.readlink(f"{directory}/{name}"))  # noqa: PTH115 - a Path for each of thousands of links is most of the time
        except OSError:
            continue
        if ns is not None and name.isascii() and name.isdigit():
            found.setdefault(ns, []).append(Fd(pid, int(name)))
    return len(names)


def is_still(proc: Path, ns: Ns, fd: Fd) -> bool:
    """Whether the descriptor is still one of this namespace."""
    try:
        return parse_link(str((proc / str(fd.pid) / "fd" / str(fd.number)).readlink())) == ns
    except OSError:
        return False
