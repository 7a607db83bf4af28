# SPDX-License-Identifier: Apache-2.0
r"""CEF version 0: one line, its header and its extension.

Owns the table of keys and the escapes. What a hostile process can put into a name ends neither a field nor the line: in
the header ``\`` and ``|`` are escaped, in a value ``\``, ``=`` and line ends, and any other control character becomes
U+FFFD. Never carries the records: CEF is for an alarm, not for evidence.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from enricher import __version__
from enricher.model import KINDS as NAMESPACES
from enricher.route.schemas.seen import see
from enricher.route.schemas.table import Row, Table, base, plain, same, some, text, whole

if TYPE_CHECKING:
    from enricher.enrich.shape import NativeEvent
    from enricher.route.schemas.table import Made

LONGEST: Final = 1023
"""Characters of a value, before escaping: the dictionary's limit for most keys. More is cut off."""

_DICTIONARY: Final = "CEF 0 extension dictionary"


def _namespaces(value: object) -> str | None:
    """``net=4026532261,pid=..``: those that are not known to be the host's."""
    if not isinstance(value, dict):
        return None
    shown = [
        f"{kind}:{value[kind]['ino']}"
        for kind in NAMESPACES
        if kind in value and value[kind].get("host") is not True
    ]
    return ",".join(shown) or None


def _joined(value: object) -> str | None:
    return ",".join(map(str, value)) or None if isinstance(value, list) else None


def _chain(value: object) -> str | None:
    """``4,^2,^1``: the own identifier first."""
    return ",^".join(map(str, value)) or None if isinstance(value, list) else None


def _pod(value: object) -> str | None:
    if not isinstance(value, dict):
        return None
    names = [value[name] for name in ("namespace", "name") if name in value]
    return "/".join(names) or str(value["uid"])


ROWS: Final = (
    Row("=ms", "rt", same, _DICTIONARY + ", milliseconds"),
    Row("uid", "externalId", same, _DICTIONARY),
    Row("=action", "act", plain, _DICTIONARY),
    Row("outcome", "outcome", same, _DICTIONARY),
    Row("=error", "reason", text, _DICTIONARY),
    Row("=message", "msg", plain, _DICTIONARY),
    Row("host.name", "dvchost", same, _DICTIONARY),
    Row("host.machine_id", "deviceExternalId", same, _DICTIONARY),
    Row("subject.pid", "spid", same, _DICTIONARY),
    Row("subject.exe", "sproc", plain, _DICTIONARY),
    Row("subject.uid", "suid", same, _DICTIONARY),
    Row("primary.UID", "suser", text, _DICTIONARY),
    Row("=account.id", "duid", text, _DICTIONARY),
    Row("=account.name", "duser", text, _DICTIONARY),
    Row("=peer.pid", "dpid", whole, _DICTIONARY),
    Row("=peer.name", "dproc", plain, _DICTIONARY),
    Row("=file.path", "filePath", plain, _DICTIONARY),
    Row("=file.name", "fname", base, _DICTIONARY),
    Row("=file.inode", "fileId", text, _DICTIONARY),
    Row("=file.mode", "filePermission", text, _DICTIONARY),
    Row("=file.type", "fileType", text, _DICTIONARY),
    Row("=src.ip", "src", text, _DICTIONARY),
    Row("=src.port", "spt", whole, _DICTIONARY),
    Row("=dst.ip", "dst", text, _DICTIONARY),
    Row("=dst.port", "dpt", whole, _DICTIONARY),
    Row("=net.transport", "proto", text, _DICTIONARY),
    Row("container.id", "cs1", same, _DICTIONARY + ", custom: containerId"),
    Row("container.name", "cs2", same, _DICTIONARY + ", custom: containerName"),
    Row("container.pod", "cs3", _pod, _DICTIONARY + ", custom: pod"),
    Row("container.image", "cs4", same, _DICTIONARY + ", custom: image"),
    Row("namespaces", "cs5", _namespaces, _DICTIONARY + ", custom: namespaces"),
    Row("keys", "cs6", _joined, _DICTIONARY + ", custom: key"),
    Row("subject.auid", "cn1", same, _DICTIONARY + ", custom: auid"),
    Row("subject.ppid", "cn2", same, _DICTIONARY + ", custom: ppid"),
    Row("subject.ses", "cn3", same, _DICTIONARY + ", custom: session"),
    Row("contid", "flexString2", _chain, _DICTIONARY + ", custom: contid"),
    Row("where", "flexString1", some, _DICTIONARY + ", custom: where"),
)
LABELS: Final = {
    "cs1": "containerId",
    "cs2": "containerName",
    "cs3": "pod",
    "cs4": "image",
    "cs5": "namespaces",
    "cs6": "key",
    "cn1": "auid",
    "cn2": "ppid",
    "cn3": "session",
    "flexString1": "where",
    "flexString2": "contid",
}
FIXED: Final = (
    ("Device Vendor, Product, Version", "`audit-enricher`, `audit-enricher`, its version", "CEF 0 header"),
    ("Device Event Class ID", "`type`", "CEF 0 header"),
    ("Name", "`=action`", "CEF 0 header"),
    ("Severity", "by the kind of event, below", "CEF 0 header, 0 to 10"),
)
TABLE: Final = Table(ROWS, flat=True)

_HEADER: Final = f"CEF:0|audit-enricher|audit-enricher|{__version__}"
_LABELS: Final = {name: f"{name}Label={label} {name}=" for name, label in LABELS.items()}
_CONTROL: Final = re.compile("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")

_special: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029=\\\\]").search


def escape_header(value: str) -> str:
    """Return a field of the header: no bar ends it, and it has no line end."""
    shown = _CONTROL.sub("\ufffd", value[:LONGEST])
    return shown.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("\r", " ")


def escape(value: str) -> str:
    """Return a value of the extension: no equals sign in it makes a key, and no line end a line."""
    if not _special(value):
        return value[:LONGEST]
    shown = _CONTROL.sub("\ufffd", value[:LONGEST])
    return shown.replace("\\", "\\\\").replace("=", "\\=").replace("\n", "\\n").replace("\r", "\\r")


def line(native: NativeEvent) -> bytes:
    """Return the event as a line of CEF, UTF-8, without its newline."""
    kind, members, read = see(native)
    made: Made = TABLE.apply(members, {})
    head = (
        _HEADER,
        escape_header(native["type"]),
        escape_header(str(read["action"])),
        str(kind.severity.cef),
    )
    parts = [f"{_LABELS.get(name) or name + '='}{escape(str(value))}" for name, value in made.items()]
    return ("|".join(head) + "|" + " ".join(parts)).encode("utf-8", "replace")
