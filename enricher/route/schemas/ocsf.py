# SPDX-License-Identifier: Apache-2.0
"""OCSF 1.8: the tables, one for what every class has and one for each class.

Owns which attribute each fact goes to, and the rule that an event keeps to its class only where what that class
requires is known: else it is a Kernel Activity (a system call that somebody made), else an Event Log Activity. No
event has an attribute that its class, with `PROFILES`, does not have. All that OCSF has no place for is in ``unmapped``
or, of the process, in ``xattributes``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from enricher import __version__
from enricher.route.schemas import kinds
from enricher.route.schemas.kinds import (
    ACCOUNT,
    AUTHENTICATION,
    EXTENSION,
    FILE,
    KERNEL,
    LOG,
    NETWORK,
    PROCESS,
)
from enricher.route.schemas.seen import see
from enricher.route.schemas.table import Row, Table, base, plain, same, some, text, whole

if TYPE_CHECKING:
    from enricher.enrich.shape import NativeEvent
    from enricher.route.schemas.kinds import Kind
    from enricher.route.schemas.seen import Seen
    from enricher.route.schemas.table import Made

VERSION: Final = "1.8.0"
PROFILES: Final = ("container", "host", "linux/linux_users")
NAMES: Final = {
    PROCESS: "Process Activity",
    FILE: "File System Activity",
    EXTENSION: "Kernel Extension Activity",
    KERNEL: "Kernel Activity",
    LOG: "Event Log Activity",
    NETWORK: "Network Activity",
    AUTHENTICATION: "Authentication",
    ACCOUNT: "Account Change",
}
OTHER_ACTIVITY: Final = 99
_INVOKE: Final = 4
_STATUS: Final = {"success": (1, "Success"), "failure": (2, "Failure")}
_UNKNOWN: Final = (0, "Unknown")
_PER_CATEGORY: Final = 1000
_PER_CLASS: Final = 100

_FILE_TYPES: Final = {"file": 1, "dir": 2, "char": 3, "block": 4, "socket": 5, "fifo": 6, "symlink": 7}
_DIRECTIONS: Final = {"connect": 2, "send": 2, "accept": 1, "receive": 1}
_IP_VERSIONS: Final = {"ipv4": 4, "ipv6": 6}
_LAUNCHES: Final = {"exec": 3, "fork": 2}


def _file_type(value: object) -> int:
    return _FILE_TYPES.get(str(value), 0)


def _ip_version(value: object) -> int:
    return _IP_VERSIONS.get(str(value), 0)


def _kubernetes(_: object) -> str:
    return "kubernetes"


BASE: Final = (
    Row("=ms", "time", same, "OCSF 1.8 base event, timestamp_t in milliseconds"),
    Row("=message", "message", plain, "OCSF 1.8 base event"),
    Row("=error", "status_code", text, "OCSF 1.8 base event"),
    Row("=original", "raw_data", plain, "OCSF 1.8 base event"),
    Row("uid", "metadata.uid", same, "OCSF 1.8 metadata"),
    Row("id", "metadata.original_event_uid", same, "OCSF 1.8 metadata"),
    Row("time", "metadata.original_time", same, "OCSF 1.8 metadata"),
    Row("type", "metadata.event_code", same, "OCSF 1.8 metadata"),
    Row("keys", "metadata.labels", some, "OCSF 1.8 metadata"),
    Row("=serial", "metadata.sequence", whole, "OCSF 1.8 metadata"),
    Row("schema", "metadata.log_version", same, "OCSF 1.8 metadata"),
    Row("host.name", "device.hostname", same, "OCSF 1.8 device"),
    Row("host.machine_id", "device.uid", same, "OCSF 1.8 device"),
    Row("host.boot_id", "device.boot_uid", same, "OCSF 1.8 device"),
    Row("subject.uid", "actor.user.uid", text, "OCSF 1.8 actor, user"),
    Row("primary.UID", "actor.user.name", text, "OCSF 1.8 actor, user"),
    Row("subject.ses", "actor.session.uid", text, "OCSF 1.8 actor, session"),
    Row("SYSCALL.tty", "actor.session.terminal", text, "OCSF 1.8 actor, session"),
    Row("subject.pid", "actor.process.pid", same, "OCSF 1.8 process"),
    Row("=vpid", "actor.process.namespace_pid", whole, "OCSF 1.8 process, profile container"),
    Row("subject.tid", "actor.process.tid", same, "OCSF 1.8 process"),
    Row("=entity", "actor.process.uid", text, "OCSF 1.8 process"),
    Row("subject.comm", "actor.process.name", plain, "OCSF 1.8 process"),
    Row("subject.exe", "actor.process.path", plain, "OCSF 1.8 process"),
    Row("=title", "actor.process.cmd_line", plain, "OCSF 1.8 process"),
    Row("CWD.cwd", "actor.process.working_directory", plain, "OCSF 1.8 process"),
    Row("subject.ppid", "actor.process.parent_process.pid", same, "OCSF 1.8 process"),
    Row("subject.uid", "actor.process.user.uid", text, "OCSF 1.8 process, user"),
    Row("primary.UID", "actor.process.user.name", text, "OCSF 1.8 process, user"),
    Row("subject.gid", "actor.process.group.uid", text, "OCSF 1.8 process, profile linux/linux_users"),
    Row("primary.GID", "actor.process.group.name", text, "OCSF 1.8 process, profile linux/linux_users"),
    Row("subject.euid", "actor.process.euid", same, "OCSF 1.8 process, profile linux/linux_users"),
    Row("subject.egid", "actor.process.egid", same, "OCSF 1.8 process, profile linux/linux_users"),
    Row("subject.auid", "actor.process.auid", same, "OCSF 1.8 process, profile linux/linux_users"),
    Row("container.id", "actor.process.container.uid", same, "OCSF 1.8 container"),
    Row("container.name", "actor.process.container.name", same, "OCSF 1.8 container"),
    Row("container.runtime", "actor.process.container.runtime", same, "OCSF 1.8 container"),
    Row("container.image", "actor.process.container.image.uid", same, "OCSF 1.8 image: as it was asked for"),
    Row("=image", "actor.process.container.image.name", text, "OCSF 1.8 image"),
    Row("=tag", "actor.process.container.image.tag", text, "OCSF 1.8 image"),
    Row("=pod", "actor.process.container.orchestrator", _kubernetes, "OCSF 1.8 container"),
    Row("=pod_uuid", "actor.process.container.pod_uuid", text, "OCSF 1.8 container"),
    Row("namespaces", "actor.process.xattributes.namespaces", some, "OCSF 1.8 process, free object"),
    Row("cgroup", "actor.process.xattributes.cgroup", same, "OCSF 1.8 process, free object"),
    Row("contid", "actor.process.xattributes.contid", same, "OCSF 1.8 process, free object"),
    Row("subject", "actor.process.xattributes.subject", same, "OCSF 1.8 process, free object"),
    *(
        Row(member, f"unmapped.{member}", some, "OCSF 1.8 base event, free object")
        for member in (
            *("where", "container", "packet", "child", "targets", "namespace", "refused", "lost", "notice"),
            *("container_ids", "container_op"),
            *("records", "enrichment"),
        )
    ),
)
_USER: Final = (
    Row("=account.id", "user.uid", text, "OCSF 1.8 user"),
    Row("=account.name", "user.name", text, "OCSF 1.8 user"),
    Row("=src.ip", "src_endpoint.ip", text, "OCSF 1.8 network endpoint"),
)
CLASSES: Final = {
    PROCESS: (),
    FILE: (
        Row("=file.name", "file.name", plain, "OCSF 1.8 file"),
        Row("=file.path", "file.path", plain, "OCSF 1.8 file"),
        Row("=file.directory", "file.parent_folder", plain, "OCSF 1.8 file"),
        Row("=file.type", "file.type_id", _file_type, "OCSF 1.8 file; 0 where not known"),
        Row("=file.inode", "file.uid", text, "OCSF 1.8 file"),
        Row("=file.uid", "file.owner.uid", text, "OCSF 1.8 user"),
        Row("=file.owner", "file.owner.name", text, "OCSF 1.8 user"),
        Row("=file.mode", "file.xattributes.mode", text, "OCSF 1.8 file, free object"),
        Row("=file.gid", "file.xattributes.gid", text, "OCSF 1.8 file, free object"),
        Row("=file.group", "file.xattributes.group", text, "OCSF 1.8 file, free object"),
        Row("=file.target", "file_result.path", plain, "OCSF 1.8 file"),
        Row("=file.target", "file_result.name", base, "OCSF 1.8 file"),
    ),
    EXTENSION: (Row("=module", "driver.file.name", text, "OCSF 1.8 kernel driver"),),
    KERNEL: (
        Row("=action", "kernel.name", plain, "OCSF 1.8 kernel"),
        Row("SYSCALL.SYSCALL", "kernel.system_call", text, "OCSF 1.8 kernel"),
    ),
    LOG: (),
    NETWORK: (
        Row("=src.ip", "src_endpoint.ip", text, "OCSF 1.8 network endpoint"),
        Row("=src.port", "src_endpoint.port", whole, "OCSF 1.8 network endpoint"),
        Row("=dst.ip", "dst_endpoint.ip", text, "OCSF 1.8 network endpoint"),
        Row("=dst.port", "dst_endpoint.port", whole, "OCSF 1.8 network endpoint"),
        Row("=net.transport", "connection_info.protocol_name", text, "OCSF 1.8 network connection"),
        Row("=net.type", "connection_info.protocol_ver_id", _ip_version, "OCSF 1.8 network connection"),
    ),
    AUTHENTICATION: (
        *_USER,
        Row("=service", "service.name", plain, "OCSF 1.8 service"),
        Row("subject.ses", "session.uid", text, "OCSF 1.8 session"),
        Row("msg.terminal", "session.terminal", text, "OCSF 1.8 session"),
    ),
    ACCOUNT: _USER,
}
FIXED: Final = (
    ("class_uid, category_uid, activity_id, type_uid", "by the kind of event, below", "OCSF 1.8 base event"),
    ("activity_name", "the event's `=action`, where activity_id is 99", "OCSF 1.8 base event"),
    ("status_id, status", "`outcome`; 0, Unknown without one", "OCSF 1.8 base event"),
    ("severity_id, severity", "by the kind of event, below", "OCSF 1.8 base event"),
    ("metadata.version", VERSION, "OCSF 1.8 metadata"),
    ("metadata.product", "this program and its version", "OCSF 1.8 product"),
    ("metadata.profiles", ", ".join(PROFILES), "OCSF 1.8 profiles"),
    ("device.type_id", "0: what the host is, nobody says", "OCSF 1.8 device"),
    ("device.os", "Linux, 200", "OCSF 1.8 operating system"),
    ("process", ("1007: `actor.process` with `=command_line`; of a signal or a trace `=peer.pid`, `=peer.name`; "
     "of a fork `=child.pid`"), "OCSF 1.8 process activity"),
    ("launch_type_id", "1007: 3 for exec, 2 for fork", "OCSF 1.8 process activity"),
    ("kernel.type_id", "1003: 2 for a system call, else 99", "OCSF 1.8 kernel"),
    ("driver.file.type_id, file_result.type_id", "0", "OCSF 1.8 file"),
    ("connection_info.direction_id", "4001: 2 outbound, 1 inbound, 0 where not known", "OCSF 1.8 network connection"),
    ("log_name", "1008: `audit`", "OCSF 1.8 event log activity"),
)  # fmt: skip
"""What no single member says: target, value, meaning."""

TABLES: Final = {uid: Table((*BASE, *rows)) for uid, rows in CLASSES.items()}
_PRODUCT: Final = {"name": "audit-enricher", "vendor_name": "audit-enricher", "version": __version__}
_OS: Final = {"name": "Linux", "type": "Linux", "type_id": 200}


def _class_of(seen: Seen) -> tuple[int, int]:
    """Return class and activity: the kind's, where all is known that the class requires."""
    kind, members, read = seen
    if _fits(kind, members, read):
        return kind.class_uid, kind.activity
    if "SYSCALL" in members and _acts(members):
        return KERNEL, _INVOKE
    return LOG, OTHER_ACTIVITY


def _acts(members: dict[str, object]) -> bool:
    """Whether there is somebody who acted, on some host."""
    subject, host = cast("Made", members.get("subject", {})), cast("Made", members["host"])
    return "pid" in subject and ("name" in host or "machine_id" in host)


def _fits(kind: Kind, members: dict[str, object], read: dict[str, object]) -> bool:
    uid = kind.class_uid
    if uid == NETWORK:
        return "src.ip" in read or "dst.ip" in read
    if uid in (AUTHENTICATION, ACCOUNT):
        known = text(read.get("account.id")) or text(read.get("account.name"))
        return bool(known) and (uid == ACCOUNT or plain(read.get("service")) is not None)
    if uid == LOG or not _acts(members):
        return uid == LOG
    if uid == PROCESS:
        needed = _OTHER_PROCESS.get(kind.name)
        return needed is None or whole(read.get(needed)) is not None
    return "file.name" in read if uid == FILE else uid != EXTENSION or "module" in read


_OTHER_PROCESS: Final = {"signal": "peer.pid", "trace": "peer.pid", "fork": "child.pid"}


def event(native: NativeEvent, *, raw: bool = False) -> Made:
    """Return the event as one object of its OCSF class, to be read only; ``raw_data`` with `raw` alone."""
    seen = see(native, raw=raw)
    kind, members, read = seen
    uid, activity = _class_of(seen)
    status, said = _STATUS.get(native.get("outcome", ""), _UNKNOWN)
    made: Made = {
        "class_uid": uid,
        "class_name": NAMES[uid],
        "category_uid": uid // _PER_CATEGORY,
        "activity_id": activity,
        "type_uid": uid * _PER_CLASS + activity,
        "severity_id": kind.severity.ocsf,
        "severity": kind.severity.ocsf_name,
        "status_id": status,
        "status": said,
        "metadata": {"version": VERSION, "product": _PRODUCT, "profiles": list(PROFILES)},
        "device": {"type_id": 0, "os": _OS},
    }
    if activity == OTHER_ACTIVITY:
        made["activity_name"] = read["action"]
    TABLES[uid].apply(members, made)
    if not ("hostname" in (device := cast("Made", made["device"])) or "uid" in device):
        del made["device"]
    _keep_who_acted(made)
    _complete(uid, kind, members, made)
    return made


def _keep_who_acted(made: Made) -> None:
    """Leave out a process or an actor that nothing names: OCSF takes none such."""
    actor = cast("Made", made.get("actor", {}))
    process = actor.get("process")
    if isinstance(process, dict) and "pid" not in process:
        cast("Made", made.setdefault("unmapped", {})).update(process.get("xattributes", {}))
        del actor["process"]
    if not actor:
        made.pop("actor", None)


def _complete(uid: int, kind: Kind, members: dict[str, object], made: Made) -> None:
    """Enter what the class requires beside what its table takes."""
    read = cast("Made", members["="])
    if uid == PROCESS:
        made["process"] = _process(kind, read, cast("Made", made["actor"]))
        if kind.name in _LAUNCHES:
            made["launch_type_id"] = _LAUNCHES[kind.name]
    elif uid == FILE:
        cast("Made", made["file"]).setdefault("type_id", 0)
        if "file_result" in made:
            cast("Made", made["file_result"])["type_id"] = 0
    elif uid == EXTENSION:
        cast("Made", cast("Made", made["driver"])["file"])["type_id"] = 0
    elif uid == KERNEL:
        cast("Made", made["kernel"])["type_id"] = 2 if "SYSCALL" in members else OTHER_ACTIVITY
    elif uid == NETWORK:
        info = cast("Made", made.setdefault("connection_info", {}))
        info["direction_id"] = _DIRECTIONS.get(kind.name, 0)
    elif uid == LOG:
        made["log_name"] = "audit"


def _process(kind: Kind, read: Made, actor: Made) -> Made:
    needed = _OTHER_PROCESS.get(kind.name)
    if needed is None:
        process = dict(cast("Made", actor["process"]))
        if "command_line" in read:
            process["cmd_line"] = read["command_line"]
        return process
    process = {"pid": whole(read[needed])}
    if needed == "peer.pid" and (name := plain(read.get("peer.name"))) is not None:
        process["name"] = name
    return process


CLASS_UIDS: Final = frozenset(kind.class_uid for kind in kinds.KINDS)
