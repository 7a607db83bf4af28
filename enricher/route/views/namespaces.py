# SPDX-License-Identifier: Apache-2.0
"""The trees of namespaces as a table for people.

Owns columns, indentation and what is said in which words. Never a format for machines. Names of processes, links,
containers and mounts come from anyone: nothing of them reaches a terminal raw.

A user namespace stands below its parent, anything else below the user namespace that owns it; a pid namespace below
its parent where both have the same owner. What stands alone has nothing above it that is known or was asked for.
"""

from __future__ import annotations

import calendar
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.route.views.table import cut, escape, text_width

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from enricher.enrich.nsshape import BoxName, Document, Entry, Link, Oldest

_ID: Final = 12  # as engines show ids themselves
_HEADS: Final = ("NAMESPACE", "WHERE", "TASKS", "OLDEST TASK", "SINCE")
_ROOM: Final = (28, 26, 5, 17, 20)
"""What each column may take of the least width, 100 columns; beyond that, WHERE and OLDEST TASK share the rest."""
_WIDEST: Final = 60  # of a column where nothing is cut
_WHERE, _TASKS, _OLDEST = 1, 2, 3
_MOST_NAMED: Final = 3
_STEP: Final = 2
_DEEPEST: Final = 32  # as the kernel has it, for user and for pid namespaces

Key = tuple[str, int]


class _Row(NamedTuple):
    """A namespace's cells, or one line of what belongs to it."""

    cells: tuple[str, ...]
    line: str = ""


def lines(document: Document, width: int | None = None) -> list[str]:
    """Return the lines; cut at ``width`` columns, None for not at all."""
    rows = list(_rows(document["namespaces"]))
    widths = _widths([_Row(_HEADS), *rows], width)
    return [_line(row, widths, width) for row in (_Row(_HEADS), *rows)]


def _widths(rows: Iterable[_Row], width: int | None) -> list[int]:
    table = [row.cells for row in rows if row.cells]
    needed = [max(text_width(cells[column]) for cells in table) for column in range(len(_HEADS))]
    if width is None:
        return [min(need, _WIDEST) for need in needed]
    spare = max(0, width - sum(_ROOM) - len(_ROOM) + 1)
    room = [*_ROOM]
    for column in (0, _WHERE, _OLDEST):
        more = min(spare, max(0, needed[column] - room[column]))
        room[column] += more
        spare -= more
    return [min(need, most) for need, most in zip(needed, room, strict=True)]


def _line(row: _Row, widths: list[int], width: int | None) -> str:
    if not row.cells:
        return row.line if width is None else cut(row.line, width)
    cells = []
    for column, (cell, room) in enumerate(zip(row.cells, widths, strict=True)):
        text = cell if width is None else cut(cell, room)
        blank = " " * max(0, room - text_width(text))
        cells.append(blank + text if column == _TASKS else text + blank)
    line = " ".join(cells).rstrip(" ")
    return line if width is None else cut(line, width)


# -- the trees ---------------------------------------------------------------------------------------


def _rows(entries: list[Entry]) -> Iterator[_Row]:
    by_key: dict[Key, Entry] = {(entry["kind"], entry["ino"]): entry for entry in entries}
    below: dict[Key | None, list[Entry]] = {}
    for entry in entries:
        above = _above(entry, by_key)
        below.setdefault(above, []).append(entry)
    hosts = {entry["ino"] for entry in entries if entry["kind"] == "net" and entry.get("host")}
    waiting = [(entry, 0) for entry in reversed(below.get(None, []))]
    seen: set[Key] = set()
    while waiting:
        entry, depth = waiting.pop()
        key = (entry["kind"], entry["ino"])
        if key in seen:
            continue
        seen.add(key)
        yield from _entry(entry, min(depth, 2 * _DEEPEST), by_key, hosts)
        # What a user namespace owns comes before the user namespaces below it.
        children = sorted(below.get(key, []), key=lambda child: child["kind"] == "user")
        waiting += [(child, depth + 1) for child in reversed(children)]


def _above(entry: Entry, by_key: dict[Key, Entry]) -> Key | None:
    """Return what it stands below."""
    owner = ("user", entry["owner"]) if "owner" in entry else None
    if entry["kind"] == "pid" and "parent" in entry:
        parent = by_key.get(("pid", entry["parent"]))
        if parent is not None and (parent.get("owner") == entry.get("owner") or owner not in by_key):
            return ("pid", entry["parent"])
    return owner if owner in by_key else None


def _entry(entry: Entry, depth: int, by_key: dict[Key, Entry], hosts: set[int]) -> Iterator[_Row]:
    indent = " " * (_STEP * depth)
    name = f"{indent}{entry['kind']} {entry['ino']}"
    if entry.get("host"):
        name += " host"
    tasks = str(entry["tasks"]) if entry["tasks"] else "-"
    yield _Row((name, where(entry), tasks, _oldest(entry.get("oldest")), _since(entry)))
    inner = indent + " " * (2 * _STEP)
    for text in _about(entry, by_key):
        yield _Row((), f"{inner}{text}")
    if "network" in entry:
        network = entry["network"]
        if "reason" in network:
            yield _Row((), f"{inner}links: not known, {escape(network['reason'])}")
        for link in network.get("links", ()):
            yield _Row((), f"{inner}{_link(link, entry['ino'], hosts)}")
        if network.get("cut"):
            yield _Row((), f"{inner}and more")


def _about(entry: Entry, by_key: dict[Key, Entry]) -> Iterator[str]:
    if "parent" in entry and "owner_uid" in entry:
        yield f"made by uid {entry['owner_uid']}"
    parent = by_key.get((entry["kind"], entry.get("parent", 0)))
    if entry["kind"] == "pid" and parent is not None and parent.get("owner") != entry.get("owner"):
        yield f"below pid {parent['ino']}"
    if pids := entry.get("for_children"):
        yield f"for the children of {_several(list(map(str, pids)))}"
    threads = [f"{thread['tid']} of {thread['pid']}" for thread in entry.get("threads", ())]
    if threads:
        yield f"threads {_several(threads)}"
    if mounts := entry.get("mounts"):
        # The same mount is in every mount namespace that it spread to.
        points = list(dict.fromkeys(escape(mount["path"]) for mount in mounts))
        yield f"held by a mount: {_several(points)}"
    if fds := entry.get("fds"):
        opened = [f"fd {fd['fd']} of {fd['pid']}" for fd in fds]
        yield f"held open: {_several(opened)}"


def _several(words: list[str]) -> str:
    more = len(words) - _MOST_NAMED
    return ", ".join(words[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def label(box: BoxName) -> str:
    """Return a container in short."""
    return f"{escape(box.get('runtime', 'container'))} {escape(box.get('name') or box['id'][:_ID])}"


def where(entry: Entry) -> str:
    """Return who is in a namespace."""
    parts = []
    if entry["host_tasks"]:
        parts.append("host")
    boxes = entry["containers"]
    if len(boxes) == 1 or (boxes and not parts and len(boxes) <= _MOST_NAMED):
        parts += [label(box) for box in boxes]
    elif boxes:
        parts.append(f"{len(boxes)} containers")
    if entry["unknown_tasks"]:
        parts.append("unknown")
    return ", ".join(parts) or "no task"


def _oldest(oldest: Oldest | None) -> str:
    return f"{oldest['pid']} {escape(oldest['comm'])}" if oldest else ""


def _since(entry: Entry) -> str:
    if "since" in entry:
        return f"  {_local(entry['since'])}"
    return f"<={_local(entry['since_at_latest'])}" if "since_at_latest" in entry else ""


def _local(stamp: str) -> str:
    """Return a time of the document as ``MM-DD HH:MM:SS`` of the local time zone, with the year where it is another."""
    seconds = calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))
    then = time.localtime(seconds)
    day = "" if then.tm_year == time.localtime().tm_year else f"{then.tm_year:04d}-"
    return f"{day}{then.tm_mon:02d}-{then.tm_mday:02d} {then.tm_hour:02d}:{then.tm_min:02d}:{then.tm_sec:02d}"


def _link(link: Link, here: int, hosts: set[int]) -> str:
    words = [
        escape(link["name"]),
        link["state"] if link["state"] != "unknown" else "up" if link["up"] else "down",
    ]
    if "kind" in link:
        words.append(escape(link["kind"]))
    words += map(escape, link["addresses"])
    if "peer" in link:
        peer = link["peer"]
        other = (
            f"{escape(peer['name'])} (index {peer['index']})" if "name" in peer else f"index {peer['index']}"
        )
        words.append(f"-> {other} in {_namespace(peer.get('net'), here, hosts)}")
    if link.get("mac"):
        words.append(link["mac"])
    return " ".join(words)


def _namespace(inum: int | None, here: int, hosts: set[int]) -> str:
    if inum is None:
        return "an unknown namespace"
    if inum == here:
        return "the same"
    return f"net {inum}" + (" host" if inum in hosts else "")
