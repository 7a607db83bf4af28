# SPDX-License-Identifier: Apache-2.0
"""What a queue could not keep, until it is told.

Owns the sums and the `Loss` that is made of them. Never decides what is given up. Not for several threads at once:
who adds and who tells holds the queue's lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher.correlate.ledger import serial_before
from enricher.model import Loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enricher.sinks.delivery.message import Message

POLICIES: Final = ("drop_oldest", "drop_newest")
"""What goes when there is no room: what waits longest, or what comes."""


class GivenUp:
    """``messages`` and ``records`` are those since the start, ``untold`` the records that were not told yet.

    Messages without records are events of our own; they are counted and make no loss, or the loss of what tells a
    loss would be told, and lost, for ever.
    """

    def __init__(self, cause: str = "queue", stage: str = "queue") -> None:
        self.messages = 0
        self.records = 0
        self._cause, self._stage = cause, stage
        self.untold = 0
        self._first: int | None = None
        self._last: int | None = None

    def add(self, messages: int, records: int, first: int | None = None, last: int | None = None) -> None:
        """Count these; ``first`` and ``last`` are serials, None where they are not known."""
        self.messages += messages
        self.records += records
        self.untold += records
        # Messages come in the order in which events were finished, which is nearly that of serials.
        if first is not None and (self._first is None or serial_before(first, self._first)):
            self._first = first
        if last is not None and (self._last is None or serial_before(self._last, last)):
            self._last = last

    def add_message(self, message: Message) -> None:
        """Count this one."""
        serial = message.serial or None
        self.add(1, message.records, serial, serial)

    def tell(self) -> Sequence[Loss]:
        """Return what was not told yet: one loss, or none."""
        lost, self.untold = self.untold, 0
        first, last = self._first, self._last
        self._first = self._last = None
        return [Loss(self._cause, self._stage, lost, "records", first, last, ())] if lost else []
