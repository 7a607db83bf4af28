# SPDX-License-Identifier: Apache-2.0
"""A native event the way mapping tables read it: its members, its records by type, and what takes several of them.

Owns what a row's ``=name`` means (`READINGS` says it in words). Never invents: a path that nobody can complete has no
directory, a name that is no address is none. The event itself stays as it is; values are shared with it.
"""

from __future__ import annotations

import stat
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.enrich import describe
from enricher.route.schemas.kinds import Kind, kind_of
from enricher.route.schemas.table import base, plain, text, whole
from enricher.sources.audit.text import split_stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enricher.enrich.shape import Fields, FieldValue, NativeEvent

READINGS: Final = {
    "action": "the system call's name, else the event's type in lower case",
    "ms": "`id`, as milliseconds since the epoch",
    "ns": "`id`, as nanoseconds since the epoch, in digits",
    "serial": "the serial in `id`; none in an event of our own",
    "message": "action, result, and what it was about, in words",
    "error": "the name of the error, where SYSCALL failed",
    "original": "`records[].raw`, joined by newlines; only where raw text is asked for",
    "level": "our severity: informational, LOST and anomalies higher",
    "entity": "`host.boot_id`/`subject.pid`/`subject.start`",
    "vpid": "the pid in the innermost of `subject.pids`, where there are several",
    "host_pid_ns": "the outermost of `subject.pids`: the host's pid namespace",
    "args": "`ARGV` of EXECVE, else of PROCTITLE; at most 256",
    "command_line": "the same, joined by spaces",
    "title": "`ARGV` of PROCTITLE, joined by spaces",
    "image": "`container.image` without tag and digest",
    "tag": "the tag of `container.image`",
    "pod": "`container.pod`: says that there is one",
    "pod_uuid": "`container.pod.uid` where it is a UUID",
    "file.path": "`PATH.name`, below `CWD.cwd` where the call names no other directory; else only if absolute",
    "file.name": "the last component of `PATH.name`",
    "file.directory": "`file.path` without it",
    "file.target": "the path of the second PATH: what a rename or a link made",
    "file.mode": "the permissions in `PATH.mode`, octal",
    "file.type": "the file type in `PATH.mode`",
    "file.inode": "`PATH.inode`",
    "file.uid": "`PATH.ouid`",
    "file.gid": "`PATH.ogid`",
    "file.owner": "`PATH.OUID`",
    "file.group": "`PATH.OGID`",
    "src.ip": "`SOCKADDR.SADDR.addr` of what accepts or receives; `NETFILTER_PKT.saddr`; `msg.addr`",
    "src.port": "the port that belongs to it",
    "dst.ip": "`SOCKADDR.SADDR.addr` of what connects, sends or binds; `NETFILTER_PKT.daddr`",
    "dst.port": "the port that belongs to it",
    "net.type": "ipv4 or ipv6",
    "net.transport": "`NETFILTER_PKT.PROTO`",
    "account.id": "whom the event is about: `msg.id`, or `auid` of LOGIN",
    "account.name": "`msg.acct`, or `AUID` of LOGIN",
    "group.id": "`msg.id` of a group's event",
    "group.name": "`msg.grp`, or `msg.acct` of a group's event",
    "service": "the last component of `msg.exe`, else `subject.comm`: who let somebody in",
    "peer.pid": "the pid of the first of `targets`, else `OBJ_PID.opid`",
    "peer.name": "its `comm`, else `OBJ_PID.ocomm`",
    "child.pid": "`child.pid`",
    "module": "`KERN_MODULE.name`",
}
"""What each reading is; the documentation has them from here."""

_LAST_SECOND: Final = 253_402_300_799  # the end of the year 9999, as `time` has it
_LARGEST: Final = 2**63 - 1
_FILE_LIKE: Final = frozenset({"file", "intrusion_detection"})
_PEER_CLASS: Final = ("signal", "trace")
_SOURCES: Final = frozenset({"accept", "receive"})
_GROUPS: Final = frozenset({"group-create", "group-delete", "group-change"})
_SOCKETS: Final = frozenset({"connect", "accept", "listen", "send", "receive"})
_OTHER_DIRECTORY: Final = "at"
"""Ends or begins the names of the calls that take a directory's descriptor: openat, openat2, name_to_handle_at."""

_TYPES: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


class Seen(NamedTuple):
    """``members`` is what tables read; ``kind`` chooses the words."""

    kind: Kind
    members: dict[str, object]
    read: dict[str, object]


def see(native: NativeEvent, *, raw: bool = False) -> Seen:
    """Read the event once, for a table of any schema. With `raw` the records' own text is read, too."""
    members: dict[str, object] = dict(native)
    paths: list[Fields] = []
    for record in native["records"]:
        if record["type"] == "PATH":
            paths.append(record["fields"])
        else:
            members.setdefault(record["type"], record["fields"])
    action = describe.action(native)
    call = members.get("SYSCALL")
    name = action if isinstance(call, dict) and isinstance(call.get("SYSCALL"), str) else ""
    kind = kind_of(native, name)
    primary = members.get(native["type"], paths[0] if paths and native["type"] == "PATH" else None)
    if isinstance(primary, dict):
        members["primary"] = primary
        message = _message(primary)
        if message is not None:
            members["msg"] = message
    action = action if isinstance(call, dict) else action.lower()
    sec, ms, serial = split_stamp(native["id"].encode("ascii"))
    sec, ms = min(sec, _LAST_SECOND), min(ms, 999)
    read: dict[str, object] = {
        "action": action,
        "ms": sec * 1000 + ms,
        "ns": f"{sec}{ms:03d}000000",
        "level": kind.severity,
    }
    if 0 < serial <= _LARGEST:
        read["serial"] = serial
    members["="] = read
    _process(native, members, read)
    _container(members, read)
    if paths and not _FILE_LIKE.isdisjoint(kind.category):
        _file(paths, members, name, read)
    _network(kind, members, read)
    _account(kind, members, read)
    _peer(kind, members, read)
    result = describe.result(native)
    if native.get("outcome") == "failure" and result not in ("ok", "failed", ""):
        read["error"] = result
    about = (
        read.get("file.path")
        or read.get("command_line")
        or describe.told(native)
        or describe.message(native)
        or read.get("dst.ip")
    )
    read["message"] = " ".join(str(part) for part in (action, result, about) if part)
    if raw:
        original = "\n".join(record["raw"] for record in native["records"] if "raw" in record)
        if original:
            read["original"] = original
    return Seen(kind, members, read)


def _message(primary: Fields) -> dict[str, FieldValue] | None:
    """Return what a program said; where the kernel's part has a ``msg`` too, that one comes first."""
    said = primary.get("msg")
    if isinstance(said, list):
        said = said[-1] if said else None
    return said if isinstance(said, dict) else None


def _process(native: NativeEvent, members: dict[str, object], read: dict[str, object]) -> None:
    subject = native.get("subject")
    if subject is not None:
        boot = native["host"].get("boot_id")
        if boot and "start" in subject and "pid" in subject:
            read["entity"] = f"{boot}/{subject['pid']}/{subject['start']}"
        pids = subject.get("pids")
        if pids:
            read["host_pid_ns"] = pids[0]["ns"]
            if len(pids) > 1:
                read["vpid"] = pids[-1]["pid"]
    arguments = describe.command(native)
    if arguments:
        read["args"] = arguments
        read["command_line"] = " ".join(arguments)
    title = members.get("PROCTITLE")
    if isinstance(title, dict):
        shown = title.get("ARGV")
        if isinstance(shown, list):
            read["title"] = " ".join(word for word in shown if isinstance(word, str)).rstrip()
    for record, field in (("KERN_MODULE", "name"),):
        fields = members.get(record)
        if isinstance(fields, dict) and (module := text(fields.get(field))):
            read["module"] = module


@lru_cache(maxsize=1024)
def image_parts(image: str) -> tuple[str, str]:
    """Return an image's name and its tag, "" for none: ``host:5000/a/b:1.2@sha256:..`` has both."""
    name = image.partition("@")[0]
    before, colon, tag = name.rpartition(":")
    return (before, tag) if colon and "/" not in tag else (name, "")


def _container(members: dict[str, object], read: dict[str, object]) -> None:
    container = members.get("container")
    if not isinstance(container, dict):
        return
    if "image" in container:
        name, tag = image_parts(container["image"])
        read["image"] = name
        if tag:
            read["tag"] = tag
    pod = container.get("pod")
    if pod is not None:
        read["pod"] = pod
        if len(pod["uid"]) == _UUID and pod["uid"].count("-") == 4:  # noqa: PLR2004 - 8-4-4-4-12
            read["pod_uuid"] = pod["uid"]


_UUID: Final = 36


def _file(paths: Sequence[Fields], members: dict[str, object], call: str, read: dict[str, object]) -> None:
    """Read the file an event is about. A rename's is what it was; what it became is the target."""
    named = [path for path in paths if path.get("nametype") != "PARENT" and _named(path)]
    if not named:
        named = [path for path in paths if _named(path)]
    if not named:
        return
    made = [path for path in named if path.get("nametype") == "CREATE"]
    gone = [path for path in named if path.get("nametype") == "DELETE"]
    old = [path for path in named if path.get("nametype") == "NORMAL"]
    first = named[0]
    target = None
    if call.startswith("rename") and gone and made:
        first, target = gone[0], made[-1]
    elif call.startswith("link") and old and made:
        first, target = old[0], made[0]
    name = str(first["name"])
    read["file.name"] = base(name)
    if (whole_path := _path(name, members, call)) is not None:
        read["file.path"] = whole_path
        read["file.directory"] = whole_path.rstrip("/").rpartition("/")[0] or "/"
    if target is not None and (other := _path(str(target["name"]), members, call)) is not None:
        read["file.target"] = other
    mode = first.get("mode")
    if isinstance(mode, str) and mode.isascii() and mode.isdigit() and len(mode) <= _MODE_DIGITS:
        try:
            bits = int(mode, 8)
        except ValueError:
            bits = 0
        if (kind := _TYPES.get(stat.S_IFMT(bits))) is not None:
            read["file.mode"] = f"{stat.S_IMODE(bits):04o}"
            read["file.type"] = kind
    for reading, field in _OF_PATH:
        if field in first:
            read[reading] = first[field]


_MODE_DIGITS: Final = 8
_OF_PATH: Final = (
    ("file.inode", "inode"),
    ("file.uid", "ouid"),
    ("file.gid", "ogid"),
    ("file.owner", "OUID"),
    ("file.group", "OGID"),
)


def _named(path: Fields) -> bool:
    return plain(path.get("name")) not in (None, "(null)")


def _path(name: str, members: dict[str, object], call: str) -> str | None:
    if name.startswith("/"):
        return name
    cwd, fields = members.get("CWD"), members.get("SYSCALL")
    if not isinstance(cwd, dict) or not isinstance(fields, dict):
        return None
    if _OTHER_DIRECTORY in call and call not in _NO_DIRECTORY:
        directories = [fields.get("A0")] + [fields.get("A2")] * call.startswith(("rename", "link"))
        if any(directory != "AT_FDCWD" for directory in directories):
            return None
    above = plain(cwd.get("cwd"))
    if above is None or not above.startswith("/"):
        return None
    return f"{above.rstrip('/')}/{name.removeprefix('./')}"


_NO_DIRECTORY: Final = frozenset(
    "creat stat stat64 lstat lstat64 statfs statfs64 truncate truncate64".split()
)


def _address(value: object) -> str | None:
    """Return an address as it is, if it is one: programs write names there, too."""
    if not isinstance(value, str) or len(value) > _LONGEST_ADDRESS:
        return None
    return value if _is_address(value) else None


@lru_cache(maxsize=4096)
def _is_address(value: str) -> bool:
    try:
        return ip_address(value) is not None and "%" not in value
    except ValueError:
        return False


_LONGEST_ADDRESS: Final = 40
_LARGEST_PORT: Final = 65_535


def _network(kind: Kind, members: dict[str, object], read: dict[str, object]) -> None:
    if kind.name in _SOCKETS:
        sockaddr = members.get("SOCKADDR")
        address = sockaddr.get("SADDR") if isinstance(sockaddr, dict) else None
        if isinstance(address, dict):
            side = "src" if kind.name in _SOURCES else "dst"
            _end(side, address.get("addr"), address.get("port"), read)
    elif kind.name == "packet":
        packet = members.get("NETFILTER_PKT")
        if isinstance(packet, dict):
            _end("src", packet.get("saddr"), packet.get("sport"), read)
            _end("dst", packet.get("daddr"), packet.get("dport"), read)
            if (transport := packet.get("PROTO")) is not None:
                read["net.transport"] = transport
    elif isinstance(message := members.get("msg"), dict):
        _end("src", message.get("addr"), None, read)


def _end(side: str, address: object, port: object, read: dict[str, object]) -> None:
    shown = _address(address)
    if shown is None:
        return
    read[f"{side}.ip"] = shown
    read["net.type"] = "ipv6" if ":" in shown else "ipv4"
    number = whole(port)
    if number is not None and number <= _LARGEST_PORT:
        read[f"{side}.port"] = number


def _account(kind: Kind, members: dict[str, object], read: dict[str, object]) -> None:
    """Read whom a login or a change of accounts is about; in a program's message it is that program's word."""
    login = members.get("LOGIN")
    if isinstance(login, dict):
        read["account.id"], read["account.name"] = login.get("auid"), login.get("AUID")
    message = members.get("msg")
    if isinstance(message, dict):
        ident, name = message.get("id"), message.get("acct")
        if kind.name in _GROUPS:
            read["group.id"], read["group.name"] = ident, message.get("grp", name)
        else:
            read["account.id"], read["account.name"] = ident, name
        if (exe := base(text(message.get("exe")))) is not None:
            read["service"] = exe
    if "service" not in read:
        subject = members.get("subject")
        read["service"] = subject.get("comm") if isinstance(subject, dict) else None


def _peer(kind: Kind, members: dict[str, object], read: dict[str, object]) -> None:
    if kind.name in _PEER_CLASS:
        targets = members.get("targets")
        obj = members.get("OBJ_PID")
        if isinstance(targets, list) and targets:
            read["peer.pid"], read["peer.name"] = targets[0]["pid"], targets[0]["comm"]
        elif isinstance(obj, dict):
            read["peer.pid"], read["peer.name"] = obj.get("opid"), obj.get("ocomm")
    child = members.get("child")
    if isinstance(child, dict):
        read["child.pid"] = child.get("pid")
