# SPDX-License-Identifier: Apache-2.0
r"""The table for people: one line per event, on a terminal.

Owns the columns, their widths and colours, and making hostile names harmless: whatever Python does not
call printable (control characters, escape sequences, text-direction marks) is shown as ``\xNN`` or
``\uNNNN``, a backslash as two. Never a format for machines: columns and abbreviations may change at any
time.

WHERE names the container: its runtime and its name, or the beginning of its id while no name is known. Outside of
containers it says ``host`` when every namespace that is known is the initial one. Otherwise it has a label by which
the same namespaces are recognised again (the inum of the mount namespace, or of the first kind that differs) and the
kinds that differ from the host.
The two ``_for_children`` kinds are named only when they differ from the task's own. ``?`` stands where no
namespaces are known; the reason is then at the end of the line.
"""

from __future__ import annotations

import os
import shlex
import unicodedata
import zlib
from typing import TYPE_CHECKING, Final, cast

from enricher.clock import local_time
from enricher.enrich.describe import action, command, message, path, result, told
from enricher.model import KINDS
from enricher.sources.audit.text import split_stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enricher.enrich.shape import Namespaces, NativeEvent, NsEntry, Subject

_ID: Final = 12  # as engines show ids themselves
_EXECS: Final = ("execve", "execveat")

_TIME, _SHORT_TIME = 12, 8  # with and without milliseconds
_PID, _INSIDE, _USER = 7, 6, 10
_SPACES: Final = 5  # between six columns
_LEAST_NAMESPACES, _MOST_NAMESPACES = 16, 40
_ROOMY: Final = 100  # from this width on the time has milliseconds
_LEAST_DETAIL: Final = 20  # a command or path tells more than the key after it

_BOLD, _DIM, _RED = "1", "2", "31"
_LABEL_COLOURS: Final = ("32", "33", "34", "35", "36", "92", "94", "95")


def wants_colour(environ: Mapping[str, str], *, terminal: bool) -> bool:
    """Whether to colour: only on a terminal that can, and not against the user's NO_COLOR (no-color.org)."""
    return terminal and not environ.get("NO_COLOR") and environ.get("TERM") not in (None, "", "dumb")


def terminal_width(fd: int) -> int | None:
    """Return the terminal's columns; None when ``fd`` is no terminal: then lines are not cut."""
    try:
        return os.get_terminal_size(fd).columns or None
    except OSError:
        return None


def escape(text: str) -> str:
    """Make a text safe to show. Different texts stay different."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_escaped(char) for char in text)


def _escaped(char: str) -> str:
    if char == "\\":
        return "\\\\"
    if char.isprintable():
        return char
    code = ord(char)
    if code <= 0xFF:  # noqa: PLR2004
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004


def _char_width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def text_width(text: str) -> int:
    """Return how many terminal columns an escaped text takes."""
    return len(text) if text.isascii() else sum(map(_char_width, text))


def cut(text: str, width: int) -> str:
    """Return the text, shortened to ``width`` columns with ``…`` at its end if it is longer."""
    if text_width(text) <= width:
        return text
    if width <= 0:
        return ""
    used = 0
    for index, char in enumerate(text):
        used += _char_width(char)
        if used > width - 1:  # one column for the mark
            return text[:index].rstrip("…") + "…"  # what was cut before is not marked twice
    return text


def _fit(text: str, width: int) -> str:
    """Cut or fill to exactly ``width`` columns."""
    text = cut(text, width)
    return text + " " * (width - text_width(text))


def namespaces_of(namespaces: Namespaces | None) -> tuple[str, str]:
    """Return the label and the kinds that differ: ("host", "") if none does, ("?", "") if none is known."""
    known = False
    differing: dict[str, int] = {}
    inums: dict[str, int] = {}
    for kind in KINDS:
        entry = namespaces.get(kind) if namespaces else None
        if not isinstance(entry, dict):
            continue
        entry = cast("NsEntry", entry)
        inums[kind] = entry["ino"]
        if "host" not in entry:
            continue
        known = True
        own = kind.removesuffix("_for_children")
        if not entry["host"] and (own == kind or inums.get(own) != entry["ino"]):
            differing[kind] = entry["ino"]
    if not differing:
        return ("host", "") if known else ("?", "")
    first, inum = next(iter(differing.items()))
    return str(inum) if first == "mnt" else f"{first}:{inum}", ",".join(differing)


def place_of(native: NativeEvent) -> tuple[str, str]:
    """Return the label of an event's container and "", or what `namespaces_of` says where it is in none."""
    container = native.get("container")
    if container is None:
        return namespaces_of(native.get("namespaces"))
    name = container.get("name") or container["id"][:_ID]
    return f"{escape(container.get('runtime', 'container'))} {escape(name)}", ""


class Table:
    """Renders header and rows for a terminal ``width`` columns wide (None: never cut).

    ``width`` may be set anew at any time, as after SIGWINCH.
    """

    def __init__(self, width: int | None = None, *, colour: bool = False) -> None:
        self.width = width
        self._colour = colour

    def header(self) -> bytes:
        """Return the line of column names."""
        cells = self._cells("TIME", "WHERE", "PID", "INSIDE", "AUID/UID")
        return self._line([(cell, _BOLD) for cell in (*cells, "WHAT")])

    def render(self, native: NativeEvent) -> bytes:
        """Return the event's line."""
        sec, ms, _serial = split_stamp(native["id"].encode("ascii"))
        label, kinds = place_of(native)
        subject: Subject = native.get("subject", {})
        pids = subject.get("pids", [])
        cells = self._cells(
            local_time(sec, ms),
            f"{label} {kinds}" if kinds else label,
            str(subject.get("pid", "-")),
            str(pids[-1]["pid"]) if len(pids) > 1 else "-",
            f"{subject.get('auid', '-')}/{subject.get('uid', '-')}",
        )
        style = _DIM if label in ("host", "?") else _label_colour(label)
        pieces = [(cells[0], ""), (cells[1], style), *((cell, "") for cell in cells[2:])]
        return self._line(pieces + self._what(native))

    def _layout(self) -> tuple[int, int, int]:
        """Return the widths of TIME and WHERE, and the column at which WHAT begins."""
        roomy = self.width is None or self.width >= _ROOMY
        time = _TIME if roomy else _SHORT_TIME
        fixed = time + _PID + _INSIDE + _USER + _SPACES
        namespaces = _MOST_NAMESPACES
        if self.width is not None:
            namespaces = max(_LEAST_NAMESPACES, min(_MOST_NAMESPACES, (self.width - fixed) * 2 // 5))
        return time, namespaces, fixed + namespaces

    def _cells(self, time: str, namespaces: str, pid: str, inside: str, user: str) -> list[str]:
        time_width, namespaces_width, _ = self._layout()
        return [
            _fit(time[:time_width], time_width) + " ",
            _fit(namespaces, namespaces_width) + " ",
            cut(pid, _PID).rjust(_PID) + " ",
            cut(inside, _INSIDE).rjust(_INSIDE) + " ",
            _fit(user, _USER) + " ",
        ]

    def _what(self, native: NativeEvent) -> list[tuple[str, str]]:
        """Return name, result, detail and what else there is to say; the detail is what gives way."""
        name = escape(action(native))
        outcome = result(native)
        if name in _EXECS:
            about = " ".join(shlex.quote(escape(argument)) for argument in command(native))
            tail = ""
        else:
            about = escape(path(native) or message(native) or told(native))
            comm = native.get("subject", {}).get("comm")
            tail = f" by {escape(comm)}" if comm else ""
        if native["keys"]:
            tail += f" key={escape(','.join(native['keys']))}"
        if reason := native["enrichment"].get("reason"):
            tail += f" [{escape(reason)}]"
        if about and self.width is not None:
            taken = self._layout()[2] + len(f"{name} {outcome} ") + text_width(tail)
            about = cut(about, max(_LEAST_DETAIL, self.width - taken))
        style = "" if outcome in ("", "ok") else _RED
        pieces = [(name, ""), (f" {outcome}" if outcome else "", style)]
        return [*pieces, (f" {about}" if about else "", ""), (tail, _DIM)]

    def _line(self, pieces: list[tuple[str, str]]) -> bytes:
        """Join the pieces, cut at the width and coloured; escape sequences take no columns."""
        room = self.width
        parts: list[str] = []
        for text, style in pieces:
            shown = text if room is None else cut(text, room)
            if shown == "…" and parts and parts[-1].endswith("…"):
                break  # the detail was cut to make room for a tail that has none either
            if room is not None:
                room -= text_width(shown)
            parts.append(f"\x1b[{style}m{shown}\x1b[0m" if style and self._colour and shown else shown)
            if shown != text:
                break
        return "".join(parts).rstrip(" ").encode() + b"\n"


def _label_colour(label: str) -> str:
    """Return the same colour for the same label, in every run."""
    return _LABEL_COLOURS[zlib.crc32(label.encode()) % len(_LABEL_COLOURS)]
