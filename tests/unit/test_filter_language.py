# SPDX-License-Identifier: Apache-2.0
"""The filter language: what is well formed, how it is read, and where its errors point."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from enricher.errors import UsageError
from enricher.route.expression import compile_filter
from enricher.route.language import (
    DEPTH_MAX,
    LENGTH_MAX,
    And,
    Compare,
    FilterInvalid,
    Has,
    Member,
    Not,
    Or,
    Value,
    parse,
    unparse,
)
from tests.unit.sample_filters import TREES


def same(member: str, value: str, op: str = "==") -> Compare:
    return Compare(Member(member), op, (Value(value),))


A, B, C = same("a", "1"), same("b", "2"), same("c", "3")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a == 1", A),
        ("a==1", A),
        (" \t\r\na\n==\n1\n", A),
        ("a == '1'", A),
        ('"a" == 1', None),
        ("not a == 1", Not(A)),
        ("not not a == 1", Not(Not(A))),
        ("a == 1 and b == 2 or c == 3", Or((And((A, B)), C))),
        ("a == 1 or b == 2 and c == 3", Or((A, And((B, C))))),
        ("(a == 1 or b == 2) and c == 3", And((Or((A, B)), C))),
        ("not a == 1 and b == 2", And((Not(A), B))),
        ("not (a == 1 and b == 2)", Not(And((A, B)))),
        ("a == 1 and b == 2 and c == 3", And((A, B, C))),
        ("has a and not has b", And((Has(Member("a")), Not(Has(Member("b")))))),
        ("a in (1)", Compare(Member("a"), "in", (Value("1"),))),
        ("a not in (1,2)", Compare(Member("a"), "not in", (Value("1"), Value("2")))),
        ("a !~ x*", same("a", "x*", "!~")),
        ("a~x*", same("a", "x*", "~")),
        ("a<=1", same("a", "1", "<=")),
        (r'a == "x \" \\ \\n"', same("a", 'x " \\ \\n')),
        (r"a == 'x \ y'", same("a", "x \\ y")),
        ("a == UNKNOWN[1999]", same("a", "UNKNOWN[1999]")),
        ("a == /usr/bin/[", same("a", "/usr/bin/[")),
        ("a == ''", same("a", "")),
        ("label.x == 1", same("label.x", "1")),
        ('label."x y" == 1', same("label.x y", "1")),
        ("label.'and' == 1", same("label.and", "1")),
        ('label. "x" == 1', None),
        ("a in ()", None),
        ("a in (1,)", None),
        ("a in 1", None),
        ("a not 1", None),
        ("and == 1", None),
        ("a == (1)", None),
        ("a == 1 == 1", None),
        ("(a == 1", None),
        ("a == 1)", None),
        ("a", None),
        ("not", None),
        ("", None),
        ("a = 1", None),
        ("a == 1 && b == 2", None),
        ("a == 1 | b == 2", None),
        ("! a == 1", None),
        (r'a == "\x"', None),
        ("a\u00a0== 1", None),
        ("a == 1\x00", None),
        ("a == \ud800", None),
    ],
)
def test_what_is_well_formed_and_what_it_says(text: str, tree: object) -> None:
    if tree is None:
        with pytest.raises(FilterInvalid):
            parse(text)
    else:
        assert parse(text) == tree


@settings(deadline=None)
@given(TREES)
def test_what_is_written_is_read_again(tree: object) -> None:
    text = unparse(tree)  # type: ignore[arg-type]
    assume(len(text.encode("utf-8", "surrogateescape")) <= LENGTH_MAX)
    assert parse(text) == tree


WORDS = [
    *["and", "or", "not", "in", "has", "(", ")", ",", "==", "!=", "<", ">=", "~", "!~", "=", '"', "'", "\\"],
    *[" ", " ", "\n", "*", "?", "[", "type", "key", "pid", "user", "where", "label.", "container.name"],
    *["EXECVE", "root", "host", "12", "-1", "9" * 30, "syscall", "openat", "\udcff", "namespace.net", "exit"],
]


@settings(deadline=None)
@given(st.text() | st.lists(st.sampled_from(WORDS), max_size=40).map("".join) | TREES.map(unparse))
def test_any_text_is_a_filter_or_a_usage_error(text: str) -> None:
    error = None
    try:
        compile_filter(text)
    except UsageError as caught:
        error = caught
    if error is None:
        return
    assert isinstance(error, FilterInvalid)
    first, line, caret = error.message.split("\n")
    assert error.message.replace("\n", "").isprintable()
    assert error.hint.isprintable()
    assert error.hint
    assert first == f"filter, {error.place}: {error.reason}"
    assert 2 <= caret.index("^") <= len(line)
    assert len(line) <= 110


@pytest.mark.parametrize(
    ("text", "at", "reason", "hint"),
    [
        ("where == contaner", 10, "no such value: contaner", "did you mean container?"),
        ("has contianer.name", 5, "no such member: contianer.name", "did you mean container.name"),
        ("image == x", 1, "no such member: image", "did you mean container.image?"),
        ("qqqq == x", 1, "no such member: qqqq", "there are type, key, "),
        ("type == EXECV", 9, "no such record type: EXECV", "did you mean EXECVE?"),
        ("syscall in (openat, unlinkt)", 21, "no such system call: unlinkt", "unlinkat"),
        ("exit == EACESS", 9, "no such error: EACESS", "did you mean EACCES?"),
        ("type ~ NONE*", 8, "no record type is like NONE*", "* is any text"),
        ("namespace.net == hots", 18, "hots is neither", "did you mean host?"),
        ("key == exec root", 13, "root is not expected here", '"exec root"'),
        ("pid == 3 AND pid == 4", 10, "AND is not expected here", "small letters"),
        ("pid = 3", 5, "= means nothing here", "equal is written =="),
        ("pid == 3 && pid == 4", 10, "& means nothing here", "write and"),
        ("key == and", 8, "and where a value is expected", 'quoted: "and"'),
        ("key == 'a", 8, "this quote is not closed", ""),
        (r'key == "\a"', 8, "this quote is not closed", "a backslash"),
        ("(pid == 3", 10, "the end where a ) is expected", "not closed"),
        ("pid == 3)", 9, ") is not expected here", "there is no ("),
        ("pid", 4, "the end where a comparison is expected", "== != <"),
        ("comm < 3", 6, "comm cannot be compared with <", "== != in not in ~ !~"),
        ("type < 3", 6, "type cannot be compared with <", "it has"),
        ("pid < x", 7, "x is no number", ""),
        ("uid < root", 7, "root is no number", "neither less nor more"),
        ("key ~ " + "x" * 257, 7, "a pattern of more than 256 characters", ""),
        ("key == \x1b", 8, "U+001B cannot be in a filter", ""),
        ("   ", 4, "an empty filter", "such as"),
    ],
)
def test_an_error_shows_its_place_and_what_to_do(text: str, at: int, reason: str, hint: str) -> None:
    with pytest.raises(FilterInvalid) as caught:
        compile_filter(text)
    error = caught.value
    assert error.exit_code == 2
    assert error.place == f"column {at}"
    assert error.reason.startswith(reason)
    assert hint in error.hint
    assert error.message.split("\n")[2].index("^") == at + 1


def test_the_place_in_several_lines() -> None:
    with pytest.raises(FilterInvalid) as caught:
        compile_filter("where == host\nand (pid == 3\n  or key = x)")
    assert caught.value.place == "line 3, column 10"
    assert caught.value.message.split("\n")[1:] == ["    or key = x)", "           ^"]


def test_a_long_line_is_shown_around_the_place() -> None:
    with pytest.raises(FilterInvalid) as caught:
        compile_filter("key in (" + ", ".join(["exec"] * 200) + ") and nonsense == 3 and pid == 4")
    line, caret = caught.value.message.split("\n")[1:]
    assert line[caret.index("^") :].startswith("nonsense == 3")
    assert len(line) <= 102


def test_a_filter_is_bounded() -> None:
    base = "key == exec"
    tree = parse(base)
    assert parse(base + " " * (LENGTH_MAX - len(base))) == tree
    for text in (base + " " * (LENGTH_MAX - len(base) + 1), "ä" * (LENGTH_MAX // 2 + 1), "(" * 10**6):
        with pytest.raises(FilterInvalid, match="more than 4096 bytes"):
            parse(text)
    for opening, closing in (("(", ")"), ("not ", ""), ("not (", ")")):
        most = DEPTH_MAX // (2 if opening == "not (" else 1)
        parse(opening * most + base + closing * most)
        with pytest.raises(FilterInvalid, match="within each other"):
            parse(opening * (most + 1) + base + closing * (most + 1))
    parse(" and ".join(["(not (pid == 3))"] * 100))  # depth is not the number of parentheses
