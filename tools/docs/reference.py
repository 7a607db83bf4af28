# SPDX-License-Identifier: Apache-2.0
"""docs/configuration.md: every setting, how it is read, and what `check` says.

Owns that file's words and its Markdown. Never a list of settings of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from docs import settings
from docs.markup import sentence
from enricher.config.settings import DIRECTORY, FILE, SECTIONS, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docs.commands import Command
    from enricher.config.options import Row
    from enricher.config.settings import Setting

_HEAD: Final = f"""\
<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Written by tools/gen_docs.py (`make docs`); changes here are lost. -->
# Configuration

The service is configured in `{FILE}`, in [TOML](https://toml.io). Without
any file every setting has its default. [The sample](../packaging/audit-enricher.toml) has all of them, commented
out. The same is in `man audit-enricher.toml`.

## What is read, and what wins

From the weakest to the strongest:

1. the default;
2. `{FILE}`. It may be missing; a file that is named with `--config` may not;
3. `config.d/*.toml` beside that file, in the order of their names: `{DIRECTORY}/config.d/10-site.toml` before
   `20-host.toml`;
4. environment variables: `AUDIT_ENRICHER_` and the setting's name in capitals, with an underscore for the dot;
5. the options of a command that has an option for the setting.

The last one that gives a setting wins with its whole value: a list replaces a list, it does not add to it. A
name that is not known, in a file or in a variable that begins with `AUDIT_ENRICHER_`, is an error, and so is a
value that is not of its kind. Nothing is guessed and nothing left out: with an error the service does not start,
and on a reload it keeps the settings it has.

`systemctl reload audit-enricher` (SIGHUP) reads everything again. A new value of a setting that takes effect
on a reload is used from the next event on; a new value of any other waits for a restart.

## How values are written

| kind | in a file | in a variable |
|---|---|---|
"""

_CHECK: Final = """\
## What check says

    audit-enricher check [--config FILE] [--show]

reads what the service would read and starts nothing. It needs no privilege but to read the files. Beyond what
reading tells it knows the names of record types. Each problem is a line `FILE:LINE: what is wrong`, with a hint
below it, on standard error, and the exit code is 2. Of this file

```toml
{file}```

it says

```text
{said}
```

A file that is no TOML is reported at its first mistake, and nothing of it is used:

```text
{syntax}
```

A problem in a variable has the variable's name where a file's has `FILE:LINE`. A line with `warning:` is about
something that this host lacks now and may have when the service starts: the directory of `output.path`, the
group `control.group`, files and directories of destinations, and a unit that lets them reach the network. It does not
change the exit code.

Without a problem the exit code is 0 and standard output has the files that were read. With `--show` it also has
every setting as it takes effect, as TOML that would come to the same, with its origin behind it:

```toml
{shown}
...
```
"""


def markdown(commands: list[Command]) -> str:
    """Return the file."""
    lines = [_HEAD.rstrip("\n")]
    lines += [f"| {what} | {_cell(file)} | {_cell(variable)} |" for what, file, variable in settings.kinds()]
    lines += ["", "## Settings", ""]
    for section, doc in SECTIONS.items():
        lines += [f"### [{section}]", "", sentence(doc), ""]
        for row in SETTINGS:
            if row.section == section:
                lines += [*_setting(row, commands), ""]
    lines += _sinks()
    file, said = settings.mistakes()
    lines.append(
        _CHECK.format(file=file, said=said, syntax=settings.syntax_error(), shown=settings.shown_example())
    )
    return "\n".join(lines)


_SINKS: Final = """\
### [sinks.NAME]

Destinations that events are delivered to beside the output, each in a table with a name of its own; {most} at most.
A name is 1 to 32 letters, digits, `-` and `_`. [Delivery](delivery.md) says what is promised, and has a whole example.
A table in a later file gives its keys to the one of the same name before. Tables stand in files alone: no variable and
no option reaches into one. All of them take effect on a reload: what did not change is not touched.

These keys are those of every type:
"""


def _sinks() -> Iterator[str]:
    yield from _SINKS.format(most=settings.MOST_SINKS).splitlines()
    yield ""
    yield from _table(settings.common_rows())
    yield ""
    yield "| type | schemas, the default first | its keys |"
    yield "|---|---|---|"
    for name, kind in settings.sink_types():
        page = name.replace("_", "-")
        yield f"| `{name}` | {settings.listed(kind.schemas)} | [its page](sinks/{page}.md) |"
    yield ""
    for name, kind in settings.sink_types():
        yield f'##### type = "{name}"'
        yield ""
        yield from _table(settings.own_rows(kind))
        yield ""


def _table(rows: list[Row]) -> Iterator[str]:
    yield "| key | kind | default | meaning |"
    yield "|---|---|---|---|"
    for row in rows:
        shown = f"`{_cell(row.shown)}`" if row.shown else "needed"
        yield f"| `{row.key}` | {_cell(row.kind.what)} | {shown} | {_cell(row.doc)} |"


def _setting(row: Setting[Any], commands: list[Command]) -> Iterator[str]:
    yield f"#### {row.name}"
    yield ""
    yield sentence(row.doc)
    yield ""
    used = settings.used_by(row, commands)
    option = f"`{row.option}` of {settings.listed(used)}" if used else "none"
    yield "| kind | default | variable | option | a new value takes effect |"
    yield "|---|---|---|---|---|"
    yield (
        f"| {_cell(row.kind.what)} | `{_cell(row.kind.show(row.default))}` | `{row.variable}` | {option} |"
        f" {settings.effect(row)} |"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
