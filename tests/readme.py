# SPDX-License-Identifier: Apache-2.0
"""README's example: one event of the demo, and the rows that the demo shows for the command it is of.

Owns where both stand in README, and what of two events can be compared when every value differs: their members.
Never judges; the tests do.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.lint.tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["COMMAND", "KERNEL", "event", "life_is_missing", "members", "rows", "shape"]

COMMAND = "podman exec web cat /host/shadow"
"""What README's event and rows are of."""

KERNEL = "6.12"
"""The demo's own choice, and so where README's event is from: others record other fields."""

_TABLE = re.compile(r"^    (?P<row>\d\d:\d\d:\d\d\.\d\d\d .*)$", re.MULTILINE)
_NUMBER = re.compile(r"\d{3,}")  # pids of the host and inodes; those inside, uids and exit codes are shorter


def _text() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def event() -> dict[str, Any]:
    """The event in README's first block of JSON."""
    read: dict[str, Any] = json.loads(_text().partition("\n```json\n")[2].partition("\n```\n")[0])
    return read


def rows() -> list[str]:
    """The rows of the table below `COMMAND`, by their shape."""
    block = _text().partition(f"\n    $ {COMMAND}\n")[2].partition("\n\n")[0]
    return [shape(row) for row in _TABLE.findall(block)]


def shape(row: str) -> str:
    """A row of the table without its time, and without what differs from run to run."""
    return _NUMBER.sub("N", " ".join(row.split()[1:]))


def members(value: object, at: str = "") -> Iterator[str]:
    """Every member in an event, as a path; records by their type, so that two of a type count as one."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{at}.{name}"
            yield from members(inner, f"{at}.{name}")
    elif isinstance(value, list):
        for inner in value:
            kind = inner.get("type", "") if isinstance(inner, dict) else ""
            yield from members(inner, f"{at}[{kind}]")


def life_is_missing(of: dict[str, Any]) -> list[str]:
    """The kinds of namespaces whose entry has the kernel's own number but not the life, which is that number."""
    entries = {kind: entry for kind, entry in of["namespaces"].items() if isinstance(entry, dict)}
    return [kind for kind, entry in entries.items() if "id" in entry and entry.get("life") != entry["id"]]
