# SPDX-License-Identifier: Apache-2.0
"""Who else listens: readers of the audit multicast group, and probes on the functions of audit.

Owns these rows. A reader is named by the socket that it holds open, never by its netlink port, which is
only a number that looks like a pid.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from enricher.runtime.doctor.rows import Host, Row, State, single
from enricher.sources.audit.netlink import AUDIT_NLGRP_READLOG, NETLINK_AUDIT
from enricher.sources.host import standing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")
_HOLDERS_MAX: Final = 8
_COLUMNS: Final = 10  # sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
_HOOKED: Final = re.compile(r"^(?:\S+ +[kr] +)?(_*audit_\w+(?:\.\w+)*|kauditd_\w+|skb_queue_tail)\b")


def _readers(host: Host) -> Row:
    members = list(_members(host.read(host.proc / "net/netlink")))
    if standing(host.proc).net is False:
        return Row("listeners", State.UNKNOWN, "the audit multicast group is the initial network namespace's")
    if not members:
        return Row("listeners", State.OK, "nobody reads the audit multicast group")
    held, hidden = _holders(host.proc, set(members))
    shown = ", ".join(_comm(host, pid) for pid in held[:_HOLDERS_MAX])
    parts = [f"{len(members)} sockets in the audit multicast group"]
    if held:
        parts.append("held by " + shown + (" and others" if len(held) > _HOLDERS_MAX else ""))
    elif hidden:
        parts.append("by whom is not known: CAP_SYS_PTRACE is missing")
    else:
        parts.append("held by no process that is seen from here")
    return Row("listeners", State.OK, ", ".join(parts))


def _members(table: str) -> Iterable[str]:
    """Yield the inode of each socket of protocol audit whose first group is joined."""
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) < _COLUMNS or words[1] != str(NETLINK_AUDIT):
            continue
        try:
            groups = int(words[3], 16)
        except ValueError:
            continue
        if groups >> (AUDIT_NLGRP_READLOG - 1) & 1:
            yield words[9]


def _holders(proc: Path, inodes: set[str]) -> tuple[list[int], bool]:
    """Return the processes that hold one of these sockets open, and whether some could not be looked at."""
    held, hidden = [], False
    for process in proc.iterdir():
        if not process.name.isdecimal():
            continue
        try:
            if any(_inode_of(fd) in inodes for fd in (process / "fd").iterdir()):
                held.append(int(process.name))
        except PermissionError:
            hidden = True
        except OSError:
            continue  # it has ended meanwhile
    return sorted(held), hidden


def _inode_of(fd: Path) -> str:
    """Return the inode of the socket that a descriptor is; "" for anything else."""
    try:
        found = _SOCKET.fullmatch(str(fd.readlink()))
    except PermissionError:
        raise
    except OSError:
        return ""  # it was closed meanwhile
    return found[1] if found else ""


def _comm(host: Host, pid: int) -> str:
    try:
        return f"{host.read(host.proc / str(pid) / 'comm').strip(chr(10))} ({pid})"
    except OSError:
        return f"({pid})"


def _probes(host: Host) -> Row:
    """Look at the list that ftrace keeps, which has BPF trampolines too; before our own programs are attached."""
    places = (host.sys / "kernel/tracing", host.sys / "kernel/debug/tracing")
    listed = [place / "enabled_functions" for place in places if (place / "enabled_functions").exists()]
    if not listed:
        return Row(
            "audit-probes",
            State.UNKNOWN,
            f"{places[0]}/enabled_functions is not to be seen: tracefs is not mounted or not for us",
        )
    found = {match[1] for line in host.read(listed[0]).splitlines() if (match := _HOOKED.match(line))}
    kprobes = host.sys / "kernel/debug/kprobes/list"
    if kprobes.exists():
        found |= {match[1] for line in host.read(kprobes).splitlines() if (match := _HOOKED.match(line))}
    if found:
        names = ", ".join(sorted(found)[:_HOLDERS_MAX])
        return Row("audit-probes", State.OK, f"others probe {names}; that does not disturb us")
    return Row("audit-probes", State.OK, "nobody else probes audit's functions")


GROUPS: Final = (single("listeners", _readers), single("audit-probes", _probes))
