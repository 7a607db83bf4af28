# SPDX-License-Identifier: Apache-2.0
"""What is told of attempts at container identifiers, and what a request may hold."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.errors import UsageError
from enricher.model import UNSET
from enricher.runtime import contid_request
from enricher.runtime.contid_log import FACTS_MAX, Attempt, ContidLog
from enricher.sources.contid import ContidOp
from tests.unit.fake_contid import FakeStore


@pytest.fixture
def store() -> Iterator[FakeStore]:
    made = FakeStore()
    yield made
    made.close()


def test_facts_are_bounded() -> None:
    log = ContidLog(None)
    for _ in range(FACTS_MAX + 5):
        log.attempt(Attempt("set", 1, 4, errno.EPERM))
    assert (len(log.take()), log.dropped) == (FACTS_MAX, 5)
    assert not log.pending


def test_what_the_kernel_did_not_tell_is_told(store: FakeStore) -> None:
    log = ContidLog(store)
    log.attempt(Attempt("set", 9, 4, errno.EPERM, 7, 1000))
    [fact] = log.take()
    assert (fact.opid, fact.res, fact.caller_pid, fact.caller_uid) == (9, errno.EPERM, 7, 1000)


def test_another_process_is_not_told_as_the_callers(store: FakeStore) -> None:
    log = ContidLog(store)
    store.ops += [ContidOp("set", 8, 4, (), 0, 1, orchestrator=True), ContidOp("set", 9, 4, (), 0, 2)]
    log.attempt(Attempt("set", 9, 4, 0, 7, 1000))
    assert [(op.opid, op.caller_pid, op.caller_uid) for op in log.take()] == [(8, 0, UNSET), (9, 7, 1000)]


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_no_request_raises_anything_else(data: bytes) -> None:
    with contextlib.suppress(UsageError):
        contid_request.read(data)
