# SPDX-License-Identifier: Apache-2.0
"""On a record's path nothing is opened and no directory read: what is said of a task was told by the kernel side.

Python itself tells of each look, by an audit hook; see the audit events table of its library reference.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from enricher.enrich.metadata import Metadata
from enricher.model import CgroupOp
from enricher.route.views.native_json import render
from tests.unit.sample_events import context, exec_event
from tests.unit.test_prefetch import ID, WEB, Bench

LOOKS = {"open", "os.listdir", "os.scandir", "os.posix_spawn", "os.fork", "os.exec", "subprocess.Popen"}
KNOWN, ENDED, BARE, NEVER_TOLD = 7, 8, 9, 10
PATHS = {KNOWN: WEB, ENDED: b"/system.slice/docker-%b.scope" % (b"cd" * 32), BARE: b"/jobs/batch"}

_watched: list[list[str]] = []  # where looks go; a hook stays for good


def _hook(name: str, arguments: tuple[object, ...]) -> None:
    if _watched and name in LOOKS:
        _watched[-1].append(f"{name} {arguments[:1]}")


sys.addaudithook(_hook)


@contextmanager
def looks() -> Iterator[list[str]]:
    """What is looked at meanwhile."""
    seen: list[str] = []
    _watched.append(seen)
    try:
        yield seen
    finally:
        _watched.pop()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.prefetch.close()
    made.theirs.close()


def test_a_look_is_seen() -> None:
    with looks() as seen:
        Path("/proc/self/cgroup").read_bytes()
        list(Path("/proc/self/task").iterdir())
        with os.scandir("/proc/self/task"):
            pass
    assert [each.split()[0] for each in seen] == ["open", "os.listdir", "os.scandir"]


def test_no_event_of_a_known_cgroup_costs_a_look(bench: Bench) -> None:
    """From the batch that tells of cgroups to the line: known, ended, of a free name, with and without an answer."""
    _line(bench, NEVER_TOLD)  # what is imported at the first
    with looks() as seen:
        bench.turn(*((ident, CgroupOp.MADE, path) for ident, path in PATHS.items()))
        bench.turn((ENDED, CgroupOp.REMOVED, PATHS[ENDED]))
        told = [_line(bench, ident) for ident in PATHS]
        bench.answer({"metadata": Metadata("docker", "shop")})
        bench.turn()
        named = _line(bench, KNOWN)
        unknown = _line(bench, NEVER_TOLD)
    assert seen == []
    assert [ID.encode() in line for line in told] == [True, False, False]
    assert b'"where":"container"' in told[1]
    assert b'"name":"shop"' in named
    assert b'"where":"unknown"' in unknown


def _line(bench: Bench, cgroup: int) -> bytes:
    """An exec's line, with all its records."""
    event = exec_event(context()._replace(cgroup_id=cgroup))
    return render(bench.builder.build(event))
