# SPDX-License-Identifier: Apache-2.0
"""`make demo` as a reader without a terminal sees it, on one kernel.

A suite of its own, ahead of those that share a guest: the demo boots one itself, and two do not run at once.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests import schema
from tests.lint.tree import ROOT
from tests.vm import demo, demo_screen

ROWS = range(30, 71)
"""Enough to see something, few enough to be read."""


def shown_by(pytestconfig: pytest.Config, *more: str) -> str:
    """Show it, see that it succeeds and that table and file have the same; return what it printed."""
    chosen = pytestconfig.getoption("--kernel")[:1]
    kernel = ["--kernel", *chosen] if chosen else []
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-m", "tests.vm.demo", *kernel, *more],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "140"},
        capture_output=True,
        text=True,
        check=False,
    )
    shown = done.stdout
    assert done.returncode == 0, shown + done.stderr
    assert demo_screen.BALANCED in shown
    assert "\x1b" not in shown
    rows = re.findall(r"^\d\d:\d\d:\d\d\.\d\d\d .* key=demo-\w+$", shown, re.MULTILINE)
    assert len(rows) in ROWS
    events = schema.parse(demo.RESULT.read_bytes())
    assert len(events) == len(rows)
    return shown


@pytest.mark.vm
def test_demo(pytestconfig: pytest.Config) -> None:
    assert "rsyslog" not in shown_by(pytestconfig)


@pytest.mark.vm
@pytest.mark.full
def test_demo_with_a_receiver(pytestconfig: pytest.Config) -> None:
    shown = shown_by(pytestconfig, "--sink", "rsyslog")
    events = len(schema.parse(demo.RESULT.read_bytes()))
    assert f"rsyslog's own file has {events} events in " in shown
    assert "The two sets of uids are equal" in shown
