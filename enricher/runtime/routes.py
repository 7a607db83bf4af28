# SPDX-License-Identifier: Apache-2.0
"""All routes of a run: events go in, and each destination's thread takes them further.

Owns that an event's native form and each form of its message are made once for all, what is told of losses, the order
in which routes end, and going over to other settings. Never waits for a receiver but in `stop` and in a reload, both
with a bound.

The order of an end is the spool's: couriers stop, then losses are asked for and told, then queues are closed, and the
rejected files last. What is told after the couriers have stopped is for the next run.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from enricher.enrich.native import NativeBuilder
from enricher.errors import EnricherError, UsageError
from enricher.route.filters import Shared
from enricher.runtime.route import Form, Place, Rendering, Route, form_of, sender_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from enricher.model import Event, Loss
    from enricher.runtime.sinkconfig import SinkSetting
    from enricher.sinks.delivery.message import Sender
    from enricher.sources.names import Names

STOP: Final = 10.0
"""Seconds that all destinations together have at the end; the unit's TimeoutStopSec is three times that."""
REPLACE: Final = 2.0
"""Seconds that those have which a reload replaces or removes."""
_GRACE: Final = 1.0  # seconds for the threads to end


class Routes:
    """Made before privileges are dropped, started after. Raises EnricherError where a destination cannot be."""

    def __init__(self, settings: Sequence[SinkSetting], place: Place, names: Names) -> None:
        self._place = place
        self._builder = NativeBuilder(place.facts, names=names, around=place.around)
        self._rich = NativeBuilder(place.facts, raw=True, names=names, around=place.around)
        self._renderings: dict[Form, Rendering] = {}
        self._routes: dict[str, Route] = {}
        self._pending: list[Loss] = []
        self._stopped = self._closed = False
        try:
            for setting in settings:
                self._routes[setting.name] = self._make(setting, self._early(setting))
        except BaseException:
            self.close()
            raise

    def _early(self, setting: SinkSetting) -> Sender | None:
        return None if setting.type.late else _located(setting, self._place)

    def _make(self, setting: SinkSetting, sender: Sender | None) -> Route:
        form = form_of(setting)
        if (rendering := self._renderings.get(form)) is None:
            rendering = self._renderings[form] = Rendering(form, self._place)
        try:
            return Route(setting, sender, self._place, rendering)
        except EnricherError as error:
            if sender is not None:
                sender.close()
            raise _at(setting, error) from error

    def start(self) -> None:
        """Begin to deliver. Raises EnricherError."""
        for route in self._routes.values():
            _start(route)

    def emit_events(self, events: Sequence[Event]) -> None:
        """As `emit`, of events that nobody else needs the native form of."""
        self.emit([Shared(event, self._builder.build, self._builder.place) for event in events])

    def emit(self, events: Sequence[Shared], rich: Sequence[Shared] | None = None) -> None:
        """Put events into the queues of those routes whose filters they pass. Raises nothing and waits for nothing.

        `rich`: the same events with their records' text in the native form, if they are there already.
        """
        for rendering in self._renderings.values():
            rendering.begin()
        if rich is None and any(rendering.raw for rendering in self._renderings.values()):
            rich = [Shared(one.event, self._rich.build, self._rich.place) for one in events]
        for route in self._routes.values():
            route.offer(events, rich or events)

    def losses(self) -> list[Loss]:
        """Return what was lost since the last call: each is to be told in the stream."""
        found, self._pending = self._pending, []
        for route in self._routes.values():
            found += route.losses()
        return found

    def facts(self) -> list[dict[str, object]]:
        """Return what `status` says of each."""
        return [route.facts() for route in self._routes.values()]

    @property
    def waiting(self) -> int:
        """Messages that are not done."""
        return sum(route.queue.waiting for route in self._routes.values())

    @property
    def crowded(self) -> bool:
        """Whether a queue is more than half full: who can wait should."""
        return any(2 * each.queue.size > each.setting.common.max_size for each in self._routes.values())

    def stop(self, seconds: float = STOP) -> list[Loss]:
        """Deliver for so long what can be, end the couriers, and return what was lost."""
        self._stopped = True
        _stop(self._routes.values(), seconds)
        return self.losses()

    def close(self) -> list[Loss]:
        """Close queues and files; returns what queues in memory have given up. A second call does nothing."""
        if self._closed:
            return []
        if not self._stopped:
            self.stop(_GRACE)
        self._closed = True
        return [loss for route in self._routes.values() for loss in route.close()]

    # -- a reload ------------------------------------------------------------------------------------

    def prepare(self, settings: Sequence[SinkSetting]) -> Change:
        """Make what can be made beside what runs. Raises EnricherError, and then nothing has changed."""
        made: dict[str, Route] = {}
        senders: dict[str, Sender] = {}
        try:
            for setting in settings:
                old = self._routes.get(setting.name)
                if old is not None and old.setting == setting:
                    continue
                sender = self._early(setting)
                if old is None:
                    made[setting.name] = self._make(setting, sender)
                elif sender is not None:
                    senders[setting.name] = sender
        except BaseException:
            Change(self, settings, made, senders).cancel()
            raise
        return Change(self, settings, made, senders)

    def replace(
        self, settings: Sequence[SinkSetting], made: dict[str, Route], senders: dict[str, Sender]
    ) -> list[str]:
        """Go over to these; see `Change.commit`."""
        say = self._place.say
        wanted = {setting.name: setting for setting in settings}
        gone = {name: each for name, each in self._routes.items() if wanted.get(name) != each.setting}
        _stop(gone.values(), REPLACE)
        for route in gone.values():
            self._pending += route.losses()
            waiting = route.queue.waiting
            self._pending += route.close()
            if route.name not in wanted and waiting and route.spool:
                say(f"{route.name}: it is no destination any more; {waiting} messages stay in {route.spool}")
        routes = {}
        for name, setting in wanted.items():
            if name in self._routes and name not in gone:
                routes[name] = self._routes[name]
            elif route_or_none := self._renew(setting, made.get(name), senders.get(name), gone.get(name)):
                routes[name] = route_or_none
        self._routes = routes
        self.prune()
        return sorted({*gone, *(name for name in wanted if name not in gone and name in made)})

    def prune(self) -> None:
        """Forget the forms that no route has any more."""
        used = {form_of(route.setting) for route in self._routes.values()}
        self._renderings = {form: each for form, each in self._renderings.items() if form in used}

    def _renew(
        self, setting: SinkSetting, made: Route | None, sender: Sender | None, old: Route | None
    ) -> Route | None:
        """Return the running route of a setting; where it cannot be had, that of the setting before, or none."""
        say = self._place.say
        try:
            route = made or self._make(setting, sender)
            _start(route)
        except EnricherError as error:
            if made is not None:
                self._pending += made.close()
            say(f"{error.message}; {'the settings before it stay' if old else 'nothing is sent there'}")
        else:
            return route
        if old is None:
            return None
        try:
            route = self._make(old.setting, self._early(old.setting))
            _start(route)
        except EnricherError as error:
            say(f"{error.message}; nothing is sent there until the next reload")
            return None
        return route


class Change:
    """A reload that was prepared."""

    def __init__(
        self,
        routes: Routes,
        settings: Sequence[SinkSetting],
        made: dict[str, Route],
        senders: dict[str, Sender],
    ) -> None:
        self._routes = routes
        self._settings = settings
        self._made = made
        self._senders = senders

    def cancel(self) -> None:
        """Let go of what was made; what runs was not touched."""
        for route in self._made.values():
            route.close()
        for sender in self._senders.values():
            sender.close()
        self._routes.prune()

    def commit(self) -> list[str]:
        """Replace what differs; returns the names of destinations that are new, other ones, or gone."""
        return self._routes.replace(self._settings, self._made, self._senders)


def _located(setting: SinkSetting, place: Place) -> Sender:
    try:
        return sender_of(setting, place)
    except EnricherError as error:
        raise _at(setting, error) from error


def _start(route: Route) -> None:
    try:
        route.start()
    except EnricherError as error:
        # What it has opened goes with it: the next try opens it again.
        route.close()
        raise _at(route.setting, error) from error


def _at(setting: SinkSetting, error: EnricherError) -> EnricherError:
    """Return the error with the place of the destination's table."""
    kind = type(error) if type(error).__init__ is EnricherError.__init__ else UsageError
    return kind(f"{setting.place}: [sinks.{setting.name}]: {error.message}", error.hint)


def _stop(routes: Iterable[Route], seconds: float) -> None:
    """End couriers, all within these seconds and a little."""
    ending = list(routes)
    end = time.monotonic() + seconds + _GRACE
    for route in ending:
        route.begin_stop(seconds)
    for route in ending:
        route.join(end - time.monotonic())
