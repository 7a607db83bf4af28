# SPDX-License-Identifier: Apache-2.0
"""What the kernel side tells beside records: namespaces as they are made, changed, entered and freed, and targets.

Owns the shapes. They travel in `model.Batch.facts`, in the order of each ring; between rings their times tell the
order. Never holds a rule: what is made of them is `correlate.acts`' and `correlate.lives`' business.

Times are nanoseconds since boot (CLOCK_BOOTTIME), namespaces follow `model.KINDS`, 0 is "not known". A task is a
`model.Context` whose stamp is ``0.000:0`` and which belongs to no record.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from enricher.model import Context


class ChangeOp(IntEnum):
    """How namespaces were changed (``events.h``, CHANGE_*)."""

    SETNS = 1
    UNSHARE = 2
    CLONE = 3  # clone, clone3, fork, a task that io_uring makes
    EXEC = 4  # a time namespace is entered at exec


class NamespaceOp(IntEnum):
    """What became of a namespace (``events.h``, NAMESPACE_*)."""

    MADE = 1
    FREED = 2  # nothing keeps it; its number may be another's from now on
    FOUND = 3  # it was there when it was looked for
    LOST = 4  # not of one namespace: some of these were lost until now
    ALL_FOUND = 5  # not of one namespace: of all tasks there were at the start it was told where they are


OF_ONE: Final = frozenset({NamespaceOp.MADE, NamespaceOp.FREED, NamespaceOp.FOUND})
"""What is told of one namespace."""


class Link(NamedTuple):
    """Says which stamp the records of one system call have: facts with this (link, tid) are of that call.

    ``untold`` changes of namespaces were not told, over the rate limit. ``child_pid`` is the last task that the call
    made, by the initial pid namespace, ``child_seen`` by the caller's; both 0 for none.
    """

    stamp: bytes
    link: int
    tid: int
    untold: int
    child_pid: int
    child_seen: int


class Change(NamedTuple):
    """A task's namespaces are others than they were. ``who`` is the task after it; for a clone the child.

    ``before`` and ``before_ids`` are the actor's own (who called), which is ``who`` itself but for a clone. ``link``
    0: no record can come of it. ``contid`` is the chain of audit container identifiers of the actor, own first, () for
    none; None where a capture of an earlier version does not say.
    """

    time: int
    who: Context
    link: int
    actor_pid: int
    actor_tid: int
    actor_cgroup: int
    op: int
    before: tuple[int, ...]
    before_ids: tuple[int, ...]
    contid: tuple[int, ...] | None = None


class Target(NamedTuple):
    """A task to which a signal was sent, which was traced, or which a pidfd was made or used of, at that moment."""

    who: Context
    link: int
    actor_tid: int
    by_pidfd: bool = False


class NamespaceLife(NamedTuple):
    """A namespace was made, found or freed. ``kind`` is an index into `model.KINDS`; of a freed one not told.

    ``id`` is never used again, 0 where the kernel has none. ``parent`` (of a pid or user namespace) and ``owner``
    (the user namespace) are inums. The creator is the task that made it: ``creator_pid`` 0 for none. One is found
    where a task had it when the start looked at all tasks; ``time`` is then a moment of its life. ``contid`` is the
    creator's, as a `Change` has it of its actor, and None also where there is no creator.
    """

    time: int
    op: int
    inum: int
    kind: int
    id: int
    parent: int
    owner: int
    level: int
    creator_pid: int
    creator_tid: int
    creator_start: int
    creator_cgroup: int
    creator_uid: int
    creator_comm: bytes
    contid: tuple[int, ...] | None = None


class Extent(NamedTuple):
    """``size`` ids from ``first`` inside are those from ``lower_first`` in the initial user namespace."""

    first: int
    lower_first: int
    size: int


class UserMap(NamedTuple):
    """How the user namespace ``inum`` numbers users and groups from ``time`` on.

    ``above`` are the inums from its parent up to the initial one. ``ids`` are its own number that is never used again
    and those of the ones above, each 0 where the kernel has none. ``whole`` says that no extent is missing.
    """

    time: int
    inum: int
    level: int
    owner_uid: int
    owner_gid: int
    above: tuple[int, ...]
    ids: tuple[int, ...]
    uids: tuple[Extent, ...]
    gids: tuple[Extent, ...]
    whole: bool


class Refused(NamedTuple):
    """An audit message that the kernel refused, since its sender is not in the initial user namespace.

    ``text`` is what the sender wrote, to be believed by nobody, b"" for a type that no program sends as a record;
    ``length`` is the bytes that it had. ``uid`` and ``gid`` are the sender's, in the initial user namespace; so is
    ``contid``, as a `Change` has it.
    """

    time: int
    who: Context
    record_type: int
    length: int
    text: bytes
    uid: int = 0xFFFFFFFF
    gid: int = 0xFFFFFFFF
    contid: tuple[int, ...] | None = None


class PacketNet(NamedTuple):
    """The net namespace that the record with this stamp is about, which has no subject."""

    stamp: bytes
    time: int
    record_type: int
    inum: int
    id: int
    contids: tuple[tuple[int, ...], ...] = ()
    """Audit container identifiers with a task in it: the chain of each, own first."""


class Engine(NamedTuple):
    """How the engine that set an audit container identifier calls that container; "" for what it did not say."""

    id: str
    name: str = ""
    image: str = ""
    runtime: str = ""


class ContainerOp(NamedTuple):
    """Something was done to audit container identifiers, or tried.

    ``op`` is set, drop, grant or revoke. ``opid`` is the process it was done to, 0 where that was gone. ``contid``
    is what was to be set, `CONTID_UNSET` for none; ``old`` the chain before; ``res`` 0 or an errno. The caller is who
    asked, 0 and `model.UNSET` where nobody did (a drop, a bound cgroup) or he is not known. ``engine`` is what the
    orchestrator announced with the number: its word. ``caller_contid`` is the chain that the caller itself has, as a
    `Change` has it of its actor.
    """

    time: int
    op: str
    opid: int
    contid: int
    old: tuple[int, ...] = ()
    res: int = 0
    orchestrator: bool = False
    caller_pid: int = 0
    caller_uid: int = 0xFFFFFFFF
    engine: Engine | None = None
    caller_contid: tuple[int, ...] | None = None


CONTID_UNSET: Final = 2**64 - 1
"""The value of a task that has no audit container identifier."""


class Member(NamedTuple):
    """A program was executed in this cgroup with these namespaces, or was at the start; told once for each set."""

    time: int
    cgroup_id: int
    pid: int
    start: int
    inums: tuple[int, ...]
    ids: tuple[int, ...]


class Beside(NamedTuple):
    """What is known of one event beside its records, from facts of the same system call."""

    changes: tuple[Change, ...] = ()
    targets: tuple[Target, ...] = ()
    link: Link | None = None
    packet: PacketNet | None = None


Told = Change | NamespaceLife | Refused | ContainerOp
"""What an event of our own may be about, when no rule asked for it."""

Fact = Link | Change | Target | NamespaceLife | UserMap | Refused | PacketNet | Member | ContainerOp
