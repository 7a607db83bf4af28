# SPDX-License-Identifier: Apache-2.0
"""Serial by serial: what there was, what was written, and whether what is between them was told.

Owns a second reader of the multicast group (guest/second_reader.py), the service's file as it grows, and the
comparison. A record counts as told where it is in the file, where its serial is in a NOTICE of a gap, or where a LOST
event has room for it. Never decides what happens meanwhile.
"""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from tests import schema
from tests.suites.live import mismatches, truth_of
from tests.suites.staging import SHARE
from tests.suites.test_service import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from tests.suites.live import Json
    from tests.suites.test_service import Service

T = TypeVar("T")

SERIALS: Final = 1 << 32
MARK: Final = 0xFFFF
"""See guest/second_reader.py."""
NEAR: Final = 64
"""Serials before and behind a mark whose records may have come on the other side of it."""
EOE = 1320
STOP = "/run/load-stop"
SEEN = "/run/serials"
TAKEN = f"{EVENTS}.taken"
_EACH = {"host": 3, "apart": 2, "box": 2, "user": 2}
"""guest/load.sh: programs that are started in each round, by the beginning of their tags."""
_BOX = re.compile(r"box-([0-9a-f]{64})-")
_LATE = 30
"""Looks for a loss to be told: it is some six seconds after it happened."""


class Told(NamedTuple):
    """What came of a stretch of time."""

    events: list[Json]
    records: int
    """What the second reader has."""
    unaccounted: int
    """Records that are neither written nor told as lost or never read."""
    wrong: list[str]
    """Facts that differ from what the process itself said, events that were written twice."""
    lost: int
    """Records that were told."""

    def notices(self, kind: str) -> list[Json]:
        """What was told of us of this kind."""
        return [event["notice"] for event in self.events if event.get("notice", {}).get("kind") == kind]


class Reckoning:
    """A context manager: from its beginning on the second reader reads. `told` is of what came since the last call."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._marks = 0
        self._end = 0  # the serial of the last mark
        self._read = 0  # bytes of the second reader's
        self._events: list[Json] = []
        self._seen: list[tuple[int, int]] = []
        script = f"{SHARE}/guest/second_reader.py"
        self._reader = service.guest.popen(["python3", script, "serials", SEEN], stdin=True)

    def __enter__(self) -> Self:
        assert self._reader.read_line(60) == b"ready\n"
        self._collect()
        self._cut()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._reader:
            if error is None:
                self._reader.close_stdin()
                assert self._reader.read_line(60) == b"0\n", "the second reader lost records itself"
        self._service.sh(f"rm -f {SEEN} {TAKEN} {STOP}")

    def told(self) -> Told:
        """Reckon what came since the last call; what is late, or a loss that is not told yet, is waited for."""
        looks = 0
        while True:
            self._collect()
            # What is behind the mark stays for the next look: a copy is cut.
            events, seen = self._events, self._seen
            result = reckon(*self._cut())
            if not result.unaccounted or looks >= _LATE:
                return result
            self._events, self._seen = events, seen
            looks += 1
            self._service.sh("sleep 1")

    def _cut(self) -> tuple[list[Json], list[tuple[int, int]]]:
        """Return what came up to the last mark, of the file and of the second reader; keep what came behind it."""
        words = f"mark={self._marks}="
        at = max(place for place, event in enumerate(self._events) if says(event, words))
        events, self._events = parted(self._events, at, self._end, serial)
        place = self._place()
        assert place is not None
        seen, self._seen = parted(self._seen, place, self._end, lambda entry: entry[0])
        return events, [entry for entry in seen if entry[1] != MARK]

    def _place(self) -> int | None:
        """Where the second reader has the mark; None where it has not come so far."""
        for place in range(1, len(self._seen)):
            if self._seen[place] == (self._marks, MARK) and self._seen[place - 1][0] == self._end:
                return place
        return None

    def _collect(self) -> None:
        """Take what there is up to another mark."""
        self._marks += 1
        service, mark = self._service, f"mark={self._marks}="
        self._say(mark)
        service.sh(f"mv {EVENTS} {TAKEN}")
        self._say(f"moved={self._marks}=")  # then it writes to another
        lines = service.guest.get(TAKEN).splitlines()
        service.sh(f"rm {TAKEN}")
        service.from_the_start()
        fresh = [json.loads(line) for line in lines if schema.is_whole(line)]
        self._events = [*self._events, *fresh]
        (self._end, *_) = [serial(event) for event in reversed(fresh) if says(event, mark)]
        while self._place() is None:
            done = service.guest.run(["tail", "-c", f"+{self._read + 1}", SEEN], timeout=120, check=True)
            data = done.stdout[: len(done.stdout) // 6 * 6]
            self._read += len(data)
            self._seen = [*self._seen, *struct.iter_unpack("=IH", data)]

    def _say(self, words: str) -> None:
        """Have the words recorded until they are in the file: what is recorded while no service runs nobody writes."""
        found = f"""grep -qs --text '"type":"USER".*{words}' {EVENTS}"""
        look = f"for i in 1 2 3 4 5 6 7 8; do {found} && exit 0; sleep 0.3; done"
        self._service.sh(f"until (auditctl -m {words}; {look}; exit 1); do :; done")


def says(event: Json, words: str) -> bool:
    """Whether it is the message with these words, and not the execution of who sends or seeks it."""
    return event["type"] == "USER" and words in json.dumps(event["records"])


def serial(event: Json) -> int:
    """An event's; 0 for one of our own."""
    return int(event["id"].rpartition(":")[2])


def within(number: int, first: int, last: int) -> bool:
    """Whether a serial is one of these, however many they are."""
    return (number - first) % SERIALS <= (last - first) % SERIALS


def parted(items: list[T], at: int, end: int, serial_of: Callable[[T], int]) -> tuple[list[T], list[T]]:
    """Part what came up to the mark, which is at place `at` and has the serial `end`, from what came behind it.

    By the place, since the counter goes round and serials come again; by the serial where that is so near to the mark's
    that two tasks may have been at it at the same time. Our own have none, 0.
    """
    before: list[T] = []
    behind: list[T] = []
    for place, item in enumerate(items):
        number = serial_of(item)
        early = place <= at
        if number and 0 < (number - end) % SERIALS < NEAR:
            early = False
        elif number and (end - number) % SERIALS < NEAR:
            early = True  # the mark's own further records among them
        (before if early else behind).append(item)
    return before, behind


def reckon(events: list[Json], seen: list[tuple[int, int]]) -> Told:
    """Compare what was written with what there was."""
    there = Counter(number for number, kind in seen if kind != EOE)
    written: Counter[int] = Counter()
    for event in events:
        written[serial(event)] += sum(record["type"] != "EOE" for record in event["records"])
    uids = Counter(event["uid"] for event in events)
    wrong = [f"{uid} was written {count} times" for uid, count in uids.items() if count > 1]
    wrong += [
        f"{number} has more records than there were" for number in there if written[number] > there[number]
    ]
    wrong += [line for event in events for line in wrongs(event)]
    missing = +Counter({number: count - written[number] for number, count in there.items()})
    unaccounted = untold(missing, events)
    return Told(events, there.total(), unaccounted, wrong, missing.total() - unaccounted)


def untold(missing: Counter[int], events: list[Json]) -> int:
    """How many of the missing records no event tells of."""
    gaps = [event["notice"] for event in events if event.get("notice", {}).get("kind") == "gap"]
    spans = [(gap["first"], gap["last"]) for gap in gaps if "first" in gap]
    losses = [dict(event["lost"]) for event in events if "records" in event.get("lost", {})]
    losses.sort(key=lambda loss: "first" not in loss)  # those without serials have room for what is left
    left = 0
    for number, count in missing.items():
        if any(within(number, first, last) for first, last in spans):
            continue
        for loss in losses:
            if "first" not in loss or within(number, loss["first"], loss["last"]):
                taken = min(count, loss["records"])
                loss["records"] -= taken
                count -= taken  # noqa: PLW2901
        left += count
    return left


def wrongs(event: Json) -> list[str]:
    """In what an event differs from what the process in it said of itself, or from where it was started."""
    truth = truth_of(event)
    if truth is None or "namespaces" not in event:
        return []
    found = mismatches(event, truth)
    box = _BOX.match(truth.tag)
    ident = event.get("container", {}).get("id")
    if box is not None and (event["where"], ident) != ("container", box[1]):
        found.append(f"{event['id']} {truth.tag}: {event['where']} {ident}")
    if box is None and event["where"] == "container":
        found.append(f"{event['id']} {truth.tag}: in container {ident}")
    return found


def loaded(told: Told, tag: str, rounds: int) -> list[str]:
    """Which programs of guest/load.sh are not in what was told, of so many rounds."""
    found = Counter(truth.tag for event in told.events if (truth := truth_of(event)) is not None)
    short = []
    for kind, each in _EACH.items():
        for number in range(rounds):
            wanted = re.compile(rf"{kind}-(?:[0-9a-f]{{64}}-)?{re.escape(tag)}-{number}")
            count = sum(n for name, n in found.items() if wanted.fullmatch(name))
            if count != each:
                short.append(f"{kind} {number}: {count} of {each}")
    return short
