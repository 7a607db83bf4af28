# SPDX-License-Identifier: Apache-2.0
"""Fluent Forward v1: chunks of events that the receiver acknowledges one by one. See docs/sinks/forward.md.

Owns the client's side of a connection: the handshake where there is a shared key, chunks, and which of them were
acknowledged. Never takes a chunk for delivered without its acknowledgement. How it looks as bytes: `forward_wire`.

After a break what was acknowledged is done and what was not is to be sent again: `Receipt.again` where at least one
chunk was, else `Unreachable`. A receiver that says nothing to a connection without a shared key is as it should be,
so whether it is one is known with the first acknowledgement.
"""

from __future__ import annotations

import os
import re
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from enricher.config.kinds import Count, Kind, Size, Unfit
from enricher.config.options import Clash, needed, option, refuse_clashes
from enricher.errors import UsageError
from enricher.sinks.delivery.connection import (
    Address,
    Connection,
    ReceiverOptions,
    Tls,
    UnixAddress,
    address_of,
    context_of,
)
from enricher.sinks.delivery.forward_wire import (
    Answers,
    Chunk,
    Helo,
    Keys,
    ProtocolError,
    acknowledged,
    check_pong,
    chunks,
    helo_of,
    ping,
)
from enricher.sinks.delivery.message import ALL_TAKEN, Message, Receipt, Unreachable
from enricher.sinks.delivery.secret import read_secret, secret_path
from enricher.sinks.delivery.session import Held

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TAG: Final = re.compile(r"[\x21-\x7e]{1,256}")
_WAITS: Final = 6
"""Times `ack_timeout` that one call may take, of a receiver that acknowledges slowly but does."""


class ForwardAddressKind(Kind[str]):
    """An address, or the path of a Unix socket."""

    what = "HOST:PORT, [ADDRESS]:PORT for IPv6, or the absolute path of a Unix socket"
    metavar = "HOST:PORT"

    def parse(self, text: str) -> str:
        """See `Kind`."""
        try:
            where_of(text)
        except UsageError:
            raise Unfit(self.wrong(text)) from None
        return text


class TagKind(Kind[str]):
    """A tag: what the receiver routes by."""

    what = "a tag of 1 to 256 printable ASCII letters without spaces"
    metavar = "TAG"

    def parse(self, text: str) -> str:
        """See `Kind`."""
        if not _TAG.fullmatch(text):
            raise Unfit(self.wrong(text))
        return text


def where_of(text: str) -> Address | UnixAddress:
    """Parse an address. Raises UsageError."""
    return UnixAddress.of(text) if text.startswith("/") else address_of(text)


@dataclass(frozen=True)
class ForwardOptions(ReceiverOptions):
    """What can be set of a destination of type `forward`."""

    address: str = needed(
        "where the receiver listens: HOST:PORT, [ADDRESS]:PORT for IPv6, or a Unix socket's path",
        kind=ForwardAddressKind(),
    )
    tls: bool = option(default=False, doc="whether the connection is TLS from its first byte on")
    shared_key_file: str = option(
        "",
        "file with the key that both ends know; a name without a slash is a systemd credential; empty: none",
    )
    username: str = option("", "the user, where the receiver asks for one beside the shared key")
    password_file: str = option("", "file with the user's password, as shared_key_file")
    hostname: str = option(
        "", "our name in the handshake, another one than the receiver's; empty: the host's"
    )
    tag: str = option("audit", "the tag, by which the receiver routes", TagKind())
    compression: Literal["none", "gzip"] = option("none", "none, or gzip for receivers that know it")
    batch: int = option(500, "events in one chunk, at most", Count(1, 10_000))
    batch_bytes: int = option(
        1 << 20, "bytes of one chunk before compression; a larger event goes alone", Size()
    )
    timeout: float = option(10.0, "seconds for connecting with the handshake, and for sending")
    ack_timeout: float = option(30.0, "seconds for the next acknowledgement")

    def clashes(self) -> Iterator[Clash]:
        """See `Clashing`."""
        yield from super().clashes()
        if self.tls_given != Tls() and not self.tls:
            hint = "tls = true, or leave the tls_ options out"
            yield Clash("tls", "there are options of TLS without it", hint)
        if self.tls and self.address.startswith("/"):
            yield Clash("tls", "a Unix socket has no TLS", "leave it out, or give address as HOST:PORT")
        if bool(self.username) != bool(self.password_file):
            given, other = ("username", "password_file") if self.username else ("password_file", "username")
            yield Clash(given, f"there is no {other}", "a user needs both, or leave both out")
        if self.username and not self.shared_key_file:
            yield Clash(
                "username", "there is no shared_key_file", "a user is asked for beside a shared key alone"
            )


class _Session:
    """One connection that is open for chunks. Raises Unreachable and ProtocolError."""

    def __init__(self, connection: Connection, timeout: float, keys: Keys | None) -> None:
        self._connection = connection
        self._answers = Answers()
        self.keepalive = True
        self.waiting: dict[bytes, Chunk] = {}
        if keys is not None:
            deadline = time.monotonic() + timeout
            said = self._one(deadline)
            self._helo(helo_of(said), keys, deadline)

    def _helo(self, helo: Helo, keys: Keys, deadline: float) -> None:
        if helo.auth and not keys.user:
            raise ProtocolError("it asks for a user: set username and password_file")
        salt = os.urandom(16).hex()
        self._connection.send(ping(helo, keys, salt), deadline)
        check_pong(self._one(deadline), helo, keys, salt)
        self.keepalive = helo.keepalive

    def _one(self, deadline: float) -> object:
        """Wait for one object; more than it cannot be there yet."""
        while not (said := list(self._received(deadline))):
            pass
        if len(said) > 1:
            raise ProtocolError("it says more than it was asked")
        return said[0]

    def _received(self, deadline: float) -> Iterator[object]:
        data = self._connection.receive(deadline)
        if not data:
            raise ProtocolError("it has closed the connection")
        return self._answers.feed(data)

    def send(self, chunk: Chunk, timeout: float) -> None:
        self.waiting[chunk.id] = chunk
        self._connection.send(chunk.data, time.monotonic() + timeout)

    def acknowledged(self, deadline: float) -> Iterator[Chunk]:
        """Wait for the next acknowledgements, and return their chunks."""
        for said in self._received(deadline):
            chunk = self.waiting.pop(acknowledged(said), None)
            if chunk is None:
                raise ProtocolError("it acknowledges a chunk that it was not sent")
            yield chunk


class ForwardSender:
    """A `Sender` for one receiver; it connects at the first `send`. Raises UsageError and ConfigInvalid.

    ``chunks`` counts those that were acknowledged.
    """

    acknowledged = True

    def __init__(self, options: ForwardOptions) -> None:
        self._where = where_of(options.address)
        refuse_clashes(options)
        self.most = options.batch
        self._options = options
        self._context = context_of(options.tls_given) if options.tls else None
        self._keys: Keys | None = None
        self.advice = ""
        if options.shared_key_file:
            shared = self._secret(options.shared_key_file, "shared_key_file")
            password = self._secret(options.password_file, "password_file") if options.password_file else ""
            hostname = options.hostname or socket.gethostname()
            self._keys = Keys(hostname, shared, options.username, password)
        self._held = Held(self._connect, self._begin)
        self.chunks = 0

    @property
    def sessions(self) -> int:
        """Connections that were opened."""
        return self._held.begun

    def _connect(self) -> Connection:
        options = self._options
        return Connection(self._where, options.timeout, self._context, options.tls_server_name)

    def _begin(self, connection: Connection) -> _Session:
        return _Session(connection, self._options.timeout, self._keys)

    def _secret(self, name: str, key: str) -> str:
        secret, advice = read_secret(secret_path(name, key), key)
        self.advice = self.advice or advice
        return secret

    def send(self, messages: Sequence[Message]) -> Receipt:
        """See `Sender`. Ends after `ack_timeout` without an acknowledgement, and after six times that with them."""
        options = self._options
        todo = list(
            chunks(messages, options.tag, options.batch_bytes, compress=options.compression == "gzip")
        )
        taken: set[bytes] = set()
        try:
            if todo:
                self._exchange(todo, taken)
        except (Unreachable, ProtocolError) as error:
            self._held.abandon()
            if not taken:
                raise self._unreachable(error) from error
        left = [chunk for chunk in todo if chunk.id not in taken]
        again = [number for chunk in left for number in range(chunk.first, chunk.first + chunk.events)]
        return Receipt({}, again) if again else ALL_TAKEN

    def _exchange(self, todo: Sequence[Chunk], taken: set[bytes]) -> None:
        """Send all, and note what is acknowledged in `taken`."""
        end = time.monotonic() + _WAITS * self._options.ack_timeout
        left = list(todo)
        while left:
            session = self._held.opened()
            # Who closes after each chunk is given one; the others get all, which they may acknowledge in any order.
            now = left if session.keepalive else left[:1]
            left = left[len(now) :]
            for chunk in now:
                session.send(chunk, self._options.timeout)
            while session.waiting:
                if time.monotonic() > end:
                    raise Unreachable(f"{self._where} acknowledges too slowly")
                for chunk in session.acknowledged(time.monotonic() + self._options.ack_timeout):
                    taken.add(chunk.id)
                    self.chunks += 1
            if not session.keepalive:
                self._held.abandon()

    def _unreachable(self, error: Exception) -> Unreachable:
        if isinstance(error, Unreachable):
            return error
        return Unreachable(f"{self._where} does not take events over Forward: {error}")

    def close(self) -> None:
        """See `Sender`. The protocol has no farewell, and nothing is open that was not told to be."""
        self._held.abandon()
