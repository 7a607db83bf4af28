# SPDX-License-Identifier: Apache-2.0
"""The destinations of a program that lives as long as its kernel's events do: the service, or a run.

Owns when they are made, started, asked for losses and ended. A program without destinations loads nothing of them.
Never touches an event: who has them hands them to `Feed.routes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enricher.config.load import Settings
    from enricher.enrich.surroundings import Surroundings
    from enricher.model import HostFacts, Loss
    from enricher.runtime.routes import Routes
    from enricher.runtime.sinkconfig import SinkSetting
    from enricher.sources.names import Names

_TELL_EVERY: Final = 1.0
"""Seconds between two questions what was lost."""


class Feed(Protocol):
    """Who has the events, and hands them to `routes` where there are any."""

    routes: Routes | None

    @property
    def around(self) -> Surroundings:
        """What is known of containers and namespaces."""
        ...


class Destinations:
    """`feed` hands its events to the routes from `open` on."""

    def __init__(
        self,
        feed: Feed,
        facts: HostFacts,
        names: Names,
        state: str,
        say: Callable[[str], None],
    ) -> None:
        self._feed = feed
        self._facts = facts
        self._names = names
        self._state = state
        self._say = say
        self.routes: Routes | None = None
        self._tell_at = 0.0

    def open(self, settings: Settings) -> None:
        """Make what the settings ask for, while files can be read that only root can. Raises EnricherError."""
        if settings.sinks:
            self.make(read(settings))

    def make(self, sinks: Sequence[SinkSetting]) -> Routes:
        """Make these, which are started later. Raises EnricherError."""
        from enricher.runtime.route import Place  # noqa: PLC0415 - a start without destinations is faster
        from enricher.runtime.routes import Routes  # noqa: PLC0415

        place = Place(self._facts, self._feed.around, self._state, self._say)
        self.routes = self._feed.routes = Routes(sinks, place, self._names)
        return self.routes

    def start(self) -> None:
        """Start the threads; each has what capabilities we have now. Raises EnricherError."""
        if self.routes is not None:
            self.routes.start()

    def losses(self, now: float) -> Sequence[Loss]:
        """Return what was lost since the last time, if it is time to ask."""
        if self.routes is None or now < self._tell_at:
            return ()
        self._tell_at = now + _TELL_EVERY
        return self.routes.losses()

    def end(self, tell: Callable[[Loss], None]) -> None:
        """Deliver what can be delivered in time, and tell what cannot be any more."""
        routes = self.routes
        if routes is None:
            return
        for loss in routes.stop():
            tell(loss)
        for facts in routes.facts():
            if facts["waiting"] and facts["queue"] == "spool":
                self._say(f"{facts['name']}: {facts['waiting']} messages wait for the next start")
        losses = routes.close()
        self._feed.routes = None  # what is told from now on goes to no destination
        for loss in losses:
            tell(loss)

    def close(self) -> None:
        """Let go of everything; a second call does nothing."""
        if self.routes is not None:
            self.routes.close()

    def facts(self) -> list[dict[str, object]]:
        """Return what `status` says of each."""
        return [] if self.routes is None else self.routes.facts()


def read(settings: Settings) -> list[SinkSetting]:
    """Return the destinations of these settings. Raises ConfigInvalid."""
    from enricher.runtime import sinkconfig  # noqa: PLC0415 - as above

    return sinkconfig.load(settings)
