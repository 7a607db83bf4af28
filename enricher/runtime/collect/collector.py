# SPDX-License-Identifier: Apache-2.0
"""The loop of ``audit-enricher collect``: messages are gathered until a bound, written, and taken.

Owns when a batch is full and what is told. What was gathered and not yet taken is in memory alone: the stream has it.
"""

from __future__ import annotations

import time
from copy import copy
from typing import TYPE_CHECKING, NamedTuple

from enricher.runtime.collect.parquet import ParquetWriter, Row
from enricher.sinks.delivery.message import Message
from enricher.sinks.delivery.rejected import RejectedFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.runtime.collect.lane import Lane
    from enricher.runtime.collect.source import Source


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
    """Takes from a source, for good. `tell` gets a sentence for the operator."""

    def __init__(self, source: Source, lane: Lane, limits: Limits, tell: Callable[[str], None]) -> None:
        self._source = source
        self._lane = lane
        self._limits = limits
        self._tell = tell
        self._writer = ParquetWriter(lane, limits.memory, limits.lateness)
        self._rejected = RejectedFile(str(lane.rejected))
        self.began = False
        """Whether a cluster has answered."""
        self._rows: list[Row] = []
        self._size = 0
        self._begun = time.monotonic()

    async def run(self, stopped: Callable[[], bool]) -> None:
        """Work until `stopped`, or the stream's end where that is asked for. Raises OutputFailed and UsageError."""
        source = self._source
        created = await source.created_at()
        if not created:
            return  # stopped before any server answered
        self.began = True
        position = self._lane.position
        if position.created and position.created != created:
            self._tell(f"{source.name} is another one than before: it is read from its beginning")
            position.through, position.offsets = 0, {}
        position.stream, position.created = source.name, created
        limits = self._limits
        async for found in source.batches(position):
            self._rows += found.rows
            self._size += sum(len(row.body) for row in found.rows)
            full = len(self._rows) >= limits.events or self._size >= limits.size
            ends = stopped() or (limits.idle_end and found.idle)
            if full or ends or time.monotonic() - self._begun >= limits.seconds:
                self._take(found.last)
            if ends:
                source.ended = True
        self._writer.close()
        self._rejected.close()

    def _take(self, last: int) -> None:
        """Write what was gathered up to the sequence `last`, and take it."""
        self._begun = time.monotonic()
        lane = self._lane
        if last == lane.position.through:
            return
        refused = [(row, "its subject or key has no host") for row in self._rows if not row.host]
        written = self._writer.write([row for row in self._rows if row.host])
        refused += written.rejected
        # Before the batch is taken: a kill in between has them in the file twice, not never.
        self._rejected.write([(Message(str(row.seq), 0.0, row.host, row.body), why) for row, why in refused])
        position = copy(lane.position)
        position.through = last
        position.offsets = dict(self._source.kept_in)
        position.batch += 1
        position.written += written.written
        position.duplicates += written.duplicates
        position.late += written.late
        position.rejected += len(refused)
        position.expired += self._source.expired
        position.newest = written.newest
        self._source.expired = 0
        lane.take(position, written.files)
        self._tell(
            f"{written.written} events in {len(written.files)} files up to {last}; in all {position.written} written,"
            f" {position.duplicates} duplicates, {position.late} late, {position.rejected} rejected,"
            f" {position.expired} expired unread"
        )
        self._rows, self._size = [], 0
