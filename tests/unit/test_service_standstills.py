# SPDX-License-Identifier: Apache-2.0
"""What must not hold up the service's loop: work that has nothing to do with the events that wait."""

from __future__ import annotations

import gc

from tests.unit.test_service import Bench, bench

__all__ = ["bench"]


def test_the_search_for_cycles_passes_over_what_was_there_at_the_start(bench: Bench) -> None:
    before, during = gc.get_freeze_count(), []
    bench.run(bench.event, lambda _: during.append(gc.get_freeze_count()))
    assert during[0] - before > 10_000
    assert gc.get_freeze_count() == before
