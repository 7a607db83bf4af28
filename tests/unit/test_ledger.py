# SPDX-License-Identifier: Apache-2.0
"""The account of a run: each figure, the window's ends, and that what comes late is not counted twice."""

from __future__ import annotations

import pytest

from enricher.correlate.ledger import Ledger, Summary, serial_before, serial_of, words
from enricher.model import Context, ContextFlag, Event, KernelCounts, Record, Tally
from tests.unit.sample_stream import LONG, alone, context, record, stamp, tally

NONE_LOST = KernelCounts(hook_misses=0, rate_limit=0, backlog=0, memory=0)


def event(  # noqa: PLR0913 - each is a fact a test may want to vary
    serial: int,
    read: int,
    who: Context | None = None,
    count: Tally | None = None,
    *,
    expected: int = 0,
    part: int = 1,
    own: bool = False,
) -> Event:
    """As the join gives it out."""
    made = Event(stamp(serial), 0.0)
    made.records = [record(serial)] * read
    made.context, made.tally, made.part, made.self_caused = who, count, part, own
    made.expected = expected or (
        count.total if count else 1 if who and who.flags & ContextFlag.STANDALONE else 0
    )
    made.complete = part == 1 and made.expected == read
    return made


def whole(serial: int, read: int = 3) -> Event:
    return event(serial, read, context(serial), tally(serial, read))


def malformed() -> Event:
    made = Event(b"1772366400.042:0", 0.0)
    made.records = [Record(1300, b"nonsense")]
    made.malformed = True
    return made


def summed(*events: Event, unread: tuple[Event, ...] = (), start: int | None = None) -> Summary:
    ledger = Ledger(start)
    ledger.account(events)
    ledger.account_unread(unread)
    return ledger.summary(NONE_LOST)


# -- figures -----------------------------------------------------------------------------------------


def test_whole_events_balance() -> None:
    summary = summed(whole(1), event(2, 1, alone(2)), whole(3, 7))
    assert (summary.events, summary.finished, summary.delivered, summary.joined) == (3, 11, 11, 11)
    assert (summary.missing, summary.without_context, summary.incomplete_events) == (0, 0, 0)
    assert summary.balanced


@pytest.mark.parametrize(
    ("entered", "figures"),
    [
        # finished, delivered, joined, without_context, missing
        (event(1, 2, context(1), tally(1, 5)), (5, 2, 2, 0, 3)),  # netlink lost three
        (event(1, 2, None, tally(1, 2)), (2, 2, 0, 2, 0)),  # the ring lost the context
        (event(1, 2), (0, 2, 0, 2, 0)),  # the hook saw nothing
        (event(1, 3, context(1), tally(1, 2)), (2, 3, 3, 0, 0)),  # the hook missed one
    ],
)
def test_what_does_not_match_is_told(entered: Event, figures: tuple[int, ...]) -> None:
    summary = summed(whole(9, 0), entered)
    found = summary.finished, summary.delivered, summary.joined, summary.without_context, summary.missing
    assert found == figures
    assert not summary.balanced
    assert summary.unmatched == summary.without_context + summary.missing


def test_events_never_read_are_missing() -> None:
    unread = (event(1, 0, alone(1)), event(2, 0, context(2), tally(2, 5)), event(3, 0, None, tally(3, 2)))
    summary = summed(unread=unread)
    assert (summary.finished, summary.missing, summary.delivered, summary.events) == (8, 8, 0, 0)
    assert not summary.balanced


def test_a_context_speaks_of_one_record_at_least() -> None:
    assert summed(unread=(event(1, 0, context(1)),)).missing == 1


def test_uncounted_event_counts_as_what_was_read() -> None:
    summary = summed(event(1, 4, context(1)))
    assert (summary.finished, summary.delivered, summary.incomplete_events) == (4, 4, 1)
    assert summary.balanced


def test_a_drop_that_nothing_explains_is_not_balanced() -> None:
    ledger = Ledger(None)
    ledger.account([whole(1)])
    assert ledger.summary(NONE_LOST).balanced
    assert not ledger.summary(NONE_LOST._replace(netlink_drops=1)).balanced


def test_malformed_records_are_delivered_and_nothing_else() -> None:
    ledger = Ledger(5)
    ledger.stop_at(9)
    ledger.account([malformed(), whole(6)])
    summary = ledger.summary(NONE_LOST)
    assert (summary.malformed, summary.delivered, summary.finished) == (1, 4, 3)
    assert (summary.without_context, summary.before, summary.after) == (0, 0, 0)
    assert not summary.balanced


def test_whose_events_they_are() -> None:
    bystander = event(2, 1, alone(2, flags=ContextFlag.INTERRUPT))
    summary = summed(whole(1), bystander, event(3, 1, alone(3), own=True))
    assert (summary.no_subject_events, summary.self_events, summary.joined) == (1, 1, 5)


# -- parts -------------------------------------------------------------------------------------------


def test_parts_of_a_blocked_call_add_up() -> None:
    """First without a count, then the rest of it."""
    summary = summed(event(1, 1, context(1)), event(1, 3, context(1), tally(1, 4), expected=3, part=2))
    assert (summary.finished, summary.delivered, summary.missing) == (4, 4, 0)
    assert summary.balanced


def test_what_was_called_missing_and_came_is_not_counted_twice() -> None:
    who, count = context(1), tally(1, 5)
    late = event(1, 2, who, count, expected=3, part=2)
    last = event(1, 1, who, count, expected=1, part=3)
    first = summed(event(1, 2, who, count))
    second = summed(event(1, 2, who, count), late)
    third = summed(event(1, 2, who, count), late, last)
    assert [(each.finished, each.delivered, each.missing) for each in (first, second, third)] == [
        (5, 2, 3),
        (5, 4, 1),
        (5, 5, 0),
    ]
    assert third.balanced


def test_an_unread_event_that_came_after_all() -> None:
    ledger = Ledger(None)
    ledger.account_unread([event(1, 0, alone(1)), event(2, 0, context(2)), event(3, 0, context(3))])
    assert ledger.missing == 3
    ledger.account([event(1, 1, alone(1)), whole(2), event(3, 2, context(3))])
    summary = ledger.summary(NONE_LOST)
    assert (summary.finished, summary.delivered, summary.missing) == (6, 6, 0)
    assert summary.balanced


def test_late_records_that_the_join_has_forgotten() -> None:
    """Without their context: not missing any more, and not joined either."""
    ledger = Ledger(None)
    ledger.account_unread([event(1, 0, context(1), tally(1, 3))])
    ledger.account([event(1, 1)])
    assert (ledger.finished, ledger.missing, ledger.without_context) == (3, 2, 1)
    ledger.account([event(1, 3)])
    assert (ledger.finished, ledger.missing, ledger.without_context) == (3, 0, 4)


def test_late_records_whose_count_the_join_has_forgotten() -> None:
    ledger = Ledger(None)
    ledger.account_unread([event(1, 0, context(1), tally(1, 3))])
    ledger.account([event(1, 1, context(1))])
    assert (ledger.finished, ledger.missing, ledger.joined) == (3, 2, 1)
    ledger.account([event(1, 4, context(1))])
    assert (ledger.finished, ledger.missing, ledger.joined) == (5, 0, 5)


def test_remembers_so_many_only() -> None:
    ledger = Ledger(None)
    ledger.account_unread([event(serial, 0, alone(serial)) for serial in range(5000)])
    assert len(ledger._owed) == 4096
    ledger.account([event(4999, 1, alone(4999))])
    assert (ledger.missing, len(ledger._owed)) == (4999, 4095)


# -- the window --------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [100, LONG - 2, 1])
def test_window_with_serials_that_come_round(start: int) -> None:
    stop = start + 5
    ledger = Ledger(start % LONG)
    ledger.stop_at(stop % LONG)
    events = [whole(serial % LONG, 1) for serial in range(start - 3, stop + 3)]
    ledger.account(events)
    summary = ledger.summary(NONE_LOST)
    assert (summary.before, summary.delivered, summary.after, summary.events) == (3, 6, 2, 6)
    assert summary.balanced
    assert summary.marked


def test_outside_the_window_nothing_is_held_against_the_balance() -> None:
    ledger = Ledger(100)
    ledger.stop_at(200)
    ledger.account([event(99, 2), event(201, 3)])
    ledger.account_unread([event(98, 0, alone(98)), event(202, 0, alone(202))])
    summary = ledger.summary(NONE_LOST)
    assert (summary.before, summary.after, summary.finished, summary.delivered) == (2, 3, 0, 0)
    assert summary.balanced


def test_a_long_run_is_not_before_its_own_start() -> None:
    """2**31 serials after the start the comparison would turn round: a matter of days on a busy host."""
    ledger = Ledger(5)
    for step in range(10):
        ledger.account([whole((5 + step * (LONG // 8)) % LONG, 1)])
    assert (ledger.before, ledger.delivered) == (0, 10)


def test_open_ended_windows_say_so() -> None:
    for start, stop in ((None, 9), (1, None), (None, None)):
        ledger = Ledger(start)
        if stop is not None:
            ledger.stop_at(stop)
        ledger.account([whole(5)])
        summary = ledger.summary(NONE_LOST)
        assert (summary.delivered, summary.marked, summary.balanced) == (3, False, True)
        *_, note, verdict = words(summary).splitlines()
        assert "not marked by a self-test record at both ends" in note
        assert verdict == "every record is accounted for"


def test_serials() -> None:
    assert serial_of(stamp(4711)) == 4711
    assert serial_before(1, 2)
    assert not serial_before(2, 2)
    assert not serial_before(3, 2)
    assert serial_before(LONG - 1, 0)
    assert not serial_before(0, LONG - 1)


# -- what is told of losses --------------------------------------------------------------------------


def short(serial: int, *read: int, part: int = 1, runs: tuple[tuple[int, int], ...] = ()) -> Event:
    """An event of SYSCALL, PATH, PATH, EOE, or of these runs, of which these types were read."""
    kinds = runs or ((1300, 1), (1302, 2), (1320, 1))
    count = Tally(stamp(serial), 0, 1, sum(times for _, times in kinds), kinds)
    made = event(serial, 0, context(serial), count, part=part)
    made.records = [record(serial, number) for number in read]
    return made


def test_nothing_missing_nothing_told() -> None:
    ledger = Ledger(None)
    ledger.account([whole(1), event(2, 3, context(2)), event(3, 1), malformed()])
    assert ledger.take_missing() == (None, None, ())


def test_what_is_missing_is_told_once() -> None:
    ledger = Ledger(None)
    ledger.account([short(5, 1300, 1302), short(9, 1302), short(7, 1300, 1302, 1302, 1320)])
    assert ledger.take_missing() == (5, 9, ((1300, 1), (1302, 2), (1320, 2)))
    assert ledger.take_missing() == (None, None, ())
    ledger.account([short(6, 1300)])
    assert ledger.take_missing() == (6, 6, ((1302, 2), (1320, 1)))
    assert ledger.missing == 2 + 3 + 3


def test_events_never_read_are_told_by_their_counts() -> None:
    ledger = Ledger(None)
    alone_ = event(4, 0, alone(4)._replace(record_type=1107))
    ledger.account_unread([short(3), alone_, event(2, 0, context(2)), event(1, 0, None, tally(1, 2))])
    assert ledger.take_missing() == (1, 4, ((1107, 1), (1300, 4), (1302, 2), (1320, 1)))


def test_runs_of_one_type_add_up() -> None:
    ledger = Ledger(None)
    ledger.account([short(1, 1302, runs=((1302, 2), (1300, 1), (1302, 3)))])
    assert ledger.take_missing().types == ((1300, 1), (1302, 4))


def test_records_that_were_not_counted_are_not_missing() -> None:
    """A tally that was cut holds fewer runs than there were; another type than counted takes from none."""
    ledger = Ledger(None)
    ledger.account([short(1, 1300, 1300, 1400, runs=((1300, 1), (1302, 3)))])
    assert ledger.take_missing().types == ((1302, 3),)


@pytest.mark.parametrize("serials", [(LONG - 3, LONG - 1, 0, 2), (2, LONG - 3, 0, LONG - 1)])
def test_first_and_last_where_serials_come_round(serials: tuple[int, ...]) -> None:
    ledger = Ledger(None)
    ledger.account([short(serial, 1300) for serial in serials])
    assert ledger.take_missing()[:2] == (LONG - 3, 2)


def test_what_comes_late_is_not_told_again() -> None:
    """The count is of all parts: of a further one it does not say what is missing of it."""
    ledger = Ledger(None)
    ledger.account([short(1, 1300)])
    late = short(1, 1302, 1302, part=2)
    late.expected = 3
    ledger.account([late])
    assert ledger.missing == 1
    assert ledger.take_missing() == (1, 1, ((1302, 2), (1320, 1)))


def test_what_is_less_missing_than_was_told_is_not_told_again() -> None:
    ledger = Ledger(None)
    ledger.account([short(1, 1300)])
    ledger.take_missing()
    late = short(1, 1302, part=2)
    late.expected = 3
    ledger.account([late])
    assert (ledger.missing, ledger.take_missing()) == (2, (None, None, ()))


def test_of_a_further_part_only_the_serial_is_known() -> None:
    ledger = Ledger(None)
    ledger.account([event(1, 1, context(1))])
    rest = short(1, 1302, part=2)
    rest.expected = 3
    ledger.account([rest])
    assert (ledger.missing, ledger.take_missing()) == (2, (1, 1, ()))


def test_a_count_that_comes_after_all_adds_no_types_twice() -> None:
    ledger = Ledger(None)
    ledger.account_unread([event(1, 0, context(1))])
    ledger.account_unread([short(1)])
    assert (ledger.missing, ledger.take_missing()) == (4, (1, 1, ((1300, 1),)))


def test_outside_the_window_nothing_is_told() -> None:
    ledger = Ledger(100)
    ledger.stop_at(200)
    ledger.account([short(99, 1300), short(201, 1300)])
    ledger.account_unread([short(98), short(202)])
    assert ledger.take_missing() == (None, None, ())


# -- the verdict -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "explained", "never_made", "balanced"),
    [
        (KernelCounts(), 0, 0, True),
        (NONE_LOST, 0, 0, True),
        (KernelCounts(netlink_drops=3), 3, 0, False),
        (KernelCounts(rate_limit=4), 4, 0, False),
        (KernelCounts(netlink_drops=3, rate_limit=4), 7, 0, False),
        (KernelCounts(backlog=5), 0, 5, False),
        (KernelCounts(memory=6), 0, 6, False),
        (KernelCounts(lost_other=7), 0, 7, False),
        (KernelCounts(backlog=5, memory=6, lost_other=7), 0, 18, False),
        # No record is missing by any of these: of a context or a count it is told otherwise.
        (KernelCounts(contexts_dropped=1, tallies_dropped=1, hook_misses=1), 0, 0, True),
        (KernelCounts(auditd_queue=9, status_lost=9, unknown_messages=9, truncated=9, foreign=9), 0, 0, True),
        (KernelCounts(hook_records=9, counted=5, uncounted=4, hook_failures=9), 0, 0, True),
    ],
)
def test_what_is_held_against_the_balance(
    counts: KernelCounts,
    explained: int,
    never_made: int,
    balanced: bool,  # noqa: FBT001
) -> None:
    ledger = Ledger(None)
    ledger.account([whole(1)])
    summary = ledger.summary(counts)
    assert (summary.explained, summary.never_made, summary.balanced) == (explained, never_made, balanced)


# -- words -------------------------------------------------------------------------------------------


def test_words() -> None:
    ledger = Ledger(100)
    ledger.stop_at(900)
    lossy = event(105, 1, context(105), tally(105, 4))
    ledger.account([whole(101, 1000), event(102, 20), event(99, 50), event(901, 60), malformed(), lossy])
    ledger.account([event(103, 300, context(103), tally(103, 300), own=True)])
    text = words(
        ledger.summary(
            KernelCounts(7, 8, 2, 0, 1400, 1380, 13, 9, rate_limit=2, backlog=4, memory=None, auditd_queue=5)
        )
    )
    rows = [[cell.strip() for cell in line.split("  ") if cell] for line in text.splitlines()]
    assert rows == [
        ["events", "5", "(2 incomplete, 1 our own)"],
        ["records finished by the kernel", "1304"],
        ["records delivered", "1322"],
        ["joined with their context", "1301"],
        ["without a context", "20"],
        ["records finished and not delivered", "3"],
        ["malformed records passed through", "1"],
        ["outside the run (before, after)", "50, 60"],
        ["lost: netlink buffer full", "7 records"],
        ["lost: over the rate limit", "2 records"],
        ["lost: over the backlog limit", "4 records, never made"],
        ["lost: out of kernel memory", "not counted by this kernel"],
        ["lost: ring full", "8 contexts, 2 tallies"],
        ["lost: re-entry of the hook", "not counted by this kernel"],
        ["failed reads in the kernel side", "9"],
        ["records the hook saw since attached", "1400", "(1380 told, 13 not told, 7 of events still open)"],
        ["auditd's queue overflowed (not lost here)", "5 records"],
        ["NOT every record could be joined: see above"],
    ]


def rows(counts: KernelCounts, *events: Event) -> dict[str, str]:
    ledger = Ledger(None)
    ledger.account(events)
    lines = [line.partition("  ") for line in words(ledger.summary(counts)).lstrip().splitlines()]
    return {name.strip(): value.strip() for name, _, value in lines if value}


def test_failed_reads_name_their_places() -> None:
    counts = KernelCounts(hook_failures=12, failed_text=10, failed_track=2)
    row = rows(counts)["failed reads in the kernel side"]
    assert row == "12  (10 a record's text, 2 the table of open events was full)"
    # A capture of a version that did not tell places.
    assert rows(KernelCounts(hook_failures=9))["failed reads in the kernel side"] == "9"


def test_rows_that_are_there_when_there_is_something_to_say() -> None:
    always = rows(NONE_LOST)
    counts = KernelCounts(
        facts_dropped=8,
        facts_missed=9,
        lost_other=1,
        lost_unseen=7,
        auditd_queue=2,
        status_lost=3,
        unknown_messages=4,
        truncated=5,
        foreign=6,
    )
    sometimes = {name: value for name, value in rows(counts).items() if name not in always}
    assert sometimes == {
        "lost: facts beside records": "8 for want of room, 9 where a program was skipped",
        "lost: for another reason": "1 records",
        "lost: for one of these, not seen which": "7 records",
        "auditd's queue overflowed (not lost here)": "2 records",
        "the kernel's own `lost` since the start": "3",
        "messages of the kernel side not understood": "4",
        "records longer than what is received": "5",
        "datagrams not from the kernel, refused": "6",
    }
    assert rows(KernelCounts(status_lost=0))["the kernel's own `lost` since the start"] == "0"


@pytest.mark.parametrize(
    ("drops", "limited", "left"), [(0, 0, "3"), (1, 1, "1"), (3, None, None), (0, 9, None)]
)
def test_what_no_count_explains_is_a_row(drops: int, limited: int | None, left: str | None) -> None:
    counts = KernelCounts(netlink_drops=drops, rate_limit=limited)
    assert rows(counts, short(1, 1300)).get("missing, and explained by no count") == left


def test_rows_of_causes_say_what_is_not_counted() -> None:
    told = rows(KernelCounts(rate_limit=0, backlog=None, memory=2, hook_misses=None))
    assert [told["lost: " + name] for name in ("over the rate limit", "over the backlog limit")] == [
        "0 records",
        "not counted by this kernel",
    ]
    assert told["lost: out of kernel memory"] == "2 records, never made"
    assert told["lost: re-entry of the hook"] == "not counted by this kernel"


def test_words_of_a_good_run() -> None:
    ledger = Ledger(100)
    ledger.stop_at(900)
    ledger.account([whole(101)])
    text = words(ledger.summary(NONE_LOST))
    assert text.endswith("\nevery record is accounted for")
    assert "explained by no count" not in text
