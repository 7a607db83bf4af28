# SPDX-License-Identifier: Apache-2.0
"""docs/schemas.md: what each schema carries, row by row, with where its meaning comes from; and what it does not.

Owns that file's words and its Markdown. Never a row of its own: the rows are those that map the events.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

from enricher.route.schemas import cef, ecs, kinds, ocsf, otlp
from enricher.route.schemas.seen import READINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from enricher.route.schemas.table import Row

_HEAD: Final = """\
<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Written by tools/gen_docs.py (`make docs`); changes here are lost. -->
# Schemas

A destination gets an event as the [native event](record-reference.md) or in the words of another schema. What
stands where is in the tables below, which are the ones that the program uses.

| name | what | what it does not carry |
|---|---|---|
| `native` | the native event, one JSON object | nothing is left out |
| `text` | [audit text](record-reference.md#audit-text): the kernel's own lines and ours | what the record reference says; `fields` and `redact` do not reach the kernel's bytes, so neither can be used with it |
| `msgpack` | the native event, packed | nothing is left out |
| `ecs` | Elastic Common Schema 9.4, one JSON document | nothing is left out; what ECS has no field for stands below `linux`, `auditd` and `audit_enricher` |
| `ocsf` | OCSF 1.8, one JSON object of one of eight classes | nothing is left out; what a class has no attribute for is in `unmapped`, or in `xattributes` of the process |
| `otlp` | one OTLP log record as JSON | nothing is left out: the body is the native event |
| `cef` | CEF version 0, one line | the records, and all that is not in its table: namespaces of the host, the pids in other namespaces, targets but for the first, `inside`, `cgroup`, `enrichment`, labels, chains. A value is cut after 1023 characters |

## Where a row takes its value

`subject.pid` is a member of the native event. `CWD.cwd` is a field of the first record of that type; `primary` is
the record that speaks for the event, `msg` the message of a program in it. Names in capitals are
[meanings](record-reference.md#meanings). A name that begins with `=` is read from several places:

| name | what it is |
|---|---|
"""  # noqa: E501 - rows of tables

_SELECTION: Final = """\
## Choosing and hiding members

A route can keep some members (`fields`) and hide some (`redact`). Both are lists of paths, and both are put to a
copy of the native event before a schema sees it, so that what is hidden is hidden in all of them.

| path | what it names |
|---|---|
| `subject.pid` | a member of the native event; in a list that of each entry |
| `namespaces.*.id` | `*` stands for every member of an object |
| `records.fields.exe` | a field in records of any type; `records.*.exe` is the same |
| `records.PATH.name` | a field in records of one type; `records.PATH` all of its fields |
| `records.USER_LOGIN.msg.acct` | a field that a program sent. `records.fields.acct` finds it as well |
| `records.raw` | the records' text |

A field's name is that of its bytes (`NAME_hex`) and of its meaning in capitals, too, in either case of letters.
`argv` is the command line in every form: `ARGV`, the arguments of EXECVE, `proctitle` of PROCTITLE. Hiding it in
one place is not enough where a path names one place only: `subject.comm` and `records.fields.comm` are two, and so
are `container.name` and `container.chain.name`.

The result is valid by the [schema](../enricher/schemas/audit-enricher-1.schema.json), which is closed. So, with
`fields`:

- `schema`, `time`, `id`, `uid`, `host`, `type`, `keys`, `where`, `records` and `enrichment` stay. Of `records` each
  keeps its `type`, and of its `fields` those that were asked for; `{}` says that none was, not that there were
  none.
- `where` keeps what it rests on: `container.id`, `cgroup.id`, `cgroup.path`; `namespaces` stays, with the kinds
  that were asked for. What an object is required to have stays with it (`namespaces.net.ino` with
  `namespaces.net.host`).
- `lost` and `notice` stay whole.

And with `redact`:

- A text becomes `[redacted]`, a list of texts a list of one such, in an object of any names each value. Its bytes in
  hex are left out.
- A number cannot say that it is hidden, nor can a word that the schema lists or a text of a certain form
  (`subject.start`): such a member is left out. So is a whole object that need not be there, as `subject`.
- In `records[].fields` texts become `[redacted]` at any depth and numbers are left out, so that a field's type does
  not change.
- The text of a record (`raw`) is hidden as soon as one of its fields may be; a record that could not be taken apart
  (`undecoded`) hides all of its fields then, since no name in it is sure.
- What the event would contradict itself without cannot be hidden, and to ask for it is an error: what identifies
  it, `where`, `enrichment` but for `enrichment.reason` and `enrichment.metadata`, `lost`, `notice` but for
  `notice.text`, and `container`, `cgroup` and `namespaces` as a whole.

A path that names nothing is an error with a hint.
"""

_KINDS: Final = """\
## Kinds of events

What a record beside the system call says (a login, a denial, a module) comes first, then the call, then the event's
type. An `open` that made its file is `create`. An access vector or AppArmor record that grants, and a SECCOMP
record that only logs, are no denials.

OCSF requires certain attributes of each class. An event for which they are not known is a Kernel Activity (1003,
activity 4) where there is a system call and somebody who made it, else an Event Log Activity (1008, activity 99).
Required are: a process that acted on a known host for 1007, 1001, 1002 and 1003; beside it whom a signal or trace
is for and the pid of a fork's child for 1007, the file's name for 1001, the module's for 1002; an address for 4001;
an account for 3001 and 3002, and for 3002 who let it in.

| kind | ECS category | ECS type | OCSF class, activity | severity | system calls, or record types |
|---|---|---|---|---|---|
"""

_ECS: Final = """\
`event.original` is there where `raw` is asked for, and not otherwise. `process.start` is not: the kernel counts
from the boot, and ECS wants a date; `linux.start` has the number. In Elasticsearch `auditd.records` should be
mapped as `flattened`: which fields records have is the kernel's matter, and there are hundreds."""

_OCSF: Final = """\
Every class has the first rows, and those of its own. `raw_data` is there where `raw` is asked for. A process
without a pid is no process to OCSF: its `xattributes` are then in `unmapped`. Times since the boot
(`subject.start`) are in `xattributes.subject`, since `created_time` is a date."""

_OTLP: Final = """\
A sender puts the records of one host into `resourceLogs` with the resource below and the scope `audit-enricher`. An
event of another host, as in a replayed log, has `host.name` and `host.id` among its own attributes. Numbers of 64
bits are strings, as OTLP's JSON wants them."""

_CEF: Final = """\
In the header `\\` and `|` have a `\\` before them; in a value `\\` and `=`, and a line end is `\\n` or `\\r`. Any
other control character, and the separators U+2028 and U+2029, become U+FFFD. So a name with `|` or `=` in it ends
no field. Each custom key has its label.

| key | label |
|---|---|
"""


def markdown() -> str:
    """Return the file."""
    lines = [_HEAD.rstrip("\n")]
    lines += [f"| `={name}` | {what} |" for name, what in READINGS.items()]
    lines += ["", _SELECTION, _KINDS.rstrip("\n"), *map(_kind, kinds.KINDS), ""]
    lines += ["## ECS", "", _ECS, *_rows(ecs.FIXED, ecs.ROWS), ""]
    lines += ["## OCSF", "", _OCSF, *_rows(ocsf.FIXED, ocsf.BASE), ""]
    for uid, rows in ocsf.CLASSES.items():
        if rows:
            lines += [f"### {uid} {ocsf.NAMES[uid]}", "", *_rows((), rows), ""]
    lines += ["## OTLP", "", _OTLP, *_rows(otlp.FIXED, otlp.ROWS), ""]
    lines += ["### The resource", "", *_rows(otlp.RESOURCE_FIXED, otlp.RESOURCE_TABLE.rows, "host."), ""]
    lines += [
        "## CEF",
        "",
        _CEF.rstrip("\n"),
        *(f"| `{key}` | `{label}` |" for key, label in cef.LABELS.items()),
    ]
    lines += ["", *_rows(cef.FIXED, cef.ROWS), ""]
    return "\n".join(lines)


def _rows(fixed: Iterable[tuple[str, str, str]], rows: Iterable[Row], above: str = "") -> Iterator[str]:
    yield "| target | value | source of the mapping |"
    yield "|---|---|---|"
    yield from (f"| {_code(target)} | {value} | {meaning} |" for target, value, meaning in fixed)
    yield from (f"| `{row.target}` | `{above}{row.source}` | {row.meaning} |" for row in rows)


def _code(target: str) -> str:
    return target if target[0].isupper() else ", ".join(f"`{name}`" for name in target.split(", "))


def _kind(kind: kinds.Kind) -> str:
    named = chain(kinds.CALLS_OF.get(kind.name, "").split(), kinds.TYPES_OF.get(kind.name, "").split())
    what = " ".join(named) or ("any other system call" if kind.name == "call" else "any other")
    cells = (
        kind.name,
        " ".join(kind.category) or "none",
        " ".join(kind.types),
        f"{kind.class_uid}, {kind.activity}",
        kind.severity.ocsf_name,
        what,
    )
    return "| " + " | ".join(cells) + " |"
