# SPDX-License-Identifier: Apache-2.0
"""The loop: receive a batch, drain the rings, join, hand the finished events on.

Owns the order of these steps (the join rests on it), the waiting, and the throttle against our own
noise. Never formats or writes: finished events go to a callable.
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, Final

from enricher.correlate.join import BEFORE_START, BEGUN_BEFORE_START, Correlator
from enricher.correlate.ledger import KernelCounts, Ledger, Summary
from enricher.errors import EnricherError
from enricher.runtime.selftest import Proof, Trial, new_nonce, send_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.model import Event
    from enricher.runtime.startup import Started

OWN_NOISE_WAIT: Final = 0.25
OWN_NOISE_WAIT_MAX: Final = 1.0
"""Seconds to let our own noise gather: after a batch that held records which we caused ourselves.

Under a rule on every system call each turn of the loop makes some records, which wake the next
turn. Waiting bounds that to a few turns a second, and doubling the wait while nobody else acts to
one, so that an idle host becomes idle again. The first also follows a batch in which others have a
part, because they feed on their own noise as well: without auditd the kernel prints every record,
and the journal that reads it is audited in turn. A full batch is work and is never made to wait.
"""
_PENDING_WAIT: Final = 0.05
_PARKED_WAIT: Final = 0.001
_LONGEST_WAIT: Final = 3600.0  # epoll takes milliseconds in 31 bits: some 24 days
_FINISH_WAIT: Final = 0.05
_DRAIN_WAIT: Final = 2.0
_EDGE: Final = select.EPOLLIN | select.EPOLLET


def pause_after(events: list[Event], before: float) -> float:
    """Seconds to wait after a batch of finished events, given the wait after the batch before it."""
    own = sum(event.self_caused for event in events)
    if not own:
        return 0.0
    if own < len(events) or not before:
        return OWN_NOISE_WAIT
    return min(2 * before, OWN_NOISE_WAIT_MAX)


class Pipeline:
    """One run over started sources. `emit` gets every batch of finished events, in order."""

    def __init__(self, started: Started, emit: Callable[[list[Event]], None]) -> None:
        self._socket = started.socket
        self._loaded = started.loaded
        self._control = started.control
        self._emit = emit
        self._pid = os.getpid()
        self._needle = b" pid=%d " % self._pid
        self.correlator = Correlator()
        self.ledger = Ledger(started.trial.serial)
        self._pause = 0.0  # how long to let our own noise gather before the next batch, in seconds
        self._proved = started.trial.proof is Proof.PROVED
        self._epoll = select.epoll()
        self._epoll.register(self._socket.fileno(), select.EPOLLIN)
        for fd in self._loaded.wake_fds():
            # Edge-triggered: contexts are committed without a wake-up and wait for their record. Only
            # what the kernel side sends with one (the end of an event without EOE) must end our sleep.
            self._epoll.register(fd, _EDGE)
        self._take(started.trial)

    def wake_on(self, fd: int) -> None:
        """Also end the wait when `fd` becomes readable: a signal's pipe. Once, since nobody reads it."""
        self._epoll.register(fd, _EDGE)

    def run(self, stop: Callable[[], bool], deadline: float | None = None) -> None:
        """Work until `stop` says so or the monotonic clock passes `deadline`."""
        while not stop():
            # No clock where none is needed: it is a system call on some machines, and audited.
            wait = None if deadline is None else deadline - time.monotonic()
            if wait is not None and wait <= 0:
                return
            if self._pause:
                # Not an epoll wait: our own records are already there and would end it at once.
                time.sleep(self._pause if wait is None else min(self._pause, wait))
            else:
                self._epoll.poll(self._bounded(wait))
            self._turn()

    def _bounded(self, wait: float | None) -> float:
        if self._loaded.parked:
            return _PARKED_WAIT
        longest = _PENDING_WAIT if len(self.correlator) else _LONGEST_WAIT
        return longest if wait is None else min(longest, wait)

    def _turn(self) -> None:
        """One batch."""
        records = self._socket.receive()
        contexts, tallies = self._loaded.drain()
        parked = self._loaded.parked
        done = self.correlator.feed(records, contexts, tallies, time.monotonic(), parked=parked)
        self._give(done)
        if done:
            self._pause = pause_after(done, self._pause) if len(records) < self._socket.batch else 0.0
        elif not records:
            self._pause = 0.0

    def _take(self, trial: Trial) -> None:
        parked = self._loaded.parked
        done = self.correlator.feed(
            trial.records, trial.contexts, trial.tallies, time.monotonic(), parked=parked
        )
        self._give(done)

    def _give(self, done: list[Event]) -> None:
        pid = self._pid
        for event in done:
            context = event.context
            if context is not None:
                event.self_caused = context.pid == pid and context.is_subject
            else:
                # By the kernel's own words only: what stands in msg='...' is the sender's.
                event.self_caused = any(
                    self._needle in record.text.partition(b" msg='")[0] for record in event.records
                )
            if event.malformed:
                # The only time it has is that of its receipt; the kernel's serials begin at 1.
                event.stamp = b"%d.%03d:0" % divmod(time.time_ns() // 1_000_000, 1000)
            elif self.ledger.is_before(event):
                event.complete = False
                event.reason = BEFORE_START if context is None else BEGUN_BEFORE_START
        self.ledger.account(done)
        orphans = self.correlator.orphan_contexts
        if orphans:
            self.ledger.account_unread(orphans)
            orphans.clear()
        if done:
            self._emit(done)

    def _last_trial(self) -> Trial | None:
        if not self._proved:
            return None
        try:
            return send_and_wait(new_nonce(), b"stop", self._control, self._socket, self._loaded, self._pid)
        except EnricherError:
            return None  # the account is worth more than its exact end, and says that it has none

    def finish(self) -> Summary:
        """Close the window with a second nonce, give out what is left, and add up.

        Where the nonce cannot be sent or is lost, the window ends with what was read.
        """
        trial = self._last_trial()
        drops: int | None = None
        if trial is not None:
            if trial.serial is not None:
                self.ledger.stop_at(trial.serial)
                drops = self._socket.drops()  # what is dropped from now on is not of the run
            self._take(trial)
        deadline = time.monotonic() + _DRAIN_WAIT
        # A sleep and not an epoll wait, and for events of the window only: under a rule on every system
        # call our own turns would keep both going.
        while time.monotonic() < deadline and any(
            not self.ledger.is_after(event) for event in self.correlator.unfinished()
        ):
            time.sleep(_FINISH_WAIT)
            self._turn()
        # No turn after this: it would read records that no hook has seen, and call them unjoined.
        counts = self._counts(drops)
        self._loaded.detach()
        self._give(self.correlator.finish(time.monotonic()))
        self._epoll.close()
        return self.ledger.summary(counts)

    def _counts(self, netlink_drops: int | None) -> KernelCounts:
        counters = self._loaded.counters()
        ring_drops = counters["drop_context"] + counters["drop_tally"]
        # AFTER_SERVING is a fact about the task and not a failure, hence no fail_nsproxy.
        failures = sum(
            value
            for name, value in counters.items()
            if name.startswith("fail_") and name not in {"fail_nsproxy", "fail_queue_unknown"}
        )
        if netlink_drops is None:
            netlink_drops = self._socket.drops()
        return KernelCounts(netlink_drops, ring_drops, self._loaded.missed(), failures, counters["records"])
