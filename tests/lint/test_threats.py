# SPDX-License-Identifier: Apache-2.0
"""The threat model's table and the suite that makes its attempts say the same."""

from __future__ import annotations

import re

from tests.lint.tree import ROOT

MODEL = ROOT / "docs/threat-model.md"
SUITES = [ROOT / "tests/suites" / f"test_{name}.py" for name in ("threats", "threats_long", "threats_auditd")]


def rows() -> list[list[str]]:
    table = MODEL.read_text().partition("## What they try\n")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_every_row_has_its_attempt_or_says_why_not() -> None:
    for row in rows():
        cell = row[5] if len(row) > 5 else row[4]
        assert cell.startswith("no: ") or re.search(r"`test_\w+`|`tests/suites/test_\w+\.py`", cell), row


def test_the_suite_has_the_attempts_that_are_named_and_no_others() -> None:
    named = {name for row in rows() for name in re.findall(r"`(test_\w+)`", row[-1])}
    text = "".join(suite.read_text() for suite in SUITES)
    assert named == set(re.findall(r"^def (test_\w+)", text, re.MULTILINE))
