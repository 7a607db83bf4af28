# SPDX-License-Identifier: Apache-2.0
"""Whether the programs that bcc compiled read this kernel right: our own context against our own /proc.

Headers may be of another build than the running kernel, or its structures shuffled (randstruct): the
compiler does not notice, and every offset would be wrong. The self-test's record is written by us, so each
fact of its context is known. Owns that comparison; never decides what a difference means for the start.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enricher.model import KINDS

if TYPE_CHECKING:
    from enricher.model import Context

SELF: Final = Path("/proc/self")
_START_AFTER_COMM: Final = 19  # field 22 of stat; the first after the comm is field 3


def differences(context: Context, proc: Path = SELF) -> list[str]:
    """One line per fact in which `context`, of a record of this thread, is not what /proc says of it.

    A namespace whose number the context does not know is no difference: unknown is not wrong.
    """
    stat = (proc / "stat").read_bytes()
    ticks = int(stat[stat.rindex(b")") + 1 :].split()[_START_AFTER_COMM])
    facts: list[tuple[str, object, object]] = [
        ("pid", context.pid, os.getpid()),
        ("tid", context.tid, threading.get_native_id()),
        ("ppid", context.ppid, os.getppid()),
        ("auid", context.auid, _number(proc / "loginuid")),
        ("ses", context.ses, _number(proc / "sessionid")),
        ("start", context.start * os.sysconf("SC_CLK_TCK") // 10**9, ticks),
        ("comm", context.comm, (proc / "comm").read_bytes().rstrip(b"\n")),
        ("pids", tuple(level.pid for level in context.levels), (os.getpid(),)),
    ]
    for kind, inum in zip(KINDS, context.inums, strict=True):
        real = _inum(proc / "ns" / kind)
        if inum and real:
            facts.append((f"{kind} namespace", inum, real))
    if all(inum == 0 for inum in context.inums):
        facts.append(("namespaces", "none", "ten"))
    return [f"{name}: {read!r} read, {real!r} is right" for name, read, real in facts if read != real]


def _number(path: Path) -> int:
    return int(path.read_text())


def _inum(path: Path) -> int:
    """The namespace's number; 0 where this kernel or our privileges do not show it."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0
