# SPDX-License-Identifier: Apache-2.0
"""From finished events to written lines: filter, view, sink.

Owns the composition of the stages right of the join for one `run`. Never formats anything itself.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from enricher.enrich.native import NativeBuilder
from enricher.enrich.surroundings import Surroundings
from enricher.route.filters import Shared, made_of
from enricher.route.own import OwnEvents
from enricher.route.views import native_json
from enricher.route.views.audit_text import AuditText
from enricher.route.views.table import Table, terminal_width, wants_colour
from enricher.sinks.stream import FileSink, NullSink, StdoutSink
from enricher.sources.names import NoNames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from enricher.enrich.shape import NativeEvent
    from enricher.model import Event, HostFacts
    from enricher.sinks.stream import Sink
    from enricher.sources.names import Names

T = TypeVar("T")

FORMATS: Final = ("table", "json", "text")


class Wanted(NamedTuple):
    """What `run` was asked for. `view` is one of FORMATS, or None for the default of the destination."""

    view: str | None = None
    path: str | None = None
    keys: Sequence[str] = ()
    types: Sequence[str] = ()
    limit: int | None = None
    skip_self: bool = False
    raw: bool = False
    changes: str = "none"
    lives: bool = False
    expression: str = ""


class Renderer(NamedTuple):
    """What makes an event's line, or lines; ``native`` and ``place`` make what a filter is asked about."""

    native: Callable[[Event], NativeEvent]
    place: Callable[[Event], NativeEvent]
    line: Callable[[Event], bytes]
    line_of: Callable[[NativeEvent], bytes] | None
    """The line of an event whose native form is there; None where the view does not start from it."""

    def shared(self, one: Shared) -> bytes:
        """Return the line of an event whose native form may be there already."""
        return self.line(one.event) if self.line_of is None else self.line_of(one.native())


def renderer(  # noqa: PLR0913 - what an event is made from
    view: str,
    facts: HostFacts,
    names: Names,
    around: Surroundings,
    *,
    raw: bool = False,
    table: Table | None = None,
) -> Renderer:
    """Return what makes lines in one of FORMATS; "table" takes a `table`."""
    if view == "text":
        # Made when a filter asks for it: the tables behind it take time to load.
        builder = cache(lambda: NativeBuilder(facts, names=names, around=around))
        return Renderer(
            lambda event: builder().build(event),
            lambda event: builder().place(event),
            AuditText(facts, around).render,
            None,
        )
    made = NativeBuilder(facts, raw=raw, names=names, around=around)
    build = made.build
    if table is None:
        return Renderer(build, made.place, native_json.NativeJson(made).line, native_json.render)
    render = table.render
    return Renderer(build, made.place, lambda event: render(build(event)), render)


class Output:
    """One destination. ``full`` becomes true when `limit` events were written.

    With `discard` everything is done but the writing.
    """

    def __init__(
        self, wanted: Wanted, facts: HostFacts, names: Names | None = None, *, discard: bool = False
    ) -> None:
        terminal = wanted.path is None and sys.stdout.isatty()
        view = wanted.view or ("table" if terminal else "json")
        self._filter = made_of(wanted.keys, wanted.types, wanted.expression)
        self._skip_self = wanted.skip_self
        self._left = wanted.limit
        width = terminal_width(sys.stdout.fileno()) if terminal else None
        table = Table(width, colour=wants_colour(os.environ, terminal=terminal))
        self.around = around = Surroundings(facts)
        self.cgroups = around.cgroups
        self.learn = around.learn
        self._own = OwnEvents(facts, around, changes=wanted.changes, lives=wanted.lives)
        self._view = renderer(
            view,
            facts,
            names or NoNames(),
            around,
            raw=wanted.raw,
            table=table if view == "table" else None,
        )
        self.advice = ""  # a sentence for the operator, if the destination gives rise to one
        self._sink: Sink
        if discard:
            self._sink = NullSink()
        elif wanted.path:
            self._sink = file = FileSink(wanted.path)
            self.advice = file.advice
        else:
            self._sink = StdoutSink()
        if view == "table":
            self._sink.write([table.header()])
        self.full = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sink.close()

    def emit(self, events: list[Event]) -> None:
        """Write the events that the filter lets through, in one write."""
        chosen = self._own.chosen(events)
        if self._skip_self:
            chosen = [event for event in chosen if not event.self_caused]
        view = self._view
        if (passes := self._filter) is None:
            lines = list(map(view.line, self._cut(chosen)))
        else:
            shared = [Shared(event, view.native, view.place) for event in chosen]
            passed = [one for one in shared if passes.matches(one.event, one.native, one.place)]
            lines = list(map(view.shared, self._cut(passed)))
        if lines:
            self._sink.write(lines)

    def _cut(self, chosen: list[T]) -> list[T]:
        if self._left is not None:
            chosen = chosen[: self._left]
            self._left -= len(chosen)
            self.full = self._left == 0
        return chosen

    def flush(self) -> None:
        """Hand over what the sink still holds."""
        self._sink.flush()
