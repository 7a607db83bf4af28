# SPDX-License-Identifier: Apache-2.0
"""Tables `[sinks.NAME]` as settings of destinations, with every problem at its line.

Owns what is right of one destination and of all together. Never opens anything: whether files, sockets and spools can
be had is known when they are wanted.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from enricher.config import sinks
from enricher.config.options import Clashing
from enricher.config.places import Problem, meant, shown
from enricher.config.settings import OUTPUT_PATH
from enricher.config.sinks import Common
from enricher.errors import ConfigInvalid, UsageError
from enricher.route.expression import compile_filter
from enricher.route.language import FilterInvalid
from enricher.route.schemas import SCHEMAS, TEXT
from enricher.route.select import Selection
from enricher.runtime.sinktypes import TYPES, SinkType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from enricher.config.load import Settings
    from enricher.config.sinks import Table


@dataclass(frozen=True)
class SinkSetting:
    """One destination. Two are equal where a destination need not be made anew."""

    name: str
    common: Common
    options: Any
    """An instance of the type's options."""

    place: str = field(compare=False)
    """FILE:LINE of its table."""

    @property
    def type(self) -> SinkType:
        """Its row of the table of types."""
        return TYPES[self.common.type]

    def values(self, settings: Settings) -> Iterator[tuple[str, str, str]]:
        """Return each option's key, its value as TOML has it, and where these settings have it from."""
        given = settings.sinks[self.name].given
        for row in self.type.rows():
            if row.key == "max_age" and self.common.queue == "memory":
                continue  # it has none
            holder = self.common if hasattr(self.common, row.key) else self.options
            origin = given[row.key].origin if row.key in given else "default"
            yield row.key, row.kind.show(getattr(holder, row.key)), origin


def load(settings: Settings) -> list[SinkSetting]:
    """Return the destinations that are enabled. Raises ConfigInvalid with every problem at once."""
    found, problems = read(settings)
    if problems:
        hint = next((problem.hint for problem in problems if problem.hint), "")
        raise ConfigInvalid("\n".join(map(str, problems)), hint)
    return found


def read(settings: Settings) -> tuple[list[SinkSetting], list[Problem]]:
    """As `load`, with the problems beside what could be read."""
    problems: list[Problem] = []
    found = []
    for table in settings.sinks.values():
        setting = _setting(table, problems)
        if setting is not None and setting.common.enabled:
            found.append(setting)
    return found, [*problems, *_same_paths(found, settings)]


def _setting(table: Table, problems: list[Problem]) -> SinkSetting | None:
    if "type" not in table.given:
        hint = f"there are {', '.join(TYPES)}"
        problems.append(Problem(table.place, f"[sinks.{table.name}] has no type", hint))
        return None
    name = table.given["type"].value
    kind = TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        said = f"type: there is no type {name!r}"
        problems.append(Problem(table.place_of("type"), said, meant(str(name), TYPES)))
        return None
    before = len(problems)
    found = sinks.values(table, kind.rows(), problems)
    names = Common.__dataclass_fields__
    common = Common(**{key: value for key, value in found.items() if key in names})
    common = replace(common, schema=common.schema or kind.schemas[0])
    if common.queue == "memory" and "max_size" not in found:
        common = replace(common, max_size=sinks.MEMORY)
    problems += _wrong(table, kind, common)
    if len(problems) > before:
        return None
    own = {key: value for key, value in found.items() if key not in names}
    options = kind.options(**own)
    if isinstance(options, Clashing) and (clashes := list(options.clashes())):
        problems += [Problem(table.place_of(key), f"{key}: {said}", hint) for key, said, hint in clashes]
        return None
    return SinkSetting(table.name, common, options, table.place)


def _wrong(table: Table, kind: SinkType, common: Common) -> Iterator[Problem]:
    if common.filter.strip():
        try:
            compile_filter(common.filter)
        except FilterInvalid as error:
            yield Problem(table.place_of("filter"), f"filter: {error.place}: {error.reason}", error.hint)
    if common.schema not in kind.schemas:
        yield _wrong_schema(table, kind, common)
    for key, chosen in (("fields", {"fields": common.fields}), ("redact", {"redact": common.redact})):
        if common.schema == TEXT and any(chosen.values()):
            said = (
                f"{key}: audit text passes on the kernel's own lines, of which nothing is left out or hidden"
            )
            yield Problem(table.place_of(key), said, "choose another schema, or a filter")
            continue
        try:
            Selection(**chosen)
        except UsageError as error:
            yield Problem(table.place_of(key), f"{key}: {error.message}", error.hint)
    if common.queue == "memory" and "max_age" in table.given:
        said = "max_age: a queue in memory has no age"
        yield Problem(table.place_of("max_age"), said, 'leave it out, or queue = "spool"')


def _wrong_schema(table: Table, kind: SinkType, common: Common) -> Problem:
    place = table.place_of("schema")
    if common.schema in (*SCHEMAS, TEXT):
        said = f"schema: {common.type} cannot carry {common.schema}"
        return Problem(place, said, f"it can carry {', '.join(kind.schemas)}")
    return Problem(
        place, f"schema: there is no schema {shown(common.schema)}", meant(common.schema, kind.schemas)
    )


def _same_paths(found: list[SinkSetting], settings: Settings) -> Iterator[Problem]:
    """Two that write to one file would rotate it under each other."""
    taken: Mapping[str, str] = {settings[OUTPUT_PATH]: "output.path"}
    for setting in found:
        path = getattr(setting.options, "path", None)
        if path is None:
            continue
        if path in taken:
            yield Problem(setting.place, f"[sinks.{setting.name}] has the path of {taken[path]}: {path}")
        taken = {**taken, path: f"[sinks.{setting.name}]"}
