# SPDX-License-Identifier: Apache-2.0
"""What is asked through the container identifiers' socket: one line of JSON, see docs/contid.md.

Owns the operations, their members and their bounds. Never reads a socket, and never knows who asks.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.errors import UsageError
from enricher.facts import CONTID_UNSET, Engine

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUEST_MAX: Final = 16 << 10
"""Bytes of a request, without its newline."""
ENGINE_MAX: Final = 1024
"""Characters of each thing that an engine says of a container."""
AUTO: Final = -1
"""The number is the service's choice."""
HINT: Final = (
    'a request is one line, such as {"op":"get","nonce":"..."}, sent together with the pidfd of the target'
)

_MEMBERS: Final = {
    "set": {"op", "nonce", "contid", "as", "orchestrator", "bind_cgroup", "engine"},
    "get": {"op", "nonce"},
    "list": {"op", "nonce"},
    "grant": {"op", "nonce", "as"},
    "revoke": {"op", "nonce", "as"},
}
OF_TARGET: Final = frozenset({"set", "get", "grant", "revoke"})
_is_digits = re.compile("[0-9]{1,20}").fullmatch


class Request(NamedTuple):
    """A request that is well formed. ``contid`` may be `CONTID_UNSET`: refusing that is the store's affair."""

    op: str
    nonce: str
    contid: int = CONTID_UNSET
    as_parent: bool = False
    orchestrator: bool = False
    bind_cgroup: bool = False
    engine: Engine | None = None


def read(line: bytes) -> Request:
    """Return the request. Raises UsageError."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise UsageError("the request is no JSON object", HINT)
    op = said.get("op")
    members = _MEMBERS.get(op) if isinstance(op, str) else None
    if not isinstance(op, str) or members is None:
        raise UsageError("there is no such op", "there are " + ", ".join(_MEMBERS))
    if unknown := sorted(said.keys() - members):
        raise UsageError(f"{op} has no member {unknown[0][:40]}", "it has " + ", ".join(sorted(members)))
    nonce = said.get("nonce")
    if not isinstance(nonce, str):
        raise UsageError("the nonce is missing", "it is in the line that the service sends first")
    if said.get("as", "self") not in ("self", "parent"):
        raise UsageError('as is "self" or "parent"', HINT)
    return Request(
        op,
        nonce,
        _contid(said.get("contid")) if op == "set" else CONTID_UNSET,
        said.get("as") == "parent",
        _flag(said, "orchestrator"),
        _flag(said, "bind_cgroup"),
        _engine(said.get("engine")),
    )


def number_of(word: str) -> int:
    """Return an identifier written in decimal digits; `AUTO` for "auto". Raises UsageError."""
    if word == "auto":
        return AUTO
    if not _is_digits(word) or int(word) > CONTID_UNSET:
        raise UsageError(f"{word[:40]!r} is no identifier", "decimal digits below 2^64 - 1, or auto")
    return int(word)


def _contid(said: object) -> int:
    if isinstance(said, int) and not isinstance(said, bool) and 0 <= said <= CONTID_UNSET:
        return said
    if isinstance(said, str):
        return number_of(said)
    raise UsageError("contid is missing or no number", 'a string of decimal digits, or "auto"')


def _flag(said: Mapping[str, object], name: str) -> bool:
    value = said.get(name, False)
    if not isinstance(value, bool):
        raise UsageError(f"{name} is true or false", HINT)
    return value


def _engine(said: object) -> Engine | None:
    if said is None:
        return None
    if not isinstance(said, dict) or set(said) - set(Engine._fields):
        raise UsageError("engine has other members", "it has " + ", ".join(Engine._fields))
    for value in said.values():
        if not isinstance(value, str) or len(value) > ENGINE_MAX:
            raise UsageError(f"a member of engine is no string of at most {ENGINE_MAX} characters", HINT)
        if not value.isprintable():
            raise UsageError("a member of engine has characters that cannot be printed", HINT)
    if not said.get("id"):
        raise UsageError("engine has no id", "the engine's full id of the container")
    return Engine(**said)
