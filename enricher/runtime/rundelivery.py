# SPDX-License-Identifier: Apache-2.0
"""A run's events to the configured destinations, beside its output or in its place.

Owns who gets a run's events where there are destinations, and the figures of the end. Never waits for a receiver
while the run lasts: what a queue does not take is given up by its policy, and told in the stream as in the service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher.enrich.surroundings import Surroundings
from enricher.route.own import OwnEvents
from enricher.runtime import state
from enricher.runtime.delivery import complete, words
from enricher.runtime.destinations import Destinations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from enricher.config.load import Settings
    from enricher.model import Event, HostFacts, Loss
    from enricher.runtime.output import Output
    from enricher.runtime.routes import Routes
    from enricher.sources.names import Names

_LONGEST_WAIT: Final = 10.0


class RunDelivery:
    """As `output.Output` to who runs; `output` is the one beside it, if there is one.

    ``longest_wait`` is how many seconds of quiet there may be between two questions what was lost.

    Raises EnricherError where a destination cannot be had.
    """

    longest_wait = _LONGEST_WAIT

    def __init__(  # noqa: PLR0913 - what routes are made of, and what a run is told
        self,
        output: Output | None,
        settings: Settings,
        facts: HostFacts,
        names: Names,
        say: Callable[[str], None],
        *,
        changes: str,
        lives: bool,
    ) -> None:
        self.routes: Routes | None = None
        self.around = Surroundings(facts) if output is None else output.around
        self.cgroups = self.around.cgroups
        self.learn = self.around.learn
        self.advice = "" if output is None else output.advice
        self._output = output
        self._own = OwnEvents(facts, self.around, changes=changes, lives=lives)
        self._sinks = Destinations(self, facts, names, state.directory(), say)
        self._sinks.open(settings)
        self._figures: Sequence[Mapping[str, object]] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sinks.close()

    def start(self) -> None:
        """Begin to deliver. Raises EnricherError."""
        self._sinks.start()

    def emit(self, events: list[Event]) -> None:
        """Hand events over. Destinations first, which raise nothing."""
        if self.routes is not None:
            self.routes.emit_events(self._own.chosen(events))
        if self._output is not None:
            self._output.emit(events)

    @property
    def full(self) -> bool:
        """Whether the output has what it was to have."""
        return self._output is not None and self._output.full

    def flush(self) -> None:
        """Hand over what the output still holds."""
        if self._output is not None:
            self._output.flush()

    def losses(self, now: float) -> Sequence[Loss]:
        """Return what was lost since the last time, if it is time to ask."""
        return self._sinks.losses(now)

    def end(self, tell: Callable[[Loss], None]) -> None:
        """Deliver what can be delivered in time, and tell what cannot be any more."""
        self._sinks.end(tell)
        self._figures = self._sinks.facts()

    def words(self) -> list[str]:
        """Return a line for each destination, once it has ended."""
        return words(self._figures)

    @property
    def complete(self) -> bool:
        """Whether every receiver has everything, as far as anybody can know."""
        return complete(self._figures)
