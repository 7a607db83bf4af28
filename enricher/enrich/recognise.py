# SPDX-License-Identifier: Apache-2.0
"""Read the path of a cgroup: host or container, which, and in which unit.

Owns the matching of one path against the table in `enrich.patterns`. Never looks at a process, a file or another
cgroup, and never guesses: a path that no row and no unit of systemd explains is unknown. Meant to be called once
for each cgroup, not for each record.

A path is read level by level. A level is the host's hierarchy, or that of a container found in the level above;
the same rows count in each. Within a level systemd's own structure is read first (slices, then a user's service
manager), so that a name is only looked for where its runtime puts it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from enricher.enrich.patterns import CONTAINERS, DEEPEST, HOST, INNER, PLACEHOLDERS, UNIT_NAME, Anchor
from enricher.enrich.places import Found, Place

_LONGEST: Final = 4096  # PATH_MAX; the kernel's own buffers for cgroup paths hold no more
_SOUND: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[^/\0]{1,255})+\Z")
_SLICE: Final = re.compile(rf"/({UNIT_NAME})\.slice(?=/|\Z)")
_MANAGER: Final = re.compile(r"/(user@[0-9]{1,10}\.service)(?=/|\Z)")
_UNIT: Final = re.compile(rf"/({UNIT_NAME}\.(?:service|scope|socket|mount|swap))(?=/|\Z)")


def _compiled(layout: str, end: str) -> re.Pattern[str]:
    parts = {"[": "(?:", "]": ")?"}
    words = re.split(r"(<[a-z0-9-]+>|[\[\]])", layout)
    text = "".join(
        PLACEHOLDERS[word[1:-1]] if word[:1] == "<" else parts.get(word) or re.escape(word) for word in words
    )
    return re.compile(text + end)


_CONTAINERS: Final = {
    anchor: tuple(
        (_compiled(row.layout, r"(?=/|\Z)"), row.runtime) for row in CONTAINERS if row.anchor is anchor
    )
    for anchor in Anchor
}
_HOST: Final = {
    anchor: tuple((_compiled(row.layout, r"\Z"), row.helper) for row in HOST if row.anchor is anchor)
    for anchor in Anchor
}
_POD_SLICE: Final = _compiled("/<pod-slice>", r"\Z")


class _Level(NamedTuple):
    """Systemd's structure at the beginning of a level, as offsets in the path."""

    anchors: tuple[tuple[Anchor, int], ...]  # and where their layouts start
    end: int  # of the last slice
    leaf: str  # the last slice with its "/"; "" for none
    unit: str  # the system's unit that holds the rest; "" for none
    unit_end: int


_NOTHING: Final = _Level((), 0, "", "", 0)


def _unescaped(name: str) -> str:
    """Undo systemd's mark on a cgroup whose name would look like one of the kernel's files (``_cpu.service``)."""
    return name.removeprefix("_")


def _slices(path: str, start: int) -> tuple[int, str]:
    """Return where the chain of slices ends, and the last one. ``a-b.slice`` is one in ``a.slice`` only."""
    stem, end, leaf = "", start, ""
    while match := _SLICE.match(path, end):
        name = _unescaped(match[1])
        own = name.removeprefix(stem)
        if not name.startswith(stem) or not own or "-" in own:
            break
        stem, end, leaf = f"{name}-", match.end(), match[0]
    return end, leaf


def _level(path: str, start: int) -> _Level:
    end, leaf = _slices(path, start)
    if manager := _MANAGER.match(path, end):
        end, leaf = _slices(path, manager.end())
        return _Level(((Anchor.USER, end),), end, leaf, manager[1], manager.end())
    anchors = ((Anchor.ROOT, start), (Anchor.SLICES, end))
    if unit := _UNIT.match(path, end):
        return _Level(anchors, end, leaf, _unescaped(unit[1]), unit.end())
    return _Level(anchors, end, leaf, "", end)


def _container(path: str, level: _Level) -> Found | None:
    """Return the outermost container of this level."""
    for anchor, start in level.anchors:
        for pattern, runtime in _CONTAINERS[anchor]:
            if match := pattern.match(path, start):
                told = match.groupdict("")
                name = _plain(told.get("name", ""), anchor)
                return Found(
                    runtime,
                    _plain(told.get("id", ""), anchor) or name,
                    name,
                    (told.get("pod", "") or _pod(anchor, level)).replace("_", "-"),
                    path[: match.end()],
                )
    return None


def _plain(name: str, anchor: Anchor) -> str:
    """Undo the escape in the name of a unit; elsewhere a backslash is a backslash."""
    return name.replace(r"\x2d", "-") if anchor is Anchor.SLICES else name


def _pod(anchor: Anchor, level: _Level) -> str:
    """Return the pod whose slice holds what was found. Below a user's manager nobody vouches for a pod."""
    if anchor is not Anchor.SLICES:
        return ""
    pod = _POD_SLICE.match(level.leaf)
    return pod["pod"] if pod else ""


def _outside(path: str, level: _Level) -> Place:
    """Decide for a path of the host's level that is in no container."""
    unit = _UNIT.match(path, level.end)
    if level.end == len(path) or (unit and unit.end() == len(path) and not unit[1].endswith(".scope")):
        return Place("host", (), level.unit, "")  # a slice, a user's service manager, a unit
    for anchor, start in level.anchors:
        for pattern, helper in _HOST[anchor]:
            if pattern.match(path, start):
                return Place("host", (), level.unit, "", helper)
    return Place("unknown", (), level.unit, "")


def _nested(path: str, outer: Found) -> Found | None:
    """Return the next container inside of one."""
    end = len(outer.path)
    for inner in INNER:
        if path.startswith(f"{inner}/", end) and (found := _container(path, _level(path, end + len(inner)))):
            return found
    return None


def recognise(path: str) -> Place:
    """Return where the tasks of the cgroup with this path are.

    ``path`` is seen from the root of the hierarchy, which is "/"; bytes that are not UTF-8 are surrogate escapes. A
    path from inside a cgroup namespace (``/../..``), a relative, unclean or over-long one is unknown. Raises nothing.
    """
    if path == "/":
        return Place("host", (), "", "")
    if len(path) > _LONGEST or not _SOUND.match(path):
        return Place("unknown", (), "", "")
    level = _level(path, 0)
    found = _container(path, level)
    if found is None:
        return _outside(path, level)
    # Where the container is itself the unit, it lies in none.
    unit = level.unit if level.unit_end < len(found.path) else ""
    return _inside(path, found, unit)


def recognise_in(path: str, outer: Found) -> Place:
    """Return the same for a path in this container, which somebody else knew: the path does not tell it.

    Raises nothing.
    """
    level = _level(path, 0) if _SOUND.match(path) else _NOTHING
    return _inside(path, outer, level.unit if level.unit_end < len(outer.path) else "")


def _inside(path: str, found: Found | None, unit: str) -> Place:
    chain: list[Found] = []
    while found and len(chain) < DEEPEST:
        chain.append(found)
        found = _nested(path, found)
    return Place("container", tuple(chain), unit, path[len(chain[-1].path) :])
