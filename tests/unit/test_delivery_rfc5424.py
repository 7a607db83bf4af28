# SPDX-License-Identifier: Apache-2.0
"""Syslog messages: header, structured data, severities; long lines in parts; hostile bytes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.errors import UsageError
from enricher.sinks.delivery.message import Message
from enricher.sinks.delivery.rfc5424 import ERROR, INFO, LENGTH_MIN, NOTICE, WARNING, Formatter, severity_of

HEADER = re.compile(
    rb"<(\d{1,3})>1 (-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([\x21-\x7e]{1,255}) audit-enricher (\d{1,128})"
    rb" ([\x21-\x7e]{1,32}) \[([^ \]=\"]{1,32})((?: [a-z]+=\"(?:[^\"\\\]]|\\.)*\")+)\] ",
    re.DOTALL,
)
PARAM = re.compile(rb' ([a-z]+)="((?:[^"\\\]]|\\.)*)"', re.DOTALL)


def formatter(**changed: object) -> Formatter:
    options = {"hostname": "host", "procid": 7, "max_length": 8096, "facility": 13, **changed}
    return Formatter(**options)  # type: ignore[arg-type]


def take(data: bytes) -> tuple[dict[str, str], bytes]:
    """Return the structured data and the body; the message has to be one of RFC 5424."""
    found = HEADER.match(data)
    assert found is not None, data
    params = {
        name.decode(): re.sub(r"\\(.)", r"\1", value.decode(), flags=re.DOTALL)
        for name, value in PARAM.findall(found[7])
    }
    return params, data[found.end() :]


def test_a_message_byte_for_byte() -> None:
    made = formatter().messages(Message("boot/1.5:7", 1700000000.25, "SYSCALL", b'{"a":1}'))
    head = b"<110>1 2023-11-14T22:13:20.250000Z host audit-enricher 7 SYSCALL "
    assert made == [head + b'[audit-enricher@32473 uid="boot/1.5:7"] {"a":1}']


@pytest.mark.parametrize(
    ("record_type", "severity"),
    [
        ("LOST", ERROR),
        ("ANOM_ABEND", WARNING),
        ("AVC", WARNING),
        ("SECCOMP", WARNING),
        ("USER_REFUSED", WARNING),
        ("NOTICE", NOTICE),
        ("USER_LOGIN", NOTICE),
        ("CONFIG_CHANGE", NOTICE),
        ("SYSCALL", INFO),
        ("UNKNOWN[1399]", INFO),
        ("", INFO),
    ],
)
def test_severities(record_type: str, severity: int) -> None:
    assert severity_of(record_type) == severity
    made = formatter().messages(Message("u", 0.0, record_type, b""))[0]
    assert made.startswith(b"<%d>1 " % (13 * 8 + severity))


def test_each_line_of_a_body_is_a_message() -> None:
    made = formatter().messages(Message("u", 1.0, "SYSCALL", b"type=A\n\ntype=B\ntype=C"))
    assert [take(each) for each in made] == [
        ({"uid": "u", "line": "1/3"}, b"type=A"),
        ({"uid": "u", "line": "2/3"}, b"type=B"),
        ({"uid": "u", "line": "3/3"}, b"type=C"),
    ]


def test_a_line_that_is_too_long_goes_out_in_parts_that_say_so() -> None:
    made = formatter(max_length=LENGTH_MIN)
    body = b"x" * 3000
    parts = made.messages(Message("u", 1.0, "SYSCALL", body))
    taken = [take(part) for part in parts]
    assert all(len(part) <= LENGTH_MIN for part in parts)
    assert [params["part"] for params, _ in taken] == [f"{n}/{len(parts)}" for n in range(1, len(parts) + 1)]
    assert b"".join(piece for _, piece in taken) == body
    assert made.split == 1


def test_a_line_that_just_fits_is_whole() -> None:
    made = formatter(max_length=LENGTH_MIN)
    head = len(made.messages(Message("u", 1.0, "SYSCALL", b""))[0])
    assert len(made.messages(Message("u", 1.0, "SYSCALL", b"x" * (LENGTH_MIN - head)))) == 1
    assert made.split == 0
    assert len(made.messages(Message("u", 1.0, "SYSCALL", b"x" * (LENGTH_MIN - head + 1)))) == 2


def test_no_part_ends_inside_a_character() -> None:
    body = "aé€😀".encode() * 700
    for length in range(LENGTH_MIN, LENGTH_MIN + 12):
        parts = formatter(max_length=length).messages(Message("u", 1.0, "SYSCALL", body))
        pieces = [take(part)[1] for part in parts]
        assert b"".join(pieces) == body
        for piece in pieces:
            piece.decode()


@given(
    uid=st.text(max_size=50),
    time=st.floats(),
    record_type=st.text(max_size=40),
    body=st.binary(max_size=4000),
    hostname=st.text(max_size=300),
)
def test_whatever_is_in_it_the_message_is_one_and_the_body_its_own(
    uid: str, time: float, record_type: str, body: bytes, hostname: str
) -> None:
    made = formatter(max_length=LENGTH_MIN, hostname=hostname)
    parts = made.messages(Message(uid, time, record_type, body))
    taken = [take(part) for part in parts]
    assert all(len(part) <= LENGTH_MIN for part in parts)
    assert b"".join(piece for _, piece in taken) == body.replace(b"\n", b"")


@pytest.mark.parametrize("time", [float("nan"), float("inf"), -1e18, 1e18])
def test_a_time_outside_the_calendar_is_nil(time: float) -> None:
    assert formatter().messages(Message("u", time, "SYSCALL", b""))[0].startswith(b"<110>1 - host ")


def test_a_uid_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(ValueError, match="201 bytes"):
        formatter().messages(Message("x" * 201, 0.0, "SYSCALL", b""))


@pytest.mark.parametrize(
    "changed",
    [
        {"max_length": LENGTH_MIN - 1},
        {"max_length": 17 << 20},
        {"facility": 24},
        {"facility": -1},
        {"sd_id": "audit"},
        {"sd_id": 'a"b@1'},
        {"sd_id": "a@b"},
        {"sd_id": "a@" + "1" * 31},
    ],
)
def test_what_rfc_5424_does_not_admit_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        formatter(**changed)


def test_the_documented_severities_are_the_real_ones() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sinks" / "syslog.md").read_text()
    table = re.findall(r"^\| (\d) ([a-z]+) \| (.*) \|$", page, re.MULTILINE)
    assert [number for number, _, _ in table] == ["3", "4", "5", "6"]
    for number, _name, types in table:
        for name in re.findall(r"`([A-Z_]+)\*?`", types):
            assert severity_of(name) == int(number), name
