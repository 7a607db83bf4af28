# SPDX-License-Identifier: Apache-2.0
"""The cost model: every stage has its figure, in the table and in the picture."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.bench import bench_stages
from tests.bench.line import ROWS
from tests.bench.picture import bars


def test_every_stage_has_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_stages.main(["--batches", "1", "--rounds", "2", "--into", str(tmp_path)])
    said = json.loads((tmp_path / "stages.json").read_text())
    for stages in said["us_per_record"].values():
        assert list(stages) == [row.name for row in ROWS]
        assert all(len(figures) == 2 for figures in stages.values())
        assert min(stages["receive"] + stages["decode"]) > 0
    assert list(said["us_per_record"])[:1] == ["interpreted"]
    table = capsys.readouterr().out
    picture = (tmp_path / "stages.svg").read_text()
    for row in ROWS:
        assert f"\n| {row.name} | " in table
        assert f">{row.name}</text>" in picture


def test_a_bar_is_as_long_as_its_figure() -> None:
    picture = ET.fromstring(bars("a <title>", {"small": 1.0, "large": 4.0, "below": -1.0}, "us"))  # noqa: S314 - made here
    rows = [float(rect.attrib["width"]) for rect in picture if rect.attrib.get("fill") == "#3b6ea5"]
    assert rows == [rows[1] / 4, rows[1], 0.0]
    assert rows[1] > 100
    assert next(text.text for text in picture if text.tag.endswith("text")) == "a <title>"


def test_nothing_to_show_is_an_empty_picture() -> None:
    assert bars("nothing", {}, "us").endswith("</svg>\n")
