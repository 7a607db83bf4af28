# SPDX-License-Identifier: Apache-2.0
"""A batch of datagrams in memory: let the kernel fill it with one recvmmsg(2), and make records of it.

Owns the layout of what the kernel writes, and knows what a plain batch is. Never decides what becomes of one that is
not. There are two of it (docs/adr/0022-hot-modules-compiled.md): here ctypes makes the call and columns of the arrays
are read at once, which is quick where it is interpreted; ``mmsg.pxd`` has the same for the receiver when it is
compiled, as C. Both say the same of any datagrams (tests/unit/test_forms.py).
"""

from __future__ import annotations

import ctypes
import struct
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from enricher.model import Record
from enricher.sources.audit.netlink import HEADER_SIZE

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

SLOT: Final = 16448
"""Bytes for one datagram, header included.

auditd allows 8970 (MAX_AUDIT_MESSAGE_LENGTH), but the kernel sets no such limit: a SYSCALL record whose
``exe`` is a hex-encoded path of PATH_MAX is longer. Pages that are never written to cost nothing. 64
more than 16 KiB, so that the beginnings of the slots do not all compete for the same cache lines.
"""
NAME_SIZE: Final = 12  # struct sockaddr_nl: u16 family, u16 pad, u32 port, u32 groups
MSG_DONTWAIT: Final = 0x40


class IoVec(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class MsgHdr(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class MMsgHdr(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("hdr", MsgHdr), ("len", ctypes.c_uint32))


_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
_LIBC.recvmmsg.restype = ctypes.c_int
_recvmmsg: Final[Callable[..., int]] = _LIBC.recvmmsg


@cache
def _columns(count: int) -> tuple[Callable[..., tuple[int, ...]], ...]:
    """What takes flags and lengths out of as many message headers, ports out of names, types out of slots."""
    size = ctypes.sizeof(MMsgHdr)
    places = (
        (MMsgHdr.hdr.offset + MsgHdr.flags.offset, "I", size),
        (MMsgHdr.len.offset, "I", size),
        (4, "I", NAME_SIZE),
        (4, "H", SLOT),  # netlink's header: u32 length, u16 type
    )
    made = []
    for place, code, stride in places:
        gap = f"{stride - struct.calcsize('=' + code)}x"
        made.append(struct.Struct(f"={place}x{code}" + f"{gap}{code}" * (count - 1)).unpack_from)
    return tuple(made)


def fill(fd: int, headers: ctypes.Array[MMsgHdr], count: int) -> int:
    """Let the kernel fill what these headers describe; return how many it did, or the errno, negative. Never waits."""
    n = _recvmmsg(fd, headers, count, MSG_DONTWAIT, None)
    return n if n >= 0 else -ctypes.get_errno()


def plain(headers: Any, names: mmap.mmap, slots: mmap.mmap, count: int) -> list[Record] | None:  # noqa: ANN401 - ctypes'
    """Return the records in the first slots, `count` or more than none of them; None where one is out of the ordinary.

    That is a datagram with flags, with a sender's port, or without a whole header.
    """
    of_flags, of_lengths, of_ports, of_types = _columns(count)
    lengths = of_lengths(headers)
    if any(of_flags(headers)) or any(of_ports(names)) or min(lengths) < HEADER_SIZE:
        return None
    places = range(0, count * SLOT, SLOT)
    return [
        Record(number, slots[begin + HEADER_SIZE : begin + length])
        for begin, length, number in zip(places, lengths, of_types(slots), strict=True)
    ]
