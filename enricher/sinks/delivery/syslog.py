# SPDX-License-Identifier: Apache-2.0
"""Syslog over UDP, TCP and TLS: nobody says what arrived. See docs/sinks/syslog.md.

Owns the three transports and the count of what a break may have lost. Never acknowledges, never falls back from one
transport to another; what a syslog message looks like is `rfc5424`'s.

Over TCP and TLS every message has its length before it (octet counting, RFC 6587 and RFC 5425): no byte of a
message can end it. A batch is one stretch of bytes. That it was handed over means that it is in this host's memory
or further: what was handed over before a break may be lost, and is counted as `unsure`. So that this count has
an end, the connection is ended in good order after every `renew` messages: we say that all was said, the receiver
reads it and closes, and a new connection is made. A receiver that has read something may still die with it: so
the count at a break is of what was handed over since the renewal before the last, `2 * renew` and two batches at most.

Over UDP everything since the last break, or since the start, may be lost.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from enricher.config.kinds import Count
from enricher.config.options import Clash, option, refuse_clashes
from enricher.errors import UsageError
from enricher.sinks.delivery.connection import (
    Address,
    Connection,
    ReceiverOptions,
    Tls,
    address_of,
    context_of,
)
from enricher.sinks.delivery.message import ALL_TAKEN, Message, Receipt, Unreachable
from enricher.sinks.delivery.rfc5424 import LENGTH_MAX, LENGTH_MIN, SD_ID, Formatter, SdId

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Sequence

DATAGRAM_MAX: Final = 65507 - 20
"""Bytes of a syslog message over UDP: what IPv4 has room for, less than IPv6 has."""
_FULL: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})


@dataclass(frozen=True)
class SyslogOptions(ReceiverOptions):
    """What can be set of a destination of type `syslog`."""

    transport: Literal["udp", "tcp", "tls"] = option("tls", "udp, tcp with octet counting, or tls")
    max_length: int = option(
        8096,
        "octets of a syslog message; a longer line goes out in parts that say so",
        Count(LENGTH_MIN, LENGTH_MAX),
    )
    facility: int = option(13, "the number of the facility; 13 is log audit", Count(0, 23))
    hostname: str = option("", "HOSTNAME of the messages; empty: the host's")
    sd_id: str = option(SD_ID, "the name of the structured data: NAME@PRIVATE-ENTERPRISE-NUMBER", SdId())
    renew: int = option(
        10_000, "messages after which a connection is renewed, which bounds what a break may lose; 0: never"
    )
    timeout: float = option(10.0, "seconds for connecting, for sending a batch, and for ending a connection")

    def clashes(self) -> Iterator[Clash]:
        """See `Clashing`."""
        yield from super().clashes()
        if self.transport != "tls" and self.tls_given != Tls():
            hint = 'transport = "tls", or leave the tls_ options out'
            yield Clash("transport", f"it is {self.transport}, and there are options of TLS", hint)
        if self.transport == "udp" and self.max_length > DATAGRAM_MAX:
            said = f"{self.max_length} is more than a datagram holds"
            yield Clash("max_length", said, f"at most {DATAGRAM_MAX}")


class SyslogSender:
    """A `Sender` for one receiver; it connects at the first `send`. Raises UsageError for options that cannot be.

    ``split`` and ``renewed`` count lines that went out in parts, and connections that were renewed.
    """

    acknowledged = False

    def __init__(self, options: SyslogOptions) -> None:
        self._wire = _wire_of(options)
        self._renew = options.renew
        self.most = 64 if options.transport == "udp" else 512
        self._format = Formatter(
            hostname=options.hostname or socket.gethostname(),
            procid=os.getpid(),
            max_length=options.max_length,
            facility=options.facility,
            sd_id=options.sd_id,
        )
        self.renewed = 0
        self._before = self._recent = 0  # messages handed over: before the last renewal, and since
        self._unsure = 0

    @property
    def split(self) -> int:
        """Lines that were longer than `max_length` and went out in parts."""
        return self._format.split

    def send(self, messages: Sequence[Message]) -> Receipt:
        """See `Sender`."""
        refused: dict[int, str] = {}
        out: list[bytes] = []
        for index, message in enumerate(messages):
            try:
                out += self._format.messages(message)
            except ValueError as error:
                refused[index] = str(error)
        if self._renew and self._recent >= self._renew:
            self._renewal()
        try:
            self._wire.send(out)
        except Unreachable:
            self._broken()
            raise
        self._recent += len(messages) - len(refused)
        return Receipt(refused) if refused else ALL_TAKEN

    def _renewal(self) -> None:
        if self._wire.finish():
            self.renewed += 1
            self._before, self._recent = self._recent, 0
        else:
            self._broken()

    def _broken(self) -> None:
        self._wire.close()
        self._unsure += self._before + self._recent
        self._before = self._recent = 0

    def unsure(self) -> int:
        """See `Unacknowledged`."""
        told, self._unsure = self._unsure, 0
        return told

    def close(self) -> None:
        """See `Sender`. Waits until the receiver has read everything, and counts as unsure what it may not have."""
        if self._wire.finish():
            self._before = self._recent = 0
        else:
            self._broken()


class _Stream:
    """TCP or TLS."""

    def __init__(self, address: Address, timeout: float, context: ssl.SSLContext | None, name: str) -> None:
        self._address = address
        self._timeout = timeout
        self._context = context
        self._name = name
        self._connection: Connection | None = None

    def send(self, out: Sequence[bytes]) -> None:
        connection = self._connection
        if connection is None:
            connection = self._connection = Connection(
                self._address, self._timeout, self._context, self._name
            )
        if connection.ended():
            raise Unreachable(f"{self._address} has closed the connection")
        connection.send(
            b"".join([b"%d %b" % (len(each), each) for each in out]), time.monotonic() + self._timeout
        )

    def finish(self) -> bool:
        connection, self._connection = self._connection, None
        if connection is None:
            return True
        try:
            return connection.finish(time.monotonic() + self._timeout)
        finally:
            connection.close()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _Datagrams:
    """UDP, connected: a port that nobody listens on is told to us, sooner or later."""

    def __init__(self, address: Address, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._sent = False

    def _connect(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_DGRAM)
            family, kind, protocol, _name, where = found[0]
            made = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
            try:
                made.connect(where)
            except OSError:
                made.close()
                raise
        except (OSError, UnicodeError) as error:
            raise self._unreachable(error) from error
        self._socket, self._sent = made, False
        return made

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(f"cannot send to {self._address}: {getattr(error, 'strerror', None) or error}")

    def send(self, out: Sequence[bytes]) -> None:
        connection = self._socket or self._connect()
        deadline = time.monotonic() + self._timeout
        for each in out:
            self._send(connection, each, deadline)

    def _send(self, connection: socket.socket, datagram: bytes, deadline: float) -> None:
        while True:
            try:
                connection.send(datagram)
            except OSError as error:
                left = deadline - time.monotonic()
                if error.errno not in _FULL or left <= 0:
                    raise self._unreachable(error) from error
                select.select([], [connection], [], left)
            else:
                self._sent = True
                return

    def finish(self) -> bool:
        sent = self._sent
        self.close()
        return not sent

    def close(self) -> None:
        connection, self._socket = self._socket, None
        self._sent = False
        if connection is not None:
            connection.close()


def _wire_of(options: SyslogOptions) -> _Stream | _Datagrams:
    address = address_of(options.address)
    refuse_clashes(options)
    tls = options.tls_given
    if options.transport == "tls":
        return _Stream(address, options.timeout, context_of(tls), tls.server_name)
    if options.transport == "tcp":
        return _Stream(address, options.timeout, None, "")
    if options.transport != "udp":
        raise UsageError(f"there is no transport {options.transport!r}", "udp, tcp or tls")
    return _Datagrams(address, options.timeout)
