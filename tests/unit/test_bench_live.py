# SPDX-License-Identifier: Apache-2.0
"""The table of the live comparison: pairs of one round, loss beside cost. The comparison itself runs in a guest."""

from __future__ import annotations

from tests.bench.live import OURS, THEIRS, Json, Run, line_of, table


def run(program: str, cpu: float, *, started: int = 1000, delivered: int = 1000, late: float = 2.0) -> Run:
    told: Json = {
        "started": started,
        "seconds": 10.0,
        "delivered": delivered,
        "cpu": {"kauditd": cpu / 2, "a.service": cpu / 2},
        "latency_ms": {"50": late, "90": late, "99": 3 * late},
    }
    return Run(program, 50, 100, told)


def test_cost_is_of_all_that_was_started() -> None:
    half = run(OURS, 1.0, delivered=500)
    assert half.cost == 1000.0
    assert half.lost == 500
    assert "500 of 1000 lost" in line_of(half)


def test_rounds_are_paired() -> None:
    rows = table(
        [run(THEIRS, 2.0), run(OURS, 1.0), run(OURS, 1.5), run(THEIRS, 6.0, delivered=999)]
    ).splitlines()
    assert rows[2:] == [
        "| 50 % | audit-enricher | 100 | 1250 | 0.25 / 0.38 / 0.50 | 0 of 2,000 | 2.0 | 6.0 |",
        "| 50 % | auditd + LAUREL | 100 | 4000 | 1.00 / 1.00 / 1.00 | 1 of 2,000 | 2.0 | 6.0 |",
    ]


def test_one_alone_has_no_ratio() -> None:
    (row,) = table([run(OURS, 1.0)]).splitlines()[2:]
    assert row == "| 50 % | audit-enricher | 100 | 1000 | - | 0 of 1,000 | 2.0 | 6.0 |"
