# SPDX-License-Identifier: Apache-2.0
"""OTLP logs in JSON: the table of attributes, one log record, and the resource it belongs to.

Owns which semantic convention's attribute each fact goes to; what they have none for stands under ``linux.*``. The
record's body is the native event as one line of JSON, so nothing is lost. Never wraps records: a sender puts them with
`resource` into resourceLogs and scopeLogs.

64-bit numbers are strings, as OTLP's JSON has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher import __version__
from enricher.codec import dumps
from enricher.model import KINDS as NAMESPACES
from enricher.route.schemas.kinds import Severity
from enricher.route.schemas.seen import see
from enricher.route.schemas.table import Row, Table, base, one, plain, same, some, text, whole

if TYPE_CHECKING:
    from enricher.enrich.shape import HostEntry, NativeEvent
    from enricher.route.schemas.table import Made

SCOPE: Final = {"name": "audit-enricher", "version": __version__}
"""The instrumentation scope, for scopeLogs."""

_PROCESS: Final = "OpenTelemetry semantic conventions, process"
_CONTAINER: Final = "OpenTelemetry semantic conventions, container"
_K8S: Final = "OpenTelemetry semantic conventions, k8s"
_FILE: Final = "OpenTelemetry semantic conventions, file"
_NET: Final = "OpenTelemetry semantic conventions, network, source, destination"

ROWS: Final = (
    Row("uid", "log.record.uid", same, "OpenTelemetry semantic conventions, log"),
    Row("=original", "log.record.original", plain, "OpenTelemetry semantic conventions, log"),
    Row("=error", "error.type", text, "OpenTelemetry semantic conventions, error"),
    Row("subject.pid", "process.pid", same, _PROCESS),
    Row("=vpid", "process.vpid", whole, _PROCESS),
    Row("subject.ppid", "process.parent_pid", same, _PROCESS),
    Row("subject.tid", "thread.id", same, "OpenTelemetry semantic conventions, thread"),
    Row(
        "subject.comm",
        "thread.name",
        text,
        "OpenTelemetry semantic conventions, thread: comm is the thread's name",
    ),
    Row("subject.exe", "process.executable.path", plain, _PROCESS),
    Row("subject.exe", "process.executable.name", base, _PROCESS),
    Row("=args", "process.command_args", same, _PROCESS),
    Row("=title", "process.title", plain, _PROCESS),
    Row("CWD.cwd", "process.working_directory", plain, _PROCESS),
    Row("subject.euid", "process.user.id", same, _PROCESS + ": the effective user"),
    Row("primary.EUID", "process.user.name", text, _PROCESS + ": the effective user"),
    Row("subject.uid", "process.real_user.id", same, _PROCESS),
    Row("primary.UID", "process.real_user.name", text, _PROCESS),
    Row("subject.suid", "process.saved_user.id", same, _PROCESS),
    Row("primary.SUID", "process.saved_user.name", text, _PROCESS),
    Row("cgroup.path", "process.linux.cgroup", same, _PROCESS),
    Row("container.id", "container.id", same, _CONTAINER),
    Row("container.name", "container.name", same, _CONTAINER),
    Row("container.runtime", "container.runtime.name", same, _CONTAINER),
    Row("=image", "container.image.name", text, _CONTAINER),
    Row("=tag", "container.image.tags", one, _CONTAINER),
    Row("container.pod.uid", "k8s.pod.uid", same, _K8S),
    Row("container.pod.name", "k8s.pod.name", same, _K8S),
    Row("container.pod.namespace", "k8s.namespace.name", same, _K8S),
    Row("=file.path", "file.path", plain, _FILE),
    Row("=file.name", "file.name", plain, _FILE),
    Row("=file.directory", "file.directory", plain, _FILE),
    Row("=file.inode", "file.inode", text, _FILE),
    Row("=file.mode", "file.mode", text, _FILE),
    Row("=file.uid", "file.owner.id", text, _FILE),
    Row("=file.owner", "file.owner.name", text, _FILE),
    Row("=file.gid", "file.group.id", text, _FILE),
    Row("=file.group", "file.group.name", text, _FILE),
    Row("=src.ip", "source.address", text, _NET),
    Row("=src.port", "source.port", whole, _NET),
    Row("=dst.ip", "destination.address", text, _NET),
    Row("=dst.port", "destination.port", whole, _NET),
    Row("=net.type", "network.type", text, _NET),
    Row("=net.transport", "network.transport", text, _NET),
    Row("type", "linux.audit.type", same, "own"),
    Row("id", "linux.audit.id", same, "own"),
    Row("keys", "linux.audit.keys", some, "own"),
    Row("outcome", "linux.audit.outcome", same, "own"),
    Row("subject.auid", "linux.audit.auid", same, "own"),
    Row("primary.AUID", "linux.audit.user", text, "own"),
    Row("subject.ses", "linux.audit.session", same, "own"),
    Row("=account.id", "linux.audit.account.id", text, "own"),
    Row("=account.name", "linux.audit.account.name", text, "own"),
    Row("where", "linux.where", same, "own"),
    Row("host.boot_id", "linux.boot_id", same, "own"),
    Row("cgroup.id", "linux.cgroup.id", same, "own"),
    Row("cgroup.unit", "linux.cgroup.unit", same, "own"),
    Row("contid", "linux.contid", same, "own: decimal strings, own first"),
    Row("container_op.op", "linux.container_op.op", same, "own"),
    Row("container_op.opid", "linux.container_op.opid", same, "own"),
    Row("container_op.contid", "linux.container_op.contid", same, "own"),
    Row("container_op.old_contid", "linux.container_op.old_contid", same, "own"),
    Row("container_op.error", "linux.container_op.error", same, "own"),
    Row("namespaces.dev", "linux.namespace.dev", same, "own"),
    *(
        Row(f"namespaces.{kind}.{member}", f"linux.namespace.{kind}.{member}", same, "own")
        for kind in NAMESPACES
        for member in ("ino", "id", "host")
    ),
)
FIXED: Final = (
    ("timeUnixNano", "`id`: nanoseconds since the epoch", "OTLP logs data model, Timestamp"),
    ("severityNumber, severityText", "by the kind of event, below", "OTLP logs data model, Severity"),
    ("eventName", "`linux.audit.` and the event's `=action`", "OTLP logs data model, EventName"),
    ("body.stringValue", "the native event, one line of JSON", "OTLP logs data model, Body"),
)
TABLE: Final = Table(ROWS, flat=True)
_RESOURCE: Final = (
    Row("name", "host.name", same, "OpenTelemetry semantic conventions, host"),
    Row("machine_id", "host.id", same, "OpenTelemetry semantic conventions, host"),
)
RESOURCE_TABLE: Final = Table(_RESOURCE, flat=True)
RESOURCE_FIXED: Final = (
    ("service.name", "`audit-enricher`", "OpenTelemetry semantic conventions, service"),
    ("service.version", "its version", "OpenTelemetry semantic conventions, service"),
    ("os.type", "`linux`", "OpenTelemetry semantic conventions, os"),
)


def value_of(value: object) -> Made:
    """Return a value as OTLP's AnyValue."""
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, list):
        return {"arrayValue": {"values": [value_of(member) for member in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": attributes(value)}}
    return {}


def attributes(members: Made) -> list[Made]:
    """Return members as OTLP's list of keys and values."""
    return [{"key": name, "value": value_of(value)} for name, value in members.items()]


def resource(host: HostEntry) -> Made:
    """Return the resource of all records of one host, for resourceLogs."""
    return {"attributes": attributes(resource_members(host))}


def resource_members(host: HostEntry) -> Made:
    """Return the attributes of the resource by their names."""
    fixed: Made = {"service.name": "audit-enricher", "service.version": __version__, "os.type": "linux"}
    return RESOURCE_TABLE.apply(dict(host), fixed)


def log_record(native: NativeEvent, of: HostEntry | None = None, *, raw: bool = False) -> Made:
    """Return the event as one logRecord. A host that is not the resource's (`of`) is told in its own attributes."""
    _, members, read = see(native, raw=raw)
    host = native["host"]
    apart: Made = {}
    if of is not None and (host.get("name"), host.get("machine_id")) != (
        of.get("name"),
        of.get("machine_id"),
    ):
        RESOURCE_TABLE.apply(dict(host), apart)
    level = read["level"]
    assert isinstance(level, Severity)  # noqa: S101 - `see` always says one
    return {
        "timeUnixNano": read["ns"],
        "severityNumber": level.otlp,
        "severityText": level.otlp_name,
        "eventName": f"linux.audit.{read['action']}",
        "body": {"stringValue": dumps(native).decode()},
        "attributes": attributes(TABLE.apply(members, apart)),
    }
