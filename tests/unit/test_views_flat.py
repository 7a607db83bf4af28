# SPDX-License-Identifier: Apache-2.0
"""Members as fields of a line: every sample of a native event can be told, and nothing ends a value or the line."""

from __future__ import annotations

import re

import pytest

from enricher.facts import Beside
from enricher.route.views.audit_text import AuditText
from enricher.route.views.flat import LONGEST, flat
from tests.unit.sample_events import BOX_INUMS, EXEC, HOST, context, event
from tests.unit.sample_facts import change, link, target
from tests.unit.sample_native import ENTERED, IDS, SAMPLES, around


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_can_be_told(name: str) -> None:
    members = {key: value for key, value in SAMPLES[name]().items() if key != "records"}
    for part in flat(members):
        assert re.fullmatch(rb'[A-Za-z0-9_]+="[!-~]*"', part), part
        assert part.count(b'"') == 2


def test_lists_are_numbered_and_levels_are_one_value() -> None:
    members = {
        "of": [{"id": "a", "kinds": ["mnt", "net"]}],
        "pids": [{"ns": 1, "pid": 2}, {"ns": 3, "pid": 4}],
        "nothing": [],
        "yes": True,
    }
    assert flat(members) == [
        *(b'of_1_id="a"', b'of_1_kinds_1="mnt"', b'of_1_kinds_2="net"', b'pids="1:2,3:4"', b'yes="yes"'),
    ]


def test_what_could_end_a_value_is_in_hex() -> None:
    assert flat({"comm": 'a" b\n'}) == [b'comm_hex="612220620A"']


def test_a_name_that_is_none_is_left_out() -> None:
    assert flat({"labels": {'a="b" type': "x", "plain": "y"}}) == [b'labels_plain="y"']


def test_a_line_has_an_end() -> None:
    parts = flat({"names": ["x" * 100] * 100})
    assert parts[-1] == b'cut="yes"'
    assert sum(map(len, parts)) <= LONGEST + 100


def test_a_whole_event_as_text() -> None:
    """A task in one container with another's namespaces, which changed them and signalled somebody."""
    who = context(inums=ENTERED, ids=IDS, cgroup_id=7300)
    made = event(*EXEC, (1318, b"opid=4800 oauid=-1 ouid=0 oses=-1 ocomm=73"), context=who)

    other = context(inums=BOX_INUMS, pid=4800)
    made.beside = Beside((change(who),), (target(other),), link(child=4720))
    lines = AuditText(HOST, around()).render(made).decode().splitlines()
    (changed,) = [line for line in lines if "UNKNOWN[1393]" in line]
    assert f'namespaces_of_1_id="{"ab" * 32}"' in changed
    assert 'namespaces_of_1_kinds_1="mnt"' in changed
    assert 'namespaces_change_net_to_ino="204"' in changed
    assert 'child_pid="4720"' in changed
    (aimed,) = [line for line in lines if "target_pid" in line]
    assert 'target_pid="4800"' in aimed
