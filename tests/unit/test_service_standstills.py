# SPDX-License-Identifier: Apache-2.0
"""What must not hold up the service's loop: work that has nothing to do with the events that wait."""

from __future__ import annotations

import gc
from threading import Event

import pytest

from enricher.runtime import state
from enricher.runtime.state import Left
from tests.unit.test_service import Asked, Bench, bench

__all__ = ["bench"]


def test_the_search_for_cycles_passes_over_what_was_there_at_the_start(bench: Bench) -> None:
    before, during = gc.get_freeze_count(), []
    bench.run(bench.event, lambda _: during.append(gc.get_freeze_count()))
    assert during[0] - before > 10_000
    assert gc.get_freeze_count() == before


def test_the_journal_is_written_while_it_runs(bench: Bench) -> None:
    seen: list[object] = []

    def look(asked: Asked) -> None:
        bench.saved(asked)
        assert bench.running._journal is not None
        seen.append(bench.running._journal.facts()["events"])

    bench.run(bench.event, *[look] * 12)
    assert seen[0] == 0
    assert seen[-1] == 1


def test_events_do_not_wait_for_the_disk_that_the_state_is_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One entry at a time; the end waits, and its own entry is the last."""
    disk, entered = Event(), list[Left]()

    def save(_: str, left: Left) -> None:
        if entered:  # the first is made before the loop begins
            assert disk.wait(30)
        entered.append(left)

    monkeypatch.setattr(state, "save", save)
    bench.run(*[bench.event, *[lambda _: None] * 3] * 4, bench.event, lambda _: disk.set())
    serials = [int(event["id"].rpartition(":")[2]) for event in bench.events()]
    assert serials[:2] == [101, 102]
    assert len(serials) == 6
    assert [left.serial for left in entered] == sorted(left.serial for left in entered)
    assert [left.closed for left in entered] == [False, False, True]
