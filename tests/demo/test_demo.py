# SPDX-License-Identifier: Apache-2.0
"""`make demo` as a reader without a terminal sees it, on one kernel.

A suite of its own, ahead of those that share a guest: the demo boots one itself, and two do not run at once.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from tests import readme, schema
from tests.lint.tree import ROOT
from tests.vm import demo, demo_screen
from tests.vm.demo_acts import NAMES

ROWS = range(30, 71)
"""Enough to see something, few enough to be read."""

CONTAINERS = {f"{runtime} {name}" for runtime, names in NAMES.items() for name in names}
"""As the table names them."""

TOLD = {"tag=brief": "brief", "tag=docker": "batch"}
"""By what a process says of itself in its arguments, the name of the container that it was started in."""


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
    events = [event for event in schema.parse(demo.RESULT.read_bytes()) if event["keys"]]
    assert len(events) == len(rows)
    names_are_told(rows, events)
    return shown


def names_are_told(rows: list[str], events: list[dict[str, Any]]) -> None:
    """Each event in a container has the name that an act gave it, in the file and in the table."""
    inside = [event for event in events if event["where"] == "container"]
    nameless = [event["id"] for event in inside if "name" not in event["container"]]
    assert nameless == []
    named = Counter(f"{event['container']['runtime']} {event['container']['name']}" for event in inside)
    assert set(named) == CONTAINERS
    assert len({event["container"]["id"] for event in inside}) == len(CONTAINERS)
    shown = Counter(
        row[1] for row in (re.match(r"\S+ ((?:podman|docker) \S+) ", each) for each in rows) if row
    )
    assert shown == named
    wrong = [
        event["id"]
        for event in events
        for word in (word for record in event["records"] for word in record["fields"].get("ARGV", ()))
        if word in TOLD and event.get("container", {}).get("name") != TOLD[word]
    ]
    assert wrong == []


@pytest.mark.vm
def test_demo(pytestconfig: pytest.Config) -> None:
    shown = shown_by(pytestconfig)
    assert "rsyslog" not in shown
    if (pytestconfig.getoption("--kernel") or [readme.KERNEL])[0] == readme.KERNEL:
        readme_is_of_today(shown)


def readme_is_of_today(shown: str) -> None:
    """README's event has the members that this run's has, and its rows say the same."""
    act = shown.partition(f"$ {readme.COMMAND}\n")[2].partition("\n\n")[0]
    rows = [readme.shape(row) for row in re.findall(r"^\d\d:\d\d:\d\d\.\d\d\d .*$", act, re.MULTILINE)]
    # podman's own tidying up comes when it comes, and README leaves it out.
    assert [row for row in rows if "podman --root" not in row] == readme.rows()
    argv = readme.COMMAND.split()[3:]
    events = schema.parse(demo.RESULT.read_bytes())
    (today,) = (event for event in events if event["where"] == "container" and argv_of(event) == argv)
    assert set(readme.members(readme.event())) == set(readme.members(today))


def argv_of(event: dict[str, Any]) -> list[str]:
    return [
        word for record in event["records"] if record["type"] == "EXECVE" for word in record["fields"]["ARGV"]
    ]


@pytest.mark.vm
@pytest.mark.full
@pytest.mark.parametrize("sink, where", [("rsyslog", "file"), ("nats", "stream AUDIT")])
def test_demo_with_a_receiver(pytestconfig: pytest.Config, sink: str, where: str) -> None:
    shown = shown_by(pytestconfig, "--sink", sink)
    events = len(schema.parse(demo.RESULT.read_bytes()))
    assert f"{sink}'s own {where} has {events} events in " in shown
    assert "The two sets of uids are equal" in shown
