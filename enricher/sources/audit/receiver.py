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
from typing import TYPE_CHECKING, Final

from enricher.model import Record
from enricher.sources.audit import mmsg
from enricher.sources.audit.mmsg import NAME_SIZE, SLOT, IoVec, MMsgHdr, MsgHdr
from enricher.sources.audit.netlink import HEADER_SIZE

if TYPE_CHECKING:
    import socket

BATCH: Final = 512

MSG_TRUNC: Final = 0x20
SOL_SOCKET: Final = 1
SO_MEMINFO: Final = 55  # asm-generic/socket.h; 4.12 and later
_MEMINFO: Final = struct.Struct("=9I")
_DROPS: Final = 8  # SK_MEMINFO_DROPS in linux/sock_diag.h
_QUEUED: Final = 0  # SK_MEMINFO_RMEM_ALLOC


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
        headers = mmap.mmap(-1, batch * ctypes.sizeof(MMsgHdr))
        vectors = mmap.mmap(-1, batch * ctypes.sizeof(IoVec))
        names = mmap.mmap(-1, batch * NAME_SIZE)
        self._headers = (MMsgHdr * batch).from_buffer(headers)
        self._vectors = (IoVec * batch).from_buffer(vectors)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        name = ctypes.addressof(ctypes.c_char.from_buffer(names))
        for i in range(batch):
            self._vectors[i].base = base + i * SLOT
            self._vectors[i].len = SLOT
            hdr = self._headers[i].hdr
            if kernel_only:
                hdr.name = name + i * NAME_SIZE
                hdr.namelen = NAME_SIZE  # netlink always writes the same length back: set once
            hdr.iov = ctypes.addressof(self._vectors[i])
            hdr.iovlen = 1
        words = memoryview(headers).cast("I")
        stride = ctypes.sizeof(MMsgHdr) // 4
        self._lengths = words[MMsgHdr.len.offset // 4 :: stride]
        self._flags = words[MsgHdr.flags.offset // 4 :: stride]
        self._types = memoryview(self._memory).cast("H")[2 :: SLOT // 2]
        self._ports = memoryview(names).cast("I")[1::3]
        self._names = names

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
        records = mmsg.plain(self._headers, self._names, self._memory, n)
        if records is None:
            return self._receive_with_care(n)
        self.received += n
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
            n = mmsg.fill(self._fd, self._headers, self.batch)
            if n >= 0:
                return n
            number = -n
            if number == errno.EAGAIN:
                return 0
            if number == errno.ENOBUFS:
                # Said once per overflow and cleared by saying it: the queue behind it is intact.
                self.overflows += 1
            elif number != errno.EINTR:
                raise OSError(number, os.strerror(number))

    def _receive_with_care(self, n: int) -> list[Record]:
        """Do the same one by one, for a batch in which something is out of the ordinary."""
        records = []
        for i, length in enumerate(self._lengths[:n].tolist()):
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
