# SPDX-License-Identifier: Apache-2.0
"""Requests and their answers, with a socket that answers as the kernel does."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from enricher.errors import AuditUnavailable, EnricherError, MissingCapability, WrongNamespace
from enricher.sources.audit import control
from enricher.sources.audit.control import (
    NLMSG_DONE,
    NLMSG_ERROR,
    AuditControl,
    AuditStatus,
    RulesCount,
    count_rules,
    parse_status,
    refused,
)
from enricher.sources.audit.netlink import CAP_AUDIT_CONTROL, CAP_AUDIT_WRITE, HEADER, HEADER_SIZE

Message = tuple[int, int, bytes]  # type, sequence number relative to the request's, payload


DONE: Message = (NLMSG_DONE, 0, b"")


def ack(number: int = 0, seq: int = 0) -> Message:
    return NLMSG_ERROR, seq, struct.pack("=i", -number) + b"the request"


STATUS = struct.pack("=11I", 0, 1, 2, 812, 0, 8192, 17, 3, 127, 15000, 6)


class Kernel:
    """Answers every request with the same messages; port 0 is the kernel's."""

    def __init__(self, answers: list[Message], port: int = 0) -> None:
        self.answers = answers
        self.port = port
        self.requests: list[tuple[int, int, bytes]] = []
        self.queue: list[tuple[bytes, tuple[int, int]]] = []
        self.timeout = 0.0

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0
        self.timeout = seconds

    def sendto(self, data: bytes, address: tuple[int, int]) -> None:
        assert address == (0, 0)
        length, kind, flags, seq, _ = HEADER.unpack_from(data)
        assert length == len(data)
        self.requests.append((kind, flags, data[HEADER_SIZE:]))
        for reply, offset, payload in self.answers:
            header = HEADER.pack(HEADER_SIZE + len(payload), reply, 0, seq + offset, 0)
            self.queue.append((header + payload, (self.port, 0)))

    def recvfrom(self, _size: int) -> tuple[bytes, tuple[int, int]]:
        if not self.queue:
            raise TimeoutError
        return self.queue.pop(0)

    def close(self) -> None:
        self.queue.clear()


Connect = Callable[..., tuple[AuditControl, Kernel]]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Connect:
    def make(answers: list[Message], capabilities: int = 0, port: int = 0) -> tuple[AuditControl, Kernel]:
        kernel = Kernel(answers, port)
        monkeypatch.setattr(control, "open_socket", lambda _protocol: kernel)
        (tmp_path / "self").mkdir()
        (tmp_path / "self" / "status").write_text(f"CapEff:\t{capabilities:016x}\n")
        return AuditControl(timeout=0.5, proc=tmp_path), kernel

    return make


# -- status ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", [[ack(), (1000, 0, STATUS)], [(1000, 0, STATUS), ack()]])
def test_status_whichever_comes_first(connect: Connect, answers: list[Message]) -> None:
    audit, kernel = connect(answers)
    expected = AuditStatus(1, 2, 812, 0, 8192, 17, 3, 127, 15000, 6)
    assert audit.status() == expected
    assert audit.status() == expected
    assert kernel.requests == [(1000, 5, b"")] * 2
    assert kernel.queue == []


def test_answers_to_older_requests_and_from_others_are_passed_over(connect: Connect) -> None:
    old = struct.pack("=11I", *[9] * 11)
    audit, _ = connect(
        [(1000, -1, old), ack(errno.EPERM, -1), (NLMSG_ERROR, 0, b"ab"), ack(), (1000, 0, STATUS)]
    )
    assert audit.status().pid == 812


def test_an_answer_not_from_the_kernel_is_none(connect: Connect) -> None:
    audit, _ = connect([ack(), (1000, 0, STATUS)], port=4711)
    with pytest.raises(AuditUnavailable, match="did not answer"):
        audit.status()


@pytest.mark.parametrize("answers", [[], [ack()], [(1000, 0, STATUS)]])
def test_half_an_answer_is_none(connect: Connect, answers: list[Message]) -> None:
    audit, _ = connect(answers)
    with pytest.raises(AuditUnavailable, match=r"1000 within 0\.5 s"):
        audit.status()


@pytest.mark.parametrize(
    ("size", "features", "wait", "actual"),
    [(32, None, None, None), (36, 127, None, None), (40, 127, 15000, None), (44, 127, 15000, 6)],
)
def test_status_of_older_kernels(
    size: int, features: int | None, wait: int | None, actual: int | None
) -> None:
    status = parse_status(STATUS[:size])
    assert status[:7] == (1, 2, 812, 0, 8192, 17, 3)
    assert status[7:] == (features, wait, actual)


def test_status_of_newer_kernels() -> None:
    assert parse_status(STATUS + b"\1\2\3\4\5\6") == parse_status(STATUS)


def test_status_too_short() -> None:
    with pytest.raises(AuditUnavailable, match="28 bytes"):
        parse_status(STATUS[:28])


# -- rules -------------------------------------------------------------------------------------------


def rule(which: int, action: int, conditions: int = 1) -> bytes:
    return struct.pack("=III", which, action, conditions) + bytes(4 * 64 * 4 + 4)


EXIT, TASK, EXCLUDE, PREPEND = 4, 1, 5, 0x10
NEVER, ALWAYS = 0, 2


def test_rules_are_read_to_the_end_of_the_dump(connect: Connect) -> None:
    rules = [(1013, 0, rule(EXIT, ALWAYS)), (1013, 0, rule(EXCLUDE, ALWAYS)), (1013, 0, rule(EXIT, NEVER))]
    audit, kernel = connect([ack(), *rules, (NLMSG_DONE, 0, b"")])
    assert audit.rules_count() == RulesCount(total=3, recording=1, task_never=False)
    assert kernel.queue == []


def test_rules_come_in_their_order_and_none_for_what_is_no_rule(connect: Connect) -> None:
    audit, _ = connect(
        [ack(), *((1013, 0, each) for each in (rule(EXIT, ALWAYS), b"x", rule(TASK, NEVER))), DONE]
    )
    found = audit.rules()
    assert [each and (each.which, each.action) for each in found] == [(EXIT, ALWAYS), None, (TASK, NEVER)]


def test_no_rules(connect: Connect) -> None:
    audit, _ = connect([(NLMSG_DONE, 0, b""), ack()])
    assert audit.rules_count() == RulesCount(0, 0, task_never=False)


def test_a_dump_without_end_is_no_answer(connect: Connect) -> None:
    audit, _ = connect([ack(), (1013, 0, rule(EXIT, ALWAYS))])
    with pytest.raises(AuditUnavailable):
        audit.rules_count()


def test_which_rules_record() -> None:
    assert count_rules([rule(EXIT | PREPEND, ALWAYS), rule(EXCLUDE | PREPEND, ALWAYS)]) == (2, 1, False)
    assert count_rules([rule(TASK, NEVER, 0), rule(EXIT, ALWAYS)]) == (2, 1, True)
    assert count_rules([rule(TASK, NEVER, 1)]) == (1, 0, False)
    assert count_rules([b"short"]) == (1, 1, False)


# -- user messages -----------------------------------------------------------------------------------


def test_user_message_gets_a_byte_for_the_kernel_to_overwrite(connect: Connect) -> None:
    audit, kernel = connect([ack()])
    audit.send_user(1107, b"nonce=abc")
    assert kernel.requests == [(1107, 5, b"nonce=abc\0")]


@pytest.mark.parametrize("record_type", [0, 1001, 1006, 1011, 1012, 1014, 1018, 1200, 1300, 3000])
def test_nothing_that_changes_audit_is_ever_sent(connect: Connect, record_type: int) -> None:
    audit, kernel = connect([ack()])
    with pytest.raises(ValueError, match="not a user-space record type"):
        audit.send_user(record_type, b"x")
    with pytest.raises(ValueError, match="could change"):
        audit._ask(record_type, b"x")
    assert kernel.requests == []


@pytest.mark.parametrize("text", [b"", b"a\0b", b"it's", b"x" * 8561])
def test_texts_that_would_not_come_out_as_given(connect: Connect, text: bytes) -> None:
    audit, kernel = connect([ack()])
    with pytest.raises(ValueError, match="text must"):
        audit.send_user(1107, text)
    assert kernel.requests == []


# -- refusals ----------------------------------------------------------------------------------------

WRITE, CONTROL = 1 << CAP_AUDIT_WRITE, 1 << CAP_AUDIT_CONTROL


@pytest.mark.parametrize(
    ("asked", "number", "capabilities", "expected"),
    [
        (1107, errno.ECONNREFUSED, WRITE, (WrongNamespace, "user namespace")),
        (1000, errno.ECONNREFUSED, 0, (WrongNamespace, "user namespace")),
        (1107, errno.EPERM, CONTROL, (MissingCapability, "CAP_AUDIT_WRITE is missing")),
        (1000, errno.EPERM, WRITE, (MissingCapability, "CAP_AUDIT_CONTROL is missing")),
        (1013, errno.EPERM, CONTROL, (WrongNamespace, "although CAP_AUDIT_CONTROL is held")),
        (1107, errno.EPERM, WRITE, (MissingCapability, "although CAP_AUDIT_WRITE is held")),
        (1000, errno.EACCES, CONTROL, (MissingCapability, "although")),
        (1000, errno.EINVAL, CONTROL, (AuditUnavailable, "Invalid argument")),
    ],
)
def test_what_a_refusal_means(
    connect: Connect, asked: int, number: int, capabilities: int, expected: tuple[type[EnricherError], str]
) -> None:
    audit, _ = connect([ack(number)], capabilities)
    ask: dict[int, Callable[[], object]] = {1000: audit.status, 1013: audit.rules_count}
    with pytest.raises(EnricherError) as caught:
        ask.get(asked, lambda: audit.send_user(asked, b"x"))()
    kind, words = expected
    assert type(caught.value) is kind
    assert words in caught.value.message
    assert caught.value.hint or kind is AuditUnavailable


def test_pid_namespace_is_named_in_the_hint(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text(f"CapEff: {CONTROL:x}\n")
    assert "pid namespace" in refused(errno.EPERM, 1000, tmp_path).hint


def test_a_socket_error_is_named_too(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    audit, kernel = connect([])

    def fail(*_: object) -> None:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    monkeypatch.setattr(kernel, "recvfrom", fail)
    with pytest.raises(AuditUnavailable, match="No buffer space"):
        audit.status()
