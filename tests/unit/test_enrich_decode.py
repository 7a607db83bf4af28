# SPDX-License-Identifier: Apache-2.0
"""Fields as JSON values, and that the quick way through a record says what the long way does."""

from __future__ import annotations

import random

import pytest

from enricher.enrich.decode import _PAIRS, _unusual, _usual, entry_of, fields_of
from enricher.enrich.shape import Fields
from enricher.model import Record
from enricher.sources.audit.text import parse
from tests.unit.sample_events import EXEC, HEAD, USER_LOGIN


def fields(body: bytes, number: int = 1300) -> Fields:
    return entry_of(Record(number, HEAD + body))["fields"]


def test_decimal_fields_become_numbers_and_hex_looking_ones_stay_text() -> None:
    assert fields(b"arch=c000003e syscall=59 exit=-13 a0=10 a1=7f a2=0 per=400000 items=2") == {
        "arch": "c000003e",
        "syscall": 59,
        "exit": -13,
        "a0": "10",
        "a1": "7f",
        "a2": "0",
        "per": "400000",
        "items": 2,
    }
    assert fields(b"inode=12 dev=08:01 mode=0100644 cap_fp=0 cap_fe=0 cap_frootid=0", 1302) == {
        "inode": 12,
        "dev": "08:01",
        "mode": "0100644",
        "cap_fp": "0",
        "cap_fe": 0,
        "cap_frootid": 0,
    }


def test_an_unset_login_uid_stays_the_number_the_kernel_wrote() -> None:
    assert fields(b"auid=4294967295 ses=4294967295") == {"auid": 4294967295, "ses": 4294967295}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (b"0", 0),
        (b"-1", -1),
        (b"999999999999999", 999999999999999),
        (b"9007199254740992", 2**53),
        (b"-9007199254740992", -(2**53)),
        (b"9007199254740993", "9007199254740993"),
        (b"18446744073709551615", "18446744073709551615"),
        (b"9" * 5000, "9" * 5000),  # more digits than int() takes
        (b"007", "007"),
        (b"-0", "-0"),
        (b"+1", "+1"),
        (b"1_000", "1_000"),
        (b"-", "-"),
        (b"", ""),
        (b"?", "?"),
        ("\u0663".encode(), "\u0663"),  # a digit, but not one the kernel writes
    ],
)
def test_only_what_a_double_holds_exactly_is_a_number(written: bytes, value: object) -> None:
    assert fields(b"inode=" + written, 1302) == {"inode": value}
    assert fields(b"ouid=" + written, 1302) == {"ouid": value}


def test_hex_and_quotes_are_undone() -> None:
    assert fields(b'comm="ls" exe=2F746D702F61206220C3A4 key=657865630162') == {
        "comm": "ls",
        "exe": "/tmp/a b ä",  # noqa: S108
        "key": "exec\x01b",
    }
    assert fields(b"proctitle=6C73002D6C61", 1327) == {"proctitle": "ls\0-la"}


def test_execve_arguments_are_text_even_when_they_are_digits() -> None:
    assert fields(b'argc=2 a0="sleep" a1="60"', 1309) == {"argc": 2, "a0": "sleep", "a1": "60"}
    assert fields(b"argc=1 a0=2F62696E2F6563686F", 1309) == {"argc": 1, "a0": "/bin/echo"}
    assert fields(b"a0=2F62") == {"a0": "2F62"}  # in SYSCALL it is a register


def test_invalid_utf8_is_kept_in_a_sibling() -> None:
    assert fields(b"name=2F746D702FFF41 nametype=NORMAL", 1302) == {
        "name": "/tmp/\ufffdA",  # noqa: S108
        "name_hex": "2F746D702FFF41",
        "nametype": "NORMAL",
    }


def test_a_sibling_never_replaces_a_field_of_that_name() -> None:
    assert fields(b"name=FF name_hex=1", 1302) == {"name": "\ufffd", "name_hex_": "FF", "name_hex": "1"}


def test_a_repeated_name_is_a_list_in_order() -> None:
    assert fields(b"op=a uid=1 op=b") == {"op": ["a", "b"], "uid": 1}
    assert fields(b'name="x" name=FF', 1302) == {"name": ["x", "\ufffd"], "name_hex": [None, "FF"]}


def test_words_without_a_name_are_kept() -> None:
    assert fields(b'avc:  denied  { read } for  pid=7 comm="x"', 1400) == {
        "words": ["avc:", "denied", "{", "read", "}", "for"],
        "pid": 7,
        "comm": "x",
    }


def test_a_programs_message_is_an_object_of_its_own() -> None:
    entry = entry_of(Record(1112, HEAD + USER_LOGIN))
    assert entry == {
        "type": "USER_LOGIN",
        "fields": {
            "pid": 4711,
            "uid": 0,
            "auid": 1000,
            "ses": 3,
            "subj": "unconfined",
            "msg": {
                "op": "login",
                "acct": "root",
                "exe": "/usr/sbin/sshd",
                "hostname": "?",
                "addr": "192.0.2.7",
                "terminal": "ssh",
                "res": "failed",
            },
        },
    }


def test_an_empty_message_is_an_empty_object() -> None:
    assert fields(b"pid=1 msg=''", 1112) == {"pid": 1, "msg": {}}


def test_a_text_outside_the_grammar_keeps_its_raw_form() -> None:
    entry = entry_of(Record(1300, b"nonsense \xff a=b"))
    assert entry["undecoded"] is True
    assert entry["raw"] == "nonsense \ufffd a=b"
    assert entry["raw_hex"] == b"nonsense \xff a=b".hex().upper()
    assert entry["fields"]["a"] == "b"


def test_an_unknown_type_passes_through() -> None:
    assert entry_of(Record(1999, HEAD + b"x=1")) == {"type": "UNKNOWN[1999]", "fields": {"x": "1"}}


def test_eoe_has_no_fields() -> None:
    assert entry_of(Record(1320, HEAD)) == {"type": "EOE", "fields": {}}


def test_raw_is_there_when_asked_for() -> None:
    entry = entry_of(Record(1307, HEAD + b'cwd="/"'), raw=True)
    assert entry == {"type": "CWD", "fields": {"cwd": "/"}, "raw": (HEAD + b'cwd="/"').decode()}


def test_fields_that_auditd_appended_are_fields() -> None:
    assert fields(b'uid=0 key=(null)\x1dUID="root"') == {"uid": 0, "key": "(null)", "UID": "root"}


SEEDS = [body for _, body in EXEC] + [USER_LOGIN, b'comm=FF00 name="a" name=(null)', b"a0=1 a0=2 pid=0"]
SPLICES = [
    b" ",
    b'"',
    b"=",
    b"a0=12",
    b"pid=01",
    b"inode=-5",
    b"exit=",
    b"\xff",
    b"FF",
    b"\x1d",
    b"'",
    b" msg='",
]


def mutated(rng: random.Random, body: bytes) -> bytes:
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(body) + 1)
        body = body[:at] + rng.choice(SPLICES) + body[at + rng.randrange(3) :]
    return body


def test_the_quick_way_says_what_the_long_way_says() -> None:
    rng = random.Random(20)  # noqa: S311 - repeatable on purpose
    quick = 0
    for _ in range(20_000):
        number = rng.choice([1300, 1302, 1309, 1327, 1112, 1400])
        record = Record(number, HEAD + mutated(rng, rng.choice(SEEDS)))
        found = _usual(record.type, record.text)
        if found is not None:
            quick += 1
            slow = _unusual(record, raw=False)
            assert found == slow["fields"], record
            assert list(found) == list(slow["fields"]), record
            assert "undecoded" not in slow, record
    assert quick > 5_000  # or this test compares nothing


def test_no_byte_of_a_value_is_lost() -> None:
    rng = random.Random(21)  # noqa: S311
    for _ in range(2_000):
        value = rng.randbytes(rng.randrange(1, 12))
        found = fields(b"name=" + value.hex().upper().encode(), 1302)
        exact = found.get("name_hex")
        shown = found["name"]
        assert isinstance(shown, str)
        assert (bytes.fromhex(exact) if isinstance(exact, str) else shown.encode()) == value


def test_the_memory_of_words_is_bounded() -> None:
    for number in range(_PAIRS.LIMIT + 500):
        fields(b"ppid=%d" % number)
    assert len(_PAIRS) <= _PAIRS.LIMIT
    assert fields(b"ppid=77") == {"ppid": 77}


def test_long_and_ever_changing_words_are_not_remembered() -> None:
    fields(b'a0=deadbeef comm="%b"' % (b"x" * 200))
    assert b"a0=deadbeef" not in _PAIRS
    assert not any(len(word) > _PAIRS.LONGEST for word in _PAIRS)


def test_fields_of_takes_what_the_parser_gives() -> None:
    assert fields_of(parse(Record(1307, HEAD + b'cwd="/x"')).fields) == {"cwd": "/x"}


def test_a_truncated_record_is_marked_and_keeps_its_bytes() -> None:
    text = HEAD + b'item=0 name="/tmp/cut'
    entry = entry_of(Record(1302, text, truncated=True))
    assert entry["truncated"] is True
    assert entry["raw"] == text.decode()
    assert "truncated" not in entry_of(Record(1302, text))
