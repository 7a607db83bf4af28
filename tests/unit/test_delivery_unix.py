# SPDX-License-Identifier: Apache-2.0
"""The Unix socket: what a consumer of auditd's plugin expects, several of them, slow ones, and who is missed."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest

from enricher.errors import UsageError
from enricher.sinks.delivery import unix
from enricher.sinks.delivery.message import ALL_TAKEN, Message, Sender, Unacknowledged
from enricher.sinks.delivery.unix import UnixOptions, UnixSender
from tests.unit.fake_receivers import SECONDS, message, messages, read_all, wait_for

EVENT = (
    b"type=SYSCALL msg=audit(1.000:7): arch=c000003e syscall=59 success=yes\n"
    b'type=UNKNOWN[1390] msg=audit(1.000:7): record="1"\n'
    b"type=EOE msg=audit(1.000:7): "
)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "events.sock")


@pytest.fixture
def sender(path: str) -> Iterator[UnixSender]:
    made = UnixSender(UnixOptions(path, buffer=1 << 20, drain=0.05))
    yield made
    made.close()


Connect = Callable[[UnixSender], socket.socket]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect to a sender, and wait until it knows."""
    made = []

    def connect_to(sender: UnixSender) -> socket.socket:
        before = sender.served
        consumer = socket.socket(socket.AF_UNIX)
        made.append(consumer)
        consumer.settimeout(SECONDS)
        consumer.connect(sender._options.path)
        wait_for(lambda: sender.served == before + 1)
        return consumer

    yield connect_to
    for consumer in made:
        consumer.close()


def test_it_is_a_sender_that_is_not_acknowledged(sender: UnixSender) -> None:
    typed: Sender = sender
    assert isinstance(typed, Unacknowledged)
    assert not typed.acknowledged


@pytest.mark.parametrize(("mode", "umask"), [(0o640, 0o000), (0o660, 0o077), (0o600, 0o022)])
def test_the_file_has_its_mode_whatever_the_umask(path: str, mode: int, umask: int) -> None:
    before = os.umask(umask)
    try:
        sender = UnixSender(UnixOptions(path, mode=mode))
    finally:
        os.umask(before)
    found = os.lstat(path)
    assert (stat.S_ISSOCK(found.st_mode), stat.S_IMODE(found.st_mode)) == (True, mode)
    sender.close()
    assert not os.path.lexists(path)
    sender.close()


def test_a_consumer_gets_lines_as_auditd_sends_them(connect: Connect, sender: UnixSender) -> None:
    """Each line ends in one newline, and begins as auditd's do: type=NAME msg=audit(."""
    consumer = connect(sender)
    assert (
        sender.send([Message("u", 1.0, "SYSCALL", EVENT), Message("v", 1.0, "SYSCALL", EVENT)]) == ALL_TAKEN
    )
    lines = consumer.makefile("rb")
    received = [lines.readline() for _ in range(6)]
    assert received == [line + b"\n" for line in EVENT.split(b"\n")] * 2
    assert all(line.startswith(b"type=") and b" msg=audit(" in line for line in received)
    consumer.close()


def test_nobody_there_is_no_failure(sender: UnixSender) -> None:
    assert sender.send(messages(3)) == ALL_TAKEN
    assert (sender.unheard, sender.unsure()) == (3, 0)


def test_every_consumer_gets_everything(connect: Connect, sender: UnixSender) -> None:
    consumers = [connect(sender) for _ in range(3)]
    sender.send(messages(10))
    for consumer in consumers:
        lines = consumer.makefile("rb")
        assert [lines.readline() for _ in range(10)] == [b'{"a":1}\n'] * 10
    assert sender.served == 3


def test_one_consumer_too_many_is_turned_away(connect: Connect, path: str) -> None:
    sender = UnixSender(UnixOptions(path, consumers=1))
    first = connect(sender)
    with socket.socket(socket.AF_UNIX) as second:
        second.settimeout(SECONDS)
        second.connect(path)
        assert second.recv(1) == b""
    assert sender.turned_away == 1
    sender.send(messages(1))
    assert first.recv(100) == b'{"a":1}\n'
    first.close()
    sender.close()


def test_the_last_lines_go_out_without_another_event(connect: Connect, sender: UnixSender) -> None:
    """More than the socket's buffer holds: the rest is written when the consumer reads, by nobody's call."""
    consumer = connect(sender)
    body = b"x" * 100_000
    sender.send([message(number, body) for number in range(8)])
    lines = consumer.makefile("rb")
    assert all(len(lines.readline()) == len(body) + 1 for _ in range(8))


def test_a_consumer_that_does_not_read_is_let_go_and_the_others_are_not(
    connect: Connect, sender: UnixSender
) -> None:
    slow, quick = connect(sender), connect(sender)
    lines = quick.makefile("rb")
    sent = 0
    while not sender.dropped:
        sender.send([message(sent, b"x" * 50_000)])
        assert len(lines.readline()) == 50_001
        sent += 1
        assert sent < 200
    wait_for(lambda: sender.connected == 1)
    heard = len([line for line in read_all(slow).split(b"\n") if len(line) == 50_000])
    unsure = sender.unsure()
    assert sent - heard <= unsure <= sent  # an upper bound of what it did not get
    sender.send([message(sent)])
    assert lines.readline() == b'{"a":1}\n'


def test_a_consumer_that_read_everything_and_went_missed_nothing(
    connect: Connect, sender: UnixSender
) -> None:
    consumer = connect(sender)
    sender.send(messages(5))
    lines = consumer.makefile("rb")
    for _ in range(5):
        lines.readline()
    lines.close()
    consumer.close()
    wait_for(lambda: sender.connected == 0)
    assert sender.unsure() == 0


def test_a_consumer_that_went_with_something_unread_may_have_missed_it(
    connect: Connect, sender: UnixSender
) -> None:
    consumer = connect(sender)
    sender.send(messages(5))
    assert consumer.recv(1)
    consumer.close()
    wait_for(lambda: sender.connected == 0)
    assert sender.unsure() == 5


def test_a_consumer_that_has_said_all_still_reads(connect: Connect, sender: UnixSender) -> None:
    """As `socat` does with an empty standard input."""
    consumer = connect(sender)
    consumer.sendall(b"hello")
    consumer.shutdown(socket.SHUT_WR)
    lines = consumer.makefile("rb")
    for number in range(3):
        sender.send(messages(1, number))
        assert lines.readline() == b'{"a":1}\n'
    lines.close()
    consumer.close()
    wait_for(lambda: sender.connected == 0)


def test_consumers_read_to_the_end_before_it_closes(connect: Connect, path: str) -> None:
    sender = UnixSender(UnixOptions(path, drain=SECONDS))
    consumer = connect(sender)
    sender.send(messages(100))

    received: list[bytes] = []

    def consume() -> None:
        received.append(read_all(consumer))
        consumer.close()

    thread = threading.Thread(target=consume)
    thread.start()
    sender.close()
    thread.join(SECONDS)
    assert received == [b'{"a":1}\n' * 100]
    assert sender.unsure() == 0


def test_at_the_end_nobody_is_waited_for_for_ever(connect: Connect, path: str) -> None:
    sender = UnixSender(UnixOptions(path, drain=0.05))
    consumer = connect(sender)
    sender.send(messages(3))
    sender.close()
    assert sender.unsure() == 3
    consumer.close()


def test_a_consumer_may_come_back(connect: Connect, sender: UnixSender) -> None:
    connect(sender).close()
    wait_for(lambda: sender.connected == 0)
    consumer = connect(sender)
    sender.send(messages(1))
    assert consumer.recv(100) == b'{"a":1}\n'


def test_without_a_descriptor_the_thread_does_not_spin(
    connect: Connect, sender: UnixSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sender._listener

    class Full:
        """A listener whose first accept finds no descriptor."""

        failed = False

        def accept(self) -> tuple[socket.socket, object]:
            if not self.failed:
                self.failed = True
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return real.accept()

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

    monkeypatch.setattr(sender, "_listener", Full())
    with socket.socket(socket.AF_UNIX) as consumer:
        consumer.settimeout(SECONDS)
        consumer.connect(sender._options.path)
        assert consumer.recv(1) == b""
    assert sender.turned_away == 1
    monkeypatch.undo()
    connect(sender).close()


def test_the_socket_of_a_dead_service_is_replaced(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    UnixSender(UnixOptions(path)).close()


def test_the_socket_of_a_live_one_is_not(sender: UnixSender) -> None:
    with pytest.raises(UsageError, match="somebody listens"):
        UnixSender(UnixOptions(sender._options.path))
    with socket.socket(socket.AF_UNIX) as consumer:
        consumer.connect(sender._options.path)


def test_nothing_but_a_socket_is_replaced(path: str) -> None:
    Path(path).write_text("mine")
    with pytest.raises(UsageError, match="something else"):
        UnixSender(UnixOptions(path))
    assert Path(path).read_text() == "mine"


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"path": "/nonexistent/x.sock"}, "No such file"), ({"group": "no-such-group"}, "no group")],
)
def test_options_that_cannot_be(path: str, changed: dict[str, object], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        UnixSender(UnixOptions(**{"path": path, **changed}))  # type: ignore[arg-type]


class Watches:
    """As epoll, of a user who may watch no more for a while."""

    def __init__(self) -> None:
        self._inner = select.epoll()
        self.left = 2  # its own wake-up and the listening socket

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._inner.close()

    def register(self, what: socket.socket, mask: int) -> None:
        if not self.left:
            self.left = 9
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.left -= 1
        self._inner.register(what, mask)

    def modify(self, what: socket.socket, mask: int) -> None:
        self._inner.modify(what, mask)

    def poll(self) -> list[tuple[int, int]]:
        return self._inner.poll()


def test_a_consumer_that_cannot_be_watched_is_turned_away_alone(
    path: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix, "select", SimpleNamespace(epoll=Watches))
    sender = UnixSender(UnixOptions(path, drain=0.05))
    with socket.socket(socket.AF_UNIX) as first:
        first.settimeout(SECONDS)
        first.connect(path)
        assert first.recv(10) == b""
    assert (sender.turned_away, sender.connected) == (1, 0)
    second = connect(sender)
    sender.send([message(1)])
    assert second.recv(100)
    sender.close()
