# SPDX-License-Identifier: Apache-2.0
"""Puts the records of a log together to events: by stamp and node, without the kernel's counts.

Owns the decision when an event of a log is over, and the order in which events are given out: that of
their first records. Never reads a file or a clock: time is what the log's own stamps say. Where the input
is cut into batches makes no difference.

A log has no contexts and no counts, so no event here is ever called complete, or incomplete. It is over

- at once, when its type makes events of one record only (what user space writes, what auditd says of itself);
- at its EOE, which auditd does not write to its file;
- after its PROCTITLE, with which audit_log_exit ends, when `titled` further events have begun: another
  task's records come in between when the writer is preempted;
- without either, when `further` events have begun and the log has moved on by more than `seconds`.

The last is counted from the event's latest record and not from its own stamp, which is the time of the
system call's entry: a read that blocked for an hour is an hour old with its first record, and yet begins.

The log's time is the highest stamp of late. Stamps may jump: a clock that is set, a reboot, several nodes
in one file, a forged line. After a jump ahead the time falls back within two generations of events, and what
counts is how far it has moved forward in all; then the rule works on.

A record of an event that was given out makes a further part, marked as such.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.correlate.join import EOE, FURTHER_PART, MALFORMED, NO_STAMP, OVERFULL
from enricher.model import Event
from enricher.sources.audit.types import is_user

if TYPE_CHECKING:
    from enricher.sources.logformat import LogRecord

PROCTITLE: Final = 1327
DAEMON: Final = range(1200, 1300)

FROM_LOG: Final = "read from a log: no kernel context, no count"
FROM_LOG_KNOWN: Final = "read from a log: no count"
"""Where a journal had the context."""

_RECORD: Final = 256  # bytes that a record costs beside its text
_GENERATION: Final = 1_024  # events after which a jump of the clock is forgotten


class LogLimits(NamedTuple):
    """When an event of a log is over, and how much is held back for that."""

    titled: int = 1_024  # events begun since the latest record of one that has its PROCTITLE
    further: int = 256  # events begun since the latest record of any, and
    seconds: int = 2  # the log's time since then
    open_events: int = 65_536  # then the oldest is given out as it is
    open_bytes: int = 128 << 20  # the same
    continued: int = 4_096  # stamps remembered for further parts, up to twice as many


class _Held:
    """An event that is not given out yet."""

    __slots__ = ("begun", "event", "key", "moved", "over", "records", "size", "titled")

    def __init__(self, key: bytes, event: Event) -> None:
        self.key = key
        self.event = event
        self.records = event.records
        self.size = 0
        self.over = False
        self.titled = False
        self.begun = 0  # how many events had begun, and
        self.moved = 0  # how far the log's time had moved, at its latest record


class LogJoin:
    """Reassembly of a log. One instance per log; not thread-safe.

    The counters only grow: ``events`` given out, ``malformed`` lines and ``further_parts`` among them, and
    events given out at a bound, ``overfull``.
    """

    def __init__(self, limits: LogLimits | None = None) -> None:
        self._limits = limits = limits or LogLimits()
        self._most_open, self._most_bytes, self._further = (
            limits.open_events,
            limits.open_bytes,
            limits.further,
        )
        self._queue: deque[_Held] = deque()  # in the order of their first records
        self._open: dict[bytes, _Held] = {}  # those of them that are not over
        self._size = 0
        # Parts by key of events that are over; two generations.
        self._closed: dict[bytes, int] = {}
        self._closed_before: dict[bytes, int] = {}
        self._begun = 0
        # The second of the latest event to begin, as it is written and as a number.
        self._second, self._at = b"\n", 0
        self._clock = 0  # seconds
        self._highest = 0  # of this generation
        self._moved = 0
        self.events = 0
        self.malformed = 0
        self.further_parts = 0
        self.overfull = 0

    def __len__(self) -> int:
        """How many events are held back."""
        return len(self._queue)

    def feed(self, batch: list[LogRecord]) -> list[Event]:
        """The events that are known to be over with this batch, in the order of their first records."""
        done: list[Event] = []
        events, most = self._open, self._most_bytes
        before = name = None  # stamp and node of the record before
        held: _Held
        for each in batch:
            node, stamp, record = each.node, each.stamp, each.record
            number = record.type
            alone = False
            if stamp is None:
                held = self._malformed()
            elif (
                stamp is not before or node != name or held.over
            ):  # else it is of the same event as the one before
                # A node has no space in it: no two pairs make the same key.
                key = b"%b %b" % (node, stamp) if node else stamp
                known = events.get(key)
                if known is None:
                    held = self._begin(key, node, stamp, done)
                    alone = is_alone(number)
                else:
                    held = known
            before, name = stamp, node
            held.records.append(record)
            size = len(record.text) + _RECORD
            held.size += size
            self._size += size
            held.begun = self._begun
            held.moved = self._moved
            if number == PROCTITLE:
                held.titled = True
            elif number == EOE or alone:
                self._close(held)
            # At once: were it done once a batch, where a batch ends would make a difference.
            if held.over or self._size > most:
                self._release(done)
        self.events += len(done)
        return done

    def finish(self) -> list[Event]:
        """Give out what is left: the log has ended."""
        done: list[Event] = []
        while self._queue:
            self._give_out(done)
        self.events += len(done)
        return done

    def _begin(self, key: bytes, node: bytes, stamp: bytes, done: list[Event]) -> _Held:
        if not stamp.startswith(self._second):
            self._second = stamp[: stamp.index(b".") + 1]
            self._at = int(self._second[:-1])
        self._tick(self._at)
        self._release(done)
        event = Event(stamp, 0.0)
        event.node = node
        event.complete = None
        event.reason = FROM_LOG
        earlier = self._closed.get(key) or self._closed_before.get(key) or 0
        if earlier:
            event.part = earlier + 1
            event.reason = f"{FROM_LOG}; {FURTHER_PART}"
            self.further_parts += 1
        held = self._open[key] = _Held(key, event)
        self._queue.append(held)
        return held

    def _malformed(self) -> _Held:
        self.malformed += 1
        event = Event(NO_STAMP, 0.0)
        event.part = self.malformed
        event.malformed = True
        event.reason = MALFORMED
        held = _Held(b"", event)
        held.over = True
        self._queue.append(held)
        return held

    def _tick(self, second: int) -> None:
        """Count an event that begins, and move the log's time."""
        self._begun += 1
        if second > self._highest:
            self._highest = second
            if second > self._clock:
                self._moved += second - self._clock
                self._clock = second
        if not self._begun % _GENERATION:
            self._clock, self._highest = self._highest, 0

    def _release(self, done: list[Event]) -> None:
        """Give out from the head what is over; nothing passes an event that is not."""
        queue = self._queue
        while queue:
            head = queue[0]
            if not (head.over or self._has_passed(head)):
                if len(queue) < self._most_open and self._size <= self._most_bytes:
                    return
                self.overfull += 1
                head.event.reason = f"{head.event.reason}; {OVERFULL}"
            self._give_out(done)

    def _has_passed(self, held: _Held) -> bool:
        begun = self._begun - held.begun
        if begun < self._further:
            return False
        limits = self._limits
        return self._moved - held.moved > limits.seconds or (held.titled and begun >= limits.titled)

    def _give_out(self, done: list[Event]) -> None:
        held = self._queue.popleft()
        self._size -= held.size
        if not held.over:
            self._close(held)
        done.append(held.event)

    def _close(self, held: _Held) -> None:
        """Take no further records into this event."""
        held.over = True
        del self._open[held.key]
        self._closed[held.key] = held.event.part
        if len(self._closed) >= self._limits.continued:
            self._closed, self._closed_before = {}, self._closed


@cache  # a type is 16 bits
def is_alone(number: int) -> bool:
    """Whether records of this type are always an event of their own.

    Not LOGIN, AVC and the other types outside 1300..1399 that the kernel writes during a system call:
    they share its stamp.
    """
    return is_user(number) or number in DAEMON
