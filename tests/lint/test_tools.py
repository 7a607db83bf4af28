# SPDX-License-Identifier: Apache-2.0
"""Linters, formatters and the type checker, as tests: what they say is the failure's message."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.lint.tree import ROOT, files

PYTHON_TREES = [name for name in ("enricher", "tests", "tools", "setup.py") if (ROOT / name).exists()]
TYPED = [name for name in PYTHON_TREES if name != "setup.py"]  # setuptools has no types in every version


def check(*argv: str) -> None:
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv[:4])} ...\n{done.stdout}{done.stderr}"


def module(name: str, *arguments: str) -> None:
    check(sys.executable, "-m", name, *arguments)


def test_ruff_finds_nothing() -> None:
    module("ruff", "check", "--output-format", "concise", *PYTHON_TREES)


def test_python_is_formatted() -> None:
    module("ruff", "format", "--check", "--output-format", "concise", *PYTHON_TREES)


@pytest.mark.timeout(300)  # the first run of a checkout has no cache
def test_types_are_right() -> None:
    module("mypy", "--strict", *TYPED)


def test_c_is_formatted() -> None:
    sources = [*files(".c", ".h", under="bpf"), *files(".c", ".h", under="tests/workload")]
    assert sources
    check("clang-format-14", "--dry-run", "-Werror", "--style=file", *map(str, sources))
