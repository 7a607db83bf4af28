# SPDX-License-Identifier: Apache-2.0
"""Audit container identifiers as members of an event and as text: whose they are, and how a chain is written.

Owns the notation (``4,^2,^1``: 4 within 2 within 1; ``2,^1,3,^1``: two chains) and which record of an event has which
identifiers. Never sets any, and never takes one from a message that a program sent: only the kernel side's context, or
a CONTAINER_ID record of a log, tells them.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Final, cast

from enricher.enrich.attribution import SYSCALL, attribute
from enricher.facts import CONTID_UNSET, ContainerOp
from enricher.model import UNSET

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from enricher.enrich.shape import ContainerOpEntry, EngineEntry, NativeEvent
    from enricher.facts import Told
    from enricher.model import Context, Event, Record

CONTAINER_ID: Final = 1391
LONGEST: Final = 4000
"""Characters of a list that is read; ausearch reads no more than 8970 of a line."""

_OBJ_PID: Final = 1318
_PACKETS: Final = frozenset((1324, 1325))  # NETFILTER_PKT, NETFILTER_CFG
_is_number = re.compile("[0-9]{1,20}").fullmatch
_listed = re.compile(rb' contid="?([0-9^,]{1,%d})"?(?: |$)' % LONGEST).search
_opid: Final = re.compile(rb"\): opid=([0-9]{1,10}) ").search


def shown(chain: Iterable[int]) -> list[str]:
    """Return a chain for JSON: decimal strings, since a double does not hold 64 bits."""
    return [str(contid) for contid in chain]


def joined(chains: Iterable[Iterable[int]]) -> str:
    """Write chains, each with its own identifier first: ``4,^2,^1``."""
    return ",".join(",^".join(map(str, chain)) for chain in chains)


def parse(text: str) -> tuple[tuple[int, ...], ...]:
    """Read chains, also with the older separator (``4^2^1``). What is none in whole or in part is ()."""
    if not text or len(text) > LONGEST:
        return ()
    chains = []
    for chain in text.replace(",^", "^").split(","):
        parts = chain.split("^")
        if not all(_is_number(part) for part in parts):
            return ()
        chains.append(tuple(map(int, parts)))
    if any(contid >= CONTID_UNSET for chain in chains for contid in chain):
        return ()
    return tuple(chains)


def contids_of(event: Event) -> tuple[int, ...] | None:
    """Return all identifiers that a filter finds at an event, () where its subject has none, None where not known.

    Of a packet, which has no subject, those in its net namespace; of a CONTAINER_OP those that it is about and
    those of who asked.
    """
    if event.own_id:
        return _of_op(event.told) if isinstance(event.told, ContainerOp) else chain_of(event.told)
    context = attribute(event).context
    if context is not None:
        return context.contid
    packet = None if event.beside is None else event.beside.packet
    if packet is not None and packet.contids:
        return _flat(packet.contids)
    if event.complete is None:
        return _flat(recorded) if (recorded := _recorded(event.records)) else None
    return None


def chain_of(told: Told | None) -> tuple[int, ...] | None:
    """Return the chain of the subject of an event of our own; () where it has none, None where it is not known."""
    if isinstance(told, ContainerOp):
        return told.caller_contid
    return None if told is None else told.contid


def _of_op(op: ContainerOp) -> tuple[int, ...]:
    return _flat(((op.contid,) if op.contid != CONTID_UNSET else (), op.old, op.caller_contid or ()))


def _flat(chains: Iterable[Iterable[int]]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(contid for chain in chains for contid in chain))


def _recorded(records: Iterable[Record]) -> tuple[tuple[int, ...], ...]:
    """Return the chains that a log has for the subject: the first CONTAINER_ID, which explains the first record."""
    for record in records:
        if record.type == CONTAINER_ID and (found := _listed(record.text)) is not None:
            return parse(found[1].decode("ascii"))
    return ()


def container_ids(event: Event, context: Context | None) -> list[tuple[int, str]]:
    """Return what CONTAINER_ID says of each record: its place in the event, from 1, and the chains.

    ``context`` is the subject's, None where nobody may be named. None for a record whose task has no identifier.
    """
    beside = event.beside
    if (context is None or not context.contid) and beside is None:
        return []  # nearly every event of a host without containers
    return list(_container_ids(event, context))


def _container_ids(event: Event, context: Context | None) -> Iterator[tuple[int, str]]:
    types = [record.type for record in event.records]
    if context is not None and context.contid:
        yield (types.index(SYSCALL) + 1 if SYSCALL in types else 1), joined((context.contid,))
    beside = event.beside
    if beside is None:
        return
    if beside.packet is not None and beside.packet.contids:
        place = next((place for place, kind in enumerate(types, start=1) if kind in _PACKETS), 1)
        yield place, joined(beside.packet.contids)
    if context is not None and beside.targets:
        told = {target.who.pid: target.who.contid for target in beside.targets}
        for place, record in enumerate(event.records, start=1):
            if record.type == _OBJ_PID and (found := _opid(record.text)) is not None:
                chain = told.get(int(found[1]))
                if chain:
                    yield place, joined((chain,))


def enter(native: dict[str, object], event: Event, context: Context | None) -> None:
    """Enter ``contid`` and ``container_ids``. A log's own CONTAINER_ID records stand among its records."""
    if context is not None:
        if context.contid:
            native["contid"] = shown(context.contid)
    elif event.complete is None and (recorded := _recorded(event.records)):
        native["contid"] = shown(recorded[0])
    if found := container_ids(event, context):
        native["container_ids"] = [{"record": place, "contid": chains} for place, chains in found]


def enter_own(made: dict[str, object], told: Told) -> None:
    """Enter both for an event of our own. It has no records: 1 is the place of the one that it is itself."""
    if chain := chain_of(told):
        made["contid"] = shown(chain)
        made["container_ids"] = [{"record": 1, "contid": joined((chain,))}]


def op_event(native: NativeEvent, op: ContainerOp) -> NativeEvent:
    """Return the event of type CONTAINER_OP: who asked for it, how it ended, and what it was."""
    made: dict[str, object] = {**native}
    records, enrichment, where = made.pop("records"), made.pop("enrichment"), made.pop("where")
    made["outcome"] = "failure" if op.res else "success"
    if op.caller_pid:
        made["subject"] = {"pid": op.caller_pid}
        if op.caller_uid != UNSET:
            made["subject"] = {"pid": op.caller_pid, "uid": op.caller_uid}
    made["where"] = where
    enter_own(made, op)
    made |= {"container_op": op_entry(op), "records": records, "enrichment": enrichment}
    return cast("NativeEvent", made)


def op_entry(op: ContainerOp) -> ContainerOpEntry:
    """Return what was done as a member."""
    entry: dict[str, object] = {"op": op.op, "opid": op.opid}
    if op.contid != CONTID_UNSET:
        entry["contid"] = str(op.contid)
    if op.old:
        entry["old_contid"] = shown(op.old)
    entry["res"] = 0 if op.res else 1
    if op.res:
        entry["error"] = error_name(op.res)
    if op.orchestrator:
        entry["orchestrator"] = True
    if op.engine is not None:
        said = {name: value for name, value in op.engine._asdict().items() if value}
        if "id" in said:
            entry["engine"] = cast("EngineEntry", said)
    return cast("ContainerOpEntry", entry)


def op_fields(op: ContainerOp) -> dict[str, str]:
    """Return what was done under the names of the kernel's series, for a line of text; -1 is unset."""
    fields = {
        "op": op.op,
        "opid": str(op.opid),
        "contid": "-1" if op.contid == CONTID_UNSET else str(op.contid),
        "old-contid": joined((op.old,)) if op.old else "-1",
        "res": "0" if op.res else "1",
    }
    return fields | {"error": error_name(op.res)} if op.res else fields


def error_name(number: int) -> str:
    """Return an errno's name, ``errno 600`` where it has none here."""
    return errno.errorcode.get(number, f"errno {number}")
