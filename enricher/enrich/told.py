# SPDX-License-Identifier: Apache-2.0
"""Events of our own about namespaces, refused messages and container identifiers, which no rule asked for.

Owns their members. Never decides whether anybody wants them: `route.own` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from enricher.correlate.lives import Life
from enricher.enrich.beside import child_of
from enricher.enrich.contid import enter_own, op_event
from enricher.enrich.refused import refused_entry
from enricher.enrich.subject import subject_of
from enricher.enrich.values import text_of
from enricher.facts import Change, ChangeOp, ContainerOp, NamespaceLife, NamespaceOp, Refused
from enricher.model import KINDS, UNSET

if TYPE_CHECKING:
    from enricher.enrich.shape import Fields, NamespaceEntry, Namespaces, NativeEvent
    from enricher.enrich.whereabouts import Whereabouts
    from enricher.facts import Told

NAMES: Final = {NamespaceOp.MADE: "NS_INIT", NamespaceOp.FOUND: "NS_INIT", NamespaceOp.FREED: "NS_DEL"}


def type_of(told: Told) -> str:
    """Return the type of the event that tells this."""
    if isinstance(told, Change):
        return "NS_CHANGE"
    if isinstance(told, NamespaceLife):
        return NAMES[NamespaceOp(told.op)]
    return "CONTAINER_OP" if isinstance(told, ContainerOp) else "USER_REFUSED"


def enter(native: NativeEvent, told: Told, where: Whereabouts) -> NativeEvent:
    """Return the event with all that is known of this: who did it, where he was, and what it was."""
    if isinstance(told, ContainerOp):
        return op_event(native, told)
    made: dict[str, object] = {**native}
    records = made.pop("records")
    del made["where"], made["enrichment"]
    who = told.who if isinstance(told, (Change, Refused)) else None
    enrichment: dict[str, object] = {"context": "kernel" if who else "none", "container": "none"}
    if isinstance(told, Refused) or (isinstance(told, Change) and told.op != ChangeOp.CLONE):
        numbers: Fields = {}
        if isinstance(told, Refused) and told.uid != UNSET:
            numbers = {"uid": told.uid, "gid": told.gid}
        subject: object = where.with_inside(subject_of(told.who, numbers), told.who)
        home, cgroup = where.home_of(told.who), told.who.cgroup_id
    else:
        subject, cgroup = _maker(told)
        home = where.of_cgroup(cgroup)
    if subject:
        made["subject"] = subject
    if who is not None:
        namespaces, missing = where.namespaces.of(who)
        if isinstance(told, Change):
            namespaces = cast("Namespaces", {**namespaces, "change": where.namespaces.change(told)})
        made["namespaces"] = namespaces
        if missing:
            enrichment["reason"] = missing
    where.enter(made, home, cgroup)
    enter_own(made, told)
    made |= _what(told, where)
    if home is not None:
        enrichment["container"] = home.provenance
        if home.answered:
            enrichment["metadata"] = home.answered
        if home.reason:
            enrichment.setdefault("reason", home.reason)
    made["records"] = records
    made["enrichment"] = {**enrichment, "complete": True}
    return cast("NativeEvent", made)


def _what(told: Change | NamespaceLife | Refused, where: Whereabouts) -> dict[str, object]:
    if isinstance(told, NamespaceLife):
        return {"namespace": namespace(told, where)}
    if isinstance(told, Refused):
        return {"refused": refused_entry(told)}
    return {"child": child_of(told.who)} if told.op == ChangeOp.CLONE else {}


def _maker(told: Change | NamespaceLife) -> tuple[dict[str, object], int]:
    """Return what is known of a task that is not known wholly: members of ``subject``, and its cgroup."""
    if isinstance(told, Change):
        return {"pid": told.actor_pid, "tid": told.actor_tid}, told.actor_cgroup
    if not told.creator_pid:
        return {}, 0
    subject: dict[str, object] = {"pid": told.creator_pid}
    subject["comm"], exact = text_of(told.creator_comm)
    if exact is not None:
        subject["comm_hex"] = exact
    subject["uid"] = told.creator_uid
    return subject, told.creator_cgroup


def namespace(told: NamespaceLife, where: Whereabouts) -> NamespaceEntry:
    """Return which namespace was made or freed. Of a freed one all is known that was told when it was made."""
    if told.op == NamespaceOp.FREED:
        life = where.around.lives.at(told.inum, told.time, told.id) or Life(told.inum, born=-1)
    else:
        born = 0 if told.op == NamespaceOp.FOUND else told.time
        life = Life(told.inum, born, kind=told.kind, id=told.id, parent=told.parent, owner=told.owner)
    made: NamespaceEntry = {"ino": told.inum}
    if life.kind >= 0:
        entry = where.namespaces.entry(life.kind, told.inum, life.id, None)
        made = {"kind": KINDS[life.kind], "ino": told.inum}
        if "id" in entry:
            made["id"] = made["life"] = entry["id"]
    if life.born >= 0 and "life" not in made:
        made["life"] = str(life.born)
    if life.parent:
        made["parent"] = life.parent
    if life.owner:
        made["owner"] = life.owner
    if told.op == NamespaceOp.FOUND:
        made["baseline"] = True
    return made
