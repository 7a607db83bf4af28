# SPDX-License-Identifier: Apache-2.0
"""The one connection to a receiver, through urllib3, and the bounds that urllib3 does not set.

Owns everything that knows urllib3 (1.26 and 2 alike), and is imported when the first request is made. Never
interprets an answer.

urllib3's timeouts are for one read each: a receiver that sends a byte now and then holds a caller for ever. Here
sockets know the deadline of the request (`http_tls`), so that a handshake, headers and a body end with it.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import TYPE_CHECKING, Final

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InsecureRequestWarning,
    NewConnectionError,
    ReadTimeoutError,
)

from enricher.sinks.delivery.http_tls import Bounds, PlainSocket, TlsContext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enricher.sinks.delivery.http import HttpOptions

# Where verification is off, `Client.advice` says so once.
urllib3.disable_warnings(InsecureRequestWarning)
# It logs headers that it cannot read, and a receiver may have put our credential there.
logging.getLogger("urllib3").propagate = False

_CHUNK: Final = 64 << 10
_CHAIN: Final = 8


class Failed(Exception):
    """There is no answer; the message says why."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Pool:
    """One connection to ``where`` (scheme, host, port), kept between requests."""

    def __init__(self, where: str, options: HttpOptions, tls: TlsContext | None) -> None:
        self._connect = options.connect_timeout
        self._bounds = tls.bounds if tls else Bounds(options.read_timeout)
        try:
            url = urllib3.util.parse_url(where)
        except HTTPError:
            url = urllib3.util.Url()
        if url.host is None:
            raise Failed("there is no host of this name", "url is https://HOST[:PORT]")
        if tls is None:
            self._pool: HTTPConnectionPool = HTTPConnectionPool(url.host, url.port, maxsize=1, block=True)
            self._pool.ConnectionCls = _plain(self._bounds)
        else:
            self._pool = HTTPSConnectionPool(
                url.host, url.port, maxsize=1, block=True, ssl_context=tls, cert_reqs=tls.verify_mode
            )
            self._pool.ConnectionCls = HTTPSConnection

    def exchange(
        self, path: str, body: bytes, headers: Mapping[str, str], deadline: float, most: int
    ) -> tuple[int, dict[str, str], bytes]:
        """POST and return status, headers (names in lower case) and body. Raises Failed."""
        self._bounds.deadline = deadline
        try:
            left = self._bounds.left()
            response = self._pool.urlopen(
                "POST",
                path,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=min(self._connect, left), read=min(self._bounds.read, left)),
            )
            try:
                content = self._content(response, most)
            except BaseException:
                response.close()
                raise
            response.release_conn()
            return response.status, {name.lower(): value for name, value in response.headers.items()}, content
        except (HTTPError, OSError, ValueError) as error:
            raise self._failed(error) from error

    def _content(self, response: urllib3.BaseHTTPResponse, most: int) -> bytes:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Failed("the answer is compressed, which was not asked for")
        parts = []
        size = 0
        while part := response.read(_CHUNK, decode_content=False):
            self._bounds.left()
            parts.append(part)
            size += len(part)
            if size > most:
                raise Failed(f"the answer does not end: more than {most} bytes")
        expected = response.headers.get("Content-Length", "")
        if expected.isdecimal() and len(expected) < 20 and int(expected) != size:  # noqa: PLR2004 - 64 bits
            raise Failed(f"the answer is cut: {size} of {expected} bytes")
        return b"".join(parts)

    def _failed(self, error: Exception) -> Failed:
        """Find the cause below urllib3's words, which name objects and their addresses."""
        cause: BaseException | None = error
        for _ in range(_CHAIN):
            if cause is None:
                break
            if isinstance(cause, (ConnectTimeoutError, ReadTimeoutError, TimeoutError)) and not isinstance(
                cause,
                NewConnectionError,  # to urllib3 1.26 any failure to connect is a timeout
            ):
                if time.monotonic() >= self._bounds.deadline:
                    return Failed("the time for a batch is over")
                connecting = isinstance(cause, ConnectTimeoutError)
                return Failed(f"no {'connection' if connecting else 'byte of an answer'} in the time for it")
            said = _said(cause)
            if said:
                return said
            cause = _below(cause)
        return Failed(f"no answer ({type(error).__name__})")

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()
        self._bounds.close()


def _said(cause: BaseException) -> Failed | None:
    """Put an error into words; None where the one below it says more."""
    said = hint = ""
    if isinstance(cause, ssl.SSLCertVerificationError):
        said = f"its certificate is not to be trusted: {cause.verify_message}"
        hint = "ca_file names the certificates to verify it with"
    elif isinstance(cause, ssl.SSLError):
        said = f"TLS failed: {cause.reason or cause.strerror or 'no reason given'}"
    elif isinstance(cause, socket.gaierror):
        said = f"its name is not found: {cause.strerror}"
    elif isinstance(cause, RemoteDisconnected):
        said = "it closed the connection without an answer"
    elif isinstance(cause, IncompleteRead):
        said = "the answer is cut"
    elif isinstance(cause, HTTPException):
        said = f"its answer is not HTTP ({type(cause).__name__})"
    elif isinstance(cause, OSError) and cause.strerror:
        said = cause.strerror.lower()
    return Failed(said, hint) if said else None


def _below(error: BaseException) -> BaseException | None:
    """The error that this one was made of; ProtocolError has it among its arguments."""
    inner = [part for part in error.args if isinstance(part, BaseException)]
    return inner[0] if inner else error.__cause__ or error.__context__


def _plain(bounds: Bounds) -> type[HTTPConnection]:
    """A connection whose socket knows the bounds."""

    class Connection(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            self.sock = PlainSocket.of(self.sock, bounds)

    return Connection
