# SPDX-License-Identifier: Apache-2.0
"""The accuracy tables in docs/performance.md are the raw data that is published beside them, and all of it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.lint.tree import ROOT

PERFORMANCE = ROOT / "docs" / "performance.md"
RAW = ROOT / "docs" / "performance"
TABLES = (
    ("accuracy-6.1.json", "runtime"),
    ("accuracy-6.1.json", "act"),
    ("accuracy-7.2.json", "runtime"),
    ("accuracy-7.2.json", "act"),
    ("accuracy-6.1-v1.json", "runtime"),
    ("accuracy-6.1-hybrid.json", "runtime"),
)
"""In the order of the document: where each is from, and what its rows are."""


def tables(text: str) -> list[str]:
    """Return the tables of the section on accuracy that are by runtime or by act."""
    section = text.partition("\n## Accuracy\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return [block for block in blocks if block.startswith(("| runtime |", "| act |"))]


def table(path: Path, by: str) -> str:
    """Return a table as the document has to have it."""
    programs = json.loads(path.read_text())["programs"]
    cells: dict[str, list[str]] = {}
    for said in programs.values():
        rows = [dict(zip(said["columns"], tally, strict=True)) for tally in said["tallies"]]
        sums: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for row in rows:
            for key in (row["row" if by == "runtime" else "act"], "all"):
                for name in ("events", "right", "wrong", "unknown", "lost"):
                    sums[key][name] += row[name]
        total = sums.pop("all")
        for key, counts in [*sums.items(), ("all", total)]:
            line = cells.setdefault(key, [key, str(counts["events"])])
            line.append(" / ".join(str(counts[name]) for name in ("right", "wrong", "unknown", "lost")))
    names = [re.sub(r"-\d+$", "", name) for name in programs]  # without the packages' own revisions
    head = f"| {by} | events | {' | '.join(names)} |\n|---|--:|{'--:|' * len(programs)}\n"
    return head + "".join(f"| {' | '.join(line)} |\n" for line in cells.values())


def test_every_table_is_the_raw_data() -> None:
    said = tables(PERFORMANCE.read_text())
    assert len(said) == len(TABLES)
    for text, (name, by) in zip(said, TABLES, strict=True):
        assert text == table(RAW / name, by), f"{name} by {by}"


def test_all_raw_data_is_shown_and_linked() -> None:
    published = {path.name for path in RAW.glob("accuracy-*.json")}
    assert published == {name for name, _ in TABLES}
    text = PERFORMANCE.read_text()
    for name in published:
        assert f"(performance/{name})" in text
        assert f"Kernel {json.loads((RAW / name).read_text())['kernel']}" in text


@pytest.mark.parametrize("old", ["| incus | 1140 | 1140 / 0", "| exec | 520 | 520 / 0"])
def test_another_figure_would_be_seen(old: str) -> None:
    text = PERFORMANCE.read_text()
    assert old in text
    said = tables(text.replace(old, old.replace(" / 0", "1 / 0"), 1))
    expected = [table(RAW / name, by) for name, by in TABLES]
    assert sum(one != other for one, other in zip(said, expected, strict=True)) == 1
