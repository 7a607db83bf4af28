# SPDX-License-Identifier: Apache-2.0
"""Giving up capabilities: in a process of its own, since nothing brings them back."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from enricher.runtime import privileges

PROGRAM = """
import json, sys
from enricher.runtime import privileges
from enricher.sources.host import PROC
before = privileges.held()
asked = []
def works():
    asked.append(privileges.names(privileges.held()))
    return json.loads(sys.argv[1])
left = privileges.drop(works)
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
sets = {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}
try:
    privileges._set(before, before)
    regained = privileges.held() != left
except OSError:
    regained = False
print(json.dumps([before, left, sets, int(status["NoNewPrivs"]), regained, len(asked)]))
"""
WRITE = 1 << 29
BPF = 1 << privileges.CAP_BPF


@pytest.mark.parametrize("enough", [True, False])
def test_what_is_not_needed_is_gone_for_good(*, enough: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(enough)], capture_output=True, text=True, check=True
    )
    before, left, sets, no_new_privileges, regained, asked = json.loads(done.stdout)
    assert left == before & (WRITE if enough else WRITE | BPF)
    assert sets == {"CapInh": 0, "CapPrm": left, "CapEff": left, "CapAmb": 0}
    assert no_new_privileges == 1
    assert not before or not regained
    assert asked == bool(before & BPF)


ASIDE = """
import json
from enricher.runtime import privileges
def sets():
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    return [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")]
before = privileges.held()
left = privileges.drop(lambda: True, 0, privileges.DAEMON_MASK)
seen = [sets()]
privileges.take_up()
seen.append(sets())
privileges.put_away(privileges.DAEMON_MASK)
seen.append(sets())
print(json.dumps([before, left, seen]))
"""
CONTROL = 1 << 30


def test_what_is_kept_aside_is_not_in_effect_before_it_is_taken_up() -> None:
    done = subprocess.run([sys.executable, "-c", ASIDE], capture_output=True, text=True, check=True)
    before, left, seen = json.loads(done.stdout)
    write, control = before & WRITE, before & CONTROL
    assert left == write | control
    assert seen == [[0, left, write, 0], [0, left, left, 0], [0, write, write, 0]]


def test_capabilities_have_names() -> None:
    assert privileges.names(WRITE | BPF | 1 << 63) == ["CAP_AUDIT_WRITE", "CAP_BPF", "CAP_63"]
    assert privileges.names(0) == []
