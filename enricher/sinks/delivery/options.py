# SPDX-License-Identifier: Apache-2.0
"""How a sender declares what can be set of it: a frozen dataclass, whose every field has its sentence.

Owns the declaration and how it is read back. Never parses a file and never knows a sender: what declares settings
makes its rows from `rows`.
"""

from __future__ import annotations

from dataclasses import MISSING, field, fields
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")


class Row(NamedTuple):
    """One option: its key in `[sinks.NAME]`, its type as it is written in the source, its default, its sentence.

    ``default`` is None for one that has to be given.
    """

    key: str
    type: str
    default: object
    doc: str


def needed(doc: str) -> str:
    """Declare a text that has to be given."""
    found: str = field(metadata={"doc": doc})
    return found


def option(default: T, doc: str) -> T:
    """Declare an option; `doc` is a sentence without its full stop."""
    found: T = field(default=default, metadata={"doc": doc})
    return found


def rows(options: type[DataclassInstance]) -> list[Row]:
    """Return what can be set, in the order of its declaration."""
    return [
        Row(
            each.name,
            str(each.type),
            None if each.default is MISSING else each.default,
            str(each.metadata["doc"]),
        )
        for each in fields(options)
    ]
