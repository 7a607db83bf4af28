# SPDX-License-Identifier: Apache-2.0
"""A store of container identifiers that is none of the kernel's: what it is asked for, and what it answers."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from enricher.sources.contid import UNSET, ContidEntry, ContidOp


def pid_of(pidfd: int) -> int:
    lines = Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines() if pidfd >= 0 else []
    for line in lines:
        if line.startswith("Pid:"):
            return max(0, int(line.removeprefix("Pid:")))
    raise OSError(errno.EBADF, "no pidfd")


class FakeStore:
    """`contid.ContidStore`. ``fails`` is the errno that the next set or grant ends with, 0 for none.

    ``asked`` are the calls: the numbers of caller and target, and the rest. With ``silent`` it tells of nothing.
    """

    unpinned = ""
    alone: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.shared: dict[str, int] = {}
        self.fails = 0
        self.silent = False
        self.asked: list[tuple[object, ...]] = []
        self.chains: dict[int, tuple[int, ...]] = {}
        self.ops: list[ContidOp] = []
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def set(
        self, *, caller: int, target: int, contid: int, orchestrator: bool = False, bind_cgroup: int = 0
    ) -> None:
        pid = pid_of(target)
        self.asked.append(("set", pid_of(caller), pid, contid, orchestrator, bind_cgroup))
        number = self.fails or (errno.EINVAL if contid == UNSET else 0)
        self.tell(ContidOp("set", pid, contid, self.chains.get(pid, ()), number, _now(), orchestrator))
        self._fail(number)
        self.chains[pid] = (contid, *self.chains.get(pid, ()))

    def get(self, target: int) -> tuple[int, ...]:
        self._fail(self.fails)
        return self.chains.get(pid_of(target), ())

    def number(self, target: int) -> int:
        return pid_of(target)

    def entries(self) -> list[ContidEntry]:
        self._fail(self.fails)
        return [ContidEntry(chain[0], (pid, 5), 1, 0, chain) for pid, chain in self.chains.items()]

    def grant(self, *, caller: int, target: int, allow: bool) -> None:
        self.asked.append(("grant" if allow else "revoke", pid_of(caller), pid_of(target)))
        self._fail(self.fails)

    def tell(self, op: ContidOp) -> None:
        if not self.silent:
            self.ops.append(op)

    def take_ops(self) -> list[ContidOp]:
        ops, self.ops = self.ops, []
        return ops

    def wake_fd(self) -> int:
        return self._reading

    def counters(self) -> dict[str, int]:
        return {"full_tasks": 0}

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)

    @staticmethod
    def _fail(number: int) -> None:
        if number:
            raise OSError(number, os.strerror(number))


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
