# SPDX-License-Identifier: Apache-2.0
"""Sockets that end with the deadline of a request, plain and in TLS, and whom TLS trusts.

Owns the two kinds of socket, the context that makes the second one, and its certificates. Never connects.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import time
from typing import TYPE_CHECKING, Final, Self

from enricher.errors import ConfigInvalid

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from enricher.sinks.delivery.http import HttpOptions

_SHORTEST: Final = 0.001
"""Seconds: zero would make the socket one that does not block."""


class Bounds:
    """Until when the request under way may take, of time.monotonic(), and ``read`` seconds for one read; its socket."""

    def __init__(self, read: float) -> None:
        self.read = read
        self.deadline = 0.0
        self.socket: socket.socket | None = None

    def left(self) -> float:
        """Return the seconds that are left. Raises TimeoutError."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline is over")
        return max(left, _SHORTEST)

    def close(self) -> None:
        """End the connection now, also where a half-read answer refers to it still, which its own close waits for."""
        inner, self.socket = self.socket, None
        if inner is not None and inner.fileno() >= 0:
            os.close(inner.detach())


class PlainSocket(socket.socket):
    """A TCP connection that ends with the deadline."""

    bounds: Bounds

    @classmethod
    def of(cls, inner: socket.socket, bounds: Bounds) -> Self:
        """Take over the descriptor, with the options that are set on it."""
        timeout = inner.gettimeout()
        made = cls(inner.family, inner.type, inner.proto, fileno=inner.detach())
        made.bounds = bounds
        bounds.socket = made
        made.settimeout(timeout)
        return made

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """As the library's, until the deadline."""
        self.settimeout(min(self.bounds.read, self.bounds.left()))
        return super().recv_into(buffer, nbytes, flags)

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """As the library's, until the deadline."""
        self.settimeout(self.bounds.left())
        try:
            super().sendall(data, flags)
        except ConnectionResetError:
            # Who refuses a body by its size answers and closes before all of it was sent; urllib3 goes on to
            # read that answer after EPIPE only.
            raise BrokenPipeError(errno.EPIPE, "the receiver closed the connection") from None


class TlsSocket(ssl.SSLSocket):
    """The same in TLS; `TlsContext` makes them."""

    def _left(self) -> Bounds:
        context = self.context
        assert isinstance(context, TlsContext)  # noqa: S101 - for the type alone
        return context.bounds

    def recv_into(self, buffer: WriteableBuffer, nbytes: int | None = None, flags: int = 0) -> int:
        """As the library's, until the deadline."""
        bounds = self._left()
        self.settimeout(min(bounds.read, bounds.left()))
        return super().recv_into(buffer, nbytes, flags)

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """As the library's, until the deadline; its sendall is made of these."""
        self.settimeout(self._left().left())
        try:
            return super().send(data, flags)
        except (ConnectionResetError, ssl.SSLEOFError):
            raise BrokenPipeError(errno.EPIPE, "the receiver closed the connection") from None


class TlsContext(ssl.SSLContext):
    """Verifies the receiver's name, 1.2 at least. Its sockets share `bounds`.

    Made without ssl.create_default_context(), which would write the keys to where a variable says.
    """

    sslsocket_class = TlsSocket
    bounds: Bounds
    host = ""

    def wrap_socket(  # noqa: PLR0913 - the library's
        self,
        sock: socket.socket,
        server_side: bool = False,  # noqa: FBT001, FBT002 - as above
        do_handshake_on_connect: bool = True,  # noqa: FBT001, FBT002 - as above
        suppress_ragged_eofs: bool = True,  # noqa: FBT001, FBT002 - as above
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        """As the library's; urllib3 1.26 gives no name where it is an address, which a certificate may have too."""
        name = server_hostname or self.host
        made = super().wrap_socket(
            sock, server_side, do_handshake_on_connect, suppress_ragged_eofs, name, session
        )
        self.bounds.socket = made
        return made


def tls_context(options: HttpOptions, host: str) -> TlsContext:
    """Return the context for this receiver. Raises ConfigInvalid where a file is not what it has to be."""
    context = TlsContext(ssl.PROTOCOL_TLS_CLIENT)
    context.bounds = Bounds(options.read_timeout)
    context.host = host
    named = "ca_file"
    try:
        if options.ca_file:
            context.load_verify_locations(options.ca_file)
        else:
            context.load_default_certs()
        named = "cert_file"
        if options.cert_file:
            # Never ask a terminal for a pass phrase.
            context.load_cert_chain(options.cert_file, options.key_file or None, password="")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigInvalid(f"{named}: {getattr(options, named)}: {why or error}") from None
    if not options.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
