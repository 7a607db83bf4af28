# SPDX-License-Identifier: Apache-2.0
"""The native event: everything known about one audit event, as a plain dict (`enrich.shape.NativeEvent`).

Owns which source each member is taken from and the caches that make it cheap. Never identifies a container:
``where`` and ``container`` follow the task's cgroup, as `enrich.cgroups` knows it, which is told where an event was
made of a container nothing more is known of than its id. Never writes, never changes an event.

Where a fact comes from:

* ``subject.pid, tid, ppid, start, comm, pids, auid, ses``, ``namespaces`` and ``cgroup``: the kernel
  context, if `enrich.attribution` lets it stand for the subject. Otherwise pid, ppid, comm, auid and ses
  come from the primary record and the rest is absent.
* ``subject.uid ... fsgid`` and ``exe``: the primary record, always.
* Of a record that carries a program's message, only what the kernel wrote before ``msg='`` is believed,
  except for ``outcome``: that is the program's verdict about its own business.
* Of a log's event, ``namespaces``, ``cgroup``, ``where``, ``container`` and ``host`` are what a journal has kept of its
  context, if it has; all else comes from the records.
* An unset auid or ses (4294967295) is absent in ``subject``; in ``records[].fields`` the number stays.

The ``host``, ``namespaces``, ``container`` and ``cgroup`` dicts are shared between events: treat an event as read-only.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

from enricher.clock import rfc3339
from enricher.enrich import beside, contid, told
from enricher.enrich.attribution import SYSCALL, attribute, left_doubt, reason_of
from enricher.enrich.decode import Decoder, type_name
from enricher.enrich.keys import keys_of
from enricher.enrich.shape import SCHEMA
from enricher.enrich.subject import subject_of
from enricher.enrich.surroundings import Surroundings
from enricher.enrich.values import text_of
from enricher.enrich.whereabouts import Whereabouts
from enricher.sources.audit.text import split_stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enricher.enrich.cgroups import Home
    from enricher.enrich.shape import (
        Enrichment,
        Fields,
        HostEntry,
        Inside,
        NativeEvent,
        RecordEntry,
    )
    from enricher.model import Context, Event, HostFacts, Loss, Notice, Record
    from enricher.sources.names import Names

Outcome = Literal["success", "failure"]

_OUTCOMES: Final[dict[object, Outcome]] = {
    "yes": "success",
    "success": "success",
    "1": "success",
    "no": "failure",
    "failed": "failure",
    "0": "failure",
}

_CONTEXTS: Final[dict[tuple[bool, bool], Literal["kernel", "journal", "none"]]] = {
    (True, False): "kernel",
    (False, True): "journal",
    (False, False): "none",
}
"""By whether there is a context, and one that a journal kept."""

_CREDENTIALS: Final = ("uid", "gid", "euid", "suid", "fsuid", "egid", "sgid", "fsgid")


class Gist(NamedTuple):
    """What an event's records say of the whole: the type and fields of the primary one, all keys, the outcome."""

    kind: str
    fields: Fields
    keys: list[str]
    outcome: Outcome | None


class NativeBuilder:
    """Builds the native events of one boot of one host; holds the caches, so keep one per pipeline.

    ``raw`` adds the text of every record beside its decoded fields; ``names`` knows the users of the host,
    ``around`` what is known beside the events.
    """

    def __init__(
        self,
        host: HostFacts,
        *,
        raw: bool = False,
        names: Names | None = None,
        around: Surroundings | None = None,
    ) -> None:
        self._host = host
        self.where = Whereabouts(host, Surroundings(host) if around is None else around)
        self.decoder = Decoder(names, raw=raw)
        self._entries = self.decoder.entries
        self.raw = raw
        self._host_entry = host_entry(host)
        self._uid_prefix = host.boot_id + "/"

    def build(self, event: Event) -> NativeEvent:
        """Make the event's dict. Raises ValueError if the stamp is none; records may hold any bytes."""
        if event.loss is not None:
            return self._own(event, "LOST", {"lost": _lost(event.loss)})
        if event.notice is not None:
            return self._own(event, "NOTICE", {"notice": _notice(event.notice)})
        if event.told is not None:
            return told.enter(self._own(event, told.type_of(event.told)), event.told, self.where)
        entries = self._entries(event.records)
        primary, fields = _primary(event, entries)
        gist = Gist(primary, fields, _keys(event.records), _outcome(fields, entries))
        return self.around(event, gist, entries)

    def around(self, event: Event, gist: Gist, entries: list[RecordEntry]) -> NativeEvent:
        """Make what stands around the records of an event of the kernel's. Raises ValueError if the stamp is none."""
        sec, ms, _serial = split_stamp(event.stamp)
        ident = event.stamp.decode("ascii")
        context, doubt = attribute(event)
        recalled = event.recalled

        # In the documented order of members, which a dict keeps.
        native: dict[str, object] = {
            "schema": SCHEMA,
            "time": rfc3339(sec, ms),
            "id": ident,
            "uid": self.boot_of(event) + (ident if event.part == 1 else f"{ident}/{event.part}"),
            "host": self.host_of(event),
            "type": gist.kind,
            "keys": gist.keys,
        }
        if gist.outcome is not None:
            native["outcome"] = gist.outcome
        if subject := subject_of(context, gist.fields):
            native["subject"] = subject if context is None else self.where.with_inside(subject, context)
        home = None
        seen = recalled if context is None else context
        if seen is not None:
            namespaces, missing = self.where.namespaces.of(seen)
            doubt = (doubt if recalled is None else left_doubt(recalled.flags)) or missing
            home = self.where.home_of(seen)
            if context is not None:
                namespaces = self.where.with_others(namespaces, context, home)
                if event.beside is not None:
                    namespaces = beside.with_change(namespaces, event.beside, self.where)
            native["namespaces"] = namespaces
        self.where.enter(native, home, 0 if seen is None else seen.cgroup_id, ask=not event.self_caused)
        if home is not None:
            doubt = doubt or home.reason
        contid.enter(native, event, context)
        if event.beside is not None and event.beside.packet is not None:
            native["packet"] = self.where.packets.of(event.beside.packet)
        if event.beside is not None and context is not None:
            doubt = doubt or beside.enter(native, event.beside, context, event.records, self.where)
        native["records"] = entries
        native["enrichment"] = enrichment_of(event, context, doubt, home)
        return cast("NativeEvent", native)

    def place(self, event: Event) -> NativeEvent:
        """Return ``host``, ``where``, ``container``, ``cgroup`` and the kinds of ``namespaces`` as `build` has them.

        Some microseconds instead of some tens, since no record is decoded: a filter may need no more. Of an event of
        our own this is all of it.
        """
        if event.own_id:
            return self.build(event)
        context, _ = attribute(event)
        seen = event.recalled if context is None else context
        native: dict[str, object] = {"host": self.host_of(event)}
        home = None
        if seen is not None:
            native["namespaces"], _ = self.where.namespaces.of(seen)
            home = self.where.home_of(seen)
        self.where.enter(native, home, 0 if seen is None else seen.cgroup_id, ask=not event.self_caused)
        return cast("NativeEvent", native)

    def inside(self, event: Event, context: Context) -> Inside | None:
        """Return ``subject.inside`` as `build` has it, for a context that may stand for the subject; None for none.

        One record is decoded, and none in the initial user namespace.
        """
        if not self.where.around.users.knows(context):
            return None
        record = _primary_record(event)
        fields = {} if record is None else self._entries([record])[0]["fields"]
        return self.where.with_inside(subject_of(context, fields), context).get("inside")

    def boot_of(self, event: Event) -> str:
        """Return what stands before the id in ``uid``."""
        return self._uid_prefix if event.recalled is None else event.recalled.host.boot_id + "/"

    def host_of(self, event: Event) -> HostEntry:
        """Return the member ``host``; the same object for the same host."""
        if event.recalled is not None:
            return host_entry(event.recalled.host)
        return {"name": text_of(event.node)[0]} if event.node else self._host_entry

    def _own(self, event: Event, kind: str, content: Mapping[str, object] | None = None) -> NativeEvent:
        """Make the dict of an event of our own; it has no records and nobody's context."""
        sec, ms, _serial = split_stamp(event.stamp)
        native = {
            "schema": SCHEMA,
            "time": rfc3339(sec, ms),
            "id": event.stamp.decode("ascii"),
            "uid": self._uid_prefix + event.own_id,
            "host": self._host_entry,
            "type": kind,
            "keys": [],
            "where": "unknown",
            **(content or {}),
            "records": [],
            "enrichment": {"context": "none", "container": "none", "complete": True},
        }
        return cast("NativeEvent", native)


@lru_cache(maxsize=8)
def host_entry(host: HostFacts) -> HostEntry:
    """Return what an event says of this host."""
    facts = {"name": host.name, "machine_id": host.machine_id, "boot_id": host.boot_id}
    return cast("HostEntry", {name: fact for name, fact in facts.items() if fact})


def _lost(loss: Loss) -> dict[str, object]:
    lost: dict[str, object] = {"cause": loss.cause, "stage": loss.stage, loss.unit: loss.lost}
    if loss.first is not None:
        lost["first"] = loss.first
    if loss.last is not None:
        lost["last"] = loss.last
    if loss.types:
        lost["types"] = {type_name(number): times for number, times in loss.types}
    if loss.sink:
        lost["sink"] = loss.sink
    return lost


def _notice(notice: Notice) -> dict[str, object]:
    said = {
        name: value for name, value in notice._asdict().items() if value is not None and value not in ("", ())
    }
    if notice.settings:
        said["settings"] = list(notice.settings)
    return said


@lru_cache(maxsize=8)
def _builder(host: HostFacts, *, raw: bool) -> NativeBuilder:
    return NativeBuilder(host, raw=raw)


def build(event: Event, host: HostFacts, *, raw: bool = False) -> NativeEvent:
    """Make one native event with a builder that is kept per host; see `NativeBuilder.build`."""
    return _builder(host, raw=raw).build(event)


def _primary(event: Event, entries: list[RecordEntry]) -> tuple[str, Fields]:
    """Return the type and fields of the record that speaks for the event: SYSCALL, else the first.

    An event whose records were all lost on the way has only the type the kernel side noted.
    """
    for record, entry in zip(event.records, entries, strict=True):
        if record.type == SYSCALL:
            return entry["type"], entry["fields"]
    if entries:
        return entries[0]["type"], entries[0]["fields"]
    if event.context is not None:
        return type_name(event.context.record_type), {}
    if event.tally is not None and event.tally.runs:
        return type_name(event.tally.runs[0][0]), {}
    return type_name(0), {}


def _primary_record(event: Event) -> Record | None:
    """Return the record of `_primary`, None where there is none."""
    return next(
        (record for record in event.records if record.type == SYSCALL), next(iter(event.records), None)
    )


def _keys(records: list[Record]) -> list[str]:
    keys: list[str] = []
    for record in records:
        for key in keys_of(record):
            shown = key.decode("utf-8", "replace")
            if shown not in keys:
                keys.append(shown)
    return keys


def _outcome(primary: Fields, entries: list[RecordEntry]) -> Outcome | None:
    """Return what the primary record says, else the first record that says something."""
    outcome = _outcome_of(primary)
    if outcome is None:
        for entry in entries:
            outcome = _outcome_of(entry["fields"])
            if outcome is not None:
                break
    return outcome


def _outcome_of(fields: Fields) -> Outcome | None:
    said = fields.get("success")
    if said is None:
        said = fields.get("res")
        if said is None:
            message = fields.get("msg")
            said = message.get("res") if isinstance(message, dict) else None
    return _OUTCOMES.get(said) if isinstance(said, str) else None


def enrichment_of(event: Event, context: Context | None, doubt: str, home: Home | None) -> Enrichment:
    """Return what an event says of itself: what is known, from where, and what is missing."""
    enrichment: Enrichment = {
        "context": _CONTEXTS[event.context is not None, event.recalled is not None],
        "container": "none" if home is None else home.provenance,
    }
    if home is not None and home.answered:
        enrichment["metadata"] = home.answered
    if event.complete is not None:
        enrichment["complete"] = event.complete
    if reason := reason_of(event, doubt):
        enrichment["reason"] = reason
    if event.context is not None and context is None:
        enrichment["subject"] = False
    if event.self_caused:
        enrichment["self_caused"] = True
    return enrichment
