# SPDX-License-Identifier: Apache-2.0
"""The join, step by step: what a batch finishes, what it leaves, and what is said of what is missing."""

from __future__ import annotations

import pytest

from enricher.correlate import join
from enricher.correlate.join import Correlator, Limits
from enricher.model import ContextFlag, Event, Record, TallyFlag
from tests.unit.sample_stream import EOE, LONG, MS, alone, context, record, records, stamp, tally

SECOND = 1000 * MS
INTERRUPT = ContextFlag.INTERRUPT
UNTRACKED = ContextFlag.SUBJECT | ContextFlag.UNTRACKED
PATIENCE = Limits().patience
MOMENT = Limits().context_patience


def feed(correlator: Correlator, *items: object, now: float = 0.0, parked: bool = False) -> list[Event]:
    """Feed one batch; the kinds may be given in any order."""
    flat = [each for item in items for each in (item if isinstance(item, list) else [item])]
    kinds = {
        name: [each for each in flat if type(each).__name__ == name]
        for name in ("Record", "Context", "Tally")
    }
    assert len(flat) == sum(map(len, kinds.values()))
    return correlator.feed(kinds["Record"], kinds["Context"], kinds["Tally"], now, parked=parked)  # type: ignore[arg-type]


def told(event: Event) -> tuple[bytes, int, bool | None, str]:
    return event.stamp, len(event.records), event.complete, event.reason


def only(events: list[Event]) -> Event:
    (event,) = events
    return event


@pytest.fixture
def correlator() -> Correlator:
    return Correlator()


# -- whole events ------------------------------------------------------------------------------------


def test_one_event_in_one_batch(correlator: Correlator) -> None:
    given = records(7, 1300, 1307, EOE)
    event = only(feed(correlator, given, context(7), tally(7, 3)))
    assert told(event) == (stamp(7), 3, True, "")
    assert event.records == given
    assert event.context == context(7)
    assert event.part == 1
    assert (len(correlator), correlator.events, correlator.incomplete_events) == (0, 1, 0)


def test_interleaved_tasks(correlator: Correlator) -> None:
    first, second = records(7, 1300, 1307, EOE), records(8, 1300, 1302, EOE)
    mixed = [first[0], second[0], second[1], first[1], second[2], first[2]]
    done = feed(correlator, mixed, context(7), context(8, pid=9), tally(7, 3), tally(8, 3))
    assert [event.stamp for event in done] == [stamp(8), stamp(7)]  # as they were finished
    assert [event.records for event in done] == [second, first]
    assert [event.context and event.context.pid for event in done] == [9, 4711]


def test_a_record_of_its_own(correlator: Correlator) -> None:
    event = only(feed(correlator, record(7, 1112), alone(7)))
    assert told(event) == (stamp(7), 1, True, "")


def test_contexts_wait_for_their_records(correlator: Correlator) -> None:
    assert feed(correlator, context(7), alone(8), tally(7, 2)) == []
    assert len(correlator) == 2
    assert [told(event)[2] for event in feed(correlator, records(7, 1300, EOE), record(8))] == [True, True]


@pytest.mark.parametrize("order", ["count first", "records first"])
def test_count_without_eoe_before_and_after_the_records(correlator: Correlator, order: str) -> None:
    batches = [[tally(7, 2, flags=TallyFlag.EXIT)], records(7, 1300, 1327)]
    first, second = batches if order == "count first" else reversed(batches)
    assert feed(correlator, context(7), first) == []
    assert told(only(feed(correlator, second))) == (stamp(7), 2, True, "")


def test_count_in_the_middle_of_the_records(correlator: Correlator) -> None:
    first, *rest = records(7, 1300, 1307, EOE)
    feed(correlator, first, context(7))
    assert feed(correlator, tally(7, 3)) == []
    assert told(only(feed(correlator, rest))) == (stamp(7), 3, True, "")


def test_orphan_ends_by_its_count(correlator: Correlator) -> None:
    assert feed(correlator, record(7, 1305), context(7)) == []
    event = only(feed(correlator, tally(7, 1, flags=TallyFlag.ORPHAN)))
    assert told(event) == (stamp(7), 1, True, "")


@pytest.mark.parametrize("later", [0, 60])
def test_serials_that_come_round(correlator: Correlator, later: int) -> None:
    """The 32-bit counter wraps: 4294967295 is followed by 0, in the same second or a minute later."""
    sec = 1772366400
    last, first = records(LONG - 1, 1300, EOE, sec=sec), records(LONG, 1300, EOE, sec=sec + later)
    assert b":0)" in first[0].text
    done = feed(
        correlator,
        [last[0], first[0], last[1], first[1]],
        [context(LONG - 1, sec=sec), context(LONG, sec=sec + later)],
        [tally(LONG - 1, 2, sec=sec), tally(LONG, 2, sec=sec + later)],
    )
    assert [(event.records, event.complete) for event in done] == [(last, True), (first, True)]


def test_same_serial_in_another_second_is_another_event(correlator: Correlator) -> None:
    old, new = records(7, 1300, EOE, sec=100), records(7, 1300, EOE, sec=100 + 25 * 86400)
    assert feed(correlator, old[0], context(7, sec=100), tally(7, 2, sec=100)) == []
    event = only(feed(correlator, new, alone(1), context(7, sec=2160100), tally(7, 2, sec=2160100)))
    assert (event.records, event.complete) == (new, True)


# -- events that may be over ------------------------------------------------------------------------


def test_what_began_inside_of_a_call_may_have_been_cut_short(correlator: Correlator) -> None:
    inside = record(7, 1305)
    assert feed(correlator, inside, context(7, record_type=1305)) == []
    assert feed(correlator, now=0.1) == []
    assert (len(correlator), correlator.unsettled) == (1, False)
    assert feed(correlator, now=0.3) == []
    assert (len(correlator), correlator.unsettled) == (1, True)
    # It is what the kernel side says of it that settles it.
    event = only(feed(correlator, tally(7, 1, flags=TallyFlag.ORPHAN), now=0.31))
    assert told(event) == (stamp(7), 1, True, "")
    feed(correlator, now=0.5)
    assert (len(correlator), correlator.unsettled) == (0, False)


def test_what_is_written_at_the_end_of_a_call_was_not_cut_short(correlator: Correlator) -> None:
    feed(correlator, records(7, 1300, 1307), context(7))
    feed(correlator, now=0.3)
    assert len(correlator) == 1
    assert not correlator.unsettled


# -- who it was --------------------------------------------------------------------------------------


def test_the_task_itself_overrides_the_bystander(correlator: Correlator) -> None:
    """A record begun in an interrupt on top of the task; then the task speaks in the same event."""
    feed(correlator, record(7, 1400), context(7, flags=INTERRUPT, pid=1))
    event = only(feed(correlator, record(7), context(7, 5, pid=2), tally(7, 2)))
    assert event.context
    assert (event.context.pid, event.context.is_subject) == (2, True)


def test_a_bystander_does_not_override_the_task(correlator: Correlator) -> None:
    given = [context(7, pid=2), context(7, 5, flags=INTERRUPT, pid=1)]
    event = only(feed(correlator, records(7, 1300, 1400), given, tally(7, 2)))
    assert event.context
    assert event.context.pid == 2


# -- a ring with something uncommitted ---------------------------------------------------------------


def test_context_behind_an_uncommitted_reservation_is_waited_for(correlator: Correlator) -> None:
    assert feed(correlator, record(7), parked=True) == []
    event = only(feed(correlator, alone(7), now=0.01))
    assert told(event) == (stamp(7), 1, True, "")
    assert event.context == alone(7)


def test_count_in_one_ring_and_context_hidden_in_another(correlator: Correlator) -> None:
    """A task that changed its CPU in between: all is here but who it was."""
    given = records(7, 1300, EOE)
    assert feed(correlator, given, tally(7, 2), parked=True) == []
    assert len(correlator) == 1
    event = only(feed(correlator, context(7), now=0.01))
    assert (event.records, event.complete, event.reason) == (given, True, "")
    assert event.context == context(7)


def test_hidden_context_and_records_before_their_count(correlator: Correlator) -> None:
    given = records(7, 1300, EOE)
    assert feed(correlator, given, parked=True) == []
    assert feed(correlator, tally(7, 2), now=0.01, parked=True) == []
    assert told(only(feed(correlator, context(7), now=0.02))) == (stamp(7), 2, True, "")


def test_what_a_ring_hides_is_not_waited_for_without_end(correlator: Correlator) -> None:
    feed(correlator, record(7), parked=True)
    feed(correlator, records(8, 1300, EOE), tally(8, 2), parked=True)
    assert feed(correlator, now=MOMENT, parked=True) == []
    done = feed(correlator, now=MOMENT + 0.1, parked=True)
    assert [told(event) for event in done] == [
        (stamp(7), 1, False, join.PARKED_TOO_LONG),
        (stamp(8), 2, True, join.PARKED_TOO_LONG),
    ]
    # Later than that they say nothing of a further record.
    assert feed(correlator, alone(7), context(8), now=2.0) == []
    assert len(correlator) == 0
    feed(correlator, record(9), alone(9, SECOND), now=20.0)
    assert correlator.orphan_contexts == []


def test_dropped_context_is_said_when_no_ring_hides_it(correlator: Correlator) -> None:
    event = only(feed(correlator, records(7, 1300, EOE), tally(7, 2)))
    assert told(event) == (stamp(7), 2, True, join.CONTEXT_DROPPED)
    feed(correlator, records(8, 1300, EOE), tally(8, 2), parked=True)
    assert told(only(feed(correlator, now=0.06))) == (stamp(8), 2, True, join.CONTEXT_DROPPED)


# -- no context --------------------------------------------------------------------------------------


def test_eoe_without_context_is_hopeless_at_once(correlator: Correlator) -> None:
    event = only(feed(correlator, records(7, 1300, EOE)))
    assert told(event) == (stamp(7), 2, False, join.NO_CONTEXT)


def test_other_records_without_context_are_gathered_for_a_moment(correlator: Correlator) -> None:
    assert feed(correlator, record(7)) == []
    assert feed(correlator, record(7, 1307), now=MOMENT) == []
    assert told(only(feed(correlator, now=MOMENT + 0.1))) == (stamp(7), 2, False, join.NO_CONTEXT)


def test_count_without_context_waits_for_records_in_the_backlog(correlator: Correlator) -> None:
    """The rings are drained at once, the socket batch by batch: a count may be seconds ahead."""
    feed(correlator, tally(7, 1, 10 * MS), record(1), alone(1))
    assert only(feed(correlator, record(2), alone(2), now=3.0)).stamp == stamp(2)
    event = only(feed(correlator, record(7), now=6.0))
    assert told(event) == (stamp(7), 1, True, join.CONTEXT_DROPPED)
    assert correlator.orphan_contexts == []


# -- never whole -------------------------------------------------------------------------------------


def test_a_record_queued_later_proves_the_loss(correlator: Correlator) -> None:
    feed(correlator, record(7), context(7), tally(7, 2, 1 * SECOND))
    assert len(feed(correlator, record(8), alone(8, 1 * SECOND + 100 * MS), now=0.1)) == 1
    done = feed(correlator, record(9), alone(9, 1 * SECOND + 101 * MS), now=0.2)
    assert [told(event) for event in done[1:]] == [(stamp(7), 1, False, join.RECORDS_LOST)]


def test_eoe_before_what_was_counted_does_not_end_the_wait(correlator: Correlator) -> None:
    feed(correlator, record(7), record(7, EOE), context(7), tally(7, 3))
    assert len(correlator) == 1
    assert only(feed(correlator, now=PATIENCE + 0.1)).reason == join.RECORDS_LOST


def test_time_proves_the_loss_only_while_nothing_comes(correlator: Correlator) -> None:
    feed(correlator, record(7), context(7), tally(7, 2))
    for now in (3.0, 6.0, 9.0):
        assert len(feed(correlator, record(int(now)), alone(int(now)), now=now)) == 1
    assert feed(correlator, now=9.0 + PATIENCE) == []
    assert only(feed(correlator, now=9.1 + PATIENCE)).reason == join.RECORDS_LOST


def test_lost_whole_events_are_kept_for_the_ledger(correlator: Correlator) -> None:
    feed(correlator, alone(7), context(8), tally(8, 5))
    assert feed(correlator, now=PATIENCE + 0.1) == []
    assert [event.stamp for event in correlator.orphan_contexts] == [stamp(7), stamp(8)]
    assert len(correlator) == 0


def test_records_lost_and_context_dropped(correlator: Correlator) -> None:
    feed(correlator, record(7), tally(7, 2))
    event = only(feed(correlator, now=PATIENCE + 0.1))
    assert event.reason == f"{join.CONTEXT_DROPPED}; {join.RECORDS_LOST}"


def test_blocked_call_is_given_out_in_parts(correlator: Correlator) -> None:
    first, *rest = records(7, 1326, 1300, 1307, EOE)
    feed(correlator, first, context(7))
    assert feed(correlator, now=PATIENCE) == []
    event = only(feed(correlator, now=PATIENCE + 0.1))
    assert (told(event), event.part) == ((stamp(7), 1, False, join.STILL_OPEN), 1)
    event = only(feed(correlator, rest, tally(7, 4), now=30.0))
    assert (told(event), event.part) == ((stamp(7), 3, False, join.FURTHER_PART), 2)
    assert event.records == rest
    assert event.context == context(7)
    assert (len(correlator), correlator.orphan_contexts) == (0, [])


def test_further_part_before_its_count(correlator: Correlator) -> None:
    first, second = records(7, 1326, 1300)
    feed(correlator, first, context(7))
    feed(correlator, now=PATIENCE + 0.1)
    assert feed(correlator, second, now=30.0) == []
    event = only(feed(correlator, tally(7, 2), now=30.1))
    assert (event.part, event.records) == (2, [second])


def test_parts_are_numbered_through(correlator: Correlator) -> None:
    first, second, third = records(7, 1326, 1300, 1307)
    feed(correlator, first, context(7))
    done = feed(correlator, now=PATIENCE + 0.1)
    done += feed(correlator, second, tally(7, 2), now=30.0)
    feed(correlator, third, now=31.0)
    done += feed(correlator, now=32.0)
    assert [(event.part, event.records) for event in done] == [(1, [first]), (2, [second]), (3, [third])]


def test_context_that_comes_too_late_serves_further_parts(correlator: Correlator) -> None:
    """It was hidden behind an uncommitted reservation; it speaks of the record that is out already."""
    first, second = records(7, 1326, 1300)
    feed(correlator, first, parked=True)
    assert only(feed(correlator, now=MOMENT + 0.1, parked=True)).reason == join.PARKED_TOO_LONG
    assert feed(correlator, context(7), now=1.0) == []
    assert len(correlator) == 0
    event = only(feed(correlator, second, tally(7, 2), now=30.0))
    assert (event.part, event.context) == (2, context(7))
    assert correlator.orphan_contexts == []


def test_late_count_of_what_is_out_already_leaves_nothing(correlator: Correlator) -> None:
    feed(correlator, record(7), context(7))
    feed(correlator, now=PATIENCE + 0.1)
    assert feed(correlator, tally(7, 1), now=30.0) == []
    assert (len(correlator), correlator.orphan_contexts) == (0, [])
    # A record that the kernel side did not count is told as such, and not waited for.
    event = only(feed(correlator, record(7), now=31.0))
    assert (event.part, event.reason) == (2, join.MORE_THAN_COUNTED)


def test_busy_host_gives_out_a_blocked_call_by_the_kernels_clock(correlator: Correlator) -> None:
    feed(correlator, record(7), context(7))
    assert len(feed(correlator, record(8), alone(8, int(PATIENCE * SECOND)), now=1.0)) == 1
    done = feed(correlator, record(9), alone(9, int(PATIENCE * SECOND) + MS), now=2.0)
    assert [event.reason for event in done[1:]] == [join.STILL_OPEN]


def test_late_records_of_an_event_called_lost(correlator: Correlator) -> None:
    """Held up between hook and queue: what comes after all knows what it belongs to."""
    given = records(7, 1300, 1307, EOE)
    feed(correlator, given[0], context(7), tally(7, 3))
    assert only(feed(correlator, now=PATIENCE + 0.1)).expected == 3
    event = only(feed(correlator, given[1:], now=8.0))
    assert (told(event), event.part) == ((stamp(7), 2, False, join.FURTHER_PART), 2)
    assert (event.expected, event.context, event.tally) == (2, context(7), tally(7, 3))


def test_event_read_only_after_it_was_given_up_is_whole(correlator: Correlator) -> None:
    feed(correlator, context(7), tally(7, 2), alone(8))
    feed(correlator, now=PATIENCE + 0.1)
    assert len(correlator.orphan_contexts) == 2
    done = feed(correlator, records(7, 1300, EOE), record(8), now=8.0)
    assert [(told(event), event.part) for event in done] == [
        ((stamp(7), 2, True, ""), 1),
        ((stamp(8), 1, True, ""), 1),
    ]


def test_untracked_ends_with_its_eoe(correlator: Correlator) -> None:
    given = [context(7, time, UNTRACKED) for time in (1, 2)]
    event = only(feed(correlator, records(7, 1300, EOE), given))
    assert told(event) == (stamp(7), 2, False, join.NOT_COUNTED)


def test_untracked_without_eoe_ends_by_time(correlator: Correlator) -> None:
    feed(correlator, records(7, 1300, 1327), context(7, flags=UNTRACKED))
    assert only(feed(correlator, now=PATIENCE + 0.1)).reason == join.NOT_COUNTED


def test_eoe_without_count_is_not_waited_for(correlator: Correlator) -> None:
    """The count is committed before EOE is queued; it was dropped, unless a ring hides it."""
    assert only(feed(correlator, records(7, 1300, EOE), context(7))).reason == join.NOT_COUNTED
    assert feed(correlator, records(8, 1300, EOE), context(8), parked=True) == []
    assert told(only(feed(correlator, tally(8, 2), now=0.01))) == (stamp(8), 2, True, "")
    feed(correlator, records(9, 1300, EOE), context(9), now=0.02, parked=True)
    assert only(feed(correlator, now=0.1)).reason == join.NOT_COUNTED


@pytest.mark.parametrize("more", [[record(7)], [record(7), record(8)]])
def test_a_record_behind_a_whole_event_is_a_part_of_its_own(
    correlator: Correlator, more: list[Record]
) -> None:
    """In the same batch too, where records of one stamp are told by the beginning of their text."""
    first = feed(correlator, records(7, 1300, EOE), *more, context(7), tally(7, 2))
    assert [told(event) for event in first] == [(stamp(7), 2, True, "")]
    part = feed(correlator, now=MOMENT + 0.1)[0]
    assert (part.stamp, part.part, len(part.records), part.complete) == (stamp(7), 2, 1, False)


def test_more_records_than_counted(correlator: Correlator) -> None:
    """The hook was skipped for one (re-entry): not complete, and the late one is no event of its own."""
    feed(correlator, records(7, 1300, 1307), context(7))
    event = only(feed(correlator, tally(7, 1)))
    assert told(event) == (stamp(7), 2, False, join.MORE_THAN_COUNTED)
    first, second = records(8, 1300, EOE)
    assert told(only(feed(correlator, first, context(8), tally(8, 1)))) == (stamp(8), 1, True, "")
    event = only(feed(correlator, second))
    assert (told(event), event.part) == ((stamp(8), 1, False, join.NO_CONTEXT), 2)


# -- what is no record, and the bounds ---------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"other(1700000000.123:7): pid=1",  # as long as audit(, and nothing of it
        b" audit(1700000000.123:7): pid=1",
        b"audit(1700000000.123:7X pid=1",
        b"audit(1700000000.123:7)",
    ],
)
def test_only_a_whole_head_finds_the_event_that_waits(correlator: Correlator, text: bytes) -> None:
    assert feed(correlator, context(7)) == []
    assert only(feed(correlator, Record(1300, text.replace(b"1700000000.123:7", stamp(7))))).malformed
    assert told(only(feed(correlator, record(7, 1300), tally(7, 1)))) == (stamp(7), 1, True, "")


@pytest.mark.parametrize(
    "text", [b"", b"audit(", b"audit(1772366400.042", b"audit(1772366400.042:7", b"x" * 9000]
)
def test_malformed_and_cut_texts_pass_through(correlator: Correlator, text: bytes) -> None:
    done = feed(correlator, Record(1300, text), record(7), alone(7), Record(0, text))
    assert [(event.records[0].text, event.malformed, event.part) for event in done] == [
        (text, True, 1),
        (record(7).text, False, 1),
        (text, True, 2),
    ]
    assert [event.reason for event in done] == [join.MALFORMED, "", join.MALFORMED]
    assert (correlator.malformed, len(correlator)) == (2, 0)


def test_too_many_unfinished_events_give_out_the_oldest() -> None:
    correlator = Correlator(Limits(open_events=3))
    feed(correlator, [record(serial) for serial in range(3)], [context(serial) for serial in range(3)])
    done = feed(correlator, records(3, 1300), record(4), context(3), context(4), now=0.01)
    assert [(event.stamp, event.reason) for event in done] == [
        (stamp(0), join.OVERFULL),
        (stamp(1), join.OVERFULL),
    ]
    assert (len(correlator), correlator.overfull) == (3, 2)


def test_only_so_many_are_remembered_for_further_parts() -> None:
    correlator = Correlator(Limits(continued=2))
    feed(correlator, [record(serial) for serial in range(3)], [context(serial) for serial in range(3)])
    assert len(feed(correlator, now=PATIENCE + 0.1)) == 3
    assert correlator.forgotten == 1
    feed(correlator, [record(serial, 1307) for serial in range(3)], now=6.0)
    parts = {event.stamp: event.part for event in correlator.finish(6.1)}
    assert parts == {stamp(0): 1, stamp(1): 2, stamp(2): 2}


def test_finished_events_are_forgotten_in_time() -> None:
    correlator = Correlator(Limits(continued=2))
    for serial in range(5):
        feed(correlator, record(serial), alone(serial))
    assert len(correlator._finished) + len(correlator._finished_before) <= 4


# -- the end -----------------------------------------------------------------------------------------


def test_the_end_gives_out_what_is_left(correlator: Correlator) -> None:
    feed(correlator, record(6), alone(6, SECOND))
    feed(correlator, record(1), context(1, MS))
    feed(correlator, record(2))
    feed(correlator, record(3), context(3, MS), tally(3, 2, 2 * MS))
    feed(correlator, record(4), tally(4, 1), parked=True)
    feed(correlator, alone(5, MS), parked=True)
    done = correlator.finish(0.1)
    assert [told(event) for event in done] == [
        (stamp(1), 1, False, join.STOPPED),
        (stamp(2), 1, False, join.NO_CONTEXT),
        (stamp(3), 1, False, join.RECORDS_LOST),
        (stamp(4), 1, True, join.PARKED_TOO_LONG),
    ]
    assert [event.stamp for event in correlator.orphan_contexts] == [stamp(5)]
    assert (len(correlator), correlator.events) == (0, 5)


def test_what_is_on_its_way_at_the_end_is_not_missing(correlator: Correlator) -> None:
    """The rings are ahead of the socket: nothing that was read proves that these records were lost."""
    feed(correlator, record(1), alone(1, SECOND))
    feed(correlator, record(2), context(2, SECOND), tally(2, 3, SECOND + MS), alone(3, SECOND + MS))
    event = only(correlator.finish(0.1))
    assert told(event) == (stamp(2), 1, False, join.STOPPED)
    assert (event.tally, event.expected) == (None, 0)
    assert (correlator.orphan_contexts, len(correlator)) == ([], 0)
