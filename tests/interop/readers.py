# SPDX-License-Identifier: Apache-2.0
"""What ausearch, auparse and LAUREL make of a log: for each the same shape, so that two logs can be compared.

Owns running the tools and reading their output back. Never decides what is right.

An event is its id and its records as the tool shows them; a record is a text that says its type and all its
values. Records of our own numbers are told apart by what the tool calls their type.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.interop.tools import build_reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.interop.tools import Root

_OWN: Final = re.compile(r"(?:R |(?:node=\S+ )?type=UNKNOWN\[|UNKNOWN\[)139[0-8]\b")
_RAW_ID: Final = re.compile(r"msg=audit\(([^)]*)\)")
_DUMP: Final = Path(__file__).with_name("auparse_dump.c")

_LAUREL: Final = """\
directory = "{directory}"
[auditlog]
file = "audit.log"
size = 10000000000
generations = 1
[enrich]
pid = false
container = false
script = false
execve-env = []
"""
"""Nothing is looked up on this machine: what runs here by chance would be in one result and not in the other."""


class Seen(NamedTuple):
    """One event as a tool shows it, its records in the tool's order."""

    id: str
    records: tuple[str, ...]

    @property
    def kernel(self) -> Seen:
        """The same without our records."""
        return Seen(self.id, tuple(record for record in self.records if not _OWN.match(record)))

    @property
    def ours(self) -> tuple[str, ...]:
        """Our records."""
        return tuple(record for record in self.records if _OWN.match(record))


class Reader(NamedTuple):
    """One tool of one release."""

    name: str
    read: Callable[[Path], list[Seen]]


def kernel_only(events: list[Seen]) -> Counter[Seen]:
    """The events that hold kernel records, without ours; how often each is there."""
    return Counter(kernel for event in events if (kernel := event.kernel).records)


def _ausearch(root: Root, *options: str) -> Callable[[Path], list[Seen]]:
    program = root.file("sbin/ausearch")

    def read(log: Path) -> list[Seen]:
        shown = root.run(program, "-if", log, *options, may_return=(0, 1)).decode("utf-8", "surrogateescape")
        events = []
        for part in shown.split("----\n")[1:]:
            lines = [line for line in part.split("\n") if line and not line.startswith("time->")]
            found = _RAW_ID.search(part)
            events.append(Seen(found[1] if found else "", tuple(lines)))
        return events

    return read


def _auparse(root: Root, program: Path, how: str) -> Callable[[Path], list[Seen]]:
    def read(log: Path) -> list[Seen]:
        dump = root.run(program, how, log).decode("ascii").removeprefix("E ").removesuffix("\n")
        events = []
        for part in dump.split("\nE ") if dump else ():
            ident, *records = part.split("\nR ")
            events.append(Seen(ident, tuple(f"R {record}" for record in records)))
        return events

    return read


def _laurel(root: Root, scratch: Path) -> Callable[[Path], list[Seen]]:
    program = root.file("sbin/laurel")

    def read(log: Path) -> list[Seen]:
        directory = Path(tempfile.mkdtemp(prefix=f"laurel-{root.release}-", dir=scratch))
        config = directory / "laurel.toml"
        config.write_text(_LAUREL.format(directory=directory))
        root.run(program, "-c", config, stdin=log)
        events = []
        for line in (directory / "audit.log").read_text().splitlines():
            event = json.loads(line)
            ident = event.pop("ID")
            # It forgets processes that do not live on this machine, at moments that it takes from any line's time.
            event.get("SYSCALL", {}).pop("SPAWNED_BY", None)
            records = (
                f"{name} {json.dumps(entry, sort_keys=True)}"
                for name, value in event.items()
                for entry in (value if isinstance(value, list) else [value])
            )
            events.append(Seen(ident, tuple(records)))
        return events

    return read


def readers(root: Root, scratch: Path) -> list[Reader]:
    """All tools of one release."""
    program = build_reader(_DUMP, root, scratch)
    release = root.release
    return [
        Reader(f"ausearch/{release}", _ausearch(root)),
        Reader(f"ausearch-i/{release}", _ausearch(root, "-i")),
        Reader(f"auparse-file/{release}", _auparse(root, program, "file")),
        Reader(f"auparse-feed/{release}", _auparse(root, program, "feed")),
        Reader(f"laurel/{release}", _laurel(root, scratch)),
    ]
