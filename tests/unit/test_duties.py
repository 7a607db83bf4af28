# SPDX-License-Identifier: Apache-2.0
"""Whether anything is due between two turns of the service."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest

from enricher.clock import TurnClock
from enricher.runtime.duties import DUE, Duties


class Output:
    error = ""
    waits = False


class Journal:
    patience = math.inf
    is_due = False

    def due(self, now: float) -> bool:
        return self.is_due and now > 0


@pytest.fixture
def output() -> Output:
    return Output()


@pytest.fixture
def duties(output: Output) -> Duties:
    clock = TurnClock()
    clock.now = 100.0
    made = Duties(clock, cast("Any", output), 10.0)
    made.next = 100.5
    return made


def test_where_nothing_is_due_it_is_asked_again_in_time(duties: Duties) -> None:
    assert duties.wait("") == 10.0
    journal = Journal()
    duties.journal = cast("Any", journal)
    assert duties.wait("") == 10.0
    journal.patience = 0.2
    assert duties.wait("") == 0.2


def test_the_clock_makes_something_due(duties: Duties) -> None:
    duties.next = 100.0
    assert duties.wait("") == DUE


def test_what_happened_makes_something_due(duties: Duties, output: Output) -> None:
    output.error = "full"
    assert duties.wait("") == DUE
    assert duties.wait("full") == 10.0
    output.waits = True
    assert duties.wait("full") == DUE
    output.waits = False
    journal = Journal()
    journal.is_due = True
    duties.journal = cast("Any", journal)
    assert duties.wait("full") == DUE
