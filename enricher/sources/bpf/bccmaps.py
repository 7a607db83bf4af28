# SPDX-License-Identifier: Apache-2.0
"""The maps of the programs that bcc compiles, made as `bpf/maps.bpf.c` declares them for the CO-RE object.

Owns their shapes, and the macros by which ``bpf/bcc/maps.h`` knows their descriptors and checks what was made. Never
makes the rings, which are one per CPU and mapped, nor the store's of container identifiers, which are only handed on.
"""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.sources.bpf import contidshare, wire, wirefacts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from enricher.errors import EnricherError
    from enricher.sources.bpf.libbpf import Libbpf

HASH: Final = 1
ARRAY: Final = 2
PERCPU_ARRAY: Final = 6
LRU_HASH: Final = 9
ARRAY_OF_MAPS: Final = 12
F_MMAPABLE: Final = 1 << 10

OPEN_EVENTS_MAX: Final = 16384
TOLD_CGROUPS_MAX: Final = 16384
_CALLS_MAX: Final = 4096
_ENTERED_MAX: Final = 4096
# struct open_event of bpf/include/maps.h: stamp, four words, the runs.
OPEN_EVENT_SIZE: Final = 16 + 16 + 4 * wire.TALLY_RUNS
LEARNED: Final = struct.Struct("=4Q")  # struct learned of bpf/bcc/maps.h
_ACT: Final = struct.calcsize("=Q4IIi4QQ")
_PLACE: Final = struct.calcsize("=10III10Q")
_BUCKET: Final = struct.calcsize("=QQ")
_MEMBER_KEY: Final = struct.calcsize("=Q4I")
_TOLD_USERS: Final = struct.calcsize("=QQII")
_ABOUT: Final = struct.calcsize("=QQQII")


class Shape(NamedTuple):
    """What the kernel is asked for: kind, and bytes of a key and a value."""

    kind: int
    key: int
    value: int
    entries: int
    flags: int = 0


SHAPES: Final = {
    "open_events": Shape(HASH, 8, OPEN_EVENT_SIZE, OPEN_EVENTS_MAX),
    "told_cgroups": Shape(LRU_HASH, 8, 1, TOLD_CGROUPS_MAX),
    "learned": Shape(ARRAY, 4, LEARNED.size, 1, F_MMAPABLE),
    "acts": Shape(LRU_HASH, 8, _ACT, 8192),
    "places": Shape(HASH, 8, _PLACE, _CALLS_MAX),
    "entered": Shape(HASH, 8, 8, _ENTERED_MAX),
    "change_bucket": Shape(PERCPU_ARRAY, 4, _BUCKET, 1),
    "members": Shape(LRU_HASH, _MEMBER_KEY, 1, 16384),
    "abouts": Shape(HASH, 8, _ABOUT, 1024),
    "told_users": Shape(LRU_HASH, 4, _TOLD_USERS, 4096),
    "refused_senders": Shape(LRU_HASH, 4, _BUCKET, 1024),
    "refused_bucket": Shape(PERCPU_ARRAY, 4, _BUCKET, 1),
}
"""Those of one size whatever the machine, by name."""

_TAIL: Final = wire.SIZES["contid_tail"]

CHECKED: Final = {
    "LEARNED_SIZE": LEARNED.size,
    "OPEN_EVENT_SIZE": OPEN_EVENT_SIZE,
    "COUNTERS_SIZE": wire.COUNTERS_SIZE,
    "CONTEXT_SIZE": wire.SIZES["context_event"],
    "CONTEXT_CONTID_SIZE": wire.SIZES["context_contid_event"],
    "TALLY_SIZE": wire.SIZES["tally_event"],
    "CGROUP_SIZE": wire.SIZES["cgroup_event"],
    "WALK_SIZE": wire.SIZES["walk_event"],
    "LINK_SIZE": wirefacts.SIZES[wirefacts.EVENT_LINK][0],
    "CHANGE_SIZE": wirefacts.SIZES[wirefacts.EVENT_CHANGE][-1],
    "TARGET_SIZE": wirefacts.SIZES[wirefacts.EVENT_TARGET][0],
    "NAMESPACE_SIZE": wirefacts.SIZES[wirefacts.EVENT_NAMESPACE][-1],
    "USERS_SIZE": wirefacts.SIZES[wirefacts.EVENT_USERS][0],
    "REFUSED_SIZE": wirefacts.SIZES[wirefacts.EVENT_REFUSED][-1],
    "PACKET_SIZE": wirefacts.SIZES[wirefacts.EVENT_PACKET][0],
    "MEMBER_SIZE": wirefacts.SIZES[wirefacts.EVENT_MEMBER][0],
    "ACT_SIZE": _ACT,
    "PLACE_SIZE": _PLACE,
    "BUCKET_SIZE": _BUCKET,
    "MEMBER_KEY_SIZE": _MEMBER_KEY,
    "TOLD_USERS_SIZE": _TOLD_USERS,
    "ABOUT_SIZE": _ABOUT,
    "DECODED_VERSION": wire.EVENT_VERSION,
    "OPEN_EVENTS_MADE": OPEN_EVENTS_MAX,
    "TOLD_CGROUPS_MADE": TOLD_CGROUPS_MAX,
    "PLACES_MADE": _CALLS_MAX,
    "ENTERED_MADE": _ENTERED_MAX,
}
"""What bpf/bcc/maps.h compares with its own: a difference ends in the compiler's error."""


class _MapOptions(ctypes.Structure):
    """``struct bpf_map_create_opts`` of libbpf as far as map_flags; its first word says how far."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("btf_fd", ctypes.c_uint32),
        ("btf_key_type_id", ctypes.c_uint32),
        ("btf_value_type_id", ctypes.c_uint32),
        ("btf_vmlinux_value_type_id", ctypes.c_uint32),
        ("inner_map_fd", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
    )


def make(
    lib: Libbpf, name: str, shape: Shape, fail: Callable[[str, int], EnricherError], *, inner: int = 0
) -> int:
    """Return the new map's descriptor, for the caller to close. `fail` makes the error of what was refused."""
    options = _MapOptions(sz=ctypes.sizeof(_MapOptions), inner_map_fd=inner, map_flags=shape.flags)
    fd: int = lib.bpf_map_create(
        shape.kind, name.encode(), shape.key, shape.value, shape.entries, ctypes.byref(options)
    )
    if fd < 0:
        raise fail(f"map {name} of {shape.entries} entries", fd)
    return fd


def of_store(contid: Mapping[str, int]) -> dict[str, int]:
    """The macros for the store's maps; where there is none no program looks, and the numbers are nobody's."""
    named = {f"{name.upper()}_FD": contid.get(name, 0) for name in contidshare.MAPS}
    return named | {"CONTID_ON": int(bool(contid))}
