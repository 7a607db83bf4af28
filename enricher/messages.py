# SPDX-License-Identifier: Apache-2.0
"""What the kernel side tells of records: the context of the task that made one, and how many of an event there are.

Owns the shapes of both; `model` has them with the others. Never decodes one: `sources.bpf.wire` does. They are no
tuples, since a member of those is had by a call where it is compiled, and every event has one of each.
"""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class ContextFlag(IntFlag):
    """What the kernel side knew about the record when it noted the task (``events.h``, CONTEXT_*)."""

    STANDALONE = 1  # the record is an event of its own: no tally follows
    SUBJECT = 2  # the current task can be the subject of the record
    KTHREAD = 4  # the current task is a kernel thread
    INTERRUPT = 8  # the record was finished in interrupt context, on top of an unrelated task
    UNTRACKED = 16  # the table of open events was full: no tally follows, EOE or time must end it
    AFTER_SERVING = 32  # the task had no nsproxy any more (exit_task_work)


_SUBJECT = int(ContextFlag.SUBJECT)  # an enum's own & makes a member at each use, on the path of every event


class TallyFlag(IntFlag):
    """Why the kernel side took an event to be finished (``events.h``, TALLY_*)."""

    EOE = 1  # the end-of-event record was finished
    EXIT = 2  # audit_log_exit returned and no EOE had been seen: a rule excludes it
    ORPHAN = 4  # the serial was left without its SYSCALL record: a `never` rule dropped the rest
    TRUNCATED = 8  # more changes of record type than the tally holds; ``total`` is right all the same
    BUFFER = 16  # several records of one buffer that are an event of their own


class Level:
    """One pid-namespace level of a process: the namespace's inum and the pid seen there. Nobody changes one."""

    __slots__ = ("ns", "pid")

    def __init__(self, ns: int, pid: int) -> None:
        self.ns = ns
        self.pid = pid

    def __iter__(self) -> Iterator[int]:
        return iter((self.ns, self.pid))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Level) and self.ns == other.ns and self.pid == other.pid

    def __hash__(self) -> int:
        return hash((self.ns, self.pid))

    def __repr__(self) -> str:
        return f"Level(ns={self.ns}, pid={self.pid})"


class Context:
    """The acting task at the moment its record was finished, as read in kernel context. Nobody changes one.

    ``inums`` and ``ids`` follow `KINDS`; 0 is "not known" in both. ``start`` and ``time`` are
    nanoseconds since boot (CLOCK_BOOTTIME). ``levels`` goes from the outermost pid namespace inward.
    ``key`` is the wire image of inums and ids together: equal keys mean equal namespaces, so later
    stages cache by it instead of building ten entries again. ``contid`` are the audit container identifiers: the
    task's own first, then those that it is nested in; () for none.
    """

    __slots__ = (
        "auid",
        "cgroup_id",
        "comm",
        "contid",
        "flags",
        "ids",
        "inums",
        "key",
        "levels",
        "pid",
        "ppid",
        "record_type",
        "ses",
        "stamp",
        "start",
        "tid",
        "time",
    )

    def __init__(  # noqa: PLR0913 - as the kernel side tells them
        self,
        stamp: bytes,
        time: int,
        record_type: int,
        flags: int,
        pid: int,
        tid: int,
        ppid: int,
        auid: int,
        ses: int,
        start: int,
        cgroup_id: int,
        comm: bytes,
        inums: tuple[int, ...],
        ids: tuple[int, ...],
        levels: tuple[Level, ...],
        key: bytes,
        contid: tuple[int, ...] = (),
    ) -> None:
        self.stamp = stamp
        self.time = time
        self.record_type = record_type
        self.flags = flags
        self.pid = pid
        self.tid = tid
        self.ppid = ppid
        self.auid = auid
        self.ses = ses
        self.start = start
        self.cgroup_id = cgroup_id
        self.comm = comm
        self.inums = inums
        self.ids = ids
        self.levels = levels
        self.key = key
        self.contid = contid

    @property
    def is_subject(self) -> bool:
        """Whether the task may be named as the one that acted."""
        return self.flags & _SUBJECT != 0

    def _replace(self, **changes: Any) -> Context:  # noqa: ANN401 - as a named tuple has it
        """Return one that differs in these members."""
        return Context(**({name: getattr(self, name) for name in _OF_CONTEXT} | changes))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and _told(self, _OF_CONTEXT) == _told(other, _OF_CONTEXT)

    def __hash__(self) -> int:
        return hash(_told(self, _OF_CONTEXT))

    def __repr__(self) -> str:
        return f"Context{_told(self, _OF_CONTEXT)}"


class Tally:
    """How many records the kernel finished for one stamp, as runs of (record type, count) in order.

    Nobody changes one.
    """

    __slots__ = ("flags", "runs", "stamp", "time", "total")

    def __init__(
        self, stamp: bytes, time: int, flags: int, total: int, runs: tuple[tuple[int, int], ...]
    ) -> None:
        self.stamp = stamp
        self.time = time
        self.flags = flags
        self.total = total
        self.runs = runs

    def _replace(self, **changes: Any) -> Tally:  # noqa: ANN401 - as a named tuple has it
        """Return one that differs in these members."""
        return Tally(**({name: getattr(self, name) for name in _OF_TALLY} | changes))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tally) and _told(self, _OF_TALLY) == _told(other, _OF_TALLY)

    def __hash__(self) -> int:
        return hash(_told(self, _OF_TALLY))

    def __repr__(self) -> str:
        return f"Tally{_told(self, _OF_TALLY)}"


_OF_CONTEXT = tuple(
    "stamp time record_type flags pid tid ppid auid ses start cgroup_id comm inums ids levels key contid".split()
)
_OF_TALLY = ("stamp", "time", "flags", "total", "runs")


def _told(what: object, names: tuple[str, ...]) -> tuple[object, ...]:
    """What a message says, in its order."""
    return tuple([getattr(what, name) for name in names])
