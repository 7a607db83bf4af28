# SPDX-License-Identifier: Apache-2.0
"""Audit text: the kernel's lines as they came, and one line of ours beside them.

Owns where our line stands and how it is quoted, so that ausearch, auparse and LAUREL still read one
event. Never edits a record, with one exception that is announced in the output itself (below), and
never interprets one.

Our line is ``type=UNKNOWN[1390]`` (NS_INFO; a *named* type that those tools do not know splits the
event) with the event's own stamp and every value quoted (LAUREL takes unquoted digits of even length
for hex). It stands

* before PROCTITLE, which ends an event for auparse, when the event has a SYSCALL record;
* before the first record when that is outside 1300..1399 (USER_*, LOGIN, AVC...): such a record is an
  event of its own for auparse and everything after it another one;
* otherwise after the last record, but before EOE.

There is no such line when the context is missing or is not the subject's.

Control characters: the kernel encodes names that hold any, but it passes on what a program with
CAP_AUDIT_WRITE puts inside ``msg='...'``. A newline there would forge a line, a carriage return would
to a reader in universal-newline mode, NUL cuts a line for C readers, and an escape sequence runs on the
terminal of whoever reads the file. In such a record each control byte but tab is written as a space,
and the record's bytes are kept, all of them, in hex in a line ``type=UNKNOWN[1398]`` (NOTICE,
``op="control-bytes"``) in the place where ours stand. Nothing is lost, and every line that begins with
``type=`` was written by the kernel or by us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enricher.enrich.attribution import SYSCALL, attribute
from enricher.model import KINDS
from enricher.sources.audit.types import text_name_of

if TYPE_CHECKING:
    from enricher.model import Context, Event, HostFacts, Record

_NS_INFO = b"type=UNKNOWN[1390] msg=audit("
_NOTICE = b"type=UNKNOWN[1398] msg=audit("

_EOE = 1320
_PROCTITLE = 1327
_EVENT_RANGE = range(1300, 1400)

# A control byte becomes a space; tab is harmless and stays.
_CONTROLS = bytes((*range(0x09), *range(0x0A, 0x20), 0x7F))
_SPACED = bytes.maketrans(_CONTROLS, b" " * len(_CONTROLS))

_NAMESPACE_SETS = 4096

_prefixes: dict[int, bytes] = {}


def _prefix(record_type: int) -> bytes:
    """Return ``type=NAME msg=``; kept per type, of which there can be no more than 65536."""
    prefix = _prefixes.get(record_type)
    if prefix is None:
        prefix = _prefixes[record_type] = b"type=%s msg=" % text_name_of(record_type).encode("ascii")
    return prefix


class AuditText:
    """Renders events as audit text; keeps one prepared namespace part per distinct set."""

    def __init__(self, host: HostFacts) -> None:
        self._host = host
        self._namespaces: dict[bytes, bytes] = {}

    def render(self, event: Event) -> bytes:
        """Return all lines of one event, each with its newline; b"" without any record or context."""
        records = event.records
        lines = [_prefix(record.type) + record.text for record in records]
        joined = b"".join(lines)
        notices: list[bytes] = []
        if joined.translate(_SPACED) != joined:
            notices = self._defuse(event.stamp, records, lines)
        context = attribute(event).context
        if context is not None:
            notices.insert(0, self._ns_info(event.stamp, context))
        if notices:
            place = _place(records)
            lines[place:place] = notices
        lines.append(b"")
        return b"\n".join(lines)

    def _ns_info(self, stamp: bytes, context: Context) -> bytes:
        key = context.key
        namespaces = self._namespaces.get(key)
        if namespaces is None:
            if len(self._namespaces) >= _NAMESPACE_SETS:
                del self._namespaces[next(iter(self._namespaces))]
            namespaces = self._namespaces[key] = _namespace_part(context, self._host)
        pids = ",".join([f"{level.ns}:{level.pid}" for level in context.levels])
        return b'%s%s): record="1" %s pid="%d" tid="%d" pids="%s" start="%d" cgroup_id="%d"' % (
            _NS_INFO,
            stamp,
            namespaces,
            context.pid,
            context.tid,
            pids.encode("ascii"),
            context.start,
            context.cgroup_id,
        )

    @staticmethod
    def _defuse(stamp: bytes, records: list[Record], lines: list[bytes]) -> list[bytes]:
        """Replace control bytes in ``lines``; return a line with the original bytes per such record."""
        notices = []
        for index, record in enumerate(records):
            safe = lines[index].translate(_SPACED)
            if safe != lines[index]:
                lines[index] = safe
                notices.append(
                    b'%s%s): op="control-bytes" type="%d" place="%d" text_hex="%s"'
                    % (_NOTICE, stamp, record.type, index + 1, record.text.hex().upper().encode("ascii"))
                )
        return notices


def _namespace_part(context: Context, host: HostFacts) -> bytes:
    """Return ``ns_dev=... ns_mnt=... ns_host="..."``: what is the same for every event of a namespace set."""
    parts = [f'ns_dev="{host.ns_dev}"']
    initial = []
    for kind, inum, ident, first in zip(KINDS, context.inums, context.ids, host.initial, strict=True):
        if inum:
            parts.append(f'ns_{kind}="{inum}"')
            if ident:
                parts.append(f'ns_{kind}_id="{ident}"')
            if inum == first:
                initial.append(kind)
    parts.append(f'ns_host="{",".join(initial)}"')
    return " ".join(parts).encode("ascii")


def _place(records: list[Record]) -> int:
    """Return the index at which our lines stand; the reasons are in the module's docstring."""
    if not records:
        return 0
    types = [record.type for record in records]
    if SYSCALL in types:
        if _PROCTITLE in types:
            return types.index(_PROCTITLE)
    elif types[0] not in _EVENT_RANGE:
        return 0
    return types.index(_EOE) if _EOE in types else len(types)
