# SPDX-License-Identifier: Apache-2.0
"""The documentation says what is there: targets, exit codes, links, the example."""

from __future__ import annotations

import argparse
import os
import re
import subprocess

from enricher import errors
from tests import readme, schema
from tests.lint.tree import ROOT, files, relative

OPERATIONS = ROOT / "docs" / "operations.md"
README = ROOT / "README.md"


def make_help() -> str:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    done = subprocess.run(
        ["make", "--no-print-directory"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def phony_targets() -> set[str]:
    declared = re.findall(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return {name for line in declared for name in line.split()}


def leaves(cls: type[errors.EnricherError]) -> set[type[errors.EnricherError]]:
    children = [child for child in cls.__subclasses__() if child.__module__ == errors.__name__]
    return {leaf for child in children for leaf in leaves(child)} or {cls}


def documented_codes() -> dict[int, str]:
    """Return the rows `| CODE | ... |` of the table under "Exit codes"."""
    section = OPERATIONS.read_text().partition("## Exit codes\n")[2].partition("\n## ")[0]
    return {int(code): rest for code, rest in re.findall(r"^\| (\d+) \|(.*)$", section, re.MULTILINE)}


def options(parser: argparse.ArgumentParser) -> set[str]:
    """Return the long options of a command and of its subcommands."""
    found = set()
    for action in parser._actions:
        found |= {name for name in action.option_strings if name.startswith("--")}
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found |= options(command)
    return found


def test_make_lists_every_target() -> None:
    listed = set(re.findall(r"^  (\S+) +\S", make_help(), re.MULTILINE))
    assert listed == phony_targets()


def test_every_target_that_is_written_about_exists() -> None:
    targets = phony_targets()
    texts = [path for path in files(".md") if relative(path) != "CHANGELOG.md"]
    named = {
        (relative(path), name) for path in texts for name in re.findall(r"`make ([\w.-]+)", path.read_text())
    }
    assert {(path, name) for path, name in named if name not in targets} == set()


def test_the_readme_has_the_two_commands() -> None:
    text = README.read_text()
    assert "make demo" in text
    assert "make test" in text


def test_the_readmes_event_is_one_of_this_schema() -> None:
    """That it has all that such an event has now is seen where one is made: tests/demo."""
    event = readme.event()
    schema.validate(event)
    assert readme.life_is_missing(event) == []


def test_every_option_is_documented_and_no_other() -> None:
    from enricher.cli import main

    section = OPERATIONS.read_text().partition("## Options\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(--[a-z-]+)`", section)) == options(main.parser())


def test_every_row_of_doctor_is_documented_and_no_other() -> None:
    from enricher.runtime.doctor import NAMES

    section = OPERATIONS.read_text().partition("\n## doctor\n")[2].partition("\n## ")[0]
    table = section.partition("| rows | what they tell |\n")[2].partition("\n\n")[0]
    first = [line.split("|")[1] for line in table.splitlines()]
    assert [name for cell in first for name in re.findall(r"`([a-z-]+)`", cell)] == list(NAMES)


def test_every_exit_code_is_documented_and_no_other() -> None:
    from enricher.cli import doctor

    raised = {cls.exit_code for cls in leaves(errors.EnricherError)}
    assert set(documented_codes()) == raised | {0, 1} | set(doctor.EXIT_CODES.values())


def test_every_cause_is_named_beside_its_code() -> None:
    rows = documented_codes()
    missing = [
        cls.__name__ for cls in leaves(errors.EnricherError) if f"`{cls.__name__}`" not in rows[cls.exit_code]
    ]
    assert not missing


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = dict(re.findall(r"^ +(\w+) +(\d+)", errors.__doc__ or "", re.MULTILINE))
    real = {cls.__name__: str(cls.exit_code) for cls in leaves(errors.EnricherError)}
    assert {name: drawn.get(name) for name in real} == real


def test_no_link_is_broken() -> None:
    links = [
        (path, target)
        for path in files(".md")
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
        if "://" not in target
    ]
    assert links
    assert [
        f"{relative(path)}: {target}" for path, target in links if not (path.parent / target).exists()
    ] == []
