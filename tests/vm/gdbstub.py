# SPDX-License-Identifier: Apache-2.0
"""The guest's memory through QEMU's own gdb stub: a few bytes at a virtual address, as the CPU sees it that is asked.

Owns the three packets that this takes. The guest stands still while somebody is connected, and goes on when he leaves.
Never sets a breakpoint.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from tests.vm.errors import GuestLost

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

__all__ = ["GdbStub"]

_PATIENCE = 10.0
_TRIES = 5


class GdbStub:
    """A connection; as a context manager it ends, and the guest goes on."""

    def __init__(self, path: Path) -> None:
        """Connect to where the stub listens."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_PATIENCE)
        self._socket.connect(str(path))
        self._rest = b""

    def __enter__(self) -> Self:
        """Return itself; the guest stands."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the guest go on."""
        self._ask(b"D")
        self._socket.close()

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the guest's memory; GuestLost where there are none."""
        answer = self._ask(b"m%x,%x" % (address, size))
        if answer.startswith(b"E"):
            message = f"no memory at {address:x}"
            raise GuestLost(message)
        return bytes.fromhex(answer.decode())

    def write(self, address: int, data: bytes) -> None:
        """Replace bytes of the guest's memory."""
        if self._ask(b"M%x,%x:%s" % (address, len(data), data.hex().encode())) != b"OK":
            message = f"memory at {address:x} cannot be written"
            raise GuestLost(message)

    def _ask(self, packet: bytes) -> bytes:
        self._socket.sendall(b"$%s#%02x" % (packet, sum(packet) % 256))
        for _ in range(_TRIES):
            answer = self._packet()
            # What stopped the guest may be told unasked: T05 and the like.
            if not answer.startswith((b"T", b"S")):
                return answer
        message = "the gdb stub does not answer"
        raise GuestLost(message)

    def _packet(self) -> bytes:
        while True:
            begin = self._rest.find(b"$")
            end = self._rest.find(b"#", begin)
            if begin >= 0 and 0 <= end <= len(self._rest) - 3:
                packet, self._rest = self._rest[begin + 1 : end], self._rest[end + 3 :]
                self._socket.sendall(b"+")
                return packet
            data = self._socket.recv(65536)
            if not data:
                message = "the gdb stub hung up"
                raise GuestLost(message)
            self._rest += data
