# SPDX-License-Identifier: Apache-2.0
"""What an event was about, in words for people; and the generated system call tables."""

from __future__ import annotations

import pytest

from enricher.enrich.describe import action, command, message, path, result, told
from enricher.enrich.native import build
from enricher.enrich.shape import NativeEvent
from enricher.enrich.tables.syscalls import BY_ARCH
from enricher.model import Event, Loss, Notice
from tests.unit.sample_events import EXEC, HOST, USER_LOGIN, event


def native(*records: tuple[int, bytes]) -> NativeEvent:
    return build(event(*records), HOST)


@pytest.mark.parametrize(
    ("arch", "number", "name"),
    [
        (b"c000003e", 59, "execve"),
        (b"c000003e", 257, "openat"),
        (b"c000003e", 435, "clone3"),
        (b"c000003e", 308, "setns"),
        (b"c000003e", 272, "unshare"),
        (b"40000003", 11, "execve"),
        (b"40000003", 5, "open"),
        (b"c00000b7", 221, "execve"),
        (b"c00000b7", 56, "openat"),
        (b"40000028", 11, "execve"),
        (b"c000003e", 400, "syscall 400"),  # a gap
        (b"c000003e", 99999, "syscall 99999"),
        (b"c000003e", -1, "syscall -1"),
        (b"ffffffff", 59, "syscall 59"),
    ],
)
def test_system_call_names(arch: bytes, number: int, name: str) -> None:
    assert action(native((1300, b"arch=%b syscall=%d" % (arch, number)))) == name


def test_an_event_without_a_system_call_is_named_by_its_type() -> None:
    assert action(native((1112, USER_LOGIN))) == "USER_LOGIN"


def test_the_tables_hold_one_name_per_number() -> None:
    for names in BY_ARCH.values():
        used = [name for name in names if name != "-"]
        assert len(used) == len(set(used)) > 300
        assert all(name.replace("_", "").isalnum() for name in used)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ((1300, b"success=yes exit=3"), "ok"),
        ((1300, b"success=no exit=-13"), "EACCES"),
        ((1300, b"success=no exit=-512"), "ERESTARTSYS"),
        ((1300, b"success=no exit=-999"), "-999"),
        ((1300, b"success=no exit=0"), "failed"),
        ((1112, USER_LOGIN), "failed"),
        ((1334, b"op=LOAD"), ""),
    ],
)
def test_result(record: tuple[int, bytes], said: str) -> None:
    assert result(native(record)) == said


def test_the_command_line_comes_from_execve() -> None:
    assert command(native(*EXEC)) == ["ls", "-la", "/tmp"]  # noqa: S108


def test_split_and_long_command_lines_are_put_together() -> None:
    records = [
        (1309, b'argc=3 a0="sh" a1_len=6 a1[0]="abc" a1[1]=64C3A4'),
        (1309, b' a2="last"'),
    ]
    assert command(native(*records)) == ["sh", "abcdä", "last"]


def test_a_missing_argument_keeps_its_place_and_a_huge_count_is_not_believed() -> None:
    assert command(native((1309, b'argc=3 a0="a" a2="c"'))) == ["a", "", "c"]
    assert command(native((1309, b'argc=999999999 a0="a"'))) == []
    assert len(command(native((1309, b'argc=4000 a0="a"')))) == 256


def test_without_execve_the_title_is_what_there_is() -> None:
    assert command(native((1327, b"proctitle=6C73002D6C00"))) == ["ls", "-l"]
    assert command(native((1327, b'proctitle="bash"'))) == ["bash"]
    assert command(native((1327, b"proctitle=(null)"))) == []
    assert command(native((1300, b"syscall=1"))) == []


@pytest.mark.parametrize(
    ("records", "first"),
    [
        ([b'item=0 name="/etc/" nametype=PARENT', b'item=1 name="/etc/x" nametype=CREATE'], "/etc/x"),
        ([b"item=0 name=(null) nametype=NORMAL", b'item=1 name="b" nametype=NORMAL'], "b"),
        ([b'item=0 name="/etc/" nametype=PARENT'], "/etc/"),
        ([b"item=0"], ""),
        ([], ""),
    ],
)
def test_path(records: list[bytes], first: str) -> None:
    assert path(native(*((1302, body) for body in records))) == first


def test_message() -> None:
    assert message(native((1112, USER_LOGIN))) == "op=login acct=root addr=192.0.2.7"
    assert message(native(*EXEC)) == ""


def test_what_an_event_of_our_own_is_about() -> None:
    made = Event(b"1772366400.042:0", 0.0)
    assert told(build(made, HOST)) == ""
    made.own_id = "1a2b3c4d/7"
    made.loss = Loss("netlink", "netlink", 12, "records", 9001, 9004, ())
    assert told(build(made, HOST)) == "12 records, netlink, serials 9001 to 9004"
    made.loss = Loss("ring", "ring", 3, "messages", None, None, ())
    assert told(build(made, HOST)) == "3 messages, ring"
    made.loss, made.notice = None, Notice("degraded", "no hook")
    assert told(build(made, HOST)) == "no hook"
