# SPDX-License-Identifier: Apache-2.0
"""A destination's queue in memory: for what need not outlive the process.

Owns the limits, in messages and in bytes, and what is given up over them. Never waits in `put`. What was taken and
is not done is in the courier's hands: it counts towards the limits and is never given up, so that nothing is told
to be lost and sent all the same.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from threading import Condition
from typing import TYPE_CHECKING, Final

from enricher.sinks.delivery.givenup import POLICIES, GivenUp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enricher.model import Loss
    from enricher.sinks.delivery.message import Message

TAKE_BYTES: Final = 4 << 20
"""Bytes that one `take` stops at: of several messages no more are given out."""

_OVERHEAD: Final = 400  # bytes of the objects around one message


def weight(message: Message) -> int:
    """Return about how many bytes of memory a message takes."""
    return _OVERHEAD + len(message.body)


class MemoryQueue:
    """See `message.Queue`. ``given_up`` counts what its limits did not admit."""

    error = ""
    """Of the spool's sort: there is none here."""

    def __init__(self, *, most: int, size: int, policy: str) -> None:
        if policy not in POLICIES or most < 1 or size < 1:
            msg = f"no such queue: {policy}, {most} messages, {size} bytes"
            raise ValueError(msg)
        self.given_up = GivenUp()
        self._most = most
        self._limit = size
        self._oldest_goes = policy == "drop_oldest"
        self._taken: deque[Message] = deque()
        self._rest: deque[Message] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = Condition()

    def put(self, messages: Sequence[Message]) -> None:
        """See `Queue`."""
        with self._changed:
            for message in messages:
                self._put(message)
            self._changed.notify()

    def _put(self, message: Message) -> None:
        size = weight(message)
        if self._closed or not self._make_room(size):
            self.given_up.add_message(message)
            return
        self._rest.append(message)
        self._bytes += size

    def _make_room(self, size: int) -> bool:
        if size > self._limit:
            return False  # nothing need go for what will not fit
        while self._bytes + size > self._limit or len(self._taken) + len(self._rest) >= self._most:
            if not self._oldest_goes or not self._rest:
                return False
            oldest = self._rest.popleft()
            self._bytes -= weight(oldest)
            self.given_up.add_message(oldest)
        return True

    def take(self, most: int, timeout: float) -> Sequence[Message]:
        """See `Queue`."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken or self._rest or self._closed, timeout)
            size = sum(map(weight, self._taken))
            while self._rest and len(self._taken) < most:
                size += weight(self._rest[0])
                if self._taken and size > TAKE_BYTES:
                    break
                self._taken.append(self._rest.popleft())
            return list(islice(self._taken, most))

    def done(self, count: int) -> None:
        """See `Queue`."""
        with self._changed:
            if self._closed:
                return  # given up, as far as anybody could know
            for _ in range(count):
                self._bytes -= weight(self._taken.popleft())

    def losses(self) -> Sequence[Loss]:
        """See `Queue`."""
        with self._changed:
            return self.given_up.tell()

    @property
    def waiting(self) -> int:
        """See `Queue`."""
        with self._changed:
            return len(self._taken) + len(self._rest)

    @property
    def size(self) -> int:
        """See `Queue`."""
        return self._bytes

    def close(self) -> None:
        """See `Queue`: what waits is given up."""
        with self._changed:
            self._closed = True
            for message in (*self._taken, *self._rest):
                self.given_up.add_message(message)
            self._taken.clear()
            self._rest.clear()
            self._bytes = 0
            self._changed.notify_all()
