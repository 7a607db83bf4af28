# SPDX-License-Identifier: Apache-2.0
"""Whether two programs decoded the same: our native JSON against LAUREL's, field by field.

Owns how the two are laid side by side, once what is only another spelling is put aside: a number with a prefix, null
for ``(null)`` and ``?``, bytes behind a percent sign. Never decides that a difference is right: `equal_rules` names
those that are known, each by what the two values have to be; any other fails the comparison.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from tests.bench.equal_rules import MISSING, REFUSED, RULES, Difference, Json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Event = dict[str, list[dict[str, Json]]]
"""One event's records by type, in order, each with its fields."""

_REGISTERS: Final = ("a0", "a1", "a2", "a3")
_NOTHING: Final = ("(null)", "?")
_REFUSED: Final = re.compile(r"processing msg: type=\S+ msg=audit\(([0-9.:]+)\)")


class Score(NamedTuple):
    """What a comparison came to. ``kinds`` counts differences by their rule's words."""

    events: int
    records: int
    fields: int
    equal: int
    kinds: Counter[str]
    unexplained: list[Difference]

    @property
    def passed(self) -> bool:
        """Whether every difference is one that a rule knows."""
        return not self.unexplained and self.equal > 0


def score(ours: Iterable[str], theirs: Iterable[str], said: str = "") -> Score:
    """Compare two outputs, a line of JSON for each event; an event or record of one of them alone is a difference.

    `said` is what LAUREL wrote to standard error: the records that it cannot read.
    """
    refused = set(_REFUSED.findall(said))
    mine, other = ours_of(ours), laurel_of(theirs)
    records = fields = equal = 0
    kinds: Counter[str] = Counter()
    unexplained: list[Difference] = []
    for ident in mine.keys() | other.keys():
        found = mine.get(ident, {})
        records += sum(map(len, found.values()))
        for difference in _event(ident, found, other.get(ident, {}), refused=ident in refused):
            fields += 1
            if same(difference):
                equal += 1
                continue
            rule = next((rule for rule in RULES if rule.explains(difference)), None)
            if rule is None:
                unexplained.append(difference)
            else:
                kinds[rule.reason] += 1
    return Score(len(mine.keys() | other.keys()), records, fields, equal, kinds, unexplained)


def ours_of(lines: Iterable[str]) -> dict[str, Event]:
    """Read our native JSON: the events by id."""
    events: dict[str, Event] = {}
    for line in lines:
        event = json.loads(line)
        found = events.setdefault(event["id"], defaultdict(list))
        for record in event["records"]:
            if record["type"] != "EOE":
                fields = record["fields"]
                if record.get("undecoded"):
                    fields["undecoded"] = True
                found[record["type"]].append(fields)
    return events


def laurel_of(lines: Iterable[str]) -> dict[str, Event]:
    """Read LAUREL's JSON: the events by id."""
    events: dict[str, Event] = {}
    for line in lines:
        event = json.loads(line)
        found = events.setdefault(event.pop("ID"), defaultdict(list))
        for kind, value in event.items():
            found[kind] += value if isinstance(value, list) else [value]
    return events


def _event(ident: str, ours: Event, theirs: Event, *, refused: bool) -> Iterator[Difference]:
    for kind in dict.fromkeys((*ours, *theirs)):
        mine, other = ours.get(kind, []), theirs.get(kind, [])
        if kind == "EXECVE":  # however many there are, both give one command line
            mine, other = _merged(mine), _merged(other)
        if len(mine) != len(other):
            yield Difference(ident, kind, "", len(other), len(mine), {REFUSED: True} if refused else {}, {})
            continue
        for fields, laurels in zip(mine, other, strict=True):
            yield from _record(ident, kind, fields, laurels)


def _merged(records: list[dict[str, Json]]) -> list[dict[str, Json]]:
    whole: dict[str, Json] = {}
    for fields in records:
        for name, value in fields.items():
            whole.setdefault(name, value)
    return [whole] if records else []


def _record(ident: str, kind: str, ours: dict[str, Json], theirs: dict[str, Json]) -> Iterator[Difference]:
    mine, other = _flat(ours), _flat(theirs)
    if kind == "SYSCALL" and isinstance(other.get("ARGV"), list):
        registers = other.pop("ARGV")
        assert isinstance(registers, list)
        other.update(zip(_REGISTERS, registers, strict=False))
    for name in dict.fromkeys((*mine, *other)):
        if not (name.endswith("_hex") and name[:-4] in mine):  # how we spell a value that is no text
            yield Difference(
                ident, kind, name, other.get(name, MISSING), mine.get(name, MISSING), theirs, ours
            )


def _flat(fields: dict[str, Json]) -> dict[str, Json]:
    """Return the fields with those that a program sent beside them as ``msg.NAME``."""
    message = fields.get("msg")
    if not isinstance(message, dict):
        return dict(fields)
    flat = {name: value for name, value in fields.items() if name != "msg"}
    return flat | {f"msg.{name}": value for name, value in message.items()}


# -- the same value in two spellings -----------------------------------------------------------------


def same(difference: Difference) -> bool:
    """Whether both say the same."""
    theirs, ours, name = difference.theirs, difference.ours, difference.name
    if MISSING in (theirs, ours):
        return False
    if isinstance(theirs, list) and isinstance(ours, list):
        exact = difference.our_fields.get(f"{name}_hex")
        return theirs_bytes(theirs) == ours_bytes(ours, exact)
    if theirs is None:
        return ours in _NOTHING
    if isinstance(theirs, dict) or isinstance(ours, dict):
        return theirs == ours
    if isinstance(theirs, str):
        return _text(theirs, ours, difference)
    return str(theirs) == str(ours)


def _text(theirs: str, ours: Json, difference: Difference) -> bool:
    exact = difference.around_ours.get(f"{difference.base}_hex")
    if unquote_to_bytes(theirs) == (bytes.fromhex(str(exact)) if exact is not None else str(ours).encode()):
        return True
    spelled = str(ours)
    return _number(theirs, spelled)


def _number(theirs: str, spelled: str) -> bool:
    """Whether a number with LAUREL's prefix is what the kernel wrote without one, or with zeros before it."""
    base = {"0x": 16, "0o": 8}.get(theirs[:2])
    try:
        return base is not None and int(theirs[2:], base) == int(spelled, base)
    except ValueError:
        return False


def theirs_bytes(values: list[Json]) -> list[bytes]:
    """Return LAUREL's list of texts as the bytes they stand for."""
    return [unquote_to_bytes(str(value)) for value in values]


def ours_bytes(values: list[Json], exact: Json) -> list[bytes]:
    """Return our list of texts as bytes; `exact` is the list of hex beside it, or None."""
    hexed = [*exact] if isinstance(exact, list) else []
    hexed += [None] * (len(values) - len(hexed))
    return [
        str(value).encode() if spelled is None else bytes.fromhex(str(spelled))
        for value, spelled in zip(values, hexed, strict=False)
    ]
