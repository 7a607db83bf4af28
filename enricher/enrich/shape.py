# SPDX-License-Identifier: Apache-2.0
"""The native event, schema ``audit-enricher/1``, as types: what `enrich.native` makes and views read.

Owns the names and shapes of its members, and nothing at run time but aliases: an event is a plain dict in the
order given here. The same, as data for consumers, is ``enricher/schemas/audit-enricher-1.schema.json``; a test
holds both together. Never holds a rule about how a member is found; `enrich.native` does.

A member that is not known is absent, never null and never a stand-in value. Numbers are JSON numbers up to
2^53; namespace ids, cgroup ids and start times are decimal strings, because jq and Elasticsearch keep numbers
as doubles.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

SCHEMA = "audit-enricher/1"

LARGEST_NUMBER = 2**53
"""Above this a double no longer holds every integer, so the value is written as a string."""

Value = str | int
FieldValue = Value | list["FieldValue | None"] | dict[str, "FieldValue"]
Fields = dict[str, FieldValue]
"""A record's fields; the conversion is described in `enrich.decode`."""


class HostEntry(TypedDict, total=False):
    """Which machine and which boot; (boot_id, id) is unique across a fleet. A log may tell neither."""

    name: str
    machine_id: str
    boot_id: str


class PidEntry(TypedDict):
    """The pid as seen in one pid namespace."""

    ns: int
    pid: int


class NsEntry(TypedDict):
    """One namespace: inum, the kernel's unique id where there is one, whether it is the initial one."""

    ino: int
    id: NotRequired[str]
    life: NotRequired[
        str
    ]  # ns since boot at which it was made, "0": before this program; absent when not known
    host: NotRequired[bool]  # absent when the initial namespace's inum is not known


NsStep = TypedDict(
    "NsStep", {"from": NsEntry, "to": NsEntry, "host": NotRequired[Literal["entered", "left"]]}
)
"""One kind's change. ``host`` is there when the host's namespace was entered or left."""

NsChange = dict[str, str | NsStep]
"""``op`` (setns, unshare, clone, exec), then an `NsStep` for each kind that was changed."""


class ContainerOf(TypedDict):
    """A container whose namespaces a task is in, by what kinds."""

    id: str
    name: NotRequired[str]
    runtime: NotRequired[str]
    kinds: list[str]


Namespaces = dict[str, str | NsEntry | NsChange | list[ContainerOf]]
"""``dev`` (the nsfs device, if known), then one `NsEntry` per kind that is known, as `model.KINDS` has them;
``change`` (`NsChange`) where the event changed some, ``of`` where some are another container's than the task's. A
target's has neither."""


class Child(TypedDict):
    """The last task that a system call made."""

    pid: int  # initial pid namespace
    pids: list[PidEntry]  # as the caller's pid namespace counts it, or all levels where they are known


class Target(TypedDict):
    """To whom a signal was sent, or who was traced, as he was at that moment."""

    pid: int
    start: str
    comm: str
    comm_hex: NotRequired[str]
    pids: list[PidEntry]
    namespaces: Namespaces
    where: Literal["host", "container", "unknown"]
    container: NotRequired[Container]
    cgroup: NotRequired[CgroupEntry]
    contid: NotRequired[list[str]]


class ContainerIdEntry(TypedDict):
    """A CONTAINER_ID: which record (by its place, from 1) has which audit container identifiers."""

    record: int
    contid: str  # as `enrich.contid.joined` writes it: 4,^2,^1 is 4 within 2 within 1


class EngineEntry(TypedDict):
    """How the orchestrator that set an audit container identifier calls the container: its word."""

    id: str
    name: NotRequired[str]
    image: NotRequired[str]
    runtime: NotRequired[str]


class ContainerOpEntry(TypedDict):
    """What was done to audit container identifiers, or tried; only in events of type CONTAINER_OP, our own."""

    op: Literal["set", "drop", "grant", "revoke"]
    opid: int  # the process that it was done to, initial pid namespace; 0 where that was gone
    contid: NotRequired[str]  # absent where none was given: a drop, a grant
    old_contid: NotRequired[list[str]]  # the chain before, own first; absent where there was none
    res: Literal[0, 1]
    error: NotRequired[str]  # the errno's name, where res is 0
    orchestrator: NotRequired[bool]  # only True: set for an orchestrator, or by a cgroup that one bound
    engine: NotRequired[EngineEntry]


class PacketContainer(TypedDict):
    """A container that has programs in the net namespace."""

    id: str
    name: NotRequired[str]
    runtime: NotRequired[str]


class PacketEntry(TypedDict):
    """What a record without a subject is about: NETFILTER_PKT, and NETFILTER_CFG of a namespace that is gone."""

    net: NsEntry
    containers: NotRequired[list[PacketContainer]]  # absent for the host's own, and where nobody can say
    contids: NotRequired[list[list[str]]]  # of tasks in it: each chain, own first


class NamespaceEntry(TypedDict):
    """A namespace's life, in events of type NS_INIT and NS_DEL, which are our own."""

    kind: NotRequired[str]  # of one that is freed it may not be known
    ino: int
    id: NotRequired[str]
    life: NotRequired[str]
    parent: NotRequired[int]
    owner: NotRequired[int]
    baseline: NotRequired[bool]  # only True: it was there at the start, and nobody saw it being made


class RefusedEntry(TypedDict):
    """A message that the kernel refused, in events of type USER_REFUSED, which are our own."""

    type: str
    text: str
    text_hex: NotRequired[str]
    length: int


class Ids(TypedDict):
    """A user and a group, as the initial user namespace numbers them."""

    uid: int
    gid: int


class Inside(TypedDict):
    """Who the subject is inside of his user namespace, where that is not the initial one and its maps are known.

    A number that its maps do not have is absent, however a process inside is shown it (65534).
    """

    uid: NotRequired[int]
    gid: NotRequired[int]
    euid: NotRequired[int]
    suid: NotRequired[int]
    fsuid: NotRequired[int]
    egid: NotRequired[int]
    sgid: NotRequired[int]
    fsgid: NotRequired[int]
    owner: Ids  # who made the user namespace
    user_ns: list[NsEntry]  # from the subject's own up to the initial one


class Subject(TypedDict, total=False):
    """Who acted. From the kernel side's context where there is one, else from the primary record."""

    pid: int
    tid: int
    ppid: int
    start: str
    comm: str
    comm_hex: str
    exe: str
    exe_hex: str
    pids: list[PidEntry]
    auid: int
    ses: int
    uid: int
    gid: int
    euid: int
    suid: int
    fsuid: int
    egid: int
    sgid: int
    fsgid: int
    inside: Inside


class CgroupEntry(TypedDict):
    """The cgroup the task was in; the path is as seen from the hierarchy's root."""

    id: str
    path: NotRequired[str]  # not known: nobody told of this id
    path_hex: NotRequired[str]
    unit: NotRequired[str]  # the innermost unit or scope of the host's systemd on the way


class Pod(TypedDict):
    """A Kubernetes pod."""

    uid: str
    name: NotRequired[str]
    namespace: NotRequired[str]


class ContainerName(TypedDict):
    """Which container: the runtime's id, or the name where that is the runtime's id."""

    id: str
    name: NotRequired[str]
    runtime: NotRequired[str]  # not where the path tells a container, and not whose
    image: NotRequired[str]  # as the runtime was asked for it
    pod: NotRequired[Pod]
    labels: NotRequired[dict[str, str]]  # on request


class Container(ContainerName):
    """The innermost container the task's cgroup is in."""

    chain: NotRequired[list[ContainerName]]  # where containers are nested: all, outermost first


Cause = Literal[
    "netlink",
    "ring",
    "kernel",
    "rate_limit",
    "backlog",
    "memory",
    "hold_queue",
    "reentry",
    "queue",
    "sink",
    "facts",
]
Stage = Literal["kernel", "netlink", "ring", "queue", "sink"]


class Lost(TypedDict):
    """What was lost and where; only in events of type LOST, which are our own."""

    cause: Cause
    stage: Stage
    records: NotRequired[int]  # either these, or
    messages: NotRequired[int]  # the kernel side's, without which records have no context or events no count
    first: NotRequired[int]  # serials, where they are known
    last: NotRequired[int]
    types: NotRequired[dict[str, int]]  # by the record type's name
    sink: NotRequired[str]  # the destination that lost it, where it was one


class NoticeEntry(TypedDict):
    """What is to be known of this program; only in events of type NOTICE, which are our own. See `model.Notice`."""

    kind: Literal["gap", "degraded", "hook", "reload", "refused", "limited", "audit", "blind"]
    text: str
    first: NotRequired[int]
    last: NotRequired[int]
    reason: NotRequired[Literal["restart", "crash", "boot"]]
    settings: NotRequired[list[str]]


class RecordEntry(TypedDict):
    """One kernel record. ``raw`` is its text, there on request and when ``undecoded`` or ``truncated``.

    ``raw_hex`` stands beside ``raw`` when the text is not UTF-8.
    """

    type: str
    fields: Fields
    undecoded: NotRequired[bool]  # only True: the text does not fit the grammar
    truncated: NotRequired[bool]  # only True: the record was longer than what we receive, its end is missing
    raw: NotRequired[str]
    raw_hex: NotRequired[str]


class Enrichment(TypedDict):
    """Where each added fact comes from, and what is missing."""

    context: Literal["kernel", "journal", "none"]
    container: Literal["cgroup", "runtime", "none"]
    metadata: NotRequired[str]  # the runtime whose state files told of the container, of a chain's first
    reason: NotRequired[str]
    complete: NotRequired[bool]  # absent when not known: a log has no counts
    subject: NotRequired[bool]  # only False, and only then: the context's task is not the one that acted
    self_caused: NotRequired[bool]  # only True: this program provoked the event itself


class NativeEvent(TypedDict):
    """One audit event.

    One that we make ourselves has serial 0 in ``id``, ``BOOT_ID/RUN/COUNTER`` as its ``uid`` and no records.
    """

    schema: str
    time: str
    id: str
    uid: str
    host: HostEntry
    type: str
    keys: list[str]
    outcome: NotRequired[Literal["success", "failure"]]
    subject: NotRequired[Subject]
    namespaces: NotRequired[Namespaces]
    where: Literal["host", "container", "unknown"]
    container: NotRequired[Container]
    cgroup: NotRequired[CgroupEntry]
    contid: NotRequired[list[str]]  # the subject's audit container identifiers, own first, then ancestors
    container_ids: NotRequired[list[ContainerIdEntry]]
    packet: NotRequired[PacketEntry]
    child: NotRequired[Child]
    targets: NotRequired[list[Target]]
    namespace: NotRequired[NamespaceEntry]
    refused: NotRequired[RefusedEntry]
    container_op: NotRequired[ContainerOpEntry]
    lost: NotRequired[Lost]
    notice: NotRequired[NoticeEntry]
    records: list[RecordEntry]
    enrichment: Enrichment
