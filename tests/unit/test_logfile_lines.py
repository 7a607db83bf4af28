# SPDX-License-Identifier: Apache-2.0
"""Lines of logs: every form a record is written in, and everything that only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.model import Record
from enricher.sources.audit.text import stamp_of
from enricher.sources.audit.types import NAMES, OWN, text_name_of
from enricher.sources.logformat import LINE_MAX, Lines, LogCounts, LogRecord

STAMP = b"1772366400.042:9001"
LEFT_OUT = set(OWN) - {1391}  # CONTAINER_ID is read
TEXT = b"audit(%b): arch=c000003e syscall=59 key=(null)" % STAMP


def read(data: bytes, counts: LogCounts | None = None, step: int = 1 << 19) -> list[LogRecord]:
    lines = Lines(counts or LogCounts())
    out = []
    for at in range(0, len(data), step):
        out += lines.feed(data[at : at + step])
    return out + lines.finish()


def malformed(line: bytes, *, truncated: bool = False) -> LogRecord:
    return LogRecord(b"", None, Record(0, line, truncated))


@pytest.mark.parametrize("number", sorted(set(NAMES) - LEFT_OUT))
def test_every_type_is_known_by_its_name(number: int) -> None:
    line = b"type=%b msg=%b\n" % (text_name_of(number).encode(), TEXT)
    assert read(line) == [LogRecord(b"", STAMP, Record(number, TEXT))]


@pytest.mark.parametrize(
    ("prefix", "node", "number"),
    [
        (b"type=SYSCALL msg=", b"", 1300),
        (b"type=SYSCALL ", b"", 1300),
        (b"type=1300 msg=", b"", 1300),
        (b"type=UNKNOWN[1340] msg=", b"", 1340),
        (b"type=UNKNOWN[65535] msg=", b"", 65535),
        (b"node=web1.example type=CWD msg=", b"web1.example", 1307),
        (b"node=\xff= type=CWD msg=", b"\xff=", 1307),
        (b"audit: type=1400 ", b"", 1400),
        (b"[   12.345678] audit: type=1400 ", b"", 1400),
        (b"[Tue Nov 24 00:20:52 2026] audit: type=1400 ", b"", 1400),
    ],
)
def test_forms_of_a_record(prefix: bytes, node: bytes, number: int) -> None:
    counts = LogCounts()
    assert read(prefix + TEXT + b"\n", counts) == [LogRecord(node, STAMP, Record(number, TEXT))]
    assert (counts.lines, counts.records) == (1, 1)


@pytest.mark.parametrize(
    "line",
    [
        b"x",
        b"----",
        b"\x00",
        b"\r\r",
        b"audit(1.2:3): no type",
        b"type=SYSCALL",
        b"type=SYSCALL msg=",
        b"type=SYSCALL msg=audit(1.2:3)",
        b"type=SYSCALL msg=audit(1.2:-3): x",
        b"type=SYSCALL msg=audit(03/01/2026 12:00:00.042:9001) : interpreted",
        b"type=SYSCALL  msg=" + TEXT,
        b"type=NO_SUCH_TYPE msg=" + TEXT,
        b"type=0 msg=" + TEXT,
        b"type=65536 msg=" + TEXT,
        b"type=UNKNOWN[70000] msg=" + TEXT,
        b"type=UNKNOWN[] msg=" + TEXT,
        b"type=[[ msg=" + TEXT,
        b"type=syscall msg=" + TEXT,
        b" type=SYSCALL msg=" + TEXT,
        b"node= type=SYSCALL msg=" + TEXT,
        b"node=" + b"n" * 256 + b" type=SYSCALL msg=" + TEXT,
        b"node=a node=b type=SYSCALL msg=" + TEXT,
        b"[   12.345678] type=SYSCALL msg=" + TEXT,
        b"sshd[1]: audit: type=1300 " + TEXT,
        b"Nov 24 00:20:52 host kernel: audit: type=1300 " + TEXT,
    ],
)
def test_what_is_no_record_is_passed_through_whole(line: bytes) -> None:
    counts = LogCounts()
    around = b"type=CWD msg=" + TEXT
    cwd = LogRecord(b"", STAMP, Record(1307, TEXT))
    assert read(b"\n".join([around, line, around]), counts) == [
        cwd,
        malformed(line.removesuffix(b"\r")),
        cwd,
    ]
    assert (counts.lines, counts.records, counts.malformed) == (3, 2, 1)


@pytest.mark.parametrize("number", sorted(LEFT_OUT))
def test_our_own_lines_are_left_out_and_counted(number: int) -> None:
    counts = LogCounts()
    lines = [
        b"type=UNKNOWN[%d] msg=" % number,
        b"type=%d " % number,
        b"node=a type=UNKNOWN[%d] msg=" % number,
    ]
    assert read(b"\n".join(line + TEXT for line in lines), counts) == []
    assert (counts.lines, counts.own, counts.malformed) == (3, 3, 0)


def test_what_our_text_output_says_of_a_line_that_is_no_record_is_that_line() -> None:
    counts = LogCounts()
    written = b"type=UNKNOWN[0] msg="
    lines = [written + b"x", written + written + b"y", written + TEXT, written, b"\0" + written + b"z"]
    assert read(b"\n".join(lines), counts) == [
        malformed(b"x"),
        malformed(written + b"y"),
        malformed(TEXT),
        malformed(written),  # there is no empty line
        malformed(b"\0" + written + b"z"),
    ]
    assert counts.malformed == 5


def test_the_enriched_tail_stays_in_the_text() -> None:
    text = TEXT + b'\x1dARCH=x86_64 SYSCALL=execve UID="root"'
    assert read(b"type=SYSCALL msg=" + text) == [LogRecord(b"", STAMP, Record(1300, text))]


def test_no_byte_of_a_text_is_changed() -> None:
    text = TEXT + bytes(sorted(set(range(256)) - {10}))
    assert read(b"type=SYSCALL msg=%b\n" % text) == [LogRecord(b"", STAMP, Record(1300, text))]


def test_carriage_returns_of_line_ends_are_not_text() -> None:
    counts = LogCounts()
    data = b"type=CWD msg=%b\r\n\r\n\nx\r\ny\r\r\n" % TEXT
    cwd = LogRecord(b"", STAMP, Record(1307, TEXT))
    for step in (1, 2, len(data)):
        counts = LogCounts()
        assert read(data, counts, step) == [cwd, malformed(b"x"), malformed(b"y\r")]
        assert (counts.lines, counts.blank) == (5, 2)


def test_nul_bytes_of_a_crash_do_not_hide_the_record_behind_them() -> None:
    counts = LogCounts()
    found = read(b"\0" * 512 + b"type=CWD msg=%b\n" % TEXT, counts)
    assert found == [malformed(b"\0" * 512), LogRecord(b"", STAMP, Record(1307, TEXT))]
    assert (counts.lines, counts.records, counts.malformed) == (2, 1, 1)
    assert read(b"\0type=UNKNOWN[1390] msg=%b\n" % TEXT, counts) == [malformed(b"\0")]
    assert (counts.lines, counts.own, counts.malformed) == (4, 1, 2)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("more", [-1, 0, 1, 7, 3 * LINE_MAX])
@pytest.mark.parametrize("prefix", [b"type=CWD msg=", b""])
@pytest.mark.parametrize("step", [1000, LINE_MAX, 1 << 19])
def test_a_line_is_kept_up_to_a_limit(prefix: bytes, more: int, end: bytes, step: int) -> None:
    counts = LogCounts()
    line = (prefix + TEXT).ljust(LINE_MAX + more, b"z")
    short = b"type=CWD msg=" + TEXT
    found = read(line + end + (short if end else b""), counts, step)
    kept = line[:LINE_MAX]
    long = (
        LogRecord(b"", STAMP, Record(1307, kept[len(prefix) :], more > 0))
        if prefix
        else malformed(kept, truncated=more > 0)
    )
    assert found == [long, LogRecord(b"", STAMP, Record(1307, TEXT))][: len(found)]
    assert len(found) == (2 if end else 1)
    assert (counts.truncated, counts.skipped) == (int(more > 0), max(more, 0))


def test_a_line_whose_end_is_missing_is_marked() -> None:
    counts = LogCounts()
    lines = Lines(counts)
    assert lines.feed(b"type=CWD msg=" + TEXT) == []
    assert lines.finish(cut=True) == [LogRecord(b"", STAMP, Record(1307, TEXT, truncated=True))]
    assert (counts.truncated, counts.skipped) == (1, 0)


def test_prefixes_are_remembered_within_bounds() -> None:
    lines = Lines(LogCounts())
    for number in range(10_000):
        (found,) = lines.feed(b"node=n%d type=CWD msg=%b\n" % (number, TEXT))
        assert found.node == b"n%d" % number
    assert len(lines._prefixes) <= 4_096


FRAGMENTS = [
    *[b"type=", b"SYSCALL", b"CWD", b"UNKNOWN[1390]", b"UNKNOWN[", b" msg=", b"audit(", b"audit: ", b"1300 "],
    *[b"node=a ", b"1772366400.042:1", b"):", b" ", b"\n", b"\n", b"\r", b"\r\n", b"\0", b"[ 1.2] ", b"\xff"],
    *[
        b"type=CWD msg=audit(1.2:3): a",
        b"node=b type=PATH msg=audit(1.2:4): b\x1dc",
        b"\ntype=EOE msg=audit(1.2:3):",
    ],
]
hostile = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=4)), max_size=40).map(b"".join)


@settings(max_examples=500, deadline=None)
@given(hostile, st.integers(1, 50))
def test_any_bytes_give_records_and_none_is_lost(data: bytes, step: int) -> None:
    counts = LogCounts()
    found = read(data, counts, step)
    assert counts.lines == counts.records + counts.own + counts.malformed + counts.blank
    assert len(found) == counts.records + counts.malformed
    for each in found:
        node, stamp, record = each.node, each.stamp, each.record
        assert stamp == stamp_of(record.text) or (stamp is None and record.type == 0)
        assert (stamp is None) == (record.type == 0)
        assert record.text in data
        assert b"node=%b " % node in data or not node
    if not counts.own:  # what is missing of the input is prefixes, line ends and nothing else
        rest = data
        for each in found:
            before, text, rest = rest.partition(each.record.text)
            assert text
            assert len(before) < 400 or not before.strip(b"\r\n")


@settings(max_examples=300, deadline=None)
@given(hostile, st.integers(1, 50), st.integers(1, 50))
def test_where_a_block_ends_makes_no_difference(data: bytes, one: int, other: int) -> None:
    first, second = LogCounts(), LogCounts()
    assert read(data, first, one) == read(data, second, other)
    assert repr(first) == repr(second)
