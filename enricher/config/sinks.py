# SPDX-License-Identifier: Apache-2.0
"""Tables `[sinks.NAME]`: what all destinations have, and how a table is read against its rows.

Owns names, the common options, and what is wrong with a key or a value. Never knows a type of destination, a filter or
a schema: who does hands in the rows (`runtime.sinkconfig`). Tables stand in files alone: no variable and no option
reaches into one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from enricher.config.kinds import Duration, Size, Text, Unfit, Words
from enricher.config.options import needed, option
from enricher.config.places import Given, Problem, meant, place_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from enricher.config.options import Row
    from enricher.config.places import Lines

SECTION: Final = "sinks"
MOST: Final = 32
"""Destinations: each has a thread and a queue."""
MEMORY: Final = 16 << 20
"""Bytes of a queue in memory where `max_size` is not given."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")  # it names a directory
_SECRET: Final = re.compile(r"(?i).*(token|password|passphrase|secret|credential|api_?key)")


@dataclass(frozen=True)
class Common:
    """What every destination has beside the options of its type."""

    type: str = needed("which kind of destination it is")
    enabled: bool = option(default=True, doc="false: as if the table were not there")
    filter: str = option(
        "", "only events for which this holds, as output.filter; empty: all", kind=Text("EXPR")
    )
    skip_self: bool = option(default=False, doc="leave out events that this program itself caused")
    schema: str = option("", "the form of a message; empty: the first of those that the type has")
    raw: bool = option(
        default=False,
        doc="each record's text as the kernel wrote it too, where the schema has a place for it",
    )
    fields: tuple[str, ...] = option(
        (), "only these members of the native event, and what says which event it is; empty: all", Words()
    )
    redact: tuple[str, ...] = option((), "members of the native event that are hidden", Words())
    queue: Literal["spool", "memory"] = option(
        "spool", "where events wait: on disk, from where a restart goes on, or in memory"
    )
    policy: Literal["drop_oldest", "drop_newest"] = option(
        "drop_oldest", "what is given up when the queue is full"
    )
    max_size: int = option(
        256 << 20, f"the most that the queue takes; of memory {MEMORY >> 20}M where it is not given", Size()
    )
    max_age: float = option(
        7 * 86_400.0, "how long an event waits in a spool; then it is given up", Duration()
    )


class Table(NamedTuple):
    """One table as it stands in the files, several of the same name put together. `given` are TOML's values."""

    name: str
    place: str
    given: Mapping[str, Given]

    def place_of(self, key: str) -> str:
        """Return where the key stands, or else the table."""
        return self.given[key].origin if key in self.given else self.place


def enter(tables: dict[str, Table], file: str, lines: Lines, value: object, problems: list[Problem]) -> None:
    """Take in what a file has in `sinks`. A key that was there before is replaced, one by one."""
    if not isinstance(value, dict):
        problems.append(Problem(place_of(file, lines, SECTION), "sinks is no section: write [sinks.NAME]"))
        return
    for name, table in value.items():
        place = place_of(file, lines, SECTION, name)
        if not isinstance(table, dict):
            hint = "keys of a destination stand below [sinks.NAME]"
            problems.append(Problem(place, f"{shown(name)} is no destination", hint))
        elif not _NAME.fullmatch(name):
            hint = "1 to 32 letters, digits, - and _: it names a directory"
            problems.append(Problem(place, f"{shown(name)} cannot be the name of a destination", hint))
        elif len(tables) >= MOST and name not in tables:
            problems.append(Problem(place, f"more than {MOST} destinations"))
        else:
            before = tables.get(name)
            given = {
                key: Given(each, place_of(file, lines, SECTION, name, key)) for key, each in table.items()
            }
            tables[name] = Table(
                name, before.place if before else place, {**(before.given if before else {}), **given}
            )


def values(table: Table, rows: Sequence[Row], problems: list[Problem]) -> dict[str, Any]:
    """Return what the table says for these rows, by key; what is not given, or wrong, is not in it."""
    known = {row.key: row for row in rows}
    found: dict[str, Any] = {}
    for key, given in table.given.items():
        row = known.get(key)
        if row is None:
            problems.append(_unknown(table, key, known))
            continue
        try:
            found[key] = row.kind.from_toml(given.value)
        except Unfit as error:
            said = str(error)
            if row.key == "url" and isinstance(given.value, str) and "@" in given.value:
                said = "it holds a credential: that belongs into a file, named in credential_file"
            problems.append(Problem(given.origin, f"{key}: {said}", f"{key}: {row.doc}"))
    problems += _missing(table, rows)
    return found


def _unknown(table: Table, key: str, known: Mapping[str, Row]) -> Problem:
    hint = meant(key, known)
    if _SECRET.match(key) and "credential_file" in known:
        hint = "a secret stands in a file of its own: credential_file names it"
    return Problem(table.place_of(key), f"there is no key {shown(key)} in [sinks.{table.name}]", hint)


def _missing(table: Table, rows: Sequence[Row]) -> Iterator[Problem]:
    for row in rows:
        if row.default is None and row.key not in table.given:
            yield Problem(table.place, f"[sinks.{table.name}] has no {row.key}", f"{row.key}: {row.doc}")
