# SPDX-License-Identifier: Apache-2.0
"""A replay's events to the configured destinations, until they have them.

Owns the waiting that a service must never do: reading goes on when queues have room, and the end comes when nothing
waits any more, or when it is wanted. Its figures are all that is told of losses: a replay has no stream to tell in.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from enricher.enrich.surroundings import Surroundings
from enricher.route.own import OwnEvents
from enricher.runtime import sinkconfig, state
from enricher.runtime.route import Place
from enricher.runtime.routes import Routes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from enricher.config.load import Settings
    from enricher.model import Batch, Event, HostFacts
    from enricher.sources.names import Names

_PAUSE: Final = 0.02
"""Seconds between two looks at the queues."""
_END: Final = 1.0
"""Seconds for connections to be ended in good order; one that syslog ends may be waited for by its `timeout`."""
_ALWAYS: Final = ("taken", "retries", "waiting", "refused", "lost", "unsure")
_SHOWN: Final = (*_ALWAYS, "unheard")
_BAD: Final = ("waiting", "refused", "lost", "unsure")
"""Figures of messages that their receiver does not have, or may not have."""


class Delivery:
    """As `output.Output` to who replays. `over` is asked while it waits: whether to wait no longer.

    Raises EnricherError where a destination cannot be had.
    """

    def __init__(  # noqa: PLR0913 - what routes are made of, and what a replay is told
        self,
        settings: Settings,
        facts: HostFacts,
        names: Names,
        say: Callable[[str], None],
        over: Callable[[], bool],
        *,
        changes: str,
        lives: bool,
    ) -> None:
        around = Surroundings(facts)
        self.learn: Callable[[Batch], None] = around.learn
        self._own = OwnEvents(facts, around, changes=changes, lives=lives)
        self._over = over
        self._routes = Routes(sinkconfig.load(settings), Place(facts, around, state.directory(), say), names)
        self._figures: list[dict[str, object]] = []

    def __enter__(self) -> Self:
        self._routes.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._routes.close()

    def emit(self, events: list[Event]) -> None:
        """Hand events over, as soon as there is room for them."""
        while self._routes.crowded and not self._over():
            time.sleep(_PAUSE)
        self._routes.emit_events(self._own.chosen(events))
        self._routes.losses()  # a spool need not keep them for another run

    def finish(self) -> None:
        """Wait until every destination has everything, and end."""
        while self._routes.waiting and not self._over():
            time.sleep(_PAUSE)
        self._routes.stop(_END)
        self._figures = self._routes.facts()
        self._routes.close()

    def words(self) -> list[str]:
        """Return a line for each destination."""
        return words(self._figures)

    @property
    def complete(self) -> bool:
        """Whether every receiver has everything, as far as anybody can know."""
        return complete(self._figures)


def words(figures: Sequence[Mapping[str, object]]) -> list[str]:
    """Return a line for each destination of these facts."""
    return [
        f"{each['name']}: "
        + ", ".join(f"{each[name]} {name}" for name in _SHOWN if name in _ALWAYS or each[name])
        for each in figures
    ]


def complete(figures: Sequence[Mapping[str, object]]) -> bool:
    """Whether every receiver has everything, as far as anybody can know."""
    return not any(each[name] for each in figures for name in _BAD)
