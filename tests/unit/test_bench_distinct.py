# SPDX-License-Identifier: Apache-2.0
"""The logs of distinct events that benchmarks read: nothing twice, and nothing that a kernel would not write."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.bench.distinct import made_log, real_log, templates

_CALL = (
    b"arch=c000003e syscall=59 success=yes exit=0 a0=7ffd1c2b3a40 a1=3 a2=ffffffffffffff9c a3=8 items=1 ppid=%d"
    b' pid=%d auid=1000 uid=0 ses=3 comm="sh" exe="/usr/bin/sh" subj=unconfined key="exec"'
)
TEXT = b"".join(
    b"type=%b msg=audit(1700000000.123:%d): %b\n" % (kind, serial, body)
    for serial, kind, body in (
        (10, b"UNKNOWN[1390]", b'pid="100" where="host"'),
        (10, b"SYSCALL", _CALL % (99, 100)),
        (10, b"EXECVE", b'argc=2 a0="sh" a1="-c"'),
        (
            10,
            b"PATH",
            b'item=0 name="/usr/bin/sh" inode=77 dev=fe:01 mode=0100755 nametype=NORMAL cap_fver=0',
        ),
        (10, b"PROCTITLE", b"proctitle=7368002D63"),
        (10, b"EOE", b""),
        (11, b"SYSCALL", _CALL % (100, 101)),
        (11, b"SOCKADDR", b"saddr=020000500A0000070000000000000000"),
        (11, b"PATH", b"item=0 name=2F612062 inode=78 dev=fe:01 nametype=CREATE"),
        (11, b"PATH", b"item=1 name=(null) nametype=UNKNOWN"),
        (12, b"BPF", b"prog-id=5 op=LOAD"),
        (13, b"MAC_STATUS", b"enforcing=1 old_enforcing=0"),
        (14, b"USER_LOGIN", b"pid=100 uid=0 auid=1000 ses=3 msg='op=login res=success'"),
        (15, b"BPF", b"prog-id=5 op=LOAD"),
    )
)

Events = dict[bytes, list[tuple[bytes, bytes]]]


def events_of(path: Path) -> Events:
    """Types and bodies by stamp, in order."""
    events: Events = defaultdict(list)
    for line in path.read_bytes().splitlines():
        found = re.fullmatch(rb"type=(\S+) msg=audit\(([0-9.:]+)\):(.*)", line)
        assert found, line
        events[found[2]].append((found[1], found[3]))
    return events


def value(body: bytes, name: bytes) -> bytes:
    found = re.search(rb"(?<=\b%b=)\S+" % name, body)
    assert found, body
    return found[0]


@pytest.fixture
def copies(tmp_path: Path) -> list[dict[bytes, list[bytes]]]:
    """Three copies of the execs: bodies by type."""
    log = real_log(tmp_path / "log", [TEXT], 12)
    assert (log.events, log.templates, log.left_out, log.repeated) == (12, 4, 2, 0)
    found = []
    for lines in events_of(log.path).values():
        bodies: dict[bytes, list[bytes]] = defaultdict(list)
        for kind, body in lines:
            bodies[kind].append(body)
        found.append(bodies)
    return found


def test_no_two_events_are_alike_but_for_their_stamps(tmp_path: Path) -> None:
    for log in (real_log(tmp_path / "real", [TEXT], 2_000), made_log(tmp_path / "made", 2_000)):
        events = events_of(log.path)
        assert len(events) == log.events == 2_000
        assert len({tuple(lines) for lines in events.values()}) == 2_000
        assert log.records == sum(kind != b"EOE" for lines in events.values() for kind, _ in lines)


def test_the_same_log_each_time(tmp_path: Path) -> None:
    first, second = (real_log(tmp_path / name, [TEXT], 500).path.read_bytes() for name in "ab")
    assert first == second


def test_what_is_the_same_event_in_two_texts_is_taken_once(tmp_path: Path) -> None:
    known = templates([TEXT, TEXT])
    assert (len(known.events), known.left_out) == (4, 2 + 6)
    log = real_log(tmp_path / "log", [TEXT, TEXT], 400)
    assert len({tuple(lines) for lines in events_of(log.path).values()}) == 400


def test_a_copy_that_another_event_was_already_is_left_out(tmp_path: Path) -> None:
    """The second's pid is what the first's becomes in its first copy."""
    text = b"".join(
        b"type=USER msg=audit(1.000:%d): pid=%d uid=0 msg='op=x'\n" % (serial, pid)
        for serial, pid in ((1, 100), (2, 100 + 7_919))
    )
    log = real_log(tmp_path / "log", [text], 40)
    assert (log.events, log.repeated) == (40, 38)
    assert len({tuple(lines) for lines in events_of(log.path).values()}) == 40


def test_lines_of_our_own_are_left_out_and_events_of_several_records_end(tmp_path: Path) -> None:
    for lines in events_of(real_log(tmp_path / "log", [TEXT], 40).path).values():
        kinds = [kind for kind, _ in lines]
        assert b"UNKNOWN[1390]" not in kinds
        assert (kinds[-1] == b"EOE") == (len(kinds) > 1)
        assert kinds.count(b"EOE") <= 1


def test_an_event_that_cannot_be_changed_is_left_out(tmp_path: Path) -> None:
    text = b"type=MAC_STATUS msg=audit(1.000:1): enforcing=1 old_enforcing=0\n"
    assert templates([text]) == ([], 1)
    with pytest.raises(ValueError, match="can be changed"):
        real_log(tmp_path / "log", [text], 1)


def test_parents_stay_parents(copies: list[dict[bytes, list[bytes]]]) -> None:
    seen = set()
    for copy in range(3):
        parent, child = (copies[copy * 4 + at][b"SYSCALL"][0] for at in (0, 1))
        assert value(parent, b"pid") == value(child, b"ppid")
        said = copies[copy * 4 + 3][b"USER_LOGIN"][0]
        assert value(said, b"pid") == value(parent, b"pid")
        seen.add(value(parent, b"pid"))
    assert len(seen) == 3


def test_addresses_change_and_what_has_a_meaning_does_not(copies: list[dict[bytes, list[bytes]]]) -> None:
    calls = [bodies[b"SYSCALL"][0] for bodies in copies if b"EXECVE" in bodies]
    assert len({value(call, b"a0") for call in calls}) == 3
    for name in (b"a1", b"a2", b"a3", b"arch", b"syscall", b"exit", b"uid", b"ses", b"comm", b"exe", b"key"):
        assert len({value(call, name) for call in calls}) == 1, name
    assert {value(call, b"a2") for call in calls} == {b"ffffffffffffff9c"}


def test_texts_grow_at_their_end_and_stay_texts(copies: list[dict[bytes, list[bytes]]]) -> None:
    execs = [bodies for bodies in copies if b"EXECVE" in bodies]
    assert [bodies[b"EXECVE"][0] for bodies in execs] == [
        b' argc=2 a0="sh" a1="-c-%d"' % copy for copy in range(3)
    ]
    titles = [bytes.fromhex(value(bodies[b"PROCTITLE"][0], b"proctitle").decode()) for bodies in execs]
    assert titles == [b"sh\0-c-%d" % copy for copy in range(3)]
    assert [value(bodies[b"PATH"][0], b"name") for bodies in execs] == [
        b'"/usr/bin/sh-%d"' % copy for copy in range(3)
    ]
    others = [bodies for bodies in copies if b"SOCKADDR" in bodies]
    assert [bytes.fromhex(value(bodies[b"PATH"][0], b"name").decode()) for bodies in others] == [
        b"/a b-%d" % copy for copy in range(3)
    ]
    assert {value(bodies[b"PATH"][1], b"name") for bodies in others} == {b"(null)"}


def test_addresses_of_sockets_keep_family_and_length(copies: list[dict[bytes, list[bytes]]]) -> None:
    found = [value(bodies[b"SOCKADDR"][0], b"saddr") for bodies in copies if b"SOCKADDR" in bodies]
    assert len(set(found)) == 3
    assert {(address[:4], len(address)) for address in found} == {(b"0200", 32)}
    assert [int(address[4:8], 16) for address in found] == [80, 81, 82]


def test_the_flow_label_of_an_address_stays(tmp_path: Path) -> None:
    address = b"0A001F9000000000" + b"00" * 15 + b"0100000000"
    text = b"type=SOCKADDR msg=audit(1.000:1): saddr=%b\n" % address
    log = real_log(tmp_path / "log", [text], 20)
    found = [value(lines[0][1], b"saddr") for lines in events_of(log.path).values()]
    assert len(set(found)) == 20
    assert {(each[:4], each[8:46], each[48:]) for each in found} == {(b"0A00", address[8:46], address[48:])}
    assert {int(each[46:48], 16) for each in found} == {1, 2, 3}
