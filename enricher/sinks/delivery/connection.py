# SPDX-License-Identifier: Apache-2.0
"""One stream connection to a receiver, TCP, TLS or a Unix socket: made, written, read and ended within a given time.

Owns addresses, TLS's settings, keepalive and what is known of the other end. Never frames anything, never tries
again, and never speaks in clear text where TLS was asked for. What fails raises `Unreachable`, and the connection is
of no use afterwards but to be closed.

A name is looked up by the host's resolver, whose time is its own (`/etc/resolv.conf`); everything else ends in time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import socket
import ssl
import termios
import time
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.config.kinds import Kind, Path, Unfit
from enricher.config.options import Clash, needed, option
from enricher.errors import UsageError
from enricher.sinks.delivery.message import Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK: Final = 64 << 10
_SUN_PATH: Final = 107  # sun_path of unix(7), without the NUL at its end
_LINGER: Final = 1 << 20
"""Bytes that a receiver may still say after we have said all: more than that is no farewell."""

_ESTABLISHED: Final = 1  # TCP_ESTABLISHED of the kernel, the first member of struct tcp_info

_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)
"""A peer that is gone without a word is noticed after a minute: where there is nothing to send by probes, and else
because nothing is acknowledged, for which the kernel would wait a quarter of an hour."""


class Address(NamedTuple):
    """Where a receiver listens. As text ``HOST:PORT``, or ``[ADDRESS]:PORT`` for IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_of(text: str) -> Address:
    """Parse an address. Raises UsageError."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s\[\]:/]+)):([0-9]{1,5})", text)
    if found is None or not 0 < int(found[3]) < 1 << 16:
        raise UsageError(
            f"{text!r} is no address of a receiver", "HOST:PORT, or [ADDRESS]:PORT for an IPv6 address"
        )
    return Address(found[1] or found[2], int(found[3]))


class UnixAddress(NamedTuple):
    """The path of a stream socket of this host."""

    path: str

    def __str__(self) -> str:
        return self.path

    @classmethod
    def of(cls, text: str) -> UnixAddress:
        """Parse a path. Raises UsageError."""
        if not text.startswith("/") or "\0" in text or len(os.fsencode(text)) > _SUN_PATH:
            raise UsageError(
                f"{text!r} is no path of a Unix socket", f"an absolute path of at most {_SUN_PATH} bytes"
            )
        return cls(text)


class AddressKind(Kind[str]):
    """An address in a file."""

    what = "an address of a receiver: HOST:PORT, or [ADDRESS]:PORT for IPv6"
    metavar = "HOST:PORT"

    def parse(self, text: str) -> str:
        """See `Kind`."""
        try:
            address_of(text)
        except UsageError:
            raise Unfit(self.wrong(text)) from None
        return text


class AddressesKind(Kind[str]):
    """Addresses of one receiver's servers, which stand for each other."""

    what = "one or more addresses, HOST:PORT or [ADDRESS]:PORT for IPv6, with commas between them"
    metavar = "HOST:PORT,..."

    def parse(self, text: str) -> str:
        """See `Kind`."""
        try:
            addresses_of(text)
        except UsageError:
            raise Unfit(self.wrong(text)) from None
        return text


def addresses_of(text: str) -> list[Address]:
    """Parse addresses with commas between them. Raises UsageError."""
    return [address_of(each.strip()) for each in text.split(",")]


class Tls(NamedTuple):
    """What TLS needs to know; "" is the system's certificate authorities, no client certificate, the address's host."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    verify: bool = True


@dataclass(frozen=True)
class ReceiverOptions:
    """What all destinations have that are one address, perhaps over TLS."""

    address: str = needed(
        "where the receiver listens: HOST:PORT, or [ADDRESS]:PORT for IPv6", kind=AddressKind()
    )
    _: KW_ONLY
    tls_ca_file: str = option(
        "",
        "certificates of the authorities that the receiver's is verified with; empty: the system's",
        Path(optional=True),
    )
    tls_cert_file: str = option(
        "", "our own certificate, for a receiver that asks for one", Path(optional=True)
    )
    tls_key_file: str = option(
        "", "the key of tls_cert_file, without a password; empty: in the same file", Path(optional=True)
    )
    tls_server_name: str = option(
        "", "the name that the receiver's certificate has to have; empty: the host of address"
    )
    tls_verify: bool = option(default=True, doc="whether the receiver's certificate and name are verified")

    @property
    def tls_given(self) -> Tls:
        """The options of TLS by themselves, equal to `Tls()` where none was given."""
        return Tls(
            self.tls_ca_file, self.tls_cert_file, self.tls_key_file, self.tls_server_name, self.tls_verify
        )

    def clashes(self) -> Iterator[Clash]:
        """See `Clashing`."""
        if self.tls_key_file and not self.tls_cert_file:
            hint = "name the certificate that the key belongs to"
            yield Clash("tls_key_file", "there is no tls_cert_file", hint)


def context_of(tls: Tls) -> ssl.SSLContext:
    """Read the files. Raises UsageError; the receiver is verified unless `verify` says otherwise."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    what = tls.ca_file or "the system's certificate authorities"
    try:
        if tls.ca_file:
            context.load_verify_locations(tls.ca_file)
        elif tls.verify:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if tls.cert_file:
            what = " and ".join(filter(None, (tls.cert_file, tls.key_file)))
            # A password is never asked for: a service has nobody to ask.
            context.load_cert_chain(tls.cert_file, tls.key_file or None, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot use {what} for TLS: {reason}", "PEM files that the service may read"
        ) from error
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS: {error.reason.replace('_', ' ').lower()}"
    if isinstance(error, TimeoutError):
        return "timed out"
    return getattr(error, "strerror", None) or str(error)


class Connection:
    """A connection that is there. Raises `Unreachable` where it cannot be made within `timeout` seconds."""

    _socket: socket.socket

    def __init__(
        self,
        address: Address | UnixAddress,
        timeout: float,
        context: ssl.SSLContext | None = None,
        server_name: str = "",
    ) -> None:
        self._name = str(address)
        deadline = time.monotonic() + timeout
        if isinstance(address, UnixAddress):
            self._socket = self._connect_unix(address, deadline)
            return
        plain = self._connect(address, deadline)
        self._socket = plain
        if context is None:
            return
        try:
            plain.settimeout(_left(deadline))
            self._socket = context.wrap_socket(plain, server_hostname=server_name or address.host)
        except (OSError, ValueError) as error:
            plain.close()
            raise self._unreachable("cannot connect to", error) from error

    def _connect(self, address: Address, deadline: float) -> socket.socket:
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise self._unreachable("cannot find", error) from error
        last: OSError = TimeoutError()
        for family, kind, protocol, _name, where in found:
            plain = socket.socket(family, kind, protocol)
            try:
                for level, name, value in _KEEPALIVE:
                    plain.setsockopt(level, name, value)
                plain.settimeout(_left(deadline))
                plain.connect(where)
            except OSError as error:
                last = error
                plain.close()
            else:
                return plain
        raise self._unreachable("cannot connect to", last) from last

    def _connect_unix(self, address: UnixAddress, deadline: float) -> socket.socket:
        plain = socket.socket(socket.AF_UNIX)
        try:
            plain.settimeout(_left(deadline))
            plain.connect(address.path)
        except OSError as error:  # a full queue of connections too: EAGAIN
            plain.close()
            raise self._unreachable("cannot connect to", error) from error
        return plain

    def _unreachable(self, what: str, error: Exception) -> Unreachable:
        return Unreachable(f"{what} {self._name}: {_reason(error)}")

    def send(self, data: bytes, deadline: float) -> None:
        """Hand over all of it until `deadline`, in monotonic seconds."""
        rest = memoryview(data)
        try:
            while rest:
                self._socket.settimeout(_left(deadline))
                rest = rest[self._socket.send(rest[:_CHUNK]) :]
        except OSError as error:
            raise self._unreachable("lost the connection to", error) from error

    def receive(self, deadline: float) -> bytes:
        """Return what comes next, b"" at the end of what the receiver says."""
        try:
            self._socket.settimeout(_left(deadline))
            return self._socket.recv(_CHUNK)
        except OSError as error:
            raise self._unreachable("lost the connection to", error) from error

    def pending(self) -> bytes | None:
        """Return what has come and was not read, at most one piece, without waiting: b"" at the end, None for nothing.

        To be asked before writing: what is written to a peer that has closed is lost without an error.
        """
        try:
            self._socket.settimeout(0)
            return self._socket.recv(_CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except OSError as error:
            raise self._unreachable("lost the connection to", error) from error

    def ended(self) -> bool:
        """Whether the receiver has closed, for protocols in which it has nothing to say; what it said is dropped."""
        for _ in range(_LINGER // _CHUNK):
            said = self.pending()
            if not said:
                return said is not None
        return True  # one that talks without an end is not of our protocol

    def finish(self, deadline: float) -> bool:
        """Say that all was said, and wait until the receiver closes. Return whether it has read everything.

        It has where it closes after we said so, with everything acknowledged: a Linux peer that closes with something
        unread resets the connection, and one that had closed before acknowledges nothing more.
        """
        raw = socket.socket(fileno=os.dup(self._socket.fileno()))
        with raw:
            try:
                if raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED:
                    return False
                if isinstance(self._socket, ssl.SSLSocket):
                    self._notify(self._socket, raw, deadline)
                else:
                    raw.shutdown(socket.SHUT_WR)
                rest = _LINGER
                while rest > 0:
                    raw.settimeout(_left(deadline))
                    said = len(raw.recv(_CHUNK))
                    if not said:
                        return not _unacknowledged(raw)
                    rest -= said
            except OSError:
                pass
        return False

    @staticmethod
    def _notify(wrapped: ssl.SSLSocket, raw: socket.socket, deadline: float) -> None:
        """Send TLS's own end. The stream below is not ended: only so does its end tell that ours was read."""
        wrapped.settimeout(0)
        while True:
            try:
                wrapped.unwrap()
            except ssl.SSLWantWriteError:
                select.select([], [raw], [], _left(deadline))
            except (ssl.SSLError, OSError, ValueError):
                return  # ours is sent; the peer's need not come
            else:
                return

    def close(self) -> None:
        """Release it, whatever state it is in; a second call does nothing."""
        with contextlib.suppress(OSError):
            self._socket.close()


def _unacknowledged(raw: socket.socket) -> bool:
    """Whether the other end's kernel has not said that it has everything."""
    unsent = fcntl.ioctl(raw, termios.TIOCOUTQ, bytes(4))
    return unsent != bytes(4) or raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


def _left(deadline: float) -> float:
    """Seconds until then. Raises TimeoutError when there are none: 0 would mean not to wait at all."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
