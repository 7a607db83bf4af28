# SPDX-License-Identifier: Apache-2.0
"""The shapes of the store of audit container identifiers: ``bpf/include/contid.h`` and ``bpf/contid/store.h``.

Owns the values of its maps and its messages as user space believes them, and the comparison of that with the object's
BTF. Never touches a map.

In the kernel a number has all bits inverted, so that 0 is "none": `inverted` goes both ways.
"""

from __future__ import annotations

import ctypes
import errno
from ctypes import c_uint16, c_uint32, c_uint64
from typing import TYPE_CHECKING, Final

from enricher.errors import LayoutMismatch
from enricher.sources.bpf import layout, wire
from enricher.sources.contid import DEPTH_MAX, UNSET, ContidOp

if TYPE_CHECKING:
    from enricher.sources.bpf.libbpf import Libbpf

EVENT_CONTID: Final = 13
_DROP: Final = 2
RING_SIZE: Final = 256 << 10

REQUEST_GET, REQUEST_SET, REQUEST_GRANT, REQUEST_REVOKE = 1, 2, 3, 4
TASKS_MASK: Final = (1 << 32) - 1
"""Of ``held``: processes. The rest counts identifiers that are nested right in it."""
STEP_CALLER, STEP_TARGET, STEP_DONE = 1, 2, 3

_CHAIN: Final = c_uint64 * DEPTH_MAX


class Key(ctypes.Structure):
    """``struct contid_key``: a process."""

    _fields_ = (("start", c_uint64), ("tgid", c_uint32), ("pad", c_uint32))


class Id(ctypes.Structure):
    """``struct contid_id``: an identifier that is in use."""

    _fields_ = (
        ("chain", _CHAIN),
        ("owner", Key),
        ("cgroup", c_uint64),
        ("held", c_uint64),
        ("depth", c_uint32),
        ("dead", c_uint32),
    )


class Request(ctypes.Structure):
    """``struct contid_request``: what the service asks for, and what came of it."""

    _fields_ = (
        ("sequence", c_uint64),
        ("pending", c_uint64),
        ("service", c_uint64),
        ("contid", c_uint64),
        ("cgroup", c_uint64),
        ("op", c_uint32),
        ("step", c_uint32),
        ("orchestrator", c_uint32),
        ("result", c_uint32),
        ("own", Key),
        ("caller", Key),
        ("target", Key),
        ("caller_task", c_uint64),
        ("may", c_uint32),
        ("granted", c_uint32),
        ("depth", c_uint32),
        ("pad", c_uint32),
        ("chain", _CHAIN),
    )


class Counters(ctypes.Structure):
    """``struct contid_counters``."""

    _fields_ = tuple(
        (name, c_uint64)
        for name in ("inherited", "full_tasks", "lost_ops", "fail_id", "fail_request", "requests", "granted")
    )


class Header(ctypes.Structure):
    """``struct event_header``."""

    _fields_ = (("type", c_uint16), ("version", c_uint16), ("size", c_uint32), ("time", c_uint64))


class Event(ctypes.Structure):
    """``struct contid_event``."""

    _fields_ = (
        ("header", Header),
        ("contid", c_uint64),
        ("old", _CHAIN),
        ("old_depth", c_uint32),
        ("opid", c_uint32),
        ("op", c_uint16),
        ("orchestrator", c_uint16),
        ("result", c_uint32),
    )


STRUCTS: Final[dict[str, type[ctypes.Structure]]] = {
    "contid_id": Id,
    "contid_request": Request,
    "contid_counters": Counters,
    "contid_event": Event,
}


def inverted(contid: int) -> int:
    """From an identifier to the kernel side's number for it, and back."""
    return contid ^ UNSET


def chain(numbers: ctypes.Array[c_uint64], depth: int) -> tuple[int, ...]:
    """The identifiers that are valid, as they are for the outside."""
    return tuple(inverted(int(number)) for number in numbers[: min(depth, DEPTH_MAX)])


def decode(message: bytes) -> ContidOp | None:
    """One message of the store's ring; None for one of another type, version or size."""
    if len(message) != ctypes.sizeof(Event):
        return None
    event = Event.from_buffer_copy(message)
    if event.header.type != EVENT_CONTID or event.header.version != wire.EVENT_VERSION:
        return None
    return ContidOp(
        "drop" if event.op == _DROP else "set",
        event.opid,
        inverted(event.contid),
        chain(event.old, event.old_depth),
        event.result,
        event.header.time,
        bool(event.orchestrator),
    )


def differences(lib: Libbpf, btf: int) -> list[str]:
    """One line per struct or member in which the object at `btf` differs from what stands here."""
    found = []
    for name, shape in STRUCTS.items():
        real = layout.read_struct(lib, btf, name)
        if real is None:
            found.append(f"struct {name}: not in the object")
            continue
        if real.size != ctypes.sizeof(shape):
            found.append(f"struct {name}: {real.size} bytes in the object, {ctypes.sizeof(shape)} expected")
        for member, *_ in shape._fields_:
            place = getattr(shape, member)
            if real.members.get(member) != (place.offset, place.size):
                found.append(
                    f"struct {name}.{member}: {real.members.get(member)} in the object,"
                    f" {(place.offset, place.size)} expected"
                )
    return found


def check(lib: Libbpf, btf: int) -> None:
    """Raise LayoutMismatch unless the object and these shapes agree."""
    wrong = differences(lib, btf)
    if wrong:
        raise LayoutMismatch(
            "the BPF object of container identifiers does not match this program:\n  " + "\n  ".join(wrong),
            "object and Python package are of different builds: reinstall, or run `make bpf` in a checkout",
        )


def error(number: int, what: str) -> OSError:
    """The OSError for this errno, with words of ours."""
    return OSError(number, f"{what}: {errno.errorcode.get(number, number)}")
