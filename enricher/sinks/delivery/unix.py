# SPDX-License-Identifier: Apache-2.0
"""A Unix socket that consumers connect to, as they do to auditd's af_unix plugin. See docs/sinks/unix.md.

Owns the socket, its file, the consumers and their bounds. Never waits for a consumer, reads nothing that one says,
and never replaces a socket that somebody listens on.

A thread of its own accepts consumers and writes to them, so that one that connects when there is nothing to send
is not left standing, and the last lines go out without another event. `send` gives every consumer that is there its
lines and returns. One whose unread bytes would be more than `buffer` is let go: it sees the end of the stream, may
connect again, and knows that something is missing between. Nobody being there is no failure: the messages are
counted as `unheard`, as auditd drops them.
"""

from __future__ import annotations

import contextlib
import grp
import os
import select
import socket
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enricher.config.kinds import Count, Mode, Name, Size
from enricher.config.kinds import Path as PathKind
from enricher.config.options import option
from enricher.errors import UsageError
from enricher.sinks.delivery.message import ALL_TAKEN, Message, Receipt
from enricher.sinks.socketfile import clear

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH: Final = "/run/audit-enricher/events.sock"
_SEND: Final = 256 << 10
_BACKLOG: Final = 8
_JOIN: Final = 5.0
"""Seconds for the thread to end: it never waits for anything but its own wake-up."""
_IN, _OUT, _GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR


@dataclass(frozen=True)
class UnixOptions:
    """What can be set of a destination of type `unix`."""

    path: str = option(
        PATH,
        "the socket's file; consumers of auditd's plugin look for /var/run/audispd_events",
        PathKind(107),
    )
    mode: int = option(0o640, "the file's mode; who may write to it may connect", Mode())
    group: str = option("", "the file's group; empty: the service's", Name())
    consumers: int = option(8, "consumers at the same time, at most; a further one is turned away", Count())
    buffer: int = option(
        4 << 20, "bytes that wait for one consumer; one that is further behind is let go", Size()
    )
    drain: float = option(1.0, "seconds that consumers have at the end to read what waits for them")


class _Consumer:
    """One connection: what waits for it, and which messages it may not have read.

    Unread in the kernel is at most the socket's send buffer and one piece that was let in before it was full.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.out = bytearray()
        self.slow = False  # to be let go
        self.said_all = False  # we have
        self.mask = _IN
        self._unread_max = 2 * connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        self._given = 0  # bytes ever put into `out`
        self._ends: deque[int] = deque()  # where each message ends, counted in those bytes

    def put(self, chunks: Sequence[bytes]) -> None:
        for chunk in chunks:
            self.out += chunk
            self._given += len(chunk)
            self._ends.append(self._given)

    def write(self) -> None:
        """Hand over what the socket takes. Raises OSError."""
        while self.out:
            count = self.socket.send(self.out[:_SEND])
            del self.out[:count]
            surely_read = self._given - len(self.out) - self._unread_max
            while self._ends and self._ends[0] <= surely_read:
                self._ends.popleft()

    def missed(self, *, clean: bool) -> int:
        """Messages that it may not have read. The kernel resets the connection of one that leaves bytes unread."""
        handed = self._given - len(self.out)
        return sum(end > handed for end in self._ends) if clean else len(self._ends)


class UnixSender:
    """A `Sender` for whoever connects. Raises UsageError where the socket cannot be made.

    ``served`` counts consumers that were accepted, ``turned_away`` those that were one too many, ``dropped`` those
    that were let go because they did not read, ``unheard`` the messages that came while nobody was there.
    """

    acknowledged = False
    most = 512

    def __init__(self, options: UnixOptions) -> None:
        self._options = options
        self._listener = _listen(options.path, options.mode, options.group)
        made = os.lstat(options.path)
        self._inode = (made.st_dev, made.st_ino)
        self._lock = threading.Lock()
        self._consumers: dict[int, _Consumer] = {}  # by descriptor
        self._unsure = 0
        self._closing = False
        self._drained = threading.Event()
        self.served = self.turned_away = self.dropped = self.unheard = 0
        self._wake, self._woken = socket.socketpair()
        for end in (self._wake, self._woken, self._listener):
            end.settimeout(0)
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="unix-sink", daemon=True)
        self._thread.start()

    @property
    def connected(self) -> int:
        """Consumers that are there now."""
        return len(self._consumers)

    def send(self, messages: Sequence[Message]) -> Receipt:
        """See `Sender`. Never raises, and never waits."""
        chunks = [message.body + b"\n" for message in messages]
        size = sum(map(len, chunks))
        with self._lock:
            there = [consumer for consumer in self._consumers.values() if not consumer.slow]
            if not there:
                self.unheard += len(messages)
                return ALL_TAKEN
            for consumer in there:
                if len(consumer.out) + size > self._options.buffer and consumer.out:
                    consumer.slow = True
                    self.dropped += 1
                    self._unsure += len(messages)
                else:
                    consumer.put(chunks)
        self._rouse()
        return ALL_TAKEN

    def unsure(self) -> int:
        """See `Unacknowledged`: what waited for consumers that went, each message once for each of them."""
        with self._lock:
            told, self._unsure = self._unsure, 0
        return told

    def close(self) -> None:
        """See `Sender`. Consumers have `drain` seconds to read what waits for them."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        self._rouse()
        self._drained.wait(self._options.drain)
        self._drained.set()
        self._rouse()
        self._thread.join(_JOIN)
        for end in (self._wake, self._woken):
            end.close()

    def _rouse(self) -> None:
        with contextlib.suppress(OSError):  # full: it will wake up
            self._wake.send(b"\0")

    # What follows is the thread's.

    def _run(self) -> None:
        with select.epoll() as epoll:
            epoll.register(self._listener, _IN)
            epoll.register(self._woken, _IN)
            while not self._turn(epoll):
                pass
            with self._lock:
                for consumer in list(self._consumers.values()):
                    self._drop(consumer, reset=True)  # it did not close in time
        self._listener.close()
        with contextlib.suppress(OSError):
            os.close(self._spare)
        with contextlib.suppress(OSError):
            found = os.lstat(self._options.path)
            if (found.st_dev, found.st_ino) == self._inode:
                Path(self._options.path).unlink()

    def _turn(self, epoll: select.epoll) -> bool:
        """Do what can be done, waiting for something to do. Return whether it was the last time."""
        ready = epoll.poll()
        with self._lock:
            knocked = False
            for fd, events in ready:
                if fd == self._woken.fileno():
                    with contextlib.suppress(OSError):
                        self._woken.recv(4096)
                elif fd == self._listener.fileno():
                    knocked = True
                else:
                    self._attend(self._consumers[fd], events)
            for consumer in list(self._consumers.values()):
                self._write(epoll, consumer)
            if knocked:  # last: a new consumer may get the descriptor of one that has just gone
                self._accept(epoll)
            if not self._closing:
                return False
            if not self._consumers:
                self._drained.set()
            return self._drained.is_set()

    def _accept(self, epoll: select.epoll) -> None:
        try:
            connection, _name = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            self._turn_off()
            return
        if self._closing or len(self._consumers) >= self._options.consumers:
            self.turned_away += 1
            connection.close()
            return
        connection.settimeout(0)
        try:
            epoll.register(connection, _IN)
        except OSError:  # the user may watch no more, or there is no memory: the others go on
            self.turned_away += 1
            connection.close()
            return
        self.served += 1
        self._consumers[connection.fileno()] = _Consumer(connection)

    def _turn_off(self) -> None:
        """End a connection for which there is no descriptor: left where it is it would wake us for ever."""
        self.turned_away += 1
        with contextlib.suppress(OSError):
            os.close(self._spare)
            self._spare = -1
            self._listener.accept()[0].close()
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _attend(self, consumer: _Consumer, events: int) -> None:
        """Notice that a consumer went. What it says is dropped; one that has said all may still read."""
        if events & _GONE:
            self._drop(consumer)
        elif events & _IN:
            try:
                said = consumer.socket.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                self._drop(consumer, reset=True)
                return
            if not said:
                consumer.mask &= ~_IN

    def _write(self, epoll: select.epoll, consumer: _Consumer) -> None:
        if consumer.slow:
            self._drop(consumer, reset=True)
            return
        try:
            consumer.write()
            if self._closing and not consumer.said_all:
                consumer.socket.shutdown(socket.SHUT_WR)  # it reads the end, and closes
                consumer.said_all = True
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._drop(consumer)
            return
        except OSError:
            self._drop(consumer, reset=True)
            return
        consumer.mask = consumer.mask & _IN | (_OUT if consumer.out else 0)
        epoll.modify(consumer.socket, consumer.mask)

    def _drop(self, consumer: _Consumer, *, reset: bool = False) -> None:
        """Let it go. The kernel says whether it has left anything unread, if it went first."""
        left = reset or consumer.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        self._unsure += consumer.missed(clean=not left)
        del self._consumers[consumer.socket.fileno()]
        consumer.socket.close()  # which takes it out of the epoll set as well


def _listen(path: str, mode: int, group: str) -> socket.socket:
    """Return the listening socket, whose file is its owner's alone until it has its group and mode."""
    try:
        gid = grp.getgrnam(group).gr_gid if group else -1
    except KeyError as error:
        raise UsageError(f"cannot make the socket {path}: there is no group {group!r}") from error
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        clear(
            path,
            UsageError(
                f"cannot make the socket {path}: something else is there",
                "move it away, or name another path",
            ),
            UsageError(
                f"cannot make the socket {path}: somebody listens on it",
                "auditd's af_unix plugin, or another run of this service: give one of them another path",
            ),
        )
        os.fchmod(listener.fileno(), 0o600)  # which the file inherits
        listener.bind(path)
        os.chown(path, -1, gid, follow_symlinks=False)
        Path(path).chmod(mode)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot make the socket {path}: {error.strerror or error}",
            "its directory must exist and admit the service, and the group be one of the service's",
        ) from error
    except UsageError:
        listener.close()
        raise
    return listener
