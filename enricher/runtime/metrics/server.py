# SPDX-License-Identifier: Apache-2.0
"""GET /metrics over HTTP/1, and nothing else of HTTP.

Owns the clients, their requests and the bounds of both. Never blocks, never waits, never raises for what a client does
or leaves undone, and does nothing while nobody asks.

The pipeline's loop drives it: `fileno` is an epoll descriptor, readable when `serve` has something to do. What is
bounded: clients (when full, the oldest goes), the bytes of a request, those read of what follows one, and how often the
text is made: who asks again within `FRESH` seconds gets the same one. Nothing is bounded by a timer.
"""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Final

from enricher.runtime.metrics.exposition import CONTENT_TYPE

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from enricher.clock import Clock
    from enricher.runtime.listening import Listener

CLIENTS_MAX: Final = 16
REQUEST_MAX: Final = 8 << 10
"""Bytes of a request's line and headers."""
AFTERMATH_MAX: Final = 64 << 10
"""Bytes that are read and thrown away after an answer: a connection closed over unread bytes takes the answer along."""
FRESH: Final = 0.5
"""Seconds for which a text is given out again: however many ask, it costs the pipeline twice a second at most."""
_SEND: Final = 256 << 10

_IN, _OUT, _GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
}
_OK: Final = 200
_ENDS: Final = b"\r\n\r\n", b"\n\n"
_WORDS: Final = 3  # of a request line


class _Client:
    """One connection: what came of its request, and what waits to be sent."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.received = bytearray()
        self.out = memoryview(b"")
        self.mask = _IN
        self.answered = False
        self.after = 0  # bytes that came behind the request


class MetricsServer:
    """Answers at `listeners`, which it closes, with what `text` returns.

    The counters: ``scrapes`` answered with the text, ``refused`` requests, ``crowded_out`` clients that had to go for
    a new one, ``unaccepted`` connections for which there was no descriptor. ``seconds`` were taken by making texts.
    """

    def __init__(self, listeners: Sequence[Listener], text: Callable[[], bytes], clock: Clock) -> None:
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._make = text
        self._clock = clock
        self._text = b""
        self._until: float | None = None
        self._clients: dict[int, _Client] = {}  # by descriptor, the oldest first
        self.scrapes = self.refused = self.crowded_out = 0
        self.seconds = 0.0
        self._epoll = select.epoll()
        for fd in self._listeners:
            self._epoll.register(fd, _IN)

    @property
    def unaccepted(self) -> int:
        """See the class."""
        return sum(listener.unaccepted for listener in self._listeners.values())

    def counts(self) -> dict[str, float]:
        """Return every counter by its name."""
        names = ("scrapes", "refused", "crowded_out", "unaccepted", "seconds")
        return {name: getattr(self, name) for name in names}

    def fileno(self) -> int:
        """Return a descriptor that is readable (level-triggered) when `serve` has something to do."""
        return self._epoll.fileno()

    def serve(self) -> None:
        """Do everything that can be done now."""
        knocked = []
        for fd, ready in self._epoll.poll(0):
            if (listener := self._listeners.get(fd)) is not None:
                knocked.append(listener)
            elif (client := self._clients.get(fd)) is not None:
                self._attend(client, ready)
        for listener in knocked:  # last: a new client may get the descriptor of one that has just gone
            self._accept(listener)

    def close(self) -> None:
        """Let all clients go and stop listening."""
        for client in list(self._clients.values()):
            self._drop(client)
        for listener in self._listeners.values():
            listener.close()
        self._epoll.close()

    def _accept(self, listener: Listener) -> None:
        for _ in range(CLIENTS_MAX):
            connection = listener.accept()
            if connection is None:
                return
            if len(self._clients) >= CLIENTS_MAX:
                self.crowded_out += 1
                self._drop(next(iter(self._clients.values())))
            client = _Client(connection)
            self._clients[connection.fileno()] = client
            self._epoll.register(connection, _IN)

    def _attend(self, client: _Client, ready: int) -> None:
        if ready & _GONE:
            self._drop(client)  # nobody is left to read an answer
        elif ready & _OUT:
            self._send(client)
        elif ready & _IN:
            self._receive(client)

    def _receive(self, client: _Client) -> None:
        try:
            data = client.socket.recv(REQUEST_MAX)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        if client.answered:
            client.after += len(data)
            if not data or client.after > AFTERMATH_MAX:
                self._drop(client)
            return
        client.received += data
        if any(end in client.received for end in _ENDS):
            self._answer(client, self._judge(bytes(client.received)))
        elif len(client.received) > REQUEST_MAX:
            self._answer(client, 431)
        elif not client.received:
            self._drop(client)
        elif not data:
            self._answer(client, 400)

    def _judge(self, request: bytes) -> int:
        """Return the status that a whole request gets."""
        words = request.split(b"\n", 1)[0].strip(b"\r").split(b" ")
        if len(words) != _WORDS or not words[2].startswith(b"HTTP/1.") or not words[0].isalpha():
            return 400
        if words[1].partition(b"?")[0] != b"/metrics":
            return 404
        return _OK if words[0] == b"GET" else 405

    def _answer(self, client: _Client, status: int) -> None:
        head = [f"HTTP/1.1 {status} {_REASONS[status]}"]
        if status == _OK:
            self.scrapes += 1
            body, kind = self._fresh(), CONTENT_TYPE
        else:
            self.refused += 1
            body, kind = f"{_REASONS[status]}: GET /metrics\n".encode(), "text/plain; charset=utf-8"
        head += [f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
        if status == 405:  # noqa: PLR2004 - as above
            head.append("Allow: GET")
        client.answered = True
        client.received.clear()
        client.out = memoryview("\r\n".join([*head, "", ""]).encode() + body)
        self._send(client)

    def _fresh(self) -> bytes:
        now = self._clock.monotonic()
        if self._until is None or now >= self._until:
            begun = time.perf_counter()
            self._text = self._make()
            self.seconds += time.perf_counter() - begun
            self._until = now + FRESH
        return self._text

    def _send(self, client: _Client) -> None:
        """Send what the socket takes; wait for more room, or else for the client to close."""
        while client.out:
            try:
                sent = client.socket.send(client.out[:_SEND])
            except BlockingIOError:
                self._watch(client, _OUT)
                return
            except OSError:
                self._drop(client)
                return
            client.out = client.out[sent:]
        try:
            client.socket.shutdown(1)  # SHUT_WR
        except OSError:
            self._drop(client)
            return
        self._watch(client, _IN)

    def _watch(self, client: _Client, mask: int) -> None:
        if mask != client.mask:
            client.mask = mask
            self._epoll.modify(client.socket, mask)

    def _drop(self, client: _Client) -> None:
        if self._clients.pop(client.socket.fileno(), None) is not None:
            client.socket.close()  # which takes it out of the epoll set as well
