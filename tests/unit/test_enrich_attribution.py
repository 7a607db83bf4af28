# SPDX-License-Identifier: Apache-2.0
"""When a context may be named as the one that acted: the rule that keeps an identity from being guessed."""

from __future__ import annotations

import pytest

from enricher.enrich.attribution import attribute, subject_context
from enricher.model import ContextFlag
from tests.unit.sample_events import SYSCALL, USER_LOGIN, context, event, exec_event


def test_a_subjects_context_is_used() -> None:
    good = context()
    assert attribute(exec_event(good)) == (good, "")


def test_without_a_context_nobody_is_named() -> None:
    assert attribute(event((1300, SYSCALL))) == (None, "no kernel context")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (ContextFlag.KTHREAD, "no subject: kernel thread"),
        (ContextFlag.INTERRUPT, "no subject: interrupt"),
        (ContextFlag.INTERRUPT | ContextFlag.KTHREAD, "no subject: interrupt"),
        (ContextFlag.STANDALONE, "no subject: the record is not about the task that wrote it"),
    ],
)
def test_a_bystander_is_not_named(flags: ContextFlag, reason: str) -> None:
    assert attribute(event((1324, b"action=1 hook=1"), context=context(flags=flags))) == (None, reason)


def test_released_namespaces_are_said() -> None:
    gone = context(flags=ContextFlag.SUBJECT | ContextFlag.AFTER_SERVING)
    assert attribute(event((1335, b"pid=4711 uid=0"), context=gone)) == (
        gone,
        "the task had already left its namespaces",
    )


@pytest.mark.parametrize(
    ("number", "body"),
    [
        (1300, SYSCALL),
        (1336, b"uring_op=18 success=yes exit=0 items=0 ppid=1 pid=4711 uid=0"),
        (1006, b"pid=4711 uid=0 old-auid=4294967295 auid=0 res=1"),
        (1112, USER_LOGIN),
        (1300, b"arch=c000003e ppid=1 pid=4711"),  # the last word
    ],
)
def test_a_context_of_another_process_is_not_used(number: int, body: bytes) -> None:
    assert attribute(event((number, body), context=context(pid=4711))).context is not None
    verdict = attribute(event((number, body), context=context(pid=4712)))
    assert verdict == (None, "context not used: it is of pid 4712, the record says 4711")


def test_a_pid_in_a_programs_message_does_not_count() -> None:
    body = b"pid=4711 uid=0 auid=1 ses=1 msg='op=x pid=1 res=success'"
    assert attribute(event((1112, body), context=context(pid=4711))).context is not None


def test_a_pid_that_means_something_else_does_not_count() -> None:
    assert attribute(event((1318, b"opid=9 pid=9"), context=context())).context is not None


def test_a_record_without_a_pid_does_not_speak_against_the_context() -> None:
    assert attribute(event((1300, b"arch=c000003e"), context=context())).context is not None
    assert attribute(event((1300, b"arch=c000003e pid=x"), context=context())).context is not None


@pytest.mark.parametrize("pid", [4711, 4712, 471, 0])
@pytest.mark.parametrize("body", [SYSCALL, b"ppid=1 pid=4711", b"ppid=1 pid=04711 uid=0", b"pid=none uid=0"])
@pytest.mark.parametrize("flags", [ContextFlag.SUBJECT, ContextFlag.KTHREAD])
def test_the_short_question_has_the_same_answer(pid: int, body: bytes, flags: ContextFlag) -> None:
    asked = event((1300, body), context=context(pid=pid, flags=flags))
    assert subject_context(asked) is attribute(asked).context
    assert (subject_context(asked) is None) == (
        not flags & ContextFlag.SUBJECT or (pid != 4711 and b"4711" in body)
    )


def test_without_a_context_the_short_answer_is_none() -> None:
    assert subject_context(event((1300, SYSCALL))) is None
