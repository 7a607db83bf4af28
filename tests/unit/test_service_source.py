# SPDX-License-Identifier: Apache-2.0
"""The service where whoever brings the records comes to an end."""

from __future__ import annotations

from enricher.runtime import state
from tests.unit.test_service import Asked, Bench, bench

__all__ = ["bench"]


def test_the_end_of_what_brings_the_records(bench: Bench) -> None:
    """As when auditd ends: all that it handed on was given out, so what is missing begins behind that."""

    def end(_: Asked) -> None:
        bench.host.ended = True
        bench.host.delivers = False

    summary = bench.run(bench.event, bench.event, end, *[bench.event] * 9)
    assert summary.balanced
    last = max(int(event["id"].rpartition(":")[2]) for event in bench.events())
    left = state.load(str(bench.directory))
    assert left is not None
    assert (left.serial, left.closed) == (last, True)
