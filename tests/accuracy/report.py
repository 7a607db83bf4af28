# SPDX-License-Identifier: Apache-2.0
"""The comparison as a table for people and as JSON for the record.

Owns both forms and where they go: build/accuracy. Never judges.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from tests.accuracy.matrix import OURS
from tests.accuracy.score import Tally

if TYPE_CHECKING:
    from tests.accuracy.matrix import Outcome
    from tests.accuracy.score import Score

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / "build/accuracy"
_COUNTS = ("right", "wrong", "unknown", "lost")


def table(outcome: Outcome, by: str) -> str:
    """Return one table; a row for each runtime (`by` = "row") or each act ("act")."""
    names = list(outcome.scores)
    lines = [
        f"| {by.replace('row', 'runtime')} | events | " + " | ".join(names) + " |",
        "|---|--:|" + "--:|" * len(names),
    ]
    sums = {name: _sums(score, by) for name, score in outcome.scores.items()}
    for key, counts in sums[names[0]].items():
        cells = ["/".join(str(sums[name][key][count]) for count in _COUNTS) for name in names]
        lines.append(f"| {key} | {counts['events']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _sums(score: Score, by: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for tally in score.tallies:
        for name in ("events", *_COUNTS):
            # Each act counts for all of its rows, and for all rows at the end.
            for key in (getattr(tally, by), "all"):
                found[key][name] += getattr(tally, name)
    total = found.pop("all")
    return {**found, "all": total}


def commit() -> str:
    """Return the commit of this checkout, with "-dirty" where files differ from it; "" where there is none."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def write(outcome: Outcome, name: str, seconds: float) -> str:
    """Write NAME.json and NAME.txt; returns the text. `seconds` is what this boot took, with its set-up."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    figures = "\n".join(f"{key}: {value}" for key, value in {**outcome.figures, **outcome.skipped}.items())
    head = f"{outcome.release}: right/wrong/unknown/lost"
    text = "\n\n".join((head, table(outcome, "row"), table(outcome, "act"), figures)) + "\n"
    (DIRECTORY / f"{name}.txt").write_text(text)
    data = {
        "kernel": outcome.release,
        "commit": commit(),
        "seconds": round(seconds),
        "programs": {
            program: {
                "columns": Tally._fields,
                "tallies": score.tallies,
                "not_right": score.samples,
                **({"not_named": [each.tag for each in score.unnamed]} if program == OURS else {}),
            }
            for program, score in outcome.scores.items()
        },
        "account": outcome.account._asdict(),
        "figures": outcome.figures,
        "skipped": outcome.skipped,
    }
    (DIRECTORY / f"{name}.json").write_text(_lines(data) + "\n")
    return text


def _lines(data: object) -> str:
    """Return JSON with an innermost list on one line, since a tally is one."""
    text = json.dumps(data, indent=1)
    return re.sub(r"\[[^][{}]*\]", lambda found: re.sub(r"\n\s*", " ", found[0]), text)
