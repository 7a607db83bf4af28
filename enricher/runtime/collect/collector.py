# SPDX-License-Identifier: Apache-2.0
"""The loop of ``audit-enricher collect``: messages are gathered until a bound, written, and taken.

Owns when a batch is full and what is told. What was gathered and not yet taken is in memory alone: the stream has it.
"""

from __future__ import annotations

import time
from copy import copy
from typing import TYPE_CHECKING, NamedTuple

from enricher.runtime.collect.parquet import ParquetWriter, Row
from enricher.runtime.collect.stream import lane_of, row_of
from enricher.sinks.delivery.message import Message
from enricher.sinks.delivery.rejected import RejectedFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.runtime.collect.lane import Lane
    from enricher.runtime.collect.stream import Stream


class Limits(NamedTuple):
    """When a batch is written, and what a collector may use."""

    events: int
    size: int
    """Bytes of bodies."""
    seconds: float
    memory: str
    """DuckDB's, as it writes it."""
    lateness: float
    idle_end: bool
    """Whether the end of the stream is the end of the work."""


class Collector:
    """Takes from a stream what belongs to a lane. `tell` gets a sentence for the operator."""

    def __init__(  # noqa: PLR0913 - what it puts together
        self, stream: Stream, lane: Lane, number: int, lanes: int, limits: Limits, tell: Callable[[str], None]
    ) -> None:
        self._stream = stream
        self._lane = lane
        self._number, self._lanes = number, lanes
        self._limits = limits
        self._tell = tell
        self._writer = ParquetWriter(lane, limits.memory, limits.lateness)
        self._rejected = RejectedFile(str(lane.rejected))
        self._rows: list[Row] = []
        self._size = 0
        self._begun = time.monotonic()

    async def run(self, stopped: Callable[[], bool]) -> None:
        """Work until `stopped`, or the stream's end where that is asked for. Raises OutputFailed and UsageError."""
        created = await self._stream.created_at()
        if not created:
            return  # stopped before any server answered
        self._stream.created = created
        position = self._lane.position
        if position.created and position.created != created:
            self._tell(
                f"the stream {self._stream.name} is another one than before: it is read from its beginning"
            )
            position.through = 0
        position.stream, position.created = self._stream.name, created
        last = position.through
        limits = self._limits
        async for last, found in self._stream.batches(last):  # noqa: B020 - it goes on from there
            for seq, subject, body in found:
                row = row_of(seq, subject, body)
                if lane_of(row.host, self._lanes) == self._number:
                    self._rows.append(row)
                    self._size += len(body)
            full = len(self._rows) >= limits.events or self._size >= limits.size
            ends = stopped() or (limits.idle_end and not found)
            if full or ends or time.monotonic() - self._begun >= limits.seconds:
                self._take(last)
            if ends:
                self._stream.ended = True
        self._writer.close()
        self._rejected.close()

    def _take(self, last: int) -> None:
        """Write what was gathered up to the sequence `last`, and take it."""
        self._begun = time.monotonic()
        lane = self._lane
        if last == lane.position.through:
            return
        refused = [(row, "its subject does not end in a host") for row in self._rows if not row.host]
        written = self._writer.write([row for row in self._rows if row.host])
        refused += written.rejected
        # Before the batch is taken: a kill in between has them in the file twice, not never.
        self._rejected.write([(Message(str(row.seq), 0.0, row.host, row.body), why) for row, why in refused])
        position = copy(lane.position)
        position.through = last
        position.batch += 1
        position.written += written.written
        position.duplicates += written.duplicates
        position.late += written.late
        position.rejected += len(refused)
        position.expired += self._stream.expired
        position.newest = written.newest
        self._stream.expired = 0
        lane.take(position, written.files)
        self._tell(
            f"{written.written} events in {len(written.files)} files up to {last}; in all {position.written} written,"
            f" {position.duplicates} duplicates, {position.late} late, {position.rejected} rejected,"
            f" {position.expired} expired unread"
        )
        self._rows, self._size = [], 0
