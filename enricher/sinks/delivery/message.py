# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of delivery: a message, what a receiver said of it, and who carries it.

Owns the shapes that queue, spool, courier and protocols share. Never knows a protocol.

The thread of records puts messages into a `Queue` and never waits. A courier, one thread for each destination,
takes them from there and gives them to the destination's `Sender`, until each was taken by the receiver, refused
for ever, or given up by the queue's policy. At least once: what was not told to be done is given out again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from enricher.errors import EnricherError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enricher.model import Loss


class Message(NamedTuple):
    """One event as one destination gets it.

    ``body`` is its view or schema, without a newline at its end; audit text has newlines between its lines.
    ``uid`` is what a receiver tells duplicates by. ``time`` is the event's, in seconds since the epoch, ``type`` the
    name of its record type. ``serial`` (0: none) and ``records`` are for the account of a loss.
    """

    uid: str
    time: float
    type: str
    body: bytes
    serial: int = 0
    records: int = 0


class Receipt(NamedTuple):
    """What became of the messages of one `Sender.send`, by their index: all not named were taken.

    ``refused`` are those that the receiver will never take, and why. ``again`` are to be sent again, not before
    ``wait`` seconds where that is not None. Of the others ``unnamed`` are refused for ever as well, for the reason
    ``why``, but the receiver does not say which: all are done, and so many of them are lost.
    """

    refused: Mapping[int, str]
    again: Sequence[int] = ()
    wait: float | None = None
    unnamed: int = 0
    why: str = ""


ALL_TAKEN = Receipt({})


class Unreachable(EnricherError):
    """Nothing is known of what was sent: all of it is to be sent again, not before `wait` seconds if that is said."""

    exit_code = 9

    def __init__(self, message: str, hint: str = "", wait: float | None = None) -> None:
        super().__init__(message, hint)
        self.wait = wait


class Sender(Protocol):
    """One destination's protocol. Used by one thread; every call ends after a bounded time."""

    acknowledged: bool
    """Whether a receipt says that the receiver has the messages, and not only that they were handed over."""

    most: int
    """Messages in one call, at most."""

    def send(self, messages: Sequence[Message]) -> Receipt:
        """Send them, connecting first where that is needed. Raises `Unreachable`; the connection is closed then."""
        ...

    def close(self) -> None:
        """Release the connection; a second call does nothing."""
        ...


@runtime_checkable
class Unacknowledged(Sender, Protocol):
    """A sender whose receiver never says what it has."""

    def unsure(self) -> int:
        """Return how many messages that were taken the receiver may not have all the same: an upper bound.

        Of what became known since the last call: to be asked after `Unreachable`, from time to time, and after `close`.
        """
        ...


class Queue(Protocol):
    """What waits for one destination: in memory or in a spool. `put` is another thread's than the rest."""

    def put(self, messages: Sequence[Message]) -> None:
        """Take them in, in their order. Never waits for a receiver; what its limits do not admit is given up."""
        ...

    def take(self, most: int, timeout: float) -> Sequence[Message]:
        """Return the oldest that are not done, at most so many, waiting this many seconds for the first.

        They are the same again until `done`.
        """
        ...

    def done(self, count: int) -> None:
        """The oldest so many of those taken need not be kept any more. Once it is closed that changes nothing."""
        ...

    def losses(self) -> Sequence[Loss]:
        """Return what was given up since the last call."""
        ...

    def close(self) -> None:
        """Keep what waits if it can be kept, and give up the rest; a second call does nothing."""
        ...

    @property
    def error(self) -> str:
        """Why it cannot do its work at present, "" where it can."""
        ...

    @property
    def waiting(self) -> int:
        """Messages that are not done."""
        ...

    @property
    def size(self) -> int:
        """Bytes that they take."""
        ...
