# SPDX-License-Identifier: Apache-2.0
"""The service's metrics as one piece: what it listens on, and what is read when somebody scrapes.

Owns this composition. Never counts, and does nothing while nobody asks.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from enricher.config import settings as rows
from enricher.runtime.listening import Listener, listen_loopback, listen_unix
from enricher.runtime.metrics import families
from enricher.runtime.metrics.exposition import text
from enricher.runtime.metrics.latency import Latency
from enricher.runtime.metrics.server import MetricsServer
from enricher.runtime.metrics.sources import Reading
from enricher.sources.bpf.features import measures_programs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from enricher.clock import Clock
    from enricher.config.load import Settings
    from enricher.runtime.pipeline import Pipeline
    from enricher.runtime.startup import Started


class Endpoint:
    """Raises UsageError where it cannot listen. ``server`` is None where the settings ask for nothing.

    ``latency`` is there where it is to be measured. `begin` comes before the first `serve`.
    """

    def __init__(self, settings: Settings, clock: Clock, say: Callable[[str], None]) -> None:
        self.server: MetricsServer | None = None
        self.latency: Latency | None = None
        found = _listeners(settings)
        if not found:
            return
        self.latency = Latency()
        self.server = MetricsServer(found, self._text, clock)
        for listener in found:
            if listener.advice:
                say(listener.advice)

    def begin(self, status: Callable[[], Mapping[str, object]], started: Started, pipeline: Pipeline) -> None:
        """Have the pipeline's loop answer who asks."""
        if self.server is not None:
            self._status, self._started, self._pipeline = status, started, pipeline
            pipeline.serve(self.server.fileno(), self.server.serve)

    def _text(self) -> bytes:
        loaded = self._started.loaded
        assert self.server is not None  # noqa: S101 - it is who asks
        assert self.latency is not None  # noqa: S101 - made with it
        reading = Reading(
            status=self._status(),
            open_events=len(self._pipeline.stages.correlator),
            queued_bytes=self._started.socket.queued(),
            ring_drops=loaded.drops_by_cpu(),
            run_times=loaded.run_times() if measures_programs() else {},
            latency=self.latency,
            server=self.server.counts(),
            cpu_seconds=time.process_time(),
        )
        return text(families(reading))

    def close(self) -> None:
        """Let all clients go and stop listening."""
        if self.server is not None:
            self.server.close()


def _listeners(settings: Settings) -> list[Listener]:
    found: list[Listener] = []
    try:
        if settings[rows.METRICS_SOCKET]:
            found.append(listen_unix(settings[rows.METRICS_SOCKET], settings[rows.GROUP], "metrics"))
        if settings[rows.METRICS_PORT]:
            found += listen_loopback(settings[rows.METRICS_PORT], "metrics")
    except BaseException:
        for listener in found:
            listener.close()
        raise
    return found
