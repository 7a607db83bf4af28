# SPDX-License-Identifier: Apache-2.0
"""RELP sessions: the window, answers, errors, breaks, and a receiver that says what it should not."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.errors import UsageError
from enricher.sinks.delivery.message import ALL_TAKEN, Message, Sender, Unreachable
from enricher.sinks.delivery.relp import Frame, Frames, ProtocolError, RelpOptions, RelpSender
from tests.certificates import Authority
from tests.unit.fake_receivers import Receiver, message, messages, reset, wait_for

UID = re.compile(rb' uid="([^"]*)"')
OFFERS = b"200 OK\nrelp_version=0\nrelp_software=fake\ncommands=syslog"


class Gone(Exception):
    """The client has closed."""


class Relp:
    """A receiver's side of sessions. `answer` gives the data of each answer to a syslog command, None for none."""

    def __init__(
        self, answer: Callable[[bytes], bytes | None] = lambda _: b"200 OK", offers: bytes = OFFERS
    ) -> None:
        self.answer = answer
        self.offers = offers
        self.uids: list[str] = []
        self.commands: list[str] = []
        self.ahead = 0  # the most messages that were read before one of them was answered
        self.break_after = -1
        self.hold = 1  # answers that are sent together
        self.farewell = b""

    def __call__(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        held: list[bytes] = []
        while True:
            head = b""
            while (byte := stream.read(1)) not in (b" ", b"\n", b""):
                head += byte
            if not head:
                return
            txnr = int(head)
            command, length = (self._word(stream) for _ in range(2))
            self.commands.append(command.decode())
            data = stream.read(int(length))
            if int(length):
                assert stream.read(1) == b"\n"
            if command == b"open":
                self._say(connection, txnr, self.offers)
                if self.farewell:
                    connection.sendall(self.farewell)
                    return
                continue
            if command == b"close":
                self._say(connection, txnr, b"200 OK")
                return
            found = UID.search(data)
            assert found is not None
            self.uids.append(found[1].decode())
            answer = self.answer(data)
            if answer is not None:
                held.append(b"%d rsp %d %b\n" % (txnr, len(answer), answer))
            self.ahead = max(self.ahead, len(held))
            if len(held) >= self.hold:
                connection.sendall(b"".join(held))
                held.clear()
            if len(self.uids) == self.break_after:
                reset(connection)
                return

    @staticmethod
    def _word(stream: object) -> bytes:
        word = b""
        while (byte := stream.read(1)) not in (b" ", b"\n"):  # type: ignore[attr-defined]
            assert byte
            word += byte
        return word

    @staticmethod
    def _say(connection: socket.socket, txnr: int, data: bytes) -> None:
        connection.sendall(b"%d rsp %d %b\n" % (txnr, len(data), data))


def sender_for(receiver: Receiver, **changed: object) -> RelpSender:
    return RelpSender(RelpOptions(receiver.address, **{"timeout": 5.0, **changed}))  # type: ignore[arg-type]


def names(count: int, first: int = 0) -> list[str]:
    return [f"boot/{number}" for number in range(first, first + count)]


def test_a_session_from_open_to_close() -> None:
    relp = Relp()
    with Receiver(relp) as receiver:
        sender = sender_for(receiver)
        typed: Sender = sender
        assert typed.acknowledged
        assert sender.send(messages(3)) == ALL_TAKEN
        assert sender.send(messages(2, 3)) == ALL_TAKEN
        sender.close()
        sender.close()
        receiver.join()
    assert relp.commands == ["open", *["syslog"] * 5, "close"]
    assert relp.uids == names(5)
    assert sender.sessions == 1


def test_nothing_to_send_opens_nothing() -> None:
    with Receiver(Relp()) as receiver:
        assert sender_for(receiver).send([]) == ALL_TAKEN
    assert receiver.served == 0


def test_no_more_than_the_window_waits_for_answers() -> None:
    relp = Relp()
    relp.hold = 8
    with Receiver(relp) as receiver:
        sender = sender_for(receiver, window=8)
        assert sender.send(messages(64)) == ALL_TAKEN
        sender.close()
        receiver.join()
    assert (relp.ahead, relp.uids) == (8, names(64))


def test_a_window_that_is_not_answered_is_not_exceeded() -> None:
    relp = Relp(lambda _: None)
    with Receiver(relp) as receiver:
        sender = sender_for(receiver, window=5, timeout=1.0)
        with pytest.raises(Unreachable, match="timed out"):
            sender.send(messages(20))
        receiver.join()
    assert len(relp.uids) == 5


def test_a_message_is_taken_when_all_its_lines_are() -> None:
    relp = Relp(lambda data: b"500 no" if b"type=B" in data else b"200 OK")
    with Receiver(relp) as receiver:
        sender = sender_for(receiver)
        receipt = sender.send([message(0), message(1, b"type=A\ntype=B\ntype=C"), message(2)])
        sender.close()
        receiver.join()
    assert receipt.again == [1]
    assert not receipt.refused
    assert receipt.wait is not None
    assert sender.errors == 1


def test_what_is_answered_with_an_error_three_times_is_refused() -> None:
    relp = Relp(lambda data: b"500 queue full" if b'uid="boot/1"' in data else b"200 OK")
    with Receiver(relp) as receiver:
        sender = sender_for(receiver)
        assert sender.send(messages(3)).again == [1]
        assert sender.send([message(1), message(3)]).again == [0]
        receipt = sender.send([message(4), message(1)])
        assert receipt.again == []
        assert list(receipt.refused) == [1]
        assert "500" in receipt.refused[1]
        assert sender.send([message(1)]).again == [0]  # it is forgotten, and begins anew
        sender.close()
        receiver.join()


def test_an_error_that_passed_is_forgotten() -> None:
    answers = iter([b"500 no", b"500 no", b"200 OK", b"500 no"])
    with Receiver(Relp(lambda _: next(answers))) as receiver:
        sender = sender_for(receiver)
        assert [sender.send(messages(1)) == ALL_TAKEN for _ in range(3)] == [False, False, True]
        assert sender.send(messages(1)).again == [0]
        sender.close()
        receiver.join()


def test_after_a_reset_what_was_not_answered_is_to_be_sent_again() -> None:
    first, second = Relp(), Relp()
    first.break_after = 12
    first.hold = 5
    with Receiver(first, second) as receiver:
        sender = sender_for(receiver, window=12)
        waiting = messages(30)
        receipt = sender.send(waiting)
        # A reset may overtake answers that were sent; what is told to be taken was answered.
        assert receipt.again
        taken = [each.uid for index, each in enumerate(waiting) if index not in receipt.again]
        assert set(taken) <= set(first.uids[:10])
        assert taken
        assert sender.send([waiting[index] for index in receipt.again]) == ALL_TAKEN
        sender.close()
        receiver.join()
    assert set(taken) | set(second.uids) == set(names(30))
    assert sender.sessions == 2


def test_a_reset_before_any_answer_tells_nothing() -> None:
    relp = Relp(lambda _: None)
    relp.break_after = 3
    with Receiver(relp) as receiver:
        sender = sender_for(receiver)
        with pytest.raises(Unreachable):
            sender.send(messages(10))
        receiver.join()


@pytest.mark.parametrize("farewell", [b"0 serverclose 0\n", b""])
def test_a_session_that_was_ended_meanwhile_is_opened_anew(farewell: bytes) -> None:
    first, second = Relp(), Relp()
    if farewell:
        first.farewell = farewell

    def serve_one(connection: socket.socket) -> None:
        if farewell:
            first(connection)
        else:
            first.break_after = 1
            first(connection)

    with Receiver(serve_one, second) as receiver:
        sender = sender_for(receiver)
        if farewell:
            with pytest.raises(Unreachable):
                sender.send(messages(1))
        else:
            sender.send(messages(1))
        wait_for(lambda: receiver.served == 1)
        assert sender.send(messages(1, 1)) == ALL_TAKEN
        sender.close()
        receiver.join()
    assert second.uids == names(1, 1)


@pytest.mark.parametrize(
    ("offers", "why"),
    [
        (b"500 go away", "does not take syslog"),
        (b"200 OK\nrelp_version=0\ncommands=eventlog", "does not take syslog"),
        (b"200 OK", "does not take syslog"),
        (b"OK", "without a code"),
    ],
)
def test_a_receiver_that_does_not_take_syslog(offers: bytes, why: str) -> None:
    with Receiver(Relp(offers=offers)) as receiver, pytest.raises(Unreachable, match=why):
        sender_for(receiver).send(messages(1))


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"x" * 100,
        b"2 rsp 999999999 200 OK",
        b"2 rsp 6 200 OKAY\n",
        b"2 syslog 6 200 OK\n",
        b"7 rsp 6 200 OK\n",
        b"2 rsp 6\n",
        b"2 rsp 2 OK\n",
    ],
)
def test_what_is_no_answer_ends_the_session(said: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"1 rsp %d %b\n" % (len(OFFERS), OFFERS))
        connection.recv(65536)
        connection.sendall(said)
        connection.recv(65536)

    with Receiver(serve) as receiver, pytest.raises(Unreachable, match="RELP"):
        sender_for(receiver).send(messages(1))


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        sender = RelpSender(RelpOptions(f"127.0.0.1:{taken.getsockname()[1]}"))
        with pytest.raises(Unreachable, match="refused"):
            sender.send(messages(1))
        sender.close()


def test_a_uid_that_cannot_be_one_is_refused_and_the_rest_goes_out() -> None:
    relp = Relp()
    with Receiver(relp) as receiver:
        sender = sender_for(receiver)
        receipt = sender.send([message(0), Message("x" * 300, 1.0, "SYSCALL", b""), message(2)])
        sender.close()
        receiver.join()
    assert (list(receipt.refused), list(receipt.again), relp.uids) == ([1], [], ["boot/0", "boot/2"])


def test_over_tls_and_with_no_other_certificate(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    pair = authority.sign("server", "IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    relp = Relp()
    with Receiver(relp, context=context) as receiver:
        sender = sender_for(receiver, tls=True, tls_ca_file=authority.file)
        assert sender.send(messages(200)) == ALL_TAKEN
        assert sender.send(messages(1, 200)) == ALL_TAKEN
        sender.close()
        receiver.join()
    assert relp.uids == names(201)
    assert sender.sessions == 1
    with (
        Receiver(relp, context=context) as receiver,
        pytest.raises(Unreachable, match="certificate was refused"),
    ):
        sender_for(receiver, tls=True, tls_ca_file=other.file).send(messages(1))


def test_numbers_of_transactions_begin_again_at_one() -> None:
    relp = Relp()
    with Receiver(relp) as receiver:
        sender = sender_for(receiver)
        sender.send(messages(1))
        assert sender._held.session is not None
        sender._held.session._txnr = 999_999_998
        assert sender.send(messages(3, 1)) == ALL_TAKEN
        assert sender._held.session._txnr == 2
        sender.close()
        receiver.join()


@pytest.mark.parametrize(
    "changed",
    [{"window": 0}, {"max_length": (128 << 10) + 1}, {"tls_ca_file": "ca.pem"}, {"address": "nowhere"}],
)
def test_options_that_cannot_be(changed: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        RelpSender(RelpOptions(**{"address": "127.0.0.1:1", **changed}))  # type: ignore[arg-type]
    assert caught.value.hint


# Frames


@given(st.lists(st.binary(max_size=60), max_size=6), st.integers(1, 20))
def test_frames_come_out_as_they_went_in_however_they_are_cut(bodies: list[bytes], step: int) -> None:
    stream = b"".join(
        b"%d rsp %d%b%b\n" % (number, len(body), b" " if body else b"", body)
        for number, body in enumerate(bodies)
    )
    frames = Frames()
    found = [
        frame for start in range(0, len(stream), step) for frame in frames.feed(stream[start : start + step])
    ]
    assert found == [Frame(number, b"rsp", body) for number, body in enumerate(bodies)]


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_hostile_bytes_are_frames_or_an_error_and_never_kept_without_end(pieces: list[bytes]) -> None:
    frames = Frames()
    try:
        for piece in pieces:
            for frame in frames.feed(piece):
                assert isinstance(frame, Frame)
    except ProtocolError:
        pass
    else:
        assert len(frames._held) <= 9000
