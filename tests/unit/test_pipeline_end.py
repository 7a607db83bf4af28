# SPDX-License-Identifier: Apache-2.0
"""The end of a run over a host of our own: the last nonce, what is waited for, and what counts as missing."""

from __future__ import annotations

import os

import pytest

from enricher.correlate import join
from enricher.errors import AuditUnavailable, OutputFailed
from enricher.model import Event, Record
from enricher.runtime.pipeline import Pipeline
from enricher.runtime.selftest import Proof, Trial
from enricher.runtime.stages import Opening
from tests.unit.fake_host import Host, Run, host, run, started
from tests.unit.sample_stream import EOE, context, record, records, stamp, tally

__all__ = ["host", "run"]  # fixtures

US = os.getpid()
NOW = 50_000_000_000  # nanoseconds since boot when the host begins
SILENT = Trial(Proof.SILENT, None, [], [], [])


def test_account_between_two_nonces(run: Run, host: Host) -> None:
    run.turns(host.event, lambda: host.event(US))
    host.script = [host.event]
    summary = run.pipeline.finish()
    assert b"op=audit-enricher-stop" in host.sent[0]
    assert (summary.finished, summary.delivered, summary.joined) == (5, 5, 5)
    assert (summary.balanced, summary.marked, summary.self_events, summary.events) == (True, True, 2, 3)
    assert run.events[2].self_caused


def test_what_follows_the_last_nonce_is_not_of_the_run(run: Run, host: Host) -> None:
    host.script = [lambda: host.finish(*records(201, 1300, EOE)), lambda: host.finish(record(202))]
    run.turns(lambda: host.finish(record(101), context(101)))
    host.serial = 150
    summary = run.pipeline.finish()
    assert (summary.delivered, summary.after) == (2, 0)
    assert summary.balanced


def test_events_of_the_run_that_are_open_get_their_time(run: Run, host: Host) -> None:
    first, last = records(101, 1300, EOE)
    run.turns(lambda: host.finish(first, context(101)))
    host.serial = 150
    host.script = [lambda: host.finish(last, tally(101, 2))]
    host.log.clear()
    summary = run.pipeline.finish()
    event = next(event for event in run.events if event.stamp == stamp(101))
    assert event.complete
    assert summary.balanced


def test_events_after_the_run_are_not_waited_for(run: Run, host: Host) -> None:
    host.finish(record(201), context(201, NOW))
    summary = run.pipeline.finish()
    assert host.slept == []
    assert (summary.delivered, summary.after, summary.balanced) == (1, 1, True)


def test_the_end_does_not_last(run: Run, host: Host) -> None:
    run.turns(lambda: host.finish(record(101), context(101, NOW)))
    host.serial = 150
    before = host.now
    summary = run.pipeline.finish()
    assert 2.0 <= host.now - before <= 2.2
    (event,) = [event for event in run.events if event.stamp == stamp(101)]
    assert (event.complete, event.reason) == (False, join.STOPPED)
    assert summary.incomplete_events == 1


def test_drops_after_the_last_nonce_are_not_of_the_run(run: Run, host: Host) -> None:
    def burst() -> None:
        host.dropped += 7

    run.turns(lambda: host.finish(record(101), context(101)))
    host.script = [burst]
    host.serial = 150
    assert run.pipeline.finish().counts.netlink_drops == 0


def test_drops_are_told(run: Run, host: Host) -> None:
    host.dropped = 7
    summary = run.pipeline.finish()
    assert summary.counts.netlink_drops == 7
    assert not summary.balanced


def test_a_nonce_that_cannot_be_sent_does_not_cost_the_account(run: Run, host: Host) -> None:
    run.turns(host.event)
    host.refusal = AuditUnavailable("the kernel did not answer")
    summary = run.pipeline.finish()
    assert (summary.delivered, summary.balanced, summary.marked) == (2, True, False)


def test_a_nonce_that_is_lost_still_bounds_the_run(run: Run, host: Host) -> None:
    """The hook has seen it."""
    host.delivers = False
    host.dropped = 1
    summary = run.pipeline.finish()
    assert (summary.marked, summary.balanced) == (True, False)


def test_a_nonce_that_is_dropped_is_sent_again(run: Run, host: Host) -> None:
    """What was dropped before it is missing, and not perhaps on its way."""

    def full() -> None:
        host.delivers = False
        host.event()

    def room() -> None:
        host.dropped += 3  # the event's two records and the nonce's
        host.delivers = True

    run.turns(host.event, full)
    host.script = [room]
    summary = run.pipeline.finish()
    assert len(host.sent) == 2
    assert (summary.missing, summary.counts.netlink_drops, summary.marked) == (3, 3, True)
    assert summary.finished == summary.delivered + 3
    assert not summary.balanced


def test_the_bringer_ends_while_the_nonce_is_on_its_way(run: Run, host: Host) -> None:
    """As auditd does, which signals its plugins first: what it did not hand on any more is behind the run."""
    run.turns(host.event, lambda: host.finish(record(102), context(102)))

    def end() -> None:
        host.ended = True

    host.serial = 102
    host.delivers = False
    host.event()
    host.script = [end]
    summary = run.pipeline.finish()
    assert len(host.sent) == 1
    assert (summary.finished, summary.delivered, summary.missing) == (3, 3, 0)
    assert (summary.marked, summary.balanced) == (False, True)
    assert run.pipeline.stages.ledger.stopped_at == 102


def test_the_bringer_ends_behind_the_nonce(run: Run, host: Host) -> None:
    run.turns(host.event)
    host.script = [lambda: setattr(host, "ended", True)]
    summary = run.pipeline.finish()
    assert (summary.marked, summary.balanced) == (True, True)


def test_what_came_since_the_nonce_is_given_out_where_nobody_else_has_it(run: Run, host: Host) -> None:
    """The audit daemon's socket has been sent it, and the kernel keeps nothing that was sent."""
    host.left = [*records(201, 1300, EOE), record(202)]
    host.messages = [context(201), tally(201, 2), context(202)]
    host.serial = 150
    summary = run.pipeline.finish()
    assert [event.stamp for event in run.events][-2:] == [stamp(201), stamp(202)]
    assert (summary.after, summary.balanced) == (3, True)
    assert host.log.index("leave") < host.log.index("epoll closed")


def test_what_comes_for_ever_is_left(run: Run, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the slot could not be given back."""
    host.left = []
    taken: list[int] = []

    def receive() -> list[Record]:
        host.now += 0.01
        taken.append(host.serial)
        host.event()
        done, host.queue = host.queue, []
        return done

    host.serial = 150
    monkeypatch.setattr(host, "receive", receive)
    before = host.now
    run.pipeline.finish()
    assert 2.0 <= host.now - before <= 4.5
    assert taken


def test_a_nonce_that_the_kernels_queue_dropped_is_sent_again(run: Run, host: Host) -> None:
    """Where that queue is on our way."""
    host.way = "daemon"
    host.delivers = False

    def room() -> None:
        host.counted["lost_queue"] += 1
        host.delivers = True

    host.script = [room]
    summary = run.pipeline.finish()
    assert (len(host.sent), summary.missing, summary.counts.netlink_drops) == (2, 1, 1)
    assert summary.marked


def test_without_proof_none_is_sent(host: Host) -> None:
    run = Run(host, SILENT)
    run.turns(host.event)
    # The rings are ahead of the socket; nothing says that these were lost.
    run.turns(lambda: setattr(host, "delivers", False), host.event)
    summary = run.pipeline.finish()
    assert host.sent == []
    assert (summary.delivered, summary.missing, summary.marked) == (2, 0, False)
    assert summary.balanced


def test_a_failing_output_is_not_taken_for_a_lost_nonce(host: Host) -> None:
    def fail(_: list[Event]) -> None:
        raise OutputFailed("no space left")

    pipeline = Pipeline(started(host), fail, Opening(US, "0badcafe", 100))
    with pytest.raises(OutputFailed):
        pipeline.finish()
