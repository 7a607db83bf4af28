# SPDX-License-Identifier: Apache-2.0
"""A command running in the guest, as the host sees it.

Never interprets a status: that is for the caller.
"""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING, Final

from tests.vm.agent import CHUNK, Header
from tests.vm.errors import GuestLost, GuestTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from tests.vm.channel import Channel

__all__ = ["PATIENCE", "GuestProcess"]

PATIENCE: Final = 4
"""Times each limit. They are given for a machine at its usual speed, and are there to end what hangs; a machine that
others share was seen to be a quarter as fast."""


class GuestProcess:
    """Made by Guest.popen. As a context manager it is killed at the end if it still runs."""

    def __init__(self, channel: Channel, argv: list[str], header: Header) -> None:
        """Start the command; a program that cannot be started ends with 127 (absent) or 126."""
        self.argv = argv
        self._channel = channel
        self._request = channel.open({**header, "op": "exec", "argv": argv})

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill what still runs; a lost guest has nothing left to kill."""
        with contextlib.suppress(GuestLost, GuestTimeout):
            if self.poll() is None:
                self.signal(signal.SIGKILL)
                self.wait(10)
        self._channel.close(self._request)

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the lines of standard output, newline included, until it ends."""
        while line := self.read_line():
            yield line

    @property
    def stderr(self) -> bytes:
        """Standard error so far."""
        with self._request.changed:
            return bytes(self._request.streams["stderr"]) + self._start_error()

    def poll(self) -> int | None:
        """Return the status (negative: signal) or None while it runs. Never blocks."""
        with self._request.changed:
            return self._status()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the status; GuestTimeout leaves the command running."""
        limit = None if timeout is None else timeout * PATIENCE
        with self._request.changed:
            if not self._request.wait_for(lambda: self._request.finished, limit):
                message = f"{self.argv!r} still runs after {limit} s"
                raise GuestTimeout(message)
            status = self._status()
        return -1 if status is None else status

    def read(self, timeout: float | None = None) -> bytes:
        """Return all of standard output not yet read, waiting for the end of the command."""
        self.wait(timeout)
        return self.read_available()

    def read_available(self, stream: str = "stdout") -> bytes:
        """Return what has arrived and was not read; may be empty. Never blocks."""
        with self._request.changed:
            buffer = self._request.streams[stream]
            data = bytes(buffer)
            buffer.clear()
            return data

    def read_line(self, timeout: float | None = None) -> bytes:
        """Return the next line of standard output; empty at its end, GuestTimeout when none comes in time."""
        request = self._request
        buffer = request.streams["stdout"]
        limit = None if timeout is None else timeout * PATIENCE
        with request.changed:
            if not request.wait_for(lambda: b"\n" in buffer or request.finished, limit):
                message = f"{self.argv!r} wrote no line in {limit} s"
                raise GuestTimeout(message, stdout=bytes(buffer))
            end = buffer.find(b"\n") + 1 or len(buffer)
            line = bytes(buffer[:end])
            del buffer[:end]
            return line

    def write(self, data: bytes) -> None:
        """Send standard input (for a command started with stdin=True or on a pty)."""
        for start in range(0, len(data), CHUNK):
            self._channel.send(self._request, {"op": "stdin"}, data[start : start + CHUNK])

    def close_stdin(self) -> None:
        """End standard input."""
        self._channel.send(self._request, {"op": "stdin", "eof": True})

    def signal(self, number: int, *, group: bool = True) -> None:
        """Send a signal to the command's process group, or with group=False to the command alone."""
        self._channel.send(self._request, {"op": "signal", "signal": int(number), "group": group})

    def resize(self, rows: int, columns: int) -> None:
        """Tell the guest's terminal its size."""
        self._channel.send(self._request, {"op": "resize", "rows": rows, "columns": columns})

    def pump(self, sinks: Mapping[str, Callable[[bytes], object]], timeout: float | None) -> int:
        """Pass both streams on as they arrive until the command ends; return its status."""
        request = self._request
        limit = None if timeout is None else timeout * PATIENCE
        deadline = None if limit is None else time.monotonic() + limit
        while True:
            with request.changed:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                arrived = request.wait_for(
                    lambda: request.finished or any(request.streams[name] for name in sinks), left
                )
                finished = request.finished
            for name, sink in sinks.items():
                if data := self.read_available(name):
                    sink(data)
            if finished:
                if "stderr" in sinks and (late := self._start_error()):
                    sinks["stderr"](late)
                return self.wait(0)
            if not arrived or (deadline is not None and time.monotonic() > deadline):
                message = f"{self.argv!r} still runs after {limit} s"
                raise GuestTimeout(message)

    def _status(self) -> int | None:
        if not self._request.finished:
            return None
        if self._request.error is not None:
            return 127 if isinstance(self._request.error, FileNotFoundError) else 126
        return self._request.status

    def _start_error(self) -> bytes:
        error = self._request.error
        return b"" if error is None else f"vm-agent: {error.filename}: {error.strerror}\n".encode()
