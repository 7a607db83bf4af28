# SPDX-License-Identifier: Apache-2.0
"""Which events pass: by audit key and by record type, and by an expression of the filter language.

Owns the two short questions, their exact meaning, and how they go together with an expression (`route.expression`):
all of what is asked must hold. Never builds the native event where it can be told without (most events of a filtered
stream are thrown away) and never counts what it rejects; the caller keeps the ledger.

An event matches when it has one of the keys *and* a record of one of the types; no keys asked for means
any key or none, no types any type. A key matches as a whole, after decoding: ``exec`` is not ``exec-root``.
What we say ourselves, of a loss or of the service, concerns whoever reads: it always matches. What we tell of
namespaces and of refused messages is an event like others: it has a type, and no key. So ``keys`` and ``types`` are
``key in (...)`` and ``type in (...)``, but that naming LOST or NOTICE among the types leaves out none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enricher.enrich.keys import keys_of
from enricher.route.expression import Expression
from enricher.route.members import type_number, types_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enricher.enrich.shape import NativeEvent
    from enricher.model import Event
    from enricher.route.expression import Native


class Shared:
    """An event and its native form, made when it is first asked for and then kept: for several routes, and a view.

    `build` and `place` are those of a `NativeBuilder`.
    """

    __slots__ = ("_build", "_made", "_place", "_placed", "event")

    def __init__(
        self,
        event: Event,
        build: Callable[[Event], NativeEvent],
        place: Callable[[Event], NativeEvent] | None = None,
    ) -> None:
        self.event = event
        self._build = build
        self._place = place
        self._made: NativeEvent | None = None
        self._placed: NativeEvent | None = None

    def native(self) -> NativeEvent:
        """Return the native event; read-only, since others get the same."""
        made = self._made
        if made is None:
            made = self._made = self._build(self.event)
        return made

    def place(self) -> NativeEvent:
        """Return what of it is known without its records; the whole, if that is there."""
        if self._made is not None or self._place is None:
            return self.native()
        placed = self._placed
        if placed is None:
            placed = self._placed = self._place(self.event)
        return placed


class Filter:
    """Passes events by key, record type and expression, "" for none. Raises `UsageError` for what there is not."""

    def __init__(
        self, keys: Sequence[str] = (), types: Sequence[str | int] = (), expression: str = ""
    ) -> None:
        # surrogateescape: a key that is not UTF-8 can be named on a command line, and is then matched.
        self._keys = frozenset(key.encode("utf-8", "surrogateescape") for key in keys)
        self._types = frozenset(type_number(wanted) for wanted in types)
        self._expression = Expression(expression) if expression.strip() else None

    def early(self, event: Event) -> bool | None:
        """Whether the event passes, as far as that can be told without its native form; None where it cannot."""
        if not self._short(event):
            return False
        return True if self._expression is None else self._expression.early(event)

    def matches(self, event: Event, native: Native, place: Native | None = None) -> bool:
        """Whether the event passes; `native` is called, once, if that depends on it. See `Expression.matches`."""
        if not self._short(event):
            return False
        return self._expression is None or self._expression.matches(event, native, place)

    def _short(self, event: Event) -> bool:
        if event.own_id and event.told is None:
            return True
        types = self._types
        if types and types.isdisjoint(types_of(event)):
            return False
        keys = self._keys
        return not keys or any(not keys.isdisjoint(keys_of(record)) for record in event.records)


def made_of(keys: Sequence[str], types: Sequence[str | int], expression: str) -> Filter | None:
    """Return the filter that these ask for; None where they ask for nothing."""
    return Filter(keys, types, expression) if keys or types or expression.strip() else None
