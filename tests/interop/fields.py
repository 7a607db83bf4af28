# SPDX-License-Identifier: Apache-2.0
"""Our reading of every field of a log against libauparse's, which is what ``ausearch -i`` prints.

Owns how the two are laid side by side. Never decides that a difference is right: `field_rules` holds those that
are, each with its reason, and any other fails the test.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.enrich.decode import Decoder
from enricher.model import Record
from enricher.sources.audit.types import name_of, number_of
from enricher.sources.names import HostNames
from tests.interop.field_rules import RULES, Difference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enricher.enrich.shape import Fields, FieldValue, RecordEntry
    from tests.interop.tools import Root

_LINE: Final = re.compile(rb"(?:node=\S+ )?type=(\S+) msg=(audit\(([0-9.:]+)\):.*)")
_ARGUMENT: Final = re.compile(r"a([0-9]+)(?:\[([0-9]+)\]|(_len))?")
_UNKNOWN: Final = -1
_NOT_FIELDS: Final = ("type", "node", "seresult", "seperms", "-")
"""What auparse makes of the head of a line and of the words of an AVC."""


class Differences(NamedTuple):
    """What was compared, how often each rule was needed, and what no rule explains.

    ``records``: how many of each type were laid side by side. ``fewest``: of each type the record with the fewest
    fields that both had to tell.
    """

    records: Counter[str]
    fewest: dict[str, int]
    compared: int
    explained: Counter[str]
    unexplained: list[Difference]


class Theirs(NamedTuple):
    """One field as auparse has it; the values are bytes, since arguments and paths may be any."""

    name: str
    raw: bytes
    interpreted: bytes


def compare(log: Path, root: Root, reader: Path) -> Differences:
    """Compare all records that both have; a record that one of them does not have is a difference too."""
    theirs = _theirs(root.run(reader, "file", log).decode("ascii"))
    mine = _ours(log)
    records: Counter[str] = Counter()
    fewest: dict[str, int] = {}
    compared = 0
    explained: Counter[str] = Counter()
    unexplained = [
        Difference(stamp, "", "", b"", b" ".join(b"%d" % number for number, _ in other), b"", {})
        for stamp, other in theirs.items()
        if stamp not in mine
    ]
    for stamp, entries in mine.items():
        other = theirs.get(stamp, [])
        if sorted(entry["type"] for entry in entries) == sorted(name_of(number) for number, _ in other):
            # What is one event to us, two to auparse, it may tell in another order.
            entries.sort(key=lambda entry: entry["type"])
            other.sort(key=lambda pair: name_of(pair[0]))
        # -1 is a type that this auparse does not know
        same = len(entries) == len(other) and all(
            number == _UNKNOWN or entry["type"] == name_of(number)
            for entry, (number, _) in zip(entries, other, strict=True)
        )
        if not same:
            types = b" ".join(b"%d" % number for number, _ in other)
            ours = " ".join(entry["type"] for entry in entries)
            unexplained.append(Difference(stamp, "", "", b"", types, ours.encode(), {}))
            continue
        argv = next((entry["fields"] for entry in entries if entry["type"] == "EXECVE"), {})
        offsets: Counter[int] = Counter()
        for entry, (_, fields) in zip(entries, other, strict=True):
            records[entry["type"]] += 1
            found = list(_differences(stamp, entry, fields, argv, offsets))
            fewest[entry["type"]] = min(fewest.get(entry["type"], len(found)), len(found))
            compared += len(found)
            for difference in found:
                if difference.theirs == difference.ours:
                    continue
                rule = next((rule for rule in RULES if rule.explains(difference)), None)
                if rule is None:
                    unexplained.append(difference)
                else:
                    explained[rule.reason] += 1
    return Differences(records, fewest, compared, explained, unexplained)


def _theirs(dump: str) -> dict[str, list[tuple[int, list[Theirs]]]]:
    """Return the records of each stamp, in order; auparse may have seen several events where we see one."""
    events: dict[str, list[tuple[int, list[Theirs]]]] = {}
    records: list[tuple[int, list[Theirs]]] = []
    for line in dump.splitlines():
        kind, *words = line.split(" ")
        if kind == "E":
            records = events.setdefault(words[0], [])
        elif kind == "R":
            records.append((int(words[0]), []))
        elif words[0] not in _NOT_FIELDS:
            name, raw, interpreted = words
            records[-1][1].append(Theirs(name, _bytes(raw), _bytes(interpreted)))
    return events


def _bytes(word: str) -> bytes:
    return b"" if word == "-" else bytes.fromhex(word)


def _ours(log: Path) -> dict[str, list[RecordEntry]]:
    records: dict[str, list[Record]] = {}
    for line in filter(None, log.read_bytes().split(b"\n")):
        match = _LINE.fullmatch(line)
        assert match, f"no record: {line!r}"
        number = number_of(match[1].decode())
        assert number is not None, line
        records.setdefault(match[3].decode(), []).append(Record(number, match[2]))
    decoder = Decoder(HostNames())
    return {stamp: decoder.entries(together) for stamp, together in records.items()}


# -- one record --------------------------------------------------------------------------------------


def _differences(
    stamp: str, entry: RecordEntry, fields: list[Theirs], argv: Fields, offsets: Counter[int]
) -> Iterator[Difference]:
    """Yield each field as both have it. `argv` holds the event's ARGV, `offsets` how far pieces have come in it."""
    seen: Counter[str] = Counter()
    context = {theirs.name: theirs.raw.decode("ascii", "replace") for theirs in fields}
    for theirs in fields:
        nth = seen[theirs.name]
        seen[theirs.name] += 1
        argument = _ARGUMENT.fullmatch(theirs.name)
        if entry["type"] == "EXECVE" and argument and "ARGV" in argv:
            index = int(argument[1])
            found = theirs.interpreted if argument[3] else _argument(argv, index)  # the length is in the list
            if argument[2] is not None:
                found = found[offsets[index] :][: _length(theirs)]
                offsets[index] += len(found)
        else:
            found = _text(theirs.name, entry["fields"], nth)
        yield Difference(stamp, entry["type"], theirs.name, theirs.raw, theirs.interpreted, found, context)


def _length(piece: Theirs) -> int:
    return len(piece.raw) - 2 if piece.raw[:1] == b'"' else len(piece.raw) // 2


def _argument(fields: Fields, index: int) -> bytes:
    arguments, exact = fields["ARGV"], fields.get("ARGV_hex")
    assert isinstance(arguments, list)
    hexed = exact[index] if isinstance(exact, list) else None
    return bytes.fromhex(str(hexed)) if hexed is not None else str(arguments[index]).encode()


def _text(name: str, fields: Fields, nth: int) -> bytes:
    """Return what a reader of ours takes the field to mean: its meaning, else its value; b"" if it is not there."""
    message = fields.get("msg")
    for place in (fields, message if isinstance(message, dict) else {}):
        value = place.get(name)
        if value is None:
            continue
        count = len(value) if isinstance(value, list) else 1
        if nth >= count:
            nth -= count
            continue
        if name == "proctitle" and "ARGV" in place:
            arguments = place["ARGV"]
            assert isinstance(arguments, list)
            return b" ".join(_argument(place, index) for index in range(len(arguments)))
        sibling = "SADDR" if name == "saddr" else name.upper()
        for source in (sibling, name + "_hex", name):
            found = place.get(source)
            if isinstance(value, list):
                found = found[nth] if isinstance(found, list) else None
            if found is not None:
                return bytes.fromhex(str(found)) if source.endswith("_hex") else _shown(found)
    return b""


def _shown(value: FieldValue) -> bytes:
    """Return a value as text; a socket address in auparse's words, as far as it has any."""
    if not isinstance(value, dict):
        return str(value).encode()
    words = [f"saddr_fam={value['fam']}"]
    if value["fam"] == "netlink":
        words += ["nlnk-fam=16", f"nlnk-pid={value.get('pid')}"]
    for ours, theirs in (("addr", "laddr"), ("path", "path"), ("abstract", "path"), ("port", "lport")):
        if ours in value and value["fam"] in ("inet", "inet6", "local"):
            exact = value.get(ours + "_hex")
            text = str(value[ours]) if exact is None else os.fsdecode(bytes.fromhex(str(exact)))
            words.append(f"{theirs}={text}")
    return os.fsencode(" ".join(["{", *words, "}"]))
