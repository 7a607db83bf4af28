# SPDX-License-Identifier: Apache-2.0
"""docs/filters.md says what the code does: examples compile, the table of members is the code's, figures are right."""

from __future__ import annotations

import re
import tomllib

import pytest

from enricher.cli import main
from enricher.errors import UsageError
from enricher.route.expression import GLOB_MAX, compile_filter
from enricher.route.language import DEPTH_MAX, KEYWORDS, LENGTH_MAX, OPERATORS, parse, unparse
from enricher.route.members import MEMBERS
from tests.lint.tree import ROOT

TEXT = (ROOT / "docs" / "filters.md").read_text()
EXAMPLES = TEXT.partition("```filter\n")[2].partition("```")[0].splitlines()
OPTIONS = re.findall(r"--filter '([^']+)'", TEXT)
# What is said in the text as code and is a whole filter.
INLINE = [
    code for code in re.findall(r"`([^`\n]+)`", TEXT) if re.search(r"^[a-z]\S* (==|!=|~|in) |^has ", code)
]


def table(heading: str) -> list[list[str]]:
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [row for row in section.splitlines() if row.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


@pytest.mark.parametrize("text", [*EXAMPLES, *OPTIONS, *INLINE])
def test_examples_compile(text: str) -> None:
    compile_filter(text)
    assert parse(unparse(parse(text))) == parse(text)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 15
    assert len(OPTIONS) == 3
    assert len(INLINE) >= 6


def test_the_settings_example() -> None:
    text = TEXT.partition("```toml\n")[2].partition("```")[0]
    compile_filter(tomllib.loads(text)["output"]["filter"])


def test_the_error_shown_is_the_error() -> None:
    with pytest.raises(UsageError) as caught:
        compile_filter("where == container and contianer.name == web")
    shown = f"audit-enricher: {caught.value.message}\n  hint: {caught.value.hint}".replace("\n", "\n    ")
    assert f"    {shown}\n" in TEXT


def test_the_table_of_members_is_the_codes() -> None:
    *rows, label = table("Members")
    assert rows == [[f"`{name}`", row.kind.what, row.doc] for name, row in MEMBERS.items()]
    assert label[:2] == ["`label.NAME`", "text"]


def test_every_operator_is_there() -> None:
    named = [name for row in table("Operators") for name in re.findall(r"`([^`]+)`", row[0])]
    assert set(named) == {*OPERATORS, "has"}
    assert len(named) == len(set(named))


def test_the_bounds_are_the_codes() -> None:
    text = TEXT.replace("\n", " ")
    assert f"at most {LENGTH_MAX} bytes, {DEPTH_MAX} parentheses" in text
    assert f"{GLOB_MAX} characters in a pattern" in text
    assert all(f"`{word}`" in text for word in KEYWORDS)


def test_the_example_of_the_options_help_compiles() -> None:
    for command in ("run", "replay", "follow"):
        parser = main.parser(command)
        help_text = parser._subparsers._group_actions[0].choices[command].format_help()  # type: ignore[union-attr, index]
        said = " ".join(help_text.split())
        compile_filter(re.findall(r"such as '([^']+)', and those", said)[0])
