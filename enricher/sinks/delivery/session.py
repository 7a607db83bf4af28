# SPDX-License-Identifier: Apache-2.0
"""The one session that a sender keeps with its receiver from one `send` to the next.

Owns when a new one is begun: where there is none, and where the receiver has said something or ended the last, in which
nothing of ours was open. Never speaks a protocol: what begins a session is the sender's, and so is a farewell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from enricher.sinks.delivery.message import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.sinks.delivery.connection import Connection

S = TypeVar("S")


class Held(Generic[S]):
    """``session`` is None where there is none; ``begun`` counts those that there were.

    `connect` makes the connection, `begin` a session over it. What they raise `opened` raises; a connection that it had
    by then is closed by `abandon`, which is to be called after every failure.
    """

    def __init__(self, connect: Callable[[], Connection], begin: Callable[[Connection], S]) -> None:
        self._connect = connect
        self._begin = begin
        self._connection: Connection | None = None
        self.session: S | None = None
        self.begun = 0

    def opened(self) -> S:
        """Return the session, a new one where the receiver has closed the last."""
        if self.session is not None:
            if self.alive():
                return self.session
            self.abandon()
        self._connection = self._connect()
        self.session = self._begin(self._connection)
        self.begun += 1
        return self.session

    def alive(self) -> bool:
        """Whether the receiver has said nothing since its last answer: all it can say then is that it closes."""
        if self._connection is None:
            return False
        try:
            return self._connection.pending() is None
        except Unreachable:
            return False

    def abandon(self) -> None:
        """Close the connection, without a farewell. A second call does nothing."""
        connection, self._connection, self.session = self._connection, None, None
        if connection is not None:
            connection.close()
