# SPDX-License-Identifier: Apache-2.0
"""NATS without a server: files, what an acknowledgement means, and a server that is none.

What it shares with Kafka is in test_delivery_clusters.py, what a real server does in tests/delivery/test_nats.py.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from enricher.errors import ConfigInvalid
from enricher.runtime.collect import stream
from enricher.sinks.delivery.jetstream import NatsOptions, NatsSender
from enricher.sinks.delivery.message import Unreachable
from tests.unit.fake_receivers import Receiver, messages

HOST = "0123456789abcdef0123456789abcdef"


def test_a_file_that_has_no_credentials_is_said_without_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "x.creds"
    path.write_text("s3cret")
    with pytest.raises(ConfigInvalid, match=r"it is no \.creds file") as raised:
        NatsSender(NatsOptions("127.0.0.1:1", creds_file=str(path)), HOST)
    assert "s3cret" not in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize(
    "machine_id, wanted", [(HOST, HOST), ("", "unknown"), ("a.b", "unknown"), ("*", "unknown")]
)
def test_the_subject_has_the_host_in_it(machine_id: str, wanted: str) -> None:
    assert NatsSender(NatsOptions("127.0.0.1:1"), machine_id)._subject == f"audit.events.{wanted}"
    assert NatsSender(NatsOptions("127.0.0.1:1", subject="a.b"), machine_id)._subject == "a.b"


@pytest.mark.parametrize(
    "data, said",
    [
        ({"stream": "AUDIT", "seq": 7}, ""),
        ({"stream": "AUDIT", "seq": 7, "duplicate": True}, ""),
        ({"stream": "OTHER", "seq": 7}, "acknowledges nothing"),
        ({"stream": "AUDIT"}, "acknowledges nothing"),
        ({"stream": "AUDIT", "seq": "7"}, "acknowledges nothing"),
        ({"error": {"code": 400, "err_code": 10060, "description": "x"}}, "belongs to another stream"),
        ({"error": {"description": "no\x1b[31m"}}, "no [31m"),
        ({"error": {}}, "it does not say why"),
        ({}, "acknowledges nothing"),
        ([], "acknowledges nothing"),
        (None, "acknowledges nothing"),
    ],
)
def test_what_an_acknowledgement_means(data: object, said: str) -> None:
    sender = NatsSender(NatsOptions("127.0.0.1:1"), HOST)
    answer = SimpleNamespace(headers=None, data=json.dumps(data).encode())
    found = sender._meaning(answer)[1]  # type: ignore[arg-type]
    assert (said in found) if said else not found
    for hostile in (b"", b"\xff", b"[" * 100_000):
        answer.data = hostile
        assert sender._meaning(answer)[1]  # type: ignore[arg-type]


def says(words: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(words)


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"INFO {\r\n",
        b"INFO []\r\n",
        b"INFO {}\r\n-ERR 'no'\r\n",
        b"INFO {}\r\nPONG\r\n\x00\xff\r\n",
        b"INFO {}\r\nPONG\r\nMSG x y z\r\n",
        b"x" * 100_000,
    ],
)
def test_a_server_that_is_none_is_an_error(words: bytes) -> None:
    with Receiver(says(words), says(words), says(words)) as receiver:
        sender = NatsSender(NatsOptions(receiver.address, timeout=1.0), HOST)
        with pytest.raises(Unreachable) as raised:
            sender.send(messages(2))
        assert raised.value.message.startswith(receiver.address)
        assert raised.value.message.isprintable()
        sender.close()


def test_all_servers_are_tried_and_each_error_is_said() -> None:
    with socket.socket() as first, socket.socket() as second:
        for held in (first, second):
            held.bind(("127.0.0.1", 0))  # and nobody listens
        addresses = [f"127.0.0.1:{held.getsockname()[1]}" for held in (first, second)]
        sender = NatsSender(NatsOptions(", ".join(addresses)), HOST)
        with pytest.raises(Unreachable) as raised:
            sender.send(messages(1))
        sender.close()
    assert all(f"{address}: Connection refused" in raised.value.message for address in addresses)


def test_a_collector_leaves_a_server_that_says_nothing_to_its_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as it tries: else each try leaves a connection behind."""
    monkeypatch.setattr(stream, "_CONNECT", 0.3)
    closed = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(30)
                connection.sendall(b'INFO {"max_payload":1048576}\r\n')
                while connection.recv(4096):
                    pass
                closed.set()

        thread = threading.Thread(target=serve)
        thread.start()
        options = NatsOptions(f"127.0.0.1:{server.getsockname()[1]}")

        async def connect() -> None:
            with pytest.raises(TimeoutError):
                await stream.Stream(options)._connect()
            assert await asyncio.to_thread(closed.wait, 20)  # while the loop is there, whose end closes all

        asyncio.run(connect())
        thread.join(20)
