# SPDX-License-Identifier: Apache-2.0
"""The service's destinations: none, or routes, from the settings of its start to those of its last reload.

Owns when they are made, started, asked for losses and ended. A service without destinations loads nothing of them.
Never touches an event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher.errors import EnricherError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enricher.config.load import Settings
    from enricher.model import HostFacts, Loss
    from enricher.runtime.routes import Routes
    from enricher.runtime.serviceoutput import ServiceOutput
    from enricher.runtime.sinkconfig import SinkSetting
    from enricher.sources.names import Names

_TELL_EVERY: Final = 1.0
"""Seconds between two questions what was lost."""


class ServiceSinks:
    """`output` hands its events to the routes from `open` on."""

    def __init__(
        self,
        output: ServiceOutput,
        facts: HostFacts,
        names: Names,
        state: str,
        say: Callable[[str], None],
    ) -> None:
        self._output = output
        self._facts = facts
        self._names = names
        self._state = state
        self._say = say
        self._routes: Routes | None = None
        self._tell_at = 0.0

    def open(self, settings: Settings) -> None:
        """Make what the settings ask for, while files can be read that only root can. Raises EnricherError."""
        if settings.sinks:
            self._make(_read(settings))

    def _make(self, sinks: Sequence[SinkSetting]) -> Routes:
        from enricher.runtime.route import Place  # noqa: PLC0415 - a start without destinations is faster
        from enricher.runtime.routes import Routes  # noqa: PLC0415

        place = Place(self._facts, self._output.around, self._state, self._say)
        self._routes = self._output.routes = Routes(sinks, place, self._names)
        return self._routes

    def start(self) -> None:
        """Start the threads; each has what capabilities we have now. Raises EnricherError."""
        if self._routes is not None:
            self._routes.start()

    def reload(self, settings: Settings) -> list[str]:
        """Go over to these, and the output as well; returns the tables that changed.

        Raises EnricherError, and then nothing has changed.
        """
        if self._routes is None and not settings.sinks:
            self._output.reload(settings)
            return []
        wanted = _read(settings)
        change = (self._routes or self._make([])).prepare(wanted)
        try:
            self._output.reload(settings)
        except EnricherError:
            change.cancel()
            raise
        return [f"sinks.{name}" for name in change.commit()]

    def losses(self, now: float) -> Sequence[Loss]:
        """Return what was lost since the last time, if it is time to ask."""
        if self._routes is None or now < self._tell_at:
            return ()
        self._tell_at = now + _TELL_EVERY
        return self._routes.losses()

    def end(self, tell: Callable[[Loss], None]) -> None:
        """Deliver what can be delivered in time, and tell what cannot be any more."""
        routes = self._routes
        if routes is None:
            return
        for loss in routes.stop():
            tell(loss)
        for facts in routes.facts():
            if facts["waiting"] and facts["queue"] == "spool":
                self._say(f"{facts['name']}: {facts['waiting']} messages wait for the next start")
        losses = routes.close()
        self._output.routes = None  # what is told from now on stands in the output alone
        for loss in losses:
            tell(loss)

    def close(self) -> None:
        """Let go of everything; a second call does nothing."""
        if self._routes is not None:
            self._routes.close()

    def facts(self) -> list[dict[str, object]]:
        """Return what `status` says of each."""
        return [] if self._routes is None else self._routes.facts()


def _read(settings: Settings) -> list[SinkSetting]:
    from enricher.runtime import sinkconfig  # noqa: PLC0415 - as above

    return sinkconfig.load(settings)
