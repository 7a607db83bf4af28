# SPDX-License-Identifier: Apache-2.0
"""Settings from their defaults, files, environment and options, the later ones winning.

Owns the order in which they are read, the place where each value was found, and the errors: all of them at once,
each with its file and line. Never starts from the current directory and never writes anything.

Files are the one named (`settings.FILE`) and, after it, `config.d/*.toml` beside it by name. A file that is
missing says nothing; the one asked for by name must be there.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from enricher.config import sinks
from enricher.config.kinds import Unfit
from enricher.config.places import Given, Problem, lines_of, meant, place_of, shown
from enricher.config.settings import BY_NAME, FILE, SECTIONS, SETTINGS, Setting
from enricher.errors import ConfigInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enricher.config.sinks import Table

T = TypeVar("T")

__all__ = ["DROP_INS", "Given", "Problem", "Settings", "load", "read"]

DROP_INS: Final = "config.d"
_LARGEST_FILE: Final = 1 << 20
_PREFIX: Final = "AUDIT_ENRICHER_"
# What every container gets in whose namespace there is a Service of our name.
_OF_KUBERNETES: Final = re.compile(r"ENRICHER(_SERVICE_HOST|_SERVICE_PORT|_PORT)(_|$)")
_AT_LINE: Final = re.compile(r" ?\(at line (\d+), column \d+\)")


class Settings:
    """All settings of one reading: `settings[HOOK]` is its value."""

    def __init__(
        self,
        given: Mapping[str, Given] | None = None,
        files: tuple[str, ...] = (),
        sinks: Mapping[str, Table] | None = None,
    ) -> None:
        self._given = dict(given or {})
        self.sinks = dict(sinks or {})
        """The tables `[sinks.NAME]` by name, as they stand in the files; `runtime.sinkconfig` reads them."""
        self.files = files
        """The files that were read, in their order."""

    def __getitem__(self, setting: Setting[T]) -> T:
        """Return the value of this row."""
        given = self._given.get(setting.name)
        if given is None:
            return setting.default
        value: T = given.value
        return value

    def origin(self, setting: Setting[Any]) -> str:
        """Return where the value was found: FILE:LINE, a variable, an option, or "default"."""
        given = self._given.get(setting.name)
        return given.origin if given else "default"

    def replaced(self, setting: Setting[T], value: T, origin: str) -> Settings:
        """Return the same settings but for this one."""
        return Settings({**self._given, setting.name: Given(value, origin)}, self.files, self.sinks)

    def changed(self, other: Settings) -> list[Setting[Any]]:
        """Return the rows whose values differ in `other`."""
        return [row for row in SETTINGS if self[row] != other[row]]


def load(path: str | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read files and environment (default: the process's). Raises ConfigInvalid with every problem at once."""
    settings, problems = read(path, os.environ if environment is None else environment)
    if problems:
        raise ConfigInvalid(
            "\n".join(map(str, problems)),
            next((problem.hint for problem in problems if problem.hint), "")
            or "`audit-enricher check` says what is wrong, line by line",
        )
    return settings


def read(path: str | None, environment: Mapping[str, str]) -> tuple[Settings, list[Problem]]:
    """As `load`, with the problems beside what could be read."""
    problems: list[Problem] = []
    given: dict[str, Given] = {}
    tables: dict[str, Table] = {}
    files = []
    main = Path(path or FILE)
    for file in [main, *_drop_ins(main.parent / DROP_INS, problems)]:
        text = _text(file, problems, wanted=file == main and path is not None)
        if text is not None:
            files.append(str(file))
            given |= _from_file(str(file), text, tables, problems)
    given |= _from_environment(environment, problems)
    return Settings(given, tuple(files), tables), problems


def _drop_ins(directory: Path, problems: list[Problem]) -> list[Path]:
    try:
        return sorted(file for file in directory.iterdir() if file.suffix == ".toml")
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(Problem(str(directory), f"cannot be read: {error.strerror}"))
        return []


def _text(file: Path, problems: list[Problem], *, wanted: bool) -> str | None:
    try:
        with file.open("rb") as source:
            data = source.read(_LARGEST_FILE + 1)
    except FileNotFoundError:
        if wanted:
            problems.append(Problem(str(file), "there is no such file"))
        return None
    except OSError as error:
        problems.append(Problem(str(file), f"cannot be read: {error.strerror}"))
        return None
    if len(data) > _LARGEST_FILE:
        problems.append(Problem(str(file), "is larger than 1 MiB: this is no configuration"))
        return None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.append(Problem(f"{file}:{line}", "is not UTF-8", "TOML is always UTF-8"))
        return None


def _from_file(file: str, text: str, tables: dict[str, Table], problems: list[Problem]) -> dict[str, Given]:
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        problems.append(_no_toml(file, text, error))
        return {}
    lines = lines_of(text)
    given = {}
    for section, table in document.items():
        if section == sinks.SECTION:
            sinks.enter(tables, file, lines, table, problems)
            continue
        if section not in SECTIONS:
            hint = meant(section, (*SECTIONS, sinks.SECTION))
            if not isinstance(table, dict):
                hint = "settings stand below the [section] they belong to"
            problems.append(
                Problem(place_of(file, lines, section), f"there is no section {shown(section)}", hint)
            )
            continue
        if not isinstance(table, dict):
            problems.append(
                Problem(place_of(file, lines, section), f"{section} is a section: write [{section}]")
            )
            continue
        for key, value in table.items():
            name = f"{section}.{key}"
            place = place_of(file, lines, section, key)
            setting = BY_NAME.get(name)
            if setting is None:
                keys = [row.key for row in SETTINGS if row.section == section]
                problems.append(
                    Problem(place, f"there is no setting {shown(key)} in [{section}]", meant(key, keys))
                )
                continue
            try:
                given[name] = Given(setting.kind.from_toml(value), place)
            except Unfit as error:
                problems.append(Problem(place, f"{key}: {error}", f"{key}: {setting.doc}"))
    return given


def _no_toml(file: str, text: str, error: Exception) -> Problem:
    if isinstance(error, RecursionError):
        return Problem(file, "values within values are too deep")
    if not isinstance(error, tomllib.TOMLDecodeError):
        return Problem(file, "there is a number with too many digits")  # Python's own limit, without a place
    said = str(error)
    found = _AT_LINE.search(said)
    line = found[1] if found else str(text.count("\n") + 1)
    return Problem(f"{file}:{line}", _AT_LINE.sub("", said), 'strings are quoted in TOML, key = "value"')


def _from_environment(environment: Mapping[str, str], problems: list[Problem]) -> dict[str, Given]:
    rows = {row.variable: row for row in SETTINGS}
    given = {}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(_PREFIX) or _OF_KUBERNETES.search(variable):
            continue
        setting = rows.get(variable)
        if setting is None:
            of_sinks = variable.startswith(f"{_PREFIX}SINKS_")
            hint = "destinations are set in files alone" if of_sinks else meant(variable, rows)
            problems.append(Problem(variable, "there is no such setting", hint))
            continue
        try:
            given[setting.name] = Given(setting.kind.parse(text), variable)
        except Unfit as error:
            problems.append(Problem(variable, str(error), f"{setting.name}: {setting.doc}"))
    return given
