# SPDX-License-Identifier: Apache-2.0
"""Targets of an event: those that its records name, in their order, and those of pidfds."""

from __future__ import annotations

from enricher.enrich.native import NativeBuilder
from enricher.facts import Beside, Target
from tests.unit.sample_events import HOST, context, event
from tests.unit.sample_facts import link, target


def pids(*targets: Target, named: tuple[int, ...] = ()) -> list[int]:
    records = [(1318, b'opid=%d oauid=-1 ouid=0 oses=-1 ocomm="sh"' % pid) for pid in named]
    made = event((1300, b"arch=c000003e syscall=62 success=yes exit=0 pid=4711"), *records, context=context())
    made.beside = Beside((), targets, link())
    return [entry["pid"] for entry in NativeBuilder(HOST).build(made).get("targets", [])]


def of(pid: int, *, by_pidfd: bool = False) -> Target:
    return target(context(pid=pid), by_pidfd=by_pidfd)


def test_the_records_say_who_and_in_which_order() -> None:
    assert pids(of(1), of(2), of(3), named=(3, 1)) == [3, 1]


def test_nobody_is_aimed_at_whom_no_record_names() -> None:
    assert pids(of(1)) == []


def test_a_pidfd_is_in_no_record() -> None:
    assert pids(of(1), of(2, by_pidfd=True), named=(1,)) == [1, 2]
    assert pids(of(2, by_pidfd=True)) == [2]
