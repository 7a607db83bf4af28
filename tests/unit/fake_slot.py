# SPDX-License-Identifier: Apache-2.0
"""The kernel's side of the audit daemon's slot: one holder, asked for it with AUDIT_SET on a socket that answers.

It keeps to `audit_receive_msg` of kernel/audit.c: only the asking process can be set, a holder that can be reached
stays, only the holder can unset itself. What it has queued goes to the holder as soon as there is one.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from enricher.sources.audit.netlink import HEADER, HEADER_SIZE

SET, REPLACE, ERROR = 1001, 1329, 2


class Slot:
    """`holder` has the slot, 0 for nobody; it is `reached` while its port is there."""

    def __init__(self, holder: int = 0) -> None:
        self.holder = holder
        self.reached = True
        self.refusal = 0  # the error number of all requests
        self.deaf = False
        self.queue: list[bytes] = []
        self.asked: list[tuple[int, ...]] = []
        self.closed = False
        self.socket, self._kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._kernel.setblocking(False)  # noqa: FBT003 - a double that is full is a mistake of the test

    # -- what a netlink socket is asked ------------------------------------------------------------

    def fileno(self) -> int:
        return self.socket.fileno()

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.socket.setsockopt(level, option, value)

    def getsockopt(self, level: int, option: int, size: int = 0) -> int | bytes:
        return self.socket.getsockopt(level, option, size) if size else self.socket.getsockopt(level, option)

    def close(self) -> None:
        self.closed = True
        self.socket.close()
        self._kernel.close()

    def sendto(self, data: bytes, address: tuple[int, int]) -> None:
        assert address == (0, 0)
        length, kind, flags, _seq, port = HEADER.unpack_from(data)
        assert (length, kind, flags, port) == (len(data), SET, 5, 0)
        words = struct.unpack_from("=8I", data, HEADER_SIZE)
        self.asked.append(words)
        assert words[0] == 4, "nothing but the pid is set"
        if not self.deaf:
            number = self._set(words[3])
            self.send(ERROR, struct.pack("=i", -number) + data[:HEADER_SIZE])

    # -- the kernel --------------------------------------------------------------------------------

    def _set(self, pid: int) -> int:
        if self.refusal:
            return self.refusal
        if pid not in (0, os.getpid()):
            return errno.EINVAL
        if self.holder and pid and self.reached:
            return errno.EEXIST
        if self.holder != os.getpid() and not pid:
            return errno.EACCES
        self.holder = pid
        if pid:
            self.flush()
        return 0

    def record(self, text: bytes, kind: int = 1300) -> None:
        """One record: to the holder, where that is us, else it waits."""
        self.queue.append(HEADER.pack(len(text), kind, 0, 0, 0) + text)  # 16 bytes short, as on unicast
        if self.holder == os.getpid():
            self.flush()

    def flush(self) -> None:
        while self.queue:
            self._kernel.send(self.queue.pop(0))

    def send(self, kind: int, body: bytes) -> None:
        self._kernel.send(HEADER.pack(HEADER_SIZE + len(body), kind, 0, 0, 0) + body)

    def challenge(self, pid: int) -> None:
        """Another process asks for the slot."""
        self.send(REPLACE, struct.pack("=I", pid))
