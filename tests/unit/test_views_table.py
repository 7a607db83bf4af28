# SPDX-License-Identifier: Apache-2.0
"""The table for people: columns, labels, cutting, and names that try to write on the terminal."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator

import pytest

from enricher import clock
from enricher.enrich.native import build
from enricher.enrich.shape import NsEntry
from enricher.model import Context, ContextFlag
from enricher.route.views.table import (
    Table,
    cut,
    escape,
    namespaces_of,
    place_of,
    terminal_width,
    text_width,
    wants_colour,
)
from tests.unit.sample_events import (
    BOX_INUMS,
    EXEC,
    HOST,
    HOST_INUMS,
    SYSCALL,
    USER_LOGIN,
    context,
    event,
)

BOX = context(inums=BOX_INUMS, levels=((4026531836, 4711), (4026532260, 7)))
OPENAT = (
    b"arch=c000003e syscall=257 success=no exit=-13 items=1 ppid=1 pid=4711 auid=1000 uid=33"
    b' comm="cat" exe="/usr/bin/cat" key="shadow"'
)
SHADOW = b'item=0 name="/etc/shadow" inode=1 nametype=NORMAL'


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    clock._local_second.cache_clear()
    yield
    monkeypatch.undo()
    time.tzset()
    clock._local_second.cache_clear()


def row(*records: tuple[int, bytes], in_context: Context | None, width: int | None = None) -> str:
    line = Table(width).render(build(event(*records, context=in_context), HOST)).decode()
    assert line.endswith("\n")
    assert line.count("\n") == 1
    return line[:-1]


def test_a_command_in_a_container() -> None:
    assert row(*EXEC, in_context=BOX).split() == [
        *("12:00:00.042", "4026532257", "mnt,uts,ipc,net,pid,cgroup"),
        *("4711", "7", "1000/0", "execve", "ok", "ls", "-la", "/tmp", "key=exec"),  # noqa: S108
    ]


def test_a_failure_on_the_host() -> None:
    line = row((1300, OPENAT), (1302, SHADOW), in_context=context(comm=b"cat"))
    assert line.split(maxsplit=5) == [
        *("12:00:00.042", "host", "4711", "-", "1000/33"),
        "openat EACCES /etc/shadow by cat key=shadow",
    ]


def test_a_login() -> None:
    assert row((1112, USER_LOGIN), in_context=context(comm=b"sshd")).endswith(
        "USER_LOGIN failed op=login acct=root addr=192.0.2.7 by sshd"
    )


def test_without_a_subject_nothing_is_claimed() -> None:
    line = row((1334, b"prog-id=3 op=UNLOAD"), in_context=context(flags=ContextFlag.KTHREAD))
    assert line.split(maxsplit=5) == ["12:00:00.042", "?", "-", "-", "-/-", "BPF [no subject: kernel thread]"]


def test_the_columns_stand_under_their_names() -> None:
    table = Table(None)
    header = table.header().decode()
    assert header.split() == ["TIME", "WHERE", "PID", "INSIDE", "AUID/UID", "WHAT"]
    line = row(*EXEC, in_context=BOX)
    assert header.index("WHAT") == line.index("execve")
    assert header.index("PID") + 3 == line.index("4711") + 4  # numbers to the right


def inums(**changes: int) -> tuple[int, ...]:
    kinds = ("mnt", "uts", "ipc", "net", "pid", "user", "cgroup", "time", "pid_child", "time_child")
    return tuple(changes.get(kind, inum) for kind, inum in zip(kinds, HOST_INUMS, strict=True))


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        (HOST_INUMS, ("host", "")),
        (BOX_INUMS, ("4026532257", "mnt,uts,ipc,net,pid,cgroup")),
        (inums(net=99), ("net:99", "net")),
        (inums(pid=99, pid_child=99), ("pid:99", "pid")),
        (inums(pid_child=99), ("pid_for_children:99", "pid_for_children")),
        (inums(mnt=98, time_child=99), ("98", "mnt,time_for_children")),
        (inums(pid=99, pid_child=98), ("pid:99", "pid,pid_for_children")),
        (inums(mnt=0, net=99), ("net:99", "net")),
        (inums(mnt=0), ("host", "")),
        ((0,) * 10, ("?", "")),
    ],
)
def test_namespaces(numbers: tuple[int, ...], shown: tuple[str, str]) -> None:
    native = build(event(*EXEC, context=context(inums=numbers)), HOST)
    assert namespaces_of(native["namespaces"]) == shown


def test_host_is_not_claimed_when_the_initial_namespaces_are_not_known() -> None:
    entry: NsEntry = {"ino": 5}
    assert namespaces_of({"dev": "00:04", "mnt": entry}) == ("?", "")
    assert namespaces_of(None) == ("?", "")


EVIL = b"/tmp/\x1b]0;owned\x07\x9b2J\n\r\x00\xe2\x80\xae\\x1b"


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("width", [None, 40, 80, 200])
def test_hostile_names_never_reach_the_terminal_raw(width: int | None, *, colour: bool) -> None:
    evil = EVIL.hex().upper().encode()
    hostile = [
        (1300, OPENAT.replace(b'"shadow"', evil).replace(b'"cat"', evil)),
        (1302, b"item=0 name=%b nametype=NORMAL" % evil),
    ]
    made = [
        event(*hostile, context=context(comm=EVIL[:15])),
        event((1300, SYSCALL), (1309, b"argc=2 a0=%b a1=%b" % (evil, evil)), context=context()),
        event((1112, b"pid=1 uid=0 msg='op=\x1b[31m acct=%b res=success'" % evil), context=BOX),
        event((1999, EVIL)),
        event((1300, b"arch=c000003e syscall=\x1b[31m")),
    ]
    for each in made:
        each.reason = "because \x1b[31m"
        line = Table(width, colour=colour).render(build(each, HOST)).decode()
        assert re.sub(r"\x1b\[[0-9]+m", "", line[:-1]).isprintable()
        assert "\x1b]" not in line
        if not colour:
            assert "\x1b" not in line


def test_escapes_are_reversible() -> None:
    assert escape("plain ä 你") == "plain ä 你"
    assert escape("\x1b[0m\u202e\U000e0001\n") == "\\x1b[0m\\u202e\\U000e0001\\x0a"
    assert escape("\\x1b") == "\\\\x1b"
    assert escape("\x1b") != escape("\\x1b")


@pytest.mark.parametrize("width", [1, 20, 43, 60, 80, 100, 120, 250])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    table = Table(width)
    wide = "你好" * 60
    native = build(event((1300, OPENAT), (1302, b'item=0 name="%b"' % wide.encode()), context=BOX), HOST)
    for line in (table.header(), table.render(native)):
        assert text_width(line.decode().rstrip("\n")) <= width
        assert line.count("…".encode()) <= 3


def test_the_detail_gives_way_before_the_key() -> None:
    line = row((1300, OPENAT), (1302, b'item=0 name="/%b"' % (b"x" * 300)), in_context=context(), width=140)
    assert text_width(line) <= 140
    assert line.endswith("x… by ls key=shadow")


def test_on_a_narrow_terminal_the_key_gives_way_before_a_short_detail() -> None:
    line = row((1300, OPENAT), (1302, SHADOW), in_context=context(comm=b"cat"), width=100)
    assert text_width(line) <= 100
    assert " openat EACCES /etc/shadow by cat k" in line
    assert line.endswith("…")


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("你好", 4, "你好"),
        ("你好吗", 4, "你…"),
        ("你好吗", 5, "你好…"),
        ("e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"),
        ("e\u0301e\u0301e\u0301", 2, "e\u0301…"),
        ("abc", 0, ""),
        ("abc", 1, "…"),
        ("ab…d", 3, "ab…"),
    ],
)
def test_cut(text: str, width: int, shown: str) -> None:
    assert cut(text, width) == shown
    assert text_width(cut(text, width)) <= width


def test_colour_marks_failures_and_takes_no_columns() -> None:
    native = build(event((1300, OPENAT), (1302, SHADOW), context=BOX), HOST)
    plain = Table(100).render(native).decode()
    coloured = Table(100, colour=True).render(native).decode()
    assert "\x1b[31m EACCES\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[0-9]+m", "", coloured).rstrip() == plain.rstrip()
    assert coloured == Table(100, colour=True).render(native).decode()
    assert "\x1b" not in plain


@pytest.mark.parametrize(
    ("environ", "terminal", "wanted"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
    ],
)
def test_when_to_colour(environ: dict[str, str], *, terminal: bool, wanted: bool) -> None:
    assert wants_colour(environ, terminal=terminal) is wanted


def test_a_pipe_has_no_width() -> None:
    reader, writer = os.pipe()
    try:
        assert terminal_width(writer) is None
    finally:
        os.close(reader)
        os.close(writer)


def test_a_narrow_terminal_leaves_out_milliseconds() -> None:
    assert row(*EXEC, in_context=BOX, width=80).startswith("12:00:00 4026532257 ")


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ({"runtime": "podman"}, "podman 0123456789ab"),
        ({"runtime": "podman", "name": "web"}, "podman web"),
        ({"name": "a\x1b[31m\u202eb"}, r"container a\x1b[31m\u202eb"),
    ],
)
def test_a_container_is_called_by_its_name_and_else_by_its_id(said: dict[str, str], label: str) -> None:
    made = build(event(*EXEC, context=BOX), HOST)
    made["container"] = {"id": "0123456789abcdef" * 4, **said}  # type: ignore[typeddict-item]
    assert place_of(made) == (label, "")
    assert label in Table(None).render(made).decode()
