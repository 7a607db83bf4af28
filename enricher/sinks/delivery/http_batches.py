# SPDX-License-Identifier: Apache-2.0
"""Batches as requests: how many messages fit in one, and which of them are to blame when one is refused as a whole.

Owns cutting by number and bytes, splitting, and adding up what became of each message. Never knows a protocol: its
subclasses say how a message and a body look and what an answer means.

A receiver that refuses a request as a whole does not say which message it would not have, and nothing of it was
taken: the request is halved until single messages are refused. That a receiver that has never taken anything
refuses everything is no verdict on the messages: it is the wrong address, or set up otherwise than we are, and all
of them are kept.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.sinks.delivery.http import TOO_LARGE, Client, HttpOptions, Reply
from enricher.sinks.delivery.message import Receipt, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from enricher.sinks.delivery.message import Message

SMALLEST: Final = 64 << 10
"""Bytes: what a receiver calls too large never brings the limit of later requests below this."""
SUSPICIOUS: Final = 32
"""Refusals of whole requests in one batch, where nothing was ever taken, until it is given up for now."""


class Refused(Exception):
    """The receiver, or its protocol, will never take this message; the text is the reason."""


class Item(NamedTuple):
    """One message: its place in the batch, and its bytes on the wire."""

    place: int
    data: bytes


class WholeRefused(Exception):
    """A request was refused as a whole, for what is in it; the text is the receiver's reason."""


class Outcome:
    """What became of the messages of one batch so far: by their places, and in numbers.

    Of those ``asked`` the receiver has to be asked yet whether it has them.
    """

    def __init__(self) -> None:
        self.refused: dict[int, str] = {}
        self.again: list[int] = []
        self.wait: float | None = None
        self.unnamed = 0
        self.why = ""
        self.taken = 0
        self.asked = 0

    def put_off(self, items: Sequence[Item], wait: float | None = None) -> None:
        """These are to be sent again, not before so many seconds."""
        self.again.extend(item.place for item in items)
        if wait is not None:
            self.wait = max(self.wait or 0.0, wait)

    def settled(self) -> bool:
        """Whether anything is known of any message."""
        return bool(self.taken or self.refused)

    def receipt(self) -> Receipt:
        """What `Sender.send` returns."""
        return Receipt(self.refused, sorted(self.again), self.wait, self.unnamed, self.why)


class HttpSender:
    """A `Sender` but for its protocol."""

    acknowledged = True
    content_type = "application/json"

    def __init__(
        self,
        options: HttpOptions,
        authorise: Callable[[str], str],
        header: str = "Authorization",
    ) -> None:
        self.client = Client(options, authorise, header)
        self.most = options.batch
        self._timeout = options.timeout
        self._limit = options.batch_bytes
        self._worked = False

    @property
    def advice(self) -> str:
        """What the operator might want to know; "" if nothing."""
        return self.client.advice

    @property
    def limit(self) -> int:
        """Bytes of a request: the option, or less where the receiver called one too large."""
        return self._limit

    def send(self, messages: Sequence[Message]) -> Receipt:
        """Send them in as many requests as it takes. Raises Unreachable where nothing is known of any of them."""
        deadline = time.monotonic() + self._timeout
        outcome = Outcome()
        suspects: dict[int, str] = {}
        todo = deque(self._cut(messages, outcome))
        failures = 0
        while todo:
            items = todo.popleft()
            try:
                if time.monotonic() >= deadline:
                    raise self.client.unreachable("the time for a batch is over")
                rest = self._request(items, outcome, deadline)
                if rest:
                    todo.appendleft(rest)
                self._worked = self._worked or bool(outcome.taken)
            except WholeRefused as refusal:
                failures += 1
                if not self._worked and failures >= SUSPICIOUS:
                    raise self._doubt(str(refusal)) from None
                if len(items) > 1:
                    half = len(items) // 2
                    todo.extendleft((items[half:], items[:half]))
                else:
                    suspects[items[0].place] = str(refusal)
            except Unreachable as error:
                if not outcome.settled() and not outcome.asked:
                    raise
                for left in (items, *todo):
                    outcome.put_off(left, error.wait)
                todo.clear()
        self._finish(outcome, deadline)
        self._judge(suspects, outcome)
        return outcome.receipt()

    def _judge(self, suspects: Mapping[int, str], outcome: Outcome) -> None:
        """Tell messages that are to blame from a receiver that takes none at all."""
        if suspects and not self._worked:
            if not outcome.settled():
                raise self._doubt(next(iter(suspects.values())))
            outcome.again.extend(suspects)
        else:
            outcome.refused.update(suspects)

    def _doubt(self, reason: str) -> Unreachable:
        hint = "it has not taken one message yet: is this its address, and is it set up for what we send?"
        return self.client.unreachable(f"the receiver refuses everything: {reason}", hint)

    def _cut(self, messages: Sequence[Message], outcome: Outcome) -> list[list[Item]]:
        """Return the messages as requests of at most `most` messages and, but for a single one, `limit` bytes."""
        pieces: list[list[Item]] = []
        items: list[Item] = []
        size = 0
        for index, message in enumerate(messages):
            try:
                data = self.encode(message)
            except Refused as refused:
                outcome.refused[index] = str(refused)
                continue
            if items and (size + len(data) > self._limit or len(items) >= self.most):
                pieces.append(items)
                items = []
                size = 0
            items.append(Item(index, data))
            size += len(data)
        return [*pieces, items] if items else pieces

    def _request(self, items: list[Item], outcome: Outcome, deadline: float) -> list[Item]:
        """Send one request, and what it says into the outcome; return those to send again at once."""
        body = self.body([item.data for item in items])
        reply = self.client.post(self.path(), body, self.headers(), deadline)
        if reply.status == TOO_LARGE:
            said = f"413: too large for the receiver, {len(body)} bytes"
            if len(items) > 1:
                self._limit = max(min(self._limit, sum(len(item.data) for item in items) // 2), SMALLEST)
                raise WholeRefused(said)
            outcome.refused[items[0].place] = said
            return []
        return self.read(reply, items, outcome)

    def close(self) -> None:
        """Release the connection; a second call does nothing."""
        self.client.close()

    def path(self) -> str:
        """Return where to post to, below the URL."""
        raise NotImplementedError

    def headers(self) -> Mapping[str, str]:
        """Return the headers of a request."""
        return {"Content-Type": self.content_type}

    def encode(self, message: Message) -> bytes:
        """Return one message's bytes. Raises Refused where the protocol has no way to say it."""
        raise NotImplementedError

    def body(self, parts: Sequence[bytes]) -> bytes:
        """Return a request of these messages."""
        raise NotImplementedError

    def read(self, reply: Reply, items: list[Item], outcome: Outcome) -> list[Item]:
        """Put what an answer means into the outcome; return those to send again at once.

        Raises Unreachable, or WholeRefused where the request is refused for what is in it.
        """
        raise NotImplementedError

    def _finish(self, outcome: Outcome, deadline: float) -> None:
        """Do what is left when all requests of a batch were sent."""
