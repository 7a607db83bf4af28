# SPDX-License-Identifier: Apache-2.0
"""A filter's text, compiled once into what is asked of each event.

Owns the meaning of the operators and which questions are asked first. Never makes a native event by itself.

A comparison is true when one of the member's values is what is asked for, so false where the event does not have the
member. ``!=``, ``not in`` and ``!~`` are the contrary of ``==``, ``in`` and ``~``, always: what is not known is
never left out for being unlike something. Each part of a filter has two forms: ``early`` is asked of the joined event
and, if that is not enough, of its place, and may not know (None); ``full`` is asked of the native event and knows.

What this program says of a loss or of itself (LOST, NOTICE) concerns whoever reads. It passes, whatever the rest of
the filter says, unless the filter names that type.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar, cast

from enricher.errors import UsageError
from enricher.route.language import And, Compare, Has, Not, Or, invalid, parse
from enricher.route.members import CONTID, LOST, NOTICE, PERSON, TYPE, Scalar, row_of, type_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from enricher.enrich.shape import NativeEvent
    from enricher.model import Event
    from enricher.route.language import Node, Value
    from enricher.route.members import Read, Row

    Test = Callable[[Read], bool]

T = TypeVar("T")

Native = Callable[[], "NativeEvent"]
"""Makes an event's native form, or has it already."""

GLOB_MAX: Final = 256
"""Characters of a pattern: with texts of a few thousand at most, no pattern is slow."""

_ORDERS: Final[dict[str, Callable[[int, int], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONTRARY: Final = {"!=": "==", "not in": "in", "!~": "~"}


Early = Callable[["Event", "NativeEvent | None"], bool | None]
Full = Callable[["Event", "NativeEvent"], bool]


class _Part(NamedTuple):
    """One node of the tree, compiled. ``always``: early always knows, even without the place."""

    early: Early
    full: Full
    rest: Full
    """As full, for an event of which early did not know: what it always knows is not asked again."""
    always: bool
    place: bool
    """Whether early knows more with the place."""


class Expression:
    """A compiled filter. Raises FilterInvalid."""

    def __init__(self, text: str) -> None:
        tree = parse(text)
        self.text = text
        self._part = _Compiler(text).part(tree)
        self._named = frozenset(_own_types(tree))

    def early(self, event: Event) -> bool | None:
        """Whether it passes, as far as that can be told without the native event; None where it cannot."""
        if event.own_id and event.told is None:
            own = NOTICE if event.loss is None else LOST
            if own not in self._named:
                return True
        return self._part.early(event, None)

    def matches(self, event: Event, native: Native, place: Native | None = None) -> bool:
        """Whether it passes; `native` is called, once, if that depends on it.

        Before that `place` is, if it is there and of use: it makes what `NativeBuilder.place` does, which costs less.
        """
        known = self.early(event)
        if known is None and place is not None and self._part.place:
            known = self._part.early(event, place())
        return self._part.rest(event, native()) if known is None else known


def compile_filter(text: str) -> Expression:
    """Compile a filter of the language in docs/filters.md. Raises FilterInvalid, which is a UsageError."""
    return Expression(text)


def glob(pattern: str) -> Callable[[str], bool]:
    """Return whether a whole text is like the pattern: ``*`` any text, ``?`` one character.

    Each piece between two stars is looked for once, from the left, and never again: no pattern makes it try
    combinations, as other regular expressions could.
    """
    first, *others = (
        "".join("." if char == "?" else re.escape(char) for char in p) for p in pattern.split("*")
    )
    if others:
        middle = "".join(f"(?>.*?{piece})" for piece in others[:-1] if piece)
        first += f"{middle}.*{others[-1]}"
    matches = re.compile(first, re.DOTALL).fullmatch
    return lambda text: matches(text) is not None


class _Compiler:
    def __init__(self, text: str) -> None:
        self._text = text

    def part(self, node: Node) -> _Part:
        if isinstance(node, Compare):
            return self._compare(node)
        if isinstance(node, Has):
            row = self._row(node.member.name, node.member.at)
            return _leaf(row, _has_number if row.kind in (PERSON, CONTID) else bool)
        if isinstance(node, Not):
            return _negated(self.part(node.term))
        return _combined([self.part(term) for term in node.terms], decisive=isinstance(node, Or))

    def _row(self, name: str, at: int) -> Row:
        try:
            return row_of(name)
        except UsageError as error:
            raise invalid(self._text, at, error.message, error.hint) from None

    def _compare(self, node: Compare) -> _Part:
        row = self._row(node.member.name, node.member.at)
        if node.op not in row.kind.operators:
            raise invalid(
                self._text,
                node.at,
                f"{node.member.name} cannot be compared with {node.op}",
                f"it has {' '.join(row.kind.operators)}",
            )
        op = _CONTRARY.get(node.op, node.op)
        if op in ("==", "in"):
            wanted = [self._checked(value, row.kind.wanted) for value in node.values]
            part = _leaf(row, _is_in(frozenset[Scalar]().union(*wanted)))
        elif op == "~":
            part = _leaf(row, self._checked(node.values[0], lambda pattern: _is_like(row, pattern)))
        else:
            bound = self._checked(node.values[0], lambda value: _bound(row, value))
            part = _leaf(row, _is_beyond(_ORDERS[op], bound))
        return _negated(part) if node.op in _CONTRARY else part

    def _checked(self, value: Value, check: Callable[[str], T]) -> T:
        try:
            return check(value.text)
        except UsageError as error:
            raise invalid(self._text, value.at, error.message, error.hint) from None


# -- one member --------------------------------------------------------------------------------------


def _leaf(row: Row, test: Test) -> _Part:
    if (early := row.early) is not None:

        def asked(event: Event, _: NativeEvent) -> bool:
            return test(early(event))

        return _Part(lambda event, _: test(early(event)), asked, asked, always=True, place=False)
    read = cast("Callable[[NativeEvent], Read]", row.read)

    def read_and_asked(_: Event, native: NativeEvent) -> bool:
        return test(read(native))

    if not row.place:
        return _Part(lambda _, __: None, read_and_asked, read_and_asked, always=False, place=False)

    def placed(_: Event, place: NativeEvent | None) -> bool | None:
        return None if place is None else test(read(place))

    return _Part(placed, read_and_asked, read_and_asked, always=False, place=True)


def _has_number(values: Read) -> bool:
    """Whether there is an id: one that is not set has a name, unset, and no number."""
    return any(isinstance(value, int) for value in values)


def _is_in(wanted: frozenset[Scalar]) -> Test:
    return lambda values: not wanted.isdisjoint(values)


def _is_like(row: Row, pattern: str) -> Test:
    if len(pattern) > GLOB_MAX:
        raise UsageError(f"a pattern of more than {GLOB_MAX} characters", "in holds several values")
    if row.kind.known is None:
        like = glob(pattern)
        return lambda values: any(isinstance(value, str) and like(value) for value in values)
    # What can be meant is known: so is which of it is, and a pattern that finds nothing is a mistake.
    like = glob(pattern.upper() if row.kind is TYPE else pattern)
    found = frozenset(value for name, value in row.kind.known().items() if like(name))
    if not found:
        raise UsageError(f"no {row.kind.what} is like {pattern}", "* is any text, ? one character")
    return _is_in(found)


def _bound(row: Row, value: str) -> int:
    numbers = [number for number in row.kind.wanted(value) if isinstance(number, int)]
    if len(numbers) != 1 or (row.kind is PERSON and not value.lstrip("-").isdecimal()):
        raise UsageError(f"{value} is no number", "a name is neither less nor more than another")
    return numbers[0]


def _is_beyond(order: Callable[[int, int], bool], bound: int) -> Test:
    return lambda values: any(isinstance(value, int) and order(value, bound) for value in values)


# -- several -----------------------------------------------------------------------------------------


def _negated(part: _Part) -> _Part:
    """What is not known stays so."""
    early, full, rest, always, place = part

    def not_early(event: Event, where: NativeEvent | None) -> bool | None:
        known = early(event, where)
        return None if known is None else not known

    return _Part(
        not_early,
        lambda event, native: not full(event, native),
        lambda event, native: not rest(event, native),
        always,
        place,
    )


def _combined(parts: Sequence[_Part], *, decisive: bool) -> _Part:
    """One part that is `decisive` decides: a false one of "and", a true one of "or"."""
    earlies = [part.early for part in parts]

    def early(event: Event, place: NativeEvent | None) -> bool | None:
        unknown = False
        for each in earlies:
            known = each(event, place)
            if known is decisive:
                return decisive
            unknown = unknown or known is None
        return None if unknown else not decisive

    def any_of(fulls: Sequence[Full]) -> Full:
        return lambda event, native: any(each(event, native) is decisive for each in fulls) is decisive

    # Where early did not know, no part that always knows was decisive.
    left = [part.full for part in parts if not part.always]
    full = any_of([part.full for part in parts])
    return _Part(early, full, any_of(left), always=not left, place=any(part.place for part in parts))


def _own_types(node: Node) -> Iterator[int]:
    """Return which types of our own are named, by name or number."""
    if isinstance(node, Compare):
        if node.member.name == "type" and _CONTRARY.get(node.op, node.op) in ("==", "in"):
            yield from {LOST, NOTICE} & frozenset(type_number(value.text) for value in node.values)
    elif isinstance(node, Not):
        yield from _own_types(node.term)
    elif isinstance(node, And | Or):
        for term in node.terms:
            yield from _own_types(term)
