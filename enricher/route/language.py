# SPDX-License-Identifier: Apache-2.0
"""The filter language: its words, its grammar and its tree. See docs/filters.md.

Owns what is well formed, how a tree is written again (`unparse`), and errors that show their place. Never knows which
members there are or what a comparison means: `route.members` and `route.expression` do.

A filter comes from a command line, a file or the control socket, so it is bounded: `LENGTH_MAX` bytes, `DEPTH_MAX`
parentheses and "not" within each other. Every step is linear in its length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from enricher.errors import UsageError

LENGTH_MAX: Final = 4096
"""Bytes of a filter's text in UTF-8."""
DEPTH_MAX: Final = 32
_SHOWN: Final = 100  # columns of the line with the caret

KEYWORDS: Final = frozenset(("and", "or", "not", "in", "has"))
OPERATORS: Final = ("==", "!=", "<", "<=", ">", ">=", "~", "!~", "in", "not in")
LABEL: Final = "label."
"""Before a label's name, which may be any text: ``label.app``, ``label."my app"``."""

_WORD: Final = r"""[^\s()"',=!<>~&|]+"""
_TOKEN: Final = re.compile(
    rf"""(?P<space>[ \t\r\n]+)|(?P<string>"(?:[^"\\]|\\["\\])*"|'[^']*')"""
    rf"""|(?P<op>==|!=|<=|>=|!~|<|>|~)|(?P<mark>[(),])|(?P<word>{_WORD})"""
)
# Control characters; and what is no character, but for the bytes of an argument that are not UTF-8.
_UNFIT: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udc7f\udd00-\udfff]")
_is_bare = re.compile(_WORD).fullmatch
_MEANT: Final = {"=": "equal is written ==", "&": "write and", "|": "write or", "!": "write not"}
_COMPARISON: Final = "such as where == container, key in (exec, login) or has container"


class FilterInvalid(UsageError):
    """A filter's text is wrong at one place. ``place`` is that in words, ``reason`` what is wrong there.

    The message has both in its first line; below it stand the line of the filter and a caret.
    """

    place = ""
    reason = ""


def invalid(text: str, at: int, reason: str, hint: str = "") -> FilterInvalid:
    """Return the error for what stands at `at` in the text of a filter."""
    begin = text.rfind("\n", 0, at) + 1
    column = at - begin + 1
    place = f"column {column}"
    if "\n" in text:
        place = f"line {text.count(chr(10), 0, at) + 1}, {place}"
    line = text[begin:].partition("\n")[0]
    first = max(0, min(column - _SHOWN // 2, len(line) - _SHOWN))
    shown, caret = plain(line[first : first + _SHOWN]), " " * (column - 1 - first) + "^"
    reason = plain(reason)
    error = FilterInvalid(f"filter, {place}: {reason}\n  {shown}\n  {caret}", hint)
    error.place, error.reason = place, reason
    return error


@dataclass(frozen=True, slots=True)
class Member:
    """What is asked for, as it is called in docs/filters.md; `at` is where it stands in the text."""

    name: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Value:
    """What it is compared with, without quotes."""

    text: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Compare:
    """``op`` is one of OPERATORS; "in" and "not in" have one value or more, all others just one."""

    member: Member
    op: str
    values: tuple[Value, ...]
    at: int = field(default=0, compare=False)  # of the operator


@dataclass(frozen=True, slots=True)
class Has:
    """Whether there is any."""

    member: Member


@dataclass(frozen=True, slots=True)
class Not:
    """The contrary."""

    term: Node


@dataclass(frozen=True, slots=True)
class And:
    """All of two terms or more."""

    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One at least of two terms or more."""

    terms: tuple[Node, ...]


Node = Compare | Has | Not | And | Or


class _Token(NamedTuple):
    kind: str  # word, string, op, mark, end
    text: str  # of a string: what is within the quotes
    at: int
    end: int


def parse(text: str) -> Node:
    """Return the tree of a filter. Raises FilterInvalid."""
    return _Parser(text, _tokens(text)).whole()


def unparse(node: Node) -> str:
    """Write a tree as a filter that has the same tree."""
    if isinstance(node, Compare):
        values = ", ".join(_quoted(value.text) for value in node.values)
        return f"{_named(node.member)} {node.op} " + (f"({values})" if node.op.endswith("in") else values)
    if isinstance(node, Has):
        return f"has {_named(node.member)}"
    if isinstance(node, Not):
        return f"not {_within(node.term, And, Or)}"
    if isinstance(node, And):
        return " and ".join(_within(term, And, Or) for term in node.terms)
    return " or ".join(_within(term, Or) for term in node.terms)


def _within(node: Node, *loose: type[Node]) -> str:
    return f"({unparse(node)})" if isinstance(node, loose) else unparse(node)


def _named(member: Member) -> str:
    name = member.name.removeprefix(LABEL)
    return LABEL + _quoted(name) if name != member.name else name


def _quoted(text: str) -> str:
    if _is_bare(text) and text not in KEYWORDS:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _tokens(text: str) -> list[_Token]:
    _check(text)
    tokens = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _stray(text, at)
        kind, said = str(found.lastgroup), found[0]
        if kind == "string":
            inner = said[1:-1]
            said = re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL) if said[0] == '"' else inner
        if kind != "space":
            tokens.append(_Token(kind, said, at, found.end()))
        at = found.end()
    tokens.append(_Token("end", "", at, at))
    return tokens


def _check(text: str) -> None:
    """Raise FilterInvalid for a text that is too long, or has what cannot be shown or compared."""
    # Lengths first: what is too long is not looked at.
    if len(text) > LENGTH_MAX or len(text.encode("utf-8", "surrogatepass")) > LENGTH_MAX:
        raise invalid(text, 0, f"more than {LENGTH_MAX} bytes", "several values go into one: key in (a, b)")
    if (found := _UNFIT.search(text)) is not None:
        raise invalid(
            text,
            found.start(),
            f"U+{ord(found[0]):04X} cannot be in a filter",
            "no value has it that can be asked for",
        )


def _stray(text: str, at: int) -> FilterInvalid:
    char = text[at]
    if char in "\"'":
        hint = (
            'within "..." a backslash stands before " and \\ only'
            if char == '"'
            else "put another one behind it"
        )
        return invalid(text, at, "this quote is not closed", hint)
    shown = char if char.isprintable() else f"U+{ord(char):04X}"
    return invalid(
        text, at, f"{shown} means nothing here", _MEANT.get(char, "quote it if it is part of a value")
    )


class _Parser:
    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def whole(self) -> Node:
        if self._peek().kind == "end":
            raise self._wrong("an empty filter", _COMPARISON)
        node = self._or()
        token = self._peek()
        if token.kind != "end":
            raise self._wrong(f"{_shown(token)} is not expected here", self._meant(token))
        return node

    def _meant(self, token: _Token) -> str:
        if token.text == ")":
            return "there is no ( for it"
        if token.kind == "word" and token.text.lower() in KEYWORDS:
            return "and, or, not, in and has are written in small letters"
        return 'between two comparisons stands and, or; a value with spaces is quoted: "exec root"'

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next += token.kind != "end"
        return token

    def _keyword(self, word: str) -> bool:
        """Take this keyword, if it comes next."""
        token = self._peek()
        found = token.kind == "word" and token.text == word
        self._next += found
        return found

    def _mark(self, mark: str) -> bool:
        token = self._peek()
        found = token.kind == "mark" and token.text == mark
        self._next += found
        return found

    def _wrong(self, reason: str, hint: str = "", token: _Token | None = None) -> FilterInvalid:
        return invalid(self._text, (token or self._peek()).at, reason, hint)

    def _or(self) -> Node:
        terms = [self._and()]
        while self._keyword("or"):
            terms.append(self._and())
        return Or(tuple(terms)) if len(terms) > 1 else terms[0]

    def _and(self) -> Node:
        terms = [self._not()]
        while self._keyword("and"):
            terms.append(self._not())
        return And(tuple(terms)) if len(terms) > 1 else terms[0]

    def _not(self) -> Node:
        opening = self._peek()
        node: Node
        if self._keyword("not"):
            self._deeper(opening)
            node = Not(self._not())
        elif self._mark("("):
            self._deeper(opening)
            node = self._or()
            if not self._mark(")"):
                raise self._wrong(f"{_shown(self._peek())} where a ) is expected", "a ( is not closed")
        elif self._keyword("has"):
            return Has(self._member())
        else:
            return self._comparison()
        self._depth -= 1
        return node

    def _deeper(self, opening: _Token) -> None:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._wrong(
                f"more than {DEPTH_MAX} ( and not within each other",
                "several values go into one: key in (a, b)",
                opening,
            )

    def _member(self) -> Member:
        token = self._take()
        if token.kind != "word" or token.text in KEYWORDS:
            raise self._wrong(f"{_shown(token)} where a member's name is expected", _COMPARISON, token)
        name = self._peek()
        if token.text == LABEL and name.kind == "string" and name.at == token.end:
            self._take()
            return Member(LABEL + name.text, token.at)
        return Member(token.text, token.at)

    def _comparison(self) -> Node:
        member = self._member()
        token = self._take()
        op = token.text
        if token.kind == "word" and op == "not" and self._keyword("in"):
            op = "not in"
        elif token.kind != "op" and not (token.kind == "word" and op == "in"):
            raise self._wrong(
                f"{_shown(token)} where a comparison is expected", f"one of {' '.join(OPERATORS)}", token
            )
        return Compare(member, op, self._values() if op.endswith("in") else (self._value(),), token.at)

    def _values(self) -> tuple[Value, ...]:
        if not self._mark("("):
            raise self._wrong(f"{_shown(self._peek())} where a list is expected", "in (one, two)")
        values = [self._value()]
        while self._mark(","):
            values.append(self._value())
        if not self._mark(")"):
            raise self._wrong(
                f"{_shown(self._peek())} where , or ) is expected", 'quote a value with spaces: "a b"'
            )
        return tuple(values)

    def _value(self) -> Value:
        token = self._take()
        if token.kind not in {"word", "string"}:
            raise self._wrong(
                f"{_shown(token)} where a value is expected", "a word, or text in quotes", token
            )
        if token.kind == "word" and token.text in KEYWORDS:
            raise self._wrong(
                f"{_shown(token)} where a value is expected",
                f'as a value it is quoted: "{token.text}"',
                token,
            )
        return Value(token.text, token.at)


def _shown(token: _Token) -> str:
    """Name a token in a message."""
    return "the end" if token.kind == "end" else token.text or '""'


def plain(text: str) -> str:
    """Return a line of a message: what is in a filter is one short line, as wide as it was, whatever it holds."""
    text = text if len(text) <= 2 * _SHOWN else text[: 2 * _SHOWN] + "..."
    return "".join(char if char.isprintable() else "?" for char in text)
