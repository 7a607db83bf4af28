# SPDX-License-Identifier: Apache-2.0
"""Every fault of a receiver, in every protocol over HTTP: all is there in the end, and no error tells a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from enricher.sinks.delivery.message import Unreachable
from tests.delivery.driver import deliver
from tests.delivery.protocols import PROTOCOLS, Protocol, uids
from tests.delivery.receivers.base import Fault, mixed, status

SECRET = "s3cr3t-T0ken-5f0a"  # noqa: S105 - made up
every = pytest.mark.parametrize("protocol", PROTOCOLS, ids=[protocol.name for protocol in PROTOCOLS])

FAULTS: dict[str, tuple[Fault, str]] = {
    "429": (status(429), "takes nothing now (429"),
    "429 with a time": (status(429, "7"), "takes nothing now (429"),
    "503": (status(503), "takes nothing now (503"),
    "503 with a page": (status(503, "7", b"<html>" + SECRET.encode()), "takes nothing now (503"),
    "504": (status(504), "takes nothing now (504"),
    "reset": (Fault("reset"), "connection reset by peer"),
    "reset in mid-answer": (Fault("reset", taken=True), "connection reset by peer|answer is cut"),
    "closed": (Fault("close"), "closed the connection without an answer"),
    "closed and taken": (Fault("close", taken=True), "closed the connection without an answer"),
    "cut JSON": (Fault("cut", taken=True), "the answer is damaged"),
    "short": (Fault("short", taken=True), "the answer is cut"),
    "garbage": (Fault("garbage", taken=True), "the answer is damaged"),
    "a page": (Fault("html"), "the answer is text/html, not JSON"),
    "drip": (Fault("drip", taken=True), "the time for a batch is over"),
    "stall": (Fault("stall", taken=True), "no byte of an answer in the time for it"),
    "endless": (Fault("endless", taken=True), "the answer does not end"),
    "header bomb": (Fault("bomb"), "its answer is not HTTP"),
    "compressed": (Fault("packed", taken=True), "compressed, which was not asked for"),
    "deep": (Fault("deep", taken=True), "the answer is damaged"),
    "redirect": (Fault("status", 302, {"Location": "http://127.0.0.1:9/"}), "302"),
}

TIMES = {"drip": {"timeout": 1.0}, "stall": {"read_timeout": 0.5}}
"""Short only where time is the fault: a busy machine must not be one."""


@every
@pytest.mark.parametrize("name", FAULTS)
def test_after_a_fault_all_is_there(protocol: Protocol, name: str, tmp_path: Path) -> None:
    fault, words = FAULTS[name]
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    waiting = protocol.messages(30)
    # HEC's second request asks for acknowledgements, its third has events again.
    with protocol.receiver([None, None, fault] if protocol.name == "hec" else [None, fault]) as receiver:
        receiver.authorization = protocol.authorization(SECRET)
        sender = protocol.sender(
            receiver.url, batch=10, credential_file=str(secret), **TIMES.get(name, {"timeout": 60})
        )
        done = deliver(sender, waiting)
        sender.close()
        sender.close()
    assert receiver.uids == uids(waiting)
    assert not done.refused
    assert done.waits == ([7.0] if "Retry-After" in fault.headers else [])
    said = [error.message for error in done.errors]
    assert any(word in message for word in words.split("|") for message in said), said
    assert [error for error in done.errors if SECRET in error.message + error.hint] == []


@every
def test_a_mix_of_faults(protocol: Protocol) -> None:
    waiting = protocol.messages(500)
    with protocol.receiver(mixed(7, 0.4)) as receiver:
        sender = protocol.sender(receiver.url, batch=20)
        done = deliver(sender, waiting)
        sender.close()
    assert receiver.uids == uids(waiting)
    assert done.errors
    assert not done.refused
    assert done.unnamed == 0


@every
def test_one_connection_for_all(protocol: Protocol) -> None:
    with protocol.receiver() as receiver:
        sender = protocol.sender(receiver.url, batch=10)
        deliver(sender, protocol.messages(100))
        sender.close()
    assert receiver.connections == 1
    assert set(receiver.taken.values()) == {1}


@every
def test_too_large_is_split_and_remembered(protocol: Protocol) -> None:
    body = b'{"n":%d,"uid":"uid-%d","fill":"' + b"x" * 9000 + b'"}'
    waiting = protocol.messages(64)
    if protocol.name != "otlp":
        waiting = [message._replace(body=body % (place, place)) for place, message in enumerate(waiting)]
    else:
        waiting = [
            message._replace(body=message.body.replace(b'"x"', b'"%b"' % (b"x" * 9000)))
            for message in waiting
        ]
    with protocol.receiver(most=200_000) as receiver:
        sender = protocol.sender(receiver.url, compression="none", batch=64)
        first = deliver(sender, waiting[:32])
        refusals = receiver.statuses[413]
        assert refusals
        assert sender.limit < 200_000
        deliver(sender, waiting[32:])
        sender.close()
    assert receiver.statuses[413] == refusals
    assert receiver.uids == uids(waiting)
    assert not first.refused
    # The receiver closes with the body unread: that may be seen before the answer has been read, in each of these ways.
    unread = ("connection reset by peer", "broken pipe", "closed the connection without an answer")
    others = [error.message for error in first.errors if not any(word in error.message for word in unread)]
    assert others == []


@every
def test_one_too_large_alone_is_refused(protocol: Protocol) -> None:
    waiting = protocol.messages(8)
    big = b'{"fill":"' + b"x" * 300_000 + b'"}'
    waiting[3] = waiting[3]._replace(body=big)
    with protocol.receiver(most=200_000) as receiver:
        sender = protocol.sender(receiver.url, compression="none")
        done = deliver(sender, waiting)
        sender.close()
    assert list(done.refused) == ["uid-3"]
    assert "413" in done.refused["uid-3"]
    assert receiver.uids == uids(waiting) - {"uid-3"}


@every
def test_a_credential_that_is_refused_is_read_again(protocol: Protocol, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    with protocol.receiver() as receiver:
        receiver.authorization = protocol.authorization("another")
        sender = protocol.sender(receiver.url, credential_file=str(secret))
        with pytest.raises(Unreachable) as caught:
            sender.send(protocol.messages(1))
        assert "the credential is refused" in caught.value.message
        assert str(secret) in caught.value.hint
        assert SECRET not in caught.value.message
        assert "***" in caught.value.message or protocol.name == "otlp"
        secret.write_text("another\n")
        sender.send(protocol.messages(1))
        sender.close()
    assert receiver.uids == {"uid-0"}


@every
def test_nobody_listens(protocol: Protocol) -> None:
    with protocol.receiver() as receiver:
        url = receiver.url
    sender = protocol.sender(url)
    with pytest.raises(Unreachable, match="connection refused") as caught:
        sender.send(protocol.messages(1))
    assert caught.value.wait is None
    assert caught.value.exit_code == 9


@every
def test_what_is_known_of_a_batch_is_kept_when_the_rest_fails(protocol: Protocol) -> None:
    """The second request of a batch fails: the first one's messages are not sent again."""
    with protocol.receiver([None, status(503, "3")]) as receiver:
        sender = protocol.sender(receiver.url, batch_bytes=400)
        waiting = protocol.messages(10)
        receipt = sender.send(waiting)
        assert receipt.wait == 3.0
        assert 0 < len(receipt.again) < 10
        deliver(sender, [waiting[place] for place in receipt.again])
        sender.close()
    assert set(receiver.taken.values()) == {1}
    assert receiver.uids == uids(waiting)


@every
def test_the_wrong_address_refuses_no_message(protocol: Protocol) -> None:
    """A receiver that refuses everything from the start is not what we think it is."""
    with protocol.receiver(status(400) for _ in range(500)) as receiver:
        sender = protocol.sender(receiver.url)
        with pytest.raises(Unreachable, match=r"refuses everything|no event collector|HEC code"):
            sender.send(protocol.messages(100))
        assert len(receiver.requests) <= 32
        with pytest.raises(Unreachable):
            sender.send(protocol.messages(1))
        sender.close()


@every
def test_a_refusal_is_read_though_the_receiver_read_nothing(protocol: Protocol) -> None:
    """It answers 413 and hangs up while we are sending: a reset, and behind it the answer."""
    waiting = protocol.messages(1)
    waiting[0] = waiting[0]._replace(body=b'{"fill":"' + b"x" * (24 << 20) + b'"}')
    with protocol.receiver(most=1000) as receiver:
        sender = protocol.sender(receiver.url, compression="none")
        for _ in range(5):
            receipt = sender.send(waiting)
            assert receipt.refused[0].startswith("413")
        sender.close()
    assert receiver.statuses[413] == 5
