# SPDX-License-Identifier: Apache-2.0
"""OpenTelemetry logs: OTLP over HTTP in JSON, to `/v1/logs` of a collector or a backend.

Owns the envelope of a request and what the answers mean (OTLP specification 1.x, "OTLP/HTTP"). Never makes a
logRecord: a message's body is one, in the JSON form of the protocol.

A partial success says how many records were rejected and not which, and forbids to send the request again. They are
reported by number (`Receipt.unnamed`); see docs/sinks/otlp.md for what that does to the promise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enricher import __version__, codec
from enricher.config.kinds import Kind, Unfit
from enricher.config.options import option
from enricher.sinks.delivery.http import (
    FORBIDDEN,
    NOT_FOUND,
    OK,
    UNAUTHORIZED,
    HttpOptions,
    Reply,
    whole,
)
from enricher.sinks.delivery.http_batches import HttpSender, Item, Outcome, Refused, WholeRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enricher.sinks.delivery.message import Message

_PATH: Final = "/v1/logs"
_MOVED: Final = range(300, 400)
_RETRYABLE: Final = frozenset({429, 502, 503, 504})
"""All other errors must not be retried, says the protocol."""
_HEADER: Final = re.compile(
    r"(?!(?i:content-|accept|(?:host|connection|transfer-encoding|user-agent)$))[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}"
)
"""A token of RFC 9110 that is not a header of ours."""
_INT64: Final = re.compile(r"[0-9]{1,18}")
_END: Final = b"]}]}]}"


class _Header(Kind[str]):
    what = "a header's name that a credential can have"
    metavar = "NAME"

    def parse(self, text: str) -> str:
        if not _HEADER.fullmatch(text):
            raise Unfit(self.wrong(text))
        return text


@dataclass(frozen=True)
class OtlpOptions(HttpOptions):
    """What can be set of a destination of type `otlp`."""

    header: str = option(
        "Authorization", "header of the credential; in Authorization it follows the word Bearer", _Header()
    )


class OtlpSender(HttpSender):
    """A `Sender` to one OTLP receiver. ``resource`` are its attributes: of this host and this program."""

    def __init__(self, options: OtlpOptions, resource: Mapping[str, str | int | bool]) -> None:
        bearer = options.header.lower() == "authorization"
        super().__init__(options, lambda secret: f"Bearer {secret}" if bearer else secret, options.header)
        attributes = [{"key": key, "value": _value(value)} for key, value in resource.items()]
        scope = {"name": "audit-enricher", "version": __version__}
        self._start = (
            b'{"resourceLogs":[{"resource":{"attributes":%b},"scopeLogs":[{"scope":%b,"logRecords":['
            % (
                codec.dumps(attributes),
                codec.dumps(scope),
            )
        )
        # A URL may have the path already, as the endpoint of logs in other exporters does.
        self._path = "" if self.client.base.endswith(_PATH) else _PATH

    def path(self) -> str:
        """Return where to post to."""
        return self._path

    def encode(self, message: Message) -> bytes:
        """Return the logRecord."""
        if not message.body.startswith(b"{"):
            raise Refused("it is not a JSON object: the schema of this destination has to be otlp")
        return message.body

    def body(self, parts: Sequence[bytes]) -> bytes:
        """Return an ExportLogsServiceRequest: one resource, one scope, all the records."""
        return b"%b%b%b" % (self._start, b",".join(parts), _END)

    def read(self, reply: Reply, items: list[Item], outcome: Outcome) -> list[Item]:
        """All taken, but for what a partial success says."""
        if reply.status != OK:
            self._refuse(reply)
        partial = self.client.document(reply).get("partialSuccess") or {}
        if not isinstance(partial, dict):
            raise self.client.unreachable("the answer is damaged: partialSuccess is no object")
        rejected = self._number(partial.get("rejectedLogRecords", 0))
        if rejected > len(items):
            raise self.client.unreachable(
                f"the answer is damaged: {rejected} of {len(items)} records rejected"
            )
        said = self.client.clean(partial.get("errorMessage") or "no reason given")
        if rejected == len(items):
            outcome.refused.update({item.place: said for item in items})
            return []
        outcome.taken += len(items) - rejected
        if rejected:
            outcome.unnamed += rejected
            outcome.why = said
        return []

    def _number(self, value: object) -> int:
        """Return an int64, which the protocol's JSON writes as a string."""
        if isinstance(value, str) and _INT64.fullmatch(value):
            value = int(value)
        number = whole(value)
        if number < 0:
            raise self.client.unreachable("the answer is damaged: rejectedLogRecords is no number")
        return number

    def _refuse(self, reply: Reply) -> None:
        """Raise what a status means: what is not retryable is never sent again as it is."""
        if reply.status in {UNAUTHORIZED, FORBIDDEN}:
            raise self.client.refused(reply)
        if reply.status in _RETRYABLE:
            raise self.client.passing(reply)
        said = f"{reply.status}{self.client.reason(reply)}"
        if reply.status == NOT_FOUND or reply.status in _MOVED:
            raise self.client.unreachable(
                f"no {_PATH} there ({said})", "url is the address of OTLP over HTTP"
            )
        raise WholeRefused(said)


def _value(value: str | int | bool) -> dict[str, object]:  # noqa: FBT001 - an attribute's value
    """Return an AnyValue. An int64 is a string in the protocol's JSON."""
    if isinstance(value, bool):
        return {"boolValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}
