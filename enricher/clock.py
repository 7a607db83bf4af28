# SPDX-License-Identifier: Apache-2.0
"""Time: how a kernel timestamp is written, and the clocks a stage may ask.

Owns the formatting of seconds and milliseconds (integers throughout: a float cannot hold the milliseconds of
today's seconds exactly enough to trust its rounding) and the `Clock` protocol with its two implementations.
Never sleeps and never decides what a lapse of time means.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Protocol

LAST_SECOND = 253_402_300_799
"""9999-12-31T23:59:59Z: RFC 3339 has four digits for the year."""


@lru_cache(maxsize=64)
def utc_second(sec: int) -> str:
    """Return ``2026-03-01T12:00:00``; `sec` is at most `LAST_SECOND`."""
    t = time.gmtime(sec)
    return f"{t.tm_year:04d}-{t.tm_mon:02d}-{t.tm_mday:02d}T{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}"


@lru_cache(maxsize=64)
def _local_second(sec: int) -> str:
    t = time.localtime(sec)
    return f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}"


def rfc3339(sec: int, ms: int) -> str:
    """Return ``2026-03-01T12:00:00.042Z``. A second after the year 9999 gives that year's last one.

    No running kernel says so; a damaged log file may, and the event's id still holds the number.
    """
    return f"{utc_second(min(sec, LAST_SECOND))}.{ms:03d}Z"


def local_time(sec: int, ms: int) -> str:
    """Return ``HH:MM:SS.mmm`` in the local time zone, for people."""
    return f"{_local_second(min(sec, LAST_SECOND))}.{ms:03d}"


class Clock(Protocol):
    """What a stage needs to know about now. Never the wall clock: records bring their own."""

    def monotonic(self) -> float:
        """Seconds since some start, never going back."""
        ...


class SystemClock:
    """The real clocks of this machine."""

    def monotonic(self) -> float:
        """See `Clock`."""
        return time.monotonic()


class TurnClock:
    """The time at which a loop's current turn began; the loop sets `now`.

    For what wants the time for every event: asking the kernel is a system call on machines without a clock
    that user space can read, and under a rule on every system call each would make a record of our own.
    """

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        """See `Clock`."""
        return self.now


class ManualClock:
    """A clock that moves only when told: for tests and for replay."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._seconds += seconds

    def monotonic(self) -> float:
        """See `Clock`."""
        return self._seconds
