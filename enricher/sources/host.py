# SPDX-License-Identifier: Apache-2.0
"""What this machine and this process are: names, boot, initial namespaces, capabilities.

Owns the reading of /proc for facts that hold for the whole boot, and the check that we stand where
the kernel sends audit records. Never reads another process than ourselves, pid 1 and pid 2, never
guesses a namespace number: what cannot be read is 0 and a note says why.
"""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISDIR
from typing import Final, NamedTuple

from enricher.errors import WrongNamespace
from enricher.model import KINDS, HostFacts

PROC: Final = Path("/proc")
MACHINE_ID: Final = Path("/etc/machine-id")

CAP_SYS_PTRACE: Final = 19  # linux/capability.h
CAP_SYS_ADMIN: Final = 21

PF_KTHREAD: Final = 0x00200000  # linux/sched.h; in the ninth field of /proc/PID/stat
_FLAGS_AFTER_COMM: Final = 6  # fields between ``)`` and the flags: state ppid pgrp session tty_nr tpgid
_WHOLE_MAP: Final = ["0", "0", "4294967295"]  # uid_map of the initial user namespace


class HostReading(NamedTuple):
    """The facts, and one sentence for each that is missing or may not be what it seems."""

    facts: HostFacts
    notes: tuple[str, ...]


def read_host_facts(root: Path = PROC, machine_id: Path = MACHINE_ID) -> HostReading:
    """Read name, machine id, boot id, nsfs device and the initial namespaces' inums.

    The initial namespaces are those of pid 1, which is right in the initial pid namespace only: see
    `require_initial_namespaces`. Reading them needs CAP_SYS_PTRACE where pid 1 is not our own user's.
    Raises nothing: a fact that cannot be read is "" or 0, with a note.
    """
    notes: list[str] = []
    initial = []
    for kind in KINDS:
        stat = _stat(root / "1" / "ns" / kind, notes)
        initial.append(stat.st_ino if stat else 0)
    own = _stat(root / "self" / "ns" / "mnt", notes)
    if _differ(root, "uts") is True:
        notes.append("the host name is that of our own uts namespace, not the initial one's")
    facts = HostFacts(
        name=_read(root / "sys" / "kernel" / "hostname", notes),
        machine_id=_read(machine_id, notes),
        boot_id=_read(root / "sys" / "kernel" / "random" / "boot_id", notes),
        ns_dev=f"{os.major(own.st_dev):02x}:{os.minor(own.st_dev):02x}" if own else "",
        initial=tuple(initial),
    )
    return HostReading(facts, tuple(notes))


class Standing(NamedTuple):
    """Whether we are in the initial user, pid and network namespace; None where that cannot be told."""

    user: bool | None
    pid: bool | None
    net: bool | None


def standing(root: Path = PROC) -> Standing:
    """Tell where we stand.

    Being the same as pid 1's proves nothing inside a container, where pid 1 is the container's; hence
    tests that need no comparison. The initial user namespace maps all uids to themselves. A /proc of the
    initial pid namespace shows kernel threads, kthreadd is its pid 2, and a process with one pid only in
    such a /proc (NSpid) is in that namespace itself.
    """
    user, whole = _differ(root, "user"), _maps_all_uids(root)
    pid, threads, nested = _differ(root, "pid"), _has_kernel_threads(root), _is_nested(root)
    net = _differ(root, "net")
    elsewhere = bool(pid or nested or threads is False)
    return Standing(
        user=_tell(no=bool(user or whole is False), unsure=user is None),
        pid=_tell(no=elsewhere, unsure=pid is None and (threads is None or nested is None)),
        net=_tell(no=bool(net), unsure=net is None or elsewhere),
    )


def _tell(*, no: bool, unsure: bool) -> bool | None:
    if no:
        return False
    return None if unsure else True


def require_initial_namespaces(root: Path = PROC) -> tuple[str, ...]:
    """Raise WrongNamespace unless we are in the initial user, pid and network namespace.

    Returns a note for each of the three that could not be checked (pid 1's namespaces need CAP_SYS_PTRACE).
    """
    stand = standing(root)
    if stand.user is False:
        raise WrongNamespace(
            "not in the initial user namespace: the kernel refuses every audit message from here",
            "run on the host, without user-namespace remapping (no rootless container, no unshare -U)",
        )
    if stand.pid is False:
        raise WrongNamespace(
            "not in the initial pid namespace: pids in audit records would not be ours",
            "run on the host, or the container with --pid=host",
        )
    if stand.net is False:
        raise WrongNamespace(
            "not in the initial network namespace: audit multicast never arrives here",
            "run on the host, or the container with --network=host",
        )
    named = zip(("user", "pid", "network"), stand, strict=True)
    return tuple(
        f"could not compare the {kind} namespace with pid 1's: CAP_SYS_PTRACE is missing"
        for kind, known in named
        if known is None
    )


def effective_capabilities(root: Path = PROC) -> int | None:
    """Return our effective capabilities as a bit mask (CapEff), or None when they cannot be read."""
    try:
        return int(_status(root, b"CapEff:")[0], 16)
    except (IndexError, ValueError):
        return None


def has_capability(number: int, root: Path = PROC) -> bool:
    """Return whether capability `number` (linux/capability.h) is known to be effective."""
    return bool((effective_capabilities(root) or 0) >> number & 1)


def _differ(root: Path, kind: str) -> bool | None:
    """Return whether our namespace of `kind` is another one than pid 1's; None when that cannot be told."""
    own = _stat(root / "self" / "ns" / kind)
    first = _stat(root / "1" / "ns" / kind)
    if own is None or first is None:
        return None
    return (own.st_dev, own.st_ino) != (first.st_dev, first.st_ino)


def _status(root: Path, name: bytes) -> list[bytes]:
    """Return the words after `name` in our own /proc/self/status; [] when there are none."""
    try:
        lines = (root / "self" / "status").read_bytes().splitlines()
    except OSError:
        return []
    return next((line.split()[1:] for line in lines if line.startswith(name)), [])


def _is_nested(root: Path) -> bool | None:
    """Return whether our pid namespace lies inside the one that this /proc shows."""
    pids = _status(root, b"NSpid:")
    return len(pids) > 1 if pids else None


def _maps_all_uids(root: Path) -> bool | None:
    try:
        return (root / "self" / "uid_map").read_text(encoding="ascii").split() == _WHOLE_MAP
    except (OSError, ValueError):
        return None


def _has_kernel_threads(root: Path) -> bool | None:
    """Return whether pid 2 is a kernel thread; None when pid 1 is hidden from us too (hidepid)."""
    try:
        stat = (root / "2" / "stat").read_bytes()
        # comm may hold anything, spaces and parentheses too: count from the last one
        flags = int(stat[stat.rindex(b")") + 1 :].split()[_FLAGS_AFTER_COMM])
    except FileNotFoundError:
        return False if (root / "1").exists() else None
    except (OSError, ValueError, IndexError):
        return None
    return bool(flags & PF_KTHREAD)


def _stat(path: Path, notes: list[str] | None = None) -> os.stat_result | None:
    """What a namespace link leads to; None with a note where we may not know."""
    try:
        found = path.stat()
        if not S_ISDIR(found.st_mode):
            return found
        # 5.10 does not refuse: a link that we may not follow leads to the process's own directory.
        note = f"{path}: leads nowhere, CAP_SYS_PTRACE is missing"
    except PermissionError:
        note = f"{path}: permission denied, CAP_SYS_PTRACE is missing"
    except OSError as error:
        note = f"{path}: {error.strerror}"
    if notes is not None:
        notes.append(note)
    return None


def _read(path: Path, notes: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        notes.append(f"{path}: {error.strerror}")
        return ""
