# SPDX-License-Identifier: Apache-2.0
"""What all destinations that speak HTTP share: one connection, a credential, and distrust of what comes back.

Owns the options of every such destination, the credential, the request's headers and its gzip, `Retry-After`, and
the sentence that says what went wrong. Never knows what a body means, never sends a request twice but for one
reason: the receiver refused the credential and its file has another one now.

No redirect is followed and no proxy is used, whatever the environment says: records go where the file says.
"""

from __future__ import annotations

import gzip
import json
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from enricher import __version__
from enricher.config.kinds import Count, Kind, Path, Size, Unfit
from enricher.config.options import Clash, needed, option, refuse_clashes
from enricher.errors import ConfigInvalid
from enricher.sinks.delivery.http_tls import tls_context
from enricher.sinks.delivery.message import Unreachable
from enricher.sinks.delivery.secret import MOST_SECRET, PRINTABLE, read_secret, secret_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from enricher.sinks.delivery.http_pool import Pool

MOST_REPLY: Final = 8 << 20
"""Bytes of an answer. One item of a bulk that failed takes 300 of them."""
MOST_WAIT: Final = 300.0
"""Seconds that a receiver can make us wait by `Retry-After`."""
_MOST_SAID: Final = 240
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_LARGEST: Final = 1 << 63

OK: Final = 200
BAD_REQUEST: Final = 400
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
TOO_LARGE: Final = 413
TOO_MANY: Final = 429
SERVER_ERROR: Final = 500

PASSING: Final = frozenset({408, 425, TOO_MANY, 502, 503, 504})
"""Answers to a request that may be another one later, whatever was sent."""


class UrlKind(Kind[str]):
    """A URL in a file; what is wrong with one never has a secret that stands in it."""

    what = "http:// or https://, a host, a port and a path alone"
    metavar = "URL"

    def parse(self, text: str) -> str:
        """See `Kind`."""
        try:
            _parts(text)
        except ConfigInvalid as error:
            raise Unfit(error.message.removeprefix("url: ")) from None
        return text


@dataclass(frozen=True)
class HttpOptions:
    """What every HTTP destination has."""

    url: str = needed("where the receiver is: https://HOST[:PORT][/PATH]", kind=UrlKind())
    credential_file: str = option(
        "", "file with the credential; a name without a slash is a systemd credential; empty: none is sent"
    )
    ca_file: str = option(
        "", "certificates to verify the receiver with; empty: those of the system", Path(optional=True)
    )
    cert_file: str = option("", "our certificate, where the receiver asks for one", Path(optional=True))
    key_file: str = option("", "its key; empty: it is in cert_file", Path(optional=True))
    verify: bool = option(default=True, doc="whether the receiver has to prove its name; false is for trials")
    compression: Literal["gzip", "none"] = option("gzip", "gzip or none")
    batch: int = option(500, "messages in one request, at most", Count())
    batch_bytes: int = option(
        4 << 20, "bytes of one request before compression; a larger message goes alone", Size()
    )
    timeout: float = option(30.0, "seconds for one batch as a whole")
    connect_timeout: float = option(5.0, "seconds for connecting and for the TLS handshake, each")
    read_timeout: float = option(15.0, "seconds without a byte from the receiver")

    def clashes(self) -> Iterator[Clash]:
        """See `Clashing`."""
        if self.key_file and not self.cert_file:
            yield Clash("key_file", "there is no cert_file", "name the certificate that the key belongs to")


class Reply(NamedTuple):
    """An answer. The names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Requests to one receiver. `authorise` makes the value of ``header`` from what the credential's file holds.

    The constructor reads the credential and the certificates and raises ConfigInvalid where it cannot; it does not
    connect.
    """

    advice = ""
    """What the operator might want to know of the options; "" if nothing."""

    def __init__(
        self,
        options: HttpOptions,
        authorise: Callable[[str], str],
        header: str = "Authorization",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.options = options
        self._clock = clock
        self._authorise = authorise
        self._header = header
        self._pool: Pool | None = None
        refuse_clashes(options)
        parts = _parts(options.url)
        if options.compression not in {"gzip", "none"}:
            raise ConfigInvalid("compression: it is neither gzip nor none")
        self.base = parts.path.rstrip("/")
        self.where = f"{parts.scheme}://{parts.netloc}"
        self._tls = tls_context(options, parts.host) if parts.scheme == "https" else None
        self._file = secret_path(options.credential_file)
        self._secret = self._before = ""
        if self._file:
            self._secret, self.advice = read_secret(self._file)
            if self._tls is None:
                self.advice = f"{self.where}: the credential is sent in clear; use https"
        if self._tls is not None and not options.verify:
            self.advice = f"{self.where}: the receiver's name is not verified (verify = false)"

    def post(self, path: str, body: bytes, headers: Mapping[str, str], deadline: float) -> Reply:
        """Send one request and return the answer, whatever its status but 401 and 403, before the deadline.

        ``deadline`` is of time.monotonic(). Raises Unreachable.
        """
        sent = {
            "User-Agent": f"audit-enricher/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            **headers,
        }
        if self.options.compression == "gzip":
            body = gzip.compress(body, compresslevel=1, mtime=0)
            sent["Content-Encoding"] = "gzip"
        reply = self._exchange(path, body, sent, deadline)
        if reply.status in {UNAUTHORIZED, FORBIDDEN} and self._changed():
            reply = self._exchange(path, body, sent, deadline)
        return reply

    def _exchange(self, path: str, body: bytes, headers: Mapping[str, str], deadline: float) -> Reply:
        from enricher.sinks.delivery import http_pool  # noqa: PLC0415 - urllib3 takes longer than a start has

        if self._secret:
            headers = {**headers, self._header: self._authorise(self._secret)}
        try:
            if self._pool is None:
                self._pool = http_pool.Pool(self.where, self.options, self._tls)
            return Reply(*self._pool.exchange(self.base + path, body, headers, deadline, MOST_REPLY))
        except http_pool.Failed as failed:
            self.close()
            raise Unreachable(f"{self.where}: {self.clean(str(failed))}", failed.hint) from None

    def _changed(self) -> bool:
        """Read the credential again; tell whether it is another one."""
        if not self._file:
            return False
        try:
            secret, _ = read_secret(self._file)
        except ConfigInvalid:
            return False  # the old one was refused: that is what is told
        if secret == self._secret:
            return False
        self._before, self._secret = self._secret, secret
        return True

    def unreachable(self, said: str, hint: str = "", wait: float | None = None) -> Unreachable:
        """Close the connection and return the error to raise."""
        self.close()
        return Unreachable(f"{self.where}: {said}", hint, wait)

    def refused(self, reply: Reply) -> Unreachable:
        """Return the error for an answer of 401 or 403."""
        said = f"the credential is refused ({reply.status}{self.reason(reply)})"
        if not self._file:
            return self.unreachable(said, "name the file that holds the credential in credential_file")
        return self.unreachable(said, f"put another one into {self._file}: it is read again")

    def passing(self, reply: Reply) -> Unreachable:
        """Return the error for an answer that may be another one later."""
        said = f"the receiver takes nothing now ({reply.status}{self.reason(reply)})"
        return self.unreachable(said, wait=self.wait(reply))

    def wait(self, reply: Reply) -> float | None:
        """Return the seconds of `Retry-After`, RFC 9110 10.2.3: a number or a date. None where it says nothing."""
        text = reply.headers.get("retry-after", "").strip()
        if _SECONDS.fullmatch(text):
            return min(float(text), MOST_WAIT)
        try:
            left = parsedate_to_datetime(text[:64]).timestamp() - self._clock()
        except (ValueError, TypeError, OverflowError, OSError):
            return None
        return min(max(left, 0.0), MOST_WAIT)

    def document(self, reply: Reply) -> dict[str, object]:
        """Return the answer's JSON object. Raises Unreachable where it is none."""
        kind = reply.headers.get("content-type", "")
        if "json" not in kind.lower():
            shown = self.clean(kind) or "no content type"
            hint = "is this the receiver's address? A proxy or a page to log in answers like this"
            raise self.unreachable(f"the answer is {shown}, not JSON ({reply.status})", hint)
        found = _object(reply.body)
        if found is None:
            raise self.unreachable(f"the answer is damaged: not a JSON object ({reply.status})")
        return found

    def reason(self, reply: Reply) -> str:
        """Return what the receiver said of an error, as ``: words``, or "". Of JSON the members that hold words."""
        found = _object(reply.body[:MOST_SECRET])
        if found is None:
            return ""
        inner = found.get("error")
        for holder in (inner if isinstance(inner, dict) else {}, found):
            for name in ("reason", "text", "message", "error"):
                said = holder.get(name)
                if isinstance(said, str) and said:
                    return f": {self.clean(said)}"
        return ""

    def clean(self, said: object) -> str:
        """Return words of a receiver for an error: without the credential, without control characters, not long."""
        if isinstance(said, int):
            said = f"{said:d}" if abs(said) < _LARGEST else "a large number"
        # A lone surrogate, which JSON can hold, cannot be written anywhere.
        text = said.encode(errors="replace").decode() if isinstance(said, str) else "no words"
        for secret in (self._secret, self._before):
            if secret:
                value = self._authorise(secret)
                for hidden in (secret, value, value.rpartition(" ")[2], *secret.split(":", 1)[1:]):
                    text = text.replace(hidden, "***") if hidden else text
        text = "".join(letter if letter.isprintable() else " " for letter in text[: 2 * _MOST_SAID]).strip()
        return text if len(text) <= _MOST_SAID else f"{text[:_MOST_SAID]}..."

    def close(self) -> None:
        """Close the connection; the next request makes another one."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


class _Parts(NamedTuple):
    scheme: str
    netloc: str
    path: str
    host: str


def _parts(url: str) -> _Parts:
    """Take the URL apart. A secret in it would be in every error, so there is no place for one."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ConfigInvalid("url: it is not a URL", "as https://HOST:PORT") from None
    if "@" in parts.netloc:
        raise ConfigInvalid(
            "url: it holds a credential", "put that into a file, and its name into credential_file"
        )
    if not valid or parts.query or parts.fragment or not PRINTABLE.fullmatch(url) or " " in url:
        raise ConfigInvalid("url: it is not http:// or https://, a host, a port and a path alone")
    return _Parts(parts.scheme, parts.netloc, parts.path, parts.hostname or "")


def whole(value: object, below: int = _LARGEST) -> int:
    """Return a number of an answer: an integer from 0, -1 for anything else."""
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below
    return value if fits and isinstance(value, int) else -1


def _object(body: bytes) -> dict[str, object] | None:
    """Return a JSON object, None where the bytes are none: cut, nested without end, numbers without end."""
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
