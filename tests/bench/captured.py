# SPDX-License-Identifier: Apache-2.0
"""A capture as a log to read: its events as the kernel wrote them, each once, and copies of them where more are wanted.

Owns which events of a capture (tests/bench/captures.py) are taken, and that no two that are written are alike but for
their stamps. The lines of events stay as they are and where they are, those of several at the same time too. auditd
writes no end of an event (EOE), which its plug-ins get: it is put behind the last record of each that has several.

What is wanted beyond the capture is made of it, as tests/bench/distinct.py has it for records of the suites: copies of
events all over the capture, stamped behind the last of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.bench.distinct import PER_SECOND, Log, copies, stamped, templates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEMPLATES: Final = 20_000
"""Events at most that are copied: each takes some KiB of memory."""
_LINE: Final = re.compile(rb"type=(\S+) msg=audit\(([0-9.]+:[0-9]+)\):(.*)\n", re.DOTALL)


class _Event:
    """What is known of an event by its lines: what they say without their stamp, how many they are."""

    __slots__ = ("count", "mark")

    def __init__(self) -> None:
        self.mark = 0
        self.count = 0


class _Chosen(NamedTuple):
    """The events to be taken, by stamp: how many records each has."""

    counts: dict[bytes, int]
    marks: set[int]
    repeated: int
    last: bytes


def _lines(capture: Path) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    """Whole lines, each with its type, stamp and body; what is no record, the daemon's own and EOE are left out."""
    with capture.open("rb") as file:
        for line in file:
            found = _LINE.fullmatch(line)
            if found and found[1] != b"EOE" and not found[1].startswith(b"DAEMON_"):
                yield line, found[1], found[2], found[3]


def _choose(capture: Path, events: int) -> _Chosen:
    """Read it once: the first so many events of which no two are alike."""
    known: dict[bytes, _Event] = {}
    for _, kind, stamp, body in _lines(capture):
        event = known.get(stamp)
        if event is None:
            event = known[stamp] = _Event()
        event.mark = hash((event.mark, kind, body))
        event.count += 1
    counts: dict[bytes, int] = {}
    marks: set[int] = set()
    repeated = 0
    last = b"0.000:0"
    for stamp, event in known.items():
        if len(counts) == events:
            break
        if event.mark in marks:
            repeated += 1
            continue
        marks.add(event.mark)
        counts[stamp] = event.count
        last = max(last, stamp, key=_order)
    return _Chosen(counts, marks, repeated, last)


def _order(stamp: bytes) -> tuple[float, int]:
    seconds, _, serial = stamp.partition(b":")
    return float(seconds), int(serial)


def captured_log(path: Path, capture: Path, events: int) -> Log:
    """Write so many events of a capture, every one distinct, copies last. Raises ValueError where none can be made."""
    chosen = _choose(capture, events)
    every = max(1, len(chosen.counts) // TEMPLATES)
    samples = set(list(chosen.counts)[::every]) if len(chosen.counts) < events else set()
    sampled: list[bytes] = []
    left = dict(chosen.counts)
    records = 0
    with path.open("wb") as file:
        for line, _, stamp, _ in _lines(capture):
            if stamp not in left:
                continue
            file.write(line)
            records += 1
            left[stamp] -= 1
            if not left[stamp] and chosen.counts[stamp] > 1:
                file.write(b"type=EOE msg=audit(%b): \n" % stamp)
            if stamp in samples:
                sampled.append(line)
        real = len(chosen.counts)
        if real == events:
            return Log(path, real, records, file.tell(), repeated=chosen.repeated, real=real)
        known, left_out = templates([b"".join(sampled)])
        seconds, serial = (int(part) for part in _whole(chosen.last))
        repeated = chosen.repeated
        for number, copy in enumerate(copies(known, events - real, seen=set(chosen.marks), first=1), start=1):
            stamp = b"%d.%03d:%d" % (seconds + 1 + number // PER_SECOND, number % PER_SECOND, serial + number)
            file.write(stamped(stamp, copy.kinds, copy.bodies))
            records += len(copy.bodies)
            repeated = chosen.repeated + copy.repeated
        size = file.tell()
    return Log(path, events, records, size, len(known), left_out, repeated, real)


def _whole(stamp: bytes) -> tuple[bytes, bytes]:
    seconds, _, serial = stamp.partition(b":")
    return seconds.partition(b".")[0], serial
