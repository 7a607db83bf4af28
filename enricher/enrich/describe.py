# SPDX-License-Identifier: Apache-2.0
"""What an event was about, in a few words: the system call's name, its result, the command, the path.

Owns picking those out of a native event for people to read. Never feeds a machine: the native event keeps the
kernel's numbers, and the full interpretation of fields is another piece.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from enricher.enrich.tables_syscalls import BY_ARCH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enricher.enrich.shape import Fields, NativeEvent

_MOST_ARGUMENTS: Final = 256
"""Of a longer command line nobody reads the rest; a record's argc may claim any number."""


def _fields(native: NativeEvent, record_type: str) -> Iterator[Fields]:
    for record in native["records"]:
        if record["type"] == record_type:
            yield record["fields"]


def action(native: NativeEvent) -> str:
    """Return the system call's name, ``syscall 600`` if it has none here, else the event's type."""
    for fields in _fields(native, "SYSCALL"):
        number = fields.get("syscall")
        table = BY_ARCH.get(str(fields.get("arch")), ())
        if isinstance(number, int) and 0 <= number < len(table) and table[number] != "-":
            return table[number]
        return f"syscall {number}"
    return native["type"]


def result(native: NativeEvent) -> str:
    """Return ``ok``, the error's name (``EACCES``), ``failed``, or "" where the event has no outcome."""
    outcome = native.get("outcome")
    if outcome is None:
        return ""
    if outcome == "success":
        return "ok"
    for fields in _fields(native, "SYSCALL"):
        code = fields.get("exit")
        if isinstance(code, int) and code < 0:
            return errno.errorcode.get(-code, str(code))
    return "failed"


def command(native: NativeEvent) -> list[str]:
    """Return the command line: from EXECVE where the event has one, else from PROCTITLE; [] without both.

    PROCTITLE is what the process says of itself and holds 128 bytes at most.
    """
    fields: Fields = {}
    for part in _fields(native, "EXECVE"):  # a long command line takes several records
        fields.update(part)
    count = fields.get("argc")
    if isinstance(count, int):
        return [_argument(fields, index) for index in range(min(count, _MOST_ARGUMENTS))]
    for part in _fields(native, "PROCTITLE"):
        title = part.get("proctitle")
        if isinstance(title, str) and title != "(null)":
            return title.rstrip("\0").split("\0")
    return []


def _argument(fields: Fields, index: int) -> str:
    """Return one argument, put together where the kernel split it (``a1[0]=``, ``a1[1]=``); "" if missing."""
    whole = fields.get(f"a{index}")
    if whole is not None:
        return str(whole)
    parts: list[str] = []
    while (piece := fields.get(f"a{index}[{len(parts)}]")) is not None:
        parts.append(str(piece))
    return "".join(parts)


def path(native: NativeEvent) -> str:
    """Return the first path that is not merely the parent directory of another; "" if there is none."""
    fallback = ""
    for fields in _fields(native, "PATH"):
        name = fields.get("name")
        if not isinstance(name, str) or name == "(null)":
            continue
        if fields.get("nametype") != "PARENT":
            return name
        fallback = fallback or name
    return fallback


_TELLING: Final = ("op", "acct", "unit", "cmd", "addr")


def message(native: NativeEvent) -> str:
    """Return what a program said in its message (``op=login acct=root``): its words, believed by nobody."""
    for record in native["records"]:
        said = record["fields"].get("msg")
        if isinstance(said, dict):
            return " ".join(f"{name}={said[name]}" for name in _TELLING if name in said)
    return ""
