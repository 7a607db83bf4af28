# SPDX-License-Identifier: Apache-2.0
"""The members of a native event by their path, as the published schema has them.

Owns finding a dotted path in the schema, and what to say about one that is not there. Lists are passed through:
``targets.comm`` is that of each. ``*`` stands for every member of an object. Never looks at an event.
"""

from __future__ import annotations

import difflib
import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final, cast

from enricher.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

Node = dict[str, object]
_FILE: Final = "audit-enricher-1.schema.json"


@cache
def root() -> Node:
    """Return the published schema."""
    read: Node = json.loads(files("enricher").joinpath("schemas", _FILE).read_bytes())
    return read


def resolved(node: Node) -> Node:
    """Return what a node stands for, lists passed through: its definition, or that of a list's members."""
    while True:
        if "$ref" in node:
            name = str(node["$ref"]).removeprefix("#/$defs/")
            node = cast("Node", cast("Node", root()["$defs"])[name])
        elif node.get("type") == "array":
            node = cast("Node", node["items"])
        else:
            return node


def properties(node: Node) -> dict[str, Node]:
    """Return an object's members by name; {} for anything else, and for an object of any names."""
    return cast("dict[str, Node]", resolved(node).get("properties", {}))


def required(node: Node) -> list[str]:
    """Return which of them an object must have."""
    return cast("list[str]", resolved(node).get("required", []))


def open_members(node: Node) -> Node | None:
    """Return what the members of an object of any names are; None for an object that is closed."""
    more = resolved(node).get("additionalProperties")
    return more if isinstance(more, dict) else None


def is_free_text(node: Node) -> bool:
    """Whether any text is one: no number, no word of a list, no pattern."""
    found = resolved(node)
    return found.get("type") == "string" and not {"pattern", "enum", "const"} & found.keys()


def find(path: str) -> Iterator[tuple[tuple[str, ...], Node, bool]]:
    """Yield each member that a path names: its names, its node, whether the object around it must have it.

    Raises UsageError, with the nearest name, for a path that names none.
    """
    names = tuple(path.split("."))
    if not path or "" in names:
        raise UsageError(f"not a path of members: {path!r}", "names with dots between them, as subject.pid")
    yield from _find(path, names, (), root(), needed=True)


def _find(
    path: str, names: tuple[str, ...], above: tuple[str, ...], node: Node, *, needed: bool
) -> Iterator[tuple[tuple[str, ...], Node, bool]]:
    if not names:
        yield above, node, needed
        return
    name, rest = names[0], names[1:]
    known, more = properties(node), open_members(node)
    if name == "*" and known:
        inner = [key for key in known if not rest or rest[0] == "*" or rest[0] in properties(known[key])]
        if not inner:
            raise _unknown(path, rest[0], [key for each in known.values() for key in properties(each)])
        for key in inner:
            yield from _find(path, rest, (*above, key), known[key], needed=key in required(node))
    elif name in known:
        yield from _find(path, rest, (*above, name), known[name], needed=name in required(node))
    elif more is not None:
        yield from _find(path, rest, (*above, name), more, needed=False)
    else:
        raise _unknown(path, name, list(known))


def _unknown(path: str, name: str, known: list[str]) -> UsageError:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        hint = f"did you mean {near[0]}?"
    else:
        hint = f"there are {', '.join(dict.fromkeys(known))}" if known else "nothing is below it"
    return UsageError(f"no such member: {name}, in {path}", hint)
