# SPDX-License-Identifier: Apache-2.0
"""Looking for bytes in bytes: the few loops over single bytes that lines and records are taken apart with.

Owns no meaning of any byte. Each function is one call into C in either form: here a method of bytes or an expression;
where the module that asks is compiled, what `scan.pxd` has for it, which makes no object. Both say the same of any
bytes (tests/unit/test_forms.py). Never looks beyond ``end``; places are indices into the whole, never negative.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from typing import Final

_CONTROLS: Final = bytes((*range(0x09), *range(0x0A, 0x20), *range(0x7F, 0x100)))

_PLAIN: Final = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
_HEX: Final = b"0123456789ABCDEF"

_digits = re.compile(rb"[0-9]+").match
_word = re.compile(rb"[0-9A-Za-z]+").match
_stamp = re.compile(rb"[0-9]{1,19}\.[0-9]{1,9}:[0-9]{1,19}\):").match


def find(data: bytes, byte: int, at: int, end: int) -> int:
    """Return where this byte comes first from `at` on, `end` if it does not."""
    found = data.find(byte, at, end)
    return end if found < 0 else found


def is_at(data: bytes, word: bytes, at: int, end: int) -> bool:
    """Whether these bytes stand there."""
    return data.startswith(word, at, end)


def stamp_end(data: bytes, at: int, end: int) -> int:
    """Return where a stamp that begins at `at` ends, with ``):`` behind it; 0 where there is none."""
    found = _stamp(data, at, end)
    return found.end() - 2 if found else 0


def is_clean(data: bytes, at: int, end: int) -> bool:
    """Whether all are printable ASCII, or tabs."""
    piece = data[at:end]
    return piece.isascii() and len(piece.translate(None, _CONTROLS)) == len(piece)


def is_plain(data: bytes, at: int, end: int, also: int) -> bool:
    """Whether all are printable ASCII that JSON has no escape for, or this other byte."""
    piece = data[at:end]
    return piece.isascii() and not piece.translate(None, _PLAIN + bytes((also,)))


def digits(data: bytes, at: int, end: int) -> int:
    """Return where the decimal digits that begin there end, `at` where there are none."""
    return at if (found := _digits(data, at, end)) is None else found.end()


def word(data: bytes, at: int, end: int) -> int:
    """Return where the letters and digits that begin there end, `at` where there are none."""
    return at if (found := _word(data, at, end)) is None else found.end()


def number(data: bytes, at: int, end: int) -> int:
    """Return the number that the decimal digits there make, all of them until the end."""
    return int(data[at:end])


def unhex(data: bytes, at: int, end: int) -> bytes | None:
    """Return what stands there in hex, with upper-case letters; None where something else does."""
    piece = data[at:end]
    return None if len(piece) & 1 or piece.translate(None, _HEX) else unhexlify(piece)
