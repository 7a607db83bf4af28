# SPDX-License-Identifier: Apache-2.0
"""The loop over a host of our own: the order of its steps, its waits, what it says of events, its figures."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

import pytest

from enricher.correlate import join
from enricher.errors import AuditUnavailable, EnricherError
from enricher.model import FAILED_AT, ContextFlag, Event, Record, TallyFlag
from enricher.runtime.pipeline import GATHER, OWN_NOISE_WAIT, OWN_NOISE_WAIT_MAX, Pipeline, pause_after
from enricher.runtime.selftest import Proof, Trial
from enricher.runtime.stages import Opening
from enricher.sources.audit.control import AuditStatus
from tests.unit.fake_host import OTHER, RING_FDS, SOCKET_FD, Host, Run, host, run, started
from tests.unit.sample_stream import EOE, context, record, records, stamp, tally

__all__ = ["host", "run"]  # fixtures

US = os.getpid()
NOW = 50_000_000_000  # nanoseconds since boot when the host begins
SILENT = Trial(Proof.SILENT, None, [], [], [])


def once(host: Host) -> None:
    """An event of another process."""
    host.event(OTHER)


# -- a turn ------------------------------------------------------------------------------------------


def test_receive_then_drain(run: Run, host: Host) -> None:
    """The join rests on this order: contexts of every record that was received, or newer ones."""
    (event,) = run.turns(host.event)
    assert event.complete
    assert host.log == ["receive", "drain"]


def test_what_the_start_has_read_comes_first(host: Host) -> None:
    trial = Trial(Proof.PROVED, 100, records(101, 1300, EOE), [context(101)], [tally(101, 2)])
    run = Run(host, trial)
    assert [(event.stamp, event.complete) for event in run.events] == [(stamp(101), True)]
    assert run.pipeline.stages.ledger.delivered == 2


def test_before_the_start(host: Host) -> None:
    """Finished before the programs were proved: not complete, whatever the hook counted of it."""
    old = [record(98, EOE), *records(99, 1300, EOE)]
    run = Run(host, Trial(Proof.PROVED, 100, old, [context(99)], [tally(99, 2)]))
    assert [(event.complete, event.reason) for event in run.events] == [
        (False, join.BEFORE_START),
        (False, join.BEGUN_BEFORE_START),
    ]
    assert (run.pipeline.stages.ledger.before, run.pipeline.stages.ledger.delivered) == (3, 0)


def test_rings_parked_at_the_start_are_waited_for(host: Host) -> None:
    host.parked = True
    run = Run(host, Trial(Proof.PROVED, 100, records(101, 1300, EOE), [], []))
    assert run.events == []
    host.finish(context(101), tally(101, 2))
    (event,) = run.turns(None)
    assert (event.complete, event.context is not None) == (True, True)


def test_malformed_record_gets_the_time_of_its_receipt(run: Run, host: Host) -> None:
    (event,) = run.turns(lambda: host.finish(Record(1300, b"nonsense")))
    sec, _, rest = event.stamp.partition(b".")
    assert (int(sec) > 1_700_000_000, rest[3:]) == (True, b":0")
    assert run.pipeline.stages.ledger.malformed == 1


def test_lost_events_are_accounted_for_though_nothing_is_given_out(run: Run, host: Host) -> None:
    """And do not gather: a socket that brings nothing would fill the memory with contexts."""
    host.delivers = False
    assert run.turns(host.event, *[None] * 120) == []
    assert (len(run.pipeline.stages.correlator), run.pipeline.stages.correlator.orphan_contexts) == (0, [])
    assert (run.pipeline.stages.ledger.missing, run.pipeline.stages.ledger.finished) == (2, 2)


def test_what_a_rule_may_have_cut_short_is_asked_for(run: Run, host: Host) -> None:
    """After a while, again after a while, and no more once its count is here."""
    inside = context(host.serial + 1, record_type=1305)
    assert run.turns(lambda: host.finish(record(host.serial + 1, 1305), inside)) == []
    assert "settle" not in host.log
    began = host.now
    while host.log.count("settle") < 2:
        assert run.turns(None) == []
    assert 0.4 < host.now - began < 1
    (event,) = run.turns(lambda: host.finish(tally(host.serial + 1, 1, flags=TallyFlag.ORPHAN)))
    assert event.complete
    asked = host.log.count("settle")
    run.turns(*[None] * 20)
    assert host.log.count("settle") == asked


# -- our own doing -----------------------------------------------------------------------------------


def test_own_events_are_marked(run: Run, host: Host) -> None:
    done = run.turns(lambda: host.event(US), host.event)
    assert [event.self_caused for event in done] == [True, False]


def test_a_bystander_in_an_interrupt_has_caused_nothing(run: Run, host: Host) -> None:
    (event,) = run.turns(lambda: host.event(US, 1324, flags=ContextFlag.INTERRUPT))
    assert not event.self_caused


@pytest.mark.parametrize(
    ("body", "own"),
    [
        (b"ppid=1 pid=%d auid=0", True),
        (b"pid=%d uid=0 auid=0 msg='op=x'", True),
        (b"ppid=%d pid=4711 auid=0", False),
        (b"pid=4711 uid=0 msg='op=x pid=%d '", False),  # the sender's words, not the kernel's
        (b"pid=%d1 uid=0 auid=0", False),
    ],
)
def test_without_a_context_the_kernels_own_words_decide(run: Run, host: Host, body: bytes, own: bool) -> None:  # noqa: FBT001
    made = record(101, EOE, body % US)
    (event,) = run.turns(lambda: host.finish(made))
    assert event.self_caused is own


# -- waits -------------------------------------------------------------------------------------------


def made(who: str) -> list[Event]:
    """One event for each letter: o for our own."""
    events = [Event(b"1.000:1", 0.0) for _ in who]
    for event, letter in zip(events, who, strict=True):
        event.self_caused = letter == "o"
    return events


@pytest.mark.parametrize(
    ("events", "before", "after"),
    [
        (made("."), 1.0, 0.0),
        (made("."), GATHER, 0.0),
        (made(".."), 0.0, GATHER),
        (made(".."), GATHER, GATHER),
        (made("oo"), GATHER, OWN_NOISE_WAIT),
        (made("o"), 0.0, OWN_NOISE_WAIT),
        (made("oo"), OWN_NOISE_WAIT, 2 * OWN_NOISE_WAIT),
        (made("o"), OWN_NOISE_WAIT_MAX, OWN_NOISE_WAIT_MAX),
        (made("o."), OWN_NOISE_WAIT_MAX, OWN_NOISE_WAIT),
    ],
)
def test_pause_after_a_batch(events: list[Event], before: float, after: float) -> None:
    assert pause_after(events, before) == after


def test_own_noise_is_slept_upon_and_work_is_not(run: Run, host: Host) -> None:
    def own() -> None:
        host.event(US)

    run.turns(own, own, own, own, host.event, host.event)
    assert host.slept == [0.25, 0.5, 1.0, 1.0]
    assert len(host.waits) == 2


def test_events_gather_while_more_than_one_comes_at_a_time(run: Run, host: Host) -> None:
    """One that comes alone waits for nobody, and nor does what has filled a batch."""

    def two() -> None:
        host.event()
        host.event()

    done = run.turns(host.event, two, two, host.event, host.event)
    assert len(done) == 7
    assert (host.slept, len(host.waits)) == ([GATHER, GATHER], 3)
    host.batch = 4
    run.turns(two, None)
    assert len(host.slept) == 2


def test_silence_ends_the_pause(run: Run, host: Host) -> None:
    run.turns(lambda: host.event(US), None, None)
    assert (len(host.slept), len(host.waits)) == (1, 2)


def test_a_full_batch_is_never_made_to_wait(run: Run, host: Host) -> None:
    host.batch = 2
    run.turns(lambda: host.event(US), None)
    assert host.slept == []


def test_waits(run: Run, host: Host) -> None:
    """An hour with nothing to do, a tenth of a second with events open, a millisecond for a parked ring."""
    run.turns(lambda: host.finish(record(101), context(101)), None)
    assert host.waits == [3600.0, 0.05]
    host.hidden_for = 1
    run.turns(None, None)
    assert host.waits[2:] == [0.05, 0.001]


def test_a_loss_that_is_to_be_told_bounds_the_waits(run: Run, host: Host) -> None:
    """And nothing else does, once it is told: the counters are looked at when there is a reason to wake."""
    run.turns(lambda: setattr(host, "dropped", 3))
    assert run.losses() == []
    host.now += 2
    run.turns(None)  # the counters are read now
    before = host.now
    host.waits.clear()
    run.turns(*[None] * 8)
    assert [loss.lost for loss in run.losses()] == [3]
    assert host.waits[:6] == [1.0] * 6
    assert host.waits[7:] == [3600.0]
    assert host.now - before >= 6.0


@pytest.mark.parametrize(("loses", "least", "most"), [(False, 0, 0), (True, 9, 11)])
def test_counts_are_asked_for_at_a_sign(run: Run, host: Host, loses: bool, least: int, most: int) -> None:  # noqa: FBT001
    """And not more than once a second: the socket's is a system call."""
    asked: list[float] = []
    real = host.drops

    def drops() -> int:
        asked.append(host.now)
        return real()

    def later() -> None:
        host.now += 0.1
        host.counted["drop_tally"] += loses
        host.event()

    host.drops = drops  # type: ignore[method-assign]
    for _ in range(100):
        run.turns(later)
    assert least <= len(asked) <= most


def test_a_socket_that_stays_full_is_asked_again(
    run: Run, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Host, "overflows", 1)  # the kernel tells of the first drop only
    for host.dropped in range(2, 42, 2):
        run.turns(lambda: setattr(host, "now", host.now + 1.0))
    assert sum(loss.lost for loss in run.losses()) >= 2 * 13


def test_deadline_bounds_the_waits_and_ends_the_run(run: Run, host: Host) -> None:
    run.pipeline.run(lambda: False, host.now + 10_000.0)
    assert host.now == pytest.approx(10_050.0)
    assert [round(wait) for wait in host.waits] == [3600, 3600, 2800]
    host.event(US)
    run.pipeline.run(lambda: False, host.now + 0.1)
    assert host.slept == [pytest.approx(0.1)]


def test_a_deadline_is_kept_under_load(run: Run, host: Host) -> None:
    """The socket is never empty: each wait ends at once, and time passes with the work."""
    host.batch = 2

    def stop() -> bool:
        host.now += 0.5
        host.event()
        return False

    run.pipeline.run(stop, host.now + 10)
    assert 18 <= len(run.events) <= 20


def test_what_ends_a_wait(run: Run, host: Host) -> None:
    """The rings and the signal's pipe by their edge only: nobody empties them on waking."""
    run.pipeline.wake_on(2000)
    edge = select.EPOLLIN | select.EPOLLET
    assert host.registered == {SOCKET_FD: select.EPOLLIN, RING_FDS[0]: edge, RING_FDS[1]: edge, 2000: edge}


def test_the_clock_of_others_is_set_once_a_turn(run: Run, host: Host) -> None:
    """Who asks it for every event makes no system call by that."""
    run.turns(None, None)
    assert run.pipeline.clock.monotonic() == host.now == 50.0 + 2 * 3600


# -- the figures -------------------------------------------------------------------------------------


def test_figures_of_the_kernel_side(run: Run, host: Host) -> None:
    host.counted |= {"drop_context": 1, "drop_tally": 2, "fail_text": 10, "fail_track": 20, "records": 99}
    host.counted |= {"fail_nsproxy": 1000, "fail_queue_unknown": 1000, "queue_other": 1000, "orphans": 1000}
    host.skipped = 3
    counts = run.pipeline.finish().counts
    assert (counts.contexts_dropped, counts.tallies_dropped) == (1, 2)
    assert (counts.hook_failures, counts.hook_misses, counts.hook_records) == (30, 3, 99)
    assert (counts.failed_text, counts.failed_track) == (10, 20)


@pytest.mark.parametrize("place", FAILED_AT)
def test_each_failure_of_the_kernel_side_names_its_place(run: Run, host: Host, place: str) -> None:
    host.counted[place.replace("failed_", "fail_")] = 7
    counts = run.pipeline.finish().counts
    assert {name: count for name, count in counts._asdict().items() if count == 7} == {
        "hook_failures": 7,
        place: 7,
    }


# -- counts and losses -------------------------------------------------------------------------------


def test_each_counter_has_its_place(run: Run, host: Host) -> None:
    places = {
        "drop_context": "contexts_dropped",
        "drop_tally": "tallies_dropped",
        "records": "hook_records",
        "counted": "counted",
        "uncounted": "uncounted",
        "lost_rate_limit": "rate_limit",
        "lost_backlog": "backlog",
        "lost_memory": "memory",
        "lost_queue": "auditd_queue",
        "lost_other": "lost_other",
        "unknown_messages": "unknown_messages",
        "drop_fact": "facts_dropped",
        "limited_change": "changes_limited",
        "limited_refused": "refusals_limited",
    }
    host.counted |= {name: 10 + i for i, name in enumerate(places)}
    host.dropped, host.skipped, host.truncated, host.foreign = 31, 32, 33, 34
    host.skipped_losses, host.skipped_facts = 35, 36
    counts = run.pipeline.finish().counts._asdict()
    found = {name: counts.pop(member) for name, member in places.items()}
    assert found == {name: 10 + i for i, name in enumerate(places)}
    assert counts == {
        "netlink_drops": 31,
        "hook_misses": 32,
        "truncated": 33,
        "foreign": 34,
        "lost_unseen": 35,
        "facts_missed": 36,
        "hook_failures": 0,
        **dict.fromkeys(FAILED_AT, 0),
        "status_lost": None,
    }


@pytest.mark.parametrize("way", ["daemon", "plugin"])
def test_what_the_kernel_had_no_room_for_is_lost_where_it_has_the_only_copy(host: Host, way: str) -> None:
    """The queue to the audit daemon is on the way to us then."""
    host.way = way
    host.counted["lost_queue"], host.dropped = 1000, 3
    run = Run(host, Trial(Proof.PROVED, 100, [], [], [], drops=3))
    run.turns(host.event)

    def overflow() -> None:
        host.delivers = False
        host.event()
        host.delivers = True
        host.counted["lost_queue"] += 2

    run.turns(overflow)
    summary = run.pipeline.finish()
    assert (summary.missing, summary.explained, summary.counts.auditd_queue) == (2, 2, None)
    assert [(loss.cause, loss.lost) for loss in run.losses()] == [("netlink", 2)]
    assert not summary.balanced


def test_what_was_counted_before_the_run_is_not_of_it(host: Host) -> None:
    """But what the socket dropped while the nonce was under way is."""
    host.counted |= dict.fromkeys(host.counted, 1000)
    host.dropped, host.skipped, host.truncated, host.foreign = 12, 1000, 1000, 1000
    run = Run(host, Trial(Proof.PROVED, 100, [], [], [], drops=10))
    host.counted["lost_backlog"] += 1
    counts = run.pipeline.finish().counts
    assert (counts.netlink_drops, counts.backlog) == (2, 1)
    others = counts._replace(netlink_drops=0, backlog=0)
    assert set(others) == {0, None}
    assert [loss.lost for loss in run.losses()] == [2, 1]


def test_a_kernel_whose_losses_cannot_be_counted(host: Host) -> None:
    host.counts_lost, host.skipped = False, None
    counts = Run(host).pipeline.finish().counts
    assert (counts.rate_limit, counts.backlog, counts.memory, counts.lost_other, counts.hook_misses) == (
        None,
    ) * 5


def test_the_account_on_demand_changes_nothing(run: Run, host: Host) -> None:
    run.turns(host.event)
    host.dropped = 5
    for _ in range(2):
        summary = run.pipeline.summary()
        assert (summary.delivered, summary.marked, summary.counts.netlink_drops) == (2, False, 5)
    assert run.losses() == []
    assert run.pipeline.finish().delivered == 3
    assert [loss.lost for loss in run.losses()] == [5]


def status(lost: list[int | EnricherError]) -> Callable[[], AuditStatus]:
    """`AuditControl.status`, whose `lost` is these in turn."""

    def ask() -> AuditStatus:
        answer = lost.pop(0)
        if isinstance(answer, EnricherError):
            raise answer
        return AuditStatus(1, 1, 812, 0, 8192, answer, 0, 127, 15000, 0)

    return ask


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ([7, 12], 5),
        ([0xFFFFFFFE, 3], 5),  # 32 bits in the kernel
        ([7, AuditUnavailable("no answer")], None),
        ([AuditUnavailable("no answer")], None),
    ],
)
def test_the_kernels_own_figure(host: Host, lost: list[int | EnricherError], told: int | None) -> None:
    host.status = status(lost)  # type: ignore[attr-defined]
    begun = started(host)._replace(status=AuditStatus(1, 1, 812, 0, 8192, 0, 0, 127, 15000, 0))
    pipeline = Pipeline(begun, lambda _: None, Opening(US, "0badcafe", 100))
    assert pipeline.finish().counts.status_lost == told
    assert lost == []
