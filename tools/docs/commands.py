# SPDX-License-Identifier: Apache-2.0
"""The commands and their options, as the program's own parser declares them.

Owns reading argparse's declarations. Never a list of commands or options of its own.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILES: Final = {"FILE", "PATH", "DIRECTORY"}
"""The placeholders that stand for a file's name."""


class Argument(NamedTuple):
    """An option, or with no names an operand. `value` is "" where it takes none."""

    names: tuple[str, ...]
    value: str
    words: tuple[str, ...]
    """All the values there are, or () where anything goes."""
    many: bool
    required: bool
    help: str

    @property
    def files(self) -> bool:
        """Whether its value is a file's name."""
        return self.value in _FILES


class Command(NamedTuple):
    """One command, or the program itself (`name` "")."""

    name: str
    summary: str
    description: str
    epilog: str
    arguments: tuple[Argument, ...]

    @property
    def options(self) -> list[Argument]:
        """Those that have names."""
        return [argument for argument in self.arguments if argument.names]

    @property
    def own(self) -> list[Argument]:
        """Its options without --help, which all have."""
        return [option for option in self.options if "--help" not in option.names]

    @property
    def operands(self) -> list[Argument]:
        """Those that have none, in their order."""
        return [argument for argument in self.arguments if not argument.names]

    @property
    def synopsis(self) -> str:
        """How it is called."""
        words = ["audit-enricher", self.name, *(["[OPTION...]"] if self.own else [])]
        for operand in self.operands:
            shown = operand.value + ("..." if operand.many else "")
            words.append(shown if operand.required else f"[{shown}]")
        return " ".join(words)


def read() -> tuple[Command, list[Command]]:
    """Return the program's own options, and all commands in their order."""
    parser = main.parser()
    [below] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001
    summaries = {choice.dest: choice.help or "" for choice in below._choices_actions}  # noqa: SLF001
    return _command("", "", parser), [
        _command(name, summaries[name], command) for name, command in below.choices.items()
    ]


def _command(name: str, summary: str, parser: argparse.ArgumentParser) -> Command:
    return Command(name, summary, parser.description or "", parser.epilog or "", tuple(_arguments(parser)))


def _arguments(parser: argparse.ArgumentParser) -> Iterator[Argument]:
    formatter = parser._get_formatter()  # noqa: SLF001 - what --help itself does
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction) or action.help == argparse.SUPPRESS:  # noqa: SLF001
            continue
        shown = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        words = tuple(map(str, action.choices or ()))
        if not words and "|" in shown:  # the metavar of a setting that is a choice
            words = tuple(shown.split("|"))
        yield Argument(
            tuple(action.option_strings),
            "" if action.nargs == 0 else "|".join(words) or shown,
            words,
            many=action.nargs in {"+", "*"} or isinstance(action, argparse._AppendAction),  # noqa: SLF001
            required=action.required,
            help=formatter._expand_help(action) if action.help else "",  # noqa: SLF001
        )
