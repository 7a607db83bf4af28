# SPDX-License-Identifier: Apache-2.0
"""The native event: which fact goes where, and which facts do not appear when they are not known."""

from __future__ import annotations

import re

import pytest

from enricher.clock import ManualClock, rfc3339
from enricher.enrich import namespaces as namespaces_module
from enricher.enrich.cgroups import CgroupTable
from enricher.enrich.native import NativeBuilder, build
from enricher.enrich.shape import NsEntry
from enricher.enrich.surroundings import Surroundings
from enricher.model import KINDS, UNSET, Batch, CgroupChange, CgroupOp, ContextFlag, Tally
from enricher.route.views.audit_text import AuditText
from tests import schema
from tests.unit.sample_events import (
    BOX_INUMS,
    EXEC,
    HOST,
    HOST_INUMS,
    STAMP,
    SYSCALL,
    USER_LOGIN,
    context,
    event,
    exec_event,
)


def test_the_whole_event_in_the_documented_order() -> None:
    inside = context(
        inums=BOX_INUMS,
        ids=(12, 0, 0, 4711, 0, 0, 0, 0, 0, 0),
        levels=((4026531836, 4711), (4026532260, 7)),
    )
    native = build(exec_event(inside), HOST)
    records = native.pop("records")  # type: ignore[misc]
    assert [record["type"] for record in records] == "SYSCALL EXECVE CWD PATH PATH PROCTITLE EOE".split()
    assert list(native.items()) == [
        ("schema", "audit-enricher/1"),
        ("time", "2026-03-01T12:00:00.042Z"),
        ("id", "1772366400.042:9001"),
        ("uid", f"{HOST.boot_id}/1772366400.042:9001"),
        ("host", {"name": "web1", "machine_id": "0123456789abcdef0123456789abcdef", "boot_id": HOST.boot_id}),
        ("type", "SYSCALL"),
        ("keys", ["exec"]),
        ("outcome", "success"),
        (
            "subject",
            {
                "pid": 4711,
                "tid": 4712,
                "ppid": 4000,
                "start": "80123456789",
                "comm": "ls",
                "exe": "/usr/bin/ls",
                "pids": [{"ns": 4026531836, "pid": 4711}, {"ns": 4026532260, "pid": 7}],
                "auid": 1000,
                "ses": 3,
                "uid": 0,
                "gid": 0,
                "euid": 0,
                "suid": 0,
                "fsuid": 0,
                "egid": 0,
                "sgid": 0,
                "fsgid": 0,
            },
        ),
        (
            "namespaces",
            {
                "dev": "00:04",
                "mnt": {"ino": 4026532257, "id": "12", "life": "12", "host": False},
                "uts": {"ino": 4026532258, "host": False},
                "ipc": {"ino": 4026532259, "host": False},
                "net": {"ino": 4026532261, "id": "4711", "life": "4711", "host": False},
                "pid": {"ino": 4026532260, "host": False},
                "user": {"ino": 4026531837, "host": True},
                "cgroup": {"ino": 4026532262, "host": False},
                "time": {"ino": 4026531834, "host": True},
                "pid_for_children": {"ino": 4026532260, "host": False},
                "time_for_children": {"ino": 4026531834, "host": True},
            },
        ),
        ("where", "unknown"),
        ("cgroup", {"id": "7312"}),
        ("enrichment", {"context": "kernel", "container": "none", "complete": True}),
    ]


def test_members_keep_the_documented_order() -> None:
    members = "schema time id uid host type keys outcome subject namespaces where cgroup records enrichment"
    assert list(build(exec_event(), HOST)) == members.split()
    assert list(build(exec_event(), HOST)["subject"])[:7] == "pid tid ppid start comm exe pids".split()


def test_without_a_context_the_record_speaks_and_nothing_is_added() -> None:
    made = event(*EXEC)
    native = build(made, HOST)
    assert "namespaces" not in native
    assert "cgroup" not in native
    assert native["where"] == "unknown"
    subject = native["subject"]
    assert (subject["pid"], subject["ppid"], subject["comm"]) == (4711, 4000, "ls")
    assert not {"tid", "start", "pids"} & set(subject)
    assert native["enrichment"] == {
        "context": "none",
        "container": "none",
        "complete": True,
        "reason": "no kernel context",
    }


@pytest.mark.parametrize(
    ("flags", "word"), [(ContextFlag.KTHREAD, "kernel thread"), (ContextFlag.INTERRUPT, "interrupt")]
)
def test_a_bystanders_facts_are_not_put_forward(flags: ContextFlag, word: str) -> None:
    made = event((1324, b"action=1 hook=1 len=60"), context=context(flags=flags, comm=b"innocent"))
    native = build(made, HOST)
    assert not {"subject", "namespaces", "cgroup"} & set(native)
    assert "innocent" not in str(native)
    assert native["enrichment"] == {
        "context": "kernel",
        "container": "none",
        "complete": True,
        "reason": f"no subject: {word}",
        "subject": False,
    }


def test_a_context_that_contradicts_the_record_is_left_out() -> None:
    native = build(exec_event(context(pid=9)), HOST)
    assert native["subject"]["pid"] == 4711
    assert "namespaces" not in native
    assert native["enrichment"]["subject"] is False
    assert "pid 9" in native["enrichment"]["reason"]


def test_unset_login_ids_are_absent() -> None:
    native = build(exec_event(context(auid=UNSET, ses=UNSET)), HOST)
    assert not {"auid", "ses"} & set(native["subject"])
    body = SYSCALL.replace(b"auid=1000", b"auid=4294967295")
    without = build(event((1300, body)), HOST)
    assert "auid" not in without["subject"]
    assert without["subject"]["ses"] == 3
    assert without["records"][0]["fields"]["auid"] == 4294967295


@pytest.mark.parametrize("number", [-4294967295, -1, 4294967296])
def test_numbers_that_the_kernel_does_not_have_are_not_the_subjects(number: int) -> None:
    body = re.sub(rb"\b(auid|ses|uid|ppid)=\d+", rb"\1=%d" % number, SYSCALL)
    native = build(event((1300, body)), HOST)
    schema.validate(native)
    assert not {"auid", "ses", "uid", "ppid"} & set(native["subject"])
    assert {native["records"][0]["fields"][name] for name in ("auid", "ses", "uid", "ppid")} == {number}


def test_what_a_program_says_of_itself_is_not_the_subject() -> None:
    body = b'pid=4711 uid=0 auid=1000 ses=3 msg=\'op=x pid=1 uid=99 exe="/bin/lie" comm="lie" res=success\''
    native = build(event((1112, body)), HOST)
    assert native["subject"] == {"pid": 4711, "auid": 1000, "ses": 3, "uid": 0}
    assert native["outcome"] == "success"
    assert native["keys"] == []


@pytest.mark.parametrize(
    ("records", "outcome"),
    [
        ([(1300, b"success=yes exit=3")], "success"),
        ([(1300, b"success=no exit=-2")], "failure"),
        ([(1305, b"op=set res=1"), (1300, b"success=no exit=-1")], "failure"),  # the primary record
        ([(1305, b"op=set res=1")], "success"),
        ([(1701, b"sig=11 res=0")], "failure"),
        ([(1112, USER_LOGIN)], "failure"),
        ([(1130, b"pid=1 uid=0 msg='unit=cron res=success'")], "success"),
        ([(1300, b"syscall=1"), (1305, b"res=0")], "failure"),
        ([(1300, b"success=maybe")], None),
        ([(1334, b"prog-id=3 op=LOAD")], None),
        ([(1305, b"res=1 res=0")], None),
    ],
)
def test_outcome(records: list[tuple[int, bytes]], outcome: str | None) -> None:
    assert build(event(*records), HOST).get("outcome") == outcome


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([(1400, b"x=1"), (1300, SYSCALL), (1327, b"")], "SYSCALL"),
        ([(1336, b"uring_op=1"), (1307, b'cwd="/"')], "URINGOP"),
        ([(1305, b"op=add_rule")], "CONFIG_CHANGE"),
        ([(1999, b"x=1")], "UNKNOWN[1999]"),
    ],
)
def test_the_primary_record_gives_the_type(records: list[tuple[int, bytes]], expected: str) -> None:
    assert build(event(*records), HOST)["type"] == expected


def test_an_event_whose_records_were_lost_still_says_what_it_was() -> None:
    lost = event(context=context())
    lost.complete = False
    lost.reason = "7 records lost"
    native = build(lost, HOST)
    assert (native["type"], native["records"], native["keys"]) == ("SYSCALL", [], [])
    assert native["enrichment"]["reason"] == "7 records lost"
    only_tally = event()
    only_tally.tally = Tally(STAMP, 0, 0, 1, ((1302, 1),))
    assert build(only_tally, HOST)["type"] == "PATH"
    assert build(event(), HOST)["type"] == "UNKNOWN[0]"


def test_keys_of_all_records_once_each() -> None:
    records = [(1305, b'op=add_rule key="b" list=4'), (1300, b"success=yes key=610162")]
    assert build(event(*records), HOST)["keys"] == ["b", "a"]


def test_both_reasons_are_told() -> None:
    made = event((1300, SYSCALL), context=context(flags=ContextFlag.KTHREAD))
    made.complete = False
    made.reason = "2 records missing"
    assert build(made, HOST)["enrichment"]["reason"] == "2 records missing; no subject: kernel thread"


def test_who_waited_for_the_context_knows_better_why_it_is_missing() -> None:
    made = event((1300, SYSCALL))
    made.reason = "context lost: ring full"
    assert build(made, HOST)["enrichment"]["reason"] == "context lost: ring full"


def test_our_own_events_are_labelled() -> None:
    made = exec_event()
    made.self_caused = True
    assert build(made, HOST)["enrichment"]["self_caused"] is True


def test_a_namespace_that_was_not_read_is_absent_and_said() -> None:
    inums = (0, *HOST_INUMS[1:])
    native = build(exec_event(context(inums=inums)), HOST)
    assert "mnt" not in native["namespaces"]
    assert native["enrichment"]["reason"] == "not read: namespaces mnt"


def test_a_kind_the_kernel_does_not_have_is_not_missing() -> None:
    host = HOST._replace(initial=(*HOST_INUMS[:7], 0, HOST_INUMS[8], 0))
    inums = (*HOST_INUMS[:7], 0, HOST_INUMS[8], 0)
    native = build(exec_event(context(inums=inums)), host)
    assert not {"time", "time_for_children"} & set(native["namespaces"])
    assert "reason" not in native["enrichment"]


MNT, USER = KINDS.index("mnt"), KINDS.index("user")
SESSION = b"/user.slice/user-1000.slice/session-3.scope"
CONMON = b"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-conmon-" + b"ab" * 32 + b".scope"
DOCKER = b"/system.slice/docker-" + b"ab" * 32 + b".scope"


@pytest.mark.parametrize(
    ("path", "other", "where"),
    [
        (SESSION, (), "host"),
        (SESSION, (MNT,), "host"),
        (SESSION, (USER,), "host"),
        (SESSION, (MNT, USER), "unknown"),
        (b"/", (MNT, USER), "unknown"),
        (b"/user.slice", (MNT, USER), "unknown"),
        (b"/system.slice/web.service", (MNT, USER), "unknown"),
        (CONMON, (MNT, USER), "host"),
        (DOCKER, (MNT, USER), "container"),
    ],
)
def test_a_users_container_may_have_no_cgroup_of_its_own(
    path: bytes, other: tuple[int, ...], where: str
) -> None:
    """Rootless Podman's on cgroup v1: the path is its starter's, and only the namespaces raise a doubt."""
    table = CgroupTable()
    told = (CgroupChange(7312, CgroupOp.MADE, path, 0),)
    table.learn(Batch([], [], [], parked=False, now=0.0, wall=0.0, cgroups=told))
    inums = list(HOST_INUMS)
    for kind in other:
        inums[kind] += 4096
    made = exec_event(context(inums=inums))
    native = NativeBuilder(HOST, around=Surroundings(HOST, table)).build(made)
    assert native["where"] == where
    assert native["cgroup"]["path"] == path.decode()
    doubted = "reason" in native["enrichment"]
    assert doubted == (where == "unknown") == (native["enrichment"]["container"] == "none")
    text = AuditText(HOST, Surroundings(HOST, table)).render(made)
    line = next(line for line in text.splitlines() if b"[1390]" in line)
    assert b'where="%b"' % where.encode() in line
    assert (b"reason=" in line) == doubted


def test_host_is_not_claimed_without_the_initial_inum() -> None:
    host = HOST._replace(initial=(0,) * 10)
    entry = build(exec_event(), host)["namespaces"]["mnt"]
    assert entry == {"ino": HOST_INUMS[0]}


def test_equal_contexts_share_the_prepared_part_and_others_do_not() -> None:
    builder = NativeBuilder(HOST)
    first, second = builder.build(exec_event()), builder.build(exec_event())
    assert first["namespaces"] is second["namespaces"]
    other = builder.build(exec_event(context(inums=BOX_INUMS)))
    entry = other["namespaces"]["mnt"]
    assert isinstance(entry, dict)
    assert entry["ino"] == BOX_INUMS[0]


def test_the_namespace_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces_module, "SETS", 3)
    builder = NativeBuilder(HOST)
    for inum in range(1, 9):
        native = builder.build(exec_event(context(inums=(inum,) * len(KINDS))))
        expected: NsEntry = {"ino": inum, "host": False}
        assert native["namespaces"]["mnt"] == expected
    assert len(builder.where.namespaces._known) <= 6


def test_no_cgroup_id_no_cgroup() -> None:
    assert "cgroup" not in build(exec_event(context(cgroup_id=0)), HOST)


def test_a_comm_that_is_not_utf8_is_kept() -> None:
    subject = build(exec_event(context(comm=b"a\xff")), HOST)["subject"]
    assert (subject["comm"], subject["comm_hex"]) == ("a\ufffd", "61FF")
    body = SYSCALL.replace(b'exe="/usr/bin/ls"', b"exe=2FFF")
    subject = build(event((1300, body)), HOST)["subject"]
    assert (subject["exe"], subject["exe_hex"]) == ("/\ufffd", "2FFF")


def test_raw_text_on_request() -> None:
    made = exec_event()
    native = build(made, HOST, raw=True)
    assert [record["raw"].encode() for record in native["records"]] == [r.text for r in made.records]
    assert "raw" not in build(made, HOST)["records"][0]


@pytest.mark.parametrize(
    ("sec", "ms", "written"),
    [
        (0, 0, "1970-01-01T00:00:00.000Z"),
        (1772366400, 7, "2026-03-01T12:00:00.007Z"),
        (1772366399, 999, "2026-03-01T11:59:59.999Z"),
        (4102444800, 1, "2100-01-01T00:00:00.001Z"),
        (10**18, 0, "9999-12-31T23:59:59.000Z"),
    ],
)
def test_time_is_written_without_rounding(sec: int, ms: int, written: str) -> None:
    assert rfc3339(sec, ms) == written


def test_a_manual_clock_moves_when_told() -> None:
    clock = ManualClock(1.5)
    clock.advance(0.25)
    assert clock.monotonic() == 1.75


def test_a_stamp_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not a stamp"):
        build(event(stamp=b"x"), HOST)
