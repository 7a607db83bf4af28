# SPDX-License-Identifier: Apache-2.0
"""The stages as one piece: LOST events above all, each loss told once, in its time, with what is known of it."""

from __future__ import annotations

import pytest

from enricher.correlate import join
from enricher.enrich.native import NativeBuilder
from enricher.enrich.shape import NativeEvent
from enricher.model import FAILED_AT, Batch, Context, Event, KernelCounts, Loss, Notice, Record, Tally
from enricher.runtime.stages import CAUSES, LIMITED, TOLD_AFTER, Cause, Opening, Stages
from tests.unit.sample_events import HOST
from tests.unit.sample_facts import member
from tests.unit.sample_stream import MS, alone, context, record, records, stamp, tally

US = 4242
WALL = 1_772_366_400.5
START = 50.0
KNOWN = {"netlink", "rate_limit"}
"""Causes of losses of records that the hook has seen."""


class Run:
    """Stages, and what they gave out."""

    def __init__(self, start: int | None = 100, degraded: str = "") -> None:
        self.given: list[list[Event]] = []
        self.now = START
        self.counts = KernelCounts()
        self.stages = Stages(Opening(US, "0badcafe", start, degraded), self.given.append)

    def take(
        self, *items: Record | Context | Tally, after: float = 0.0, counted: int = 0, **counts: int
    ) -> list[Event]:
        """A batch, so many seconds later, perhaps with the counts read; returns what it gave out."""
        self.now += after
        before = len(self.given)
        batch = Batch(
            [item for item in items if isinstance(item, Record)],
            [item for item in items if isinstance(item, Context)],
            [item for item in items if isinstance(item, Tally)],
            parked=False,
            now=self.now,
            wall=WALL + self.now,
            counts=self._counts(counts) if counted or counts else None,
        )
        self.stages.take(batch)
        return [event for events in self.given[before:] for event in events]

    def owes(self) -> bool:
        return self.stages.wants_counts

    def finish(self, **counts: int) -> list[Event]:
        before = len(self.given)
        self.stages.finish(self.now, WALL + self.now, self._counts(counts))
        return [event for events in self.given[before:] for event in events]

    def _counts(self, counts: dict[str, int]) -> KernelCounts:
        self.counts = self.counts._replace(**counts)
        return self.counts

    @property
    def events(self) -> list[Event]:
        return [event for events in self.given for event in events]

    @property
    def losses(self) -> list[Loss]:
        return [event.loss for event in self.events if event.loss is not None]


@pytest.fixture
def run() -> Run:
    return Run()


def native(event: Event) -> NativeEvent:
    """Held against the schema by tests/unit/conftest.py."""
    return NativeBuilder(HOST).build(event)


def gap(run: Run, serial: int) -> None:
    """An event of four records of which netlink lost two, found out by what came after it."""
    run.take(
        context(serial, serial * 1000 * MS),
        Tally(stamp(serial), serial * 1000 * MS, 1, 4, ((1300, 1), (1302, 2), (1320, 1))),
        record(serial, 1300),
        record(serial, 1302),
    )
    later = (serial + 1) * 1000 * MS
    run.take(alone(serial + 1, later), record(serial + 1, 1107), after=1.0)


# -- in their time -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "member"), [(cause, member) for cause in CAUSES for member in cause.counts]
)
def test_each_cause(run: Run, cause: Cause, member: str) -> None:
    name, stage, _, unit = cause
    assert run.take(**{member: 5}) == []
    assert run.owes()
    assert run.take(counted=1, after=TOLD_AFTER - 0.01) == []
    (event,) = run.take(counted=1, after=0.02)
    assert event.loss == Loss(name, stage, 5, unit, None, None, ())
    assert not run.owes()
    told = native(event)
    assert (told["type"], told["uid"]) == ("LOST", f"{HOST.boot_id}/0badcafe/1")
    assert told["lost"] == {"cause": name, "stage": stage, unit: 5}
    assert told["enrichment"]["complete"]


@pytest.mark.parametrize("member", LIMITED)
def test_what_is_over_a_limit_is_told_once(run: Run, member: str) -> None:
    (event,) = run.take(**{member: 5})
    assert event.notice is not None
    assert (event.notice.kind, event.notice.text.split()[0]) == ("limited", "5")
    assert native(event)["type"] == "NOTICE"
    assert run.take(**{member: 5}) == []
    (event,) = run.take(**{member: 7})
    assert event.notice is not None
    assert event.notice.text.startswith("2 ")


def test_every_count_of_a_loss_is_a_cause() -> None:
    """All but what is no loss to us, or is told in other words."""
    counted = {name for cause in CAUSES for name in cause.counts}
    assert set(KernelCounts._fields) - counted == {
        *LIMITED,
        "hook_records",
        "counted",
        "uncounted",
        "hook_failures",
        "unknown_messages",
        "truncated",
        "foreign",
        "auditd_queue",
        "status_lost",
        *FAILED_AT,
    }


def test_nothing_lost_nothing_told(run: Run) -> None:
    for _ in range(10):
        run.take(counted=1, after=1.0, hook_records=500, auditd_queue=9, status_lost=9, truncated=3)
        assert not run.owes()
    assert run.finish() == []


def test_only_what_is_new_is_told(run: Run) -> None:
    run.take(netlink_drops=5)
    run.take(counted=1, after=TOLD_AFTER)
    assert run.take(counted=1, after=TOLD_AFTER) == []
    run.take(netlink_drops=7)
    assert run.take(counted=1, after=1.0) == []
    run.take(counted=1, after=TOLD_AFTER)
    assert run.take(counted=1, after=10 * TOLD_AFTER) == []
    assert [loss.lost for loss in run.losses] == [5, 2]
    assert run.finish() == []


def test_what_is_lost_while_a_loss_waits_is_told_with_it(run: Run) -> None:
    run.take(netlink_drops=5)
    run.take(netlink_drops=6, after=TOLD_AFTER / 2)
    (event,) = run.take(netlink_drops=8, after=TOLD_AFTER / 2)
    assert event.loss is not None
    assert event.loss.lost == 8
    assert run.finish() == []


def test_without_a_look_at_the_counters_nothing_is_told(run: Run) -> None:
    run.take(netlink_drops=5)
    assert run.take(after=10 * TOLD_AFTER) == []
    assert run.owes()


def test_the_end_tells_what_is_left_at_once(run: Run) -> None:
    run.take(netlink_drops=5)
    told = run.finish(backlog=3)
    assert [event.loss.cause for event in told if event.loss] == ["netlink", "backlog"]


def test_causes_are_told_in_one_order_with_a_name_each(run: Run) -> None:
    run.take(tallies_dropped=1, contexts_dropped=2, hook_misses=3, lost_other=4, memory=5, backlog=6)
    run.take(rate_limit=7, netlink_drops=8, facts_dropped=2)
    told = run.take(counted=1, after=TOLD_AFTER)
    assert [event.loss.cause for event in told if event.loss] == [cause.name for cause in CAUSES]
    assert [event.loss.lost for event in told if event.loss] == [8, 7, 6, 5, 4, 3, 3, 2]
    assert [event.own_id for event in told] == [f"0badcafe/{i}" for i in range(1, 9)]
    run.take(netlink_drops=9)
    (last,) = run.finish()
    assert last.own_id == "0badcafe/9"
    assert len({native(event)["uid"] for event in run.events}) == 9


def test_a_kernel_that_counts_less(run: Run) -> None:
    """None where this kernel keeps no count, and a count that appears later is as good as new."""
    run.take(counted=1)
    assert run.counts.backlog is None
    run.take(counted=1, after=TOLD_AFTER, backlog=2)
    assert run.finish()[0].loss == Loss("backlog", "kernel", 2, "records", None, None, ())


def test_the_stamp_is_the_time_it_is_told(run: Run) -> None:
    run.take(netlink_drops=5)
    (event,) = run.take(counted=1, after=TOLD_AFTER)
    assert event.stamp == b"1772366456.500:0"
    assert event.records == []


# -- what is known of it -----------------------------------------------------------------------------


@pytest.mark.parametrize(("member", "cause"), [("netlink_drops", "netlink"), ("rate_limit", "rate_limit")])
def test_which_records_are_missing_is_told(run: Run, member: str, cause: str) -> None:
    run.take(**{member: 2})
    gap(run, 101)
    gap(run, 201)
    (event,) = run.take(counted=1, after=TOLD_AFTER)
    assert event.loss == Loss(
        cause, "netlink" if cause == "netlink" else "kernel", 2, "records", 101, 201, ((1302, 2), (1320, 2))
    )
    assert native(event)["lost"]["types"] == {"PATH": 2, "EOE": 2}


def test_events_never_read_are_of_them(run: Run) -> None:
    run.take(netlink_drops=3)
    run.take(alone(300, 300_000 * MS), context(301, 300_000 * MS), tally(301, 2, 300_000 * MS))
    run.take(alone(302, 302_000 * MS), record(302, 1107), after=1.0)
    (event,) = run.take(counted=1, after=TOLD_AFTER)
    assert event.loss is not None
    assert (event.loss.first, event.loss.last, event.loss.types) == (300, 301, ((1300, 3),))


@pytest.mark.parametrize("member", [member for cause in CAUSES for member in cause.counts])
def test_another_cause_claims_no_records(run: Run, member: str) -> None:
    """Those it lost were never made, or were read without their context."""
    gap(run, 101)
    run.take(**{member: 5})
    (event,) = run.take(counted=1, after=TOLD_AFTER)
    assert event.loss is not None
    assert (event.loss.first is not None) == (event.loss.cause in KNOWN)


def test_two_causes_that_can_be_meant_are_not_told_apart(run: Run) -> None:
    run.take(netlink_drops=2, rate_limit=1)
    gap(run, 101)
    told = run.take(counted=1, after=TOLD_AFTER)
    assert [(event.loss.first, event.loss.types) for event in told if event.loss] == [(None, ())] * 2
    # Nor are these records claimed by what is lost later.
    run.take(netlink_drops=3)
    gap(run, 501)
    (event,) = run.take(counted=1, after=TOLD_AFTER)
    assert event.loss is not None
    assert (event.loss.first, event.loss.last) == (501, 501)


def test_what_no_cause_explains_is_not_told_with_a_later_one(run: Run) -> None:
    gap(run, 101)
    run.take(counted=1)
    run.take(netlink_drops=2, after=1.0)
    gap(run, 501)
    (event,) = run.take(counted=1, after=TOLD_AFTER)
    assert event.loss is not None
    assert (event.loss.first, event.loss.last) == (501, 501)


def test_what_a_ring_lost_does_not_keep_records_for_later(run: Run) -> None:
    run.take(contexts_dropped=1)
    gap(run, 101)
    run.take(counted=1, after=TOLD_AFTER)
    run.take(rate_limit=2)
    (event,) = run.take(counted=1, after=TOLD_AFTER)
    assert event.loss is not None
    assert (event.loss.cause, event.loss.first) == ("rate_limit", None)


# -- the rest of a batch -----------------------------------------------------------------------------


def test_a_batch_is_given_out_in_one_piece_and_losses_in_another(run: Run) -> None:
    run.take(netlink_drops=1)
    run.take(*records(101, 1300, 1320), context(101), tally(101, 2), counted=1, after=TOLD_AFTER)
    assert [[bool(event.loss) for event in events] for events in run.given] == [[False], [True]]


def test_losses_are_of_no_window_and_no_figure(run: Run) -> None:
    run.take(netlink_drops=1)
    run.take(counted=1, after=TOLD_AFTER)
    summary = run.stages.finish(run.now, WALL, run.counts)
    assert (summary.events, summary.before, summary.delivered, summary.balanced) == (0, 0, 0, False)


def test_malformed_records_have_ids_of_their_own(run: Run) -> None:
    events = run.take(Record(1300, b"nonsense"), Record(1300, b""))
    events += run.take(Record(1300, b"more"))
    assert len({native(event)["uid"] for event in events}) == 3
    assert {event.reason for event in events} == {join.MALFORMED}


@pytest.mark.parametrize(("pid", "own"), [(US, True), (US + 1, False)])
def test_whose_event_it_is(run: Run, pid: int, own: bool) -> None:  # noqa: FBT001
    (event,) = run.take(alone(101)._replace(pid=pid), record(101, 1107))
    assert event.self_caused is own


def test_the_events_of_our_other_processes_are_ours_by_pid_and_start(run: Run) -> None:
    """A pid alone would make somebody else's event ours once it is used again."""
    who = alone(101)._replace(pid=77, start=1_230_000_000)
    told = ((76, 5), (77, 121), (77, 123))
    run.stages.take(Batch([], [], [], parked=False, now=run.now, wall=WALL, helpers=told))
    for serial, start, own in (
        (98, 1_219_999_999, True),
        (99, 1_229_999_999, False),
        (101, 1_230_000_000, True),
        (102, 1_239_999_999, True),
        (103, 1_240_000_000, False),
    ):
        stamped = alone(serial)._replace(pid=77, start=start)
        (event,) = run.take(stamped, record(serial, 1107))
        assert event.self_caused is own
    run.stages.take(Batch([], [], [], parked=False, now=run.now, wall=WALL, helpers=((76, 5), (78, 9))))
    (event,) = run.take(alone(104)._replace(pid=77, start=who.start), record(104, 1107))
    assert event.self_caused, "one that was replaced: its records may be on their way"
    for pid in range(1000, 1100):
        run.stages.take(Batch([], [], [], parked=False, now=run.now, wall=WALL, helpers=((pid, 1),)))
    (event,) = run.take(alone(105)._replace(pid=77, start=who.start), record(105, 1107))
    assert not event.self_caused, "not for ever"


def test_who_forgets_is_told_what_the_reader_has_not_come_to() -> None:
    """The rings are read at once; the records of the same events may wait in the socket for minutes."""
    heard: list[int] = []
    stages = Stages(Opening(US, "0badcafe", 100), lambda _: None, lambda batch: heard.append(batch.oldest))

    def turn(records: list[Record], contexts: list[Context]) -> None:
        now = START + len(heard)
        stages.take(Batch(records, contexts, [], parked=False, now=now, wall=WALL, facts=[member(1)]))

    turn([], [alone(101, 5 * MS), alone(102, 7 * MS)])
    turn([], [alone(103, 900 * MS)])
    turn([record(101)], [])
    turn([record(102)], [])
    turn([record(103)], [])
    turn([], [])
    assert heard == [5 * MS, 5 * MS, 5 * MS, 7 * MS, 900 * MS, 0]


def test_an_unmarked_run_has_no_before() -> None:
    run = Run(start=None)
    (event,) = run.take(alone(5), record(5, 1107))
    assert event.complete
    assert run.stages.finish(run.now, WALL, KernelCounts()).marked is False


def test_a_notice_is_given_out_at_once_and_counted_with_the_losses(run: Run) -> None:
    run.stages.tell(Notice("gap", "nobody looked", 3, 9, "restart"), WALL)
    run.stages.tell(Loss("sink", "sink", 5, "records", 1, 2, ()), WALL)
    first, second = run.events
    assert native(first)["notice"] == {
        "kind": "gap",
        "text": "nobody looked",
        "first": 3,
        "last": 9,
        "reason": "restart",
    }
    assert [native(event)["uid"].rpartition("/")[2] for event in (first, second)] == ["1", "2"]
    assert native(second)["lost"]["cause"] == "sink"


def test_without_a_kernel_side_every_event_says_so() -> None:
    run = Run(degraded="no context: no hook")
    run.take(record(101, 1300), record(101, 1320))
    (event,) = run.events
    assert (event.complete, event.reason) == (None, "no context: no hook")
    assert native(event)["enrichment"] == {
        "context": "none",
        "container": "none",
        "reason": "no context: no hook",
    }
