# SPDX-License-Identifier: Apache-2.0
"""The settings as words: what of a row is said in the reference, the manual page and the sample.

Owns these words, the sample file and the example of what `check` prints. Never a list of settings of its own.
"""

from __future__ import annotations

import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from docs.markup import sentence
from enricher.cli import check
from enricher.config.kinds import Choice, Count, Duration, Flag, Name, Size, Text, Words
from enricher.config.kinds import Path as PathKind
from enricher.config.options import rows
from enricher.config.settings import DIRECTORY, FILE, RECEIVE_BUFFER, SECTIONS, SETTINGS
from enricher.config.sinks import MOST as MOST_SINKS
from enricher.config.sinks import Common
from enricher.runtime.sinktypes import TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from docs.commands import Command
    from enricher.config.options import Row
    from enricher.config.settings import Setting
    from enricher.runtime.sinktypes import SinkType

__all__ = ["MOST_SINKS"]

_KINDS: Final = {
    Choice: ("one of a few words", "a string", "the word"),
    Flag: ("true or false", "`true` or `false`, without quotes", "`true`, `yes`, `1`, `false`, `no` or `0`"),
    Count: ("a whole number", "a number", "the number"),
    Size: (
        "a size",
        'a string with K, M or G behind the number, powers of 1024: `"64M"`; or a number of bytes',
        "as the string",
    ),
    Duration: (
        "a duration",
        'a string such as `"30s"`, `"500ms"`, `"5m"`, `"1h"` or `"30d"`',
        "as the string",
    ),
    PathKind: ("an absolute path", "a string", "the path"),
    Name: ("a name", "a string, which may be empty", "the name"),
    Text: (
        "a text",
        """a string; between `'''` and `'''` it may hold quotes and several lines""",
        "the text",
    ),
    Words: ("a list of words", 'an array of strings: `["exec", "mounts"]`', "with commas: `exec,mounts`"),
}

_SAMPLE_HEAD: Final = f"""\
# SPDX-License-Identifier: Apache-2.0
#
# The settings of the service audit-enricher, each with its default: to change one, take away its "#".
# Files in {DIRECTORY}/config.d/*.toml are read after this one, by name, and win over it.
#
# `audit-enricher check` says what is wrong with it, `systemctl reload audit-enricher` takes over what does
# not need a restart. See audit-enricher.toml(5).
"""

_WRONG: Final = """\
[output]
path = "events.json"
rotate_sise = "32M"

[service]
without_hook = stop
"""

_MENDED: Final = """\
[output]
path = "events.json"
rotate_sise = "32M"

[service]
without_hook = "stop"
"""


def kinds() -> list[tuple[str, str, str]]:
    """Return each kind that a setting is of: what it is, how it is written in a file, and in a variable.

    Raises KeyError where a setting is of a kind without words here.
    """
    used = {_KINDS[type(row.kind)] for row in SETTINGS}
    return [words for words in _KINDS.values() if words in used]


def effect(row: Setting[Any]) -> str:
    """Return when a new value takes effect."""
    return "on a reload" if row.live else "after a restart"


def default(row: Setting[Any]) -> str:
    """Return its default as people write it."""
    return str(row.kind.show(row.default)).strip('"')


def listed(words: Iterable[str]) -> str:
    """Return literal words, one after the other."""
    return ", ".join(f"`{word}`" for word in words)


def used_by(row: Setting[Any], commands: Iterable[Command]) -> list[str]:
    """Return the commands that have its option."""
    if not row.option:
        return []
    return [
        command.name for command in commands if any(row.option in option.names for option in command.options)
    ]


def sample() -> str:
    """Return the commented sample, which is also the file that the package installs."""
    lines = [_SAMPLE_HEAD]
    for section, doc in SECTIONS.items():
        lines += [f"# {sentence(doc)}".replace("`", ""), f"[{section}]", ""]
        for row in SETTINGS:
            if row.section == section:
                lines += _comment(sentence(row.doc))
                lines += _comment(sentence(f"{row.kind.what}; a new value takes effect {effect(row)}"))
                lines += [f"#{row.key} = {row.kind.show(row.default)}", ""]
    lines += _sinks_sample()
    return "\n".join(lines)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ")


_SINK_SAMPLE: Final = """\
# Destinations that events are delivered to, beside the output: a table for each, with a name of its own. Keys and
# defaults of every type are in audit-enricher.toml(5).
#[sinks.siem]
#type = "relp"  # or {others}
#address = "logs.example.org:2514"
"""


def _sinks_sample() -> list[str]:
    others = ", ".join(name for name, _ in sink_types() if name != "relp")
    lines = [_SINK_SAMPLE.format(others=others)]
    for row in common_rows():
        if row.key != "type":
            lines += _comment(sentence(row.doc))
            lines += [f"#{row.key} = {row.shown}", ""]
    return lines


def common_rows() -> list[Row]:
    """Return what every destination has."""
    return rows(Common)


def own_rows(kind: SinkType) -> list[Row]:
    """Return what destinations of this type have beside that."""
    return rows(kind.options)


def sink_types() -> list[tuple[str, SinkType]]:
    """Return the types of destinations by their names."""
    return list(TYPES.items())


def mistakes() -> tuple[str, str]:
    """Return a file with mistakes, and what `check` says of it when it reads it."""
    return _MENDED, _said(_MENDED)


def syntax_error() -> str:
    """Return what `check` says of a file that is no TOML."""
    return _said(_WRONG)


def _said(text: str) -> str:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / Path(FILE).name
        file.write_text(text)
        _, problems = check.examine(str(file), {})
        return "\n".join(map(check.worded, problems)).replace(directory, DIRECTORY)


def shown_example() -> str:
    """Return the beginning of what `check --show` prints of a file and a variable that change something."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / Path(FILE).name
        file.write_text('# of this host\n[source]\nring_memory = "64M"\n')
        found, _ = check.examine(str(file), {RECEIVE_BUFFER.variable: "8M"})
        lines = "\n".join(check.shown(found)).replace(directory, DIRECTORY)
    return lines.partition("\n\n[output]")[0]
