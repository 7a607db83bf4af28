# SPDX-License-Identifier: Apache-2.0
"""The control socket's server: who asks gets the status or births, who follows gets events. See docs/control.md.

Owns the clients and their bounds; the socket and its admission (its file mode and nothing else) are `listening`'s.
Never blocks, never waits, never raises for what a client does or leaves undone, and makes no system call for an event
that nobody follows: on an audited host each is a record of our own.

The pipeline's loop drives it: `fileno` is an epoll descriptor, readable when `serve` has something to do. What is
bounded: clients (when full, the oldest goes that does not follow), those that follow, the line of a request, and
for a follower the bytes that wait for it. Nothing is bounded by a timer.
"""

from __future__ import annotations

import json
import select
import socket
import sys
from typing import TYPE_CHECKING, Final

from enricher.errors import UsageError
from enricher.runtime.control_request import HINT, Wish, read
from enricher.runtime.listening import listen_unix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enricher.model import Event
    from enricher.route.expression import Native

CLIENTS_MAX: Final = 32
FOLLOWERS_MAX: Final = 8
"""Fewer than clients: there is always one that can go, and `status` is always answered."""
REQUEST_MAX: Final = 16 << 10
"""Bytes of a request, without its newline."""
QUEUE_MAX: Final = 4 << 20
"""Bytes that wait for one follower."""
_RESUME: Final = QUEUE_MAX // 2
"""Once something was skipped, nothing is queued before as little waits: else every other event is skipped."""
_NOTE_MAX: Final = 64
_SEND: Final = 256 << 10

_IN, _OUT, _GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR


class _Client:
    """One connection: what came of its request, what waits to be sent, and what it waits for."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.received = bytearray()
        self.out = bytearray()
        self.mask = _IN
        self.wish: Wish | None = None  # it follows
        self.skipped = 0  # events since it was last told
        self.answered = False  # close when everything is sent

    def offer(self, events: Sequence[Event], lines: Sequence[bytes], natives: Sequence[Native]) -> int:
        """Queue what it wants and what there is room for. Return how many events were skipped."""
        skipped = 0
        for event, line, native in zip(events, lines, natives, strict=True):
            if self.wish is None or not self.wish.wants(event, native):
                continue
            waiting = len(self.out)
            if waiting + len(line) + _NOTE_MAX > QUEUE_MAX or (self.skipped and waiting > _RESUME):
                self.skipped += 1
                skipped += 1
                continue
            self.tell_skipped()
            self.out += line
        return skipped

    def tell_skipped(self) -> None:
        """Queue how many events were skipped, if any."""
        if self.skipped:
            self.out += b'{"skipped":%d}\n' % self.skipped
            self.skipped = 0


class ControlServer:
    """Listens at `path`; `status` gives what is answered to who asks for it, `births` the same of namespaces.

    A request is read by a later call of `serve` than the one that accepted its connection. So between two of them, in
    its loop, everything is read that the kernel side had told before the client connected: `births` rests on that.

    Raises UsageError where the socket cannot be made. ``advice`` is "" or one sentence for the operator. The
    counters: ``skipped`` events that a slow follower did not get, ``refused`` requests, ``oversized`` ones,
    ``crowded_out`` clients that had to go for a new one, ``turned_away`` followers too many, ``unaccepted``
    connections for which there was no descriptor.
    """

    def __init__(
        self,
        path: str,
        group: str,
        status: Callable[[], dict[str, object]],
        births: Callable[[], dict[str, object]] | None = None,
    ) -> None:
        self._replies = {"status": status, "births": births or _nobody_looks}
        self._path = path
        self._listener = listen_unix(path, group, "control")
        self.advice = self._listener.advice
        self._epoll = select.epoll()
        self._epoll.register(self._listener, _IN)
        self._clients: dict[int, _Client] = {}  # by descriptor, the oldest first
        self.followers = 0
        self.skipped = self.refused = self.oversized = 0
        self.crowded_out = self.turned_away = 0

    @property
    def unaccepted(self) -> int:
        """See the class."""
        return self._listener.unaccepted

    @property
    def wants_events(self) -> bool:
        """Whether anybody follows."""
        return self.followers > 0

    def fileno(self) -> int:
        """Return a descriptor that is readable (level-triggered) when `serve` has something to do."""
        return self._epoll.fileno()

    def serve(self) -> None:
        """Do everything that can be done now."""
        listener = self._listener.fileno()
        knocked = False
        for fd, ready in self._epoll.poll(0):
            if fd == listener:
                knocked = True
            elif (client := self._clients.get(fd)) is not None:
                self._attend(client, ready)
        if knocked:  # last: a new client may get the descriptor of one that has just gone
            self._accept()

    def publish(self, events: Sequence[Event], lines: Sequence[bytes], natives: Sequence[Native]) -> None:
        """Give events to those who follow; `lines` are the same events as JSON, each with its newline.

        `natives` make their native forms, for filters that ask more than key and type.
        """
        if not self.followers:
            return
        for client in [client for client in self._clients.values() if client.wish is not None]:
            self.skipped += client.offer(events, lines, natives)
            if client.out and not client.mask & _OUT:
                self._send(client)

    def counts(self) -> dict[str, int]:
        """Return every counter by its name, for the status."""
        names = ("followers", "skipped", "refused", "oversized", "crowded_out", "turned_away", "unaccepted")
        return {name: getattr(self, name) for name in names}

    def close(self) -> None:
        """Let all clients go and remove the socket, if it is still ours. A second call does nothing."""
        if self._epoll.closed:
            return
        for client in list(self._clients.values()):
            if client.out:
                self._send(client)
        for client in list(self._clients.values()):
            self._drop(client)
        self._listener.close()
        self._epoll.close()

    def _accept(self) -> None:
        for _ in range(CLIENTS_MAX):
            connection = self._listener.accept()
            if connection is None:
                return
            if len(self._clients) >= CLIENTS_MAX:
                self.crowded_out += 1
                self._drop(next(client for client in self._clients.values() if client.wish is None))
            client = _Client(connection)
            self._clients[connection.fileno()] = client
            self._epoll.register(connection, _IN)

    def _attend(self, client: _Client, ready: int) -> None:
        if ready & _GONE:
            self._drop(client)  # nobody is left to read an answer
            return
        if ready & _IN:
            self._receive(client)
        if ready & _OUT and client.socket.fileno() in self._clients:
            self._send(client)

    def _receive(self, client: _Client) -> None:
        try:
            data = client.socket.recv(REQUEST_MAX + 1 - len(client.received))
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        if client.wish is not None:
            if data:
                self.refused += 1  # what else it wants cannot be told any more: its answers are events
                self._drop(client)
            else:
                self._watch(client, client.mask & ~_IN)  # it has said all and still reads
            return
        client.received += data
        line, newline, rest = client.received.partition(b"\n")
        if not client.received:
            self._drop(client)
        elif rest:
            self._refuse(client, UsageError("more than one request", "one connection takes one request"))
        elif newline or not data:
            self._answer(client, bytes(line))
        elif len(client.received) > REQUEST_MAX:
            self.oversized += 1
            self._refuse(client, UsageError(f"a request of more than {REQUEST_MAX} bytes", HINT))

    def _answer(self, client: _Client, line: bytes) -> None:
        try:
            request = read(line)
            if (reply := self._replies.get(str(request["op"]))) is not None:
                self._finish(client, reply())
                return
            if self.followers >= FOLLOWERS_MAX:
                self.turned_away += 1
                self._refuse(client, UsageError(f"{FOLLOWERS_MAX} follow already", "one of them has to end"))
                return
            client.wish = Wish(request, _peer(client.socket))
        except UsageError as error:
            self._refuse(client, error)
            return
        self.followers += 1
        client.received.clear()
        client.out += b'{"ok":true,"following":true}\n'
        self._send(client)

    def _refuse(self, client: _Client, error: UsageError) -> None:
        self.refused += 1
        self._finish(client, {"error": error.message, "hint": error.hint})

    def _finish(self, client: _Client, reply: dict[str, object]) -> None:
        """Send one line and close. In ASCII: a file's name, say, may be no Unicode."""
        client.answered = True
        client.out += json.dumps(reply, separators=(",", ":"), default=str).encode() + b"\n"
        self._send(client)

    def _send(self, client: _Client) -> None:
        """Send what the socket takes; wait for more room, or else for what the client says."""
        while client.out:
            chunk = client.out[:_SEND]
            try:
                sent = client.socket.send(chunk)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._drop(client)
                return
            del client.out[:sent]
            if sent < len(chunk):
                self._watch(client, (client.mask & _IN if client.wish else 0) | _OUT)
                return
            if not client.out:
                client.tell_skipped()
        if client.answered:
            self._drop(client)
        else:
            self._watch(client, client.mask & ~_OUT)

    def _watch(self, client: _Client, mask: int) -> None:
        if mask != client.mask:
            client.mask = mask
            self._epoll.modify(client.socket, mask)

    def _drop(self, client: _Client) -> None:
        if self._clients.pop(client.socket.fileno(), None) is None:
            return
        if client.wish is not None:
            self.followers -= 1
        client.socket.close()  # which takes it out of the epoll set as well


def _nobody_looks() -> dict[str, object]:
    raise UsageError("births of namespaces are not known here", HINT)


def _peer(connection: socket.socket) -> int:
    """Return the process at the other end, as it was when it connected."""
    size = 3 * 4  # struct ucred: pid, uid, gid
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int.from_bytes(credentials[:4], sys.byteorder)
