# SPDX-License-Identifier: Apache-2.0
"""What every file has to have, and must not have: licence, size, no trace of the machine it came from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.lint.tree import files, relative

if TYPE_CHECKING:
    from pathlib import Path

LINES_MAX = 500
HEAD_LINES = 5
APACHE = "Apache-2.0"
DUAL = "GPL-2.0 OR BSD-2-Clause"

TAG = "SPDX-License-" + "Identifier:"
NO_COMMENTS = frozenset({".json", ".jsonl"})
"""Formats that cannot carry the line."""
DATA = ("LICENSES/", "tests/corpus/", "tests/data/", "tests/unit/data/")
"""Texts of others, and captured bytes that must stay as they are."""

# Put together here, so that this file does not contain what it looks for.
HOSTS = "|".join(
    [
        r"\b[a-z-]+\.debian" + r"\.org",
        "py" + r"pi\.org",
        "python" + r"hosted\.org",
        "npm" + r"js\.org",
    ]
)
PATHS = "|".join(
    r"(?<![\w.$}-])/" + name for name in ("work/", r"root/\.", r"home/\w+/", r"tmp/bash", r"opt/pyp")
)
LEAK = re.compile(f"{HOSTS}|{PATHS}")


def text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None  # binary: a capture, a picture


def is_data(path: Path) -> bool:
    return relative(path).startswith(DATA)


def test_every_file_names_its_licence() -> None:
    wrong = []
    for path in files():
        if is_data(path) or path.suffix in NO_COMMENTS or relative(path) == "LICENSE":
            continue
        text = text_of(path)
        if text is None:
            continue
        expected = DUAL if relative(path).startswith("bpf/") else APACHE
        head = text.splitlines()[:HEAD_LINES]
        # The comment's end may follow: */ or -->
        if not any(re.search(rf"{TAG} {re.escape(expected)}( \*/| -->)?$", line) for line in head):
            wrong.append(f"{relative(path)}: no line '{TAG} {expected}' in the first {HEAD_LINES}")
    assert not wrong, "\n".join(wrong)


def test_the_kernel_side_declares_the_same_licence() -> None:
    declared = [relative(path) for path in files(".c", under="bpf") if '"Dual BSD/GPL"' in path.read_text()]
    assert declared == ["bpf/contid/maps.bpf.c", "bpf/maps.bpf.c"], "one licence section for each object"


def test_no_module_outgrows_a_screenful_of_screens() -> None:
    sizes = {relative(path): len(path.read_text().splitlines()) for path in files(".py", ".c", ".h")}
    large = {name: size for name, size in sizes.items() if size > LINES_MAX}
    assert not large, f"more than {LINES_MAX} lines, split by what each part owns: {large}"


def test_no_file_tells_where_it_was_written() -> None:
    found = []
    for path in files():
        text = None if relative(path).startswith("LICENSES/") else text_of(path)
        for number, line in enumerate((text or "").splitlines(), start=1):
            match = LEAK.search(line)
            if match:
                found.append(f"{relative(path)}:{number}: {match.group()}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "deb http://deb" + ".debian" + ".org/debian bookworm main",
        "--index-url https://py" + "pi.org/simple",
        "path = '/wo" + "rk/main'",
        "/ro" + "ot/.pyenv/bin/python3",
        "PATH=/ho" + "me/alice/bin",
    ],
)
def test_a_trace_is_found(line: str) -> None:
    assert LEAK.search(line)


@pytest.mark.parametrize(
    "line", ["lowerdir=a,workdir=b/wo" + "rk/c", "/var/lib/wo" + "rk/x", "/ro" + "ot/file"]
)
def test_other_paths_are_no_trace(line: str) -> None:
    assert not LEAK.search(line)
