# SPDX-License-Identifier: Apache-2.0
"""The vocabulary every stage shares: records, contexts, tallies and events.

Owns the shapes that cross a stage boundary. Never reads a file, a socket or a clock, and knows
nothing of how a record was received or how an event is written.

Serial, record and event are the kernel's terms: a *record* is one line of the audit log, an *event*
is all records that carry one *stamp* (``SEC.MS:SERIAL``). The stamp is kept as the kernel's own
bytes: it is the only key that both the netlink record and the BPF message hold on every kernel,
and the seconds in it keep two events apart when the 32-bit serial wraps.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from enricher.messages import Context as Context
from enricher.messages import ContextFlag as ContextFlag
from enricher.messages import Level as Level
from enricher.messages import Tally as Tally
from enricher.messages import TallyFlag as TallyFlag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enricher.facts import Beside, Fact, Told

KINDS = (
    "mnt",
    "uts",
    "ipc",
    "net",
    "pid",
    "user",
    "cgroup",
    "time",
    "pid_for_children",
    "time_for_children",
)
"""The ten namespace numbers of a task, in the order of the wire format (``bpf/include/events.h``)."""

UNSET = 0xFFFFFFFF
"""The kernel's ``(uid_t)-1``: no login uid, no session."""


class Record:
    """One kernel record. ``text`` is the netlink payload, byte for byte: ``audit(SEC.MS:SERIAL): ...``.

    ``truncated`` says that it was longer than what we receive, and that its end is missing. Nobody changes one.
    It is no tuple: compiled, a member is read where it lies, and there are as many of these as there are lines.
    """

    __slots__ = ("text", "truncated", "type")

    def __init__(self, number: int, text: bytes, truncated: bool = False) -> None:  # noqa: FBT001, FBT002 - in order
        self.type = number
        self.text = text
        self.truncated = truncated

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Record)
            and self.type == other.type
            and self.text == other.text
            and self.truncated == other.truncated
        )

    def __hash__(self) -> int:
        return hash((self.type, self.text, self.truncated))

    def __repr__(self) -> str:
        return f"Record({self.type}, {self.text!r}, truncated={self.truncated})"


class CgroupOp(IntEnum):
    """What became of a cgroup (``events.h``, CGROUP_*)."""

    MADE = 1
    REMOVED = 2  # no task is in it, and none can come
    RENAMED = 3
    RELEASED = 4  # nothing refers to it any more
    FOUND = 5  # it was there when it was looked for


class CgroupChange(NamedTuple):
    """A cgroup and what became of it; `path` is as seen from the hierarchy's root, b"" where it is not known.

    The id is never used again within a boot. ``time`` is in nanoseconds since boot.
    """

    id: int
    op: int
    path: bytes
    time: int


class Metadata(NamedTuple):
    """What a runtime says of one container; "" and () for what it does not say."""

    runtime: str
    """Who answered: docker, podman, containerd, cri-o, runc, crun, lxc, incus, nspawn."""

    name: str = ""
    image: str = ""
    """As the runtime was asked for it, with tag or digest."""

    labels: tuple[tuple[str, str], ...] = ()
    """Sorted by key. For plain runc and crun the annotations, which is all they have."""

    pod_uid: str = ""
    pod_name: str = ""
    pod_namespace: str = ""


class Known(NamedTuple):
    """A container that state files name together with its cgroup."""

    runtime: str
    id: str
    cgroup: str
    """The container's own, as seen from the root of the hierarchy."""

    metadata: Metadata


class Answer(NamedTuple):
    """What is known of the container that the cgroup with this id is; it holds from the batch on that brings it.

    A `Metadata` where the path tells the container, a `Known` where it does not. That nothing is known changes no
    event, so it is no answer.
    """

    cgroup: int
    said: Metadata | Known


class KernelCounts(NamedTuple):
    """What sources other than the event stream counted in a run; None where a source keeps no count.

    All in records unless named otherwise. ``hook_records`` is in ``counted`` plus ``uncounted``, but for
    the records of events that are still open.
    """

    netlink_drops: int = 0  # SO_MEMINFO of the socket: its buffer was full
    contexts_dropped: int = 0  # messages; a ring was full
    tallies_dropped: int = 0  # messages
    facts_dropped: int = 0  # messages about namespaces and targets; a ring was full
    hook_records: int = 0  # the hook's own count
    counted: int = 0  # of those, in a message that was committed
    uncounted: int = 0  # of those, in none
    hook_failures: int = 0  # reads
    unknown_messages: int = 0  # committed, and not understood by the decoder
    truncated: int = 0  # longer than what we receive
    changes_limited: int = 0  # changes of namespaces that the kernel side did not tell, over its rate limit
    refusals_limited: int = 0  # refused messages, likewise
    foreign: int = 0  # datagrams that the kernel did not send, refused
    hook_misses: int | None = None  # runs of the hook skipped to avoid re-entry
    facts_missed: int = 0  # runs of the programs about namespaces and targets that were skipped likewise
    rate_limit: int | None = None  # audit_log_lost: finished, then dropped
    backlog: int | None = None  # audit_log_lost: never made
    memory: int | None = None  # audit_log_lost: never made
    auditd_queue: int | None = None  # audit_log_lost: of auditd's copy only, no loss to us
    lost_other: int | None = None  # audit_log_lost with words that we do not know
    lost_unseen: int | None = None  # calls of audit_log_lost that our program was kept from seeing
    status_lost: int | None = None  # `lost` of AUDIT_GET, all of these together; needs CAP_AUDIT_CONTROL
    # What ``hook_failures`` is made of: the counters of the kernel side (``struct counters``, fail_*).
    failed_ring: int = 0
    failed_buffer: int = 0
    failed_text: int = 0
    failed_stamp: int = 0
    failed_type: int = 0
    failed_track: int = 0
    failed_list: int = 0
    failed_namespace: int = 0
    failed_pids: int = 0
    failed_cgroup: int = 0
    failed_acts: int = 0
    failed_users: int = 0
    failed_packet: int = 0


FAILED_AT = {
    "failed_ring": "no ring for the CPU",
    "failed_buffer": "the audit buffer",
    "failed_text": "a record's text",
    "failed_stamp": "a record's stamp",
    "failed_type": "a record's type",
    "failed_track": "the table of open events was full",
    "failed_list": "more records in a buffer than are looked at",
    "failed_namespace": "a namespace's number",
    "failed_pids": "a process's pids",
    "failed_cgroup": "a cgroup",
    "failed_acts": "the table of calls under way was full",
    "failed_users": "a map of users",
    "failed_packet": "a packet's network namespace",
}
"""Members of `KernelCounts` that say where in the kernel side something could not be had, and what it was."""


def counts_since(base: KernelCounts, now: KernelCounts) -> KernelCounts:
    """What was counted after `base` was read; None stays None."""
    return KernelCounts(
        *(after if after is None else after - (before or 0) for before, after in zip(base, now, strict=True))  # type: ignore[arg-type]
    )


class Batch(NamedTuple):
    """What one turn of the loop took in. The rings were drained after the records were received.

    ``now`` is monotonic seconds, ``wall`` seconds since the epoch. ``parked`` says that a ring holds
    messages behind an uncommitted one. ``counts`` is there when the source has just read them. ``answers`` came
    since the batch before. ``helpers`` are all processes of ours beside the main one, where one is new: pid, and
    start in clock ticks since boot, 0 where that is not known. ``oldest`` is when the oldest event happened that is not
    given out yet, in nanoseconds since boot, 0 where there is none: the stages set it for those who forget.
    """

    records: list[Record]
    contexts: list[Context]
    tallies: list[Tally]
    parked: bool
    now: float
    wall: float
    counts: KernelCounts | None = None
    cgroups: Sequence[CgroupChange] = ()
    answers: Sequence[Answer] = ()
    helpers: Sequence[tuple[int, int]] = ()
    facts: Sequence[Fact] = ()
    oldest: int = 0


class Loss(NamedTuple):
    """What was lost since the last loss of this cause was told.

    ``lost`` is the cause's own, in ``unit``: "records", or "messages" of the kernel side, without which
    records have no context or events no count. ``first``, ``last`` and ``types`` are what is known of them from
    the kernel side's context and tally: serials, and (record type, count) pairs; they may speak of fewer.
    ``sink`` is the destination that lost it, "" where it was none.
    """

    cause: str
    stage: str
    lost: int
    unit: str
    first: int | None
    last: int | None
    types: tuple[tuple[int, int], ...]
    sink: str = ""


class Notice(NamedTuple):
    """Something about this program that whoever reads its events must know.

    ``kind`` is "gap" (between two runs nobody looked), "degraded" (no hook: events have no contexts), "hook"
    (another one than in the last run), "reload" or "refused" (new settings, or wrong ones), "limited" (more came
    than is told of what no rule asked for), "audit" (its state was changed) or "blind" (the hook sees nothing, or
    sees again). ``first`` and ``last`` are serials; ``reason`` is a gap's: "restart", "crash" or "boot"; ``settings``
    are the names of those that changed.
    """

    kind: str
    text: str
    first: int | None = None
    last: int | None = None
    reason: str = ""
    settings: tuple[str, ...] = ()


class Event:
    """All records of one stamp, with the context and the tally the kernel side sent for it.

    ``expected`` is how many records this event will have, 0 while that is not known. ``complete`` is
    True only when the kernel side counted as many records as are here, None where nobody counted (a log
    file). ``reason`` says what is missing, in words an operator can read; it is "" when nothing is.
    ``part`` is 1, or more for a late further part of a stamp that was already given out. ``malformed``
    marks a record without a stamp: it is an event of its own, with the time of its receipt and serial 0.
    ``self_caused`` marks records that this program provoked (its own BPF load, its own socket, its own system calls).

    An event that we make ourselves has no record, serial 0 and an ``own_id``, RUN/COUNTER, unique within
    the boot; ``loss`` or ``notice`` is what it tells.
    ``beside`` is what else is known of its system call, ``told`` the fact that an event of our own tells.
    ``node`` is the host's name where the records bring it (a log file), and ``recalled`` what a journal has kept of
    such an event's context.
    """

    __slots__ = (
        "beside",
        "complete",
        "context",
        "expected",
        "loss",
        "malformed",
        "node",
        "notice",
        "opened",
        "own_id",
        "part",
        "reason",
        "recalled",
        "records",
        "self_caused",
        "stamp",
        "tally",
        "told",
    )

    def __init__(self, stamp: bytes, opened: float) -> None:
        self.stamp = stamp
        self.opened = opened  # monotonic seconds in user space when the first trace of it was seen
        self.records: list[Record] = []
        self.context: Context | None = None
        self.tally: Tally | None = None
        self.expected = 0
        self.part = 1
        self.malformed = False
        self.complete: bool | None = False
        self.reason = ""
        self.self_caused = False
        self.loss: Loss | None = None
        self.notice: Notice | None = None
        self.own_id = ""
        self.node = b""
        self.recalled: Recalled | None = None
        self.beside: Beside | None = None
        self.told: Told | None = None

    def __repr__(self) -> str:
        return f"Event({self.stamp!r}, {len(self.records)} records, complete={self.complete})"


class HostFacts(NamedTuple):
    """What every event of this boot says about the machine, read once at start.

    ``initial`` holds the initial namespaces' inums in the order of `KINDS`, 0 where not known;
    ``ns_dev`` is the nsfs device as ``MAJOR:MINOR`` in two hex digits each, for example ``00:04``.
    """

    name: str
    machine_id: str
    boot_id: str
    ns_dev: str
    initial: tuple[int, ...]


class Recalled(NamedTuple):
    """Where the acting task was, as a journal kept it of the context (`sources.journal`).

    ``host`` are the facts of the boot that the event is of. ``flags``, ``cgroup_id``, ``inums``, ``ids`` are the
    context's; ``born`` is when each namespace was made, as `correlate.lives` has it, None where that was not known or
    is not needed; equal keys mean equal namespaces of the same boot. ``cgroup_path`` is b"" where it was not known;
    ``cgroup_said`` is what a runtime said of the container there, unread, None for nothing.
    """

    host: HostFacts
    flags: int
    cgroup_id: int
    cgroup_path: bytes
    cgroup_said: str | None
    inums: tuple[int, ...]
    ids: tuple[int, ...]
    key: bytes
    born: tuple[int | None, ...] = (None,) * len(KINDS)
