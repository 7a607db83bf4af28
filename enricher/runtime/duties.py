# SPDX-License-Identifier: Apache-2.0
"""What a service is asked to do between two turns of its loop, and whether anything is due.

Owns the question, which is asked after each turn and has to be cheap. Never does what is due: `service` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from enricher.clock import TurnClock
    from enricher.runtime.serviceoutput import ServiceOutput
    from enricher.sinks.journal import Journal

DUE: Final = -1.0
"""Seconds to wait where something is due."""


class Asked(Protocol):
    """What signals asked for: `cli.options.Signals`."""

    @property
    def stopped(self) -> bool:
        """Whether the end is wanted."""
        ...

    @property
    def fd(self) -> int:
        """A descriptor that becomes readable with each signal."""
        ...

    def take_report(self) -> bool:
        """Whether the account is wanted."""
        ...

    def take_reload(self) -> bool:
        """Whether the settings shall be read again."""
        ...


class Duties:
    """What is due by the clock, and for what happened to the journal and the output.

    ``next`` is when something is due by the clock, in its seconds; `calm` the seconds after which to ask in any case.
    """

    def __init__(self, clock: TurnClock, output: ServiceOutput, calm: float) -> None:
        self._clock = clock
        self._output = output
        self._calm = calm
        self.journal: Journal | None = None
        self.next = 0.0

    def wait(self, told: str) -> float:
        """Return after how many seconds to ask again though nothing happens; `DUE` where something is due now.

        `told` is the output's error that the service manager knows of.
        """
        now = self._clock.now
        output, journal = self._output, self.journal
        if now >= self.next or output.error != told or output.waits:
            return DUE
        if journal is None:
            return self._calm
        return DUE if journal.due(now) else min(self._calm, journal.patience)
