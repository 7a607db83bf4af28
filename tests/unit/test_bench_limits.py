# SPDX-License-Identifier: Apache-2.0
"""What a benchmark must not let pass: memory that grows from round to round, and a journal beyond its bound."""

from __future__ import annotations

import pytest

from tests.bench.bench_churn import JOURNAL, faults

FLAT = [60_000, 80_000, 95_000, 100_000, 100_000]


@pytest.mark.parametrize(
    ("last", "journal", "said"),
    [
        (105_000, JOURNAL, []),
        (90_000, 0, []),
        (105_001, 0, ["memory grows: 100000 KiB, then 105001 KiB"]),
        (100_000, JOURNAL + 1, [f"the journal has {JOURNAL + 1} bytes of {JOURNAL}"]),
    ],
)
def test_churn(last: int, journal: int, said: list[str]) -> None:
    assert faults([*FLAT, last], journal) == said


def test_too_few_rounds_of_churn_tell_nothing() -> None:
    (said,) = faults(FLAT, 0)
    assert "5 rounds tell nothing" in said
