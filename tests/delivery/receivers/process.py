# SPDX-License-Identifier: Apache-2.0
"""The checking receivers as processes that are killed and started again: what they took outlives them, in a file.

Owns that file: a line for each uid that was taken, written before the answer goes out, with the time by the host's
monotonic clock; a line that begins with ``!`` for what broke the protocol.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.delivery.receivers.base import Answer, Receiver, Request
from tests.delivery.receivers.bulk import BulkReceiver
from tests.delivery.receivers.hec import HecReceiver
from tests.delivery.receivers.otlp import OtlpReceiver
from tests.unit.fake_forward import Forward


class _Taken(Counter[str]):
    """What a receiver has, which it knows again when it is started again."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        if path.exists():
            for line in path.read_text().splitlines():
                if not line.startswith("!"):
                    super().__setitem__(line.partition(" ")[0], 1)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def __setitem__(self, uid: str, count: int) -> None:
        super().__setitem__(uid, count)
        os.write(self._fd, b"%b %f\n" % (uid.encode(), time.monotonic()))


class _Violations(list[str]):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def append(self, said: str) -> None:
        super().append(said)
        os.write(self._fd, f"! {said!r}\n".encode())


class _Hec(HecReceiver):
    """Keeps nothing of an event but its uid."""

    def take(self, request: Request) -> Answer:
        self.events.clear()
        return super().take(request)


RECEIVERS: dict[str, Callable[[], Receiver]] = {
    "elasticsearch": BulkReceiver,
    "hec": _Hec,
    "otlp": OtlpReceiver,
}


def serve(kind: str, address: tuple[str, int], journal: Path, slow: float) -> None:
    """Serve until killed. `slow`: seconds that each request takes."""
    receiver = RECEIVERS[kind]()
    receiver.address = address
    receiver.taken = _Taken(journal)
    receiver.violations = _Violations(journal)
    take = receiver.take

    def late(request: Request) -> Answer:
        receiver.over.wait(slow)
        return take(request)

    if slow:
        receiver.take = late  # type: ignore[method-assign]  # a slow one
    with receiver:
        threading.Event().wait()


class _Forward(Forward):
    """Keeps nothing of an event but its uid, which is written before the chunk is acknowledged."""

    def __init__(self, taken: _Taken, slow: float) -> None:
        super().__init__()
        self._taken = taken
        self._slow = slow

    def _take(self, tag: str, entries: bytes, option: dict[str, Any]) -> None:
        threading.Event().wait(self._slow)
        super()._take(tag, entries, option)
        for uid in self.uids:
            self._taken[uid] += 1
        for kept in (self.records, self.times, self.tags, self.sizes, self.options):
            kept.clear()


def forward(address: tuple[str, int], journal: Path, slow: float) -> None:
    """Take chunks of Fluent Forward until killed."""
    taken, violations = _Taken(journal), _Violations(journal)

    def serve(connection: socket.socket) -> None:
        try:
            with connection:
                _Forward(taken, slow)(connection)
        except OSError:
            pass  # who sent is gone
        except Exception as error:  # noqa: BLE001 - whatever it is, it broke the protocol
            violations.append(repr(error))

    with socket.create_server(address) as listener:
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


def consume(path: str, journal: Path) -> None:
    """Read lines from a Unix socket, and again from the one that comes after it, until killed.

    The file has the lines as they come, and ``#`` where a connection begins.
    """
    out = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    never = threading.Event()
    while True:
        with socket.socket(socket.AF_UNIX) as events:
            try:
                events.connect(path)
            except OSError:
                never.wait(0.01)
                continue
            os.write(out, b"\n#\n")
            while data := events.recv(1 << 16):
                os.write(out, data)
