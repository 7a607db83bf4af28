# SPDX-License-Identifier: Apache-2.0
"""Audit container identifiers on events: chains as text, which record has which, filters, and CONTAINER_OP."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.correlate.acts import Acts
from enricher.enrich import contid
from enricher.enrich.describe import told
from enricher.enrich.native import NativeBuilder
from enricher.errors import UsageError
from enricher.facts import CONTID_UNSET, Beside, ChangeOp, ContainerOp, Engine, PacketNet, Told
from enricher.model import ContextFlag, Event
from enricher.route.expression import compile_filter
from enricher.route.views.audit_text import AuditText
from enricher.route.views.native_json import NativeJson, render
from enricher.sources.logformat import Lines, LogCounts
from tests.unit import sample_native
from tests.unit.sample_events import BOX_INUMS, EXEC, HOST, STAMP, SYSCALL, USER_LOGIN, context, event
from tests.unit.sample_facts import change, found, freed, link, refusal, target
from tests.unit.sample_facts import made as namespace

CHAINS = st.lists(st.lists(st.integers(0, CONTID_UNSET - 1), min_size=1, max_size=8), min_size=1, max_size=8)


def never() -> object:
    raise AssertionError("the native event was made")


def passes(text: str, made: Event) -> bool:
    return compile_filter(text).matches(made, never)  # type: ignore[arg-type]


def inside(*chain: int, pid: int = 4711) -> Event:
    return event(*EXEC, context=context(pid=pid)._replace(contid=chain))


@given(CHAINS)
def test_chains_are_read_as_they_are_written(chains: list[list[int]]) -> None:
    text = contid.joined(chains)
    read = tuple(map(tuple, chains))
    assert contid.parse(text) == read
    assert contid.parse(text.replace(",^", "^")) == read


def test_how_chains_are_written() -> None:
    assert contid.joined([(4, 2, 1)]) == "4,^2,^1"
    assert contid.joined([(2, 1), (3, 1)]) == "2,^1,3,^1"
    assert contid.parse("4^2^1,3^1") == ((4, 2, 1), (3, 1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "^1",
        ",^1",
        "4,",
        "4,,1",
        "4^^1",
        "4 2",
        "x",
        "18446744073709551615",
        "9" * 21,
        "1," * 3000 + "1",
        "٤",
    ],
)
def test_what_is_no_chain(text: str) -> None:
    assert contid.parse(text) == ()


@given(st.text(alphabet="0123456789,^ -x", max_size=60))
def test_no_text_is_read_by_half(text: str) -> None:
    for chain in contid.parse(text):
        assert chain
        assert all(0 <= number < CONTID_UNSET for number in chain)


@pytest.mark.parametrize(
    "text", ["contid == 4", "contid == 2", "contid == 1", "contid < 2", "contid >= 4", "has contid"]
)
def test_a_filter_finds_what_is_nested(text: str) -> None:
    assert passes(text, inside(4, 2, 1))
    assert not passes(f"not {text}", inside(4, 2, 1))


@pytest.mark.parametrize(
    "text", ["contid == 3", "contid == unset", "contid > 4", "contid < 1", "contid != 2"]
)
def test_a_filter_finds_nothing_else(text: str) -> None:
    assert not passes(text, inside(4, 2, 1))


def test_large_identifiers_are_told_apart() -> None:
    assert passes(f"contid == {2**64 - 2}", inside(2**64 - 2))
    assert not passes(f"contid == {2**64 - 3}", inside(2**64 - 2))


def test_unset_is_of_a_subject_that_is_known() -> None:
    assert passes("contid == unset", inside())
    unknown = event(*EXEC)
    assert not passes("contid == unset or has contid", unknown)
    bystander = event((1324, b"hook=1"), context=context(flags=ContextFlag.INTERRUPT)._replace(contid=(4,)))
    assert not passes("contid == unset or has contid", bystander)


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "18446744073709551616", "9" * 200, "²", "٤"])
def test_what_is_no_identifier_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="neither a container identifier nor unset"):
        compile_filter(f"contid == {value}")


def test_a_packet_has_those_of_its_namespace() -> None:
    made = event((1324, b"hook=1"), context=context(flags=ContextFlag.INTERRUPT)._replace(contid=(9,)))
    made.beside = Beside(packet=PacketNet(STAMP, 81, 1324, BOX_INUMS[3], 0, ((2, 1), (3, 1))))
    assert contid.contids_of(made) == (2, 1, 3)
    assert not passes("contid == 9", made)  # whoever was running has nothing to do with it
    native = sample_native.packet_of_contained()
    assert native["packet"]["contids"] == [["2", "1"], ["3", "1"]]
    assert native["container_ids"] == [{"record": 1, "contid": "2,^1,3,^1"}]
    assert "contid" not in native


def test_each_record_has_its_own() -> None:
    native = sample_native.contained()
    assert native["contid"] == ["4", "2", "1"]
    assert native["targets"][0]["contid"] == ["3"]
    assert native["container_ids"] == [{"record": 1, "contid": "4,^2,^1"}, {"record": 2, "contid": "3"}]


def test_a_target_is_told_where_the_sender_has_none() -> None:
    made = event(
        (1300, SYSCALL), (1318, b"opid=4800 ocomm=x"), (1318, b"opid=4801 ocomm=y"), context=context()
    )
    made.beside = Beside((), (target(context(pid=4801)._replace(contid=(7,))),), link())
    assert contid.container_ids(made, made.context) == [(3, "7")]


def test_a_programs_message_has_the_senders() -> None:
    made = event((1112, USER_LOGIN), context=context()._replace(contid=(5,)))
    assert contid.container_ids(made, made.context) == [(1, "5")]
    forged = event((1112, USER_LOGIN.replace(b"op=login", b"contid=9 op=login")), context=context())
    assert contid.contids_of(forged) == ()


def test_an_event_without_has_no_member() -> None:
    native = NativeBuilder(HOST).build(inside())
    assert not {"contid", "container_ids"} & set(native)


def test_the_short_way_to_json_has_it_too() -> None:
    builder, made = NativeBuilder(HOST), inside(4, 2, 1)
    line = NativeJson(builder).line(made)
    assert b'"contid":["4","2","1"],"container_ids":[{"record":1,"contid":"4,^2,^1"}]' in line
    assert line == render(builder.build(made))


def test_text_has_a_line_before_proctitle() -> None:
    lines = AuditText(HOST).render(inside(4, 2, 1)).splitlines()
    kinds = [line.partition(b" ")[0] for line in lines]
    at = kinds.index(b"type=UNKNOWN[1391]")
    assert lines[at] == b'type=UNKNOWN[1391] msg=audit(%b): record="1" contid="4,^2,^1"' % STAMP
    assert at < kinds.index(b"type=PROCTITLE")
    assert kinds.count(b"type=UNKNOWN[1391]") == 1
    without = [line for line in lines if b"UNKNOWN[1391]" not in line]
    assert without == AuditText(HOST).render(inside()).splitlines()


def test_text_of_an_event_without_syscall_begins_with_ours() -> None:
    made = event((1112, USER_LOGIN), context=context()._replace(contid=(5,)))
    lines = AuditText(HOST).render(made).splitlines()
    assert lines[1].startswith(b"type=UNKNOWN[1391]")
    assert lines[-1].startswith(b"type=USER_LOGIN")


@pytest.mark.parametrize(
    "text", [b'record="1" contid="4,^2,^1"', b"record=1 contid=4^2^1", b"record=1 contid=4,^2,^1 x=1"]
)
def test_a_logs_records_are_read(text: bytes) -> None:
    made = event((1300, SYSCALL), (1391, text))
    made.complete = None
    assert passes("contid == 4 and contid == 2 and contid == 1", made)
    assert NativeBuilder(HOST).build(made)["contid"] == ["4", "2", "1"]


def test_from_the_kernel_no_record_is_believed() -> None:
    """1391 is no type of the kernel's: whoever can send it is no authority."""
    made = event((1300, SYSCALL), (1391, b"record=1 contid=4"), context=context())
    assert contid.contids_of(made) == ()


# -- CONTAINER_OP ------------------------------------------------------------------------------------

KEPT = {"op": "set", "opid": 8730, "contid": "9223372036854775813", "old_contid": ["2", "1"], "res": 1}


def test_a_set_is_an_event_of_our_own() -> None:
    native = sample_native.contid_set()
    assert native["type"] == "CONTAINER_OP"
    assert native["subject"] == {"pid": 700, "uid": 0}
    assert native["outcome"] == "success"
    engine = sample_native.ENGINE._asdict()
    assert native["container_op"] == KEPT | {"orchestrator": True, "engine": engine}


def test_a_refusal_says_why() -> None:
    native = sample_native.contid_refused()
    assert (native["outcome"], native["container_op"]["error"]) == ("failure", "EBUSY")
    assert "subject" not in native
    assert contid.error_name(errno.ENOTUNIQ) == "ENOTUNIQ"
    assert contid.error_name(60_000) == "errno 60000"


def own(fact: Told) -> Event:
    its = event()
    its.stamp = b"1772366400.042:0"
    its.records = []
    its.own_id = "5eed0001/12"
    its.told = fact
    return its


def test_the_line_of_a_set_and_of_a_drop() -> None:
    line = AuditText(HOST).render(own(sample_native.SET))
    assert line.startswith(b"type=UNKNOWN[1392] msg=audit(1772366400.042:0): event_uid=")
    assert b' op="set" opid="8730" contid="9223372036854775813" old-contid="2,^1" res="1" ' in line
    assert b' container_op_engine_name="web" ' in line
    dropped = AuditText(HOST).render(own(ContainerOp(1, "drop", 8730, CONTID_UNSET, (4, 2, 1))))
    assert b' op="drop" opid="8730" contid="-1" old-contid="4,^2,^1" res="1" ' in dropped
    assert line.count(b"\n") == dropped.count(b"\n") == 1


def test_what_an_engine_says_ends_neither_value_nor_line() -> None:
    engine = Engine('a" res="1', "x\ntype=SYSCALL", "\x1b[2J")
    line = AuditText(HOST).render(own(ContainerOp(1, "set", 1, 4, res=errno.EPERM, engine=engine)))
    assert line.count(b"\n") == 1
    assert b' res="0" ' in line
    assert b' res="1' not in line
    assert b"\x1b" not in line


def test_a_filter_finds_an_operation_by_its_identifiers() -> None:
    assert passes("contid == 2 and contid == 9223372036854775813", own(sample_native.SET))
    dropped = own(ContainerOp(1, "drop", 8730, CONTID_UNSET, (4, 2)))
    assert passes("contid == 4", dropped)
    assert passes("type == CONTAINER_OP", dropped)
    assert not passes("contid == unset", dropped)


def test_a_table_has_it_in_words() -> None:
    assert told(sample_native.contid_set()) == "set 9223372036854775813 of 8730"  # type: ignore[arg-type]
    assert told(sample_native.contid_refused()) == "set 4 of 8730 EBUSY"  # type: ignore[arg-type]
    assert told(sample_native.contid_dropped()) == "drop of 8730"  # type: ignore[arg-type]


def test_operations_are_told_as_they_came() -> None:
    acts = Acts()
    ops = [ContainerOp(time, "set", 1, 4) for time in range(3)]
    acts.learn(ops, 5.0)
    assert acts.due(5.0) == [(op, 5.0) for op in ops]
    assert acts.due(9.0) == []


# -- other events of our own -------------------------------------------------------------------------


def of(chain: tuple[int, ...] | None) -> list[Told]:
    """One of each kind that has a subject, with this chain."""
    return [
        change(contid=chain),
        change(op=ChangeOp.CLONE, contid=chain),
        namespace("net", 205)._replace(contid=chain),
        refusal(b"op=login contid=9")._replace(contid=chain),
    ]


def asked_for(chain: tuple[int, ...] | None) -> ContainerOp:
    """From within, for a process beside it."""
    return ContainerOp(1, "set", 8730, 7, (6,), caller_pid=700, caller_uid=0, caller_contid=chain)


@pytest.mark.parametrize("fact", of((4, 2, 1)))
def test_what_no_rule_asked_for_has_its_subjects(fact: Told) -> None:
    native = NativeBuilder(HOST).build(own(fact))
    assert native["contid"] == ["4", "2", "1"]
    assert native["container_ids"] == [{"record": 1, "contid": "4,^2,^1"}]
    assert passes("contid == 4 and contid == 2 and contid < 2 and has contid", own(fact))
    assert not passes("contid == 9 or contid == unset", own(fact))


def test_of_an_operation_it_is_that_of_who_asked() -> None:
    its = own(asked_for((4, 2)))
    native = NativeBuilder(HOST).build(its)
    assert native["contid"] == ["4", "2"]
    assert native["container_ids"] == [{"record": 1, "contid": "4,^2"}]
    assert native["container_op"]["contid"] == "7"
    assert passes("contid == 2 and contid == 4 and contid == 6 and contid == 7", its)
    first, second = AuditText(HOST).render(its).splitlines()
    assert first.count(b" contid=") == 1
    assert b' contid="7" old-contid="6" ' in first
    assert second.endswith(b' record="1" contid="4,^2"')


@pytest.mark.parametrize("chain", [(), None])
def test_of_an_operation_from_outside_there_is_none(chain: tuple[int, ...] | None) -> None:
    native = NativeBuilder(HOST).build(own(asked_for(chain)))
    assert not {"contid", "container_ids"} & set(native)
    assert contid.contids_of(own(asked_for(chain))) == (7, 6)


def test_of_a_clone_it_is_the_callers() -> None:
    child = context(inums=BOX_INUMS)._replace(contid=(9,))
    native = NativeBuilder(HOST).build(own(change(child, op=ChangeOp.CLONE, contid=(4,))))
    assert native["contid"] == ["4"]


@pytest.mark.parametrize("fact", of(()))
def test_without_an_identifier_there_is_no_member(fact: Told) -> None:
    assert not {"contid", "container_ids"} & set(NativeBuilder(HOST).build(own(fact)))
    assert b"UNKNOWN[1391]" not in AuditText(HOST).render(own(fact))
    assert passes("contid == unset and not has contid", own(fact))


@pytest.mark.parametrize("fact", [*of(None), freed(205, 1), found("net", 205)])
def test_where_it_is_not_known_it_is_not_said_to_be_unset(fact: Told) -> None:
    assert not {"contid", "container_ids"} & set(NativeBuilder(HOST).build(own(fact)))
    assert not passes("contid == unset or has contid", own(fact))


@pytest.mark.parametrize("fact", of((4, 2, 1)))
def test_its_line_is_tied_to_the_event_by_the_uid(fact: Told) -> None:
    first, second = AuditText(HOST).render(own(fact)).splitlines()
    uid = b'event_uid="%b/5eed0001/12"' % HOST.boot_id.encode()
    assert second == b'type=UNKNOWN[1391] msg=audit(1772366400.042:0): %b record="1" contid="4,^2,^1"' % uid
    assert uid in first
    assert b" contid" not in first
    assert b"container_ids" not in first


def test_a_log_reader_leaves_such_an_event_out_whole() -> None:
    """It has no serial: with those of the same millisecond it would be an event of theirs."""
    counts = LogCounts()
    text = b"".join(AuditText(HOST).render(own(fact)) for fact in of((4,)))
    kept = b'type=UNKNOWN[1391] msg=audit(%b): record="1" contid="4"\n' % STAMP
    [record] = Lines(counts).feed(text + kept + text)
    assert (record.stamp, record.record.type) == (STAMP, 1391)
    assert (counts.records, counts.own, counts.malformed) == (1, 16, 0)
