# SPDX-License-Identifier: Apache-2.0
"""docs/capture.md says what is there: every member with its nil, every size, and a reader that works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from enricher.model import HostFacts, KernelCounts
from enricher.sources import capture
from enricher.sources.bpf import wire
from tests.unit.sample_capture import HEAD, RECORDS, write

TEXT = (Path(__file__).parents[2] / "docs" / "capture.md").read_text()


def section(title: str) -> str:
    return re.split(r"^#+ ", TEXT.partition(f"# {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def rows(title: str) -> dict[str, list[str]]:
    """Rows of a section's tables that begin with a name in code."""
    found = re.findall(r"^\| `(\w+)` \|(.*)\|$", section(title), re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in found}


def test_every_count_with_its_nil() -> None:
    told = {name: cells[1] for name, cells in rows("counts").items()}
    defaults = KernelCounts._field_defaults
    assert told == {name: "yes" if defaults[name] is None else "no" for name in KernelCounts._fields}


def test_every_member_of_the_head() -> None:
    told = set(rows("head"))
    assert told == set(HostFacts._fields) | (set(HEAD._fields) - {"facts"})


def test_every_kind_of_frame() -> None:
    assert set(rows("Frames")) == set(capture._MAKERS)
    for kind in capture._MAKERS:
        assert section(kind)


def test_figures() -> None:
    assert f"{capture.FRAME_MAX:,}".replace(",", " ") in section("Framing")
    for name in ("context_event", "context_deep_event", "tally_event"):
        assert re.search(
            rf"{name}`\s+of\s+{wire.SIZES[name]}", section("turn").replace("`struct\n", "`struct ")
        )
    assert f"| format | integer | {capture.FORMAT} |" in TEXT
    assert f"| message version | integer | {wire.EVENT_VERSION}," in TEXT


def test_the_reader_reads(tmp_path: Path) -> None:
    script = TEXT.partition("```python\n")[2].partition("```")[0]
    write(tmp_path / "c")
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "c")], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"{each.type} {each.text!r}" for each in RECORDS]
