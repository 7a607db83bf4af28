# SPDX-License-Identifier: Apache-2.0
"""Fluent Forward: chunks and acknowledgements, the handshake, breaks, a receiver that says what it should not."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.errors import ConfigInvalid, UsageError
from enricher.sinks.delivery import forward_wire
from enricher.sinks.delivery.forward import ForwardOptions, ForwardSender
from enricher.sinks.delivery.message import ALL_TAKEN, Message, Sender, Unreachable
from tests.certificates import Authority
from tests.unit.fake_forward import Forward, seconds
from tests.unit.fake_receivers import Receiver

TIME = 1_700_000_000.123


def message(number: int, body: bytes = b"") -> Message:
    body = body or b'{"uid":"boot/%d","n":%d}' % (number, number)
    return Message(f"boot/{number}", TIME + number, "SYSCALL", body, number, 1)


def messages(count: int, first: int = 0) -> list[Message]:
    return [message(number) for number in range(first, first + count)]


def names(count: int, first: int = 0) -> list[str]:
    return [f"boot/{number}" for number in range(first, first + count)]


def sender_for(receiver: Receiver, **changed: object) -> ForwardSender:
    return ForwardSender(ForwardOptions(receiver.address, **{"timeout": 5.0, "ack_timeout": 5.0, **changed}))  # type: ignore[arg-type]


def secret(directory: Path, text: str, name: str = "key") -> str:
    path = directory / name
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_events_arrive_once_with_their_times_and_their_members() -> None:
    forward = Forward()
    with Receiver(forward) as receiver:
        sender = sender_for(receiver, tag="host.audit")
        typed: Sender = sender
        assert typed.acknowledged
        assert sender.send(messages(3)) == ALL_TAKEN
        assert sender.send(messages(2, 3)) == ALL_TAKEN
        sender.close()
        sender.close()
        receiver.join()
    assert forward.uids == names(5)
    assert [record["n"] for record in forward.records] == [0, 1, 2, 3, 4]
    assert forward.times == pytest.approx([TIME + number for number in range(5)], abs=1e-6)
    assert set(forward.tags) == {"host.audit"}
    assert (sender.sessions, sender.chunks) == (1, 2)
    assert len({option["chunk"] for option in forward.options}) == 2


def test_nothing_to_send_opens_nothing() -> None:
    with Receiver(Forward()) as receiver:
        assert sender_for(receiver).send([]) == ALL_TAKEN
    assert receiver.served == 0


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_chunk_has_as_many_bytes_as_it_may_and_a_larger_event_goes_alone(compression: str) -> None:
    forward = Forward()
    large = message(9, b'{"uid":"boot/9","x":"%b"}' % (b"x" * 500))
    with Receiver(forward) as receiver:
        sender = sender_for(receiver, compression=compression, batch_bytes=120)
        assert sender.send([*messages(9), large, *messages(3, 10)]) == ALL_TAKEN
        sender.close()
        receiver.join()
    assert forward.uids == names(13)
    assert [size for size in forward.sizes if size > 120] == [max(forward.sizes)]
    assert len(forward.sizes) > 3
    assert {option.get("compressed") for option in forward.options} == {
        None if compression == "none" else compression
    }


def test_acknowledgements_in_another_order_are_found_by_their_chunks() -> None:
    forward = Forward()
    forward.hold = 4
    with Receiver(forward) as receiver:
        sender = sender_for(receiver, batch_bytes=1)
        assert sender.send(messages(4)) == ALL_TAKEN
        sender.close()
        receiver.join()
    assert sender.chunks == 4


def test_what_was_acknowledged_before_a_break_is_not_sent_again() -> None:
    forward, second = Forward(), Forward()
    forward.break_after = 2
    with Receiver(forward, second) as receiver:
        sender = sender_for(receiver, batch_bytes=1)
        # A reset may take what was acknowledged and not read yet with it: then nothing is known of anything.
        try:
            left = list(sender.send(messages(5)).again)
        except Unreachable:
            left = list(range(5))
        assert left == list(range(left[0], 5))
        assert left[0] <= 2
        assert sender.send([message(number) for number in left]) == ALL_TAKEN
        sender.close()
        receiver.join()
    assert set(forward.uids + second.uids) == set(names(5))
    assert second.uids == names(5)[left[0] :]


def test_a_chunk_that_is_not_acknowledged_is_not_taken() -> None:
    with Receiver(Forward(answer=lambda _: None)) as receiver:
        sender = sender_for(receiver, ack_timeout=0.2)
        with pytest.raises(Unreachable, match="timed out"):
            sender.send(messages(3))
        receiver.join()


def test_chunks_that_come_after_one_without_acknowledgement_are_taken() -> None:
    forward = Forward()
    forward.answer = lambda chunk: None if len(forward.options) == 2 else {"ack": chunk}
    with Receiver(forward) as receiver:
        sender = sender_for(receiver, ack_timeout=1.0, batch_bytes=1)
        assert list(sender.send(messages(4)).again) == [1]
        receiver.join()


@pytest.mark.parametrize(
    "answer",
    [
        {"ack": "AAAAAAAAAAAAAAAAAAAAAA=="},
        {"ack": 7},
        {"nack": "x"},
        {},
        [],
        7,
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 5000,
        b"\x81\x90\x90",
        b"\xdb\x00\x00\xff\xff" + b"x" * 20_000,
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_an_answer_that_is_none_is_an_error_and_the_connection_is_left(answer: object) -> None:
    second = Forward()
    with Receiver(Forward(answer=lambda _: answer), second) as receiver:
        sender = sender_for(receiver, ack_timeout=2.0)
        with pytest.raises(Unreachable) as raised:
            sender.send(messages(2))
        assert raised.value.message.isprintable()
        assert sender.send(messages(2)) == ALL_TAKEN
        sender.close()
        receiver.join()
    assert second.uids == names(2)


def test_a_receiver_that_has_closed_costs_nothing() -> None:
    first, second = Forward(keepalive=False), Forward()
    with Receiver(first, second) as receiver:
        sender = sender_for(receiver)
        assert sender.send(messages(1)) == ALL_TAKEN
        while sender._held.alive():
            pass
        assert sender.send(messages(1, 1)) == ALL_TAKEN
        sender.close()
        receiver.join()
    assert (first.uids, second.uids) == (names(1), names(1, 1))
    assert sender.sessions == 2


def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "forward.sock")
    forward = Forward()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as connection:
                forward(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        sender = ForwardSender(ForwardOptions(path))
        assert sender.send(messages(3)) == ALL_TAKEN
        sender.close()
        thread.join(10)
    assert forward.uids == names(3)


def test_a_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    path = str(tmp_path / "nothing.sock")
    with pytest.raises(Unreachable, match=f"cannot connect to {path}: No such file"):
        ForwardSender(ForwardOptions(path)).send(messages(1))


def test_tls_and_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign("server", "IP:127.0.0.1")
    other = Authority(tmp_path, "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    forward = Forward(shared=b"s3cret")
    keys = {"shared_key_file": secret(tmp_path, "s3cret"), "hostname": "us"}
    with Receiver(forward, context=context) as receiver:
        sender = sender_for(receiver, tls=True, tls_ca_file=authority.file, **keys)
        assert sender.send(messages(3)) == ALL_TAKEN
        assert sender.send(messages(3, 3)) == ALL_TAKEN
        sender.close()
        receiver.join()
    assert (forward.uids, sender.sessions) == (names(6), 1)
    with (
        Receiver(Forward(), context=context) as receiver,
        pytest.raises(Unreachable, match="its certificate was refused"),
    ):
        sender_for(receiver, tls=True, tls_ca_file=other.file).send(messages(1))


# -- the handshake -----------------------------------------------------------------------------------


def test_a_shared_key_and_a_user(tmp_path: Path) -> None:
    forward = Forward(shared=b"s3cret", users={"joe": b"pass word"})
    with Receiver(forward) as receiver:
        sender = sender_for(
            receiver,
            shared_key_file=secret(tmp_path, "s3cret\n"),
            username="joe",
            password_file=secret(tmp_path, "pass word\n", "password"),
        )
        assert sender.send(messages(3)) == ALL_TAKEN
        sender.close()
        receiver.join()
    assert (forward.uids, sender.advice) == (names(3), "")


def test_a_receiver_that_closes_after_each_chunk_is_given_one_at_a_time(tmp_path: Path) -> None:
    served = [Forward(shared=b"s3cret", keepalive=False) for _ in range(3)]
    with Receiver(*served) as receiver:
        sender = sender_for(receiver, shared_key_file=secret(tmp_path, "s3cret"), batch_bytes=1)
        assert sender.send(messages(3)) == ALL_TAKEN
        receiver.join()
    assert [each.uids for each in served] == [[name] for name in names(3)]


def refusals() -> list[tuple[str, Callable[[Path], Forward], dict[str, str], str]]:
    def impostor(_: Path) -> Forward:
        found = Forward(shared=b"s3cret")
        found.pong_name = b"another"  # the digest is of another name
        return found

    def ourselves(_: Path) -> Forward:
        found = Forward(shared=b"s3cret")
        found.pong_name = found.name = b"us"
        return found

    return [
        ("wrong key", lambda _: Forward(shared=b"other"), {}, "does not let us in: shared key mismatch"),
        ("impostor", impostor, {}, "does not know the shared key"),
        ("ourselves", ourselves, {}, "it has our own name: set hostname"),
        ("user", lambda _: Forward(shared=b"s3cret", users={}), {}, "set username and password_file"),
        (
            "password",
            lambda _: Forward(shared=b"s3cret", users={"joe": b"x"}),
            {"username": "joe"},
            "username/password mismatch",
        ),
    ]


@pytest.mark.parametrize(
    "make, more, why", [each[1:] for each in refusals()], ids=[each[0] for each in refusals()]
)
def test_who_is_not_let_in_sends_nothing(
    make: Callable[[Path], Forward], more: dict[str, str], why: str, tmp_path: Path
) -> None:
    forward = make(tmp_path)
    if more:
        more = {**more, "password_file": secret(tmp_path, "wrong", "password")}
    with Receiver(forward) as receiver:
        sender = sender_for(receiver, shared_key_file=secret(tmp_path, "s3cret"), hostname="us", **more)
        with pytest.raises(Unreachable, match=why) as raised:
            sender.send(messages(2))
        assert "s3cret" not in raised.value.message
        receiver.join()
    assert forward.records == []


@pytest.mark.parametrize(
    "said",
    [
        ["HELO"],
        ["HELO", 7],
        ["HELO", {}],
        ["HELO", {"nonce": 7}],
        ["EHLO", {"nonce": b"x"}],
        {},
        b"\xc1",
        msgpack.packb(["HELO", {"nonce": b"x"}]) * 2,
        b"",
    ],
)
def test_a_hello_that_is_none(said: object, tmp_path: Path) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(said if isinstance(said, bytes) else msgpack.packb(said))

    with Receiver(serve) as receiver:
        sender = sender_for(receiver, shared_key_file=secret(tmp_path, "s3cret"), timeout=0.5)
        with pytest.raises(Unreachable):
            sender.send(messages(1))


@pytest.mark.parametrize(
    "said", [["PONG"], ["PONG", 1, "", "x", "y"], ["PONG", True, "", 7, 7], {}, ["PONG", False, 7, 7, 7]]
)
def test_a_pong_that_is_none(said: object) -> None:
    helo = forward_wire.Helo(b"n", b"", keepalive=True)
    keys = forward_wire.Keys("us", "s3cret", "", "")
    heard = msgpack.unpackb(msgpack.packb(said), raw=True)
    with pytest.raises(forward_wire.ProtocolError):
        forward_wire.check_pong(heard, helo, keys, "salt")


def test_a_receiver_that_wants_a_key_where_there_is_none() -> None:
    with Receiver(Forward(shared=b"s3cret")) as receiver:
        sender = sender_for(receiver)
        with pytest.raises(Unreachable, match="name the file in shared_key_file"):
            sender.send(messages(1))


# -- bytes -------------------------------------------------------------------------------------------


def entry(body: bytes) -> object:
    time, record = msgpack.unpackb(forward_wire.entry(message(1, body)))
    assert seconds(time) == pytest.approx(TIME + 1, abs=1e-6)
    return record


@pytest.mark.parametrize(
    "body",
    [
        b"type=SYSCALL msg=audit(1.2:3): a=1\ntype=EOE",
        b"CEF:0|x",
        b"{not json",
        b'{"n":' + b"9" * 30 + b"}",
        b'{"n":"\\ud800"}',
        b'{"n":' + b"[" * 100_000,
        b"\xff\xfe",
        b"",
    ],
)
def test_what_is_no_record_goes_as_text_beside_its_uid(body: bytes) -> None:
    assert entry(body or b" ") == {"message": (body or b" ").decode(errors="replace"), "uid": "boot/1"}


@given(
    st.dictionaries(st.text(), st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text())
)
def test_an_object_is_the_record_itself(given_: dict[str, object]) -> None:
    import json

    body = json.dumps(given_).encode("utf-8", "surrogatepass")
    record = msgpack.unpackb(forward_wire.entry(message(1, body)))[1]
    if "message" not in record or "message" in given_:
        assert record == given_


@pytest.mark.parametrize(
    "time, wanted", [(0.0, 0.0), (-5.0, 0.0), (1e30, float(2**32 - 1)), (1.9999999, 2.0), (TIME, TIME)]
)
def test_times_are_those_that_eventtime_can_hold(time: float, wanted: float) -> None:
    assert seconds(forward_wire.event_time(time)) == pytest.approx(wanted, abs=1e-6)


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(1, 9))
def test_any_bytes_are_read_or_refused_and_hold_no_more_than_they_may(parts: list[bytes], step: int) -> None:
    said = b"".join(parts)
    answers = forward_wire.Answers()
    try:
        for at in range(0, len(said), step):
            list(answers.feed(said[at : at + step]))
    except forward_wire.ProtocolError:
        pass


# -- options -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more, why",
    [
        ({"tls_ca_file": "/x"}, "tls: there are options of TLS without it"),
        ({"username": "joe"}, "username: there is no password_file"),
        ({"password_file": "/x"}, "password_file: there is no username"),
        ({"username": "joe", "password_file": "/x"}, "username: there is no shared_key_file"),
        ({"tls": True, "address": "/run/x"}, "tls: a Unix socket has no TLS"),
        ({"address": "/" + "x" * 200}, "is no path of a Unix socket"),
        ({"address": "nowhere"}, "is no address of a receiver"),
    ],
)
def test_options_that_do_not_go_together(more: dict[str, object], why: str) -> None:
    with pytest.raises(UsageError) as raised:
        ForwardSender(ForwardOptions(**{"address": "127.0.0.1:1", **more}))  # type: ignore[arg-type]
    assert why in raised.value.message
    assert raised.value.hint


def test_a_key_that_cannot_be_read_is_told_at_the_start_with_its_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"shared_key_file: .*/none: No such file"):
        ForwardSender(ForwardOptions("127.0.0.1:1", shared_key_file=str(tmp_path / "none")))
    with pytest.raises(ConfigInvalid, match="shared_key_file: key: systemd gave no credentials"):
        ForwardSender(ForwardOptions("127.0.0.1:1", shared_key_file="key"))
    (tmp_path / "key").write_text("s3cret")
    (tmp_path / "key").chmod(0o644)
    sender = ForwardSender(ForwardOptions("127.0.0.1:1", shared_key_file=str(tmp_path / "key")))
    assert sender.advice.endswith("can be read by everyone")
