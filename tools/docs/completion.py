# SPDX-License-Identifier: Apache-2.0
"""Completion for bash and zsh.

Owns both scripts. They know commands, options, words and where a file's name is wanted, and start nothing.
Neither needs anything but its shell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from docs.commands import Argument, Command

_HEAD: Final = """\
# SPDX-License-Identifier: Apache-2.0
# Completion of audit-enricher(1). Written by tools/gen_docs.py; changes here are lost.
"""

_INDENT: Final = "    "

_BASH: Final = """
_audit_enricher()
{{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} command="" index
    COMPREPLY=()
    # bash takes --option=value apart: "--option" "=" "value".
    if [[ $word == = ]]; then
        word=""
    elif [[ $before == = ]]; then
        before=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    for ((index = 1; index < COMP_CWORD; index++)); do
        case ${{COMP_WORDS[index]}} in
            {commands})
                command=${{COMP_WORDS[index]}}
                break
                ;;
        esac
    done
    case "$command $before" in
{values}
    esac
    case "$command" in
{options}
    esac
}}

complete -F _audit_enricher audit-enricher
"""

_ZSH: Final = """
_audit_enricher()
{{
    local curcontext=$curcontext context state state_descr line
    typeset -A opt_args

    _arguments -C \\
{own}
        '1:command:->command' \\
        '*::argument:->argument'

    case $state in
        command)
            local -a commands=(
{commands}
            )
            _describe -t commands command commands
            ;;
        argument)
            case $words[1] in
{arguments}
            esac
            ;;
    esac
}}

_audit_enricher "$@"
"""


def bash(program: Command, commands: list[Command]) -> str:
    """Return the script for bash 4.4 or later."""
    values: dict[str, list[str]] = {}
    for command in commands:
        for option in command.options:
            if option.value:
                values.setdefault(_bash_values(option), []).extend(
                    f'"{command.name} {name}"' for name in option.names
                )
    names = [command.name for command in commands]
    text = _BASH.format(
        commands=" | ".join(names),
        values="\n".join(
            line
            for action, patterns in values.items()
            for line in _branch(" | ".join(patterns), *filter(None, [action]), "return")
        ),
        options="\n".join(line for command in (program, *commands) for line in _bash_command(command, names)),
    )
    return _HEAD + text


def _bash_values(argument: Argument) -> str:
    """Return what completes a value, "" where nothing does."""
    if argument.words:
        return _offer(argument.words)
    # Names of files are readline's own affair: it knows about blanks and ~.
    return "compopt -o default" if argument.files else ""


def _bash_command(command: Command, commands: list[str]) -> Iterator[str]:
    names = [name for option in command.options for name in option.names]
    lines = ["if [[ $word == -* ]]; then", _INDENT + _offer(names)]
    values = _bash_values(command.operands[0]) if command.operands else ""
    if not command.name:
        values = _offer(commands)
    if values:
        lines += ["else", _INDENT + values]
    yield from _branch(command.name or '""', *lines, "fi")


def _branch(pattern: str, *lines: str) -> Iterator[str]:
    yield f"{_INDENT * 2}{pattern})"
    yield from (f"{_INDENT * 3}{line}" for line in (*lines, ";;"))


def _offer(words: Iterable[str]) -> str:
    return f'mapfile -t COMPREPLY < <(compgen -W "{" ".join(words)}" -- "$word")'


def zsh(program: Command, commands: list[Command]) -> str:
    """Return the function for zsh's completion system."""
    arguments = []
    for command in commands:
        specs = [*map(_zsh_option, command.options), *_zsh_operands(command)]
        arguments.append(f"                {command.name})")
        arguments.append("                    _arguments \\")
        arguments += [f"                        {spec} \\" for spec in specs[:-1]]
        arguments += [f"                        {spec}" for spec in specs[-1:]]
        arguments.append("                    ;;")
    text = _ZSH.format(
        own="\n".join(f"        {_zsh_option(option)} \\" for option in program.options),
        commands="\n".join(
            f"                {_quoted(f'{command.name}:{command.summary}')}" for command in commands
        ),
        arguments="\n".join(arguments),
    )
    return "#compdef audit-enricher\n" + _HEAD + text


def _zsh_option(option: Argument) -> str:
    """Return the words for `_arguments`; with two names zsh itself makes two of the braces."""
    mark = "=" if option.value else ""
    what = f"[{_bracketed(option.help)}]" + (_zsh_value(option) if option.value else "")
    if len(option.names) == 1:
        many = "*" if option.many else ""
        long = mark if option.names[0].startswith("--") else ""
        return _quoted(f"{many}{option.names[0]}{long}{what}")
    names = ",".join(name + (mark if name.startswith("--") else "") for name in option.names)
    first = "'*'" if option.many else _quoted(f"({' '.join(option.names)})")
    return f"{first}{{{names}}}{_quoted(what)}"


def _zsh_operands(command: Command) -> Iterator[str]:
    for place, operand in enumerate(command.operands, 1):
        yield _quoted(("*" if operand.many else str(place)) + _zsh_value(operand))


def _zsh_value(argument: Argument) -> str:
    if argument.words:
        return f":value:({' '.join(argument.words)})"
    return f":{argument.value.lower()}:" + ("_files" if argument.files else " ")


def _bracketed(text: str) -> str:
    return "".join(f"\\{char}" if char in "[]:\\" else char for char in text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
