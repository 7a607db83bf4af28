# SPDX-License-Identifier: Apache-2.0
"""The receive loop: one recvmmsg(2) per batch of datagrams, as little Python per datagram as can be.

Owns the buffers and counts what it had to refuse. Never opens or joins a socket, never parses a
record's text, and never looks at nlmsg_len (the kernel's unicast copy is 16 bytes short by design).

Why by hand: a reader that makes one system call per record is itself audited once per record, and
under a rule on every system call it overflows its own socket. Here a whole batch costs one call, and
lengths, types and senders are read as whole columns of the arrays that the kernel has filled.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from functools import cache
from typing import TYPE_CHECKING, Final

from enricher.model import Record
from enricher.sources.audit.netlink import HEADER_SIZE

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

SLOT: Final = 16448
"""Bytes for one datagram, header included.

auditd allows 8970 (MAX_AUDIT_MESSAGE_LENGTH), but the kernel sets no such limit: a SYSCALL record whose
``exe`` is a hex-encoded path of PATH_MAX is longer. Pages that are never written to cost nothing. 64
more than 16 KiB, so that the beginnings of the slots do not all compete for the same cache lines.
"""
BATCH: Final = 512

MSG_TRUNC: Final = 0x20
MSG_DONTWAIT: Final = 0x40
SOL_SOCKET: Final = 1
SO_MEMINFO: Final = 55  # asm-generic/socket.h; 4.12 and later
_MEMINFO: Final = struct.Struct("=9I")
_DROPS: Final = 8  # SK_MEMINFO_DROPS in linux/sock_diag.h
_QUEUED: Final = 0  # SK_MEMINFO_RMEM_ALLOC

_NAME_SIZE: Final = 12  # struct sockaddr_nl: u16 family, u16 pad, u32 port, u32 groups


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _MMsgHdr(ctypes.Structure):
    _fields_ = (("hdr", _MsgHdr), ("len", ctypes.c_uint32))


_FEW: Final = 16
"""Datagrams of a small batch: an event that came alone."""


@cache
def _columns(count: int) -> tuple[Callable[..., tuple[int, ...]], ...]:
    """What takes flags and lengths out of as many message headers, ports out of names, types out of slots."""
    size = ctypes.sizeof(_MMsgHdr)
    places = (
        (_MMsgHdr.hdr.offset + _MsgHdr.flags.offset, "I", size),
        (_MMsgHdr.len.offset, "I", size),
        (4, "I", _NAME_SIZE),
        (4, "H", SLOT),  # netlink's header: u32 length, u16 type
    )
    made = []
    for place, code, stride in places:
        gap = f"{stride - struct.calcsize('=' + code)}x"
        made.append(struct.Struct(f"={place}x{code}" + f"{gap}{code}" * (count - 1)).unpack_from)
    return tuple(made)


_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
_LIBC.recvmmsg.restype = ctypes.c_int
_recvmmsg: Final[Callable[..., int]] = _LIBC.recvmmsg


class Receiver:
    """Batches of records from a datagram socket whose datagrams begin with a netlink header.

    With `kernel_only`, datagrams whose sender has a port (the kernel's is 0) are dropped and counted: any
    process with CAP_NET_ADMIN can send to a multicast group. The counters only ever grow:

    * ``received``  datagrams handed on, malformed and truncated ones included
    * ``malformed`` shorter than the header; handed on as ``Record(0, the bytes)``
    * ``truncated`` longer than the slot; handed on as far as they came, marked
    * ``foreign``   not sent by the kernel; dropped
    * ``overflows`` times the kernel said ENOBUFS; how many records that cost is `drops`

    Not for use by two threads at once.
    """

    def __init__(self, sock: socket.socket, batch: int = BATCH, *, kernel_only: bool = True) -> None:
        self.received = 0
        self.malformed = 0
        self.truncated = 0
        self.foreign = 0
        self.overflows = 0
        self._sock = sock
        self._fd = sock.fileno()
        self.batch = batch
        self._drops = 0
        # Anonymous maps and not bytearrays: pages appear only when the kernel writes to them.
        self._memory = mmap.mmap(-1, batch * SLOT)
        headers = mmap.mmap(-1, batch * ctypes.sizeof(_MMsgHdr))
        vectors = mmap.mmap(-1, batch * ctypes.sizeof(_IoVec))
        names = mmap.mmap(-1, batch * _NAME_SIZE)
        self._headers = (_MMsgHdr * batch).from_buffer(headers)
        self._vectors = (_IoVec * batch).from_buffer(vectors)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        name = ctypes.addressof(ctypes.c_char.from_buffer(names))
        for i in range(batch):
            self._vectors[i].base = base + i * SLOT
            self._vectors[i].len = SLOT
            hdr = self._headers[i].hdr
            if kernel_only:
                hdr.name = name + i * _NAME_SIZE
                hdr.namelen = _NAME_SIZE  # netlink always writes the same length back: set once
            hdr.iov = ctypes.addressof(self._vectors[i])
            hdr.iovlen = 1
        words = memoryview(headers).cast("I")
        stride = ctypes.sizeof(_MMsgHdr) // 4
        self._lengths = words[_MMsgHdr.len.offset // 4 :: stride]
        self._flags = words[_MsgHdr.flags.offset // 4 :: stride]
        self._types = memoryview(self._memory).cast("H")[2 :: SLOT // 2]
        self._ports = memoryview(names).cast("I")[1::3]
        self._head_bytes, self._name_bytes = headers, names
        self._bases = [i * SLOT for i in range(batch)]
        self._texts = [i * SLOT + HEADER_SIZE for i in range(batch)]

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._fd

    def close(self) -> None:
        """Close the socket; `receive` raises OSError from then on."""
        self._fd = -1  # the number may soon be another file's
        self._sock.close()

    def receive(self) -> list[Record]:
        """Return what has arrived, at most a batch; [] when nothing has. Raises OSError for a dead socket.

        A full list does not mean that more is there, a short one does not mean that nothing is: poll.
        """
        n = self._fill()
        if not n:
            return []
        memory = self._memory
        flags: Sequence[int]
        lengths: Sequence[int]
        ports: Sequence[int]
        types: Sequence[int]
        if n <= _FEW:
            # The same columns: a view of each takes longer than all of these few numbers.
            of_flags, of_lengths, of_ports, of_types = _columns(n)
            flags, lengths = of_flags(self._head_bytes), of_lengths(self._head_bytes)
            ports, types = of_ports(self._name_bytes), of_types(memory)
        else:
            flags, lengths = self._flags[:n].tolist(), self._lengths[:n].tolist()
            ports, types = self._ports[:n].tolist(), self._types[:n].tolist()
        if any(flags) or any(ports) or min(lengths) < HEADER_SIZE:
            return self._receive_with_care(lengths)
        self.received += n
        records: list[Record] = []
        for begin, text, length, number in zip(self._bases, self._texts, lengths, types, strict=False):
            # Without a call of __init__, which is most of the time that an object takes, compiled.
            record = Record.__new__(Record)
            record.type, record.text, record.truncated = number, memory[text : begin + length], False
            records.append(record)
        return records

    def drops(self) -> int:
        """Return how many records the kernel threw away because this socket was full, since it was opened.

        Exact for netlink (sk_drops). The kernel's counter has 32 bits; ours goes on if it is read at
        least once per 2**32 drops.
        """
        raw = self._sock.getsockopt(SOL_SOCKET, SO_MEMINFO, _MEMINFO.size)
        now = int(_MEMINFO.unpack(raw)[_DROPS])
        self._drops += (now - self._drops) & 0xFFFFFFFF
        return self._drops

    def queued(self) -> int:
        """Return the bytes that wait in the socket, as the kernel counts them: with its overhead."""
        raw = self._sock.getsockopt(SOL_SOCKET, SO_MEMINFO, _MEMINFO.size)
        return int(_MEMINFO.unpack(raw)[_QUEUED])

    def _fill(self) -> int:
        """Let the kernel fill the slots; return how many it did."""
        while True:
            n = _recvmmsg(self._fd, self._headers, self.batch, MSG_DONTWAIT, None)
            if n >= 0:
                return n
            number = ctypes.get_errno()
            if number == errno.EAGAIN:
                return 0
            if number == errno.ENOBUFS:
                # Said once per overflow and cleared by saying it: the queue behind it is intact.
                self.overflows += 1
            elif number != errno.EINTR:
                raise OSError(number, os.strerror(number))

    def _receive_with_care(self, lengths: Sequence[int]) -> list[Record]:
        """Do the same one by one, for a batch in which something is out of the ordinary."""
        records = []
        for i, length in enumerate(lengths):
            if self._ports[i]:
                self.foreign += 1
                continue
            self.received += 1
            cut = bool(self._flags[i] & MSG_TRUNC)
            self.truncated += cut
            begin = i * SLOT
            if length < HEADER_SIZE:
                self.malformed += 1
                records.append(Record(0, self._memory[begin : begin + length]))
            else:
                text = self._memory[begin + HEADER_SIZE : begin + length]
                records.append(Record(self._types[i], text, cut))
        return records
