# SPDX-License-Identifier: Apache-2.0
"""The loop: receive a batch, drain the rings, hand both to the stages.

Owns the order of these steps (the join rests on it), the waiting, the throttle against our own noise,
and what the capture is told. Never formats or writes: finished events go to a callable.
"""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Final, Protocol

from enricher.clock import TurnClock
from enricher.errors import EnricherError
from enricher.model import FAILED_AT, Batch, KernelCounts, counts_since
from enricher.runtime.selftest import Proof, Trial, new_nonce, send_and_wait
from enricher.runtime.stages import Opening, Stages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enricher.correlate.ledger import Summary
    from enricher.facts import Fact
    from enricher.model import Answer, CgroupChange, Context, Event, Record, Tally
    from enricher.runtime.prefetch import Prefetch
    from enricher.runtime.startup import Started
    from enricher.sources.capture import CaptureWriter

OWN_NOISE_WAIT: Final = 0.25
OWN_NOISE_WAIT_MAX: Final = 1.0
"""Seconds to let our own noise gather: after a batch that held records which we caused ourselves.

Under a rule on every system call each turn of the loop makes some records, which wake the next
turn. Waiting bounds that to a few turns a second, and doubling the wait while nobody else acts to
one, so that an idle host becomes idle again. The first also follows a batch in which others have a
part, because they feed on their own noise as well: without auditd the kernel prints every record,
and the journal that reads it is audited in turn. A full batch is work and is never made to wait.
"""
GATHER: Final = 0.001
"""Seconds to let the next events gather, after a batch of more than one: a turn costs as much as the records of an
event, and a wake-up for each record besides. As long as that brings more than one event at a time it goes on; an event
that comes alone is given out at once.
"""
TOGETHER: Final = 0.0003
"""Seconds to let the rest of an event come, after its first record has ended the wait: the kernel hands records over
one by one, and each that is waited for costs a turn and a wake-up.
"""
_PENDING_WAIT: Final = 0.05
_PARKED_WAIT: Final = 0.001
_LONGEST_WAIT: Final = 3600.0  # epoll takes milliseconds in 31 bits: some 24 days
_FINISH_WAIT: Final = 0.05
_DRAIN_WAIT: Final = 2.0
_STOP_TRIES: Final = 3
_COUNTS_EVERY: Final = 1.0
"""Seconds between two looks at the signs of a loss."""
_SETTLE_EVERY: Final = 0.25
"""Seconds between asking whether an event is over that a rule may have cut short; as long as one may be."""
_ASK_EVERY: Final = 60.0
"""Seconds between two readings of all counts where there is no sign: of what only a system call tells."""
_DELIVERED: Final = frozenset((Proof.PROVED, Proof.HOOK_MISSED))
_EDGE: Final = select.EPOLLIN | select.EPOLLET


def pause_after(events: list[Event], before: float) -> float:
    """Seconds to wait after a batch of finished events, given the wait after the batch before it."""
    own = 0
    for event in events:
        own += event.self_caused
    if not own:
        return GATHER if len(events) > 1 else 0.0
    if own < len(events) or before < OWN_NOISE_WAIT:
        return OWN_NOISE_WAIT
    return min(2 * before, OWN_NOISE_WAIT_MAX)


class Beside(Protocol):
    """Who has facts of his own for the next batch."""

    @property
    def pending(self) -> bool:
        """Whether `take` has any."""
        ...

    def take(self) -> Sequence[Fact]:
        """Return them, once."""
        ...


class Pipeline:
    """One run over started sources. `emit` gets every batch of finished events, in order.

    With a `capture`, whose head is written, everything that goes into the stages is written to it first.
    `clock` is told the time of each turn. `learn` gets each batch that tells of cgroups or containers, before its
    events; `metadata` asks what containers are, and has its answers put into batches. `beside` has facts that no ring
    brings.
    """

    def __init__(  # noqa: PLR0913 - the parts of one run
        self,
        started: Started,
        emit: Callable[[list[Event]], None],
        opening: Opening,
        capture: CaptureWriter | None = None,
        clock: TurnClock | None = None,
        learn: Callable[[Batch], None] | None = None,
        metadata: Prefetch | None = None,
        beside: Beside | None = None,
    ) -> None:
        self._socket = started.socket
        self._loaded = started.loaded
        self._control = started.control
        self._blind = started.candidate is None
        self._capture = capture
        self.clock = clock or TurnClock()
        self._pid = opening.pid
        self.stages = Stages(opening, emit, learn)
        self._pause = 0.0  # how long to let records gather before the next batch, in seconds
        self._noisy = False  # whether the last events had some of our own making among them
        # Without a kernel side the record that came back marks the end as it marked the beginning.
        self._marks = started.trial.proof is Proof.PROVED or (
            self._blind and started.trial.serial is not None
        )
        self.longest_wait = _LONGEST_WAIT
        """Seconds after which `run` asks its `stop` again where nothing happens."""
        self._serving: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()
        self._epoll.register(self._socket.fileno(), select.EPOLLIN)
        for fd in self._loaded.wake_fds():
            # Edge-triggered: contexts are committed without a wake-up and wait for their record. Only
            # what the kernel side sends with one (the end of an event without EOE) must end our sleep.
            self._epoll.register(fd, _EDGE)
        # From before the nonce, as far as it can be: what is dropped while it is under way is explained.
        self._base = KernelCounts()
        self._base = self._counts()._replace(
            netlink_drops=started.trial.drops + self._queue_lost(),
            status_lost=self._lost() if started.status else None,
        )
        self._counted = time.monotonic()  # when the counters were last read
        self._asked = self._counted  # when all counts were
        self._seen: tuple[int, ...] | None = self._signs()
        self._facts = False  # whether any came since they were last looked for
        self._drops = 0  # when all counts were last asked for
        self._wall = time.time() - self._counted
        self._settled = 0.0  # when it was last asked which events are over
        self._beside = beside
        self._metadata = metadata
        if metadata is not None:
            self.serve(metadata.fileno(), metadata.serve)
        self._take_trial(started.trial)

    def wake_on(self, fd: int) -> None:
        """Also end the wait when `fd` becomes readable: a signal's pipe. It is emptied by its owner."""
        self._epoll.register(fd, _EDGE)

    def serve(self, fd: int, act: Callable[[], None]) -> None:
        """Call `act` between turns whenever `fd` is readable; it must not wait."""
        self._epoll.register(fd, select.EPOLLIN)
        self._serving[fd] = act

    def run(self, stop: Callable[[], bool], deadline: float | None = None) -> None:
        """Work until `stop` says so, which is asked between turns, or the monotonic clock passes `deadline`."""
        while not stop():
            # No clock where none is needed: it is a system call on some machines, and audited.
            wait = None if deadline is None else deadline - time.monotonic()
            if wait is not None and wait <= 0:
                return
            if self._pause:
                # Not an epoll wait: the first record, or our own that are there already, would end it.
                time.sleep(self._pause if wait is None else min(self._pause, wait))
                ready = self._epoll.poll(0) if self._serving else ()
            else:
                ready = self._epoll.poll(self._bounded(wait))
                # Not where our own calls are audited: this is one more.
                if not self._noisy and (len(ready) > 1 or (ready and ready[0][0] not in self._serving)):
                    time.sleep(TOGETHER)
            self._turn()
            for fd, _ in ready:
                if fd in self._serving:
                    self._serving[fd]()

    def summary(self) -> Summary:
        """The account so far. The window is open: what is on its way counts as missing on neither side."""
        return self.stages.ledger.summary(self._counts())

    def _bounded(self, wait: float | None) -> float:
        if self._loaded.parked or (self._beside is not None and self._beside.pending):
            return _PARKED_WAIT
        longest = _PENDING_WAIT if len(self.stages.correlator) else self.longest_wait
        if self.stages.wants_counts or self.stages.acts.waits:
            longest = min(longest, _COUNTS_EVERY)
        if self._metadata is not None and (due := self._metadata.wait(self.clock.now)) is not None:
            longest = min(longest, max(due, _PARKED_WAIT))
        return longest if wait is None else min(longest, wait)

    def _turn(self) -> int:
        """One batch; returns how many records it had."""
        records = self._socket.receive()
        contexts, tallies = self._loaded.drain()
        self.clock.now = now = time.monotonic()
        counts = None
        if now - self._counted >= _COUNTS_EVERY:
            self._counted = now
            self._wall = time.time() - now
            if self._facts:
                # It takes system calls to find out, and where nothing was told there is nothing to doubt.
                self._facts = False
                self._loaded.look_for_missed()
            signs = self._signs()
            if signs != self._seen or self.stages.wants_counts or now - self._asked >= _ASK_EVERY:
                counts = self._counts()
                # A socket that stays full says so once only: while it drops, go on asking.
                self._seen = signs if counts.netlink_drops == self._drops else None
                self._asked, self._drops = now, counts.netlink_drops
        done = self._take(records, contexts, tallies, now, counts)
        if self.stages.correlator.unsettled and now - self._settled >= _SETTLE_EVERY:
            self._settled = now
            self._loaded.settle()
        if done:
            pause = pause_after(done, self._pause)
            self._noisy = pause >= OWN_NOISE_WAIT
            self._pause = pause if len(records) < self._socket.batch else 0.0
        elif not records:
            self._pause = 0.0
        return len(records)

    def _take(
        self,
        records: list[Record],
        contexts: list[Context],
        tallies: list[Tally],
        now: float,
        counts: KernelCounts | None = None,
    ) -> list[Event]:
        """Hand on one batch, with all that has come beside it."""
        loaded, metadata, beside = self._loaded, self._metadata, self._beside
        cgroups: Sequence[CgroupChange] = ()
        facts: Sequence[Fact] = ()
        answers: Sequence[Answer] = ()
        helpers: Sequence[tuple[int, int]] = ()
        if loaded.cgroups:
            cgroups, loaded.cgroups = loaded.cgroups, []
        if loaded.facts:
            self._facts = True
            facts, loaded.facts = loaded.facts, []
        if metadata is not None:
            answers, helpers = metadata.take(), metadata.take_helpers()
        if beside is not None and beside.pending:
            facts = [*facts, *beside.take()]
        # Not Batch(): that takes longer.
        batch = tuple.__new__(
            Batch,
            (
                records,
                contexts,
                tallies,
                loaded.parked,
                now,
                now + self._wall,
                counts,
                cgroups,
                answers,
                helpers,
                facts,
                0,
            ),
        )
        if self._capture is not None:
            messages, loaded.tap = loaded.tap or [], []
            self._capture.turn(batch, messages)
        done = self.stages.take(batch)
        if metadata is not None:
            metadata.turn(now)
        return done

    def _take_trial(self, trial: Trial) -> None:
        self.clock.now = now = time.monotonic()
        self._take(trial.records, trial.contexts, trial.tallies, now)

    def _last_trial(self) -> Trial | None:
        """Send the stop nonce; again where its record was dropped, since only what was read proves what was not.

        The wait for one that was dropped has emptied the buffer. What a try before the last read goes into the stages.
        """
        if not self._marks:
            return None
        last: Trial | None = None
        try:
            for _ in range(_STOP_TRIES):
                if self._socket.ended:
                    break
                if last is not None:
                    self._take_trial(last)
                queue_lost = self._queue_lost()
                last = send_and_wait(
                    new_nonce(), b"stop", self._control, self._socket, self._loaded, self._pid
                )
                if last.proof in _DELIVERED or self._dropped() == last.drops + queue_lost:
                    break
        except EnricherError:
            # The account is worth more than its exact end, and says that it has none.
            return None
        return last

    def finish(self) -> Summary:
        """Close the window with a second nonce, give out what is left, and add up.

        Where the nonce cannot be sent or is lost, or its bringer ends first, the window ends with what was read.
        """
        ledger = self.stages.ledger
        trial = self._last_trial()
        drops: int | None = None
        if trial is not None:
            if trial.serial is not None and (trial.proof in _DELIVERED or not self._socket.ended):
                ledger.stop_at(trial.serial)
                if self._capture is not None:
                    self._capture.stop(trial.serial)
                drops = self._dropped()  # what is dropped from now on is not of the run
            self._take_trial(trial)
        if self._socket.leave():
            # What came since was brought to us alone: nobody else will have it. Bounded, should more come all the same.
            left = time.monotonic() + _DRAIN_WAIT
            while self._turn() and time.monotonic() < left:
                pass
        if self._socket.ended and ledger.stopped_at is None and (newest := self.stages.newest) is not None:
            # Whoever brought the records has gone before the nonce came back. What the kernel has finished since is of
            # the gap behind this run, and not missing in it.
            ledger.stop_at(newest, marked=False)
        deadline = time.monotonic() + _DRAIN_WAIT
        # A sleep and not an epoll wait, and for events of the window only: under a rule on every system
        # call our own turns would keep both going.
        while time.monotonic() < deadline and any(
            not ledger.is_after(event) for event in self.stages.correlator.unfinished()
        ):
            time.sleep(_FINISH_WAIT)
            self._turn()
        # No turn after this: it would read records that no hook has seen, and call them unjoined.
        counts = self._counts()
        if drops is not None:
            counts = counts._replace(netlink_drops=drops - self._base.netlink_drops)
        if self._base.status_lost is not None and (lost := self._lost()) is not None:
            counts = counts._replace(status_lost=(lost - self._base.status_lost) & 0xFFFFFFFF)
        # The programs stay attached till the account is out: the kernel takes some seconds to let go of them all.
        now = time.monotonic()
        if self._capture is not None:
            self._capture.end(now, now + self._wall, counts)
        summary = self.stages.finish(now, now + self._wall, counts)
        self._epoll.close()
        return summary

    def _signs(self) -> tuple[int, ...]:
        """What changes with a loss and takes no system call to read, which would be audited under some rules."""
        counters = self._loaded.counters()
        lost = [value for name, value in counters.items() if name.startswith(("drop_", "lost_", "limited_"))]
        return (self._socket.overflows, *lost)

    def _dropped(self) -> int:
        """How many finished records there was no room for on their way to us."""
        return self._socket.drops() + self._queue_lost()

    def _queue_lost(self) -> int:
        """What the kernel's queue to the audit daemon lost, where that is on our way: we are he, or fed by him."""
        if self._socket.way == "multicast" or not self._loaded.counts_lost:
            return 0
        return self._loaded.counters()["lost_queue"]

    def _lost(self) -> int | None:
        """The kernel's `lost`; None where we may not ask (any more)."""
        try:
            return self._control.status().lost
        except EnricherError:
            return None

    def _counts(self) -> KernelCounts:
        """What was counted since the run began."""
        counters = self._loaded.counters()
        # AFTER_SERVING is a fact about the task and not a failure, hence no fail_nsproxy.
        failed = {name: counters[name.replace("failed_", "fail_")] for name in FAILED_AT}
        lost = counters if self._loaded.counts_lost else dict[str, int]()
        now = KernelCounts(
            netlink_drops=self._dropped(),
            contexts_dropped=counters["drop_context"],
            tallies_dropped=counters["drop_tally"],
            facts_dropped=counters["drop_fact"] + counters["drop_namespace"] + counters["drop_users"],
            hook_records=counters["records"],
            counted=counters["counted"],
            uncounted=counters["uncounted"],
            hook_failures=sum(failed.values()),
            unknown_messages=counters["unknown_messages"],
            truncated=self._socket.truncated,
            changes_limited=counters["limited_change"],
            refusals_limited=counters["limited_refused"],
            foreign=self._socket.foreign,
            hook_misses=self._loaded.missed(),
            facts_missed=self._loaded.missed_facts(),
            rate_limit=lost.get("lost_rate_limit"),
            backlog=lost.get("lost_backlog"),
            memory=lost.get("lost_memory"),
            auditd_queue=lost.get("lost_queue") if self._socket.way == "multicast" else None,
            lost_other=lost.get("lost_other"),
            lost_unseen=self._loaded.missed_losses(),
            **failed,
        )
        return counts_since(self._base, now)
