# SPDX-License-Identifier: Apache-2.0
"""Syslog over sockets: framing, breaks and what they may have lost, TLS that does not give way."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from enricher.errors import UsageError
from enricher.sinks.delivery import connection as connections
from enricher.sinks.delivery.connection import Connection, address_of
from enricher.sinks.delivery.message import ALL_TAKEN, Message, Receipt, Sender, Unacknowledged, Unreachable
from enricher.sinks.delivery.syslog import SyslogOptions, SyslogSender
from tests.certificates import Authority
from tests.unit.fake_receivers import (
    SECONDS,
    Receiver,
    message,
    messages,
    octet_counted,
    read_all,
    reset,
    wait_for,
)

UID = re.compile(rb' uid="([^"]*)"')


def sender_for(address: str, transport: str = "tcp", **changed: object) -> SyslogSender:
    options = {"address": address, "transport": transport, "timeout": 5.0, **changed}
    return SyslogSender(SyslogOptions(**options))  # type: ignore[arg-type]


def uids(data: bytes) -> list[str]:
    return [found[1].decode() for each in octet_counted(data) if (found := UID.search(each))]


def names(count: int, first: int = 0) -> list[str]:
    return [f"boot/{number}" for number in range(first, first + count)]


def stand_still(done: threading.Event) -> None:
    done.wait(SECONDS)


class Keeper:
    """Serves connections by reading all of it."""

    def __init__(self) -> None:
        self.data: list[bytes] = []

    def __call__(self, connection: socket.socket) -> None:
        self.data.append(read_all(connection))


def test_it_is_a_sender_that_is_not_acknowledged() -> None:
    sender: Sender = sender_for("127.0.0.1:1")
    assert isinstance(sender, Unacknowledged)
    assert not sender.acknowledged


def test_tcp_counts_octets_so_that_no_byte_ends_a_message() -> None:
    keeper = Keeper()
    with Receiver(keeper) as receiver:
        sender = sender_for(receiver.address)
        hostile = Message("u", 1.0, "SYSCALL", b"a\x00b\r<1>1 - - 99 x\xff")
        assert sender.send([hostile, message(1)]) == ALL_TAKEN
        sender.close()
        receiver.join()
    first, second = octet_counted(keeper.data[0])
    assert first.endswith(b"] a\x00b\r<1>1 - - 99 x\xff")
    assert second.endswith(b'uid="boot/1"] {"a":1}')
    assert sender.unsure() == 0


def test_what_cannot_be_written_is_refused_and_the_rest_goes_out() -> None:
    keeper = Keeper()
    with Receiver(keeper) as receiver:
        sender = sender_for(receiver.address)
        receipt = sender.send([message(1), Message("x" * 300, 1.0, "SYSCALL", b""), message(2)])
        sender.close()
        receiver.join()
    assert (list(receipt.refused), receipt.again) == ([1], ())
    assert uids(keeper.data[0]) == ["boot/1", "boot/2"]


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        sender = sender_for(f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(Unreachable, match="Connection refused"):
            sender.send(messages(1))
    assert sender.unsure() == 0
    sender.close()


def test_a_peer_that_has_closed_is_noticed_before_anything_is_written() -> None:
    """The second batch is not written into a connection that nobody reads, and the first is counted."""
    keeper = Keeper()

    def close_at_once(connection: socket.socket) -> None:
        connection.recv(65536)

    with Receiver(close_at_once, keeper) as receiver:
        sender = sender_for(receiver.address)
        sender.send(messages(3))
        wait_for(lambda: receiver.served == 1)
        with pytest.raises(Unreachable, match="has closed the connection"):
            sender.send(messages(2, first=3))
        assert sender.unsure() == 3
        assert sender.unsure() == 0
        assert sender.send(messages(2, first=3)) == ALL_TAKEN
        sender.close()
        receiver.join()
    assert uids(keeper.data[0]) == names(2, first=3)
    assert sender.unsure() == 0


def test_a_peer_that_talks_and_closes_is_noticed_too() -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"220 hello\r\n" * 1000)

    with Receiver(talk) as receiver:
        sender = sender_for(receiver.address)
        sender.send(messages(1))
        wait_for(lambda: receiver.served == 1)
        with pytest.raises(Unreachable):
            sender.send(messages(1))


def test_a_reset_counts_all_that_was_handed_over() -> None:
    go = threading.Event()

    def break_off(connection: socket.socket) -> None:
        connection.recv(10)
        assert go.wait(SECONDS)
        reset(connection)

    with Receiver(break_off) as receiver:
        sender = sender_for(receiver.address)
        for first in range(0, 50, 10):
            sender.send(messages(10, first))
        go.set()
        wait_for(lambda: receiver.served == 1)
        with pytest.raises(Unreachable):
            sender.send(messages(10, 50))
    assert sender.unsure() == 50


def test_a_peer_that_closes_in_the_middle_of_a_message_gets_all_of_it_again() -> None:
    keeper = Keeper()
    body = b"x" * 200_000

    def hang_up(connection: socket.socket) -> None:
        connection.recv(1000)
        reset(connection)

    with Receiver(hang_up, keeper, buffer=4096) as receiver:
        sender = sender_for(receiver.address, max_length=1 << 20)
        batch = [message(number, body) for number in range(64)]  # more than all buffers between hold
        with pytest.raises(Unreachable):
            sender.send(batch)
        assert sender.unsure() == 0  # all of it is to be sent again
        assert sender.send(batch[:3]) == ALL_TAKEN
        sender.close()
        receiver.join()
    assert uids(keeper.data[0]) == names(3)


def test_a_reader_that_stands_still_ends_the_call_in_time() -> None:
    done = threading.Event()
    with Receiver(lambda _: stand_still(done), buffer=4096) as receiver:
        sender = sender_for(receiver.address, max_length=1 << 20, timeout=0.3)
        with pytest.raises(Unreachable, match="timed out"):
            sender.send([message(number, b"x" * 500_000) for number in range(64)])
        done.set()


def test_a_renewal_bounds_what_a_break_may_lose() -> None:
    keeper = Keeper()

    def break_off(connection: socket.socket) -> None:
        connection.recv(65536)
        reset(connection)

    with Receiver(keeper, keeper, keeper, break_off) as receiver:
        sender = sender_for(receiver.address, renew=20)
        for first in range(0, 60, 10):
            sender.send(messages(10, first))
        sender.send(messages(5, 60))
        wait_for(lambda: receiver.served == 4)
        with pytest.raises(Unreachable):
            sender.send(messages(5, 65))
        assert not receiver.errors
    assert sender.renewed == 3
    assert [uids(data) for data in keeper.data] == [names(20), names(20, 20), names(20, 40)]
    assert sender.unsure() == 25  # the period before the last renewal, and since


def test_a_receiver_that_does_not_close_makes_the_end_unsure() -> None:
    done = threading.Event()

    def never_close(connection: socket.socket) -> None:
        read_all(connection)
        done.wait(SECONDS)

    with Receiver(never_close) as receiver:
        sender = sender_for(receiver.address, timeout=0.2)
        sender.send(messages(4))
        sender.close()
        assert sender.unsure() == 4
        sender.close()
        done.set()
        receiver.join()


def test_a_peer_that_had_closed_before_is_no_peer_that_has_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is there when we ask for it, and it says nothing about what was written after it."""
    for transport_ended in (True, False):

        def close_at_once(connection: socket.socket) -> None:
            connection.recv(65536)

        with Receiver(close_at_once) as receiver:
            sender = sender_for(receiver.address)
            sender.send(messages(3))
            wait_for(lambda served=receiver: served.served == 1)  # type: ignore[misc]
            if transport_ended:
                monkeypatch.setattr(Connection, "ended", lambda _: False)
                sender.send(messages(2, 3))
                monkeypatch.undo()
            sender.close()
        assert sender.unsure() == (5 if transport_ended else 3)


def test_an_end_that_comes_before_the_receiver_has_everything_is_no_sign_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its end crosses ours: it had said all, and what we wrote is still here."""
    done = threading.Event()

    def say_all_and_stand_still(connection: socket.socket) -> None:
        connection.shutdown(socket.SHUT_WR)
        done.wait(SECONDS)

    with Receiver(say_all_and_stand_still, buffer=4096) as receiver:
        made = Connection(address_of(receiver.address), 5.0)
        made.send(b"x" * 60_000, time.monotonic() + SECONDS)
        wait_for(lambda: made.pending() == b"")
        monkeypatch.setattr(
            connections, "_ESTABLISHED", 8
        )  # CLOSE_WAIT: as if its end came after we had looked
        assert not made.finish(time.monotonic() + SECONDS)
        made.close()
        done.set()


# UDP


@pytest.fixture
def port() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(SECONDS)
        yield made


def test_udp_sends_one_message_in_one_datagram(port: socket.socket) -> None:
    sender = sender_for(f"127.0.0.1:{port.getsockname()[1]}", "udp")
    assert sender.send([message(1, b"type=A\ntype=B"), message(2)]) == ALL_TAKEN
    received = [port.recv(65536) for _ in range(3)]
    assert [each.partition(b"] ")[2] for each in received] == [b"type=A", b"type=B", b'{"a":1}']
    assert b'line="1/2"' in received[0]
    sender.close()
    assert sender.unsure() == 2  # nobody will ever know


def test_udp_says_when_nobody_listens(port: socket.socket) -> None:
    address = f"127.0.0.1:{port.getsockname()[1]}"
    sender = sender_for(address, "udp")
    sender.send(messages(2))
    port.close()
    with pytest.raises(Unreachable, match="Connection refused"):
        sender.send(messages(8, 2))
    assert sender.unsure() == 2


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server_side(authority: Authority) -> ssl.SSLContext:
    pair = authority.sign("server", "DNS:receiver.test,IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    return context


def test_tls_is_the_default_and_verifies(authority: Authority, server_side: ssl.SSLContext) -> None:
    keeper = Keeper()
    with Receiver(keeper, keeper, context=server_side) as receiver:
        options = SyslogOptions(receiver.address, tls_ca_file=authority.file, renew=10)
        assert options.transport == "tls"
        sender = SyslogSender(options)
        for first in (0, 10):
            assert sender.send(messages(10, first)) == ALL_TAKEN
        sender.close()
        receiver.join()
    assert [uids(data) for data in keeper.data] == [names(10), names(10, 10)]
    assert (sender.renewed, sender.unsure()) == (1, 0)


def test_tls_notices_a_peer_that_has_closed(authority: Authority, server_side: ssl.SSLContext) -> None:
    def close_at_once(connection: socket.socket) -> None:
        connection.recv(65536)

    with Receiver(close_at_once, context=server_side) as receiver:
        sender = sender_for(receiver.address, "tls", tls_ca_file=authority.file)
        sender.send(messages(1))
        wait_for(lambda: receiver.served == 1)
        with pytest.raises(Unreachable):
            sender.send(messages(1, 1))
    assert sender.unsure() == 1


def test_another_authority_is_refused(tmp_path: Path, server_side: ssl.SSLContext) -> None:
    other = Authority(tmp_path, "other")
    with Receiver(Keeper(), context=server_side) as receiver:
        sender = sender_for(receiver.address, "tls", tls_ca_file=other.file)
        with pytest.raises(Unreachable, match="certificate was refused"):
            sender.send(messages(1))


def test_the_systems_authorities_do_not_know_ours(server_side: ssl.SSLContext) -> None:
    with Receiver(Keeper(), context=server_side) as receiver:
        sender = sender_for(receiver.address, "tls")
        with pytest.raises(Unreachable, match="certificate was refused"):
            sender.send(messages(1))


def test_another_name_is_refused(authority: Authority, server_side: ssl.SSLContext) -> None:
    with Receiver(Keeper(), context=server_side) as receiver:
        sender = sender_for(
            receiver.address, "tls", tls_ca_file=authority.file, tls_server_name="elsewhere.test"
        )
        with pytest.raises(Unreachable, match=r"(?i)certificate was refused: hostname mismatch"):
            sender.send(messages(1))


def test_a_name_that_the_certificate_has_is_taken(authority: Authority, server_side: ssl.SSLContext) -> None:
    keeper = Keeper()
    with Receiver(keeper, context=server_side) as receiver:
        sender = sender_for(
            receiver.address, "tls", tls_ca_file=authority.file, tls_server_name="receiver.test"
        )
        assert sender.send(messages(1)) == ALL_TAKEN
        sender.close()
        receiver.join()


def test_only_the_operator_can_leave_the_certificate_unverified(server_side: ssl.SSLContext) -> None:
    keeper = Keeper()
    with Receiver(keeper, context=server_side) as receiver:
        sender = sender_for(receiver.address, "tls", tls_verify=False)
        assert sender.send(messages(1)) == ALL_TAKEN
        sender.close()
        receiver.join()
    assert uids(keeper.data[0]) == names(1)


def test_a_receiver_in_clear_text_gets_nothing_of_it(authority: Authority) -> None:
    seen: list[bytes] = []

    def plain(connection: socket.socket) -> None:
        seen.append(connection.recv(65536))
        connection.sendall(b"220 no TLS here\r\n")
        with contextlib.suppress(OSError):
            seen.append(read_all(connection))

    with Receiver(plain) as receiver:
        sender = sender_for(receiver.address, "tls", tls_ca_file=authority.file)
        with pytest.raises(Unreachable, match="TLS"):
            sender.send(messages(1))
        receiver.join()
    assert b"boot/0" not in b"".join(seen)


def test_a_handshake_that_stands_still_ends_in_time(authority: Authority) -> None:
    done = threading.Event()
    with Receiver(lambda _: stand_still(done)) as receiver:
        sender = sender_for(receiver.address, "tls", tls_ca_file=authority.file, timeout=0.2)
        with pytest.raises(Unreachable, match="timed out"):
            sender.send(messages(1))
        done.set()


def test_a_client_certificate_is_shown(authority: Authority) -> None:
    server, client = (authority.sign(name, "IP:127.0.0.1") for name in ("asking", "client"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.cert, server.key)
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    keeper = Keeper()
    with Receiver(keeper, context=context) as receiver:
        sender = sender_for(
            receiver.address,
            "tls",
            tls_ca_file=authority.file,
            tls_cert_file=client.cert,
            tls_key_file=client.key,
        )
        assert sender.send(messages(1)) == ALL_TAKEN
        sender.close()
        receiver.join()
    assert uids(keeper.data[0]) == names(1)


# Options


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("log.test:514", "log.test", 514), ("[::1]:6514", "::1", 6514), ("127.0.0.1:1", "127.0.0.1", 1)],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert address_of(text) == (host, port)
    assert str(address_of(text)) == text


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":514", "host:0", "host:65536", "::1:514", "a b:1", "h:1\n"]
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(UsageError):
        address_of(text)


@pytest.mark.parametrize(
    "changed",
    [
        {"transport": "sctp"},
        {"tls_ca_file": "/dev/null"},  # of TLS, and the transport is TCP
        {"tls_verify": False},
        {"transport": "tls", "tls_ca_file": "/nonexistent/ca.pem"},
        {"transport": "tls", "tls_key_file": "/dev/null"},
        {"transport": "tls", "tls_cert_file": "/dev/null"},
        {"transport": "udp", "max_length": 65_500},
    ],
)
def test_options_that_cannot_be(changed: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        sender_for("127.0.0.1:1", **{"transport": "tcp", **changed})  # type: ignore[arg-type]
    assert caught.value.hint


def test_keepalive_is_on() -> None:
    with Receiver(Keeper()) as receiver:
        made = Connection(address_of(receiver.address), 5.0)
        assert made._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert made._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        assert made._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
        made.close()
    assert connections._KEEPALIVE


def test_a_receipt_is_made_only_where_something_is_to_be_said() -> None:
    assert Receipt({}) == ALL_TAKEN
