# SPDX-License-Identifier: Apache-2.0
"""Compares what user space decodes with the BTF of the object that is about to be loaded.

Owns the walk through BTF structs. Never changes either side: a difference means that object and
Python code are of different builds, and the answer is to refuse.
"""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING, Final

from enricher.errors import LayoutMismatch
from enricher.sources.bpf import wire, wirefacts
from enricher.sources.bpf.libbpf import BTF_KIND_STRUCT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enricher.sources.bpf.libbpf import Libbpf

# include/uapi/linux/btf.h: struct btf_type {name_off, info, size|type}; struct btf_member {name_off, type, offset}
_TYPE: Final = struct.Struct("=III")
_MEMBER: Final = struct.Struct("=III")
_VLEN: Final = 0xFFFF
_KIND_SHIFT: Final = 24
_KIND_MASK: Final = 0x1F
_KIND_BITFIELDS: Final = 1 << 31


class StructLayout:
    """One struct of a BTF: total size, and {dotted member path: (byte offset, byte size)}."""

    def __init__(self, size: int, members: dict[str, tuple[int, int]]) -> None:
        self.size = size
        self.members = members


def read_struct(lib: Libbpf, btf: int, name: str) -> StructLayout | None:
    """The layout of struct `name` in the BTF at `btf`, nested structs flattened; None where it has none."""
    number = lib.btf__find_by_name_kind(btf, name.encode(), BTF_KIND_STRUCT)
    if number < 0:
        return None
    size = _TYPE.unpack(ctypes.string_at(lib.btf__type_by_id(btf, number), _TYPE.size))[2]
    return StructLayout(size, dict(_members(lib, btf, number, "", 0)))


def _members(
    lib: Libbpf, btf: int, number: int, prefix: str, base: int
) -> Iterator[tuple[str, tuple[int, int]]]:
    address = lib.btf__type_by_id(btf, number)
    _, info, _ = _TYPE.unpack(ctypes.string_at(address, _TYPE.size))
    raw = ctypes.string_at(address + _TYPE.size, (info & _VLEN) * _MEMBER.size)
    for name_at, member_type, bits in _MEMBER.iter_unpack(raw):
        path = prefix + lib.btf__name_by_offset(btf, name_at).decode()
        if info & _KIND_BITFIELDS:
            bits &= 0xFFFFFF  # noqa: PLW2901 - the upper byte is the bit-field's width
        at = base + bits // 8
        yield path, (at, lib.btf__resolve_size(btf, member_type))
        kind = _TYPE.unpack(ctypes.string_at(lib.btf__type_by_id(btf, member_type), _TYPE.size))[1]
        if (kind >> _KIND_SHIFT) & _KIND_MASK == BTF_KIND_STRUCT:
            yield from _members(lib, btf, member_type, path + ".", at)


def expected() -> dict[str, dict[str, tuple[int, int]]]:
    """What the decoder believes: {struct: {member path: (byte offset, byte size)}}.

    Elements of arrays are structs of their own here, so that their order is compared as well.
    """

    def table(fields: wire.Fields) -> dict[str, tuple[int, int]]:
        at = 0
        out = {}
        for name, code in fields:
            size = struct.calcsize("=" + code)
            out[name] = (at, size)
            at += size
        return out

    context = table(wire.CONTEXT_FIELDS)
    end = wire.SIZES["context_event"] - 8 * wire.LEVELS_INLINE
    context["level"] = (end, 8 * wire.LEVELS_INLINE)
    tally = table(wire.TALLY_FIELDS)
    tally["run"] = (wire.SIZES["tally_event"] - 4 * wire.TALLY_RUNS, 4 * wire.TALLY_RUNS)
    more = wire.SIZES["context_event"]
    return {
        "context_event": context,
        "context_deep_event": {
            "c": (0, more),
            "more": (more, wire.SIZES["pid_level"] * (wire.LEVELS_MAX - wire.LEVELS_INLINE)),
        },
        "contid_tail": table(wire.CONTID_FIELDS),
        "context_contid_event": {"c": (0, more), "contid": (more, wire.SIZES["contid_tail"])},
        "context_deep_contid_event": {
            "d": (0, wire.SIZES["context_deep_event"]),
            "contid": (wire.SIZES["context_deep_event"], wire.SIZES["contid_tail"]),
        },
        "pid_level": table(wire.LEVEL_FIELDS),
        "tally_event": tally,
        "tally_run": table(wire.RUN_FIELDS),
        "cgroup_event": table(wire.CGROUP_FIELDS)
        | {"path": (wire.SIZES["cgroup_event"] - wire.CGROUP_PATH, wire.CGROUP_PATH)},
        "walk_event": table(wire.WALK_FIELDS)
        | {
            "name": (
                wire.SIZES["walk_event"] - wire.WALK_DEPTH * wire.WALK_NAME,
                wire.WALK_DEPTH * wire.WALK_NAME,
            )
        },
        "counters": {name: (8 * i, 8) for i, name in enumerate(wire.COUNTERS)},
        "task_facts": {
            "c": (0, more),
            "more": (more, wire.SIZES["pid_level"] * (wire.LEVELS_MAX - wire.LEVELS_INLINE)),
        },
        **{name: table(fields) for name, fields in wirefacts.STRUCTS.items()},
    }


_SIZES: Final = {
    **wire.SIZES,
    "task_facts": wire.SIZES["context_deep_event"],
    **{name: wire.packed(fields).size for name, fields in wirefacts.STRUCTS.items()},
}


def differences(lib: Libbpf, btf: int) -> list[str]:
    """One line per struct or member in which the object at `btf` and the decoder differ; empty means equal."""
    found = []
    for name, members in expected().items():
        layout = read_struct(lib, btf, name)
        if layout is None:
            found.append(f"struct {name}: not in the object")
            continue
        if layout.size != _SIZES[name]:
            found.append(f"struct {name}: {layout.size} bytes in the object, {_SIZES[name]} expected")
        for path, place in members.items():
            real = layout.members.get(path)
            if real != place:
                found.append(f"struct {name}.{path}: (offset, size) {real} in the object, {place} expected")
    return found


def check(lib: Libbpf, btf: int) -> None:
    """Raise LayoutMismatch unless object and decoder agree in every member."""
    wrong = differences(lib, btf)
    if wrong:
        raise LayoutMismatch(
            "the BPF object does not match this program:\n  " + "\n  ".join(wrong),
            "object and Python package are of different builds: reinstall, or run `make bpf` in a checkout",
        )
