# SPDX-License-Identifier: Apache-2.0
"""How long events take from the kernel to their written lines.

Owns the histogram. Never asks a clock but once for each batch of lines, and never an event's own time: the stamp
in a record is that of the beginning of a system call, which may wait for days.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from enricher.model import Event

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, each bucket's own included."""

_BOUNDS: Final = tuple(round(bound * 1e9) for bound in BOUNDS)


def _boot_time() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Latency:
    """``counts`` by bucket, one more than `BOUNDS`; ``seconds`` together. `clock` gives nanoseconds since boot."""

    def __init__(self, clock: Callable[[], int] = _boot_time) -> None:
        self._clock = clock
        self._nanoseconds = 0
        self.counts = [0] * (len(_BOUNDS) + 1)

    @property
    def seconds(self) -> float:
        """The sum of all."""
        return self._nanoseconds / 1e9

    def observe(self, events: Iterable[Event]) -> None:
        """Enter events that were written just now.

        From the kernel side's word that an event is over, or from its context where it has one record. Events of which
        the kernel side told nothing are not entered.
        """
        now = self._clock()
        counts = self.counts
        total = 0
        for event in events:
            told = event.tally if event.tally is not None else event.context
            if told is not None:
                took = max(now - told.time, 0)
                counts[bisect_left(_BOUNDS, took)] += 1
                total += took
        self._nanoseconds += total
