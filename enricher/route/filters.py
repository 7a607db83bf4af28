# SPDX-License-Identifier: Apache-2.0
"""Which events pass: by audit key and by record type.

Owns the two questions and their exact meaning. Never builds the native event to answer them (most events
of a filtered stream are thrown away) and never counts what it rejects; the caller keeps the ledger.

An event matches when it has one of the keys *and* a record of one of the types; no keys asked for means
any key or none, no types any type. A key matches as a whole, after decoding: ``exec`` is not ``exec-root``.
What we say ourselves, of a loss or of the service, concerns whoever reads: it always matches. What we tell of
namespaces and of refused messages is an event like others: it has a type, and no key.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from enricher.enrich.keys import keys_of
from enricher.enrich.told import type_of
from enricher.errors import UsageError
from enricher.sources.audit.types import NAMES, number_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enricher.model import Event

_LARGEST_TYPE = 0xFFFF  # nlmsghdr.nlmsg_type is 16 bits
_number = re.compile("[0-9]{1,5}").fullmatch


def type_number(wanted: str | int) -> int:
    """Return the number of a record type given as name, number or ``UNKNOWN[n]``, in any case.

    Raises `UsageError`, with the names that come close, when it is none.
    """
    if isinstance(wanted, int):
        number: int | None = wanted
    else:
        name = wanted.strip().upper()
        number = int(name) if _number(name) else number_of(name)
    if number is None or not 0 <= number <= _LARGEST_TYPE:
        close = difflib.get_close_matches(str(wanted).strip().upper(), NAMES.values(), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "a number or UNKNOWN[n] works for any type"
        raise UsageError(f"no such record type: {wanted}", hint)
    return number


class Filter:
    """Passes events by key and record type. Raises `UsageError` for a type that does not exist."""

    def __init__(self, keys: Sequence[str] = (), types: Sequence[str | int] = ()) -> None:
        # surrogateescape: a key that is not UTF-8 can be named on a command line, and is then matched.
        self._keys = frozenset(key.encode("utf-8", "surrogateescape") for key in keys)
        self._types = frozenset(type_number(wanted) for wanted in types)

    def matches(self, event: Event) -> bool:
        """Whether the event passes.

        An event whose records were all lost has still the type the kernel side noted, and no key.
        """
        if event.told is not None:
            return not self._keys and (not self._types or number_of(type_of(event.told)) in self._types)
        if event.own_id:
            return True
        types = self._types
        if types and not any(record.type in types for record in event.records):
            context = event.context
            if event.records or context is None or context.record_type not in types:
                return False
        keys = self._keys
        return not keys or any(not keys.isdisjoint(keys_of(record)) for record in event.records)
