# SPDX-License-Identifier: Apache-2.0
"""Events of a real kernel, as many as are wanted: those of a capture again and again, each with a number of its own.

Owns the choice of the capture and the numbers, which are the serials: by them a uid tells which event it is of. Where
no suite has left a capture (see tests/suites/corpus.py) there is one that is made by hand.
"""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from enricher.model import Event, HostFacts
from enricher.runtime.replay import replay
from enricher.sources.capture import CaptureReader, Head
from enricher.sources.names import Names
from enricher.sources.recorded import RecordedNames
from tests.suites.corpus import CORPUS

FEW = 1_500
"""Events of a capture that are enough where there is little time."""
_SECONDS = 1_772_366_400


class Events:
    """The events, and the host that they are of. ``source`` is the name of the capture."""

    def __init__(self, source: str, facts: HostFacts, names: Names, base: Sequence[Event]) -> None:
        self.source = source
        self.facts = facts
        self.names = names
        self._base = base
        boot = re.escape(facts.boot_id).encode()
        self.uid = re.compile(rb"%b/%d\.[0-9]{3}:([0-9]+)$" % (boot, _SECONDS))
        self.numbered = re.compile(rb'\b%d\.[0-9]{3}:[0-9]+|(?<="time":")[-0-9T:.]+' % _SECONDS)
        self.in_json = re.compile(rb'"uid":"%b/%d\.[0-9]{3}:([0-9]+)"' % (boot, _SECONDS))
        self.in_syslog = re.compile(rb'\[([a-z]+)@32473 uid="%b/%d\.[0-9]{3}:([0-9]+)"' % (boot, _SECONDS))

    def some(self, first: int, end: int) -> list[Event]:
        """Return the events with these numbers; the first of all is 1."""
        found = []
        for number in range(first, end):
            event = copy.copy(self._base[number % len(self._base)])
            event.stamp = b"%d.%03d:%d" % (_SECONDS, number % 1000, number)
            found.append(event)
        return found

    def number(self, uid: str) -> int:
        """Return the number of the event with this uid."""
        found = self.uid.match(uid.encode())
        assert found, f"no uid of ours: {uid!r}"
        return int(found[1])


def load(place: Path, *, full: bool) -> Events:
    """Take a real capture if there is one; `full`: there has to be. A made one is written to `place`."""
    captures = sorted(CORPUS.glob("job-*.capture"))
    assert captures or not full, "no capture of a real kernel: run tests/suites/test_main_job.py first"
    if captures:
        name, data = captures[-1].name, captures[-1].read_bytes()
    else:
        name, data = "made by hand", _made(place)
    frames = CaptureReader(io.BytesIO(data), name).frames()
    head = next(frames)
    assert isinstance(head, Head)
    names = RecordedNames()
    base: list[Event] = []
    most = (1 << 30) if full else FEW
    replay(head, frames, names, base.extend, lambda: len(base) >= most)
    kept = [each for each in base if each.records and not each.malformed and not each.own_id]
    kept = [each for each in kept if each.part == 1 and each.told is None][:most]
    assert kept
    return Events(name, head.facts, names, kept)


def _made(place: Path) -> bytes:
    from enricher.model import Batch, KernelCounts
    from tests.unit.fake_host import image
    from tests.unit.sample_capture import HEAD, write
    from tests.unit.sample_events import EXEC
    from tests.unit.sample_stream import context, record, tally

    parts: list[tuple[str, tuple[object, ...]]] = [("head", (HEAD,)), ("answer", ("user", 0, "root"))]
    clock = count(50)
    for serial in range(101, 141):
        now = float(next(clock))
        records = [record(serial, *each) for each in EXEC]
        batch = Batch(records, [], [], parked=False, now=now, wall=1772366400.0 + now)
        parts.append(("turn", (batch, [image(context(serial)), image(tally(serial, len(records)))])))
    parts.append(("end", (99.0, 1772366499.0, KernelCounts())))
    return write(place, parts)
