# SPDX-License-Identifier: Apache-2.0
"""Our audit text against the kernel's lines alone, as other tools show the two.

Owns the comparison: kernel records are the same in count, id and every value, and stand in as many events. Where a
tool shows another number of events, or not our record, a deviation of the list says why; any other is a fault.

The kernel's lines alone are our text without the lines of our own. Lines that a log of auditd does not have are among
them: EOE, without which LAUREL holds an event back.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from enricher.sources.audit.types import OWN, is_user, number_of
from tests.interop.readers import Reader, kernel_only

_LINE: Final = re.compile(rb"(?:node=[^ ]+ )?type=(\S+) msg=(?:audit\(([0-9.]+:([0-9]+))\))?")
_KERNEL: Final = 2000
_OWN_LINE: Final = re.compile(rb"^(?:node=[^ ]+ )?type=UNKNOWN\[139[0-8]\] .*\n", re.MULTILINE)


class Shown(NamedTuple):
    """What a tool shows of one serial: how many events without our lines and with them, and how many of our records.

    ``types`` are those of the kernel's lines, ``lines`` is the number of ours.
    """

    tool: str
    types: tuple[int, ...]
    lines: int
    plain: int
    ours: int
    own_records: int


class Deviation(NamedTuple):
    """Why a tool may show something else, and what exactly that is."""

    reason: str
    explains: Callable[[Shown], bool]


DEVIATIONS: Final = (
    Deviation(
        "LAUREL gives out a program's record (0.5.1: and KERNEL) at once: our line is another event with its id",
        lambda shown: (
            shown.tool.startswith("laurel/")
            and (is_user(shown.types[0]) or (shown.types[0] == _KERNEL and shown.tool.endswith("/bookworm")))
            and (shown.plain, shown.ours, shown.own_records) == (1, 2, shown.lines)
        ),
    ),
    Deviation(
        "LAUREL cannot read the record itself, an error to it, and shows our line alone",
        lambda shown: (
            shown.tool.startswith("laurel/")
            and (shown.plain, shown.ours, shown.own_records) == (0, 1, shown.lines)
        ),
    ),
    Deviation(
        "ausearch leaves the whole event out, with our line as without it",
        lambda shown: (
            shown.tool.startswith(("ausearch/", "ausearch-i/"))
            and (shown.plain, shown.ours, shown.own_records) == (0, 0, 0)
        ),
    ),
)


class Difference(NamedTuple):
    """What one tool shows: its kernel events, what no deviation explains, and how often each explained something."""

    tool: str
    events: int
    faults: list[str]
    explained: Counter[str]


def kernel_lines(text: bytes) -> bytes:
    """Our text without our lines."""
    return _OWN_LINE.sub(b"", text)


def compare(reader: Reader, text: bytes, scratch: Path) -> Difference:
    """Let a tool read the text and the kernel's lines of it alone."""
    scratch.mkdir()
    logs = scratch / "plain", scratch / "ours"
    for log, content in zip(logs, (kernel_lines(text), text), strict=True):
        log.write_bytes(content)
    with ThreadPoolExecutor(2) as pool:
        plain, ours = pool.map(reader.read, logs)
    before, after = kernel_only(plain), kernel_only(ours)
    faults = [f"not there beside our lines: {event}" for event in before - after]
    faults += [f"only beside our lines: {event}" for event in after - before]
    explained: Counter[str] = Counter()
    events_before, events_after = (Counter(_serial(event.id) for event in seen) for seen in (plain, ours))
    lines = _lines(text)
    faults += [f"nobody's event: {event}" for event in (*plain, *ours) if _serial(event.id) not in lines]
    own_records = Counter[int]()
    for event in ours:
        own_records[_serial(event.id)] += len(event.ours)
    for serial, (types, own_lines, stamps) in lines.items():
        plain_events, our_events = events_before[serial], events_after[serial]
        # Events without any record of the kernel's are ours alone: of serial 0, and one for each time.
        if our_events == (plain_events if types else stamps) and own_records[serial] == own_lines:
            continue
        shown = Shown(reader.name, types, own_lines, plain_events, our_events, own_records[serial])
        reason = next((known.reason for known in DEVIATIONS if types and known.explains(shown)), None)
        if reason is None:
            faults.append(f"serial {serial}: {shown}")
        else:
            explained[reason] += 1
    return Difference(reader.name, sum(before.values()), faults, explained)


def _serial(ident: str) -> int:
    """Return an id's serial, which is the same where a tool writes the time in words."""
    return int(ident.rpartition(":")[2] or -1)


def _lines(text: bytes) -> dict[int, tuple[tuple[int, ...], int, int]]:
    """Return by serial the types of the kernel's lines, the number of ours, and that of their stamps."""
    types: dict[int, list[int]] = defaultdict(list)
    ours: Counter[int] = Counter()
    stamps: dict[int, set[bytes]] = defaultdict(set)
    for line in text.splitlines():
        found = _LINE.match(line)
        assert found, line
        if found[3] is None:
            continue  # no record at all, which no tool shows
        number, serial = number_of(found[1].decode()), int(found[3])
        assert number is not None, line
        if number in OWN:
            ours[serial] += 1
            stamps[serial].add(found[2])
        else:
            types[serial].append(number)
    return {
        serial: (tuple(types[serial]), ours[serial], len(stamps[serial]))
        for serial in types.keys() | ours.keys()
    }
