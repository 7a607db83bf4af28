# SPDX-License-Identifier: Apache-2.0
"""What an event was about, in a few words: the system call's name, its result, the command, the path.

Owns picking those out of a native event for people to read. Never interprets a field: the names are those that
`enrich.decode` put beside the numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enricher.enrich.shape import Fields, NativeEvent

_MOST_ARGUMENTS: Final = 256
"""Of a longer command line nobody reads the rest."""


def _fields(native: NativeEvent, record_type: str) -> Iterator[Fields]:
    for record in native["records"]:
        if record["type"] == record_type:
            yield record["fields"]


def action(native: NativeEvent) -> str:
    """Return the system call's name, ``syscall 600`` if it has none here, else the event's type."""
    for fields in _fields(native, "SYSCALL"):
        name = fields.get("SYSCALL")
        return name if isinstance(name, str) else f"syscall {fields.get('syscall')}"
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
            return str(fields.get("EXIT", code))
    return "failed"


def told(native: NativeEvent) -> str:
    """Return what an event of our own is about, in words; "" for all others."""
    if (notice := native.get("notice")) is not None:
        return notice["text"]
    if (namespace := native.get("namespace")) is not None:
        return f"{namespace.get('kind', '?')} {namespace['ino']}"
    if (refused := native.get("refused")) is not None:
        return f"{refused['type']} {refused['text']}"
    if native["type"] == "NS_CHANGE":
        return _changed(native)
    if (lost := native.get("lost")) is None:
        return _operation(native)
    unit = "records" if "records" in lost else "messages"
    said = f"{lost.get(unit)} {unit}, {lost['cause']}"
    if "sink" in lost:
        said += f" of {lost['sink']}"
    return f"{said}, serials {lost['first']} to {lost.get('last', '?')}" if "first" in lost else said


def _operation(native: NativeEvent) -> str:
    op = native.get("container_op")
    if op is None:
        return ""
    words = op["op"], op.get("contid"), "of", str(op["opid"]), op.get("error")
    return " ".join(word for word in words if word)


def _changed(native: NativeEvent) -> str:
    change = native.get("namespaces", {}).get("change")
    if not isinstance(change, dict):
        return ""
    kinds = ",".join(name for name in change if name != "op")
    return f"{change.get('op')} {kinds}"


def command(native: NativeEvent) -> list[str]:
    """Return the command line: from EXECVE where the event has one, else from PROCTITLE; [] without both.

    PROCTITLE is what the process says of itself and holds 128 bytes at most. An argument that never came is "".
    """
    for record_type in ("EXECVE", "PROCTITLE"):
        for fields in _fields(native, record_type):
            arguments = fields.get("ARGV")
            if isinstance(arguments, list):
                shown = [
                    "" if argument is None else str(argument) for argument in arguments[:_MOST_ARGUMENTS]
                ]
                while record_type == "PROCTITLE" and shown and not shown[-1]:
                    shown.pop()  # NULs behind the title
                return shown
    return []


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
