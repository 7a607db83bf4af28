# SPDX-License-Identifier: Apache-2.0
"""Facts and their events: by the link, never by anything else."""

from __future__ import annotations

import pytest

from enricher.correlate import acts as module
from enricher.correlate.acts import PATIENCE, SETTLED, Acts
from enricher.facts import Beside, PacketNet, Told
from tests.unit.sample_events import STAMP, context
from tests.unit.sample_facts import change, freed, link, made, refusal, target

OTHER = b"1772366400.042:9002"


def test_what_one_call_did_goes_to_its_event() -> None:
    acts = Acts()
    acts.learn([change(link=5), target(context(pid=4800)), change(link=6)], 1.0)
    acts.learn([link(number=5)], 1.0)
    beside = acts.of(STAMP)
    assert beside is not None
    assert (len(beside.changes), len(beside.targets)) == (1, 1)
    assert acts.of(STAMP) is None, "a further part has it no more"
    assert acts.of(OTHER) is None


def test_the_same_link_of_another_task_is_another_call() -> None:
    acts = Acts()
    acts.learn([target(context(pid=4800), 5, 1), link(number=5, tid=2)], 1.0)
    assert acts.of(STAMP) is None


def test_a_link_that_says_nothing_is_nothing() -> None:
    """Every exec has one where it may enter a time namespace; its event is made in the short way all the same."""
    acts = Acts()
    acts.learn([link(number=5)], 1.0)
    assert acts.of(STAMP) is None
    assert acts.of(STAMP) is None
    for said in (link(number=6)._replace(untold=1), link(number=7)._replace(child_pid=4801, child_seen=1)):
        acts.learn([said], 1.0)
        assert acts.of(STAMP) == Beside(link=said)


def test_a_change_without_a_record_is_told_by_itself() -> None:
    acts = Acts()
    unlinked, waiting = change(), change(link=5)
    acts.learn([unlinked, waiting], 1.0)
    assert acts.due(1.0) == [(unlinked, 1.0)]
    assert acts.due(1.0 + PATIENCE / 2) == []
    assert acts.due(1.0 + PATIENCE) == [(waiting, 1.0)]
    assert acts.due(9.0) == []
    # Its task had no processor for so long: its event has it, too.
    acts.learn([link(number=5)], 9.0)
    beside = acts.of(STAMP)
    assert beside is not None
    assert beside.changes == (waiting,)


def test_it_says_while_a_change_waits() -> None:
    acts = Acts()
    assert not acts.waits
    acts.learn([change(link=5)], 1.0)
    assert acts.waits is True


def test_a_target_without_a_record_is_told_to_nobody() -> None:
    acts = Acts()
    acts.learn([target(context())], 1.0)
    assert acts.finish() == []


def test_a_refusal_is_told_at_once() -> None:
    acts = Acts()
    fact: Told = refusal(b"x")
    acts.learn([fact], 2.0)
    assert acts.due(2.0) == [(fact, 2.0)]


def test_lives_are_told_in_the_order_of_time_when_all_rings_were_read() -> None:
    acts = Acts()
    end, beginning = freed(7, 2_000), made("net", 7, 1_000)
    acts.learn([end], 2.0)
    assert (acts.due(2.0), acts.waits) == ([], True)
    acts.learn([beginning], 2.01)
    assert acts.due(2.001 + SETTLED) == [(beginning, 2.01), (end, 2.0)]
    assert not acts.waits


def test_only_what_has_settled_is_told() -> None:
    """Of the second one the beginning may still be in a ring that was read before it."""
    acts = Acts()
    first, second = freed(7, 2_000), freed(8, 2_001)
    acts.learn([first], 2.0)
    acts.learn([second], 2.04)
    assert acts.due(2.001 + SETTLED) == [(first, 2.0)]
    assert acts.due(2.05 + SETTLED) == [(second, 2.04)]


def test_a_packet_is_of_its_record() -> None:
    acts = Acts()
    packet = PacketNet(STAMP, 1, 1324, 7, 0)
    acts.learn([packet], 1.0)
    beside = acts.of(STAMP)
    assert beside is not None
    assert beside.packet == packet


def test_at_the_limit_the_oldest_goes_and_its_change_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALLS_MAX", 2)
    acts = Acts()
    changes = [change(link=number) for number in (1, 2, 3)]
    acts.learn(changes, 1.0)
    assert acts.forgotten == 1
    assert acts.due(1.0) == [(changes[0], 1.0)]


def test_what_was_told_is_kept_for_so_many_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOLD_MAX", 2)
    acts = Acts()
    for number in (5, 6, 7):
        acts.learn([change(link=number), target(context(), number + 10, 1)], 1.0)
        acts.due(1.0 + PATIENCE)
    kept = []
    for number in (5, 6, 7):
        acts.learn([link(number=number)], 3.0)
        beside = acts.of(STAMP)
        kept.append(0 if beside is None else len(beside.changes))
    assert kept == [0, 1, 1]
    acts.learn([link(number=17)], 3.0)
    assert acts.of(STAMP) is None


def test_stamps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STAMPS_MAX", 2)
    acts = Acts()
    acts.learn([link(b"1.000:%d" % number, number) for number in range(5)], 1.0)
    assert acts.forgotten == 3
    assert acts.of(b"1.000:0") is None


def test_a_call_whose_stamp_was_said_waits_for_a_reader_that_lags() -> None:
    acts = Acts()
    acts.learn([change(link=5), target(context(pid=4800)), link(number=5)], 1.0)
    assert acts.due(1.0 + 100 * PATIENCE) == []
    beside = acts.of(STAMP)
    assert beside is not None
    assert (len(beside.changes), len(beside.targets)) == (1, 1)


def test_the_link_may_be_in_a_ring_that_was_read_first() -> None:
    acts = Acts()
    acts.learn([link(number=5)], 1.0)
    acts.learn([change(link=5)], 1.1)
    beside = acts.of(STAMP)
    assert beside is not None
    assert len(beside.changes) == 1
    assert (acts.finish(), acts.waits) == ([], False)


def test_of_a_call_whose_records_never_came_the_change_is_told_at_the_end() -> None:
    acts = Acts()
    one = change(link=5)
    acts.learn([one, link(number=5)], 1.0)
    assert acts.finish() == [(one, 1.0)]
