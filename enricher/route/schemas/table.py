# SPDX-License-Identifier: Apache-2.0
"""Mapping tables as data, and the one engine that applies them.

Owns what a row says and how rows are put to an event. Never knows a schema: each has its own table.

Where a row takes its value from:

* ``subject.pid``: a member of the native event, by its path;
* ``CWD.cwd``: a field of the first record of that type;
* ``primary.UID``: a field of the record that speaks for the event; ``msg.acct``: of the program's message in it;
* ``=file.path``: what `route.schemas.seen` reads from several of them.

A value that is not there, or that the converter does not take (None), leaves no trace in the target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Seen = Mapping[str, object]
    Made = dict[str, object]
    Converter = Callable[[object], object]


class Row(NamedTuple):
    """One mapping. ``meaning`` is where the target's meaning is defined: the document, and the section of it."""

    source: str
    target: str
    convert: Converter
    meaning: str


class _Leaf(NamedTuple):
    above: tuple[str, ...]
    name: str
    convert: Converter


class _Branch(NamedTuple):
    key: str
    leaves: tuple[_Leaf, ...]
    below: tuple[_Branch, ...]


class Table:
    """Rows, made ready once. With `flat` a target is one name, dots and all; else a path into nested objects."""

    def __init__(self, rows: Iterable[Row], *, flat: bool = False) -> None:
        self.rows = tuple(rows)
        targets = [row.target for row in self.rows]
        if len(set(targets)) < len(targets):
            message = f"two rows for {sorted({name for name in targets if targets.count(name) > 1})}"
            raise ValueError(message)
        if not flat:
            _refuse_overlap(targets)
        self._tree = _tree([(path_of(row.source), _leaf(row, flat=flat)) for row in self.rows])

    def apply(self, seen: Seen, into: Made) -> Made:
        """Enter what the rows take from `seen` (see `route.schemas.seen.see`) into an object, and return it.

        Values may be shared with the event: read-only.
        """
        _apply(self._tree, seen, into)
        return into


def path_of(source: str) -> tuple[str, ...]:
    """Return the keys that lead to a row's value."""
    if source.startswith("="):
        return ("=", source[1:])
    return tuple(source.split("."))


def _leaf(row: Row, *, flat: bool) -> _Leaf:
    names = (row.target,) if flat else tuple(row.target.split("."))
    return _Leaf(names[:-1], names[-1], row.convert)


def _refuse_overlap(targets: list[str]) -> None:
    """A row below another one's object would write into the event, which is shared."""
    known = set(targets)
    for target in targets:
        above = target
        while "." in above:
            above = above.rpartition(".")[0]
            if above in known:
                message = f"{target} lies below {above}"
                raise ValueError(message)


def _tree(paths: list[tuple[tuple[str, ...], _Leaf]]) -> tuple[_Branch, ...]:
    by_key: dict[str, list[tuple[tuple[str, ...], _Leaf]]] = {}
    for path, leaf in paths:
        by_key.setdefault(path[0], []).append((path[1:], leaf))
    return tuple(
        _Branch(
            key,
            tuple(leaf for rest, leaf in found if not rest),
            _tree([(rest, leaf) for rest, leaf in found if rest]),
        )
        for key, found in by_key.items()
    )


def _apply(tree: tuple[_Branch, ...], seen: Seen, into: Made) -> None:
    for key, leaves, below in tree:
        value = seen.get(key)
        if value is None:
            continue
        for above, name, convert in leaves:
            made = convert(value)
            if made is None:
                continue
            at = into
            for step in above:
                inner = at.get(step)
                if inner is None:
                    inner = at[step] = {}
                at = cast("Made", inner)
            at[name] = made
        if below and isinstance(value, dict):
            _apply(below, value, into)


# -- converters: what does not fit becomes None, since a record's fields may hold anything ---------------


def same(value: object) -> object:
    """As it is: for members whose type the native schema vouches for."""
    return value


def text(value: object) -> str | None:
    """A text, or a number as one; nothing for what audit writes where there is nothing to say."""
    if isinstance(value, str):
        return value if value not in _NOTHING else None
    return str(value) if isinstance(value, int) else None


def plain(value: object) -> str | None:
    """A text that somebody chose, as a file's name: it may be a word that elsewhere says that there is nothing."""
    return value if isinstance(value, str) and value else None


def whole(value: object) -> int | None:
    """A number, or the digits of one of up to 63 bits."""
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _DIGITS:
        return int(value)
    return None


def one(value: object) -> list[str] | None:
    """A text as a list of one, for fields that hold several."""
    made = text(value)
    return None if made is None else [made]


def some(value: object) -> object:
    """A list or an object that is not empty."""
    return value or None


def count(value: object) -> int | None:
    """How many a list has."""
    return len(value) if isinstance(value, list) else None


def base(value: object) -> str | None:
    """The last component of a path."""
    made = plain(value)
    return None if made is None else made.rstrip("/").rpartition("/")[2] or made


_NOTHING = frozenset({"", "?", "(null)", "(none)", "(unknown)", "unset"})
_DIGITS = 18
