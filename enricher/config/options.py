# SPDX-License-Identifier: Apache-2.0
"""Options of a destination: a frozen dataclass, whose every field is one row with its kind and its sentence.

Owns the declaration and how it is read back. From these rows derive parsing, defaults, errors and the reference
documentation. Never parses a file and never knows a destination.
"""

from __future__ import annotations

from dataclasses import MISSING, field, fields
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    Protocol,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

from enricher.config.kinds import Choice, Count, Flag, Kind, Seconds, Text, Words
from enricher.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import DataclassInstance

T = TypeVar("T")


class Row(NamedTuple):
    """One option: its key in `[sinks.NAME]`, its kind, its default, its sentence without the full stop.

    ``default`` is None for one that has to be given.
    """

    key: str
    kind: Kind[Any]
    default: object
    doc: str

    @property
    def shown(self) -> str:
        """The default as it stands in a TOML file; "" where there is none."""
        return "" if self.default is None else self.kind.show(self.default)


class Clash(NamedTuple):
    """Options that do not go together: where one of them stands, what is wrong with it there, and what to do."""

    key: str
    said: str
    hint: str


@runtime_checkable
class Clashing(Protocol):
    """Options of which not all go together."""

    def clashes(self) -> Iterator[Clash]:
        """Return what does not, without a look at any file."""
        ...


def refuse_clashes(options: Clashing) -> None:
    """Raise UsageError for the first."""
    for clash in options.clashes():
        raise UsageError(f"{clash.key}: {clash.said}", clash.hint)


def needed(doc: str, kind: Kind[str] | None = None) -> str:
    """Declare a text that has to be given."""
    found: str = field(metadata={"doc": doc, "kind": kind})
    return found


def option(default: T, doc: str, kind: Kind[T] | None = None) -> T:
    """Declare an option; `doc` is a sentence without its full stop, `kind` is that of its type where none is given."""
    found: T = field(default=default, metadata={"doc": doc, "kind": kind})
    return found


def rows(options: type[DataclassInstance]) -> list[Row]:
    """Return what can be set, in the order of its declaration."""
    hints = get_type_hints(options)
    return [
        Row(
            each.name,
            each.metadata["kind"] or _kind_of(hints[each.name]),
            None if each.default is MISSING else each.default,
            str(each.metadata["doc"]),
        )
        for each in fields(options)
    ]


def _kind_of(hint: object) -> Kind[Any]:
    """Return the kind of a type. Raises KeyError for one that has none."""
    if get_origin(hint) is Literal:
        return Choice(*get_args(hint))
    if get_origin(hint) is tuple:
        return Words()
    kinds: dict[object, Kind[Any]] = {str: Text("TEXT"), bool: Flag(), int: Count(0), float: Seconds()}
    return kinds[hint]
