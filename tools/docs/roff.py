# SPDX-License-Identifier: Apache-2.0
"""Manual pages in the man macros of roff.

Owns how a page is written, and that no text can be taken for a request. Never knows what a page is about.
Pages have no date: two runs write the same bytes.
"""

from __future__ import annotations

import re
from textwrap import wrap
from typing import TYPE_CHECKING, Final, NamedTuple

from docs.markup import Heading, Item, Literal, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docs.markup import Block

_MANUALS: Final = {1: "User Commands", 5: "File Formats", 7: "Miscellaneous", 8: "System Administration"}
_TEXT: Final = {"\\": r"\e", "~": r"\(ti", "^": r"\(ha"}
_CODE: Final = _TEXT | {"-": r"\-", "'": r"\(aq", "`": r"\(ga"}
_WHOLE: Final = r"\%"
"""Before a word: never broken with a hyphen. Within one it would be a place to break it."""
_DASH: Final = re.compile(r"(?<![A-Za-z0-9])-|-(?=-)")
_SENTENCE: Final = re.compile(r"(?<=[A-Za-z0-9)`\]][.?!]) (?=[A-Z`])")
_NAMES: Final = re.compile(r"(?<![\w/])([a-z0-9.-]+\([1-8]\)|/?[\w*-]+(?:[/._][\w*-]+)+)")
"""References to manual pages, and what else is written as one word: paths, names of files, of functions."""


class Page(NamedTuple):
    """A manual page: `name`(`number`) - `summary`, and its text in our markup."""

    name: str
    number: int
    summary: str
    text: str


def roff(page: Page) -> str:
    """Return the file."""
    lines = [
        '.\\" SPDX-License-Identifier: Apache-2.0',
        '.\\" Written by tools/gen_docs.py; changes here are lost.',
        f'.TH {_code(page.name.upper())} {page.number} "" "audit\\-enricher" "{_MANUALS[page.number]}"',
        ".ad l",  # long names leave wide gaps where both margins are even
        ".SH NAME",
        f"{_code(page.name)} \\- {_text(page.summary)}",
    ]
    before: Block = ""
    for block in blocks(page.text):
        lines += _block(block, before)
        before = block
    return "\n".join(lines) + "\n"


def _block(block: Block, before: Block) -> Iterator[str]:
    paragraph = () if isinstance(before, Heading) else (".PP",)  # a heading begins one itself
    match block:
        case Heading(level, text):
            yield f".{'SH' if level == 1 else 'SS'} {_title(text)}"
        case Item(term, text):
            yield from (".TP", _guarded(inline(term)), *_lines(text))
        case Literal(lines):
            yield from (*paragraph, ".RS 4", ".EX", *(_guarded(_code(line)) for line in lines), ".EE", ".RE")
        case _:
            yield from (*paragraph, *_lines(block))


def _lines(text: str) -> Iterator[str]:
    """Each sentence begins on a line of its own, as roff would have it."""
    for sentence in _SENTENCE.split(text):
        yield from map(_guarded, wrap(inline(sentence), 79, break_long_words=False, break_on_hyphens=False))


def inline(text: str) -> str:
    """Return a text with its literal words and its references to manual pages in bold."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        raise ValueError(f"a backtick has no other: {text}")
    made = "".join(
        f"\\fB{_whole(part)}\\fR" if place % 2 else _text(part) for place, part in enumerate(parts) if part
    )
    return " ".join(
        f"{_WHOLE}{word.replace(_WHOLE, '')}" if _WHOLE in word else word for word in made.split(" ")
    )


def _text(text: str) -> str:
    made = ""
    for place, part in enumerate(_NAMES.split(text)):
        if not place % 2:
            made += _DASH.sub(r"\-", _escaped(part, _TEXT))
        elif part.endswith(")"):
            made += f"\\fB{_whole(part[:-3])}\\fR{part[-3:]}"
        else:
            made += _whole(part)
    return made


def _whole(text: str) -> str:
    """Return literal words without hyphens at the ends of lines: they could not be copied."""
    return " ".join(f"{_WHOLE}{_code(word)}" for word in text.split(" "))


def _code(text: str) -> str:
    return _escaped(text, _CODE)


def _escaped(text: str, special: dict[str, str]) -> str:
    if not text.isascii():
        raise ValueError(f"manual pages are in ASCII: {text}")
    return "".join(special.get(char, char) for char in text)


def _guarded(line: str) -> str:
    """Return a line of text that does not begin as a request does, and is not empty, which is one too."""
    return f"\\&{line}" if line[:1] in {".", "'", ""} else line


def _title(text: str) -> str:
    shown = inline(text).replace('"', r"\(dq")
    return f'"{shown}"' if " " in shown else shown
