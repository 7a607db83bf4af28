# SPDX-License-Identifier: Apache-2.0
"""What the service asks of the pipeline beyond a run: serving others, bounded waits, how far it has come, no hook."""

from __future__ import annotations

import os
import select

from enricher.model import Event
from enricher.runtime.pipeline import TOGETHER, Pipeline
from enricher.runtime.selftest import Proof, Trial
from enricher.runtime.stages import Opening
from tests.unit.fake_host import Host, Run, host, run, started
from tests.unit.sample_stream import EOE, context, record, records, stamp

__all__ = ["host", "run"]  # fixtures

US = os.getpid()


def test_others_are_served_between_turns(run: Run, host: Host) -> None:
    """Also while our own noise is slept upon, and without a wait of their own."""
    served: list[int] = []
    run.pipeline.serve(77, lambda: served.append(len(host.log)))
    assert host.registered[77] == select.EPOLLIN, "level-triggered: what one call leaves is for the next"
    host.ready = [77]
    run.turns(None)
    assert served == [2], "after the turn"
    run.turns(lambda: host.event(US))
    host.ready = [77]
    run.turns(None)
    assert (len(host.slept), len(served)) == (1, 2)
    run.turns(None)
    assert len(served) == 2


def test_the_rest_of_an_event_is_waited_for_but_not_where_our_own_calls_are_audited(
    run: Run, host: Host
) -> None:
    host.ready = [5]  # not one that is served
    run.turns(None)
    assert host.slept == [TOGETHER]
    host.ready = []
    run.turns(lambda: host.event(US), None)
    before = len(host.slept)  # the wait for our own noise is over, and nothing came meanwhile
    host.ready = [5]
    run.turns(None)
    assert len(host.slept) == before


def test_the_longest_wait_is_settable(run: Run, host: Host) -> None:
    run.pipeline.longest_wait = 15.0
    run.turns(None)
    assert host.waits == [15.0]


def test_without_a_kernel_side_the_record_alone_marks_both_ends(host: Host) -> None:
    """Start and stop were read from netlink: what lies between is known to be all there was."""
    host.hook_sees = False
    begun = started(host, Trial(Proof.HOOK_MISSED, 100, [], [], []))._replace(candidate=None)
    given: list[Event] = []
    pipeline = Pipeline(begun, given.extend, Opening(US, "0badcafe", 100, "no context: no hook"))
    host.script = [host.event]
    left = iter([False, True])
    pipeline.run(lambda: next(left))
    summary = pipeline.finish()
    assert len(host.sent) == 1
    assert (summary.marked, summary.delivered, summary.joined) == (True, 3, 0)
    assert {(event.complete, event.reason) for event in given} == {(None, "no context: no hook")}


def test_how_far_the_run_has_come(run: Run, host: Host) -> None:
    stages = run.pipeline.stages
    assert stages.settled == 99, "what is before the start is not of the run"
    run.turns(lambda: host.finish(*records(42, 1300, EOE)))
    assert stages.settled == 99
    run.turns(host.event)
    assert stages.settled == 101

    def begin() -> None:
        host.serial += 1
        host.finish(record(host.serial), context(host.serial, int(host.now * 1e9)))  # no count yet

    run.turns(begin, host.event)
    assert [event.stamp for event in run.events] == [stamp(42), stamp(101), stamp(103)]
    assert stages.settled == 101
