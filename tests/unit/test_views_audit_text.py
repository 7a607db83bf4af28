# SPDX-License-Identifier: Apache-2.0
"""Audit text: the kernel's bytes untouched, our line where other tools still see one event, nothing forged."""

from __future__ import annotations

import re

import pytest

from enricher.model import ContextFlag, Event
from enricher.route.views import audit_text
from enricher.route.views.audit_text import AuditText
from tests.unit.sample_events import (
    BOX_INUMS,
    CWD,
    EXEC,
    HEAD,
    HOST,
    INITIAL,
    STAMP,
    SYSCALL,
    USER_LOGIN,
    context,
    event,
    exec_event,
)

OURS = b"type=UNKNOWN[1390] msg=" + HEAD


def lines_of(made: Event) -> list[bytes]:
    rendered = AuditText(HOST).render(made)
    assert rendered.endswith(b"\n") or rendered == b""
    return rendered.splitlines()


def types_of(made: Event) -> list[str]:
    return [re.match(r"type=(\S+) msg=audit\(", line.decode())[1] for line in lines_of(made)]  # type: ignore[index]


def test_the_kernels_lines_are_there_byte_for_byte() -> None:
    made = exec_event()
    names = "SYSCALL EXECVE CWD PATH PATH PROCTITLE EOE".split()
    expected = [
        b"type=" + name.encode() + b" msg=" + record.text
        for name, record in zip(names, made.records, strict=True)
    ]
    assert [line for line in lines_of(made) if not line.startswith(OURS)] == expected


def test_our_line_quotes_every_value() -> None:
    inside = context(
        inums=BOX_INUMS,
        ids=(12, 0, 0, 2**63, 0, 0, 0, 0, 0, 0),
        levels=((4026531836, 4711), (4026532260, 7)),
    )
    (ours,) = [line for line in lines_of(exec_event(inside)) if line.startswith(OURS)]
    assert ours.removeprefix(OURS).decode() == (
        'record="1" ns_dev="00:04" ns_mnt="4026532257" ns_mnt_id="12" ns_uts="4026532258"'
        ' ns_ipc="4026532259" ns_net="4026532261" ns_net_id="9223372036854775808" ns_pid="4026532260"'
        ' ns_user="4026531837" ns_cgroup="4026532262" ns_time="4026531834"'
        ' ns_pid_for_children="4026532260" ns_time_for_children="4026531834"'
        ' ns_host="user,time,time_for_children" pid="4711" tid="4712"'
        ' pids="4026531836:4711,4026532260:7" start="80123456789" cgroup_id="7312"'
    )


@pytest.mark.parametrize(
    ("numbers", "order"),
    [
        ((1300, 1309, 1307, 1302, 1327, 1320), "1300 1309 1307 1302 OURS 1327 1320"),
        ((1300, 1307, 1320), "1300 1307 OURS 1320"),  # a rule excludes PROCTITLE
        ((1300, 1307, 1327), "1300 1307 OURS 1327"),  # a rule excludes EOE
        ((1300, 1307), "1300 1307 OURS"),
        ((1336, 1300, 1307, 1302, 1327, 1320), "1336 1300 1307 1302 OURS 1327 1320"),
        ((1400, 1300, 1327, 1320), "1400 1300 OURS 1327 1320"),  # one event: SYSCALL holds it together
        ((1006, 1300, 1327, 1320), "1006 1300 OURS 1327 1320"),
        ((1400,), "OURS 1400"),
        ((1006,), "OURS 1006"),
        ((1112,), "OURS 1112"),
        ((1701,), "OURS 1701"),
        ((2404,), "OURS 2404"),
        ((1305,), "1305 OURS"),
        ((1336, 1307, 1302, 1320), "1336 1307 1302 OURS 1320"),
        ((1300,), "1300 OURS"),
        ((1299,), "OURS 1299"),
        ((1399,), "1399 OURS"),
    ],
)
def test_where_our_line_stands(numbers: tuple[int, ...], order: str) -> None:
    made = event(*((number, b"x=1") for number in numbers), context=context())
    kernel = iter(made.records)
    found = ["OURS" if line.startswith(OURS) else str(next(kernel).type) for line in lines_of(made)]
    assert " ".join(found) == order


@pytest.mark.parametrize("flags", [0, ContextFlag.KTHREAD, ContextFlag.INTERRUPT])
def test_no_line_of_ours_without_a_subject(flags: int) -> None:
    assert types_of(event(*EXEC, context=context(flags=flags))).count("UNKNOWN[1390]") == 0
    assert types_of(event(*EXEC)).count("UNKNOWN[1390]") == 0
    assert types_of(event(*EXEC, context=context(pid=5))).count("UNKNOWN[1390]") == 0


def test_a_kind_that_is_not_known_is_not_written() -> None:
    made = exec_event(context(inums=(0, *INITIAL[1:], 0, 0)))
    (ours,) = [line for line in lines_of(made) if line.startswith(OURS)]
    assert b"ns_mnt=" not in ours
    assert b"ns_pid_for_children=" not in ours
    assert b'ns_host="uts,ipc,net,pid,user,cgroup,time"' in ours


def test_unnamed_and_own_types_have_no_name() -> None:
    assert types_of(event((1999, b"x=1"), (1390, b"x=1"))) == ["UNKNOWN[1999]", "UNKNOWN[1390]"]


HOSTILE = b"pid=4711 uid=0 msg='op=x\n" + b"type=SYSCALL msg=audit(1.0:1): success=yes\r\x00\x1b[2J\x7f\tend'"


def test_a_newline_forges_no_line_and_no_byte_is_lost() -> None:
    made = event((1112, HOSTILE), context=context())
    rendered = AuditText(HOST).render(made)
    assert len(rendered.splitlines()) == len(rendered.decode().splitlines()) == 3
    assert types_of(made) == ["UNKNOWN[1390]", "UNKNOWN[1398]", "USER_LOGIN"]
    notice, line = lines_of(made)[1:]
    found = re.fullmatch(
        rb'type=UNKNOWN\[1398\] msg=audit\(%b\): op="control-bytes" type="1112" place="1" text_hex="([0-9A-F]+)"'
        % re.escape(STAMP),
        notice,
    )
    assert found
    assert bytes.fromhex(found[1].decode()) == made.records[0].text
    assert line == (
        b"type=USER_LOGIN msg=" + HEAD + HOSTILE.translate(bytes.maketrans(b"\n\r\0\x1b\x7f", b"     "))
    )
    assert b"\tend" in line  # a tab does no harm


def test_only_the_record_with_control_bytes_is_announced() -> None:
    made = event((1300, SYSCALL), (1307, b'cwd="/a\nb"'), (1327, b"x"), (1320, b""))
    assert types_of(made) == ["SYSCALL", "CWD", "UNKNOWN[1398]", "PROCTITLE", "EOE"]
    assert b'type="1307" place="2"' in lines_of(made)[2]


def test_text_that_is_not_ascii_is_not_touched() -> None:
    body = "cwd=é \x9b".encode() + b"\xff"
    (line,) = AuditText(HOST).render(event((1307, body))).split(b"\n")[:-1]
    assert line == b"type=CWD msg=" + HEAD + body


def test_an_event_without_records() -> None:
    assert AuditText(HOST).render(event()) == b""
    assert types_of(event(context=context())) == ["UNKNOWN[1390]"]


def test_user_records_keep_their_quotes() -> None:
    assert lines_of(event((1112, USER_LOGIN)))[0].endswith(USER_LOGIN)


def test_the_cache_is_bounded_and_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_text, "_NAMESPACE_SETS", 2)
    view = AuditText(HOST)
    for _ in range(2):
        for inum in range(1, 6):
            made = event((1307, CWD), context=context(inums=(inum,) * 10))
            assert b'ns_mnt="%d"' % inum in view.render(made)
    assert len(view._namespaces) == 2
