# SPDX-License-Identifier: Apache-2.0
"""Receivers on loopback for the tests of senders: real sockets, each connection served as the test says."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from enricher.sinks.delivery.message import Message

SECONDS = 10.0


def message(number: int, body: bytes = b'{"a":1}', kind: str = "SYSCALL") -> Message:
    return Message(f"boot/{number}", 1_700_000_000.123456, kind, body, number, 1)


def messages(count: int, first: int = 0) -> list[Message]:
    return [message(number) for number in range(first, first + count)]


def wait_for(condition: Callable[[], bool]) -> None:
    """Look again until it is so; what is waited for is another thread or the kernel."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.001)


def reset(connection: socket.socket) -> None:
    """Close so that the other end gets a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def read_all(connection: socket.socket) -> bytes:
    """Read until the end of the stream."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def octet_counted(data: bytes) -> list[bytes]:
    """Take apart what octet counting put together."""
    found = []
    while data:
        length, _space, rest = data.partition(b" ")
        found.append(rest[: int(length)])
        assert len(found[-1]) == int(length)
        data = rest[int(length) :]
    return found


class Receiver:
    """Listens on 127.0.0.1; `serve` gets each connection in turn, in a thread, and what it raises fails the test."""

    def __init__(
        self, *serve: Callable[[socket.socket], None], context: ssl.SSLContext | None = None, buffer: int = 0
    ) -> None:
        self._serve = serve
        self._context = context
        self._listener = socket.socket()
        if buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self._listener.settimeout(SECONDS)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.served = 0
        self.errors: list[Exception] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        for serve in self._serve:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return  # nobody came before the test was over
            connection.settimeout(SECONDS)
            try:
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
                with connection:
                    serve(connection)
                self.served += 1
            except (OSError, AssertionError) as error:
                self.errors.append(error)
                connection.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(SECONDS)
        self._listener.close()
        assert not self._thread.is_alive()

    def join(self) -> None:
        """Wait until every connection was served."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        assert not self.errors, self.errors
