# SPDX-License-Identifier: Apache-2.0
"""Facts beside records as the kernel side tells them: lives of namespaces, changes, targets."""

from __future__ import annotations

from collections.abc import Sequence

from enricher.facts import Change, ChangeOp, Link, Member, NamespaceLife, NamespaceOp, Refused, Target
from enricher.model import KINDS, Batch, Context
from tests.unit.sample_events import BOX_INUMS, HOST_INUMS, STAMP, context

TIME = 81_000_000_000
"""When `sample_events.context` acts."""

MAKER = 7300
"""The cgroup of who makes namespaces."""


def made(  # noqa: PLR0913 - each is a fact a test may want to vary
    kind: str,
    inum: int,
    time: int = 1_000,
    *,
    op: int = NamespaceOp.MADE,
    ident: int = 0,
    cgroup: int = MAKER,
) -> NamespaceLife:
    index = KINDS.index(kind)
    return NamespaceLife(
        time, op, inum, index, ident, 4026531836, 4026531837, 1, 4711, 4712, 80, cgroup, 1000, b"make\xff"
    )


def found(kind: str, inum: int, time: int = 1_000, ident: int = 0) -> NamespaceLife:
    index = KINDS.index(kind)
    return NamespaceLife(
        time, NamespaceOp.FOUND, inum, index, ident, 4026531836, 4026531837, 1, 0, 0, 0, 0, 0, b""
    )


def all_found(time: int) -> NamespaceLife:
    return NamespaceLife(time, NamespaceOp.ALL_FOUND, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b"")


def freed(inum: int, time: int) -> NamespaceLife:
    return NamespaceLife(time, NamespaceOp.FREED, inum, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b"")


def change(  # noqa: PLR0913 - each is a fact a test may want to vary
    who: Context | None = None,
    *,
    op: int = ChangeOp.UNSHARE,
    before: Sequence[int] = HOST_INUMS,
    before_ids: Sequence[int] = (0,) * 10,
    link: int = 0,
    cgroup: int = 7312,
    contid: tuple[int, ...] | None = None,
) -> Change:
    who = context(inums=BOX_INUMS) if who is None else who
    return Change(who.time, who, link, who.pid, who.tid, cgroup, op, tuple(before), tuple(before_ids), contid)


def link(stamp: bytes = STAMP, number: int = 5, tid: int = 4712, *, untold: int = 0, child: int = 0) -> Link:
    return Link(stamp, number, tid, untold, child, child and 7)


def target(who: Context, number: int = 5, tid: int = 4712, *, by_pidfd: bool = False) -> Target:
    return Target(who, number, tid, by_pidfd)


def member(cgroup: int, inums: Sequence[int] = BOX_INUMS, time: int = 2_000) -> Member:
    return Member(time, cgroup, 4711, 80, tuple(inums), (0,) * 10)


def refusal(text: bytes) -> Refused:
    who = context(inums=BOX_INUMS)
    return Refused(who.time, who, 1100, len(text), text)


def batch(*facts: object, now: float = 0.0) -> Batch:
    return Batch([], [], [], parked=False, now=now, wall=0.0, facts=facts)  # type: ignore[arg-type]
