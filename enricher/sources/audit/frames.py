# SPDX-License-Identifier: Apache-2.0
"""auditd's other form for plugins, ``format = binary``: each record behind a ``struct audit_dispatcher_header``.

Owns telling the two forms apart by their first bytes, and making lines of this one: all behind it knows lines only.
Never takes a record's text apart. A newline within a text becomes a space, as in the lines that auditd makes itself.
"""

from __future__ import annotations

import struct
from typing import Final

_HEADER: Final = struct.Struct("=IIII")  # version, length of the header, type, length of what follows
_LENGTH: Final = struct.pack("=I", _HEADER.size)
SIZE_MAX: Final = 65_536
"""auditd writes some nine KiB at most. A header that says more is none."""


class Frames:
    """Turns blocks as they were read into blocks of lines; what is lines already stays as it is.

    ``broken`` counts headers that made no sense. What had been read with them is dropped: where the next begins nobody
    knows, and it is looked for at the next block's beginning.
    """

    def __init__(self) -> None:
        self.broken = 0
        self._binary: bool | None = None
        self._rest = b""

    def feed(self, block: bytes) -> bytes:
        """Return the lines that can be made by now, b"" where that is none."""
        if self._binary is False:
            return block
        data = self._rest + block
        self._rest = b""
        if self._binary is None:
            if len(data) < _HEADER.size and b"\n" not in data:
                self._rest = data
                return b""
            self._binary = data[4:8] == _LENGTH
            if not self._binary:
                return data
        return self._lines(data)

    def finish(self) -> bytes:
        """Return what is left at the end of the stream; the end of a record is missing then, and its newline."""
        rest, self._rest = self._rest, b""
        if not self._binary or len(rest) <= _HEADER.size:
            return b"" if self._binary else rest
        return _line(_HEADER.unpack_from(rest)[2], rest[_HEADER.size :])[:-1]

    def _lines(self, data: bytes) -> bytes:
        lines: list[bytes] = []
        at = 0
        while len(data) - at >= _HEADER.size:
            _, length, number, size = _HEADER.unpack_from(data, at)
            if length != _HEADER.size or size > SIZE_MAX:
                self.broken += 1
                return b"".join(lines)
            end = at + _HEADER.size + size
            if len(data) < end:
                break
            lines.append(_line(number, data[at + _HEADER.size : end]))
            at = end
        self._rest = data[at:]
        return b"".join(lines)


def _line(number: int, data: bytes) -> bytes:
    """A record as a line: auditd puts either the kernel's text behind the header, or a line that it has made."""
    text = data.rstrip(b"\n\0").replace(b"\n", b" ")
    if text.startswith((b"type=", b"node=")):
        return text + b"\n"
    return b"type=%d msg=%b\n" % (number, text)
