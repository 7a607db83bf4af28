# SPDX-License-Identifier: Apache-2.0
"""The join under every order that the kernel allows, and under losses and delays that it should not have.

The kernel's order ("context before record"): an event's context is committed before its first record is
queued; its count before its EOE is queued, or, without EOE, after its last record. User space receives
some of the queue, and then drains the rings of at least what was committed when that was queued.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.correlate.join import Correlator
from enricher.correlate.ledger import Ledger
from enricher.model import Context, Event, KernelCounts, Record, Tally, TallyFlag
from tests.unit.sample_stream import EOE, MS, alone, context, records, stamp, tally

RINGS = 2
SHAPES = ("eoe", "exit", "standalone")
NONE_LOST = KernelCounts()

Item = Record | Context | Tally


class Case(NamedTuple):
    """What the kernel does, in its order; which ring each message is in; and how user space gets it."""

    numbers: list[int]  # records of each event
    timeline: list[tuple[int, Item]]  # (serial, what)
    ring: list[int]
    turns: list[tuple[int, int, bool]]  # records up to, messages up to, one ring hides the rest of its own


def kernel_side(serial: int, shape: str, count: int) -> list[Item]:
    if shape == "standalone":
        return [alone(serial), *records(serial, 1112)]
    made = records(serial, *[1300] * (count - 1), EOE if shape == "eoe" else 1327)
    if shape == "eoe":
        return [context(serial), *made[:-1], tally(serial, count), made[-1]]
    return [context(serial), *made, tally(serial, count, flags=TallyFlag.EXIT)]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    shapes = draw(st.lists(st.tuples(st.sampled_from(SHAPES), st.integers(1, 4)), min_size=1, max_size=6))
    queues = {serial: kernel_side(serial, *shape) for serial, shape in enumerate(shapes, start=1)}
    numbers = [1 if shape == "standalone" else count for shape, count in shapes]
    order = draw(st.permutations([serial for serial, items in queues.items() for _ in items]))
    timeline = []
    for at, serial in enumerate(order):
        item = queues[serial].pop(0)
        timeline.append((serial, item if isinstance(item, Record) else item._replace(time=at)))
    size = len(timeline)
    ring = draw(st.lists(st.integers(0, RINGS - 1), min_size=size, max_size=size))
    cuts = draw(st.lists(st.tuples(st.integers(0, size), st.integers(0, size), st.booleans()), max_size=6))
    turns = []
    received = drained = 0
    for read, ahead, hides in [*cuts, (size, size, False)]:
        received = max(received, read)
        drained = max(drained, received, ahead)
        turns.append((received, drained, hides))
    return Case(numbers, timeline, ring, turns)


def run(case: Case, correlator: Correlator) -> list[Event]:
    """Feed the case turn by turn, a hundredth of a second apart."""
    out = []
    taken: set[int] = set()
    for number, (received, drained, hides) in enumerate(case.turns):
        batch = [
            at
            for at, (_, item) in enumerate(case.timeline[:received])
            if isinstance(item, Record) and at not in taken
        ]
        waiting = [
            at
            for at, (_, item) in enumerate(case.timeline[:drained])
            if not isinstance(item, Record) and at not in taken
        ]
        messages = [at for at in waiting if not (hides and case.ring[at] == 0)]
        taken.update(batch, messages)
        found = [case.timeline[at][1] for at in messages]
        out += correlator.feed(
            [item for at in batch if isinstance(item := case.timeline[at][1], Record)],
            [item for item in found if isinstance(item, Context)],
            [item for item in found if isinstance(item, Tally)],
            number / 100,
            parked=len(messages) < len(waiting),
        )
    return out


def account(ledger: Ledger, events: list[Event], correlator: Correlator) -> list[Event]:
    """Enter one batch as the loop does."""
    ledger.account(events)
    ledger.account_unread(correlator.orphan_contexts)
    correlator.orphan_contexts.clear()
    return events


@settings(max_examples=400, deadline=None)
@given(cases())
def test_every_event_is_whole_once_and_nothing_is_left(case: Case) -> None:
    correlator = Correlator()
    events = run(case, correlator)
    assert sorted(event.stamp for event in events) == sorted(
        stamp(serial) for serial in range(1, len(case.numbers) + 1)
    )
    for event in events:
        own = [item for serial, item in case.timeline if stamp(serial) == event.stamp]
        assert event.records == [item for item in own if isinstance(item, Record)]
        assert [event.context] == [item for item in own if isinstance(item, Context)]
        assert (event.complete, event.reason, event.part) == (True, "", 1)
    assert (len(correlator), correlator.orphan_contexts, correlator.incomplete_events) == (0, [], 0)
    ledger = Ledger(None)
    ledger.account(events)
    summary = ledger.summary(NONE_LOST)
    assert summary.balanced
    assert summary.finished == summary.delivered == summary.joined == sum(case.numbers)


class Step(NamedTuple):
    """One batch after everything went wrong that can: `wait` in seconds, and what of each stream comes."""

    wait: float
    records: list[Record]
    contexts: list[Context]
    tallies: list[Tally]
    parked: bool


@st.composite
def troubles(draw: st.DrawFn) -> tuple[dict[int, int], dict[int, int], list[Step]]:
    """Events of which some records are lost; messages may be lost too, and any of it may come late."""
    totals = dict(enumerate(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)), start=1))
    lost: dict[int, int] = defaultdict(int)
    steps = [
        Step(draw(st.sampled_from([0.01, 0.3, 1.0, 6.0])), [], [], [], draw(st.booleans()))
        for _ in range(draw(st.integers(1, 6)))
    ]
    last = len(steps) - 1
    for serial, total in totals.items():
        shape = "standalone" if total == 1 else draw(st.sampled_from(["eoe", "exit"]))
        at = 0
        for item in kernel_side(serial, shape, total):
            if draw(st.integers(0, 5)) == 0:
                lost[serial] += isinstance(item, Record)
                continue
            if isinstance(item, Record):  # the records of an event keep their order
                at = draw(st.integers(at, last))
                steps[at].records.append(item)
                continue
            time = draw(st.integers(0, 5)) * 1000 * MS
            step = steps[draw(st.integers(0, last))]
            if isinstance(item, Context):
                step.contexts.append(item._replace(time=time))
            else:
                step.tallies.append(item._replace(time=time))
    return totals, lost, steps


@settings(max_examples=600, deadline=None)
@given(troubles())
def test_whatever_is_lost_or_late_nothing_is_claimed_that_is_not_so(
    trouble: tuple[dict[int, int], dict[int, int], list[Step]],
) -> None:
    totals, lost, steps = trouble
    correlator, ledger = Correlator(), Ledger(None)
    events = []
    now = 0.0
    for step in steps:
        now += step.wait
        done = correlator.feed(step.records, step.contexts, step.tallies, now, parked=step.parked)
        events += account(ledger, done, correlator)
    events += account(ledger, correlator.finish(now), correlator)
    read = [each for step in steps for each in step.records]
    for serial, total in totals.items():
        own = [each for each in read if each.text.startswith(b"audit(" + stamp(serial))]
        parts = [event for event in events if event.stamp == stamp(serial)]
        assert [each for event in parts for each in event.records] == own  # each once, in order
        assert [event.part for event in parts] == list(range(1, len(parts) + 1))
        assert all(len(event.records) == total for event in parts if event.complete)
        assert all(event.complete or event.reason for event in parts)
    assert len(events) == len({(event.stamp, event.part) for event in events})
    summary = ledger.summary(NONE_LOST)
    assert 0 <= summary.missing <= sum(lost.values())
    assert summary.delivered == len(read)
    assert (
        summary.finished - summary.missing <= summary.delivered <= summary.finished + summary.without_context
    )
