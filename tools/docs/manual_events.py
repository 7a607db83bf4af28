# SPDX-License-Identifier: Apache-2.0
"""audit-enricher-events(7): what an event looks like, from the published schema.

Owns the prose and which parts of the schema are shown: the members of an event and of those that audit-enricher
makes itself. Never describes a member in words of its own.
"""

from __future__ import annotations

import json
from typing import Any, Final

from docs.markup import items
from docs.roff import Page
from enricher.cli.schema import published

_TEXT: Final = """\
# DESCRIPTION

All audit records with one stamp `SEC.MS:SERIAL` become one event, written as one line of JSON. Shortened, and broken
into lines:

    {"schema": "audit-enricher/1", "time": "2026-11-24T01:55:16.401Z",
     "id": "1795485316.401:136", "uid": "BOOT_ID/1795485316.401:136",
     "host": {"name": "guest", ...}, "type": "SYSCALL", "keys": ["demo-exec"],
     "outcome": "success",
     "subject": {"pid": 567, "comm": "cat", "exe": "/bin/busybox",
                 "pids": [{"ns": 4026531836, "pid": 567},
                          {"ns": 4026532332, "pid": 2}], ...},
     "namespaces": {"mnt": {"ino": 4026532329, "host": false}, ...},
     "where": "unknown", "cgroup": {"id": "1665"},
     "records": [{"type": "SYSCALL",
                  "fields": {"syscall": 59, "SYSCALL": "execve", ...}},
                 {"type": "EXECVE",
                  "fields": {"argc": 2, "ARGV": ["cat", "/etc/shadow"]}}, ...],
     "enrichment": {"context": "kernel", "container": "none", "complete": true}}

`audit-enricher schema` prints the JSON Schema (draft 2020-12) with a description of every member; this page has those
of the first level. Members may be added, so a consumer should ignore those it does not know. None is removed and none
changes its meaning without another name in `schema`.

What is not known is absent. It is never null and never guessed, and `enrichment.reason` says what is missing and why.
Namespace ids, cgroup ids and start times are strings of digits, because many consumers damage large numbers.

# MEMBERS

@members@

# RECORDS

A record has its `type` and its `fields`, by the kernel's names. Text that the kernel wrote in hex is decoded. Beside a
field stands, in capitals, what its value means where that says more: `SYSCALL` beside `syscall`, a user's name in
`AUID` beside `auid`, arguments in `ARGV`.

Where bytes are not UTF-8 the text has U+FFFD, and a sibling `NAME_hex` has all of them.

# LOST

A loss goes to the output as an event of its own, for each cause whose figure has grown, and passes every filter. Its
`id` has serial 0 and `records` is empty. In audit text it is a line of type `UNKNOWN[1394]`. The member `lost` has:

@lost@

# NOTICE

What a reader of the events has to know about audit-enricher itself comes the same way, and passes every filter too. In
audit text it is a line of type `UNKNOWN[1398]`. The member `notice` has:

@notice@

# AUDIT TEXT

With `format = "text"` an event is the kernel's own lines and beside them one line of type `UNKNOWN[1390]` (NS_INFO)
with what was added. ausearch(8) and other readers of audit logs take it for one more record of the event.

# EXAMPLES

System calls of tasks in a mount namespace other than the host's:

    jq 'select(.type == "SYSCALL" and .namespaces.mnt.host == false)' events.json

What was lost, and when nobody looked:

    jq 'select(.type == "LOST" or .notice.kind == "gap")' events.json

# SEE ALSO

audit-enricher(1), audit-enricher.toml(5), audit-enricher-service(8), ausearch(8)

The full reference of every member and every text is record-reference.md in the package's documentation.
"""


def events_page() -> Page:
    """Return the page."""
    schema = json.loads(published())
    members = schema["properties"]
    text = _TEXT
    for name, table in {
        "members": members,
        "lost": members["lost"]["properties"],
        "notice": members["notice"]["properties"],
    }.items():
        rows = ((f"`{member}`", _described(schema, about)) for member, about in table.items())
        text = text.replace(f"@{name}@", items(rows))
    return Page("audit-enricher-events", 7, "events that audit-enricher writes", text)


def _described(schema: dict[str, Any], member: dict[str, Any]) -> str:
    if "description" not in member:
        member = schema["$defs"][member["$ref"].removeprefix("#/$defs/")]
    words: list[str] = member.get("enum", [])
    said = f"{member['description']} One of {', '.join(f'`{word}`' for word in words)}." if words else ""
    return said or str(member["description"])
