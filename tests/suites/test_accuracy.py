# SPDX-License-Identifier: Apache-2.0
"""`make accuracy` in small: real runtimes and the acts where guessing fails, without the rivals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.accuracy.gate import hold
from tests.accuracy.matrix import OURS, REDUCED, perform, reduced_runtimes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vm.guest import Guest


@pytest.mark.only_on("newest")
def test_every_event(guest: Guest, record_property: Callable[[str, object], None]) -> None:
    outcome = perform(guest, reduced_runtimes(), REDUCED)
    ours = outcome.scores[OURS]
    counts = ("events", "right", "wrong", "unknown", "lost")
    record_property("accuracy", ", ".join(f"{ours.total(count)} {count}" for count in counts))
    record_property("accuracy took", outcome.figures)
    hold(outcome)
