# SPDX-License-Identifier: Apache-2.0
"""The store of container identifiers in the kernel, by itself: what inherits, what is refused, what is left.

The guest's side is guest/contids.py. Nothing here rests on audit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.suites.staging import SHARE
from tests.suites.test_losses import status

if TYPE_CHECKING:
    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

# The oldest and the newest; every kernel in soak-contid.
pytestmark = [pytest.mark.vm, pytest.mark.only_on("5.10", "newest")]

# On each kernel; with --full 40 000 processes and 10 000 sets on all four together.
FORKS = {False: 500, True: 10_000}
ROUNDS = {False: 250, True: 2500}
CGROUP = "/sys/fs/cgroup/contid-family"


def answer(guest: Guest, *words: str, timeout: float = 300) -> dict[str, Any]:
    command = ["env", "PYTHONPATH=/usr/lib/audit-enricher", "python3", f"{SHARE}/guest/contids.py", *words]
    said: dict[str, Any] = json.loads(guest.run(command, timeout=timeout, check=True).stdout)
    return said


def nothing_is_left(said: dict[str, Any]) -> None:
    assert (said["held"], said["ids"]) == (0, 0)
    counters = said["counters"]
    assert {name: counters[name] for name in ("full_tasks", "lost_ops", "fail_id", "fail_request")} == {
        "full_tasks": 0,
        "lost_ops": 0,
        "fail_id": 0,
        "fail_request": 0,
    }


@pytest.mark.grows
@pytest.mark.timeout(600)
def test_every_process_of_a_family_has_it(
    guest: Guest, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    count = FORKS[bool(request.config.getoption("--full"))]
    guest.run(["mkdir", "-p", CGROUP], check=True)
    said = answer(guest, "family", f"{SHARE}/workload/family", str(count), CGROUP, timeout=500)
    nothing_is_left(said)
    assert said["made"] >= count
    assert said["counters"]["inherited"] == said["made"], "each process that was made, and no other"
    assert said["sets"] == said["rounds"] == len(said["drops"])
    assert sorted(old for old, _ in said["drops"]) == [[number] for number in range(said["rounds"])]
    record_property("processes that inherited", said["made"])


@pytest.mark.timeout(600)
def test_every_event_of_a_family_has_the_chain(
    guest: Guest, rules: Rules, record_property: Callable[[str, object], None]
) -> None:
    before = status(guest)["backlog_limit"]
    # Nobody reads: what is queued is not counted as lost.
    guest.run(["auditctl", "-b", "0", "-r", "0"], check=True)
    try:
        rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "exit_group", "-S", "execve", "-k", "family")
        guest.run(["mkdir", "-p", CGROUP], check=True)
        said = answer(guest, "events", f"{SHARE}/workload/family", "400", CGROUP, timeout=500)
    finally:
        guest.run(["auditctl", "-b", str(before)], check=True)
    nothing_is_left(said)
    assert said["dropped"] == 0
    counts = {chain: number for comm, chain, number in said["contexts"] if comm == "family"}
    # Its own execve may be from before the set; "exe" is what a thread has executed.
    assert set(counts) <= {"()", "(2,)"}
    assert counts.get("()", 0) <= 1
    assert {chain for comm, chain, _ in said["contexts"] if comm == "exe"} == {"(2,)"}
    assert sum(number for _, chain, number in said["contexts"] if chain == "(2,)") > said["made"]
    assert said["families"]["targets"] == "", said["families"]
    record_property("contexts with the chain", counts["(2,)"])


@pytest.mark.grows
@pytest.mark.timeout(900)
def test_a_set_and_a_fork_agree(
    guest: Guest, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    rounds = ROUNDS[bool(request.config.getoption("--full"))]
    said = answer(guest, "race", str(rounds), timeout=800)
    nothing_is_left(said)
    assert said["wrong"] == []
    assert set(said["outcomes"]) == {"set", "EBUSY"}, "either way has to happen, or nothing is shown"
    assert said["outcomes"]["set"] == said["sets"] == len(said["drops"])
    assert said["outcomes"]["EBUSY"] == said["failed"]["EBUSY"]
    record_property("sets against forks", said["outcomes"])


def test_every_row_of_the_table(guest: Guest) -> None:
    said = answer(guest, "refusals")
    nothing_is_left(said)
    assert said["said"] == {
        "unset": "EINVAL",
        "unprivileged": "EPERM",
        "root of a user namespace": "EPERM",
        "unprivileged orchestrator": "EPERM",
        "threads": "EBUSY",
        "children": "EBUSY",
        "children, orchestrator": "EBUSY",
        "self": "EXDEV",
        "no descendant": "EXDEV",
        "first": "",
        "the same again": "EEXIST",
        "another": "EEXIST",
        "joined by its owner": "",
        "grandchild, by its parent": "",
        "in use, of another owner": "ENOTUNIQ",
        "threads, orchestrator": "",
        "zero": "",
        "chains": [[5], [5], [20], [8], [0], []],
        "chief": "",
        "between": "",
        "nested": "",
        "kept by what is nested": [71, 70],
        "not reaped": "ENOTUNIQ",
        "reaped": "",
        "line, first": "",
        "line, by the owner again": "EEXIST",
        "line, by one that is not above": "EXDEV",
        "line": ["", "", "", "", "", "", "", "EMLINK", "EMLINK"],
        "line's chain": [56, 55, 54, 53, 52, 51, 50, 40],
        "line, from outside again": "EEXIST",
        "grant by nobody": "EPERM",
        "grant": "",
        "grant, self": "EXDEV",
        "granted: a child is not": "EPERM",
        "granted: no descendant": "EXDEV",
        "granted: orchestrator": "EPERM",
        "granted: set": "",
        "granted: passed on": "",
        "revoked": "",
        "revoked: set": "EPERM",
        "gone": "ESRCH",
    }
    assert said["sets"] == 18
