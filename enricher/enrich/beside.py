# SPDX-License-Identifier: Apache-2.0
"""What an event's system call did beside its records: namespaces changed, a child made, targets.

Owns those members. Never tells of a signal or a trace that no record names: only what the kernel recorded was aimed
at. Of whom a pidfd is no record names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast

from enricher.enrich.contid import shown
from enricher.enrich.subject import pids_of
from enricher.enrich.values import text_of
from enricher.facts import ChangeOp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from enricher.enrich.shape import Child, Namespaces, Target
    from enricher.enrich.whereabouts import Whereabouts
    from enricher.facts import Beside
    from enricher.model import Context, Record

OBJ_PID: Final = 1318
UNTOLD: Final = "namespaces were changed too often: not told which"

# The kernel writes it first, before anything that a process chose.
_opid: Final = re.compile(rb"\): opid=([0-9]{1,10}) ").search


def with_change(namespaces: Namespaces, beside: Beside, where: Whereabouts) -> Namespaces:
    """Add ``change`` to prepared entries, where the call changed some."""
    if not beside.changes:
        return namespaces
    return cast("Namespaces", {**namespaces, "change": where.namespaces.change(beside.changes[0])})


def enter(
    native: dict[str, object],
    beside: Beside,
    context: Context,
    records: Iterable[Record],
    where: Whereabouts,
) -> str:
    """Enter ``child`` and ``targets``; returns what is missing, in words, or ""."""
    link = beside.link
    if beside.changes and beside.changes[0].op == ChangeOp.CLONE:
        native["child"] = child_of(beside.changes[0].who)
    elif link is not None and link.child_pid and context.levels:
        native["child"] = {
            "pid": link.child_pid,
            "pids": [{"ns": context.levels[-1].ns, "pid": link.child_seen}],
        }
    if beside.targets:
        told = {target.who.pid: target.who for target in beside.targets}
        targets = [_target(told[pid], where) for pid in objects(records) if pid in told]
        targets += [_target(target.who, where) for target in beside.targets if target.by_pidfd]
        if targets:
            native["targets"] = targets
    return UNTOLD if link is not None and link.untold else ""


def objects(records: Iterable[Record]) -> Iterator[int]:
    """Give the pids of OBJ_PID records, by the initial pid namespace, in the order of the records."""
    for record in records:
        if record.type == OBJ_PID and (found := _opid(record.text)) is not None:
            yield int(found[1])


def child_of(who: Context) -> Child:
    """Return a task that was made, of which all is known."""
    return {"pid": who.pid, "pids": pids_of(who)}


def _target(who: Context, where: Whereabouts) -> Target:
    target: dict[str, object] = {"pid": who.pid, "start": str(who.start)}
    target["comm"], exact = text_of(who.comm)
    if exact is not None:
        target["comm_hex"] = exact
    target["pids"] = pids_of(who)
    target["namespaces"] = where.namespaces.of(who)[0]
    where.enter(target, where.home_of(who), who.cgroup_id)
    if who.contid:
        target["contid"] = shown(who.contid)
    return cast("Target", target)
