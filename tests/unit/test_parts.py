# SPDX-License-Identifier: Apache-2.0
"""The parts that `make test` runs beside each other: each has its tests, and one that fails is not overlooked."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import TYPE_CHECKING

import pytest

from tests import parts
from tests.vm.kernels import SLOTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(240)  # a run of pytest takes seconds on a busy machine
GOOD = "def test_it() -> None: pass"
BAD = "def test_it() -> None: assert 0"


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], parts.Part]:
    """Makes a part that runs a file with this content, outside of this tree's own tests."""
    monkeypatch.setattr(parts, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(parts, "ROOT", tmp_path)

    def make(name: str, text: str) -> parts.Part:
        path = tmp_path / f"test_{name}.py"
        path.write_text(text)
        return parts.Part(name, ["-p", "no:cacheprovider", str(path)])

    return make


def test_every_kernel_has_its_part() -> None:
    names = [part.name for part in parts.parts(list(SLOTS))]
    assert sorted(names) == sorted(["units", *SLOTS, "own"])
    assert [part.name for part in parts.parts(["6.1"])] == ["units", "6.1", "own"]


def test_the_last_parts_have_every_test_of_theirs_once() -> None:
    files = list((parts.ROOT / "tests/interop").glob("test_*.py"))
    chosen = [
        path.name
        for part in parts.last_parts([])
        for word in part.select
        if word.startswith("--ignore-glob=")
        for path in files
        if not fnmatch(str(path), word.partition("=")[2])
    ]
    assert sorted(chosen) == sorted(path.name for path in files)


def test_parts_by_parameter(
    part: Callable[[str, str], parts.Part], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    part(
        "ids",
        'import pytest\n@pytest.mark.parametrize("x", ["6.1", "6.1-v1"])\ndef test_it(x): assert x == "6.1"',
    )
    assert parts.main(["--ids", "6.1,6.1-v1", str(tmp_path / "test_ids.py")]) == 1
    said = capsys.readouterr().out
    assert said.count("FAILED ") == 2  # in the output of its part, and in the summary
    assert "test_it[6.1-v1]" in said
    assert said.count("1 passed") == 2


def test_one_that_fails(part: Callable[[str, str], parts.Part], capsys: pytest.CaptureFixture[str]) -> None:
    """Its failure is in the summary, and what comes after it is run all the same."""
    statuses = parts.perform(
        [part("one", GOOD), part("two", BAD), part("none", ""), part("four", GOOD)], [], 2
    )
    assert statuses == {"one": 0, "two": 1, "none": parts.NO_TESTS, "four": 0}
    parts.summary(statuses, 1.0)
    said = capsys.readouterr().out.partition("==== parts ====")[2]
    assert "FAILED test_two.py::test_it" in said
    assert said.count("1 passed") == 2
    assert "none" not in said


def test_the_status_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, status in (
        ({"a": 0, "b": parts.NO_TESTS}, 0),
        ({"a": 0, "b": 1}, 1),
        ({"a": parts.NO_TESTS, "b": parts.NO_TESTS}, 1),
        ({"a": -9, "b": 0}, 1),
    ):
        monkeypatch.setattr(parts, "perform", lambda *_, found=found: found)
        monkeypatch.setattr(parts, "summary", lambda *_: None)
        assert parts.main([]) == status
