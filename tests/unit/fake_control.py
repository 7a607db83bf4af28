# SPDX-License-Identifier: Apache-2.0
"""For the tests of the control socket: its server driven by hand, and a service that runs beside the test."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from enricher.enrich.native import NativeBuilder
from enricher.model import Event
from enricher.route.filters import Shared
from enricher.runtime.control import ControlServer
from tests.unit.sample_events import HOST


def wakes(server: ControlServer) -> bool:
    return bool(select.select([server.fileno()], [], [], 0)[0])


def run(server: ControlServer) -> None:
    """Serve until there is nothing to do; that there is an end is part of every test."""
    for _ in range(1000):
        if not wakes(server):
            return
        server.serve()
    raise AssertionError("it is woken for ever")


def connected(server: ControlServer) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(server._path)
    return client


def asked(server: ControlServer, request: bytes) -> socket.socket:
    client = connected(server)
    client.sendall(request)
    run(server)
    return client


def rest_of(client: socket.socket) -> bytes:
    """Return everything up to the end of the connection."""
    data = b""
    while chunk := client.recv(1 << 20):
        data += chunk
    return data


def here(client: socket.socket) -> bytes:
    """Return what is there already."""
    data = b""
    try:
        while chunk := client.recv(1 << 20, socket.MSG_DONTWAIT):
            data += chunk
    except BlockingIOError:
        pass
    return data


def answer(server: ControlServer, request: bytes) -> dict[str, Any]:
    with asked(server, request) as client:
        said = rest_of(client)
    assert said.endswith(b"\n")
    assert said.count(b"\n") == 1
    read: dict[str, Any] = json.loads(said)
    return read


def offer(server: ControlServer, events: Sequence[Event], lines: Sequence[bytes]) -> None:
    """Give the server events as the service's output does."""
    shared = [Shared(each, NativeBuilder(HOST).build) for each in events]
    server.publish(events, lines, [one.native for one in shared])


class FakeService(threading.Thread):
    """A service that only has a control socket, running beside the test; `config` is a file that leads to it.

    `act` is done once, between two turns, when somebody follows; then, if `ends`, the service does.
    """

    def __init__(
        self,
        directory: Path,
        status: dict[str, object] | None = None,
        act: Callable[[ControlServer], None] = lambda _server: None,
        *,
        ends: bool = False,
        births: Callable[[], dict[str, object]] | None = None,
    ) -> None:
        super().__init__()
        self.path = directory / "sock"
        self.config = directory / "config.toml"
        self.config.write_text(f'[control]\nsocket = "{self.path}"\n')
        self._server = ControlServer(str(self.path), "", lambda: status or {}, births)
        self._act = act
        self._ends = ends
        self._wake, self._end = os.pipe()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._end)
        self.join()
        os.close(self._wake)

    def run(self) -> None:
        acted = False
        while not (acted and self._ends):
            ready, _, _ = select.select([self._server.fileno(), self._wake], [], [])
            if self._wake in ready:
                break
            self._server.serve()
            if self._server.wants_events and not acted:
                acted = True
                self._act(self._server)
        self._server.close()
