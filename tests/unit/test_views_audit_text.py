# SPDX-License-Identifier: Apache-2.0
"""Audit text: the kernel's bytes untouched, our line where other tools still see one event, nothing forged."""

from __future__ import annotations

import re

import pytest

from enricher.enrich.cgroups import CgroupTable
from enricher.enrich.surroundings import Surroundings
from enricher.model import (
    Answer,
    Batch,
    CgroupChange,
    CgroupOp,
    ContextFlag,
    Event,
    Loss,
    Metadata,
    Notice,
    Record,
)
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
NOTICE = b"type=UNKNOWN[1398] msg=" + HEAD


def lines_of(made: Event) -> list[bytes]:
    rendered = AuditText(HOST).render(made)
    assert rendered.endswith(b"\n")
    return rendered[:-1].split(b"\n")


def ours_of(made: Event) -> str:
    """What our line says."""
    (ours,) = [line for line in lines_of(made) if line.startswith(OURS)]
    return ours.removeprefix(OURS).decode("ascii")


def from_log(*records: tuple[int, bytes], node: bytes = b"") -> Event:
    made = event(*records)
    made.complete = None
    made.reason = "from a log"
    made.node = node
    return made


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
    assert ours_of(exec_event(inside)) == (
        'record="1" context="kernel" ns_dev="00:04" ns_mnt="4026532257" ns_mnt_id="12" ns_uts="4026532258"'
        ' ns_ipc="4026532259" ns_net="4026532261" ns_net_id="9223372036854775808" ns_pid="4026532260"'
        ' ns_user="4026531837" ns_cgroup="4026532262" ns_time="4026531834"'
        ' ns_pid_for_children="4026532260" ns_time_for_children="4026531834"'
        ' ns_host="user,time,time_for_children" pid="4711" tid="4712"'
        ' pids="4026531836:4711,4026532260:7" start="80123456789" cgroup_id="7312" complete="yes"'
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
        ((1006, 1300), "1006 1300 OURS"),
        ((1305,), "OURS 1305"),
        ((1336, 1307, 1302, 1320), "OURS 1336 1307 1302 1320"),
        ((1339,), "OURS 1339"),  # audit 3.0.9 has no name for it: an event of its own
        ((1300,), "1300 OURS"),
        ((1299,), "OURS 1299"),
        ((1399,), "OURS 1399"),
    ],
)
def test_where_our_line_stands(numbers: tuple[int, ...], order: str) -> None:
    made = event(*((number, b"x=1") for number in numbers), context=context())
    kernel = iter(made.records)
    found = ["OURS" if line.startswith(OURS) else str(next(kernel).type) for line in lines_of(made)]
    assert " ".join(found) == order


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (0, "no subject: the record is not about the task that wrote it"),
        (ContextFlag.KTHREAD, "no subject: kernel thread"),
        (ContextFlag.INTERRUPT, "no subject: interrupt"),
    ],
)
def test_a_bystander_is_not_named(flags: int, reason: str) -> None:
    assert (
        ours_of(event(*EXEC, context=context(flags=flags)))
        == f'record="1" context="kernel" subject="no" complete="yes" reason="{reason.replace(" ", "_")}"'
    )


def test_another_process_than_the_records_is_not_named() -> None:
    assert ours_of(event(*EXEC, context=context(pid=5))) == (
        'record="1" context="kernel" subject="no" complete="yes"'
        ' reason="context_not_used:_it_is_of_pid_5,_the_record_says_4711"'
    )


def test_without_a_context_our_line_says_so() -> None:
    made = event(*EXEC)
    made.complete, made.reason = False, "no context: the ring was full"
    assert ours_of(made) == 'record="1" context="none" complete="no" reason="no_context:_the_ring_was_full"'


def test_a_log_has_no_counts() -> None:
    assert ours_of(from_log(*EXEC)) == 'record="1" context="none" reason="from_a_log"'


def test_what_is_missing_is_said() -> None:
    made = exec_event(context(flags=ContextFlag.SUBJECT | ContextFlag.AFTER_SERVING))
    made.complete, made.part, made.self_caused = False, 3, True
    made.reason = "records lost between kernel and reader"
    for at in (1, 4):
        made.records[at] = Record(made.records[at].type, made.records[at].text, truncated=True)
    assert ours_of(made).endswith(
        ' cgroup_id="7312" complete="no" part="3" self_caused="yes" truncated="2,5"'
        ' reason="records_lost_between_kernel_and_reader;_the_task_had_already_left_its_namespaces"'
    )


def test_whole_events_say_no_more_than_that() -> None:
    said = ours_of(exec_event())
    assert said.endswith(' complete="yes"')
    assert not any(word in said for word in ("truncated=", "reason=", "part=", "self_caused=", "subject="))


def test_nothing_in_a_value_of_ours_ends_it() -> None:
    made = event(*EXEC)
    made.reason = 'a"b\nc\td\x1be\x9bf\u2028"'
    assert ours_of(made).endswith(""" reason="a'b_c_d_e?f?'\"""")


def test_a_kind_that_is_not_known_is_not_written() -> None:
    made = exec_event(context(inums=(0, *INITIAL[1:], 0, 0)))
    ours = ours_of(made)
    assert "ns_mnt=" not in ours
    assert "ns_pid_for_children=" not in ours
    assert 'ns_host="uts,ipc,net,pid,user,cgroup,time"' in ours
    assert ours.endswith(' reason="not_read:_namespaces_mnt,_pid_for_children,_time_for_children"')


def test_a_host_that_is_not_known() -> None:
    unknown = HOST._replace(ns_dev="", initial=(0,) * 10)
    rendered = AuditText(unknown).render(exec_event(context(inums=(0, *INITIAL[1:], 0, 0)))).decode()
    assert "ns_dev" not in rendered
    assert 'ns_host=""' in rendered
    assert "reason" not in rendered  # a kind that the host has not either is not missing


def test_unnamed_and_own_types_have_no_name() -> None:
    assert types_of(event((1999, b"x=1"), (1391, b"x=1")))[1:] == ["UNKNOWN[1999]", "UNKNOWN[1391]"]


HOSTILE = b"pid=4711 uid=0 msg='op=x\n" + b"type=SYSCALL msg=audit(1.0:1): success=yes\r\x00\x1b[2J\x7f\tend'"


def test_a_newline_forges_no_line_and_no_byte_is_lost() -> None:
    made = event((1112, HOSTILE), context=context())
    rendered = AuditText(HOST).render(made)
    assert len(rendered.splitlines()) == len(rendered.decode().splitlines()) == 3
    assert types_of(made) == ["UNKNOWN[1390]", "UNKNOWN[1398]", "USER_LOGIN"]
    notice, line = lines_of(made)[1:]
    found = re.fullmatch(
        rb'type=UNKNOWN\[1398\] msg=audit\(%b\): op="control-bytes" type="1112" place="1" offset="0"'
        rb' text_hex="([0-9A-F]+)"' % re.escape(STAMP),
        notice,
    )
    assert found
    assert bytes.fromhex(found[1].decode()) == made.records[0].text
    assert line == (
        b"type=USER_LOGIN msg=" + HEAD + HOSTILE.translate(bytes.maketrans(b"\n\r\0\x1b\x7f", b"     "))
    )
    assert b"\tend" in line  # a tab does no harm


def test_a_long_record_is_kept_in_pieces() -> None:
    """For ausearch, which reads no more than 8970 characters of a line."""
    made = event((1112, b"msg='\n" + bytes(range(256)) * 40 + b"'"))
    pieces = [line for line in lines_of(made) if line.startswith(NOTICE)]
    assert all(len(line) < 8970 for line in pieces)
    found = [re.search(rb' offset="(\d+)" text_hex="([0-9A-F]+)"$', line) for line in pieces]
    parts = {int(match[1]): bytes.fromhex(match[2].decode()) for match in found if match}
    assert list(parts) == [0, 4000, 8000]
    assert b"".join(parts.values()) == made.records[0].text


def test_only_the_record_with_control_bytes_is_announced() -> None:
    made = event((1300, SYSCALL), (1307, b'cwd="/a\nb"'), (1327, b"x"), (1320, b""))
    assert types_of(made) == ["SYSCALL", "CWD", "UNKNOWN[1390]", "UNKNOWN[1398]", "PROCTITLE", "EOE"]
    assert b'type="1307" place="2"' in lines_of(made)[3]


@pytest.mark.parametrize(
    "body",
    [
        "cwd=é ü €\u2028 🐧 ÛÝ\xa0".encode(),  # their bytes in UTF-8 are from 0x80 to 0x9f, the characters are not
        b"cwd=\xff\xfe\xc3",
        b"cwd=a\tb",
    ],
)
def test_text_that_is_no_control_character_is_not_touched(body: bytes) -> None:
    assert lines_of(event((1307, body)))[1:] == [b"type=CWD msg=" + HEAD + body]


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("cwd=a\x9b2Jb".encode(), b"cwd=a  2Jb"),
        ("cwd=\x80\x85\x9f.".encode(), b"cwd=      ."),
        (b"cwd=\x9b2J", b"cwd= 2J"),  # as a terminal in an eight-bit character set takes it
        (b"cwd=\xff\x9b\xc3", b"cwd=\xff \xc3"),
        (b"cwd=\xc2\x1b\x9b", b"cwd=\xc2  "),
        (b"cwd=\xc2\x7f\xc2\x9c\xe2\x82\xac", b"cwd=\xc2   \xe2\x82\xac"),
    ],
)
def test_c1_control_characters(body: bytes, shown: bytes) -> None:
    made = event((1307, body))
    notice, line = lines_of(made)[1:]
    assert line == b"type=CWD msg=" + HEAD + shown
    assert notice.endswith(b' text_hex="%b"' % made.records[0].text.hex().upper().encode())


ENRICHED = b'\x1dUID="root" AUID="unset"'


@pytest.mark.parametrize(
    ("number", "body"),
    [
        (1300, SYSCALL + ENRICHED),
        (1112, USER_LOGIN + ENRICHED),
        (1124, b"pid=1 uid=0 data=6C73" + ENRICHED),
    ],
)
def test_what_auditd_appended_stays(number: int, body: bytes) -> None:
    lines = lines_of(from_log((number, body)))
    assert len(lines) == 2
    assert any(line.endswith(body) for line in lines)


@pytest.mark.parametrize(
    ("number", "body", "shown"),
    [
        # A program's message, and a network device's name: neither is auditd's.
        (
            1112,
            b"pid=1 msg='op=x" + ENRICHED + b"'",
            b"pid=1 msg='op=x" + ENRICHED.replace(b"\x1d", b" ") + b"'",
        ),
        (1112, b"pid=1 msg='op=x' y" + ENRICHED, b"pid=1 msg='op=x' y" + ENRICHED.replace(b"\x1d", b" ")),
        (1112, b"pid=1 msg='\x1d'" + ENRICHED, b"pid=1 msg=' '" + ENRICHED),
        (1112, b"pid=1 msg='x'\x1dUID=\"o'x\"", b"pid=1 msg='x' UID=\"o'x\""),
        (1700, b"dev=\x1dx prom=256" + ENRICHED, b"dev= x prom=256" + ENRICHED),
        (1700, b"dev=\nx prom=256" + ENRICHED, b"dev= x prom=256" + ENRICHED),
        (1300, SYSCALL + ENRICHED + b"\n", SYSCALL + ENRICHED + b" "),
    ],
)
def test_no_other_separator_does(number: int, body: bytes, shown: bytes) -> None:
    lines = lines_of(from_log((number, body)))
    assert len(lines) == 3
    (line,) = [line for line in lines if not line.startswith((OURS, NOTICE))]
    assert line.endswith(HEAD + shown)


def test_the_kernel_writes_no_separator() -> None:
    (line,) = [line for line in lines_of(event((1700, b"dev=\x1dx"))) if b"ANOM_PROMISCUOUS" in line]
    assert line.endswith(b"dev= x")


def test_a_node_stands_before_every_line() -> None:
    lines = lines_of(from_log((1112, HOSTILE), node=b"web1"))
    assert len(lines) == 3
    assert all(line.startswith(b"node=web1 type=") for line in lines)


@pytest.mark.parametrize("gap", [b" ", b"\t", b"\n", b"\x01", b"\x7f", b"\x9b", "\x85".encode()])
def test_a_node_forges_nothing(gap: bytes) -> None:
    node = b"a%btype=SYSCALL%bmsg=audit(1.0:1):" % (gap, gap)
    lines = lines_of(from_log((1307, CWD), node=node))
    marks = b"?" * len(gap)
    shown = b"node=a%btype=SYSCALL%bmsg=audit(1.0:1): " % (marks, marks)
    assert [line.removeprefix(shown).split(b" ")[0] for line in lines] == [
        b"type=UNKNOWN[1390]",
        b"type=UNKNOWN[1398]",
        b"type=CWD",
    ]
    assert lines[1].endswith(b' op="control-bytes" node_hex="%b"' % node.hex().upper().encode())


def test_an_event_without_records() -> None:
    assert ours_of(event()) == 'record="1" context="none" complete="yes" reason="no_kernel_context"'
    assert types_of(event(context=context())) == ["UNKNOWN[1390]"]


def test_a_malformed_record_passes_through() -> None:
    made = Event(b"1772366400.042:0", 0.0)
    made.records = [Record(0, b"type=SYSCALL msg=audit(1.0:1): forged")]
    made.malformed = True
    made.part = 2
    made.reason = "the record does not start with audit(SEC.MS:SERIAL)"
    ours, line = AuditText(HOST).render(made).splitlines()
    assert ours.startswith(
        b'type=UNKNOWN[1390] msg=audit(1772366400.042:0): record="1" context="none" complete="no"'
    )
    assert b' part="2" ' in ours
    assert line == b"type=UNKNOWN[0] msg=" + made.records[0].text


def lost(loss: Loss) -> bytes:
    made = Event(b"1772366400.042:0", 0.0)
    made.loss, made.own_id, made.complete = loss, "1a2b3c4d/7", True
    return AuditText(HOST).render(made)


def test_a_loss_is_one_line() -> None:
    assert lost(Loss("netlink", "netlink", 12, "records", 9001, 9004, ((1300, 5), (1999, 7)))) == (
        b"type=UNKNOWN[1394] msg=audit(1772366400.042:0):"
        b' event_uid="0b6c8f3e-1d2c-4c57-9a51-3f7a6b1c0d2e/1a2b3c4d/7" cause="netlink" stage="netlink" records="12"'
        b' first="9001" last="9004" types="SYSCALL:5,UNKNOWN[1999]:7"\n'
    )


def test_a_loss_of_a_destination_names_it() -> None:
    rendered = lost(Loss("queue", "queue", 3, "records", None, None, (), "siem-2"))
    assert rendered.endswith(b' cause="queue" stage="queue" records="3" sink="siem-2"\n')


def test_a_loss_of_which_little_is_known() -> None:
    rendered = lost(Loss("ring", "ring", 3, "messages", None, None, ()))
    assert rendered.endswith(b' cause="ring" stage="ring" messages="3"\n')


def test_a_notice_is_one_line() -> None:
    made = Event(b"1772366400.042:0", 0.0)
    made.own_id, made.complete = "1a2b3c4d/7", True
    made.notice = Notice("reload", 'new "settings"\n', settings=("output.keys", "output.raw"))
    assert AuditText(HOST).render(made) == (
        b"type=UNKNOWN[1398] msg=audit(1772366400.042:0):"
        b' event_uid="0b6c8f3e-1d2c-4c57-9a51-3f7a6b1c0d2e/1a2b3c4d/7" kind="reload"'
        b' text="new_\'settings\'_" settings="output.keys,output.raw"\n'
    )


def test_user_records_keep_their_quotes() -> None:
    assert lines_of(event((1112, USER_LOGIN)))[1].endswith(USER_LOGIN)


def test_the_cache_is_bounded_and_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_text, "SETS", 2)
    view = AuditText(HOST)
    for _ in range(2):
        for inum in range(1, 6):
            made = event((1307, CWD), context=context(inums=(inum,) * 10))
            assert b'ns_mnt="%d"' % inum in view.render(made)
    assert len(view._namespaces) <= 4


# -- the container -----------------------------------------------------------------------------------


def container_line(said: Metadata | None) -> str:
    """Our line of an event in a container of which this is known."""
    table = CgroupTable()
    made = CgroupChange(7312, CgroupOp.MADE, b"/system.slice/docker-" + b"ab" * 32 + b".scope", 0)
    table.learn(Batch([], [], [], parked=False, now=0.0, wall=0.0, cgroups=(made,)))
    view = AuditText(HOST, Surroundings(HOST, table))
    inside = exec_event()
    assert inside.context is not None
    inside.context = inside.context._replace(cgroup_id=7312)
    before = view.render(inside)
    if said is not None:
        table.learn(Batch([], [], [], parked=False, now=0.0, wall=0.0, answers=(Answer(7312, said),)))
        assert view.render(inside) != before, "what was prepared does not outlive what it was made of"
    (ours,) = [line for line in view.render(inside).split(b"\n") if line.startswith(OURS)]
    return ours.decode("ascii").partition(" container=")[2].partition(" complete=")[0]


ID = "ab" * 32
POD = 'pod_name="shop-0" pod_namespace="prod"'


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (None, f'"{ID}" runtime="docker"'),
        (
            Metadata("docker", "shop", "a.b/c:1", (("k", "v"),), "u-1", "shop-0", "prod"),
            f'"{ID}" runtime="docker" pod="u-1" container_name="shop" container_image="a.b/c:1" {POD}',
        ),
        (
            Metadata("docker", 'a" b', "\u00fc"),
            f'"{ID}" runtime="docker" container_name_hex="61222062" container_image_hex="C3BC"',
        ),
        (
            Metadata("docker", "x\ntype=USER"),
            f'"{ID}" runtime="docker" container_name_hex="780A747970653D55534552"',
        ),
        (Metadata("docker", "x" * 257, "i" * 256), f'"{ID}" runtime="docker" container_image="{"i" * 256}"'),
    ],
)
def test_the_container_as_its_runtime_tells_of_it(said: Metadata | None, line: str) -> None:
    assert container_line(said) == line
