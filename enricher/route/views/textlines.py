# SPDX-License-Identifier: Apache-2.0
"""Lines of audit text where nothing is known of an event but its records: most of what a log is replayed to.

Owns what stands before a record in audit text, where our own line stands, and the whole text of an event without
a context. Never edits a byte: what would have to be edited, or says more, is left to `audit_text`, whose docstring
has the reasons.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from enricher import scan
from enricher.sources.audit.types import text_name_of

if TYPE_CHECKING:
    from enricher.model import Event, Record

SYSCALL: Final = 1300
EOE: Final = 1320
PROCTITLE: Final = 1327

_BEGIN: Final = b"type=UNKNOWN[1390] msg=audit("
_REASONS: Final = 64

_USUAL: Final = 0x1000  # types below it are found without a look-up

_prefixes: dict[int, bytes] = {}
_usual: list[bytes | None] = [None] * _USUAL
_ends: dict[str, bytes] = {}


def prefix_of(record_type: int) -> bytes:
    """Return ``type=NAME msg=``; kept per type, of which there can be no more than 65536."""
    prefix = _prefixes.get(record_type)
    if prefix is None:
        prefix = _prefixes[record_type] = b"type=%s msg=" % text_name_of(record_type).encode("ascii")
        if record_type < _USUAL:
            _usual[record_type] = prefix
    return prefix


def quoted(text: str) -> bytes:
    """Return our own words as a quoted value: nothing in them ends it or the line. To auparse a space does."""
    return b'"%b"' % re.sub(rb"[\x00-\x20\x7f]", b"_", text.encode("ascii", "replace")).replace(b'"', b"'")


def place_of(records: list[Record]) -> int:
    """Return the index at which our lines stand."""
    types = [record.type for record in records]
    if SYSCALL not in types:
        return 0
    for last in (PROCTITLE, EOE):
        if last in types:
            return types.index(last)
    return len(types)


def bare(event: Event) -> bytes | None:
    """Return all lines of a log's event that has no more than its records; None where this is not the way."""
    if (
        event.complete is not None
        or event.context is not None
        or event.recalled is not None
        or event.beside is not None
        or event.node
        or event.part != 1
        or event.self_caused
    ):
        return None
    records = event.records
    parts: list[bytes] = []
    syscall = False
    title = end = -1
    for record in records:
        number, text = record.type, record.text
        # A record that was cut is named in our line, and of one with control characters there is more to say.
        if record.truncated or not scan.is_clean(text, 0, len(text)):
            return None
        if number == SYSCALL:
            syscall = True
        elif number == PROCTITLE:
            if title < 0:
                title = len(parts)
        elif number == EOE and end < 0:
            end = len(parts)
        prefix = _usual[number] if number < _USUAL else None
        parts.append(prefix_of(number) if prefix is None else prefix)
        parts.append(text)
        parts.append(b"\n")
    place = _place(title, end, len(parts)) if syscall else 0
    reason = event.reason
    last = _ends.get(reason)
    if last is None:
        last = _end(reason)
    parts[place:place] = (_BEGIN, event.stamp, last)
    return b"".join(parts)


def _place(title: int, end: int, last: int) -> int:
    """Return where our line stands in an event with a SYSCALL; PROCTITLE and EOE are at -1 where they are missing."""
    if title >= 0:
        return title
    return last if end < 0 else end


def _end(reason: str) -> bytes:
    """Return what stands behind the stamp in our line."""
    if len(_ends) >= _REASONS:
        _ends.clear()
    said = b" reason=" + quoted(reason) if reason else b' reason="no_kernel_context"'
    made = _ends[reason] = b'): record="1" context="none"%b\n' % said
    return made
