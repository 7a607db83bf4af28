# SPDX-License-Identifier: Apache-2.0
"""What a service tells systemd: ready, reloading, stopping, alive, and one line on how it goes.

Owns the datagrams of sd_notify(3) and the watchdog's interval. Without a service manager every call does nothing.
A manager that does not take a message is its own affair: nothing here raises for that.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping


class Notifier:
    """One process's line to its manager. `watchdog` is the seconds between two signs of life, None for none wanted.

    Takes NOTIFY_SOCKET and WATCHDOG_* out of `environment`: a child must not speak for us.
    """

    def __init__(self, environment: MutableMapping[str, str] | None = None) -> None:
        env = os.environ if environment is None else environment
        path = env.pop("NOTIFY_SOCKET", "")
        usec, pid = env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket: socket.socket | None = None
        if path.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        ours = self._socket is not None and pid in {"", str(os.getpid())}
        # Half of what is allowed, as sd_watchdog_enabled(3) asks for.
        self.watchdog = int(usec) / 2e6 if ours and usec.isdecimal() and int(usec) else None

    def ready(self, status: str) -> None:
        """Say that start or reload is done."""
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Say how it goes, in one line."""
        self._send(f"STATUS={status}")

    def reloading(self) -> None:
        """Say that a reload has begun; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Say that we still work."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # A manager that is busy must not hold us up; it is told again.
                data = "\n".join(lines).replace("\0", " ").encode()
                self._socket.sendto(data, 0 if lines[0] == "READY=1" else socket.MSG_DONTWAIT, self._address)
