# SPDX-License-Identifier: Apache-2.0
"""What a collector reads: numbered rows from where it was, in batches; and which rows are its own.

Owns the words that the sources of NATS and Kafka share, and the lanes. Never reads anything.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from enricher.runtime.collect.lane import Position
    from enricher.runtime.collect.parquet import Row

WAIT: Final = 1.0
"""Seconds that a source waits for a message, and between two tries to connect."""
_HOST: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Found(NamedTuple):
    """What came: rows of this lane, and the number up to which all was read. `idle`: there is nothing more just now."""

    last: int
    rows: Sequence[Row]
    idle: bool


class Source(Protocol):
    """A stream or a topic. It never ends by itself, but when `ended` is set."""

    name: str
    ended: bool
    advice: str
    trouble: str
    """Why nothing comes, in the library's words; "" where it does."""
    expired: int
    """Messages that were let go of before they were read."""
    kept_in: dict[str, int]
    """What a position has beside its number; empty where that is all."""

    async def created_at(self) -> str:
        """Return what tells it from another of its name; "" where it was ended first. Raises UsageError."""
        ...

    def batches(self, position: Position) -> AsyncIterator[Found]:
        """Yield what comes behind the position, at least every few seconds. Raises UsageError."""
        ...


def lane_of(host: str, lanes: int) -> int:
    """Return the lane that a host's events are in, always the same one."""
    return zlib.crc32(host.encode()) % lanes


def host_of(text: str) -> str:
    """Return it, or "" where it cannot be a host's."""
    return text if _HOST.fullmatch(text) else ""
