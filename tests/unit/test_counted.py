# SPDX-License-Identifier: Apache-2.0
"""What a record costs, held against the table in the repository: no stage may take more without somebody saying so."""

from __future__ import annotations

import pytest

from enricher.sources.audit.text import stamp_of
from tests.bench import line
from tests.bench.counted import METERS, Table, faults, in_a_process, known, version
from tests.bench.line import ROWS, Line, made, rows_of

ONE: Table = {"decode": {"calls": 3.0, "instructions": 100.0, "objects": 5.0}}


def test_no_stage_takes_more_than_the_table_says() -> None:
    """Where it is to: ``python -m tests.bench.counted --write``, and the reason in the commit."""
    python, table = known()
    assert set(table) == {row.name for row in ROWS}
    assert all(set(figures) == set(METERS) for figures in table.values())
    if python != version():
        pytest.skip(f"the table is of Python {python}, this is {version()}: its instructions are other ones")
    assert faults(table, in_a_process()) == []


@pytest.mark.parametrize(
    ("unit", "figure", "said"),
    [
        ("calls", 3.05, ""),
        ("calls", 3.1, "decode: 3.1 calls a record, and 3.0 in the table"),
        ("calls", 4.0, "decode: 4.0 calls a record, and 3.0 in the table"),
        ("calls", 2.8, ""),
        ("calls", 2.0, "decode: only 2.0 calls a record, and 3.0 in the table: make it anew"),
        ("instructions", 102.0, ""),
        ("instructions", 103.0, "decode: 103.0 instructions a record, and 100.0 in the table"),
        ("objects", 5.2, "decode: 5.2 objects a record, and 5.0 in the table"),
    ],
)
def test_how_far_a_figure_may_be_from_the_table(unit: str, figure: float, said: str) -> None:
    assert faults(ONE, {"decode": {**ONE["decode"], unit: figure}}) == ([said] if said else [])


def test_a_stage_that_the_table_does_not_know_is_a_fault() -> None:
    assert faults({}, {"decode": {"calls": 1.0}}) == ["decode: the table has no calls"]


def test_a_call_more_for_each_record_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meters themselves, on a stage that is made to do something more."""
    batch = made(0)
    real = stamp_of

    def more(text: bytes) -> bytes | None:
        return real(text)

    for unit, step in (("calls", 1.0), ("instructions", 5.0)):
        figures = []
        for function in (real, more):
            monkeypatch.setattr(line, "stamp_of", function)
            with Line() as stages:
                counted: dict[str, int] = {}

                def meter(name: str, work: line.Step) -> object:
                    counted[name], result = METERS[unit](work)  # noqa: B023 - used in this turn only
                    return result

                stages.pass_on(batch, meter)
            figures.append(counted["stamps"] / len(batch.records))
        assert figures[1] - figures[0] >= step, unit


def test_differences_are_of_stages_before() -> None:
    steps = {row.step: 10.0 * (1 + at) for at, row in enumerate(ROWS)}
    found = rows_of(steps)
    assert found["receive"] == steps["fill"]
    assert found["identity"] == steps["native"] - steps["entries"]
    assert sum(found.values()) == sum(steps.values()) - sum(steps[less] for row in ROWS for less in row.less)
