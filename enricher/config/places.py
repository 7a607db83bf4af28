# SPDX-License-Identifier: Apache-2.0
"""Where something stands in a configuration file, and how a problem with it is told.

Owns the lines of sections and keys, which tomllib does not tell, and the hint that says what may have been meant.
Never reads a value.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Lines = Mapping[tuple[str, ...], int]

_KEY: Final = r"""[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*'"""
_HEADER: Final = re.compile(rf"\s*\[\[?\s*({_KEY})\s*(?:\.\s*({_KEY})\s*)?[\].]")
_ASSIGNMENT: Final = re.compile(rf"\s*({_KEY})\s*(?:\.\s*({_KEY})\s*)?(?:\.\s*({_KEY})\s*)?=")


class Problem(NamedTuple):
    """One thing that is wrong. `place` is FILE:LINE, FILE, or the variable."""

    place: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """Return the line that says so."""
        return f"{self.place}: {self.message}"


class Given(NamedTuple):
    """A value and where it was found."""

    value: Any
    origin: str


def lines_of(text: str) -> Lines:
    """Where sections and keys stand. Good enough to point, never to read values."""
    lines: dict[tuple[str, ...], int] = {}
    section: tuple[str, ...] = ()
    # Not splitlines(): it takes characters for ends of lines that are none in TOML.
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            section = tuple(_bare(word) for word in header.groups() if word)
            lines.setdefault(section[:1], number)
            lines.setdefault(section, number)
        elif assignment := _ASSIGNMENT.match(line):
            path = (*section, *(_bare(word) for word in assignment.groups() if word))
            for length in range(1, len(path) + 1):
                lines.setdefault(path[:length], number)
    return lines


def _bare(key: str) -> str:
    return key[1:-1] if key[:1] in {'"', "'"} else key


def place_of(file: str, lines: Lines, *path: str) -> str:
    """Return FILE:LINE of the path, or of what it stands in."""
    for length in range(len(path), 0, -1):
        if line := lines.get(path[:length]):
            return f"{file}:{line}"
    return file


def shown(word: str) -> str:
    """Return a word of a file as it can be printed."""
    return word if word.isprintable() else ascii(word)


def meant(word: str, known: Iterable[str]) -> str:
    """Return the hint for a word that is none of these."""
    names = list(known)
    close = difflib.get_close_matches(word, names, 1)
    return f"did you mean {close[0]}?" if close else "there are " + ", ".join(names)
