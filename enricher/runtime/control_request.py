# SPDX-License-Identifier: Apache-2.0
"""What is asked through the control socket: one line of JSON, see docs/control.md.

Owns the operations, their members and which events a follower gets. Never reads or writes a socket.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, TypeGuard

from enricher.errors import UsageError
from enricher.route.filters import made_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enricher.model import Event
    from enricher.route.expression import Native

HINT: Final = 'a request is one line, such as {"op":"status"} or {"op":"follow","keys":["exec"]}'
_MEMBERS: Final = {
    "status": {"op"},
    "follow": {"op", "keys", "types", "filter", "skip_self"},
    "births": {"op"},
}


def read(line: bytes) -> dict[str, object]:
    """Return the request: its `op` is one that there is, its members are those of it. Raises UsageError."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise UsageError("the request is no JSON object", HINT)
    operation = request.get("op")
    members = _MEMBERS.get(operation) if isinstance(operation, str) else None
    if members is None:
        raise UsageError("there is no such op", "this service knows " + " and ".join(_MEMBERS))
    if unknown := sorted(request.keys() - members):
        raise UsageError(f"{operation} has no member {unknown[0]}", "it has " + ", ".join(sorted(members)))
    return request


class Wish:
    """Which events a `follow` request wants. `pid` is the process that asks. Raises UsageError.

    With `skip_self` the events of that process are left out as well: under a rule on every system call, reading
    an event would make the next one, for ever.
    """

    def __init__(self, request: Mapping[str, object], pid: int) -> None:
        keys, types = request.get("keys", []), request.get("types", [])
        expression, skip_self = request.get("filter", ""), request.get("skip_self", False)
        if not _are_words(keys) or not _are_words(types):
            raise UsageError("keys and types are arrays of strings", HINT)
        if not isinstance(expression, str) or not isinstance(skip_self, bool):
            raise UsageError("filter is a string, skip_self is true or false", HINT)
        try:
            self._chosen = made_of(keys, types, expression)
        except UnicodeEncodeError:
            raise UsageError(
                "a key is no text", "a byte that is not UTF-8 is written as one of U+DC80 to U+DCFF"
            ) from None
        self._skip_self = skip_self
        self._pid = pid

    def wants(self, event: Event, native: Native) -> bool:
        """Whether the follower gets the event; `native` makes its native form."""
        if self._skip_self and (event.self_caused or self._is_follower(event)):
            return False
        return self._chosen is None or self._chosen.matches(event, native)

    def _is_follower(self, event: Event) -> bool:
        context = event.context
        return context is not None and context.is_subject and context.pid == self._pid


def _are_words(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)
