# SPDX-License-Identifier: Apache-2.0
"""The audit daemon's slot: taken only where it is free, nothing else set, nothing lost on the way in and out."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from enricher.errors import AuditUnavailable, MissingCapability, NotProved, UsageError, WrongNamespace
from enricher.model import Record
from enricher.sources.audit import daemon
from enricher.sources.audit.daemon import DaemonSocket
from enricher.sources.audit.netlink import CAP_AUDIT_CONTROL
from enricher.sources.audit.receiver import Receiver
from tests.unit.fake_slot import Slot

US = os.getpid()
SET_US, UNSET = (4, 0, 0, US, 0, 0, 0, 0), (4, 0, 0, 0, 0, 0, 0, 0)


class Bench:
    """A slot, what is said, and a /proc of our own."""

    def __init__(self, proc: Path) -> None:
        self.slot = Slot()
        self.said: list[str] = []
        self.proc = proc
        (proc / "self").mkdir()
        self.hold(0)

    def hold(self, mask: int) -> None:
        (self.proc / "self" / "status").write_text(f"Name:\tx\nCapEff:\t{mask:016x}\n")

    def open(self, holder: int | None = None) -> DaemonSocket:
        before = self.slot.holder if holder is None else holder
        return DaemonSocket(1 << 16, self.said.append, 8, proc=self.proc, holder=lambda: before)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    monkeypatch.setattr(daemon, "open_socket", lambda _protocol: made.slot)
    monkeypatch.setattr(daemon, "_TIMEOUT", 0.2)
    yield made
    made.slot.close()


@pytest.fixture
def gone() -> int:
    """A process that was."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def text(number: int) -> bytes:
    return b"audit(1.000:%d): one of many" % number


def test_it_is_taken_and_given_back_and_nothing_else_is_set(bench: Bench) -> None:
    source = bench.open()
    assert bench.slot.holder == US
    bench.slot.record(text(1))
    assert source.receive() == [Record(1300, text(1))]
    assert source.receive() == []
    source.close()
    assert (bench.slot.holder, bench.slot.closed) == (0, True)
    assert bench.slot.asked == [SET_US, UNSET]
    assert bench.said == []


def test_what_waited_for_a_daemon_comes_first(bench: Bench) -> None:
    """Before the kernel's answer even, as it may."""
    for number in (1, 2, 3):
        bench.slot.record(text(number))
    source = bench.open()
    bench.slot.record(text(4))
    assert [record.text for record in source.receive()] == [text(1), text(2), text(3), text(4)]
    assert source.receive() == []
    source.close()


def test_what_was_sent_before_it_is_given_back_can_be_received(bench: Bench) -> None:
    source = bench.open()
    bench.slot.record(text(1))
    assert source.leave()
    bench.slot.record(text(2))
    assert [record.text for record in source.receive()] == [text(1)]
    assert len(bench.slot.queue) == 1, "the next daemon's"
    assert not source.leave()
    source.close()
    assert bench.slot.asked == [SET_US, UNSET]


def test_a_daemon_that_lives_is_named_and_not_even_asked(bench: Bench) -> None:
    bench.slot.holder = os.getppid()
    (bench.proc / str(os.getppid())).mkdir()
    (bench.proc / str(os.getppid()) / "comm").write_bytes(b"audi\x1b[2Jtd\n")
    with pytest.raises(
        UsageError, match=rf"process {os.getppid()} \(audi\?\[2Jtd\) is the audit daemon"
    ) as caught:
        bench.open()
    assert "service.daemon = false" in caught.value.hint
    assert (bench.slot.asked, bench.slot.holder) == ([], os.getppid())


def test_a_daemon_whose_name_nobody_knows(bench: Bench) -> None:
    with pytest.raises(UsageError, match="process 1 is the audit daemon"):
        bench.open(holder=1)


def test_one_that_has_come_meanwhile_stays(bench: Bench) -> None:
    bench.slot.holder = 1
    with pytest.raises(UsageError, match="meanwhile"):
        bench.open(holder=0)
    assert (bench.slot.holder, bench.slot.closed) == (1, True)
    assert bench.slot.asked == [SET_US], "and nothing is given back that is another's"


def test_one_that_has_ended_is_followed(bench: Bench, gone: int) -> None:
    """The kernel has not noticed yet: it does when it is asked."""
    bench.slot.holder, bench.slot.reached = gone, False
    source = bench.open()
    assert bench.slot.holder == US
    source.close()


def test_one_that_has_ended_and_whose_port_is_somebodys(bench: Bench, gone: int) -> None:
    bench.slot.holder = gone
    with pytest.raises(NotProved, match=f"process {gone}, which was the audit daemon, has ended") as caught:
        bench.open()
    assert "/proc/net/netlink" in caught.value.hint
    assert bench.slot.holder == gone


@pytest.mark.parametrize(
    ("number", "held", "kind"),
    [
        (errno.EPERM, 0, MissingCapability),
        (errno.EPERM, 1 << CAP_AUDIT_CONTROL, WrongNamespace),
        (errno.ECONNREFUSED, 1 << CAP_AUDIT_CONTROL, WrongNamespace),
        (errno.EINVAL, 1 << CAP_AUDIT_CONTROL, AuditUnavailable),
    ],
)
def test_refused(bench: Bench, number: int, held: int, kind: type[Exception]) -> None:
    bench.hold(held)
    bench.slot.refusal = number
    with pytest.raises(kind):
        bench.open()
    assert bench.slot.closed


def test_no_answer(bench: Bench) -> None:
    bench.slot.deaf = True
    with pytest.raises(AuditUnavailable, match="did not answer audit request 1001"):
        bench.open()
    assert bench.slot.closed


def test_who_asks_for_it_is_counted_and_is_no_record(bench: Bench) -> None:
    source = bench.open()
    bench.slot.record(text(1))
    bench.slot.challenge(4711)
    bench.slot.record(text(2), 1305)
    assert [record.text for record in source.receive()] == [text(1), text(2)]
    assert source.challenges == 1
    source.close()


def test_asked_for_while_it_is_given_back(bench: Bench) -> None:
    source = bench.open()
    bench.slot.challenge(4711)
    bench.slot.record(text(1))
    assert source.leave()
    assert ([record.text for record in source.receive()], source.challenges) == ([text(1)], 1)
    source.close()


@pytest.mark.parametrize("how", ["refused", "unanswered"])
def test_giving_back_that_fails_is_said_and_ends_all_the_same(bench: Bench, how: str) -> None:
    source = bench.open()
    bench.slot.record(text(1))
    if how == "refused":
        bench.slot.refusal = errno.EPERM
    else:
        bench.slot.deaf = True
    assert source.leave()
    assert [record.text for record in source.receive()] == [text(1)]
    (said,) = bench.said
    assert "could not be given back" in said
    assert ("CAP_AUDIT_CONTROL" in said) == (how == "refused")
    source.close()
    assert bench.slot.closed


def test_a_try_without_room_is_no_drop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel keeps the record and tries again."""
    monkeypatch.setattr(Receiver, "drops", lambda _: 60)
    source = bench.open()
    assert source.drops() == 0
    source.close()


def test_an_older_answer_is_none(bench: Bench) -> None:
    """And one that is too short is no answer at all."""
    bench.slot.send(2, b"\0\0\0\0")
    bench.slot.send(2, b"\xff\xff\xff\xff" + b"\x20\0\0\0\xe9\x03\x05\0\x63\0\0\0\0\0\0\0")
    source = bench.open()
    assert bench.slot.holder == US
    assert source.receive() == []
    source.close()
