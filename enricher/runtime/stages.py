# SPDX-License-Identifier: Apache-2.0
"""The stages right of the sources as one piece: a batch goes in, finished events come out.

Owns the order correlate, judge, account, emit, and the LOST events. Never waits, never asks a clock or
the host: all it knows of the outside is in the batches and in its opening, which is what makes a replay
of a capture give the same bytes as the run that wrote it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.correlate.acts import Acts
from enricher.correlate.join import BEFORE_START, BEGUN_BEFORE_START, Correlator
from enricher.correlate.ledger import SERIALS, Ledger, Summary, serial_before, serial_of
from enricher.correlate.watch import Watch
from enricher.model import Event, KernelCounts, Loss, Notice

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.facts import PacketNet, Told
    from enricher.model import Batch


class Cause(NamedTuple):
    """One way to lose something: its name in a LOST event, the stage, and the members of `KernelCounts`."""

    name: str
    stage: str
    counts: tuple[str, ...]
    unit: str = "records"


CAUSES: Final = (
    Cause("netlink", "netlink", ("netlink_drops",)),
    Cause("rate_limit", "kernel", ("rate_limit",)),
    Cause("backlog", "kernel", ("backlog",)),
    Cause("memory", "kernel", ("memory",)),
    Cause("kernel", "kernel", ("lost_other", "lost_unseen")),
    Cause("reentry", "ring", ("hook_misses",), "messages"),
    Cause("ring", "ring", ("contexts_dropped", "tallies_dropped"), "messages"),
    Cause("facts", "ring", ("facts_dropped", "facts_missed"), "messages"),
)
"""In the order in which they are told. What auditd's own queue lost is not lost here."""

LIMITED: Final = {"changes_limited": "changes of namespaces", "refusals_limited": "refused messages"}
"""Members of `KernelCounts` that count what is over a rate limit, and what it is."""

TOLD_AFTER: Final = 6.0
"""Seconds: what was lost is known by the join's patience, `join.Limits.patience`, and a review later."""

_TICK: Final = 10_000_000
"""Nanoseconds of a clock tick, in which the kernel tells user space when a process was started (USER_HZ is 100)."""
_HELPERS: Final = 64
"""Processes of ours that are remembered."""

_FINISHED: Final = {"netlink", "rate_limit"}  # causes of records that the hook has seen


class Opening(NamedTuple):
    """What a run begins with: its own pid, its name among the runs of a boot, the start nonce's serial.

    ``degraded`` says why there is no kernel side in this run; "" where there is one.
    """

    pid: int
    run: str
    start: int | None
    degraded: str = ""


class Stages:
    """One run. `emit` gets every batch of finished events, in order.

    `learn` gets a batch that tells of cgroups, containers or namespaces first, before anything is made of it.
    """

    def __init__(
        self,
        opening: Opening,
        emit: Callable[[list[Event]], None],
        learn: Callable[[Batch], None] | None = None,
    ) -> None:
        self._learn = learn
        self.correlator = Correlator()
        self.acts = Acts()
        self.ledger = Ledger(opening.start, blind=bool(opening.degraded))
        self._watch = Watch(blind=bool(opening.degraded))
        self._emit = emit
        self._pid = opening.pid
        self._needle = b" pid=%d " % opening.pid
        # Our other processes, and those that were: by pid, the ticks in which each may have been started.
        self._helpers: dict[int, set[int]] = {}
        self._run = opening.run
        self._degraded = opening.degraded
        self.fill: Callable[[PacketNet], PacketNet] | None = None
        """Completes what is known of a packet's net namespace, where somebody can."""
        self._made = 0  # own events so far: the counter in their uid
        self._told = dict.fromkeys((cause.name for cause in CAUSES), 0)
        self._limited = dict.fromkeys(LIMITED, 0)
        self._last: bytes | None = None  # the stamp of the event given out last
        self._owed_since: float | None = None  # when a loss was seen that is not told yet

    @property
    def wants_counts(self) -> bool:
        """Whether something is to be told as soon as the counts are known: the stages want a batch, and be it empty."""
        return self._owes_loss or self._watch.doubts

    @property
    def _owes_loss(self) -> bool:
        return self._owed_since is not None

    @property
    def settled(self) -> int | None:
        """A serial up to which all events of the run were given out; None where that cannot be told yet.

        An event that the kernel has begun is known from its first record on, and counts as open.
        """
        begin = self.ledger.started_at
        settled = None if self._last is None else serial_of(self._last)
        if settled is not None:
            for event in self.correlator.unfinished():
                before = (serial_of(event.stamp) - 1) % SERIALS
                if serial_before(before, settled):
                    settled = before
        if begin is not None and (settled is None or serial_before(settled, begin)):
            return (begin - 1) % SERIALS  # what is older is not of this run
        return settled

    @property
    def newest(self) -> int | None:
        """The serial of the newest event of which a record was read; None before the first."""
        serials = [serial_of(event.stamp) for event in self.correlator.unfinished() if event.records]
        newest = None if self._last is None else serial_of(self._last)
        for serial in serials:
            if newest is None or serial_before(newest, serial):
                newest = serial
        return newest

    def take(self, batch: Batch) -> list[Event]:
        """Process one batch; returns the events that it finished."""
        if batch.helpers:
            for number, tick in batch.helpers:
                self._helpers.setdefault(number, set()).add(tick)
            while len(self._helpers) > _HELPERS:
                del self._helpers[next(iter(self._helpers))]
        if (batch.cgroups or batch.answers or batch.facts) and self._learn is not None:
            self._learn(batch._replace(oldest=self._oldest(batch)))
        if batch.facts:
            self.acts.learn(batch.facts, batch.now)
        done = self.correlator.feed(
            batch.records, batch.contexts, batch.tallies, batch.now, parked=batch.parked
        )
        self._give(done, batch.wall)
        if told := self.acts.due(batch.now):
            self._emit([self._own_event(each, batch.wall - batch.now + came) for each, came in told])
        if batch.counts is not None:
            for notice in self._watch.count(batch.counts.hook_records):
                self.tell(notice, batch.wall)
            self._tell_limits(batch.counts, batch.wall)
            if self._are_due(batch.counts, batch.now):
                self._emit(self._losses(batch.counts, batch.wall))
            elif not self._owes_loss:
                # What is missing without a cause that is counted must not be told with a later one's.
                self.ledger.take_missing()
        return done

    def _oldest(self, batch: Batch) -> int:
        """When the oldest event was whose records may still come: the rings are read at once, the socket may lag."""
        return self.correlator.oldest or min((context.time for context in batch.contexts), default=0)

    def tell(self, what: Notice | Loss, wall: float) -> None:
        """Give out an event of our own, at once."""
        self._emit([self._own_event(what, wall)])

    def finish(self, now: float, wall: float, counts: KernelCounts) -> Summary:
        """Give out what is left, and add up. ``counts`` were read when the last batch had been."""
        self._give(self.correlator.finish(now), wall)
        if told := self.acts.finish():
            self._emit([self._own_event(each, wall - now + came) for each, came in told])
        self._tell_limits(counts, wall)
        if losses := self._losses(counts, wall):
            self._emit(losses)
        return self.ledger.summary(counts)

    def _tell_limits(self, counts: KernelCounts, wall: float) -> None:
        for name, what in LIMITED.items():
            if (count := getattr(counts, name)) > self._limited[name]:
                more, self._limited[name] = count - self._limited[name], count
                text = f"{more} {what} were not told: more came in a second than the kernel side tells"
                self.tell(Notice("limited", text), wall)

    def _give(self, done: list[Event], wall: float) -> None:
        pid = self._pid
        for event in done:
            context = event.context
            event.beside = beside = self.acts.of(event.stamp)
            if beside is not None and beside.packet is not None and self.fill is not None:
                event.beside = beside._replace(packet=self.fill(beside.packet))
            if context is not None:
                number = context.pid
                event.self_caused = (
                    number == pid
                    or (number in self._helpers and context.start // _TICK in self._helpers[number])
                ) and context.is_subject
            else:
                event.self_caused = self._names_us(event)
            if event.malformed:
                # The only time it has is that of its receipt; the kernel's serials begin at 1.
                event.stamp = _own_stamp(wall)
            elif self._degraded and context is None:
                event.complete = None  # nobody counted
                event.reason = self._degraded
            elif self.ledger.is_before(event):
                event.complete = False
                event.reason = BEFORE_START if context is None else BEGUN_BEFORE_START
        self.ledger.account(done)
        orphans = self.correlator.orphan_contexts
        if orphans:
            self.ledger.account_unread(orphans)
            orphans.clear()
        if done:
            if not done[-1].malformed:
                self._last = done[-1].stamp
            self._emit(done)
            for notice in self._watch.look(done):
                self.tell(notice, wall)

    def _names_us(self, event: Event) -> bool:
        """Whether a record is of this process, by the kernel's own words: what is in msg='...' is the sender's."""
        return any(self._needle in record.text.partition(b" msg='")[0] for record in event.records)

    def _grown(self, counts: KernelCounts) -> dict[str, int]:
        """By cause, what is new since it was last told."""
        sums = {cause.name: sum(getattr(counts, name) or 0 for name in cause.counts) for cause in CAUSES}
        return {name: now - self._told[name] for name, now in sums.items() if now > self._told[name]}

    def _are_due(self, counts: KernelCounts, now: float) -> bool:
        """Whether there is a loss, and it was long enough ago to say what it hit."""
        if not self._grown(counts):
            return False
        if self._owed_since is None:
            self._owed_since = now
        return now - self._owed_since >= TOLD_AFTER

    def _losses(self, counts: KernelCounts, wall: float) -> list[Event]:
        """Make a LOST event for each cause whose figure has grown since it was last told."""
        self._owed_since = None
        grown = self._grown(counts)
        for name, count in grown.items():
            self._told[name] += count
        # Which records are missing is known only as a whole: it is told where one cause alone can be meant.
        of_known = _FINISHED.intersection(grown)
        missing = self.ledger.take_missing()
        events = []
        for cause in CAUSES:
            if cause.name in grown:
                mine = missing if of_known == {cause.name} else None
                loss = Loss(
                    cause.name,
                    cause.stage,
                    grown[cause.name],
                    cause.unit,
                    mine.first if mine else None,
                    mine.last if mine else None,
                    mine.types if mine else (),
                )
                events.append(self._own_event(loss, wall))
        return events

    def _own_event(self, what: Notice | Loss | Told, wall: float) -> Event:
        self._made += 1
        event = Event(_own_stamp(wall), 0.0)
        event.own_id = f"{self._run}/{self._made}"
        if isinstance(what, Loss):
            event.loss = what
        elif isinstance(what, Notice):
            event.notice = what
        else:
            event.told = what
        event.complete = True
        return event


def _own_stamp(wall: float) -> bytes:
    """The stamp of what has no serial: the wall clock's time, and serial 0."""
    return b"%d.%03d:0" % divmod(int(wall * 1000), 1000)
