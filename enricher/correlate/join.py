# SPDX-License-Identifier: Apache-2.0
"""Puts the records of one stamp together and joins them with what the kernel side knows of it.

Owns the events that are not finished, and the decision when one is. Never reads a socket, a ring
or a clock: each call is given one batch of records, everything drained from the rings *after*
that batch was received, and the time. That order is what makes the join exact: the kernel commits
the context of a serial before it queues the serial's first record.

An event is finished when as many records are here as the kernel side counted, and its context is, if
a ring says that an uncommitted reservation hides messages (`parked`); that is waited for a moment.
Where an event cannot be finished any more it is given out marked incomplete, with the reason:

- its records have neither context nor count: a moment is enough, for other records of the same stamp
  or for what a ring hides;
- the kernel is done with the event, records are missing, and records queued after it have
  already arrived: netlink lost them;
- its EOE is here and no count is: the count is committed before EOE is queued, so none will come;
- the kernel has held it open for longer than `patience`: a system call that blocks.

A further part, of a stamp that was given out before, has its context and is never called complete.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.messages import Context, ContextFlag, Tally
from enricher.model import Event, Record
from enricher.sources.audit.text import stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

EOE: Final = 1320
_EOE: Final = EOE
_SYSCALL: Final = 1300

_STANDALONE: Final = int(ContextFlag.STANDALONE)
_SUBJECT: Final = int(ContextFlag.SUBJECT)
_UNTRACKED: Final = int(ContextFlag.UNTRACKED)

# Two tasks may pass the hook in one order and queue their records in the other. Further apart than this
# only where a virtual CPU is held up: then what was called lost comes as a further part.
_QUEUE_SKEW_NS: Final = 100_000_000
# How often unfinished events are looked over, in seconds.
_REVIEW: Final = 0.05
# From when on, in seconds, an event that began inside of a system call may be one that a rule cut short.
_CUT_SHORT: Final = 0.2

NO_CONTEXT: Final = "no context: the hook did not see this record, or the ring was full"
PARKED_TOO_LONG: Final = "no context: the kernel side did not commit it in time"
NO_STAMP: Final = b"0.000:0"
BEFORE_START: Final = "no context: finished before the start of the programs"
BEGUN_BEFORE_START: Final = "begun before the hook was proved: it may have missed a part"
CONTEXT_DROPPED: Final = "no context: the ring was full"
NOT_COUNTED: Final = "the kernel side could not count this event's records"
RECORDS_LOST: Final = "records lost between kernel and reader"
MORE_THAN_COUNTED: Final = "the kernel side counted fewer records than there are"
STILL_OPEN: Final = "not counted yet: the kernel has not finished this event, or the ring was full"
FURTHER_PART: Final = "earlier records of this event were given out before"
MALFORMED: Final = "the record does not start with audit(SEC.MS:SERIAL)"
OVERFULL: Final = "too many unfinished events"
STOPPED: Final = "the reader stopped before the event was finished"


class Limits(NamedTuple):
    """Bounds. Times in seconds of user space's monotonic clock."""

    open_events: int = 65_536  # then the oldest is given out as it is
    patience: float = 5.0  # for an event that the kernel holds open, or whose records do not come
    context_patience: float = 0.5  # for a context behind an uncommitted reservation
    continued: int = 4_096  # stamps remembered for further parts; of finished events, up to twice as many


class _Given(NamedTuple):
    """What is remembered of an event that was given out unfinished."""

    context: Context | None
    tally: Tally | None
    parts: int
    records: int

    def remaining(self, total: int) -> int:
        """How many of `total` records are still to come."""
        return max(total - self.records, 0)


class Correlator:
    """Reassembly and join. One instance per stream; not thread-safe.

    The counters only grow: ``events`` given out, ``incomplete_events`` of them, ``malformed`` records,
    and what happened at the bounds, ``overfull`` and ``forgotten`` events.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._open: dict[bytes, Event] = {}
        self._given: OrderedDict[bytes, _Given] = OrderedDict()
        # Parts by stamp of finished events, for a late record that was not counted; two generations.
        self._finished: dict[bytes, int] = {}
        self._finished_before: dict[bytes, int] = {}
        self._newest = 0  # time (ns since boot) of the newest context whose first record has arrived
        self._last_record = float("-inf")  # when the last batch with a record in it came
        self._reviewed = float("-inf")
        self._parked = False  # whether a ring holds messages back, in this batch
        self.events = 0
        self.incomplete_events = 0
        self.malformed = 0
        self.overfull = 0
        self.forgotten = 0
        self.orphan_contexts: list[Event] = []  # contexts whose records never came; taken by the ledger
        self.unsettled = False
        """Whether an event may be over without the kernel side knowing it, as of the last look at all."""

    def __len__(self) -> int:
        """How many events are unfinished."""
        return len(self._open)

    def unfinished(self) -> Iterable[Event]:
        """Events that are not finished, oldest first; valid until the next call of `feed` or `finish`."""
        return self._open.values()

    @property
    def oldest(self) -> int:
        """When the oldest event was that is under way, in ns since boot; 0 for none of which that is known."""
        return next((event.context.time for event in self._open.values() if event.context is not None), 0)

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
        self._parked = parked
        return self._feed(records, contexts, tallies, now)

    def _feed(
        self, records: Sequence[Record], contexts: Iterable[Context], tallies: Iterable[Tally], now: float
    ) -> list[Event]:
        done: list[Event] = []
        pending, parked = self._open, self._parked
        for context in contexts:
            self._add_context(context, now, done)
        for tally in tallies:
            self._add_tally(tally, now, done)
        newest = self._newest
        if records:
            self._last_record = now
        event: Event | None = None
        begin = b""  # of a record's text, where it is of that event
        for record in records:
            text = record.text
            if event is None or not text.startswith(begin):
                end = text.find(b"):")
                event = self._event_of(text, end, now)
                if event is None:
                    done.append(self._malformed(record, now))
                    continue
                begin = text[: end + 2]
            collected = event.records
            collected.append(record)
            context_ = event.context
            if context_ is not None and context_.time > newest:
                newest = context_.time
            if len(collected) == event.expected and (context_ is not None or not parked):
                self._complete(event, CONTEXT_DROPPED, done)
                event = None
            elif record.type == _EOE and not event.expected and not parked:
                self._give_out(event, _or_no_context(event, NOT_COUNTED), done)
                event = None
        self._newest = newest
        if pending and (now - self._reviewed >= _REVIEW or len(pending) > self._limits.open_events):
            self._review(now, done)
        elif not pending:
            self.unsettled = False
        self.events += len(done)
        return done

    def finish(self, now: float) -> list[Event]:
        """Give out everything that is left, marked: the stream has ended.

        What the kernel side told after every record that was read is forgotten: those may be on their way.
        """
        done: list[Event] = []
        for event in list(self._open.values()):
            if _is_whole(event):
                self._complete(event, PARKED_TOO_LONG, done)
            elif _moment(event) <= self._newest:
                self._give_out(
                    event, _lost(event) if _is_counted(event) else _or_no_context(event, STOPPED), done
                )
            elif event.records:
                event.tally, event.expected = None, 0
                self._give_out(event, _or_no_context(event, STOPPED), done)
            else:
                del self._open[event.stamp]
        self._reviewed = now
        self.events += len(done)
        return done

    def _event_of(self, text: bytes, end: int, now: float) -> Event | None:
        """Return the event of a record's text, whose head ends there if anywhere; None where it has no stamp."""
        # Where the context or the count came first, the stamp is known to be one.
        event = self._open.get(text[6:end]) if end > 0 and text.startswith(b"audit(") else None
        if event is None and (stamp := stamp_of(text)) is not None:
            event = self._begin(stamp, now)
        return event

    def _begin(self, stamp: bytes, now: float) -> Event:
        self._open[stamp] = event = Event(stamp, now)
        given = self._given.get(stamp)
        if given is not None:
            event.part = given.parts + 1
            event.context = given.context
            event.tally = given.tally
            event.expected = given.remaining(_total(event))
        event.part += self._finished.get(stamp) or self._finished_before.get(stamp) or 0
        return event

    def _add_context(self, context: Context, now: float, done: list[Event]) -> None:
        stamp = context.stamp
        event = self._open.get(stamp)
        if event is None:
            if stamp in self._finished or stamp in self._finished_before:
                return  # later than its event could wait for
            given = self._given.get(stamp)
            if given is not None and given.context is None and given.records:
                # As late, but more of this event may come: it does not speak of a further record.
                self._given[stamp] = given._replace(context=context)
                return
            event = self._begin(stamp, now)
        # A second context of one stamp means that the first was noted in interrupt context.
        if event.context is None or context.flags & _SUBJECT:
            event.context = context
        if context.flags & _STANDALONE:
            self._expect(event, 1, done)
        elif event.records and _is_whole(event):
            self._complete(event, "", done)

    def _add_tally(self, tally: Tally, now: float, done: list[Event]) -> None:
        stamp = tally.stamp
        event = self._open.get(stamp)
        if event is None:
            if stamp in self._finished or stamp in self._finished_before:
                return
            event = self._begin(stamp, now)
        event.tally = tally
        self._expect(event, tally.total, done)

    def _expect(self, event: Event, total: int, done: list[Event]) -> None:
        """Enter the kernel's count; the event may be whole by it, or all of it may be out already."""
        given = self._given.get(event.stamp)
        event.expected = total if given is None else given.remaining(total)
        if event.records:
            if len(event.records) >= event.expected and (event.context is not None or not self._parked):
                self._complete(event, CONTEXT_DROPPED, done)
        elif given is not None and not event.expected:
            del self._open[event.stamp]
            self._given[event.stamp] = given._replace(context=event.context, tally=event.tally)

    def _complete(self, event: Event, without_context: str, done: list[Event]) -> None:
        """Give out an event that has all its records; the second argument says why it has no context."""
        stamp = event.stamp
        del self._open[stamp]
        self._given.pop(stamp, None)
        if event.context is None:
            event.reason = without_context
        more = len(event.records) > event.expected
        if more or event.part > 1:
            shortcoming = MORE_THAN_COUNTED if more else FURTHER_PART
            event.reason = f"{event.reason}; {shortcoming}" if event.reason else shortcoming
            self.incomplete_events += 1
        else:
            event.complete = True
        self._finished[stamp] = event.part
        if len(self._finished) >= self._limits.continued:
            self._finished, self._finished_before = {}, self._finished
        done.append(event)

    def _malformed(self, record: Record, now: float) -> Event:
        self.malformed += 1
        event = Event(NO_STAMP, now)
        event.records.append(record)
        event.part = self.malformed
        event.malformed = True
        event.reason = MALFORMED
        self.incomplete_events += 1
        return event

    def _review(self, now: float, done: list[Event]) -> None:
        parked = self._parked
        self._reviewed = now
        self.unsettled = False
        surplus = len(self._open) - self._limits.open_events
        for event in list(self._open.values()):
            if surplus > 0:
                surplus -= 1
                self.overfull += 1
                self._give_out(event, OVERFULL, done)
            elif _is_whole(event):
                # Without its context, or it would be out: that is waited for while a ring hides messages.
                if not parked or now - event.opened > self._limits.context_patience:
                    self._complete(event, PARKED_TOO_LONG if parked else CONTEXT_DROPPED, done)
            elif reason := self._overdue(event, now):
                self._give_out(event, reason, done)
            elif now - event.opened > _CUT_SHORT and _began_inside(event):
                self.unsettled = True

    def _overdue(self, event: Event, now: float) -> str:
        """Why the event has to be given out as it is; "" while it can still become whole."""
        parked = self._parked
        context = event.context
        if _is_counted(event):
            return _lost(event) if self._passed(event, _moment(event), _QUEUE_SKEW_NS, now) else ""
        if event.records and event.records[-1].type == EOE and not parked:
            return _or_no_context(event, NOT_COUNTED)
        if context is None:
            waited = now - event.opened > self._limits.context_patience
            return (PARKED_TOO_LONG if parked else NO_CONTEXT) if waited else ""
        if not self._passed(event, context.time, int(self._limits.patience * 1e9), now):
            return ""
        return NOT_COUNTED if context.flags & _UNTRACKED else STILL_OPEN

    def _passed(self, event: Event, moment: int, margin: int, now: float) -> bool:
        """Whether what the kernel queued at `moment` (ns since boot) would be here by now.

        The queue is in order, so a record that was queued well after `moment` proves it. Time alone
        proves nothing while records flow: a reader that lags has the contexts long before the records.
        """
        if self._newest > moment + margin:
            return True
        return now - max(event.opened, self._last_record) > self._limits.patience

    def _give_out(self, event: Event, reason: str, done: list[Event]) -> None:
        """Give out an event that lacks something, and remember it for what may still come."""
        del self._open[event.stamp]
        earlier = self._given.pop(event.stamp, None)
        seen = len(event.records) + (earlier.records if earlier else 0)
        parts = event.part if event.records else event.part - 1
        self._given[event.stamp] = _Given(event.context, event.tally, parts, seen)
        if len(self._given) > self._limits.continued:
            self._given.popitem(last=False)
            self.forgotten += 1
        if not event.records:
            self.orphan_contexts.append(event)
            return
        event.reason = reason
        self.incomplete_events += 1
        done.append(event)


def _total(event: Event) -> int:
    """How many records the kernel side counted for the event's stamp; 0 where it has not said."""
    if event.tally is not None:
        return event.tally.total
    return int(event.context is not None and event.context.flags & _STANDALONE != 0)


def _is_counted(event: Event) -> bool:
    return _total(event) > 0


def _is_whole(event: Event) -> bool:
    """Whether as many records are here as are to come, or more."""
    return bool(event.records) and len(event.records) >= event.expected and _is_counted(event)


def _began_inside(event: Event) -> bool:
    """Whether the first record is none that is written at the end of a call, and the kernel side has more to say."""
    context = event.context
    return not _is_counted(event) and context is not None and context.record_type != _SYSCALL


def _moment(event: Event) -> int:
    """When the kernel side last spoke of the event, in nanoseconds since boot; 0 if it never did."""
    if event.tally is not None:
        return event.tally.time
    return event.context.time if event.context is not None else 0


def _lost(event: Event) -> str:
    return RECORDS_LOST if event.context is not None else f"{CONTEXT_DROPPED}; {RECORDS_LOST}"


def _or_no_context(event: Event, reason: str) -> str:
    return reason if event.context else NO_CONTEXT
