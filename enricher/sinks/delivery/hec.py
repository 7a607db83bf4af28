# SPDX-License-Identifier: Apache-2.0
"""Splunk's HTTP Event Collector, with indexer acknowledgement.

Owns the event's envelope, the channel, the asking for acknowledgements, and the meaning of HEC's codes. Never makes
an index or a token.

An answer of 200 says that the events were read, not that they are kept. With ``ack`` a batch counts as taken when
the indexer says so; what it does not say in time is sent again, on a new channel: numbers of acknowledgements start
anew when a receiver does. Without ``ack`` what a crash of the receiver loses is lost, and `acknowledged` is False.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enricher import codec
from enricher.config.options import option
from enricher.sinks.delivery.http import (
    BAD_REQUEST,
    FORBIDDEN,
    OK,
    PASSING,
    SERVER_ERROR,
    UNAUTHORIZED,
    HttpOptions,
    Reply,
    whole,
)
from enricher.sinks.delivery.http_batches import HttpSender, Item, Outcome, WholeRefused
from enricher.sinks.delivery.message import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from enricher.sinks.delivery.message import Message, Receipt

_EVENT: Final = "/services/collector/event"
_ACK: Final = "/services/collector/ack?channel="
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
_FAILURES: Final = 3
"""Requests for acknowledgements that may fail in a row: the receiver knows the channel on another connection too."""
_LATEST: Final = 1e11
"""Seconds: what is beyond is no time that a receiver can hold."""

_TAKEN: Final = frozenset({0, 24, 25})
"""Success, also with a queue that is nearly full."""
_OF_THE_EVENT: Final = frozenset({6, 12, 13, 15})
"""Data format, event missing, event blank, indexed fields: with the number of the event."""
_TOKEN: Final = frozenset({1, 2, 3, 4, 21, 22})
_SETUP: Final = {
    7: "the token does not admit the index: set index, or the token's allowed indexes",
    10: "the token wants a channel, which something on the way removes",
    11: "the token wants a channel, which something on the way changes",
    14: "switch on indexer acknowledgement for the token (useACK), or set ack = false",
    16: "url must have no query",
}
_NO_ACK: Final = "the token has no indexer acknowledgement: switch it on (useACK), or set ack = false"
_LATE: Final = "is acknowledgement on for the token, and does every request reach the same receiver?"


@dataclass(frozen=True)
class HecOptions(HttpOptions):
    """What can be set of a destination of type `splunk_hec`."""

    index: str = option("", "index; empty: the token's own")
    source: str = option("audit-enricher", "the source of the events")
    sourcetype: str = option("audit-enricher", "the source type of the events")
    ack: bool = option(
        default=True, doc="whether the indexer has to acknowledge; without, a crash of it loses events"
    )
    ack_timeout: float = option(30.0, "seconds to wait for that until a batch is sent again")


class HecSender(HttpSender):
    """A `Sender` to one collector. ``host`` is the name of this host, as the events have it."""

    def __init__(
        self,
        options: HecOptions,
        host: str,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(options, lambda token: f"Splunk {token}")
        self.acknowledged = options.ack
        self._ack_timeout = options.ack_timeout
        self._pause = pause
        self._channel = str(uuid.uuid4())
        self._pending: dict[int, list[Item]] = {}
        about = {"host": host, "source": options.source, "sourcetype": options.sourcetype}
        if options.index:
            about["index"] = options.index
        self._about = codec.dumps(about)[1:-1]

    def path(self) -> str:
        """Return where to post events to."""
        return _EVENT

    def headers(self) -> Mapping[str, str]:
        """Return the headers of every request; a token without acknowledgement ignores the channel."""
        return {"Content-Type": self.content_type, "X-Splunk-Request-Channel": self._channel}

    def send(self, messages: Sequence[Message]) -> Receipt:
        """Send them, and wait for the acknowledgements of all requests together."""
        self._pending = {}
        try:
            return super().send(messages)
        except Unreachable:
            self._channel = str(uuid.uuid4())
            raise

    def encode(self, message: Message) -> bytes:
        """Return the event: JSON as it is, text as a string."""
        event = message.body
        if not event.startswith(b"{"):
            event = codec.dumps(event.decode(errors="replace"))
        when = b'"time":%.3f,' % message.time if 0 <= message.time < _LATEST else b""
        uid = codec.dumps(message.uid)
        return b'{%b%b,"event":%b,"fields":{"uid":%b}}' % (when, self._about, event, uid)

    def body(self, parts: Sequence[bytes]) -> bytes:
        """Return the events one after the other, which is how HEC takes a batch."""
        return b"\n".join(parts)

    def read(self, reply: Reply, items: list[Item], outcome: Outcome) -> list[Item]:
        """Keep the number to ask for, or tell which event is to blame and return the others."""
        if reply.status in {UNAUTHORIZED, FORBIDDEN}:
            raise self.client.refused(reply)
        if reply.status in PASSING or reply.status >= SERVER_ERROR:
            raise self.client.passing(reply)
        document = self.client.document(reply)
        code = whole(document.get("code"))
        said = f"HEC code {code}{self.client.reason(reply)}"
        if reply.status == OK and code in _TAKEN:
            self._accept(document, items, outcome)
            return []
        if code in _TOKEN:
            raise self.client.refused(reply)
        if code in _SETUP:
            raise self.client.unreachable(said, _SETUP[code])
        if reply.status != BAD_REQUEST:
            raise self.client.unreachable(f"no event collector there ({reply.status}, {said})")
        number = whole(document.get("invalid-event-number"), len(items))
        if code in _OF_THE_EVENT and number >= 0:
            outcome.refused[items[number].place] = said
            return items[:number] + items[number + 1 :]
        raise WholeRefused(said)

    def _accept(self, document: Mapping[str, object], items: list[Item], outcome: Outcome) -> None:
        if not self.acknowledged:
            outcome.taken += len(items)
            return
        number = whole(document.get("ackId"))
        if number < 0:
            raise self.client.unreachable("the answer has no ackId", _NO_ACK)
        if number in self._pending:  # it started anew in between: of the earlier ones nothing is known
            outcome.put_off(self._pending[number])
        self._pending[number] = items
        outcome.asked += len(items)
        self._worked = True

    def _finish(self, outcome: Outcome, deadline: float) -> None:
        """Ask until all is acknowledged; what is not in time is to be sent again."""
        until = time.monotonic() + self._ack_timeout
        pause = _FIRST_PAUSE
        failures = 0
        while self._pending:
            try:
                done = self._acknowledged(max(deadline, until))
                failures = 0
            except Unreachable as error:
                done = []
                failures += 1
                pause = max(pause, error.wait or 0.0)
                if failures > _FAILURES:
                    return self._give_up(error, outcome)
            for number in done:
                outcome.taken += len(self._pending.pop(number))
            left = until - time.monotonic()
            if self._pending and left <= 0:
                said = f"not acknowledged within {self._ack_timeout:g} seconds"
                return self._give_up(self.client.unreachable(said, _LATE), outcome)
            if self._pending:
                self._pause(min(pause, left))
                pause = min(2 * pause, _LONGEST_PAUSE)  # what a receiver wanted is for once
        return None

    def _give_up(self, error: Unreachable, outcome: Outcome) -> None:
        """Put off all that is not acknowledged; raise the error where nothing else is known."""
        self._channel = str(uuid.uuid4())
        if not outcome.settled():
            raise error
        for items in self._pending.values():
            outcome.put_off(items, error.wait)
        self._pending = {}

    def _acknowledged(self, deadline: float) -> list[int]:
        """Ask for all that are waited for; return those that are indexed."""
        question = codec.dumps({"acks": list(self._pending)})
        reply = self.client.post(_ACK + self._channel, question, self.headers(), deadline)
        if reply.status in {UNAUTHORIZED, FORBIDDEN}:
            raise self.client.refused(reply)
        if reply.status in PASSING or reply.status >= SERVER_ERROR:
            raise self.client.passing(reply)
        acks = self.client.document(reply).get("acks")
        if reply.status != OK or not isinstance(acks, dict):
            raise self.client.unreachable(
                f"no acknowledgements there ({reply.status}{self.client.reason(reply)})", _NO_ACK
            )
        return [number for number in self._pending if acks.get(str(number)) is True]
