# SPDX-License-Identifier: Apache-2.0
"""The little markup in which the manual pages are written here.

Owns its reading and the writing of what derives from elsewhere in it. Never knows how a page is written in the end.

As in Markdown ``# TITLE`` and ``## Title`` are headings, a blank line ends a paragraph, lines that are indented by
four stay as they are, and what stands between backticks is literal. A list is terms with, on the next line, a colon
and the text.
"""

from __future__ import annotations

import re
import textwrap
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_INDENT = "    "
_ROW = re.compile(r" {2,}(\S+) +(\S.*)")


class Heading(NamedTuple):
    """A heading, of a section (level 1) or within one (2)."""

    level: int
    text: str


class Item(NamedTuple):
    """A term and what it means."""

    term: str
    text: str


class Literal(NamedTuple):
    """Lines that stay as they are."""

    lines: tuple[str, ...]


Block: TypeAlias = str | Heading | Item | Literal
"""A plain string is a paragraph."""


def blocks(text: str) -> Iterator[Block]:
    """Read a text."""
    parts = [part.split("\n") for part in re.split(r"\n{2,}", text.strip("\n"))]
    # A blank line within literal lines is one of them.
    for literal, together in groupby(parts, lambda lines: lines[0].startswith(_INDENT)):
        if literal:
            yield Literal(
                tuple(textwrap.dedent("\n\n".join("\n".join(part) for part in together)).split("\n"))
            )
        else:
            yield from map(_block, together)


def _block(lines: list[str]) -> Block:
    first, *rest = lines
    if heading := re.fullmatch("(#{1,2}) (.*)", first):
        if rest:
            raise ValueError(f"no blank line below {first}")
        return Heading(len(heading[1]), heading[2])
    if rest and rest[0].startswith(": "):
        return Item(first, " ".join([rest[0].removeprefix(": "), *rest[1:]]))
    return " ".join(lines)


def items(rows: Iterable[tuple[str, str]]) -> str:
    """Write a list."""
    return "\n\n".join(f"{term}\n: {text}" for term, text in rows)


def literal(text: str) -> str:
    """Write lines that stay as they are."""
    return textwrap.indent(text.strip("\n"), _INDENT)


def from_help(text: str) -> str:
    """Write a description or an epilog of argparse: paragraphs, and tables indented below a ``title:``."""
    made = []
    for part in re.split(r"\n{2,}", text.strip("\n")):
        title, _, rest = part.partition("\n")
        rows = [_ROW.fullmatch(line) for line in rest.splitlines()]
        if title.endswith(":") and rows:
            if None in rows:
                raise ValueError(f"no table below {title}")
            made += [sentence(title), items((row[1], sentence(row[2])) for row in rows if row)]
        else:
            made.append(" ".join(part.split()))
    return "\n\n".join(made)


def sentence(text: str) -> str:
    """Return a `doc` or a `help` as a sentence: upper case first, a full stop last."""
    # What is a value, an option or a command stays as it is spelled: "json: one event a line".
    first = text if re.match(r"[\w.-]+: ", text) else text[:1].upper() + text[1:]
    return first if first.endswith((".", ":")) else first + "."
