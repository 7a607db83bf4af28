# SPDX-License-Identifier: Apache-2.0
"""The soak's plan and verdict, without a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.suites import soak_hardening
from tests.suites.faults import FAULTS
from tests.suites.soak_hardening import LEAST, Soak, Step, fault_of, faults, main, slope

if TYPE_CHECKING:
    from pathlib import Path

GOOD = Step(0, "clock", 30.0, 500, 3, 0, 0, 77, 50_000, 0.0)


def steps(count: int = 3 * LEAST, growth: int = 0) -> list[Step]:
    return [GOOD._replace(number=n, at=30.0 * n, resident=50_000 + growth * n) for n in range(count)]


def test_the_seed_alone_decides() -> None:
    plan = [fault_of(7, number, 0.0, []) for number in range(200)]
    assert plan == [fault_of(7, number, 0.0, []) for number in range(200)]
    assert plan != [fault_of(8, number, 0.0, []) for number in range(200)]
    assert {name for name, _ in plan} == set(FAULTS)
    assert {fault_of(7, number, 0.5, [])[0] for number in range(200)} == {
        name for name, fault in FAULTS.items() if not fault.ends
    }
    assert {fault_of(7, number, 0.9, ["disk"])[0] for number in range(9)} == {"disk"}


def test_the_verdict() -> None:
    assert faults(steps()) == []
    assert faults([*steps(), GOOD._replace(unaccounted=2)]) == ["2 records are unaccounted for"]
    assert faults([*steps(), GOOD._replace(wrong=1)]) == ["1 facts are wrong"]
    (grows,) = faults(steps(growth=500))
    assert grows.startswith("memory grows: 1000.0 KiB a minute")
    assert faults(steps(2)) == ["too few looks at one process to say anything of its memory: 2"]


def test_memory_is_looked_at_in_one_process() -> None:
    restarted = [step._replace(pid=step.number, resident=step.number * 9000) for step in steps(20)]
    minute, growth, looks = slope([*restarted, *steps()])
    assert (minute, growth, looks) == (0.0, 0.0, 2 * LEAST)


def test_it_goes_on_where_it_was_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak_hardening, "INTO", tmp_path)
    first = Soak("newest", 5)
    for step in steps(3):
        first._add(step)
    again = Soak("newest", 5)
    assert (again.steps, again.done) == (steps(3), 60.0)
    assert again.summary()["told as lost"] == 9
    assert Soak("newest", 6).steps == []


@pytest.mark.parametrize("words", [["--minutes", "60"], ["--minutes", "0"], ["--only", "nothing"]])
def test_what_it_does_not_take(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(words)
