# SPDX-License-Identifier: Apache-2.0
"""Where our decoding and LAUREL's differ, and why: one rule per reason.

Owns the table. Never excuses a whole field: a rule says what the two values have to be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]

MISSING: Final = "\0missing"
"""In place of a value that one of the two does not have."""
REFUSED: Final = "\0refused"
"""Among LAUREL's fields where it said that it cannot read the record."""


class Difference(NamedTuple):
    """One field of one record as both have it; ``name`` is empty where the values are how many records there are."""

    ident: str
    kind: str
    name: str
    theirs: Json
    ours: Json
    their_fields: dict[str, Json]
    our_fields: dict[str, Json]

    @property
    def base(self) -> str:
        """The field's name, without saying that a program sent it."""
        return self.name.removeprefix("msg.")

    @property
    def around_ours(self) -> dict[str, Json]:
        """The fields that stand beside it, ours."""
        return self._around(self.our_fields)

    @property
    def around_theirs(self) -> dict[str, Json]:
        """The same of LAUREL's."""
        return self._around(self.their_fields)

    def _around(self, fields: dict[str, Json]) -> dict[str, Json]:
        message = fields.get("msg")
        return message if self.name.startswith("msg.") and isinstance(message, dict) else fields

    @property
    def ours_only(self) -> bool:
        """Whether LAUREL has no such field."""
        return self.theirs == MISSING

    @property
    def theirs_only(self) -> bool:
        """Whether we have no such field."""
        return self.ours == MISSING


class Rule(NamedTuple):
    """Why two readings may differ, and when they are the two that are meant."""

    reason: str
    explains: Callable[[Difference], bool]


_TRANSLATED: Final = frozenset(
    "ARCH SYSCALL UID GID EUID SUID FSUID EGID SGID FSGID AUID OUID OGID OAUID OLD-AUID".split()
)
"""Meanings that both have in SYSCALL; of these a missing one is a fault."""
_REGISTERS: Final = ("a0", "a1", "a2", "a3")
_KEPT: Final = ("PID", "PPID", "OPID", "SPAWNED_BY", "SPID")
_LOOKED_UP: Final = ("UID_GROUPS", "ENV", "CONTAINER", "CONTAINER_INFO", "SYSTEMD", "SCRIPT", "LABELS")
_BEGINNINGS: Final = ("netlabel:", "tty")
_IPV6: Final = ("flowinfo", "scope_id")


def _bytes(value: Json) -> bytes:
    return unquote_to_bytes(str(value))


def _hex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def _address(fields: dict[str, Json], family: str) -> dict[str, str]:
    """A socket's address with its numbers as decimals and null left out."""
    found = {"fam": str(fields.get(family))}
    for name, value in fields.items():
        if name == family or value is None or name.endswith("_hex"):
            continue
        if name in _IPV6 and value == 0:
            continue
        text = str(value)
        found[name] = str(int(text, 16)) if text[:2] == "0x" else text
    return found


def _same_address(difference: Difference) -> bool:
    theirs, ours = difference.theirs, difference.ours
    if difference.name != "SADDR" or not isinstance(theirs, dict) or not isinstance(ours, dict):
        return False
    return _address(theirs, "saddr_fam") == _address(ours, "fam")


def _words(difference: Difference) -> list[str]:
    words = difference.around_ours.get("words")
    return [str(word) for word in words] if isinstance(words, list) else []


def _behind(difference: Difference) -> bool:
    """Words without a name: LAUREL puts them to the value before them, we into a list."""
    words = _words(difference)
    if difference.base == "words":
        return difference.ours_only and bool(words)
    if difference.ours_only or difference.theirs_only or not isinstance(difference.ours, str):
        return False
    exact = difference.around_ours.get(f"{difference.base}_hex")
    ours = str(difference.ours).encode() if exact is None else bytes.fromhex(str(exact))
    head, _, rest = _bytes(difference.theirs)[len(ours) :].partition(b" ")
    more = {word.decode(errors="replace") for word in rest.split(b" ")} - {""}
    return not head and bool(more) and _bytes(difference.theirs).startswith(ours) and more <= set(words)


def _beginning(difference: Difference) -> bool:
    words = _words(difference)
    if difference.ours_only:
        return difference.base == "words" and set(words) <= set(_BEGINNINGS)
    at = words.index(f"{difference.base}:") + 1 if f"{difference.base}:" in words else 0
    return difference.theirs_only and at > 0 and str(difference.theirs or "").split() == words[at:]


def _left_whole(difference: Difference) -> bool:
    """LAUREL left a program's message as it was."""
    whole = difference.their_fields.get("msg")
    if not isinstance(whole, str):
        return False
    if difference.name == "msg":
        return difference.theirs_only
    text, ours = _bytes(whole), str(difference.ours).encode()
    found = isinstance(difference.ours, list | dict) or ours in text or ours.hex().upper().encode() in text
    return (
        difference.name.startswith("msg.") and difference.ours_only and (found or difference.base.isupper())
    )


def _meaning(difference: Difference) -> bool:
    """What a field means, beside the field, which both have."""
    base, call = difference.base, difference.kind == "SYSCALL"
    if not difference.ours_only or not base.isupper() or (call and base in _TRANSLATED):
        return False
    there = {*difference.around_theirs, *(_REGISTERS if call else ())}
    return base.lower() in difference.around_ours and base.lower() in there


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "we say what a number means (modes, capabilities, errors, arguments, sessions ...), LAUREL does not",
        _meaning,
    ),
    Rule(
        "LAUREL adds what it knows of a pid: the event in which it saw it, or when it began on this machine",
        lambda d: (
            d.theirs_only
            and d.name in _KEPT
            and isinstance(d.theirs, dict)
            and bool({"EVENT_ID", "START_TIME"} & d.theirs.keys())
        ),
    ),
    Rule(
        "LAUREL looks up on this machine: a user's groups, the environment, containers, units",
        lambda d: d.theirs_only and d.name in _LOOKED_UP,
    ),
    Rule(
        "LAUREL writes unknown(N) where nobody has the number, we nothing",
        lambda d: d.theirs_only and d.theirs == f"unknown({d.our_fields.get(d.name.lower())})",
    ),
    Rule(
        "we keep a title as one text beside its arguments",
        lambda d: (
            d.ours_only and d.name == "proctitle" and "ARGV" in d.our_fields and "ARGV" in d.their_fields
        ),
    ),
    Rule(
        "we keep a socket's address as bytes beside its meaning",
        lambda d: d.ours_only and d.name == "saddr" and "SADDR" in d.our_fields and "SADDR" in d.their_fields,
    ),
    Rule("a socket's address has other names, and the same values", _same_address),
    Rule(
        "LAUREL shows a socket's address as bytes, the same",
        lambda d: (
            d.name == "saddr" and _hex(str(d.ours)) == _bytes(d.theirs) and "SADDR" not in d.their_fields
        ),
    ),
    Rule(
        "we decode a socket's address that LAUREL does not",
        lambda d: d.ours_only and d.name == "SADDR" and "saddr" in d.their_fields,
    ),
    Rule(
        "LAUREL takes a number, or a word of hex digits, for a text in hex",
        lambda d: (
            not d.theirs_only
            and not d.ours_only
            and d.name != "saddr"
            and _hex(str(d.ours)) == _bytes(d.theirs)
        ),
    ),
    Rule("LAUREL puts words without a name to the value before them, we into a list", _behind),
    Rule("LAUREL leaves a program's message as one text that we take apart", _left_whole),
    Rule(
        "LAUREL drops a word at the beginning, or makes a field of it",
        _beginning,
    ),
    Rule(
        "LAUREL keeps the last of several values with one name, we all",
        lambda d: isinstance(d.ours, list) and bool(d.ours) and str(d.ours[-1]) == d.theirs,
    ),
    Rule(
        "we say that a text does not fit the grammar",
        lambda d: d.ours_only and d.name == "undecoded" and d.ours is True,
    ),
    Rule(
        "LAUREL takes single quotes from a kernel's word",
        lambda d: isinstance(d.theirs, str) and d.ours == f"'{d.theirs}'",
    ),
    Rule(
        "LAUREL says that it cannot read the record",
        lambda d: not d.name and REFUSED in d.their_fields and str(d.theirs) < str(d.ours),
    ),
)
