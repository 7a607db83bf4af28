# SPDX-License-Identifier: Apache-2.0
"""Whatever a receiver answers: a receipt that adds up, or Unreachable."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enricher.sinks.delivery.http import Client, Reply
from enricher.sinks.delivery.http_batches import Item, Outcome, WholeRefused
from enricher.sinks.delivery.message import Unreachable
from tests.delivery.protocols import PROTOCOLS, Protocol

every = pytest.mark.parametrize("protocol", PROTOCOLS, ids=[protocol.name for protocol in PROTOCOLS])

WORDS = (
    "items create status error type reason code text ackId acks invalid-event-number partialSuccess"
    " rejectedLogRecords errorMessage message 0"
).split()
STATUSES = [200, 201, 204, 302, 400, 401, 403, 404, 408, 409, 413, 418, 429, 500, 503, 999]
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, 2, 6, 9, 200, 201, 400, 409, 429, 1 << 70, -1]),
    st.floats(),
    st.sampled_from(["0", "1", "2", "\ud800", "\x1b[2J", "1" * 400]),
    st.text(max_size=5),
)
documents = st.dictionaries(
    st.sampled_from(WORDS),
    st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(WORDS), inner, max_size=3)
        ),
        max_leaves=12,
    ),
    max_size=5,
)


@every
@given(document=documents, status=st.sampled_from(STATUSES), count=st.integers(1, 2))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json(protocol: Protocol, document: dict[str, object], status: int, count: int) -> None:
    """As the whole answer, and where items are told one by one as each item."""
    sender = protocol.sender("http://127.0.0.1:9")
    items = [Item(place, b"{}") for place in range(count)]
    for answer in (document, {"items": [document] * count}, {"items": [{"create": document}] * count}):
        outcome = Outcome()
        reply = Reply(status, {"content-type": "application/json"}, json.dumps(answer).encode())
        try:
            rest = sender.read(reply, items, outcome)
        except (Unreachable, WholeRefused) as error:
            assert str(error).encode()  # noqa: PT017 - either way is right
            assert not outcome.refused
            assert not outcome.again
            continue
        left = sorted([*outcome.refused, *outcome.again, *(item.place for item in rest)])
        assert len(set(left)) == len(left)
        assert len(left) + outcome.taken + outcome.asked + outcome.unnamed == count
        assert "".join(outcome.refused.values()).isprintable()
        assert outcome.why.isprintable()


@every
@given(document=documents)
@settings(max_examples=100, deadline=None)
def test_any_acknowledgement(protocol: Protocol, document: dict[str, object]) -> None:
    """HEC's answers to questions; what the others make of a first answer like this is tested above."""
    sender = protocol.sender("http://127.0.0.1:9")
    reply = Reply(
        200, {"content-type": "application/json"}, json.dumps({"acks": document, **document}).encode()
    )

    class Answered(Client):
        def __init__(self) -> None:
            """Nothing is sent."""

        def post(self, *_: object) -> Reply:
            return reply

    fake = Answered()
    fake.__dict__ |= sender.client.__dict__
    sender.client = fake
    messages = protocol.messages(2)
    with contextlib.suppress(Unreachable):
        receipt = sender.send(messages)
        assert {*receipt.refused, *receipt.again} <= {0, 1}
        assert str(receipt.refused).encode()


@pytest.fixture(scope="module")
def raw() -> object:
    """A server that answers every connection with these bytes, and their setting."""
    answer = [b""]
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(5)
                    connection.recv(1 << 20)
                    connection.sendall(answer[0])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield answer, f"http://127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    server.close()


HEAD = b"HTTP/1.1 200 OK\r\n"
starts = st.sampled_from(
    [
        b"",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        HEAD,
        HEAD + b"Content-Type: application/json\r\nContent-Length: 7\r\n\r\n",
        HEAD + b"Content-Length: -5\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
        b"HTTP/9.9 abc\r\n\r\n",
        HEAD + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b",
        HEAD + b": x\r\n folded\r\n\r\n",
    ]
)


@every
@given(start=starts, rest=st.binary(max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes(protocol: Protocol, raw: tuple[list[bytes], str], start: bytes, rest: bytes) -> None:
    answer, url = raw
    answer[0] = start + rest
    sender = protocol.sender(url, timeout=5.0)
    with pytest.raises(Unreachable) as caught:
        sender.send(protocol.messages(1))
    assert caught.value.message.isprintable()
    sender.close()
