# SPDX-License-Identifier: Apache-2.0
"""The spool beside a plain list, whatever is done to both in whatever order."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from enricher.clock import ManualClock
from enricher.sinks.delivery.segments import BLOCK
from enricher.sinks.delivery.spool import Spool
from tests.unit.sample_delivery import lost, message, numbers, spool


class _Machine(RuleBasedStateMachine):
    """What the list has is what the spool delivers, but what it told to be lost."""

    size = 1 << 30
    policy = "drop_oldest"

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(prefix="spool-"))
        self.clock = ManualClock()
        self.expected: list[int] = []  # put and not done; from the front some may be lost
        self.in_hand: list[int] = []
        self.count = 0
        self.lost = self.missing = 0
        self.full = False
        self.queue = self.opened()

    def opened(self) -> Spool:
        return spool(self.path / "s", size=self.size, policy=self.policy, segment=3_000, clock=self.clock)

    @rule(count=st.integers(0, 12), size=st.sampled_from([1, 200, 1000]))
    def put(self, count: int, size: int) -> None:
        fresh = [message(self.count + at, b"x" * size, records=1) for at in range(count)]
        self.count += count
        self.expected += numbers(fresh)
        self.queue.put(fresh)

    @rule(most=st.integers(1, 15))
    def take(self, most: int) -> None:
        self.in_hand = numbers(self.queue.take(most, 0))
        self._met()

    def _met(self) -> None:
        """What was taken is the head of what is expected, but for what was lost before and in between."""
        for at, number in enumerate(self.in_hand):
            assert number in self.expected[at:], (self.in_hand, self.expected)
            where = self.expected.index(number, at)
            self.missing += where - at
            del self.expected[at:where]

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, len(self.in_hand)))
        self.queue.done(count)
        del self.in_hand[:count], self.expected[:count]

    @rule()
    def tell(self) -> None:
        self.lost += lost(self.queue)

    @rule()
    def reopen(self) -> None:
        self.lost += lost(self.queue)
        self.queue.close()
        self.in_hand = []
        self.queue = self.opened()

    @rule()
    def kill(self) -> None:
        """What a kill leaves: nothing is closed in order, and what was not told has to be found again.

        But for what never had a number, refused because there was no room: that is told, or in the cursor, or gone.
        """
        if self.queue._account.cursor().owed:
            self.tell()
        self.queue._directory.close()
        self.queue._close_reader()
        self.queue._log.seal()
        self.in_hand = []
        self.queue = self.opened()

    @invariant()
    def is_bounded(self) -> None:
        assert self.queue.size + BLOCK * len(self.queue._log.all) <= self.size
        assert self.queue.error == ""

    def teardown(self) -> None:
        while True:
            self.take(10)
            if not self.in_hand:
                break
            self.queue.done(len(self.in_hand))
            del self.expected[: len(self.in_hand)]
        self.missing += len(self.expected)
        assert self.queue.waiting == 0
        self.lost += lost(self.queue)
        self.queue.close()
        self.account()
        shutil.rmtree(self.path)

    def account(self) -> None:
        assert (self.lost, self.missing) == (0, 0)


class Unbounded(_Machine):
    """Nothing is ever lost."""


class DropOldest(_Machine):
    """What is lost is told, once."""

    size = 40_000

    def account(self) -> None:
        assert self.lost == self.missing


class DropNewest(DropOldest):
    """The same where what comes goes."""

    policy = "drop_newest"


@pytest.mark.parametrize("machine", [Unbounded, DropOldest, DropNewest])
def test_the_spool_is_a_list(machine: type[_Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _: None)  # no power is cut
    # Shrinking takes minutes, and what is found is short as it is.
    phases = [Phase.explicit, Phase.reuse, Phase.generate]
    run_state_machine_as_test(
        machine, settings=settings(max_examples=25, stateful_step_count=40, deadline=None, phases=phases)
    )
