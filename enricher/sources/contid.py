# SPDX-License-Identifier: Apache-2.0
"""Audit container identifiers: what the rest of the program may ask of the store that the kernel side keeps.

Owns the shapes and the protocol. Never touches a map, a descriptor or a name of a container: `sources.bpf.contidstore`
keeps the store in the kernel, tests keep one of their own. Who may ask for what is decided behind this border, in the
kernel; how a caller's identity was established is the affair of who calls.

Callers and targets are pidfds. Times are nanoseconds since boot (CLOCK_BOOTTIME). Process ids are those of the initial
pid namespace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

UNSET: Final = 2**64 - 1
"""The value of a task that has no identifier; nobody can set it."""
DEPTH_MAX: Final = 8
"""Identifiers of a chain: how deep orchestrators nest."""


@dataclass(frozen=True, slots=True)
class ContidEntry:
    """An identifier in use. ``tasks`` is the number of processes whose own it is.

    ``owner`` is (process id, its start) of who set it first, or of the service where it did so for an orchestrator.
    ``tasks`` may be 0: identifiers nested in it are in use, and no task can be given it any more. ``cgroup`` is the
    id of the cgroup that it is bound to, 0 for none.
    """

    contid: int
    owner: tuple[int, int]
    tasks: int
    cgroup: int = 0
    chain: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ContidOp:
    """Something was done to identifiers, or tried.

    ``opid`` is the process that it was done to, 0 where it was gone before it was looked at; of a drop the last that
    had the identifier. ``contid`` is what was to be set, `UNSET` for a drop. ``old`` is the chain that the process had.
    ``res`` is 0 or the errno. ``orchestrator`` says that it was set for an orchestrator, or by a cgroup that one has
    bound.
    """

    op: Literal["set", "drop"]
    opid: int
    contid: int
    old: tuple[int, ...]
    res: int
    time: int
    orchestrator: bool = False


class ContidStore(Protocol):
    """The identifiers of this boot. One caller at a time is served; each call takes a few system calls."""

    @property
    def shared(self) -> Mapping[str, int]:
        """The maps that the programs of a run look into, by their names: descriptors, which stay the store's."""
        ...

    @property
    def unpinned(self) -> str:
        """Why the identifiers end with this process, "" where they do not."""
        ...

    @property
    def alone(self) -> Sequence[str]:
        """Why what watches for new processes and for their end has no second program, a line each."""
        ...

    def set(
        self, *, caller: int, target: int, contid: int, orchestrator: bool = False, bind_cgroup: int = 0
    ) -> None:
        """Give `target` the identifier `contid`.

        With `orchestrator` the service is the owner, descent from the caller is not asked and the target may have
        threads, which all get it; such a caller needs CAP_AUDIT_CONTROL in the initial user namespace.
        `bind_cgroup` is the id of a cgroup: a process attached to it, or to one below, later takes the identifier.

        Raises OSError, every attempt being told by `take_ops`: EINVAL for `UNSET`; EPERM; EBUSY for a target with
        children or threads, or one that is just forking; EXDEV for the caller itself and for no descendant; EEXIST;
        ENOTUNIQ; ESRCH for a target or a caller that is gone. Beside those EMLINK where the chain would be longer
        than `DEPTH_MAX`, and ENOSPC where the store is full.
        """
        ...

    def get(self, target: int) -> tuple[int, ...]:
        """The chain of a process, its own identifier first; empty where it has none. ESRCH where it is gone."""
        ...

    def number(self, target: int) -> int:
        """The number of a process in the initial pid namespace, 0 where it is gone. EBADF for what is no pidfd.

        The kernel side says it: before 5.14 a process that is not dumpable may not read its own /proc/self/fdinfo.
        """
        ...

    def entries(self) -> list[ContidEntry]:
        """All identifiers in use, in no order."""
        ...

    def grant(self, *, caller: int, target: int, allow: bool) -> None:
        """Let `target` set identifiers of its own descendants (capcontid), or no longer.

        Raises OSError: EPERM where the caller has neither CAP_AUDIT_CONTROL in the initial user namespace nor the
        grant itself; EXDEV for the caller itself and for no descendant; ESRCH; ENOSPC.
        """
        ...

    def take_ops(self) -> list[ContidOp]:
        """What was done since the last call, in the order of the kernel."""
        ...

    def wake_fd(self) -> int:
        """A descriptor that polls as readable when `take_ops` has something."""
        ...

    def counters(self) -> dict[str, int]:
        """What went wrong, by its name: inheritance that found no room, messages that found none."""
        ...

    def close(self) -> None:
        """Let go of this process's hold. What is pinned stays, and goes on inheriting."""
        ...


__all__ = ["DEPTH_MAX", "UNSET", "ContidEntry", "ContidOp", "ContidStore"]
