# SPDX-License-Identifier: Apache-2.0
"""The comparison of two decodings: what is the same, what is known to differ, and that anything else is found."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.bench.equal import Score, score

Event = dict[str, Any]

STAMP = "1772366400.001:7"
OURS: Event = {
    "id": STAMP,
    "records": [
        {
            "type": "SYSCALL",
            "fields": {
                "arch": "c000003e",
                "ARCH": "x86_64",
                "syscall": 257,
                "SYSCALL": "openat",
                "exit": -2,
                "EXIT": "ENOENT",
                "a0": "ffffff9c",
                "A0": "AT_FDCWD",
                "a1": "7f00",
                "a2": "0",
                "a3": "0",
                "pid": 4711,
                "auid": 4242,
                "uid": 0,
                "UID": "root",
                "comm": "\ufffdb",
                "comm_hex": "FF62",
                "key": "(null)",
            },
        },
        {"type": "PATH", "fields": {"name": "/a", "mode": "0100755", "MODE": "file,755", "cap_fp": "00ff"}},
        {"type": "PATH", "fields": {"name": "/b", "mode": "040700", "MODE": "dir,700"}},
        {"type": "EXECVE", "fields": {"argc": 2, "ARGV": ["sh", "\ufffd"], "ARGV_hex": [None, "FF"]}},
        {"type": "EXECVE", "fields": {}},
        {"type": "PROCTITLE", "fields": {"proctitle": "sh x", "ARGV": ["sh", "x"]}},
        {
            "type": "SOCKADDR",
            "fields": {"saddr": "0A00", "SADDR": {"fam": "inet6", "addr": "::1", "port": 9, "scope": None}},
        },
        {"type": "EOE", "fields": {}},
    ],
}
LAUREL: Event = {
    "ID": STAMP,
    "SYSCALL": {
        "arch": "0xc000003e",
        "ARCH": "x86_64",
        "syscall": 257,
        "SYSCALL": "openat",
        "exit": -2,
        "ARGV": ["0xffffff9c", "0x7f00", "0x0", "0x0"],
        "pid": 4711,
        "auid": 4242,
        "AUID": "unknown(4242)",
        "uid": 0,
        "UID": "root",
        "comm": "%ffb",
        "key": None,
        "PID": {"EVENT_ID": "1772366400.000:1"},
        "UID_GROUPS": ["root"],
    },
    "PATH": [{"name": "/a", "mode": "0o100755", "cap_fp": "0xff"}, {"name": "/b", "mode": "0o40700"}],
    "EXECVE": {"argc": 2, "ARGV": ["sh", "%ff"]},
    "PROCTITLE": {"ARGV": ["sh", "x"]},
    "SOCKADDR": [{"SADDR": {"saddr_fam": "inet6", "addr": "::1", "port": 9, "flowinfo": 0, "scope_id": 0}}],
}


def compared(ours: Event, theirs: Event, said: str = "") -> Score:
    return score([json.dumps(ours)], [json.dumps(theirs)], said)


def fields_of(event: Event, kind: str) -> Event:
    fields: Event = next(record["fields"] for record in event["records"] if record["type"] == kind)
    return fields


def test_two_spellings_of_one_event_are_the_same() -> None:
    found = compared(OURS, LAUREL)
    assert found.passed, found.unexplained
    assert (found.events, found.records) == (1, 7)
    assert found.equal + found.kinds.total() == found.fields
    assert found.kinds.total() == 10


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("SYSCALL", "pid", 4712),
        ("SYSCALL", "arch", "c00000b7"),
        ("SYSCALL", "ARCH", "aarch64"),
        ("SYSCALL", "SYSCALL", "open"),
        ("SYSCALL", "UID", "alice"),
        ("SYSCALL", "a1", "7f01"),
        ("SYSCALL", "comm_hex", "FF63"),
        ("SYSCALL", "key", "exec"),
        ("PATH", "name", "/c"),
        ("PATH", "mode", "0100754"),
        ("PATH", "cap_fp", "00fe"),
        ("EXECVE", "ARGV", ["sh", "x", "y"]),
        ("EXECVE", "ARGV_hex", [None, "FE"]),
        ("PROCTITLE", "ARGV", ["sh x"]),
        ("SOCKADDR", "SADDR", {"fam": "inet6", "addr": "::1", "port": 10}),
        ("SOCKADDR", "SADDR", {"fam": "inet", "addr": "::1", "port": 9}),
        ("PATH", "invented", "x"),
        ("PATH", "OUID", "root"),
    ],
)
def test_a_value_of_ours_that_is_another_is_found(kind: str, name: str, value: object) -> None:
    ours = copy.deepcopy(OURS)
    fields_of(ours, kind)[name] = value
    found = compared(ours, LAUREL)
    assert {(each.kind, each.name) for each in found.unexplained} == {(kind, name.removesuffix("_hex"))}
    assert not found.passed


@pytest.mark.parametrize(
    ("kind", "name"),
    [("SYSCALL", "pid"), ("SYSCALL", "UID"), ("SYSCALL", "a1"), ("EXECVE", "ARGV"), ("SOCKADDR", "SADDR")],
)
def test_a_field_that_we_do_not_have_is_found(kind: str, name: str) -> None:
    ours = copy.deepcopy(OURS)
    del fields_of(ours, kind)[name]
    assert (kind, name) in {(each.kind, each.name) for each in compared(ours, LAUREL).unexplained}


@pytest.mark.parametrize("name", ["SYSCALL", "UID", "pid", "comm"])
def test_a_field_that_laurel_does_not_have_is_found(name: str) -> None:
    theirs = copy.deepcopy(LAUREL)
    del theirs["SYSCALL"][name]
    assert [each.name for each in compared(OURS, theirs).unexplained] == [name]


def test_a_record_and_an_event_of_one_of_both_are_found() -> None:
    theirs = copy.deepcopy(LAUREL)
    del theirs["PATH"][1]
    [found] = compared(OURS, theirs).unexplained
    assert (found.kind, found.theirs, found.ours) == ("PATH", 1, 2)
    assert len(score([], [json.dumps(LAUREL)]).unexplained) == 5
    assert len(score([json.dumps(OURS)], []).unexplained) == 5


def test_nothing_compared_is_not_passed() -> None:
    assert not score([], []).passed


def test_a_record_that_laurel_says_it_cannot_read() -> None:
    ours = {"id": STAMP, "records": [{"type": "USER", "fields": {"msg": {"op": "x"}}}]}
    theirs = {"ID": "1772366400.002:8"}
    said = f"ERROR Error cannot parse body\n processing msg: type=USER msg=audit({STAMP}): pid=1 msg='op=x'"
    assert not compared(ours, theirs, said).unexplained
    assert compared(ours, theirs, said.replace(":7)", ":9)")).unexplained
    # What it gave out beside it is not excused.
    assert compared({"id": STAMP, "records": []}, {"ID": STAMP, "USER": {}}, said).unexplained


def single(kind: str, ours: object, theirs: object) -> list[tuple[str, object, object]]:
    """What no rule explains of one record."""
    event = {"id": STAMP, "records": [{"type": kind, "fields": ours}]}
    return [
        (each.name, each.theirs, each.ours)
        for each in compared(event, {"ID": STAMP, kind: theirs}).unexplained
    ]


@pytest.mark.parametrize(
    ("kind", "ours", "theirs", "wrong"),
    [
        ("MQ_OPEN", {"mq_msgsize": 64}, {"mq_msgsize": "d"}, {"mq_msgsize": "e"}),
        ("USER", {"msg": {"op": "a", "words": ["b"]}}, {"msg": {"op": "a b"}}, {"msg": {"op": "a c"}}),
        ("USER", {"msg": {"op": "a"}}, {"msg": "op=a b"}, {"msg": "op=c b"}),
        ("DM_CTRL", {"error_msg": "'success'"}, {"error_msg": "success"}, {"error_msg": "failure"}),
        ("USER", {"msg": {"res": ["no", "yes"]}}, {"msg": {"res": "yes"}}, {"msg": {"res": "no"}}),
        ("SOCKADDR", {"saddr": "0102", "SADDR": {"fam": "x"}}, {"saddr": "%01%02"}, {"saddr": "%01%03"}),
        ("TTY", {"words": ["tty"], "pid": 1}, {"pid": 1}, {"pid": 2}),
        ("AVC", {"words": ["avc:", "denied"]}, {"avc": "denied"}, {"avc": "granted"}),
        ("LOGIN", {"auid": 7}, {"auid": 7, "AUID": "unknown(7)"}, {"auid": 7, "AUID": "unknown(8)"}),
        ("LOGIN", {"pid": 7}, {"pid": 7, "PID": {"EVENT_ID": "1.0:1"}}, {"pid": 7, "PID": {"comm": "sh"}}),
    ],
)
def test_a_rule_explains_two_values_and_not_a_field(
    kind: str, ours: object, theirs: object, wrong: object
) -> None:
    assert single(kind, ours, theirs) == []
    assert single(kind, ours, wrong) != []
