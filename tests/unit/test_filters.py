# SPDX-License-Identifier: Apache-2.0
"""Filters: exact, cheap, and helpful about a name they do not know."""

from __future__ import annotations

import pytest

from enricher.errors import UsageError
from enricher.route.filters import Filter
from enricher.route.members import type_number
from tests.unit.sample_events import EXEC, SYSCALL, USER_LOGIN, context, event, exec_event


def with_key(value: bytes) -> tuple[int, bytes]:
    return (1300, SYSCALL.replace(b'key="exec"', b"key=" + value))


def test_an_empty_filter_passes_everything() -> None:
    assert Filter().early(exec_event())
    assert Filter().early(event())


@pytest.mark.parametrize(
    ("written", "asked", "passes"),
    [
        (b'"exec"', "exec", True),
        (b'"exec-root"', "exec", False),
        (b'"ex"', "exec", False),
        (b'"EXEC"', "exec", False),
        (b"6578656301726F6F74", "root", True),
        (b"6578656301726F6F74", "exec", True),
        (b"6578656301726F6F74", "exec\x01root", False),
        (b"6120C3A4", "a ä", True),
        (b"61FF", "a\udcff", True),
        (b"(null)", "(null)", False),
        (b'"(null)"', "(null)", True),
    ],
)
def test_a_key_matches_as_a_whole(written: bytes, asked: str, *, passes: bool) -> None:
    assert Filter(keys=[asked]).early(event(with_key(written))) is passes


def test_one_of_several_keys_is_enough() -> None:
    assert Filter(keys=["other", "exec"]).early(exec_event())
    assert not Filter(keys=["other", "third"]).early(exec_event())


def test_a_key_inside_another_value_does_not_match() -> None:
    body = SYSCALL.replace(b'key="exec"', b"key=(null)").replace(b'"ls"', b'"key=exec"')
    assert not Filter(keys=["exec"]).early(event((1300, body)))
    assert not Filter(keys=["root"]).early(event((1112, b"pid=1 uid=0 msg='key=\"root\"'")))


@pytest.mark.parametrize(
    "asked", ["SYSCALL", "syscall", " Syscall ", "1300", 1300, "UNKNOWN[1300]", "EXECVE"]
)
def test_a_type_by_name_or_number(asked: str | int) -> None:
    assert Filter(types=[asked]).early(exec_event())
    assert not Filter(types=[asked]).early(event((1112, USER_LOGIN)))


def test_a_type_without_a_name() -> None:
    assert Filter(types=["UNKNOWN[1999]"]).early(event((1999, b"x=1")))
    assert Filter(types=["unknown[1999]"]).early(event((1999, b"x=1")))


def test_key_and_type_must_both_match() -> None:
    both = Filter(keys=["exec"], types=["EXECVE"])
    assert both.early(exec_event())
    assert not both.early(event(with_key(b'"exec"')))
    assert not both.early(event(*EXEC[1:]))


def test_an_event_without_records_has_the_type_the_kernel_side_noted() -> None:
    lost = event(context=context(record_type=1300))
    assert Filter(types=["SYSCALL"]).early(lost)
    assert not Filter(types=["PATH"]).early(lost)
    assert not Filter(keys=["exec"]).early(lost)
    assert not Filter(types=["SYSCALL"]).early(event((1334, b""), context=context(record_type=1300)))


@pytest.mark.parametrize("wanted", ["SYSCAL", "sycall"])
def test_an_unknown_type_is_a_usage_error_with_a_hint(wanted: str) -> None:
    with pytest.raises(UsageError) as caught:
        Filter(types=[wanted])
    assert caught.value.exit_code == 2
    assert wanted in caught.value.message
    assert "SYSCALL" in caught.value.hint


@pytest.mark.parametrize("wanted", ["", "99999999", "65536", -1, 65536, "UNKNOWN[70000]", "qqqqqqq", "١٣٠٠"])
def test_what_is_no_type(wanted: str | int) -> None:
    with pytest.raises(UsageError) as caught:
        type_number(wanted)
    assert caught.value.hint
