# SPDX-License-Identifier: Apache-2.0
"""Puts the records of one stamp together and joins them with what the kernel side knows of it.

Owns the events that are not finished, and the decision when one is. Never reads a socket, a ring
or a clock: each call is given one batch of records, everything drained from the rings *after*
that batch was received, and the time. That order is what makes the join exact: the kernel commits
the context of a serial before it queues the serial's first record.

An event is finished when as many records are here as the kernel side counted. Where that cannot
happen any more it is given out marked incomplete, with the reason:

- the record has no context: nothing to wait for, unless a ring said that an uncommitted
  reservation hides messages (`parked`), then for a moment;
- the kernel is done with the event, records are missing, and records queued after it have
  already arrived: netlink lost them;
- the kernel has held it open for longer than `patience`: a system call that blocks. What comes
  later is given out as a further part.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.model import Context, ContextFlag, Event, Record, Tally
from enricher.sources.audit.text import stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

EOE: Final = 1320

_STANDALONE: Final = int(ContextFlag.STANDALONE)
_SUBJECT: Final = int(ContextFlag.SUBJECT)
_UNTRACKED: Final = int(ContextFlag.UNTRACKED)

# Two tasks pass the hook in one order and may queue their records in the other; never this far apart.
_QUEUE_SKEW_NS: Final = 100_000_000
# How often unfinished events are looked over, in seconds.
_REVIEW: Final = 0.05

NO_CONTEXT: Final = "no context: the hook did not see this record"
PARKED_TOO_LONG: Final = "no context: the kernel side did not commit it in time"
NO_STAMP: Final = b"0.000:0"
BEFORE_START: Final = "no context: finished before the start of the programs"
CONTEXT_DROPPED: Final = "no context: the ring was full"
NOT_COUNTED: Final = "the kernel side could not count this event's records"
RECORDS_LOST: Final = "records lost between kernel and reader"
STILL_OPEN: Final = "the kernel has not finished this event yet"
MALFORMED: Final = "the record does not start with audit(SEC.MS:SERIAL)"
OVERFULL: Final = "too many unfinished events"
STOPPED: Final = "the reader stopped before the event was finished"


class Limits(NamedTuple):
    """Bounds. Times in seconds of user space's monotonic clock."""

    open_events: int = 65_536  # then the oldest is given out as it is
    patience: float = 5.0  # for an event that the kernel holds open, or whose records do not come
    context_patience: float = 0.5  # for a context behind an uncommitted reservation
    continued: int = 4_096  # stamps remembered for further parts


class _Given(NamedTuple):
    """What is remembered of an event that was given out unfinished."""

    context: Context | None
    parts: int
    records: int


class Correlator:
    """Reassembly and join. One instance per stream; not thread-safe.

    The counters are in records unless their name says events; they only grow.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._open: dict[bytes, Event] = {}
        self._given: OrderedDict[bytes, _Given] = OrderedDict()
        self._newest = 0  # time (ns since boot) of the newest context whose first record has arrived
        self._last_record = float("-inf")  # when the last batch with a record in it came
        self._reviewed = float("-inf")
        self.events = 0
        self.incomplete_events = 0
        self.malformed = 0
        self.orphan_contexts: list[Event] = []  # contexts whose records never came; taken by the ledger

    def __len__(self) -> int:
        """How many events are unfinished."""
        return len(self._open)

    def feed(
        self,
        records: Sequence[Record],
        contexts: Iterable[Context],
        tallies: Iterable[Tally],
        now: float,
        *,
        parked: bool = False,
    ) -> list[Event]:
        """The events that this batch finished, in the order in which they were finished.

        `contexts` and `tallies` must have been drained after `records` were received. `now` is
        monotonic seconds. `parked` says that a ring holds messages behind an uncommitted one.
        """
        done: list[Event] = []
        pending = self._open
        for context in contexts:
            self._add_context(context, now)
        for tally in tallies:
            self._add_tally(tally, now, done)
        newest = self._newest
        if records:
            self._last_record = now
        for record in records:
            stamp = stamp_of(record.text)
            if stamp is None:
                done.append(self._malformed(record, now))
                continue
            event = pending.get(stamp)
            if event is None:
                event = self._begin(stamp, now)
            collected = event.records
            collected.append(record)
            context_ = event.context
            if context_ is not None and context_.time > newest:
                newest = context_.time
            if len(collected) == event.expected:
                del pending[stamp]
                self._complete(event)
                done.append(event)
            elif record.type == EOE and context_ is not None and context_.flags & _UNTRACKED:
                self._give_out(event, NOT_COUNTED, done)
        self._newest = newest
        if pending and (now - self._reviewed >= _REVIEW or len(pending) > self._limits.open_events):
            self._review(now, done, parked=parked)
        self.events += len(done)
        return done

    def finish(self, now: float) -> list[Event]:
        """Give out everything that is left, marked: the stream has ended."""
        done: list[Event] = []
        for event in list(self._open.values()):
            reason = STOPPED if event.context else NO_CONTEXT
            self._give_out(event, reason, done)
        self._reviewed = now
        self.events += len(done)
        return done

    def _begin(self, stamp: bytes, now: float) -> Event:
        event = Event(stamp, now)
        given = self._given.get(stamp)
        if given is not None:
            event.part = given.parts + 1
            event.context = given.context
        self._open[stamp] = event
        return event

    def _add_context(self, context: Context, now: float) -> None:
        event = self._open.get(context.stamp) or self._begin(context.stamp, now)
        # A second context of one stamp means that the first was noted in interrupt context.
        if event.context is None or context.flags & _SUBJECT:
            event.context = context
        if context.flags & _STANDALONE:
            event.expected = 1

    def _add_tally(self, tally: Tally, now: float, done: list[Event]) -> None:
        event = self._open.get(tally.stamp)
        given = self._given.get(tally.stamp)
        earlier = given.records if given else 0
        if event is None:
            if given is not None and tally.total <= earlier:
                return  # all its records went out before the kernel was done with it
            event = self._begin(tally.stamp, now)
        event.tally = tally
        event.expected = tally.total - earlier
        if len(event.records) >= event.expected > 0:
            del self._open[tally.stamp]
            self._complete(event)
            done.append(event)

    def _complete(self, event: Event) -> None:
        event.complete = True
        if event.context is None:
            event.reason = CONTEXT_DROPPED

    def _malformed(self, record: Record, now: float) -> Event:
        self.malformed += 1
        event = Event(NO_STAMP, now)
        event.records.append(record)
        event.part = self.malformed
        event.malformed = True
        event.reason = MALFORMED
        self.incomplete_events += 1
        return event

    def _review(self, now: float, done: list[Event], *, parked: bool) -> None:
        limits = self._limits
        self._reviewed = now
        surplus = len(self._open) - limits.open_events
        for event in list(self._open.values()):
            context = event.context
            if surplus > 0:
                surplus -= 1
                self._give_out(event, OVERFULL, done)
            elif context is None:
                hopeless = event.records and event.records[-1].type == EOE and not parked
                if hopeless or now - event.opened > limits.context_patience:
                    self._give_out(event, PARKED_TOO_LONG if parked else NO_CONTEXT, done)
            elif event.tally is not None or context.flags & _STANDALONE:
                if self._passed(
                    event, event.tally.time if event.tally else context.time, _QUEUE_SKEW_NS, now
                ):
                    self._give_out(event, RECORDS_LOST, done)
            elif self._passed(event, context.time, int(limits.patience * 1e9), now):
                self._give_out(event, STILL_OPEN, done)

    def _passed(self, event: Event, moment: int, margin: int, now: float) -> bool:
        """Whether what the kernel queued at `moment` (ns since boot) would be here by now.

        The queue is in order, so a record that was queued well after `moment` proves it. Time alone
        proves nothing while records flow: a reader that lags has the contexts long before the records.
        """
        if self._newest > moment + margin:
            return True
        return now - max(event.opened, self._last_record) > self._limits.patience

    def _give_out(self, event: Event, reason: str, done: list[Event]) -> None:
        del self._open[event.stamp]
        earlier = self._given.pop(event.stamp, None)
        seen = len(event.records) + (earlier.records if earlier else 0)
        parts = event.part if event.records else event.part - 1
        self._given[event.stamp] = _Given(event.context, parts, seen)
        if len(self._given) > self._limits.continued:
            self._given.popitem(last=False)
        if not event.records:
            if event.tally is not None or (event.context and event.context.flags & _STANDALONE):
                self.orphan_contexts.append(event)
            return
        event.reason = event.reason or reason
        self.incomplete_events += 1
        done.append(event)
