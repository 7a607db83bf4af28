# SPDX-License-Identifier: Apache-2.0
"""Events of a log: when one is over, in which order they come, and what a log can do to its reader."""

from __future__ import annotations

import tracemalloc

import pytest

from enricher.correlate.join import FURTHER_PART, MALFORMED, NO_STAMP, OVERFULL
from enricher.correlate.logjoin import FROM_LOG, LogJoin, LogLimits, is_alone
from enricher.model import Event, Record
from enricher.sources.logformat import LogRecord

SEC = 1772366400
SYSCALL, PATH, CWD, EOE, PROCTITLE, AVC, LOGIN, USER_AVC = 1300, 1302, 1307, 1320, 1327, 1400, 1006, 1107
SMALL = LogLimits(titled=8, further=4, seconds=2, continued=16)


def line(
    serial: int, number: int = SYSCALL, sec: int = SEC, node: bytes = b"", body: bytes = b""
) -> LogRecord:
    stamp = b"%d.042:%d" % (sec, serial)
    return LogRecord(node, stamp, Record(number, b"audit(%b): %b" % (stamp, body)))


def lines(serial: int, *numbers: int, sec: int = SEC, node: bytes = b"") -> list[LogRecord]:
    return [line(serial, number, sec, node) for number in numbers]


def others(first: int, count: int, sec: int = SEC) -> list[LogRecord]:
    """Events that are over as soon as they begin, but that have begun."""
    return [line(serial, USER_AVC, sec) for serial in range(first, first + count)]


def shape(events: list[Event]) -> list[tuple[int, int, list[int]]]:
    return [
        (int(event.stamp.partition(b":")[2]), event.part, [record.type for record in event.records])
        for event in events
    ]


def test_an_event_says_what_nobody_can_know_of_it() -> None:
    join = LogJoin()
    (event,) = join.feed(lines(1, SYSCALL, CWD, EOE, node=b"web1"))
    assert [record.type for record in event.records] == [SYSCALL, CWD, EOE]
    assert (event.node, event.stamp, event.part) == (b"web1", b"%d.042:1" % SEC, 1)
    assert (event.complete, event.context, event.tally, event.expected) == (None, None, None, 0)
    assert (event.reason, event.malformed, event.self_caused) == (FROM_LOG, False, False)
    assert (join.events, len(join)) == (1, 0)


@pytest.mark.parametrize("number", [1005, 1100, 1107, 1199, 1200, 1299, 2100, 2999])
def test_records_that_are_events_of_their_own(number: int) -> None:
    assert is_alone(number)
    assert shape(LogJoin().feed([line(1, number)])) == [(1, 1, [number])]


@pytest.mark.parametrize("number", [1006, 1300, 1305, 1326, 1399, 1400, 1426, 1500, 1701, 1800, 2000, 65535])
def test_records_that_may_come_with_a_system_call(number: int) -> None:
    assert not is_alone(number)
    join = LogJoin()
    assert join.feed([line(1, number)]) == []
    assert shape(join.feed(lines(1, SYSCALL, PROCTITLE, EOE))) == [(1, 1, [number, SYSCALL, PROCTITLE, EOE])]


def test_without_eoe_an_event_is_over_when_others_have_begun_after_its_proctitle() -> None:
    join = LogJoin(SMALL)
    assert join.feed(lines(1, SYSCALL, CWD, PROCTITLE)) == []
    assert join.feed(others(2, 7)) == []
    assert shape(join.feed(others(9, 1)))[0] == (1, 1, [SYSCALL, CWD, PROCTITLE])
    assert join.events == 9  # and what stood behind it
    assert shape(join.feed(others(10, 1))) == [(10, 1, [USER_AVC])]


def test_without_proctitle_the_log_has_to_move_on_too() -> None:
    join = LogJoin(SMALL)
    assert join.feed(lines(1, SYSCALL, CWD)) == []
    assert join.feed(others(2, 100)) == []
    assert join.feed(others(200, 100, SEC + 2)) == []
    assert shape(join.feed(others(300, 1, SEC + 3)))[0] == (1, 1, [SYSCALL, CWD])


def test_time_alone_is_no_proof_either() -> None:
    join = LogJoin(SMALL)
    assert join.feed(lines(1, SYSCALL)) == []
    assert join.feed(others(2, 3, SEC + 3600)) == []
    assert len(join.feed([line(1, CWD), *others(5, 4, SEC + 3605)])) == 8
    assert len(join) == 0


def test_what_counts_is_the_latest_record_and_not_the_stamp() -> None:
    """A system call that blocked for an hour is old when it begins."""
    join = LogJoin(SMALL)
    assert join.feed([*others(1, 10, SEC + 3600), line(99, SYSCALL)])[-1].stamp.endswith(b":10")
    assert join.feed(others(20, 10, SEC + 3602)) == []
    assert join.feed([line(99, CWD)]) == []
    assert join.feed(others(30, 10, SEC + 3604)) == []
    assert shape(join.feed(lines(99, EOE)))[0] == (99, 1, [SYSCALL, CWD, EOE])


def test_events_come_in_the_order_of_their_first_records() -> None:
    join = LogJoin()
    assert join.feed([line(5, AVC), line(3), line(4), *others(9, 1), line(4, EOE), line(3, EOE)]) == []
    assert shape(join.feed(lines(5, SYSCALL, EOE))) == [
        (5, 1, [AVC, SYSCALL, EOE]),
        (3, 1, [SYSCALL, EOE]),
        (4, 1, [SYSCALL, EOE]),
        (9, 1, [USER_AVC]),
    ]


def test_one_stamp_of_two_nodes_is_two_events() -> None:
    join = LogJoin()
    mixed = [line(1), line(1, node=b"a"), line(1, node=b"b"), line(1, CWD, node=b"b"), line(1, CWD)]
    events = [*join.feed(mixed), *join.finish()]
    assert [(event.node, len(event.records), event.part) for event in events] == [
        (b"", 2, 1),
        (b"a", 1, 1),
        (b"b", 2, 1),
    ]


def test_a_late_record_is_a_further_part() -> None:
    join = LogJoin(SMALL)
    join.feed([*lines(1, SYSCALL, EOE), *others(2, 1)])
    events = [
        *join.feed([line(1, CWD)]),
        *join.finish(),
        *join.feed(lines(1, PATH, EOE)),
        *join.feed(others(2, 1)),
    ]
    assert shape(events) == [(1, 2, [CWD]), (1, 3, [PATH, EOE]), (2, 2, [USER_AVC])]
    assert {event.reason for event in events} == {f"{FROM_LOG}; {FURTHER_PART}"}
    assert join.further_parts == 3


def test_stamps_are_forgotten_in_time() -> None:
    join = LogJoin(SMALL)
    join.feed([*lines(1, SYSCALL, EOE), *others(2, 40)])
    assert shape(join.feed(lines(1, SYSCALL, EOE))) == [(1, 1, [SYSCALL, EOE])]
    assert len(join._closed) + len(join._closed_before) <= 32


def test_lines_that_are_no_record_are_events_in_their_place() -> None:
    join = LogJoin()
    noise = [LogRecord(b"", None, Record(0, text)) for text in (b"x", b"")]
    assert join.feed([line(1), noise[0]]) == []
    events = join.feed([line(1, EOE), noise[1]])
    assert [(event.stamp, event.part, event.malformed, event.reason) for event in events[1:]] == [
        (NO_STAMP, 1, True, MALFORMED),
        (NO_STAMP, 2, True, MALFORMED),
    ]
    assert [event.records for event in events[1:]] == [[noise[0].record], [noise[1].record]]
    assert join.malformed == 2


def test_serial_zero_and_a_new_boot() -> None:
    join = LogJoin()
    events = join.feed([*lines(0, SYSCALL, EOE), *lines(0, SYSCALL, EOE, sec=SEC - 10**6)])
    assert [event.part for event in events] == [1, 1]


def test_the_end_gives_out_what_is_left() -> None:
    join = LogJoin()
    assert join.feed([line(2), line(1)]) == []
    assert shape(join.finish()) == [(2, 1, [SYSCALL]), (1, 1, [SYSCALL])]
    assert (len(join), join.events, join._size) == (0, 2, 0)
    assert join.finish() == []


def test_a_stamp_far_ahead_stops_the_clock_only_for_a_while() -> None:
    join = LogJoin()
    far = 9_999_999_999_999_999_999
    join.feed(others(0, 1, far))
    join.feed(others(1, 2 * 1_024, SEC))
    assert join.feed([line(5000)]) == []
    assert shape(join.feed(others(5001, 300, SEC + 3)))[0] == (5000, 1, [SYSCALL])


def test_after_the_clock_was_set_back_events_still_end() -> None:
    join = LogJoin()
    join.feed([line(1, sec=SEC)])
    seconds = 0
    while not join.events:
        seconds += 1
        join.feed(others(seconds * 100, 100, SEC - 10**6 + seconds))
        assert seconds < 30
    assert seconds > 20  # two generations, and then the two seconds


# -- bounds ------------------------------------------------------------------------------------------


def test_open_events_are_bounded() -> None:
    join = LogJoin(LogLimits(open_events=10, further=1_000))
    events = join.feed([line(serial) for serial in range(100)])
    assert [event.reason for event in events] == [f"{FROM_LOG}; {OVERFULL}"] * len(events)
    assert (len(events), len(join), join.overfull) == (90, 10, 90)


def test_what_is_held_is_bounded_in_bytes() -> None:
    limits = LogLimits(open_bytes=1 << 16)
    join = LogJoin(limits)
    tracemalloc.start()
    try:
        parts = []
        for _ in range(2_000):
            parts += [(event.part, len(event.records)) for event in join.feed([line(1, body=b"x" * 1000)])]
            assert join._size <= limits.open_bytes
        assert tracemalloc.get_traced_memory()[1] < 1 << 18
    finally:
        tracemalloc.stop()
    assert [part for part, _ in parts] == list(range(1, len(parts) + 1))
    assert sum(records for _, records in parts) + sum(len(event.records) for event in join.finish()) == 2_000


def test_malformed_lines_behind_an_open_event_are_bounded() -> None:
    join = LogJoin(LogLimits(open_bytes=1 << 16))
    noise = LogRecord(b"", None, Record(0, b""))
    join.feed([line(1)])
    events = join.feed([noise] * 1_000)
    assert len(events) + len(join) == 1_001
    assert join._size <= 1 << 16
    assert not events[0].malformed
