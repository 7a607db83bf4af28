# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher check``: whether files and environment say something the service can do, and what they come to.

Owns this command's options, what is said, and the questions that reading alone does not answer: does the host
have what a setting names. Never changes anything and needs no privilege but to read the files.
"""

from __future__ import annotations

import grp
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enricher.cli.options import add_config, put, tell
from enricher.config import load
from enricher.config.load import Problem
from enricher.config.settings import (
    GROUP,
    OUTPUT_FILTER,
    OUTPUT_PATH,
    OUTPUT_TYPES,
    SECTIONS,
    SETTINGS,
    SOCKET,
)
from enricher.errors import ConfigInvalid, UsageError
from enricher.route.expression import compile_filter
from enricher.route.language import FilterInvalid
from enricher.route.members import type_number

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from enricher.config.load import Settings
    from enricher.config.settings import Setting
    from enricher.runtime.sinkconfig import SinkSetting


UNITS = ("/lib/systemd/system", "/usr/lib/systemd/system", "/etc/systemd/system")
"""Where units are, the later ones winning. What the running manager has, only root may be told."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "check",
        help="say what is wrong with the configuration, line by line",
        description="Read the configuration as the service does, files and environment, and say what is wrong with"
        " it: on standard error, each problem with its file and line. Needs no privilege but to read the files.",
    )
    add_config(parser)
    parser.add_argument(
        "--show",
        action="store_true",
        help="also print every setting as it takes effect, as TOML, with where it was set",
    )
    parser.set_defaults(call=check)


def check(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    settings, problems = examine(options.config, os.environ)
    for problem in problems:
        tell(worded(problem))
    for doubt in doubts(settings):
        tell(worded(doubt._replace(message=f"warning: {doubt.message}")))
    if problems:
        return ConfigInvalid.exit_code
    put("\n".join(shown(settings) if options.show else summary(settings)))
    return 0


def examine(path: str | None, environment: Mapping[str, str]) -> tuple[Settings, list[Problem]]:
    """Return what could be read, and everything with which the service would not start."""
    settings, problems = load.read(path, environment)
    return settings, [
        *problems,
        *_unknown_types(settings),
        *_wrong_filter(settings),
        *_sinks(settings)[1],
    ]


def doubts(settings: Settings) -> Iterator[Problem]:
    """What this host lacks now. It may have it when the service starts, so none of it is an error."""
    directory = Path(settings[OUTPUT_PATH]).parent
    # The unit has systemd make its own directory, at the latest when the service starts.
    if directory != Path(OUTPUT_PATH.default).parent and (wrong := _no_directory(directory)):
        yield _about(
            OUTPUT_PATH,
            settings,
            f"{directory}: {wrong}",
            f"only {Path(OUTPUT_PATH.default).parent} is made for the service; make this one, and let the unit"
            " write to it with ReadWritePaths=",
        )
    yield from _doubts_of_sinks(settings)
    group = settings[GROUP]
    if group and not _is_group(group):
        yield _about(
            GROUP,
            settings,
            f"there is no group {group}",
            f"make it with groupadd, or name one that exists; the package makes {GROUP.default}",
        )


def _sinks(settings: Settings) -> tuple[list[SinkSetting], list[Problem]]:
    if not settings.sinks:
        return [], []
    from enricher.runtime import sinkconfig  # noqa: PLC0415 - it loads every protocol

    return sinkconfig.read(settings)


def _doubts_of_sinks(settings: Settings) -> Iterator[Problem]:
    known = map(str, (Path(OUTPUT_PATH.default).parent, Path(SOCKET.default).parent))
    writable = {*known, "/var/lib/audit-enricher"}
    sinks = _sinks(settings)[0]
    for setting in sinks:
        name, options = f"sinks.{setting.name}", setting.options
        path = getattr(options, "path", "")
        if path and str(Path(path).parent) not in writable:
            wrong = _no_directory(Path(path).parent)
            said = f"{name}: {Path(path).parent}: {wrong or 'the unit does not let the service write there'}"
            yield Problem(setting.place, said, f"ReadWritePaths={Path(path).parent} in a drop-in of the unit")
        group = getattr(options, "group", "")
        if group and not _is_group(group):
            yield Problem(setting.place, f"{name}: there is no group {group}", "make it with groupadd")
        for row in setting.type.rows():
            file = getattr(options, row.key, None)
            if row.key.endswith("_file") and file and "/" in file and (wrong := _no_file(file)):
                said = f"{name}: {row.key}: {file}: {wrong}"
                yield Problem(setting.place, said, "the service reads it when it starts")
    if any(setting.type.network for setting in sinks) and (file := _unit_without_network()):
        said = f"{file} keeps the service from the network, which these destinations need"
        hint = "RestrictAddressFamilies=AF_INET AF_INET6 and IPAddressDeny= in a drop-in of the unit"
        yield Problem(next(each.place for each in sinks if each.type.network), said, hint)


def _no_file(path: str) -> str:
    """What is the matter, "" where nothing is; what only the service may read is none of ours."""
    try:
        with open(path, "rb"):  # noqa: PTH123 - the path as the service will use it
            return ""
    except PermissionError:
        return ""
    except OSError as error:
        return str(error.strerror)


def _unit_without_network() -> str:
    """Return the file of a unit, or a drop-in, that denies the network; "" where none does. The last word wins."""
    denies = ""
    for directory in UNITS:
        unit = Path(directory, "audit-enricher.service")
        for file in (unit, *sorted(Path(f"{unit}.d").glob("*.conf"))):
            try:
                text = file.read_text(errors="replace")
            except OSError:
                continue
            for line in map(str.strip, text.splitlines()):
                if line.startswith("IPAddressDeny="):
                    denies = str(file) if line != "IPAddressDeny=" else ""
    return denies


def worded(problem: Problem) -> str:
    """Return the problem and, on a line of its own, its hint, whatever was in the files made harmless."""
    hint = f"\n  hint: {_safe(problem.hint)}" if problem.hint else ""
    return _safe(str(problem)) + hint


def summary(settings: Settings) -> list[str]:
    """Return the lines that say what was read."""
    read = [f"read {_safe(file)}" for file in settings.files] or ["no file was read"]
    return [*read, "no problem found"]


def shown(settings: Settings) -> list[str]:
    """Return all settings as lines of TOML that would come to the same, where each was set in a comment."""
    lines = [f"# {line}" for line in summary(settings)]
    for section in SECTIONS:
        lines += ["", f"[{section}]"]
        for row in SETTINGS:
            if row.section == section:
                value = row.kind.show(settings[row])
                lines.append(f"{row.key} = {value}  # {_safe(settings.origin(row))}")
    for sink in _sinks(settings)[0]:
        lines += ["", f"[sinks.{sink.name}]  # {_safe(sink.place)}"]
        lines += [f"{key} = {value}  # {_safe(origin)}" for key, value, origin in sink.values(settings)]
    return lines


def _unknown_types(settings: Settings) -> Iterator[Problem]:
    for name in settings[OUTPUT_TYPES]:
        try:
            type_number(name)
        except UsageError as error:
            yield _about(OUTPUT_TYPES, settings, error.message, error.hint)


def _wrong_filter(settings: Settings) -> Iterator[Problem]:
    try:
        if settings[OUTPUT_FILTER].strip():
            compile_filter(settings[OUTPUT_FILTER])
    except FilterInvalid as error:
        yield _about(OUTPUT_FILTER, settings, f"{error.place}: {error.reason}", error.hint)


def _about(row: Setting[Any], settings: Settings, message: str, hint: str) -> Problem:
    return Problem(settings.origin(row), f"{row.name}: {message}", hint)


def _no_directory(path: Path) -> str:
    """What is the matter, "" where nothing is."""
    try:
        # With the slash at its end anything but a directory is refused.
        os.stat(f"{path}/")  # noqa: PTH116 - a Path loses the slash
    except OSError as error:
        return str(error.strerror)
    return ""


def _is_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except (KeyError, ValueError):  # ValueError: no name can be like this
        return False
    return True


def _safe(text: str) -> str:
    """Names of files and variables come from anyone; each becomes one line that drives no terminal."""
    return "".join(char if char.isprintable() else f"\\U{ord(char):08X}" for char in text)
