# SPDX-License-Identifier: Apache-2.0
"""Every layout of tests/unit/sample_cgroups.py as a real cgroup, with a process of a millisecond in it."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest

from tests.suites.live import Live, truth_of
from tests.suites.staging import SHARE
from tests.unit.sample_cgroups import VECTORS, Vector

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.suites.live import Json
    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

TRUTH = f"{SHARE}/workload/truth"
_PATHS = "/run/cgroups.json"
_WHOLE = 1022  # bytes of a path that the kernel's tracepoints take whole (CGROUP_PATH)
_WALK_DEPTH, _WALK_NAME = 16, 126
"""Directories, and bytes of a name, that the walk to a longer path takes (bpf/include/events.h)."""


def tellable(names: list[bytes]) -> bool:
    """Whether the kernel side can tell a path of these names, by a tracepoint or by the walk."""
    if sum(len(name) + 1 for name in names) <= _WHOLE:
        return True
    return len(names) <= _WALK_DEPTH and max(map(len, names)) <= _WALK_NAME


def makeable(vector: Vector) -> bool:
    """Whether the kernel lets a directory be called so."""
    path = vector.path
    names = path.split("/")[1:]
    return (
        path.startswith("/")
        and path != "/"
        and tellable([name.encode("utf-8", "surrogateescape") for name in names])
        and all(
            name not in {"", ".", ".."}
            and len(name.encode("utf-8", "surrogateescape")) < 256
            and "\n" not in name
            and "\0" not in name
            for name in names
        )
    )


def answers(event: Json) -> tuple[object, ...]:
    """What an event says of its place, in a form that both sides can be brought to."""
    container = event.get("container")
    chain = container.get("chain", [container]) if container else []
    names = [
        (each.get("runtime", ""), each["id"], each.get("name", ""), each.get("pod", {}).get("uid", ""))
        for each in chain
    ]
    return event["where"], names, event["cgroup"].get("unit", "")


def expected(vector: Vector) -> tuple[object, ...]:
    def text(word: str) -> str:
        return word.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    place = vector.place
    names = [(found.runtime, text(found.id), text(found.name), found.pod) for found in place.chain]
    return place.where, names, text(place.unit)


@pytest.mark.only_on("newest")
def test_every_layout(guest: Guest, rules: Rules, record_property: Callable[[str, object], None]) -> None:
    vectors = [vector for vector in VECTORS if makeable(vector)]
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    guest.put(_PATHS, json.dumps([vector.path for vector in vectors]).encode())
    with Live(guest) as live:
        script = shlex.join(["python3", f"{SHARE}/guest/cgroups.py", TRUTH])
        done = guest.run(["sh", "-c", f"{script} <{_PATHS}"], timeout=300, check=True)
        account = live.stop()
        events = live.events()
    failed = {int(number): why for number, why in json.loads(done.stdout).items()}
    # What the guest's own systemd has divided up takes no process at its inner nodes.
    assert set(failed.values()) <= {"Device or resource busy", "Operation not supported"}, failed
    assert account.balanced, live.said
    told: dict[int, Json] = {}
    for event in events:
        truth = truth_of(event)
        if truth is not None and truth.tag.startswith("cgroup-"):
            told[int(truth.tag.removeprefix("cgroup-"))] = event
    assert set(told) == set(range(len(vectors))) - set(failed)
    wrong = [
        f"{vectors[number].what}: {answers(event)} for {expected(vectors[number])}"
        for number, event in told.items()
        if answers(event) != expected(vectors[number])
    ]
    assert wrong == []
    assert max(len(vectors[number].path) for number in told) > _WHOLE, "one is told by the walk"
    exact = [vectors[number].path.encode("utf-8", "surrogateescape") for number in told]
    shown = [
        bytes.fromhex(event["cgroup"]["path_hex"])
        if "path_hex" in event["cgroup"]
        else event["cgroup"]["path"].encode()
        for event in told.values()
    ]
    assert sorted(shown) == sorted(exact)
    record_property("layouts", f"{len(told)} of {len(vectors)} as real cgroups")
    assert len(told) > 250
