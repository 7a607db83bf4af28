# SPDX-License-Identifier: Apache-2.0
"""Members of a native event as fields of a line of audit text: the same facts, one name for each way down.

Owns the names (``namespaces_change_net_from_ino``) and that no value ends its quotes or the line. Never chooses which
members are told.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LONGEST: Final = 4000
"""Bytes of all fields together; ausearch reads no more than 8970 characters of a line."""

_PLAIN: Final = frozenset(range(0x21, 0x7F)) - frozenset(b'"')
_name = re.compile("[A-Za-z0-9_]{1,200}").fullmatch
_WORDS: Final = ("no", "yes")


def told(name: bytes, value: bytes) -> bytes:
    """Return one field; in hex, under ``NAME_hex``, where the value could end its quotes or the line."""
    if all(byte in _PLAIN for byte in value):
        return b'%b="%b"' % (name, value)
    return b'%b_hex="%b"' % (name, value.hex().upper().encode("ascii"))


def flat(members: Mapping[str, object]) -> list[bytes]:
    """Return the fields of these members. What would make the line too long is left out, and ``cut="yes"`` says so."""
    parts: list[bytes] = []
    left = LONGEST
    for name, value in _pairs("", members):
        if _name(name) is None:
            continue  # a container's label has the name that somebody gave it
        part = told(name.encode("ascii"), value.encode("utf-8", "replace"))
        if len(part) > left:
            parts.append(b'cut="yes"')
            break
        left -= len(part) + 1
        parts.append(part)
    return parts


def _pairs(above: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _pairs(f"{above}_{name}" if above else str(name), member)
    elif isinstance(value, list):
        if value and all(isinstance(entry, dict) and set(entry) == {"ns", "pid"} for entry in value):
            yield above, ",".join(f"{entry['ns']}:{entry['pid']}" for entry in value)
            return
        for number, member in enumerate(value, start=1):
            yield from _pairs(f"{above}_{number}", member)
    elif isinstance(value, bool):
        yield above, _WORDS[value]
    else:
        yield above, str(value)
