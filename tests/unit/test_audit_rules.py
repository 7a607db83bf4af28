# SPDX-License-Identifier: Apache-2.0
"""What the rules in force keep from being written, from the kernel's own form of a rule."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.sources.audit.rules import Condition, Excluded, Rule, excluded, parse_rule, swallowed
from enricher.sources.audit.types import NAMES, is_user

USER, TASK, EXIT, EXCLUDE, PREPEND = 0, 1, 4, 5, 0x10
NEVER, ALWAYS = 0, 2
EQ, NE, LT, LE, GT, GE = 0x40000000, 0x30000000, 0x10000000, 0x50000000, 0x20000000, 0x60000000
MASKED, TESTED = 0x08000000, 0x48000000
PID, UID, ARCH, MSGTYPE = 0, 1, 11, 12
B64, B32 = 0xC000003E, 0x40000003
CWD, EOE, USER_LOGIN = 1307, 1320, 1112


def data(which: int, action: int, *conditions: tuple[int, int, int], mask: int = 0xFFFFFFFF) -> bytes:
    """A struct audit_rule_data as the kernel sends it."""
    pad = [(0, 0, 0)] * (64 - len(conditions))
    fields, operators, values = zip(*conditions, *pad, strict=True)
    words = [mask] * 63 + [0]
    return struct.pack(
        "=III64I64I64I64II", which, action, len(conditions), *words, *fields, *values, *operators, 0
    )


def rules(*wanted: bytes) -> list[Rule]:
    read = [parse_rule(each) for each in wanted]
    assert None not in read
    return [each for each in read if each]


def on_type(number: int, operator: int = EQ) -> tuple[int, int, int]:
    return MSGTYPE, operator, number


# -- reading -----------------------------------------------------------------------------------------


def test_a_rule_is_read() -> None:
    rule = parse_rule(data(EXIT | PREPEND, ALWAYS, (ARCH, EQ, B64), (UID, NE, 1000), mask=1))
    assert rule == Rule(
        EXIT, ALWAYS, (Condition(ARCH, EQ, B64), Condition(UID, NE, 1000)), every_syscall=False
    )
    assert rules(data(EXIT, NEVER))[0].every_syscall


def test_strings_behind_the_rule_do_not_matter() -> None:
    assert parse_rule(data(EXIT, ALWAYS) + b"a-key") == parse_rule(data(EXIT, ALWAYS))


@pytest.mark.parametrize(
    "wrong", [b"", b"short", data(EXIT, ALWAYS)[:1035], struct.pack("=III", EXIT, 0, 65) + bytes(1028)]
)
def test_what_is_no_rule_is_none(wrong: bytes) -> None:
    assert parse_rule(wrong) is None


@given(st.binary(min_size=1030, max_size=1050))
def test_any_bytes_are_read_or_refused(noise: bytes) -> None:
    rule = parse_rule(noise)
    if rule:
        excluded([rule])
        swallowed([rule])


# -- excluded types ----------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [NEVER, ALWAYS])
def test_the_exclude_list_drops_whatever_the_action(action: int) -> None:
    assert excluded(rules(data(EXCLUDE, action, on_type(CWD)))) == Excluded((CWD,), ())


@pytest.mark.parametrize(
    ("operator", "value", "holds"),
    [
        (EQ, CWD, lambda n: n == CWD),
        (NE, CWD, lambda n: n != CWD),
        (LT, CWD, lambda n: n < CWD),
        (LE, CWD, lambda n: n <= CWD),
        (GT, CWD, lambda n: n > CWD),
        (GE, CWD, lambda n: n >= CWD),
        (MASKED, 3, lambda n: n & 3),
        (TESTED, 3, lambda n: n & 3 == 3),
        (0, CWD, lambda _n: False),
    ],
)
def test_every_operator(operator: int, value: int, holds: object) -> None:
    assert callable(holds)
    expected = tuple(number for number in sorted(NAMES) if holds(number))
    assert excluded(rules(data(EXCLUDE, ALWAYS, on_type(value, operator)))) == Excluded(expected, ())


def test_a_range_of_types() -> None:
    wanted = rules(data(EXCLUDE, ALWAYS, on_type(1306, GE), on_type(1307, LE)))
    assert excluded(wanted) == Excluded((1306, 1307), ())


def test_a_type_without_a_name_is_told_where_a_rule_names_it() -> None:
    assert excluded(rules(data(EXCLUDE, ALWAYS, on_type(1999)))).always == (1999,)


def test_another_condition_makes_it_some_tasks() -> None:
    some = data(EXCLUDE, ALWAYS, on_type(CWD), (UID, EQ, 0))
    assert excluded(rules(some)) == Excluded((), (CWD,))
    assert excluded(rules(some, data(EXCLUDE, ALWAYS, on_type(CWD)))) == Excluded((CWD,), ())
    assert excluded(rules(data(EXCLUDE, ALWAYS, (PID, EQ, 1)))) == Excluded((), tuple(sorted(NAMES)))


def test_the_user_list_drops_with_never_and_the_first_match_decides() -> None:
    never, always = data(USER, NEVER, on_type(USER_LOGIN)), data(USER, ALWAYS, on_type(USER_LOGIN))
    for_root = data(USER, ALWAYS, on_type(USER_LOGIN), (UID, EQ, 0))
    assert excluded(rules(never)) == Excluded((USER_LOGIN,), ())
    assert excluded(rules(never, always)) == Excluded((USER_LOGIN,), ())
    assert excluded(rules(always, never)) == Excluded((), ())
    assert excluded(rules(for_root, never)) == Excluded((), (USER_LOGIN,))
    assert excluded(rules(data(USER, NEVER))) == Excluded(tuple(n for n in sorted(NAMES) if is_user(n)), ())
    assert excluded(rules(data(USER, NEVER, on_type(CWD)))) == Excluded((), ())


def test_other_lists_exclude_no_type() -> None:
    assert excluded(rules(data(EXIT, NEVER), data(TASK, NEVER), data(EXIT, ALWAYS, on_type(CWD)))) == ((), ())


# -- rules that do nothing ---------------------------------------------------------------------------


def test_what_stands_behind_a_never_for_all_does_nothing() -> None:
    record, never = data(EXIT, ALWAYS, (UID, EQ, 0)), data(EXIT, NEVER)
    assert swallowed(rules(record, never)) == 0
    assert swallowed(rules(record, never, record, data(TASK, ALWAYS), record)) == 2
    assert swallowed(rules(data(EXIT, ALWAYS), record)) == 0
    assert swallowed(rules(data(EXIT, NEVER, mask=1), record)) == 0
    assert swallowed(rules(data(EXIT, NEVER, (UID, EQ, 0)), record)) == 0


def test_a_never_for_one_architecture_counts_for_its_rules() -> None:
    never = data(EXIT, NEVER, (ARCH, EQ, B64))
    wide, narrow = (data(EXIT, ALWAYS, (ARCH, EQ, arch), (UID, EQ, 0)) for arch in (B64, B32))
    assert swallowed(rules(never, wide, narrow)) == 1
