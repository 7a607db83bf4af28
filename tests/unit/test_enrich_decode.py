# SPDX-License-Identifier: Apache-2.0
"""Fields as JSON values, and that the quick way through a record says what the long way does."""

from __future__ import annotations

import random

import pytest

from enricher.enrich.decode import Decoder
from enricher.enrich.memo import WordMemo
from enricher.enrich.shape import Fields, FieldValue
from enricher.model import Record
from tests.unit.sample_events import EXEC, HEAD, USER_LOGIN

DECODER = Decoder()
entry_of = DECODER.entry_of


def with_meanings(body: bytes, number: int = 1300) -> Fields:
    return entry_of(Record(number, HEAD + body))["fields"]


def fields(body: bytes, number: int = 1300) -> Fields:
    """Without the meanings, which test_interpret.py is about."""
    found = with_meanings(body, number)
    return {
        name: value for name, value in found.items() if not name.isupper() or name.encode() + b"=" in body
    }


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
    assert with_meanings(b'argc=2 a0="sleep" a1="60"', 1309) == {"argc": 2, "ARGV": ["sleep", "60"]}
    assert with_meanings(b"argc=1 a0=2F62696E2F6563686F", 1309) == {"argc": 1, "ARGV": ["/bin/echo"]}
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
    entry = Decoder(raw=True).entry_of(Record(1307, HEAD + b'cwd="/"'))
    assert entry == {"type": "CWD", "fields": {"cwd": "/"}, "raw": (HEAD + b'cwd="/"').decode()}


def test_fields_that_auditd_appended_are_fields() -> None:
    assert fields(b'uid=0 key=(null)\x1dUID="root"') == {"uid": 0, "key": "(null)", "UID": "root"}


SEEDS = [
    *(body for _, body in EXEC),
    USER_LOGIN,
    b'comm=FF00 name="a" name=(null)',
    b"a0=1 a0=2 pid=0",
    b"arch=c000003e syscall=257 per=400000 success=no exit=-13 a0=ffffff9c a1=7f a2=80241 a3=1ff items=1 auid=0",
    b"arch=c000003e syscall=231 a0=0 a1=3c a2=e7 a3=0 items=0 sig=9 res=1",
    b"arch=c00000b7 syscall=198 success=yes exit=3 a0=10 a1=3 a2=9 a3=0 items=0",
    b"saddr=02000050C0000207 mode=0104755 cap_fp=3000 family=2 flags=0x22 code=0x7ffc0000 id=0",
]
TYPES = [1300, 1302, 1306, 1309, 1323, 1325, 1326, 1327, 1112, 1116, 1336, 1400]
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
    b"EXIT=",
    b"SYSCALL=x",
    b"arch=40000003",
    b"syscall=59",
    b"argc=2",
    b"ARGV=1",
]


def mutated(rng: random.Random, body: bytes) -> bytes:
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(body) + 1)
        body = body[:at] + rng.choice(SPLICES) + body[at + rng.randrange(3) :]
    return body


def slowly(record: Record) -> dict[str, object]:
    found = DECODER._execve([record])[0] if record.type == 1309 else DECODER._unusual(record)
    return dict(found)


def test_the_quick_way_says_what_the_long_way_says() -> None:
    rng = random.Random(20)  # noqa: S311 - repeatable on purpose
    quick = dict.fromkeys(TYPES, 0)
    for _ in range(20_000):
        record = Record(rng.choice([1300, 1309, *TYPES]), HEAD + mutated(rng, rng.choice(SEEDS)))
        found = DECODER._usual(record.type, record.text)
        if found is not None:
            quick[record.type] += 1
            slow = slowly(record)
            expected = slow["fields"]
            assert isinstance(expected, dict)
            assert found == expected, record
            assert list(found) == list(expected), record
            assert "undecoded" not in slow, record
    # or this test compares nothing; these three have no quick way
    assert all(count > 100 for number, count in quick.items() if number not in (1112, 1116, 1326)), quick


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
    decoder = Decoder()
    for number in range(WordMemo.LIMIT + 500):
        decoder.entry_of(
            Record(
                1300, HEAD + b"arch=c000003e syscall=2 a0=1 a1=%x a2=%x ppid=%d" % (number, number, number)
            )
        )
        decoder.entry_of(Record(1300, HEAD + b"arch=%x syscall=%d" % (number, number)))
    for memo in (decoder._common, decoder._calls._calls, decoder._calls._arguments):
        assert 0 < len(memo) <= WordMemo.LIMIT
    assert decoder.entry_of(Record(1300, HEAD + b"ppid=77"))["fields"] == {"ppid": 77}


def test_long_and_ever_changing_words_are_not_remembered() -> None:
    decoder = Decoder()
    decoder.entry_of(Record(1300, HEAD + b'a0=deadbeef comm="%b"' % (b"x" * 200)))
    assert b"a0=deadbeef" not in decoder._common
    assert not any(len(word) > WordMemo.LONGEST for word in decoder._common)


class Renamed:
    """A name service in which user 1000 gets another name."""

    def __init__(self) -> None:
        self.generation = 0

    def user(self, uid: int) -> str | None:
        return f"user{self.generation}" if uid == 1000 else None

    def group(self, gid: int) -> str | None:
        return f"group{self.generation}" if gid == 1000 else None


def test_a_name_is_asked_for_again_when_it_may_have_changed() -> None:
    names = Renamed()
    decoder = Decoder(names)
    record = Record(1300, HEAD + b"arch=c000003e syscall=105 a0=3e8 uid=1000 gid=1000")

    def told() -> list[FieldValue]:
        found = decoder.entries([record])[0]["fields"]
        return [found["A0"], found["UID"], found["GID"]]

    assert told() == ["user0", "user0", "group0"]
    names.generation = 1
    assert told() == ["user1", "user1", "group1"]


def test_a_truncated_record_is_marked_and_keeps_its_bytes() -> None:
    text = HEAD + b'item=0 name="/tmp/cut'
    entry = entry_of(Record(1302, text, truncated=True))
    assert entry["truncated"] is True
    assert entry["raw"] == text.decode()
    assert "truncated" not in entry_of(Record(1302, text))
