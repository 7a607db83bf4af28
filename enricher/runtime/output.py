# SPDX-License-Identifier: Apache-2.0
"""From finished events to written lines: filter, view, sink.

Owns the composition of the stages right of the join for one `run`. Never formats anything itself.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.enrich.native import NativeBuilder
from enricher.enrich.surroundings import Surroundings
from enricher.route.filters import Filter
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

    from enricher.model import Event, HostFacts
    from enricher.sinks.stream import Sink
    from enricher.sources.names import Names

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


def renderer(  # noqa: PLR0913 - what an event is made from
    view: str,
    facts: HostFacts,
    names: Names,
    around: Surroundings,
    *,
    raw: bool = False,
    table: Table | None = None,
) -> Callable[[Event], bytes]:
    """Return what makes an event's line, or lines, in one of FORMATS; "table" takes a `table`."""
    if view == "text":
        return AuditText(facts, around).render
    build = NativeBuilder(facts, raw=raw, names=names, around=around).build
    if table is None:
        return lambda event: native_json.render(build(event))
    return lambda event: table.render(build(event))


class Output:
    """One destination. ``full`` becomes true when `limit` events were written.

    With `discard` everything is done but the writing.
    """

    def __init__(
        self, wanted: Wanted, facts: HostFacts, names: Names | None = None, *, discard: bool = False
    ) -> None:
        terminal = wanted.path is None and sys.stdout.isatty()
        view = wanted.view or ("table" if terminal else "json")
        self._filter = Filter(wanted.keys, wanted.types)
        self._everything = not wanted.keys and not wanted.types
        self._skip_self = wanted.skip_self
        self._left = wanted.limit
        width = terminal_width(sys.stdout.fileno()) if terminal else None
        table = Table(width, colour=wants_colour(os.environ, terminal=terminal))
        around = Surroundings(facts)
        self.cgroups = around.cgroups
        self.learn = around.learn
        self._own = OwnEvents(facts, around, changes=wanted.changes, lives=wanted.lives)
        self._render = renderer(
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
        if not self._everything:
            chosen = [event for event in chosen if self._filter.matches(event)]
        if self._left is not None:
            chosen = chosen[: self._left]
            self._left -= len(chosen)
            self.full = self._left == 0
        if chosen:
            self._sink.write(list(map(self._render, chosen)))

    def flush(self) -> None:
        """Hand over what the sink still holds."""
        self._sink.flush()
