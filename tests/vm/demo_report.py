# SPDX-License-Identifier: Apache-2.0
"""What the demo says at its end about the events in its JSON file. Pure: events in, text out.

Never changes an event and never claims more than the events say: a place is a set of namespaces, and whether
it is a container is for the reader to conclude.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from enricher.enrich.describe import command, path, result, told
from enricher.route.views.table import cut, escape, place_of
from tests.suites.live import mismatches, truth_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from enricher.enrich.shape import Fields, NativeEvent
    from tests.suites import live

__all__ = [
    "Place",
    "apart",
    "compared",
    "differences",
    "label_of_pid",
    "openers",
    "parse",
    "place_line",
    "places",
    "sample",
    "shortened",
]

_WIDTH: Final = 100
_HOST: Final = "host"
_OWN: Final = re.compile(r" (?:LOST|NOTICE)\b")
_ROW: Final = re.compile(r"(?:\x1b\[[0-9;]*m)*([0-9:.]+) ")
_SUBJECT: Final = ("pid", "ppid", "comm", "exe", "pids", "auid", "uid")
_FIELDS: Final = (
    "syscall",
    "success",
    "exit",
    "pid",
    "uid",
    "comm",
    "exe",
    "key",
    "name",
    "inode",
    "nametype",
)

Json = str | int | bool | list["Json"] | dict[str, "Json"]


class Place(NamedTuple):
    """The events of one set of namespaces: how many, and which programs were started or seen there."""

    label: str
    kinds: str
    events: int
    programs: list[str]


def parse(lines: bytes) -> list[NativeEvent]:
    """Read the events of a JSON file."""
    return [cast("NativeEvent", json.loads(line)) for line in lines.splitlines()]


def apart(events: Sequence[NativeEvent]) -> tuple[list[NativeEvent], list[str]]:
    """The events that a rule's key chose, and in words what the run says of itself: it may have lost something."""
    chosen = [event for event in events if event["keys"]]
    return chosen, [f"{event['type']} {told(event)}" for event in events if not event["keys"]]


def differences(rows: Iterable[str], events: Iterable[NativeEvent]) -> list[str]:
    """Compare the table's rows with the file's events, by their time: a sentence for each that only one of them has.

    Rows of what the table's run says of itself are left out, as `apart` does.
    """
    rows_at: dict[str, str] = {}
    shown, written = Counter[str](), Counter[str]()
    for row in rows:
        if _OWN.search(row):
            continue
        time = found[1] if (found := _ROW.match(row)) else ""
        shown[time] += 1
        rows_at[time] = row
    # A narrow table has no milliseconds.
    digits = max(map(len, rows_at), default=0)
    said: dict[str, NativeEvent] = {}
    for event in events:
        time = event["time"].partition("T")[2][:digits]
        written[time] += 1
        said[time] = event
    return [f"only the table has: {rows_at[time]}" for time in sorted(shown - written)] + [
        f"only the file has: {json.dumps(said[time])}" for time in sorted(written - shown)
    ]


def places(events: Iterable[NativeEvent]) -> list[Place]:
    """Group the events by their namespaces, the host first, others as they appeared.

    A namespace's number is given to another one after its end. The cgroup's is not, and keeps two containers
    apart of which the second got the first one's numbers.
    """
    found: dict[tuple[str, str, str], Place] = {}
    for event in events:
        label, kinds = place_of(event)
        cgroup = "" if label == _HOST else event.get("cgroup", {"id": ""})["id"]
        old = found.get((label, kinds, cgroup), Place(label, kinds, 0, []))
        program = _program(event)
        programs = old.programs if program in old.programs else [*old.programs, program]
        found[label, kinds, cgroup] = Place(label, kinds, old.events + 1, programs)
    return sorted(found.values(), key=lambda place: place.label != _HOST)


def where(event: NativeEvent) -> str:
    """Return the table's WHERE cell, in full."""
    return " ".join(filter(None, place_of(event)))


def openers(events: Iterable[NativeEvent], key: str) -> list[str]:
    """Return one line for each event with the key that is about a path: who opened it, and where."""
    rows = []
    for event in events:
        if key not in event["keys"] or not path(event):
            continue
        subject = event.get("subject", {})
        inside = subject.get("pids", [])
        pids = " = ".join(str(level["pid"]) for level in inside)
        rows.append(
            f"{escape(subject.get('comm', '?')):<8} {result(event):<7} {escape(path(event)):<14}"
            f" pid {pids:<8} uid {subject.get('uid', '?'):<5} {where(event)}"
        )
    return rows


def compared(events: Iterable[NativeEvent]) -> tuple[int, list[str]]:
    """Compare events with what their processes say of themselves: how many do, and what differs."""
    pairs = [(event, truth) for event in events if (truth := truth_of(cast("live.Json", event)))]
    return len(pairs), [
        line for event, truth in pairs for line in mismatches(cast("live.Json", event), truth)
    ]


def label_of_pid(events: Iterable[NativeEvent], pid: int) -> str | None:
    """Return the label of the place where this pid last started a program; None if it did not."""
    label = None
    for event in events:
        if event.get("subject", {}).get("pid") == pid and command(event):
            label = place_of(event)[0]
    return label


def sample(events: Iterable[NativeEvent], key: str) -> NativeEvent | None:
    """Return the first event with the key from a process that has a pid of its own inside."""
    for event in events:
        if key in event["keys"] and len(event.get("subject", {}).get("pids", [])) > 1:
            return event
    return None


def shortened(event: NativeEvent) -> str:
    """Return the event as JSON for reading: nothing added, the less telling members left out."""
    short = cast("dict[str, Json]", dict(event))
    subject = cast("dict[str, Json]", event.get("subject", {}))
    short["subject"] = {name: subject[name] for name in _SUBJECT if name in subject}
    short["records"] = [
        {"type": record["type"], **_some(record["fields"])}
        for record in event["records"]
        if _some(record["fields"])
    ]
    for member in ("schema", "uid"):
        del short[member]
    body = ",\n".join(f'  "{name}": {_filled(value, 2)}' for name, value in short.items())
    return f"{{\n{body}\n}}"


def _program(event: NativeEvent) -> str:
    """Return the name by which a program was started, else that of the process."""
    if any(record["type"] == "EXECVE" for record in event["records"]):
        return command(event)[0].rpartition("/")[2]
    return event.get("subject", {}).get("comm", "?")


def _some(fields: Fields) -> dict[str, Json]:
    if fields.get("nametype") == "PARENT":
        return {}
    kept = {name: fields[name] for name in _FIELDS if name in fields}
    return {"fields": cast("Json", kept)} if kept else {}


def _filled(value: Json, indent: int) -> str:
    """Write a value on one line if it fits, else its members one after the other, filling lines."""
    plain = json.dumps(value)
    if len(plain) + indent <= _WIDTH or not isinstance(value, (dict, list)):
        return plain
    inner = indent + 2
    if isinstance(value, dict):
        opening, closing = "{}"
        parts = [f"{json.dumps(name)}: {_filled(member, inner)}" for name, member in value.items()]
    else:
        opening, closing = "[]"
        parts = [_filled(member, inner) for member in value]
    pad = "\n" + " " * inner
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) + inner > _WIDTH:
            lines.append("")
        lines[-1] += f"{part}, "
    filled = pad.join(line.rstrip() for line in lines)
    return f"{opening}{pad}{filled.removesuffix(',')}\n{' ' * indent}{closing}"


def place_line(place: Place) -> str:
    """Return a place as a line of the summary."""
    seen = cut(escape(", ".join(place.programs)), 50)
    return f"{place.events:>6}  {f'{place.label} {place.kinds}':<44} {seen}"
