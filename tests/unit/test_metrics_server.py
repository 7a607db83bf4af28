# SPDX-License-Identifier: Apache-2.0
"""GET /metrics: it answers, refuses all else, bounds everything, and no client slows or ends it."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enricher.clock import ManualClock
from enricher.errors import UsageError
from enricher.runtime.listening import Listener, listen_loopback, listen_unix
from enricher.runtime.metrics.exposition import CONTENT_TYPE
from enricher.runtime.metrics.server import AFTERMATH_MAX, CLIENTS_MAX, FRESH, REQUEST_MAX, MetricsServer

GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text\r\n\r\n"
OK = "HTTP/1.1 200 OK"


class Bench:
    """A server on a Unix socket, and the text that it gives: a new one each time it is asked for."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "sock")
        self.clock = ManualClock()
        self.made = 0
        self.padding = b""
        self.server = MetricsServer([listen_unix(self.path, "", "metrics")], self.text, self.clock)

    def text(self) -> bytes:
        self.made += 1
        return b"made %d\n" % self.made + self.padding

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.path)
        return client

    def run(self) -> None:
        """Serve until there is nothing to do; that there is an end is part of every test."""
        for _ in range(1000):
            if not select.select([self.server.fileno()], [], [], 0)[0]:
                return
            self.server.serve()
        raise AssertionError("it is woken for ever")

    def asked(self, request: bytes) -> tuple[str, dict[str, str], bytes]:
        with self.connect() as client:
            client.sendall(request)
            self.run()
            answer = rest_of(client)
        self.run()
        return parsed(answer)


def rest_of(client: socket.socket) -> bytes:
    data = b""
    while chunk := client.recv(1 << 20):
        data += chunk
    return data


def parsed(answer: bytes) -> tuple[str, dict[str, str], bytes]:
    """Return status line, headers and body; the body is as long as is said."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("ascii").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert headers["Content-Length"] == str(len(body))
    assert headers["Connection"] == "close"
    return status, headers, body


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.server.close()


# -- requests ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        GET,
        b"GET /metrics HTTP/1.0\r\n\r\n",
        b"GET /metrics HTTP/1.1\n\n",
        b"GET /metrics?name=x HTTP/1.1\r\nHost: a\r\n\r\n",
        GET + b"what else comes is not read as a request",
    ],
)
def test_a_scrape(bench: Bench, request_: bytes) -> None:
    status, headers, body = bench.asked(request_)
    assert (status, headers["Content-Type"], body) == (OK, CONTENT_TYPE, b"made 1\n")
    assert (bench.server.scrapes, bench.server.refused) == (1, 0)
    assert bench.server.seconds > 0
    assert not bench.server._clients


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/../status HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b'{"op":"status"}\n\n', 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\n\n", 400),
    ],
)
def test_anything_else(bench: Bench, request_: bytes, status: int) -> None:
    said, headers, body = bench.asked(request_)
    assert said.split(" ")[1] == str(status)
    assert b"made" not in body
    assert ("Allow" in headers) == (status == 405)
    assert (bench.made, bench.server.refused, bench.server.scrapes) == (0, 1, 0)


def test_a_request_may_come_in_pieces(bench: Bench) -> None:
    with bench.connect() as client:
        for byte in GET:
            client.sendall(bytes([byte]))
            bench.run()
        assert parsed(rest_of(client))[0] == OK


def test_a_request_that_ends_too_early(bench: Bench) -> None:
    with bench.connect() as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        client.shutdown(socket.SHUT_WR)
        bench.run()
        assert b" 400 " in rest_of(client)


def flood(bench: Bench, client: socket.socket, block: bytes) -> None:
    sent = 0
    while sent < 100 * AFTERMATH_MAX:
        with contextlib.suppress(BlockingIOError):
            sent += client.send(block)
        bench.run()


@pytest.mark.parametrize("line", [b"x" * 100, b"x: " + b"y" * 100 + b"\r\n"])
def test_a_huge_request_is_answered_and_let_go(bench: Bench, line: bytes) -> None:
    """All of it is read as far as it is needed for the answer to arrive, and none of it is kept."""
    with bench.connect() as client:
        client.settimeout(0)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            flood(bench, client, b"GET /metrics HTTP/1.1\r\n" + line * 300)
    bench.run()
    assert (bench.server.refused, bench.made) == (1, 0)
    assert not bench.server._clients


def test_who_reads_after_a_large_request_gets_his_answer(bench: Bench) -> None:
    said, _, _ = bench.asked(b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * (REQUEST_MAX // 3))
    assert said.split(" ")[1] == "431"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=200))
def test_whatever_is_sent_it_goes_on(bench: Bench, junk: bytes) -> None:
    with bench.connect() as client:
        client.sendall(junk)
        bench.run()
    bench.run()
    assert not bench.server._clients
    bench.clock.advance(FRESH)
    assert bench.asked(GET)[0] == OK


# -- clients -------------------------------------------------------------------------------------------


def test_two_scrapes_at_once_cost_one(bench: Bench) -> None:
    with bench.connect() as one, bench.connect() as other:
        for client in (one, other):
            client.sendall(GET)
        bench.run()
        assert parsed(rest_of(one))[2] == parsed(rest_of(other))[2] == b"made 1\n"
    assert (bench.made, bench.server.scrapes) == (1, 2)
    bench.clock.advance(FRESH / 2)
    assert bench.asked(GET)[2] == b"made 1\n"
    bench.clock.advance(FRESH / 2)
    assert bench.asked(GET)[2] == b"made 2\n"


def test_a_slow_client_keeps_nobody_waiting(bench: Bench) -> None:
    bench.padding = b"x" * (4 << 20)
    with bench.connect() as slow:
        slow.sendall(GET)
        bench.run()  # comes to an end, though nothing is read
        with bench.connect() as quick:
            quick.sendall(GET)
            while select.select([bench.server.fileno()], [], [], 0)[0]:
                bench.server.serve()
            received = b""
            while chunk := quick.recv(1 << 16):
                received += chunk
                bench.run()
        assert len(parsed(received)[2]) > len(bench.padding)
        received = b""
        while chunk := slow.recv(1 << 16):
            received += chunk
            bench.run()
        assert len(parsed(received)[2]) > len(bench.padding)
    bench.run()
    assert not bench.server._clients


def test_a_client_that_goes_in_the_middle(bench: Bench) -> None:
    bench.padding = b"x" * (4 << 20)
    with bench.connect() as client:
        client.sendall(GET)
        bench.run()
        assert len(client.recv(100)) == 100
    bench.run()
    assert not bench.server._clients
    assert bench.asked(b"GET / HTTP/1.0\r\n\r\n")[0].endswith("404 Not Found")


def test_who_never_asks_goes_for_a_new_one(bench: Bench) -> None:
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(bench.connect()) for _ in range(CLIENTS_MAX)]
        bench.run()
        assert len(bench.server._clients) == CLIENTS_MAX
        assert bench.asked(GET)[0] == OK
        assert bench.server.crowded_out == 1
        assert idle[0].recv(1) == b""
        with pytest.raises(BlockingIOError):
            idle[1].recv(1, socket.MSG_DONTWAIT)


def test_who_never_closes_goes_as_well(bench: Bench) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS_MAX + 3):
            client = stack.enter_context(bench.connect())
            client.sendall(GET)
            bench.run()
            assert parsed(rest_of(client))[0] == OK
        assert len(bench.server._clients) == CLIENTS_MAX
        assert bench.server.crowded_out == 3


def test_without_descriptors_it_is_not_woken_for_ever(bench: Bench) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with bench.connect() as client:
        free = os.open(os.devnull, os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
        try:
            bench.server.serve()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert client.recv(1) == b""
    assert bench.server.counts()["unaccepted"] == 1
    assert bench.asked(GET)[0] == OK


def test_the_end_lets_all_go(bench: Bench) -> None:
    with bench.connect() as client:
        bench.run()
        bench.server.close()
        assert client.recv(1) == b""
    assert not Path(bench.path).exists()


# -- where it listens ----------------------------------------------------------------------------------


def test_only_owner_and_group_may_connect(bench: Bench) -> None:
    assert stat.S_IMODE(os.lstat(bench.path).st_mode) == 0o660


def test_a_living_service_is_left_alone(bench: Bench) -> None:
    with pytest.raises(UsageError) as caught:
        listen_unix(bench.path, "", "metrics")
    assert "metrics.socket" in caught.value.hint
    assert bench.asked(GET)[0] == OK


def ports() -> list[Listener]:
    """Return listeners at a port that is free, whatever the host has of IPv6."""
    return listen_loopback(0, "metrics")


def test_a_port_is_of_loopback_alone() -> None:
    found = ports()
    addresses = [listener._socket.getsockname()[0] for listener in found]
    assert addresses[0] == "127.0.0.1"
    assert set(addresses[1:]) <= {"::1"}
    server = MetricsServer(found, lambda: b"a 1\n", ManualClock())
    with socket.create_connection(("127.0.0.1", found[0].port)) as client:
        client.sendall(GET)
        for _ in range(3):
            select.select([server.fileno()], [], [], 5)
            server.serve()
            if server.scrapes:
                break
        assert parsed(rest_of(client))[2] == b"a 1\n"
    server.close()


def test_a_port_that_is_taken() -> None:
    found = ports()
    try:
        with pytest.raises(UsageError, match="cannot listen on port") as caught:
            listen_loopback(found[0].port, "metrics")
        assert "metrics.port" in caught.value.hint
    finally:
        for listener in found:
            listener.close()


def test_a_host_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without(family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, kind)

    monkeypatch.setattr(socket, "socket", without)
    (found,) = ports()
    found.close()


def test_a_unit_that_allows_no_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> socket.socket:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refused)
    with pytest.raises(UsageError) as caught:
        ports()
    assert "the unit" in caught.value.hint
