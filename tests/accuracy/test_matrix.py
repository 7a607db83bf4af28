# SPDX-License-Identifier: Apache-2.0
"""Every runtime, every act, beside auditd and two LAURELs; see docs/performance.md."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.accuracy.gate import hold
from tests.accuracy.incus import Incus
from tests.accuracy.matrix import FULL, OURS, full_runtimes, perform
from tests.accuracy.report import write
from tests.suites.staging import installed
from tests.suites.test_cgroup_v1 import APPENDED
from tests.vm.cache import tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.accuracy.conftest import Host, Staged

pytestmark = pytest.mark.full


BEGUN = "ACCURACY_BEGUN"
"""From make: when it began, in seconds of the epoch."""
LIMIT = 50 * 60.0
"""Seconds for all boots together, from when make began, set-up included."""


@pytest.mark.timeout(2700)  # the first builds the image, and another waits for it
def test_every_event(
    host: Host, staged: Staged, rows: list[str], record_property: Callable[[str, object], None]
) -> None:
    began = time.time()
    append = APPENDED.get(host.hierarchy, "")
    with installed(host.slot, staged.share, extra_append=append, memory=3072) as guest:
        # Incus costs as much as four others: once for each kernel.
        with_incus = staged.incus and host.hierarchy == "unified"
        chosen = [*([Incus()] if with_incus else []), *full_runtimes()]
        if rows:
            outcome = perform(guest, [each for each in chosen if each.row in rows], FULL, staged.versions)
            tell("\n" + write(outcome, f"{host.slot}-{host.hierarchy}-some", time.time() - began))
            assert {tally.row for tally in outcome.scores[OURS].tallies} == {*rows, "host"}
            hold(outcome, host.hierarchy)
            return
        outcome = perform(guest, chosen, FULL, staged.versions)
    if not with_incus:
        why = "left out beside cgroup v1" if staged.incus else "the mirror has no backports"
        outcome = outcome._replace(skipped={"incus": why})
    name = host.slot if host.hierarchy == "unified" else f"{host.slot}-{host.hierarchy}"
    tell("\n" + write(outcome, name, time.time() - began))
    record_property("release", outcome.release)
    for program, score in outcome.scores.items():
        counts = ("events", "right", "wrong", "unknown", "lost")
        record_property(program, ", ".join(f"{score.total(count)} {count}" for count in counts))
    hold(outcome, host.hierarchy)
    assert int(outcome.figures["pids that both containers had"]) > 0
    assert int(outcome.figures["inums that came again"]) > 0
    rivals = [score for program, score in outcome.scores.items() if program != OURS]
    assert len(rivals) == 2
    assert all(score.total("right") > 0 for score in rivals), "a rival that says nothing is not running"
    if begun := os.environ.get(BEGUN):
        took = time.time() - float(begun)
        record_property("seconds since make began", f"{took:.0f}")
        assert took < LIMIT
