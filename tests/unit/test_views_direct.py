# SPDX-License-Identifier: Apache-2.0
"""The short way to a line of JSON gives what the long one does, whatever the records are; and it is taken."""

from __future__ import annotations

import re
from collections.abc import Sized
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.enrich.decode import Decoder
from enricher.enrich.native import NativeBuilder
from enricher.enrich.shape import Fields, NativeEvent
from enricher.model import Context, Event, HostFacts, Record
from enricher.route.views import fragments
from enricher.route.views.native_json import NativeJson, render
from enricher.sources.names import NoNames
from tests.unit.data import ODD
from tests.unit.sample_events import EXEC, HEAD, HOST, STAMP, USER_LOGIN, context

NOWHERE: Final = HostFacts("", "", "", "", (0,) * 10)
_LINE: Final = re.compile(rb"type=(\S+) msg=audit\([^)]*\): ?(.*)")
_NUMBERS: Final = {
    b"SYSCALL": 1300,
    b"PATH": 1302,
    b"SOCKADDR": 1306,
    b"CWD": 1307,
    b"EXECVE": 1309,
    b"PROCTITLE": 1327,
}
OTHERS: Final = [
    (_NUMBERS[found[1]], found[2])
    for found in map(_LINE.match, ODD.read_bytes().splitlines())
    if found and found[1] in _NUMBERS
]
MORE: Final = [
    (
        1300,
        EXEC[0][1]
        .replace(b"syscall=59", b"syscall=257")
        .replace(b"yes exit=0", b"no exit=-2")
        .replace(b"a2=55d2a9e4c500", b"a2=241"),
    ),
    (1300, EXEC[0][1].replace(b" success=yes exit=0", b"")),
    (1302, b'item=0 name="/nowhere" nametype=UNKNOWN cap_fp=0'),
    (1302, b"item=0 name=(null) inode=7 dev=00:01 mode=0100755 nametype=NORMAL key=1"),
    (1302, b'item=0 name="/nowhere" inode=07 dev=00:01 mode=0100755 nametype=NORMAL'),
    (1306, b"saddr=020001BBC0A80001"),
    (1317, b"fd0=3 fd1=4"),
    (1323, b"fd=3 flags=0x812"),
    (1326, b"auid=0 sig=31 arch=c000003e syscall=41 compat=0 ip=0x7f code=0x0"),
    (1334, b"prog-id=79 op=LOAD"),
    (1327, b"proctitle=3F"),
    (1327, b'proctitle="sshd"'),
    (1327, b'proctitle="(null)"'),
    (1327, b"proctitle=6C73002D6"),
    (1327, b'proctitle="x\x7f\xc2\x85"'),
    (1309, b'argc=2 a0="x" a1=C3A9'),
    (1309, b'argc=2 a0="x" a2="y"'),
    (1309, b'argc=02 a0="x" a1="y"'),
    (1305, b'auid=0 op=add_rule key="k" list=4 res=1'),
    (1320, b""),
    (1112, USER_LOGIN),
]
_SOCKETS: Final = [
    b"0200",
    b"020000",
    b"02000050",
    b"02000050C000",
    b"02001F907F000001",
    b"0200FFFFFFFFFFFF0000000000000000",
    b"0A00",
    b"0A001F90000000000000",
    b"0A001F9000000000000000000000000000000000",
    b"0A001F90000000000000000000000000000000000000000100000000",
    b"0A001F900000000020010DB8000000010000000000000001",
    b"0A001F900000000020010DB800000000000000000000000100000002",
    b"0A001F900000000720010DB800000000000000000000000100000000",
    b"0A001F9000000000" + b"00" * 10 + b"FFFFC000020700000000",
    b"0100",
    b"01002F72756E2F782E736F636B",
    b"01002F72756E2F782E736F636B00FF00",
    b"01002F72756E2F22C3A9",
    b"01002FFF00",
    b"01000072756E00",
    b"010000",
    b"02011F907F000001",
    b"100000000000010000000000",
    b"0000",
    b"0",
]
POOL: Final = [*EXEC, *OTHERS, *MORE, *((1306, b"saddr=" + each) for each in _SOCKETS)]
PIECES: Final = [
    b" ",
    b"=",
    b'"',
    b"\\",
    b"\x1d",
    b"0",
    b"-",
    b"A0=1",
    b" uid=0",
    b" key=k",
    b"\xff",
    b"\xc3\xa9",
    b"\0",
    b"(",
]


def event_of(records: list[tuple[int, bytes]], seen: Context | None = None) -> Event:
    made = Event(STAMP, 0.0)
    made.records = [Record(number, HEAD + text) for number, text in records]
    made.context = seen
    made.complete = True if seen else None
    return made


def both(event: Event, host: HostFacts = HOST) -> tuple[bytes, bytes]:
    short = NativeJson(NativeBuilder(host, names=NoNames()))
    lines = {short.line(event), short.line(event)}  # from memory as well
    assert len(lines) == 1
    return lines.pop(), render(NativeBuilder(host, names=NoNames()).build(event))


@st.composite
def events(draw: st.DrawFn) -> Event:
    records = []
    for number, text in draw(st.lists(st.sampled_from(POOL), min_size=1, max_size=4)):
        changed = text
        for piece in draw(st.lists(st.sampled_from(PIECES), max_size=2)):
            begin = draw(st.integers(0, len(changed)))
            end = begin + draw(st.integers(0, 3))
            changed = changed[:begin] + piece + changed[end:]
        records.append((number, changed))
    made = event_of(records, draw(st.sampled_from([None, context()])))
    made.records = [
        Record(record.type, record.text, draw(st.booleans())) if draw(st.booleans()) else record
        for record in made.records
    ]
    made.part = draw(st.sampled_from([1, 1, 2]))
    made.self_caused = draw(st.booleans())
    made.reason = draw(st.sampled_from(["", "read from a log"]))
    made.node = draw(st.sampled_from([b"", b"web\xff1"]))
    return made


@settings(max_examples=400)
@given(event=events())
def test_any_event(event: Event) -> None:
    short, long = both(event)
    assert short == long


@pytest.mark.parametrize("record", POOL, ids=repr)
@pytest.mark.parametrize("seen", [None, context()], ids=["log", "context"])
def test_every_record(record: tuple[int, bytes], seen: Context | None) -> None:
    for records in ([record], [EXEC[0], record], [EXEC[0], record, record]):
        short, long = both(event_of(records, seen))
        assert short == long


@pytest.mark.parametrize(
    "stamp", [b"1.5:1", b"1.0005:1", b"99999999999.123:1", b"253402300800.000:7", b"0.000:0"]
)
def test_stamps_that_no_kernel_writes(stamp: bytes) -> None:
    made = event_of(list(EXEC))
    made.stamp = stamp
    short, long = both(made, NOWHERE)
    assert short == long


@pytest.mark.parametrize("seen", [None, context()], ids=["log", "context"])
def test_the_usual_event_is_not_built(seen: Context | None, monkeypatch: pytest.MonkeyPatch) -> None:
    built = 0
    build = NativeBuilder.build

    def counted(self: NativeBuilder, event: Event) -> NativeEvent:
        nonlocal built
        built += 1
        return build(self, event)

    monkeypatch.setattr(NativeBuilder, "build", counted)
    short = NativeJson(NativeBuilder(HOST))
    assert b'"keys":["exec"]' in short.line(event_of(list(EXEC), seen))
    assert built == 1  # by the fixture that compares both
    short.line(event_of([*EXEC, EXEC[0]], seen))
    assert built == 3


def test_a_tail_that_another_type_had_before_is_its_own() -> None:
    tail = b'auid=0 uid=0 ses=3 comm="x" subj=a'
    records = [
        (1302, b'item=0 name="/x" inode=7 ' + tail),
        (1300, EXEC[0][1].partition(b" auid=")[0] + b" " + tail),
    ]
    short, long = both(event_of(records))
    assert short == long
    assert b'"ses":3' in short.partition(b'"records"')[0]


def test_what_stood_in_another_record_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    usual = Decoder.usual

    def counted(self: Decoder, number: int, body: bytes) -> Fields | None:
        asked.append(body)
        return usual(self, number, body)

    monkeypatch.setattr(Decoder, "usual", counted)
    short = NativeJson(NativeBuilder(HOST))
    more = [
        (1323, b"fd=3 flags=0x812"),
        (1302, b"item=7 name=(null) inode=7 dev=00:01 mode=0100755 nametype=CREATE"),
    ]
    event = event_of([*EXEC, *more])
    first = short.line(event)
    assert more[0][1] in asked
    assert b"dev=00:01 mode=0100755 nametype=CREATE" in asked
    asked.clear()
    assert short.line(event) == first
    assert asked == []


@settings(max_examples=400)
@given(
    family=st.sampled_from([b"\1\0", b"\2\0", b"\n\0", b"\x10\0", b"\2\1"]),
    rest=st.binary(max_size=40),
    zeros=st.booleans(),
)
def test_any_address(family: bytes, rest: bytes, zeros: bool) -> None:  # noqa: FBT001 - drawn
    if zeros:  # as flow label and scope mostly are
        rest = rest[:2] + bytes(4) + rest[6:22] + bytes(4)
    short, long = both(event_of([EXEC[0], (1306, b"saddr=" + (family + rest).hex().upper().encode())]))
    assert short == long


def test_addresses_are_made_without_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    short = NativeJson(NativeBuilder(HOST))
    short.line(event_of([EXEC[0]]))
    monkeypatch.delattr(Decoder, "usual")  # which a record that is like another one has asked before
    for address, shown in (
        (b"02001F90C00002070000000000000000", b'"fam":"inet","addr":"192.0.2.7","port":8080}'),
        (b"0A001F9000000000" + b"00" * 15 + b"0100000000", b'"fam":"inet6","addr":"::1","port":8080}'),
        (b"01002F72756E2F782E736F636B00", b'"fam":"local","path":"/run/x.sock"}'),
    ):
        line = short.line(event_of([EXEC[0], (1306, b"saddr=" + address)]))
        assert b'{"type":"SOCKADDR","fields":{"saddr":"%b","SADDR":{%b}}' % (address, shown) in line


WORDS: Final = [b'a%d="x%d"' % (number, number) for number in range(600)]
FIRST: Final = b"argc=600 " + b" ".join(WORDS[:300])


@pytest.mark.parametrize(
    ("first", "second", "usual"),
    [
        (FIRST, b" " + b" ".join(WORDS[300:]), True),
        (FIRST, b" ".join(WORDS[300:]), True),
        (FIRST, b" ".join(WORDS[301:]), False),
        (FIRST, b" ".join(WORDS[300:-1]) + b" a599=FF", False),
        (FIRST, b" ".join([*WORDS[301:], WORDS[300]]), False),
        (FIRST, b" ".join(WORDS[300:]) + b" key=k", False),
        (FIRST.partition(b" ")[2], b"argc=600 " + b" ".join(WORDS[300:]), False),
        (b"argc=1 a0_len=8", b'a0[0]="ABCD" a0[1]="EFGH"', False),
        (b'argc=1 a0="x"', b"", False),
    ],
)
@pytest.mark.parametrize("seen", [None, context()], ids=["log", "context"])
def test_a_command_line_in_two_records(
    first: bytes, second: bytes, *, usual: bool, seen: Context | None
) -> None:
    event = event_of([EXEC[0], (1309, first), (1309, second), *EXEC[2:]], seen)
    short, long = both(event)
    assert short == long
    assert not usual or b'"x598","x599"]}},{"type":"EXECVE","fields":{}}' in short
    whole = event.records[2]
    event.records[2] = Record(whole.type, whole.text, truncated=True)
    short, long = both(event)
    assert short == long
    event.records[2] = whole
    made = fragments.Fragments(NativeBuilder(HOST).decoder)
    assert (made.of(event.records, STAMP) is not None) == usual


class Names:
    """Users whose names change."""

    generation = 0

    def user(self, uid: int) -> str:
        return f"user{uid}-{self.generation}"

    def group(self, gid: int) -> str:
        return f"group{gid}-{self.generation}"


def test_new_names_are_used() -> None:
    names = Names()
    short = NativeJson(NativeBuilder(HOST, names=names))
    event = event_of(list(EXEC))
    assert b'"UID":"user0-0"' in short.line(event)
    names.generation = 1
    line = short.line(event)
    assert b'"UID":"user0-1"' in line
    assert b'0-0"' not in line


def test_memories_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragments, "TAILS", 8)
    monkeypatch.setattr(fragments, "CALLS", 8)
    short = NativeJson(NativeBuilder(HOST))
    made = short._fragments

    def memories() -> list[Sized]:
        return [made._tails, made._calls, made._exits, made._arguments, made._paths, made._wholes]

    for number in range(100):
        text = EXEC[0][1].replace(b"ses=3", b"ses=%d" % number).replace(b"syscall=59", b"syscall=%d" % number)
        text = text.replace(b"exit=0", b"exit=-%d" % (number + 1)).replace(
            b"a2=55d2a9e4c500", b"a2=%x" % number
        )
        path = b'item=0 name="/x" inode=7 dev=00:%02x mode=0100755 nametype=NORMAL' % number
        short.line(event_of([(1300, text), (1302, path), (1323, b"fd=%d flags=0x2" % number)]))
        assert max(map(len, memories())) <= 8
    assert min(map(len, memories())) > 0


def test_a_tail_too_long_is_not_kept() -> None:
    short = NativeJson(NativeBuilder(HOST))
    long = b" x=" + b"y" * fragments.LONGEST
    short.line(event_of([(1300, EXEC[0][1] + long), (1302, EXEC[3][1] + long), (1323, b"fd=3" + long)]))
    made = short._fragments
    assert not made._tails
    assert not made._paths
    assert not made._wholes
