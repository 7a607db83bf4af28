# SPDX-License-Identifier: Apache-2.0
"""The command line of an event: whole, or left as the fields it came in."""

from __future__ import annotations

import random

import pytest

from enricher.enrich.decode import Decoder
from enricher.enrich.interpret_argv import MOST_MISSING
from enricher.enrich.shape import Fields, RecordEntry
from enricher.model import Record
from tests.unit.sample_events import HEAD

EXECVE = 1309


def entries(*bodies: bytes) -> list[RecordEntry]:
    return Decoder().entries([Record(EXECVE, HEAD + body) for body in bodies])


def fields(*bodies: bytes) -> list[Fields]:
    return [entry["fields"] for entry in entries(*bodies)]


def test_one_record() -> None:
    assert fields(b'argc=3 a0="ls" a1=2D6C61 a2=""') == [{"argc": 3, "ARGV": ["ls", "-la", ""]}]


def test_arguments_over_several_records() -> None:
    found = fields(b'argc=4 a0="sh" a1_len=6 a1[0]="abc"', b" a1[1]=64C3A4", b'a2="x" a3=FF')
    assert found == [
        {"argc": 4, "ARGV": ["sh", "abcdä", "x", "\ufffd"], "ARGV_hex": [None, None, None, "FF"]},
        {},
        {},
    ]


def test_a_character_may_be_cut_between_two_pieces() -> None:
    assert fields(b"argc=1 a0_len=4 a0[0]=C3", b"a0[1]=A4") == [{"argc": 1, "ARGV": ["ä"]}, {}]


def test_the_length_is_in_bytes_or_in_digits() -> None:
    assert fields(b'argc=1 a0_len=2 a0[0]="ab"')[0]["ARGV"] == ["ab"]
    assert fields(b"argc=1 a0_len=4 a0[0]=6162")[0]["ARGV"] == ["ab"]
    assert "ARGV" not in fields(b'argc=1 a0_len=5 a0[0]="ab"')[0]


def test_arguments_that_never_came_are_null() -> None:
    assert fields(b'argc=4 a0="a" a2="c"') == [{"argc": 4, "ARGV": ["a", None, "c", None]}]
    assert fields(b"argc=0") == [{"argc": 0, "ARGV": []}]


def test_a_count_is_not_believed_beyond_reason() -> None:
    assert len(str(fields(b"argc=%d" % MOST_MISSING)[0]["ARGV"])) > MOST_MISSING
    for count in (b"%d" % (MOST_MISSING + 2), b"2147483647", b"9" * 30, b"-1", b"x"):
        found = fields(b"argc=" + count + b' a5="z"')[0]
        assert "ARGV" not in found
        assert found["a5"] == "z"


@pytest.mark.parametrize(
    "bodies",
    [
        [b'argc=2 a0="a" a0="b"'],
        [b'argc=2 a0="a" a2="c"'],
        [b'a0="a"'],
        [b'argc=1 argc=2 a0="a"'],
        [b'argc=1 a0_len=3 a0[0]="a" a0[2]="c"'],
        [b'argc=1 a0_len=1 a0[0]="a" a0[0]="a"'],
        [b'argc=1 a0="a" a0[0]="a"'],
        [b'argc=1 a0[0]="a"'],
        [b"argc=1 a0_len=3"],
        [b'argc=2 a0="a"', b'argc=2 a1="b"'],
        [b'argc=2 a0="a"', b'a1="b" a99999999999="c" a0="d"'],
        [b'argc=1 a0="not closed'],
    ],
)
def test_what_does_not_fit_stays_as_it_was(bodies: list[bytes]) -> None:
    found = fields(*bodies)
    assert not any("ARGV" in record for record in found)
    for body, record in zip(bodies, found, strict=True):
        names = {word.partition(b"=")[0].decode() for word in body.split(b" ") if b"=" in word}
        assert names <= set(record)


def test_a_truncated_record_gives_no_command_line() -> None:
    entry = Decoder().entries([Record(EXECVE, HEAD + b'argc=2 a0="a" a1="b"', truncated=True)])[0]
    assert entry["fields"] == {"argc": 2, "a0": "a", "a1": "b"}
    assert entry["truncated"]


def test_no_byte_of_an_argument_is_lost() -> None:
    rng = random.Random(7)  # noqa: S311 - repeatable on purpose
    for _ in range(500):
        given = [rng.randbytes(rng.randrange(1, 9)) for _ in range(rng.randrange(1, 6))]
        words = [b"a%d=%b" % (index, value.hex().upper().encode()) for index, value in enumerate(given)]
        cut = rng.randrange(len(words) + 1)
        bodies = [
            b" ".join([b"argc=%d" % len(given), *words[:cut]]),
            *([b" ".join(words[cut:])] if cut < len(words) else []),
        ]
        found = fields(*bodies)[0]
        shown, exact = found["ARGV"], found.get("ARGV_hex")
        assert isinstance(shown, list)
        hexed = exact if isinstance(exact, list) else [None] * len(given)
        back = [
            bytes.fromhex(str(damaged)) if damaged is not None else str(text).encode()
            for text, damaged in zip(shown, hexed, strict=True)
        ]
        assert back == given


def test_the_title() -> None:
    decoder = Decoder()

    def title(value: bytes) -> Fields:
        return decoder.entry_of(Record(1327, HEAD + b"proctitle=" + value))["fields"]

    assert title(b"6C73002D6C") == {"proctitle": "ls\0-l", "ARGV": ["ls", "-l"]}
    assert title(b'"bash"') == {"proctitle": "bash", "ARGV": ["bash"]}
    assert title(b"(null)") == {"proctitle": "(null)"}
    assert title(b"6100FF") == {
        "proctitle": "a\0\ufffd",
        "proctitle_hex": "6100FF",
        "ARGV": ["a", "\ufffd"],
        "ARGV_hex": [None, "FF"],
    }
