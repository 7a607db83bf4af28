# SPDX-License-Identifier: Apache-2.0
"""A receiver of HTTP on the loopback: it checks each request, keeps the uids it took, and fails as a script says.

Owns the server, the faults and the account. Never knows a protocol: `Receiver.take` does. Nothing here sleeps to
synchronise: what is slow waits on the event that ends the receiver.

A fault stands for one request. The script is asked for each, under a lock, so that a seeded generator gives the
same faults to a soak every time: see `mixed`.
"""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import random
import socket
import ssl
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

_LINGER_NONE: Final = struct.pack("ii", 1, 0)
_FLOOD: Final = b"x" * (256 << 10)


class Fault(NamedTuple):
    """What happens to a request. ``taken``: it was taken before, so that what comes again is a duplicate.

    Kinds: ``status`` (with ``status``, ``headers``, ``body``), ``reset`` (RST; where taken, in mid-answer), ``close``
    (FIN without an answer), ``cut`` (the answer's JSON ends early, as its length says), ``short`` (the connection ends
    before the length says), ``garbage``, ``html``, ``drip`` (the answer byte by byte), ``stall`` (no answer),
    ``endless`` (a body without end), ``bomb`` (headers without end), ``packed`` (gzip that was not asked
    for), ``deep`` (arrays in arrays).
    """

    kind: str
    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b"{}"
    taken: bool = False


def status(code: int, retry_after: str = "", body: bytes = b"{}") -> Fault:
    return Fault("status", code, {"Retry-After": retry_after} if retry_after else {}, body)


def mixed(seed: int, share: float, *, slow: bool = False) -> Iterator[Fault | None]:
    """Return faults for a soak: so many of all requests, of every kind, again and again."""
    chance = random.Random(seed)  # noqa: S311 - the same every time
    kinds = [
        status(429, "0"),
        status(429),
        status(503, "0"),
        status(503),
        status(502, body=b"<html>bad gateway</html>"),
        Fault("reset"),
        Fault("reset", taken=True),
        Fault("close"),
        Fault("close", taken=True),
        Fault("cut", taken=True),
        Fault("short", taken=True),
        Fault("garbage", taken=True),
        Fault("html"),
        *([Fault("drip", taken=True), Fault("stall", taken=True)] if slow else []),
    ]
    while True:
        yield chance.choice(kinds) if chance.random() < share else None


class Violation(Exception):
    """A request breaks its protocol."""


class Request(NamedTuple):
    """``headers`` by their names in lower case; ``body`` is unpacked."""

    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    packed: bool


class Answer(NamedTuple):
    status: int
    document: object
    headers: Mapping[str, str] = {}


class Receiver:
    """The account, and the server while it is used as a context manager.

    ``script`` gives one fault or None for each request, and no more faults when it ends. ``poison`` are the uids it
    never takes, ``most`` the bytes of a body (as they come) beyond which it answers 413.
    """

    authorization = ""
    """What the header has to be; "" if any."""

    address = ("127.0.0.1", 0)
    """Where it listens; port 0: any that is free."""

    def __init__(
        self,
        script: Iterable[Fault | None] = (),
        poison: Iterable[str] = (),
        most: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.script = iter(script)
        self.poison = frozenset(poison)
        self.most = most
        self.taken: Counter[str] = Counter()
        self.refused: set[str] = set()
        self.violations: list[str] = []
        self.requests: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.connections = 0
        self.sizes: list[int] = []
        self.over = threading.Event()
        self._lock = threading.RLock()
        self._tls = tls
        self._server: _Server | None = None

    @property
    def uids(self) -> set[str]:
        return set(self.taken)

    @property
    def url(self) -> str:
        assert self._server is not None
        port = self._server.server_address[1]
        return f"{'https' if self._tls else 'http'}://{self.address[0]}:{port}"

    def __enter__(self) -> Self:
        self._server = _Server(self.address, _Handler)
        self._server.receiver = self
        self._server.tls = self._tls
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        assert not self.violations, self.violations

    def serve(self, request: Request) -> tuple[Fault | None, Answer]:
        """Decide what becomes of a request, and answer it."""
        with self._lock:
            self.requests.append(request.path)
            self.sizes.append(len(request.body))
            fault = next(self.script, None)
            early = fault is not None and not fault.taken
            answer = Answer(fault.status, None) if fault and early else self._answer(request)
            self.statuses[answer.status] += 1
            return fault, answer

    def _answer(self, request: Request) -> Answer:
        try:
            if self.authorization and request.headers.get("authorization") != self.authorization:
                return self.unauthorized(request)
            return self.take(request)
        except Violation as violation:
            self.violations.append(str(violation))
            return Answer(418, {"error": str(violation)})

    def unauthorized(self, request: Request) -> Answer:
        """Answer a request with a wrong credential: as some do, with it in the words."""
        return Answer(401, {"error": {"reason": f"no such user: {request.headers.get('authorization')}"}})

    def take(self, request: Request) -> Answer:
        """Check a request and take what is in it. Raises Violation."""
        raise NotImplementedError


def need(condition: object, violation: str) -> None:
    if not condition:
        raise Violation(violation)


def parsed(text: bytes) -> dict[str, object]:
    """Return a JSON object, strictly."""
    try:
        found = json.loads(text.decode(), parse_constant=_constant)
    except ValueError as error:
        raise Violation(f"not JSON: {error}: {text[:80]!r}") from None
    need(isinstance(found, dict), f"not an object: {text[:80]!r}")
    return dict(found)


def _constant(name: str) -> object:
    raise Violation(f"{name} is not JSON")


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver
    tls: ssl.SSLContext | None

    def finish_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        with contextlib.suppress(OSError):  # who is not trusted is hung up on
            # In the connection's own thread: a handshake that fails ends nothing else.
            connection = self.tls.wrap_socket(request, server_side=True) if self.tls else request
            self.receiver.connections += 1
            with connection:
                self.RequestHandlerClass(connection, client_address, self)  # type: ignore[arg-type]

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the library's
        """A thread that failed is a test that fails."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.receiver.violations.append(f"the receiver itself: {error!r}")


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        receiver = self.server.receiver
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            receiver.violations.append("no Content-Length")
            self.close_connection = True
            return
        if receiver.most and int(length) > receiver.most:
            receiver.requests.append(self.path)
            receiver.statuses[413] += 1
            self._send(413, b'{"error":"too large"}')
            self.close_connection = True
            return
        raw = self.rfile.read(int(length))
        if len(raw) < int(length):  # who sent it is gone: it said nothing
            self.close_connection = True
            return
        packed = self.headers.get("Content-Encoding", "") == "gzip"
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = gzip.decompress(raw) if packed else raw
        request = Request(parts.path, parse_qs(parts.query), headers, body, packed)
        fault, answer = receiver.serve(request)
        content = json.dumps(answer.document).encode()
        if fault is None:
            self._send(answer.status, content, answer.headers)
        else:
            self._fail(fault, content)

    def _send(
        self, code: int, content: bytes, more: Mapping[str, str] = {}, length: int | None = None
    ) -> None:
        self.send_response(code)
        headers = {"Content-Type": "application/json", **more}
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def _fail(self, fault: Fault, content: bytes) -> None:
        fail: Mapping[str, Callable[[], None]] = {
            "status": lambda: self._send(fault.status, fault.body, fault.headers),
            "reset": lambda: self._reset(content if fault.taken else b""),
            "close": lambda: None,
            "cut": lambda: self._send(200, content[:-1]),
            "short": lambda: self._send(200, content[:-1], length=len(content)),
            "garbage": lambda: self._send(200, b"\xff\x00[{"),
            "html": lambda: self._send(200, b"<html>log in</html>", {"Content-Type": "text/html"}),
            "drip": lambda: self._drip(content),
            "stall": self._stall,
            "endless": self._endless,
            "bomb": self._bomb,
            "packed": lambda: self._send(200, gzip.compress(content), {"Content-Encoding": "gzip"}),
            "deep": lambda: self._send(200, b'{"items":' + b"[" * 100_000),
        }
        with contextlib.suppress(OSError):  # the other side had enough
            fail[fault.kind]()
        if fault.kind != "status":
            self.close_connection = True

    def _stall(self) -> None:
        self.server.receiver.over.wait(30)

    def _reset(self, content: bytes) -> None:
        if content:
            self._send(200, content[: len(content) // 2], length=len(content))
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        self.connection.close()

    def _drip(self, content: bytes) -> None:
        self._send(200, b"", length=len(content) + 10_000)
        for _ in range(10_000):
            if self.server.receiver.over.wait(0.02):
                return
            self.wfile.write(b" ")

    def _endless(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        while not self.server.receiver.over.is_set():
            self.wfile.write(_FLOOD)

    def _bomb(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not self.server.receiver.over.is_set():
            self.wfile.write(b"X-Bomb: y\r\n" * 1000)
