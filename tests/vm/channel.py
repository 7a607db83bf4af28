# SPDX-License-Identifier: Apache-2.0
"""The host's end of the agent's port: one reader thread sorts frames into the requests they answer.

Owns request numbers and the moment of the last sign of life. Never decides that a guest is lost; it is told.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from typing import TYPE_CHECKING

from tests.vm.agent import FrameError, Header, encode, number, read_frame, text
from tests.vm.errors import GuestLost

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["Channel", "Request"]


class Request:
    """What the agent has sent for one id. All fields are guarded by `changed`."""

    def __init__(self, key: int, channel: Channel) -> None:
        """Belong to a channel; the key is the id on the wire."""
        self.key = key
        self.channel = channel
        self.changed = threading.Condition()
        self.streams: dict[str, bytearray] = {
            "stdout": bytearray(),
            "stderr": bytearray(),
            "data": bytearray(),
        }
        self.status: int | None = None
        self.finished = False
        self.error: OSError | None = None
        self.lost: str | None = None

    def take(self, header: Header, payload: bytes) -> None:
        """Store one frame."""
        kind = text(header, "op")
        with self.changed:
            if kind in self.streams:
                self.streams[kind] += payload
            else:
                self.finished = True
                if kind == "exit":
                    self.status = number(header, "status")
                elif kind == "error":
                    self.error = OSError(
                        number(header, "errno"), text(header, "message"), text(header, "path")
                    )
            self.changed.notify_all()

    def lose(self, reason: str) -> None:
        """End the wait of whoever waits."""
        with self.changed:
            self.lost = reason
            self.changed.notify_all()

    def wait_for(self, ready: Callable[[], bool], timeout: float | None) -> bool:
        """Wait (holding `changed`) until ready; False on timeout, GuestLost when the guest is gone."""
        arrived = self.changed.wait_for(lambda: ready() or self.lost is not None, timeout)
        if self.lost is not None and not ready():
            raise GuestLost(self.lost)
        return arrived


class Channel:
    """Frames to and from the agent."""

    def __init__(self, agent: socket.socket, on_broken: Callable[[str], None]) -> None:
        """Start reading; on_broken is called from the reader thread when the stream ends."""
        self.hello: Header | None = None
        self.last_heard = time.monotonic()
        self._socket = agent
        self._on_broken = on_broken
        self._numbers = itertools.count(1)
        self._requests: dict[int, Request] = {}
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._lost: str | None = None
        self._greeted = threading.Event()
        self._reader = threading.Thread(target=self._read, name="vm-channel", daemon=True)
        self._reader.start()

    def open(self, header: Header, payload: bytes = b"") -> Request:
        """Send the first frame of a new request."""
        with self._lock:
            if self._lost is not None:
                raise GuestLost(self._lost)
            request = Request(next(self._numbers), self)
            self._requests[request.key] = request
        self.send(request, header, payload)
        return request

    def send(self, request: Request, header: Header, payload: bytes = b"") -> None:
        """Send a frame of a request."""
        frame = encode({**header, "id": request.key}, payload)
        try:
            with self._sending:
                self._socket.sendall(frame)
        except OSError as error:
            # The reader sees the same end of the stream and knows the better reason.
            with request.changed:
                request.wait_for(lambda: False, timeout=5)
            raise GuestLost(str(error)) from error

    def close(self, request: Request) -> None:
        """Forget a request; what still arrives for it is dropped."""
        with self._lock:
            self._requests.pop(request.key, None)

    def ping(self) -> None:
        """Ask for a sign of life without waiting for it, and without ever blocking on a full socket."""
        if self._sending.acquire(blocking=False):
            try:
                with contextlib.suppress(OSError):
                    self._socket.sendall(encode({"op": "ping", "id": 0}))
            finally:
                self._sending.release()

    def wait_hello(self, timeout: float) -> bool:
        """Wait until the agent has started; GuestLost when it never will."""
        arrived = self._greeted.wait(timeout)
        if self._lost is not None:
            raise GuestLost(self._lost)
        return arrived

    def lose(self, reason: str) -> None:
        """Fail everything open and everything to come."""
        with self._lock:
            if self._lost is not None:
                return
            self._lost = reason
            requests = list(self._requests.values())
        for request in requests:
            request.lose(reason)
        self._greeted.set()

    def _exactly(self, size: int) -> bytes:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = self._socket.recv_into(view)
            if count == 0:
                message = "the port was closed"
                raise FrameError(message)
            view = view[count:]
        return bytes(data)

    def _read(self) -> None:
        try:
            while True:
                header, payload = read_frame(self._exactly)
                self.last_heard = time.monotonic()
                if text(header, "op") == "hello":
                    self.hello = header
                    self._greeted.set()
                with self._lock:
                    request = self._requests.get(number(header, "id", -1))
                if request is not None:
                    request.take(header, payload)
        except (OSError, FrameError, ValueError) as error:
            self._on_broken(str(error))
