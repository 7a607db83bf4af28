# SPDX-License-Identifier: Apache-2.0
"""A /proc made of files, with tasks and their namespaces, for the tests of the look at them.

Links are text, as the kernel's are; nothing lies behind them, so that whoever follows one fails.
"""

from __future__ import annotations

import os
from pathlib import Path

from enricher.model import KINDS
from enricher.sources.cgroups import V2, Hierarchy

WATCHED = Hierarchy(0, V2, None, "v2")
INITIAL = dict(zip(KINDS[:8], range(4026531801, 4026531809), strict=True))
ID = "3f" * 32
OTHER_ID = "a0" * 32
PODMAN = f"/machine.slice/libpod-{ID}.scope/container"
DOCKER = f"/system.slice/docker-{OTHER_ID}.scope"


class FakeProc:
    """Below `root`: pid 1, kthreadd, ourselves (12), and whom a test adds."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "sys/kernel/random").mkdir(parents=True)
        (root / "sys/kernel/random/boot_id").write_text("0b6c0b6c-0000-4000-8000-0b6c0b6c0b6c\n")
        (root / "sys/kernel/hostname").write_text("build-7\n")
        (root / "cgroups").write_text("#subsys_name\thierarchy\tnum_cgroups\tenabled\npids\t0\t1\t1\n")
        self.task(1, comm=b"systemd", cgroup="/init.scope")
        self.task(2, comm=b"kthreadd", cgroup="/", flags=0x200000)
        self.task(12, start=1200, comm=b"audit-enricher", cgroup="/user.slice/user-0.slice/session-1.scope")
        (root / "self").symlink_to("12")
        (root / "12/uid_map").write_text("         0          0 4294967295\n")
        (root / "12/status").write_text("CapEff:\t0000000000000000\nNSpid:\t12\n")

    def task(  # noqa: PLR0913 - the facts of a task
        self,
        pid: int,
        tid: int | None = None,
        /,
        *,
        start: int = 100,
        comm: bytes = b"sleep",
        cgroup: str = "/",
        flags: int = 0,
        **inums: int,
    ) -> Path:
        """Add a process, or a thread of one; ``inums`` are those that differ from the host's, 0 for no link."""
        base = self.root / str(pid) if tid is None else self.root / str(pid) / "task" / str(tid)
        (base / "ns").mkdir(parents=True)
        if tid is None:
            (base / "fd").mkdir()
            (base / "task").mkdir()
            (base / "mountinfo").write_text("")
        filler = " ".join(["0"] * 12)
        (base / "stat").write_bytes(
            b"%d (%s) S 1 1 1 0 -1 %d %s %d 0 0" % (tid or pid, comm, flags, filler.encode(), start)
        )
        (base / "cgroup").write_text(f"0::{cgroup}\n")
        for kind in KINDS:
            own = kind.removesuffix("_for_children")
            inum = inums.get(kind, inums.get(own, INITIAL[own]))
            if inum:
                (base / "ns" / kind).symlink_to(f"{own}:[{inum}]")
        return base

    def move(self, pid: int, kind: str, inum: int) -> None:
        """Put a process into another namespace."""
        link = self.root / str(pid) / "ns" / kind
        link.unlink()
        link.symlink_to(f"{kind}:[{inum}]")

    def mount(self, pid: int, kind: str, inum: int, point: str) -> None:
        """Add a bind mount to what a process sees."""
        line = f"99 25 0:4 {kind}:[{inum}] {point} rw shared:3 - nsfs nsfs rw\n"
        with (self.root / str(pid) / "mountinfo").open("a") as file:
            file.write(line)

    def fd(self, pid: int, number: int, target: str) -> None:
        """Add a descriptor."""
        os.symlink(target, self.root / str(pid) / "fd" / str(number))  # noqa: PTH211 - any text
