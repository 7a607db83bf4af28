# SPDX-License-Identifier: Apache-2.0
"""audit-enricher(1) and audit-enricher.toml(5): what the parser and the settings' rows say, in pages.

Owns the prose around it. Never a list of commands, options or settings of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from docs import settings
from docs.markup import from_help, items, literal, sentence
from docs.roff import Page
from enricher.cli.main import EXIT_CODES
from enricher.config.settings import DIRECTORY, FILE, OUTPUT_PATH, SECTIONS, SETTINGS, SOCKET

if TYPE_CHECKING:
    from collections.abc import Iterable

    from docs.commands import Argument, Command
    from enricher.config.options import Row
    from enricher.config.settings import Setting

_COMMAND: Final = """\
# SYNOPSIS

{synopsis}

# DESCRIPTION

Linux audit tells what happened and who did it, by pid and uid. It does not tell where: a record from a container
looks like one from the host. `audit-enricher` sees every audit record at the moment the kernel finishes it, notes the
namespaces and the cgroup of the task that acted, joins that with the audit stream, and writes events that carry both.
It runs beside auditd(8), loads no audit rule and changes no setting of audit: what is recorded is up to the host's
rules, see auditctl(8).

On a host it runs as a service, see audit-enricher-service(8). By hand it is for trying it in a terminal, for finding
out whether a host has what it needs, and for logs that exist already.

Events go to standard output, what a command says about itself goes to standard error. Events are described in
audit-enricher-events(7).

# OPTIONS

Every command has `--help` too.

{options}

# COMMANDS

{commands}

# EXIT STATUS

{exit_status}

# ENVIRONMENT

Every setting has a variable that begins with `AUDIT_ENRICHER_`; see audit-enricher.toml(5).

`NO_COLOR`
: If it is set and not empty, nothing is coloured.

# FILES

{files}

# EXAMPLES

Whether this host can run it, and what would be lost:

    audit-enricher doctor

What happens, for five minutes:

    audit-enricher run --for 5m

Mounts only, one JSON object a line:

    audit-enricher run --format json --key mounts --output mounts.json

Logins in existing logs:

    audit-enricher replay --type USER_LOGIN /var/log/audit

The containers of what auditd wrote last week, with the journal of the service:

    audit-enricher replay --journal /var/lib/audit-enricher/journal.sqlite /var/log/audit

Whether a change of the configuration is right, before the service is told of it:

    audit-enricher check && systemctl reload audit-enricher

# SEE ALSO

audit-enricher.toml(5), audit-enricher-events(7), audit-enricher-service(8), auditctl(8), auditd(8), ausearch(8)
"""

_SETTINGS: Final = f"""\
# SYNOPSIS

    {FILE}
    {DIRECTORY}/config.d/*.toml

# DESCRIPTION

The files are in TOML: settings are lines `key = value` below the `[section]` they belong to, and text stands in quotes.
Without any file every setting has its default.

The main file is read first and may be missing. Then the files of `config.d` beside it are read in the order of their
names, then environment variables. The last one that gives a setting wins with its whole value: a list replaces a list.
The options of a command win over all of them.

The variable of a setting is `AUDIT_ENRICHER_` and the setting's name in capitals, with an underscore for the dot.

A name that is not known and a value that is not of its kind are errors, and so is a variable that begins with
`AUDIT_ENRICHER_` and is no setting's. With an error the service does not start, and on a reload it keeps the settings
it has. `audit-enricher check` says what is wrong, with file, line and a hint, and with `--show` where each value comes
from.

`systemctl reload audit-enricher` reads everything again. Whether a setting then takes effect is said with each of them.

# VALUES

{{kinds}}

{{settings}}

# EXAMPLES

Larger files and fewer of them, in `{DIRECTORY}/config.d/10-site.toml`:

    [output]
    rotate_size = "256M"
    rotate_keep = 4

The same by variables, in a drop-in of the unit:

    [Service]
    Environment=AUDIT_ENRICHER_OUTPUT_ROTATE_SIZE=256M
    Environment=AUDIT_ENRICHER_OUTPUT_ROTATE_KEEP=4

# SEE ALSO

audit-enricher(1), audit-enricher-events(7), audit-enricher-service(8), systemd.unit(5)
"""


def exit_status() -> str:
    """Return the exit codes, as `--help` has them."""
    _, _, codes = from_help(EXIT_CODES).partition("\n\n")
    return codes


def command_page(program: Command, commands: list[Command]) -> Page:
    """Return audit-enricher(1)."""
    synopsis = [*(command.synopsis for command in commands), "audit-enricher --help | --version"]
    return Page(
        "audit-enricher",
        1,
        "audit records with the namespaces of the task that acted",
        _COMMAND.format(
            synopsis=literal("\n".join(synopsis)),
            options=_options(program.options),
            commands="\n\n".join(map(_command, commands)),
            exit_status=exit_status(),
            files=_files(),
        ),
    )


def _command(command: Command) -> str:
    operands = items((operand.value, sentence(operand.help)) for operand in command.operands)
    parts = (
        f"## audit-enricher {command.name}",
        from_help(command.description),
        operands,
        _options(command.own),
        from_help(command.epilog),
    )
    return "\n\n".join(part for part in parts if part)


def _options(options: Iterable[Argument]) -> str:
    return items((_names(option), sentence(option.help)) for option in options)


def _names(option: Argument) -> str:
    value = f" `{option.value}`" if option.words else f" {option.value}" if option.value else ""
    return ", ".join(f"`{name}`" for name in option.names) + value


def _files() -> str:
    return items(
        [
            (f"`{FILE}`", "The settings; see audit-enricher.toml(5)."),
            (f"`{DIRECTORY}/config.d/*.toml`", "More of them, which win over the file's."),
            (f"`{OUTPUT_PATH.default}`", "The events of the service."),
            (f"`{SOCKET.default}`", "The service's control socket."),
        ]
    )


def settings_page(commands: list[Command]) -> Page:
    """Return audit-enricher.toml(5)."""
    kinds = (
        (what, f"In a file {file}. In a variable {variable}.") for what, file, variable in settings.kinds()
    )
    return Page(
        "audit-enricher.toml",
        5,
        "settings of the audit-enricher service",
        _SETTINGS.format(
            kinds=items(kinds),
            settings="\n\n".join(
                [*(_section(name, doc, commands) for name, doc in SECTIONS.items()), _sinks_section()]
            ),
        ),
    )


def _section(section: str, doc: str, commands: list[Command]) -> str:
    rows = (row for row in SETTINGS if row.section == section)
    shown = items((f"`{row.key} = {row.kind.show(row.default)}`", _setting(row, commands)) for row in rows)
    return f"# [{section}]\n\n{sentence(doc)}\n\n{shown}"


_SINKS: Final = """\
# [sinks.NAME]

Destinations that events are delivered to beside the output, each in a table with a name of its own: 1 to 32 letters,
digits, `-` and `_`; {most} at most. A table in a later file gives its keys to the one of the same name before. Tables
stand in files alone: no variable and no option reaches into one. All of them take effect on a reload.

{common}
"""


def _sinks_section() -> str:
    parts = [_SINKS.format(most=settings.MOST_SINKS, common=_keys(settings.common_rows()))]
    for name, kind in settings.sink_types():
        parts.append(
            f"# [sinks.NAME] of type {name}\n\nSchemas, the default first: {settings.listed(kind.schemas)}.\n\n"
            f"{_keys(settings.own_rows(kind))}"
        )
    return "\n\n".join(parts)


def _keys(rows: list[Row]) -> str:
    return items(
        (f"`{row.key} = {row.shown}`" if row.shown else f"`{row.key}`", _option(row)) for row in rows
    )


def _option(row: Row) -> str:
    given = "" if row.shown else " It has to be given."
    return f"{sentence(row.doc)} The value is {row.kind.what}.{given}"


def _setting(row: Setting[Any], commands: list[Command]) -> str:
    parts = [
        sentence(row.doc),
        f"The value is {row.kind.what}.",
        f"A new one takes effect {settings.effect(row)}.",
        f"Variable: `{row.variable}`.",
    ]
    if used := settings.used_by(row, commands):
        parts.append(f"Option: `{row.option}` of {settings.listed(used)}.")
    return " ".join(parts)
