# SPDX-License-Identifier: Apache-2.0
"""Decodes the messages of ``bpf/include/events.h`` that tell facts beside records, see `enricher.facts`.

Owns their layout as user space believes it, as `wire` does for contexts and tallies. Never touches a map or a ring.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from enricher import facts
from enricher.model import KINDS
from enricher.sources.bpf import wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.facts import Fact

EVENT_CHANGE: Final = 5
EVENT_TARGET: Final = 6
EVENT_LINK: Final = 7
EVENT_NAMESPACE: Final = 8
EVENT_USERS: Final = 9
EVENT_REFUSED: Final = 10
EVENT_PACKET: Final = 11
EVENT_MEMBER: Final = 12

USERS_LEVELS: Final = 33
USERS_EXTENTS: Final = 5
USERS_EXTENTS_MAX: Final = 340
REFUSED_TEXT: Final = 1024

_N: Final = len(KINDS)
_TASK: Final = wire.SIZES["context_deep_event"]
_TASK_BYTES: Final = (("who", f"{_TASK}s"),)

LINK_FIELDS: Final[wire.Fields] = (
    *wire.HEADER,
    *wire.STAMP,
    ("link", "Q"),
    ("tid", "I"),
    ("untold", "I"),
    ("child_pid", "I"),
    ("child_seen", "I"),
)
CHANGE_FIELDS: Final[wire.Fields] = (
    *_TASK_BYTES,
    ("link", "Q"),
    ("actor_pid", "I"),
    ("actor_tid", "I"),
    ("op", "H"),
    ("pad", "H"),
    ("before_missing", "I"),
    ("before_inum", f"{_N}I"),
    ("before_unique", f"{_N}Q"),
    ("actor_cgroup", "Q"),
)
TARGET_FIELDS: Final[wire.Fields] = (*_TASK_BYTES, ("link", "Q"), ("actor_tid", "I"), ("by_pidfd", "I"))
NAMESPACE_FIELDS: Final[wire.Fields] = (
    *wire.HEADER,
    ("unique", "Q"),
    ("inum", "I"),
    ("kind", "H"),
    ("op", "H"),
    ("parent", "I"),
    ("owner", "I"),
    ("creator_pid", "I"),
    ("creator_tid", "I"),
    ("creator_start", "Q"),
    ("creator_cgroup", "Q"),
    ("creator_uid", "I"),
    ("level", "I"),
    ("creator_comm", "16s"),
)
_EXTENTS: Final = f"{3 * USERS_EXTENTS}I"
_EXTENTS_MAX: Final = f"{3 * USERS_EXTENTS_MAX}I"
USERS_FIELDS: Final[wire.Fields] = (
    *wire.HEADER,
    ("inum", "I"),
    ("level", "I"),
    ("owner_uid", "I"),
    ("owner_gid", "I"),
    ("uid_count", "I"),
    ("gid_count", "I"),
    ("above", f"{USERS_LEVELS}I"),
    ("pad", "I"),
    ("unique", f"{USERS_LEVELS + 1}Q"),
    ("uid", _EXTENTS),
    ("gid", _EXTENTS),
)
EXTENT_FIELDS: Final[wire.Fields] = (("first", "I"), ("lower_first", "I"), ("count", "I"))
REFUSED_FIELDS: Final[wire.Fields] = (
    *_TASK_BYTES,
    ("uid", "I"),
    ("gid", "I"),
    ("record_type", "H"),
    ("size", "H"),
    ("length", "I"),
    ("text", f"{REFUSED_TEXT}s"),
)
PACKET_FIELDS: Final[wire.Fields] = (
    *wire.HEADER,
    *wire.STAMP,
    ("unique", "Q"),
    ("inum", "I"),
    ("record_type", "H"),
    ("pad", "H"),
)
MEMBER_FIELDS: Final[wire.Fields] = (
    *wire.HEADER,
    ("cgroup_id", "Q"),
    ("inum", f"{_N}I"),
    ("unique", f"{_N}Q"),
    ("pid", "I"),
    ("pad", "I"),
    ("start", "Q"),
)

_LINK: Final = wire.packed(LINK_FIELDS)
_CHANGE: Final = wire.packed(CHANGE_FIELDS)
_TARGET: Final = wire.packed(TARGET_FIELDS)
_TAIL: Final = wire.SIZES["contid_tail"]
_NAMESPACE: Final = wire.packed(NAMESPACE_FIELDS)
_USERS: Final = wire.packed(USERS_FIELDS)
_LARGE: Final = struct.Struct(f"={_EXTENTS_MAX}")
_REFUSED: Final = wire.packed(REFUSED_FIELDS)
_PACKET: Final = wire.packed(PACKET_FIELDS)
_MEMBER: Final = wire.packed(MEMBER_FIELDS)

STRUCTS: Final[dict[str, wire.Fields]] = {
    "link_event": LINK_FIELDS,
    "change_event": CHANGE_FIELDS,
    "target_event": TARGET_FIELDS,
    "target_contid_event": (("t", f"{_TARGET.size}s"), ("contid", f"{_TAIL}s")),
    "change_contid_event": (("c", f"{_CHANGE.size}s"), ("contid", f"{_TAIL}s")),
    "namespace_event": NAMESPACE_FIELDS,
    "namespace_contid_event": (("n", f"{_NAMESPACE.size}s"), ("contid", f"{_TAIL}s")),
    "users_event": USERS_FIELDS,
    "users_large_event": (("u", f"{_USERS.size}s"), ("uid", _EXTENTS_MAX), ("gid", _EXTENTS_MAX)),
    "id_extent": EXTENT_FIELDS,
    "refused_event": REFUSED_FIELDS,
    "refused_contid_event": (("r", f"{_REFUSED.size}s"), ("contid", f"{_TAIL}s")),
    "packet_event": PACKET_FIELDS,
    "member_event": MEMBER_FIELDS,
}
"""By the struct's name in the object, for the check at start (`layout`)."""

SIZES: Final = {
    EVENT_LINK: (_LINK.size,),
    EVENT_CHANGE: (_CHANGE.size, _CHANGE.size + _TAIL),
    EVENT_TARGET: (_TARGET.size, _TARGET.size + _TAIL),
    EVENT_NAMESPACE: (_NAMESPACE.size, _NAMESPACE.size + _TAIL),
    EVENT_USERS: (_USERS.size, _USERS.size + 2 * _LARGE.size),
    EVENT_REFUSED: (_REFUSED.size, _REFUSED.size + _TAIL),
    EVENT_PACKET: (_PACKET.size,),
    EVENT_MEMBER: (_MEMBER.size,),
}
"""By the message's type: the bytes it may have."""


def _stamp(sec: int, ms: int, serial: int) -> bytes:
    return b"%d.%03d:%d" % (sec, ms, serial)


def _chain_behind(data: bytes, at: int, size: int) -> tuple[int, ...] | None:
    """Return the chain behind the first `size` bytes of the message at `at`; None where that is all of it."""
    whole = wire.size_of(data, at)
    return wire.decode_chain(data, at + whole) if whole > size else None


def _link(data: bytes, at: int) -> facts.Link:
    values = _LINK.unpack_from(data, at)
    return facts.Link(_stamp(*values[4:7]), *values[7:])


def _change(data: bytes, at: int) -> facts.Change:
    _, link, actor_pid, actor_tid, op, _, _, *rest = _CHANGE.unpack_from(data, at)
    who = wire.decode_context(data, at)
    before, ids = tuple(rest[:_N]), tuple(rest[_N : 2 * _N])
    contid = _chain_behind(data, at, _CHANGE.size)
    return facts.Change(who.time, who, link, actor_pid, actor_tid, rest[2 * _N], op, before, ids, contid)


def _target(data: bytes, at: int) -> facts.Target:
    _, link, actor_tid, by_pidfd = _TARGET.unpack_from(data, at)
    who = wire.decode_context(data, at)
    if (contid := _chain_behind(data, at, _TARGET.size)) is not None:
        who = who._replace(contid=contid)
    return facts.Target(who, link, actor_tid, bool(by_pidfd))


def _namespace(data: bytes, at: int) -> facts.NamespaceLife:
    values = _NAMESPACE.unpack_from(data, at)
    _, _, _, time, unique, inum, kind, op, parent, owner, pid, tid, start, cgroup, uid, level, comm = values
    return facts.NamespaceLife(
        time, op, inum, min(kind, _N - 1), unique, parent, owner, level, pid, tid, start, cgroup, uid,
        comm.split(b"\0", 1)[0], _chain_behind(data, at, _NAMESPACE.size),
    )  # fmt: skip


def encode_namespace(life: facts.NamespaceLife) -> bytes:
    """The message as the kernel side would have sent it: for what user space found itself."""
    return _NAMESPACE.pack(
        EVENT_NAMESPACE, wire.EVENT_VERSION, _NAMESPACE.size, life.time, life.id, life.inum, life.kind, life.op,
        life.parent, life.owner, life.creator_pid, life.creator_tid, life.creator_start, life.creator_cgroup,
        life.creator_uid, life.level, life.creator_comm[:16],
    )  # fmt: skip


def _extents(numbers: tuple[int, ...], count: int) -> tuple[facts.Extent, ...]:
    rows = zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=True)
    return tuple(facts.Extent(*row) for row, _ in zip(rows, range(count), strict=False))


def _users(data: bytes, at: int) -> facts.UserMap:
    values = _USERS.unpack_from(data, at)
    _, _, size, time, inum, level, uid, gid, uids, gids, *rest = values
    numbers = tuple(rest[:USERS_LEVELS])
    above = numbers[: numbers.index(0)] if 0 in numbers else numbers
    ids = tuple(rest[USERS_LEVELS + 1 : USERS_LEVELS + 2 + len(above)])
    end = USERS_LEVELS + 1 + USERS_LEVELS + 1
    inside, groups = tuple(rest[end : end + 3 * USERS_EXTENTS]), tuple(rest[end + 3 * USERS_EXTENTS :])
    room = USERS_EXTENTS
    if size > _USERS.size:
        room = USERS_EXTENTS_MAX
        inside = _LARGE.unpack_from(data, at + _USERS.size)
        groups = _LARGE.unpack_from(data, at + _USERS.size + _LARGE.size)
    return facts.UserMap(
        time, inum, level, uid, gid, above, ids, _extents(inside, uids), _extents(groups, gids),
        max(uids, gids) <= room,
    )  # fmt: skip


def _refused(data: bytes, at: int) -> facts.Refused:
    _, uid, gid, record_type, size, length, text = _REFUSED.unpack_from(data, at)
    who = wire.decode_context(data, at)
    contid = _chain_behind(data, at, _REFUSED.size)
    return facts.Refused(who.time, who, record_type, length, text[:size], uid, gid, contid)


def _packet(data: bytes, at: int) -> facts.PacketNet:
    _, _, _, time, sec, ms, serial, unique, inum, record_type, _ = _PACKET.unpack_from(data, at)
    return facts.PacketNet(_stamp(sec, ms, serial), time, record_type, inum, unique)


def _member(data: bytes, at: int) -> facts.Member:
    _, _, _, time, cgroup, *rest = _MEMBER.unpack_from(data, at)
    pid, _, start = rest[2 * _N :]
    return facts.Member(time, cgroup, pid, start, tuple(rest[:_N]), tuple(rest[_N : 2 * _N]))


def encode_member(member: facts.Member) -> bytes:
    """The message as the kernel side would have sent it: for what user space found itself."""
    return _MEMBER.pack(
        EVENT_MEMBER, wire.EVENT_VERSION, _MEMBER.size, member.time, member.cgroup_id, *member.inums, *member.ids,
        member.pid, 0, member.start,
    )  # fmt: skip


DECODERS: Final[dict[int, Callable[[bytes, int], Fact]]] = {
    EVENT_LINK: _link,
    EVENT_CHANGE: _change,
    EVENT_TARGET: _target,
    EVENT_NAMESPACE: _namespace,
    EVENT_USERS: _users,
    EVENT_REFUSED: _refused,
    EVENT_PACKET: _packet,
    EVENT_MEMBER: _member,
}
"""By the message's type. Each takes the memory and where the message begins; struct.error where it ends before."""
