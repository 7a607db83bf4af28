# SPDX-License-Identifier: Apache-2.0
"""Elastic Common Schema 9.4: the table.

Owns which ECS field each fact goes to. What ECS has no field for stands under names of our own: ``linux.*`` for
namespaces and cgroup, ``auditd.*`` for the records, ``audit_enricher.*`` for what this program says of itself, and
three user fields that Auditbeat made customary. Never a date made of a time since boot, never two meanings in one
field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher.model import KINDS as NAMESPACES
from enricher.route.schemas.seen import see
from enricher.route.schemas.table import Row, Table, base, count, one, plain, same, some, text, whole

if TYPE_CHECKING:
    from enricher.enrich.shape import NativeEvent
    from enricher.route.schemas.table import Made

VERSION: Final = "9.4.0"
OWN: Final = ("auditd.", "linux.", "audit_enricher.", "user.audit.", "user.saved.", "user.filesystem.")
"""Prefixes of the fields that are not ECS's."""


def _pod(_: object) -> str:
    return "pod"


def _kubernetes(_: object) -> str:
    return "kubernetes"


_FILE_TYPES: Final = {"dir", "symlink", "file"}


def _file_type(value: object) -> str | None:
    return value if isinstance(value, str) and value in _FILE_TYPES else None


ROWS: Final = (
    Row("time", "@timestamp", same, "ECS base"),
    Row("keys", "tags", some, "ECS base"),
    Row("=message", "message", plain, "ECS base"),
    Row("uid", "event.id", same, "ECS event"),
    Row("=action", "event.action", plain, "ECS event"),
    Row("outcome", "event.outcome", same, "ECS event, allowed values"),
    Row("=serial", "event.sequence", whole, "ECS event"),
    Row("=original", "event.original", plain, "ECS event"),
    Row("=error", "error.code", text, "ECS error"),
    Row("host.name", "host.name", same, "ECS host"),
    Row("host.name", "host.hostname", same, "ECS host"),
    Row("host.machine_id", "host.id", same, "ECS host"),
    Row("host.boot_id", "host.boot.id", same, "ECS host, Linux boot uuid"),
    Row("=host_pid_ns", "host.pid_ns_ino", text, "ECS host"),
    Row("subject.pid", "process.pid", same, "ECS process"),
    Row("=vpid", "process.vpid", whole, "ECS process, virtual pid"),
    Row("subject.tid", "process.thread.id", same, "ECS process"),
    Row("subject.ppid", "process.parent.pid", same, "ECS process, parent"),
    Row("=entity", "process.entity_id", text, "ECS process"),
    Row("subject.comm", "process.name", plain, "ECS process"),
    Row("subject.exe", "process.executable", plain, "ECS process"),
    Row("=args", "process.args", same, "ECS process"),
    Row("=args", "process.args_count", count, "ECS process"),
    Row("=command_line", "process.command_line", plain, "ECS process"),
    Row("=title", "process.title", plain, "ECS process"),
    Row("CWD.cwd", "process.working_directory", plain, "ECS process"),
    Row("subject.uid", "user.id", text, "ECS user"),
    Row("primary.UID", "user.name", text, "ECS user"),
    Row("subject.gid", "user.group.id", text, "ECS group, nested in user"),
    Row("primary.GID", "user.group.name", text, "ECS group, nested in user"),
    Row("subject.euid", "user.effective.id", text, "ECS user, effective"),
    Row("primary.EUID", "user.effective.name", text, "ECS user, effective"),
    Row("subject.egid", "user.effective.group.id", text, "ECS group, nested in user.effective"),
    Row("primary.EGID", "user.effective.group.name", text, "ECS group, nested in user.effective"),
    Row("subject.auid", "user.audit.id", text, "own; as in Auditbeat's auditd fields"),
    Row("primary.AUID", "user.audit.name", text, "own; as in Auditbeat's auditd fields"),
    Row("subject.suid", "user.saved.id", text, "own; as in Auditbeat's auditd fields"),
    Row("primary.SUID", "user.saved.name", text, "own; as in Auditbeat's auditd fields"),
    Row("subject.sgid", "user.saved.group.id", text, "own; as in Auditbeat's auditd fields"),
    Row("subject.fsuid", "user.filesystem.id", text, "own; as in Auditbeat's auditd fields"),
    Row("primary.FSUID", "user.filesystem.name", text, "own; as in Auditbeat's auditd fields"),
    Row("subject.fsgid", "user.filesystem.group.id", text, "own; as in Auditbeat's auditd fields"),
    Row("=account.id", "user.target.id", text, "ECS user, target"),
    Row("=account.name", "user.target.name", text, "ECS user, target"),
    Row("=group.id", "group.id", text, "ECS group"),
    Row("=group.name", "group.name", text, "ECS group"),
    Row("container.id", "container.id", same, "ECS container"),
    Row("container.name", "container.name", same, "ECS container"),
    Row("container.runtime", "container.runtime", same, "ECS container"),
    Row("container.labels", "container.labels", some, "ECS container"),
    Row("=image", "container.image.name", text, "ECS container"),
    Row("=tag", "container.image.tag", one, "ECS container"),
    Row("=pod", "orchestrator.type", _kubernetes, "ECS orchestrator"),
    Row("container.pod.namespace", "orchestrator.namespace", same, "ECS orchestrator"),
    Row("=pod", "orchestrator.resource.type", _pod, "ECS orchestrator"),
    Row("container.pod.name", "orchestrator.resource.name", same, "ECS orchestrator"),
    Row("container.pod.uid", "orchestrator.resource.id", same, "ECS orchestrator"),
    Row("=file.path", "file.path", plain, "ECS file"),
    Row("=file.name", "file.name", plain, "ECS file"),
    Row("=file.directory", "file.directory", plain, "ECS file"),
    Row("=file.path", "file.extension", lambda value: extension(str(value)), "ECS file, without the dot"),
    Row("=file.target", "file.target_path", plain, "ECS file"),
    Row("=file.type", "file.type", _file_type, "ECS file: file, dir or symlink"),
    Row("=file.mode", "file.mode", text, "ECS file, octal"),
    Row("=file.inode", "file.inode", text, "ECS file"),
    Row("=file.uid", "file.uid", text, "ECS file"),
    Row("=file.owner", "file.owner", text, "ECS file"),
    Row("=file.gid", "file.gid", text, "ECS file"),
    Row("=file.group", "file.group", text, "ECS file"),
    Row("=src.ip", "source.ip", text, "ECS source"),
    Row("=src.ip", "source.address", text, "ECS source"),
    Row("=src.port", "source.port", whole, "ECS source"),
    Row("=dst.ip", "destination.ip", text, "ECS destination"),
    Row("=dst.ip", "destination.address", text, "ECS destination"),
    Row("=dst.port", "destination.port", whole, "ECS destination"),
    Row("=net.type", "network.type", text, "ECS network, lower case"),
    Row("=net.transport", "network.transport", text, "ECS network, lower case"),
    Row("type", "auditd.message_type", same, "own; as in Auditbeat's auditd fields"),
    Row("subject.ses", "auditd.session", text, "own; as in Auditbeat's auditd fields"),
    Row("records", "auditd.records", some, "own: the records as they are"),
    Row("namespaces.dev", "linux.namespace.dev", same, "own"),
    *(Row(f"namespaces.{kind}", f"linux.namespace.{kind}", same, "own") for kind in NAMESPACES),
    Row("namespaces.change", "linux.namespace.change", same, "own"),
    Row("namespaces.of", "linux.namespace.of", same, "own"),
    Row("cgroup", "linux.cgroup", same, "own; ECS has no cgroup fields any more"),
    Row("contid", "linux.contid", same, "own: decimal strings, own first"),
    Row("container_ids", "audit_enricher.container_ids", same, "own"),
    Row("subject.pids", "linux.pids", same, "own"),
    Row("subject.start", "linux.start", same, "own; ECS process.start is a date, this counts from the boot"),
    Row("subject.inside", "linux.inside", same, "own"),
    Row("schema", "audit_enricher.schema", same, "own"),
    Row("id", "audit_enricher.id", same, "own"),
    Row("where", "audit_enricher.where", same, "own"),
    Row("container.image", "audit_enricher.image", same, "own: as it was asked for, with its digest"),
    Row("container.chain", "audit_enricher.chain", same, "own"),
    Row("subject.comm_hex", "audit_enricher.comm_hex", same, "own"),
    Row("subject.exe_hex", "audit_enricher.exe_hex", same, "own"),
    Row("packet", "audit_enricher.packet", same, "own"),
    Row("child", "audit_enricher.child", same, "own"),
    Row("targets", "audit_enricher.targets", same, "own"),
    Row("namespace", "audit_enricher.namespace", same, "own"),
    Row("refused", "audit_enricher.refused", same, "own"),
    Row("container_op", "audit_enricher.container_op", same, "own"),
    Row("lost", "audit_enricher.lost", same, "own"),
    Row("notice", "audit_enricher.notice", same, "own"),
    Row("enrichment", "audit_enricher.enrichment", same, "own"),
)
FIXED: Final = (
    ("ecs.version", VERSION, "ECS ecs"),
    ("event.kind", "`event`; `pipeline_error` for LOST", "ECS event, allowed values"),
    ("event.module", "`audit_enricher`", "ECS event"),
    ("event.dataset", "`audit_enricher.event`", "ECS event"),
    ("event.category", "by the kind of event, below", "ECS event, allowed values"),
    ("event.type", "by the kind of event, below", "ECS event, allowed values of the category"),
)
"""What no member of the event says: target, value, meaning."""


def extension(path: str) -> str | None:
    """Return a file name's extension without its dot; None where it has none."""
    name = base(path) or ""
    stem, dot, last = name.rpartition(".")
    return last if dot and stem and last else None


TABLE: Final = Table(ROWS)


def document(native: NativeEvent, *, raw: bool = False) -> Made:
    """Return the event as one ECS document, to be read only; ``event.original`` with `raw` alone."""
    kind, members, _ = see(native, raw=raw)
    event: Made = {
        "kind": "pipeline_error" if kind.name == "loss" else "event",
        "module": "audit_enricher",
        "dataset": "audit_enricher.event",
        "type": list(kind.types),
    }
    if kind.category:
        event["category"] = list(kind.category)
    return TABLE.apply(members, {"ecs": {"version": VERSION}, "event": event})
