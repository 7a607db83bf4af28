# SPDX-License-Identifier: Apache-2.0
"""A receiver of Fluent Forward that is not ours: FluentServer of npm's `@fluent-org/logger`, as a process.

Owns the process and what it wrote. It acknowledges before it hands an event on, so it is stopped and never killed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.delivery.events import Events
from tests.delivery.rsyslog import SECONDS, free_port, wait_for
from tests.lint.tree import ROOT

_MODULES = ROOT / ".cache/fluent-server/node_modules"
_PROGRAM = Path(__file__).parent / "receivers" / "fluent-server.js"


class Entry(NamedTuple):
    """One event as the server handed it on."""

    tag: str
    seconds: int
    nanoseconds: int
    record: dict[str, Any]


class FluentServer:
    """At ``address``: a port of the loopback, or with `path` a Unix socket."""

    def __init__(
        self,
        directory: Path,
        *,
        path: str = "",
        security: dict[str, object] | None = None,
        tls: dict[str, str] | None = None,
    ) -> None:
        node = shutil.which("node")
        if node is None or not _MODULES.is_dir():
            pytest.skip("FluentServer is not installed: make .cache/stamps/fluent-server, which needs npm")
        self._node = node
        self._port = 0 if path else free_port()
        self.address = path or f"127.0.0.1:{self._port}"
        listen = {"path": path} if path else {"port": self._port, "host": "127.0.0.1"}
        options = {"listenOptions": listen, "security": security, "tlsOptions": tls}
        self._options = {name: value for name, value in options.items() if value is not None}
        self._output = directory / "entries"
        self._log = directory / "fluent-server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [self._node, str(_PROGRAM), json.dumps(self._options), str(self._output)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "NODE_PATH": str(_MODULES)}
            )
        wait_for(self._listens, "FluentServer listens")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        family, where = (
            (socket.AF_INET, ("127.0.0.1", self._port)) if self._port else (socket.AF_UNIX, self.address)
        )
        with socket.socket(family) as probe:
            return probe.connect_ex(where) == 0

    def pause(self) -> None:
        """Let it do nothing, as a host that hangs."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End the pause."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it, paused or not."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(SECONDS)

    def entries(self) -> list[Entry]:
        """Return what it has handed on so far."""
        if not self._output.exists():
            return []
        return [Entry(*json.loads(line)) for line in self._output.read_bytes().split(b"\n")[:-1]]

    def taken(self, events: Events) -> Counter[int]:
        """Return how often it has the event with each number."""
        if not self._output.exists():
            return Counter()
        whole = self._output.read_bytes().rpartition(b"\n")[0]
        return Counter(int(found[1]) for found in events.in_json.finditer(whole))
