# SPDX-License-Identifier: Apache-2.0
"""A log's events are those that the kernel's counts would have made; hostile logs still give every record once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.correlate.join import Correlator
from enricher.correlate.logjoin import LogJoin, LogLimits
from enricher.model import KINDS, Context, Event, HostFacts, Record, Tally
from enricher.route.views.audit_text import AuditText
from enricher.sources.audit.text import stamp_of
from enricher.sources.audit.types import text_name_of
from enricher.sources.logformat import Lines, LogCounts, LogRecord
from tests.unit.sample_stream import EOE, alone, context, records, tally

LIMITS = [
    LogLimits(),
    LogLimits(titled=2, further=1, seconds=0, open_events=3, open_bytes=2_000, continued=4),
]


def log_of(stream: list[Record]) -> bytes:
    return b"".join(b"type=%b msg=%b\n" % (text_name_of(each.type).encode(), each.text) for each in stream)


def read(data: bytes) -> list[LogRecord]:
    lines = Lines(LogCounts())
    return [*lines.feed(data), *lines.finish()]


def joined(batch: list[LogRecord], cuts: list[int], limits: LogLimits | None = None) -> list[Event]:
    join = LogJoin(limits)
    out = []
    last = 0
    for cut in [*sorted(cuts), len(batch)]:
        out += join.feed(batch[last : max(cut, last)])
        last = max(cut, last)
    out += join.finish()
    assert (len(join), join._size, join._open) == (0, 0, {})
    assert join.events == len(out)
    return out


SHAPES = [
    (1300, 1327, EOE),
    (1300, 1307, 1302, 1302, 1327, EOE),
    (1400, 1300, 1327, EOE),
    (1006, 1300, 1327, EOE),
    (1336, 1300, 1327, EOE),
    (1300, 1309, 1327),  # as auditd writes them
    (1300, 1307),
    (1326,),
    (1107,),
    (1112,),
]


@st.composite
def interleavings(draw: st.DrawFn) -> tuple[list[Record], list[Context], list[Tally]]:
    """Each event's records in order, those of many events mixed; and what the kernel side said of them."""
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=12))
    queues = {serial: records(serial, *numbers) for serial, numbers in enumerate(shapes, start=1)}
    order = draw(st.permutations([serial for serial, queue in queues.items() for _ in queue]))
    contexts = [
        alone(serial) if len(queue) == 1 else context(serial, flags=2) for serial, queue in queues.items()
    ]
    tallies = [tally(serial, len(queue)) for serial, queue in queues.items() if len(queue) > 1]
    return [queues[serial].pop(0) for serial in order], contexts, tallies


@settings(max_examples=300, deadline=None)
@given(interleavings(), st.lists(st.integers(0, 60), max_size=5))
def test_the_events_are_those_that_the_counts_make(
    case: tuple[list[Record], list[Context], list[Tally]], cuts: list[int]
) -> None:
    stream, contexts, tallies = case
    counted = Correlator().feed(stream, contexts, tallies, 0.0)
    assert all(event.complete for event in counted)
    found = joined(read(log_of(stream)), cuts)
    assert {event.stamp: event.records for event in found} == {
        event.stamp: event.records for event in counted
    }
    assert len(found) == len(counted)
    firsts = list(dict.fromkeys(stamp_of(record.text) for record in stream))
    assert [event.stamp for event in found] == firsts


NOTHING = HostFacts("", "", "", "", (0,) * len(KINDS))


@settings(max_examples=200, deadline=None)
@given(
    interleavings(),
    st.lists(
        st.tuples(st.integers(0, 60), st.sampled_from([b"x", b"type=", b"type=UNKNOWN[0] msg=x", b"\t"]))
    ),
    st.sampled_from([b"", b"node=web1 "]),
)
def test_our_text_output_of_a_log_is_a_log_of_the_same_events(
    case: tuple[list[Record], list[Context], list[Tally]], noise: list[tuple[int, bytes]], node: bytes
) -> None:
    lines = [node + line for line in log_of(case[0]).splitlines()]
    for at, line in noise:
        lines.insert(at, line)
    events = joined(read(b"\n".join(lines)), [])
    again = joined(read(b"".join(map(AuditText(NOTHING).render, events))), [])
    assert [(event.node, event.stamp, event.part, event.reason, event.records) for event in again] == [
        (event.node, event.stamp, event.part, event.reason, event.records) for event in events
    ]


@st.composite
def anything(draw: st.DrawFn) -> list[LogRecord]:
    made = []
    for _ in range(draw(st.integers(0, 60))):
        if not draw(st.integers(0, 9)):
            made.append(LogRecord(b"", None, Record(0, b"?" * draw(st.integers(0, 300)))))
            continue
        stamp = b"%d.%03d:%d" % (
            draw(st.sampled_from([0, 100, 101, 105, 10**19 - 1])),
            draw(st.integers(0, 1)),
            draw(st.integers(0, 5)),
        )
        node = draw(st.sampled_from([b"", b"", b"a", b"b"]))
        number = draw(st.sampled_from([1300, 1302, 1320, 1327, 1107, 1400, 1006, 1200, 2000]))
        made.append(LogRecord(node, stamp, Record(number, b"audit(%b): %d" % (stamp, len(made)))))
    return made


@settings(max_examples=400, deadline=None)
@given(anything(), st.lists(st.integers(0, 60), max_size=8), st.sampled_from(LIMITS))
def test_every_record_comes_once_and_each_event_has_a_name_of_its_own(
    batch: list[LogRecord], cuts: list[int], limits: LogLimits
) -> None:
    events = joined(batch, cuts, limits)
    for node, stamp in {(each.node, each.stamp) for each in batch}:
        own = [each.record for each in batch if (each.node, each.stamp) == (node, stamp)]
        parts = [
            event
            for event in events
            if event.malformed == (stamp is None)
            and (stamp is None or (event.node, event.stamp) == (node, stamp))
        ]
        assert [record for event in parts for record in event.records] == own
    assert all(event.records for event in events)
    if limits.continued > len(batch):
        names = {(event.node, event.stamp, event.part, event.malformed) for event in events}
        assert len(names) == len(events)


@settings(max_examples=150, deadline=None)
@given(
    anything(),
    st.lists(st.integers(0, 60), max_size=8),
    st.lists(st.integers(0, 60), max_size=8),
    st.sampled_from(LIMITS),
)
def test_where_a_batch_ends_makes_no_difference(
    batch: list[LogRecord], one: list[int], other: list[int], limits: LogLimits
) -> None:
    def told(events: list[Event]) -> list[tuple[bytes, bytes, int, str, list[Record]]]:
        return [(event.node, event.stamp, event.part, event.reason, event.records) for event in events]

    assert told(joined(batch, one, limits)) == told(joined(batch, other, limits))
