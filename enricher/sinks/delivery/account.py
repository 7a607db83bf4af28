# SPDX-License-Identifier: Apache-2.0
"""The account of a spool: how far the receiver has come, what is missing, and what of that was told.

Owns the gaps in the numbers of messages. Never touches a file; who uses it holds the spool's lock.

A gap that was told is in the cursor file, so that no later run tells it again. One that was not, the next run finds
for itself, as long as it was not passed. What was passed or never got a number, and was not told, is in the cursor
file as a debt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enricher.sinks.delivery.givenup import GivenUp
from enricher.sinks.delivery.spooldir import Cursor, Gap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enricher.model import Loss


class Account:
    """``done``: all messages with lower numbers need not be kept; they stood for ``before`` records."""

    def __init__(self, cursor: Cursor) -> None:
        self.done, self.before = cursor.done, cursor.before
        self.given_up = GivenUp()
        self.given_up.add(0, cursor.owed)
        self._gaps = [gap for gap in cursor.gaps if gap.end > cursor.done]
        self._told = set(self._gaps)

    def advance(self, done: int, before: int) -> None:
        """The receiver has come so far."""
        self.done, self.before = done, before
        self._pass()

    def lose(
        self, first: int, end: int, records: int, serial: int | None = None, last: int | None = None
    ) -> None:
        """Count messages from ``first`` up to and without ``end`` as lost, but those that were counted already.

        ``records`` is what all of them stood for, those counted already as well.
        """
        at, pieces = first, []
        for gap in sorted(gap for gap in self._gaps if first <= gap.first and gap.end <= end):
            records -= gap.records
            if gap.first > at:
                pieces.append((at, gap.first))
            at = max(at, gap.end)
        if at < end:
            pieces.append((at, end))
        if not pieces:
            return
        records = max(0, records)
        self.given_up.add(sum(stop - start for start, stop in pieces), records, serial, last)
        for start, stop in pieces:
            self._gaps.append(Gap(start, stop, records))
            records = 0  # only the sum is known

    def tell(self) -> tuple[Sequence[Loss], bool]:
        """Return what was not told yet, and whether the cursor has to say so."""
        losses = self.given_up.tell()
        fresh = bool(losses) or not self._told.issuperset(self._gaps)
        self._told.update(self._gaps)
        self._pass()
        return losses, fresh

    def _pass(self) -> None:
        """Forget the gaps that were passed; one that is next and was told is passed."""
        if not self._gaps:
            return
        for gap in sorted(self._gaps):
            if gap.first <= self.done < gap.end and gap in self._told:
                self.before += gap.records
                self.done = gap.end
        self._gaps = [gap for gap in self._gaps if gap.end > self.done]
        self._told.intersection_update(self._gaps)

    def missing(self) -> int:
        """How many of the messages from ``done`` on are not there."""
        return sum(gap.end - max(gap.first, self.done) for gap in self._gaps)

    def cursor(self) -> Cursor:
        """Return what is to be written."""
        untold = sum(gap.records for gap in self._gaps if gap not in self._told)
        told = [gap for gap in self._gaps if gap in self._told]
        return Cursor(self.done, self.before, told, max(0, self.given_up.untold - untold))
