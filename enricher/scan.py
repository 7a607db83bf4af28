# SPDX-License-Identifier: Apache-2.0
"""Looking for bytes in bytes: the few loops over single bytes that lines and records are taken apart with.

Owns no meaning of any byte. Each function is one call into C in either form: here a method of bytes or an expression;
where the module that asks is compiled, what `scan.pxd` has for it, which makes no object. Both say the same of any
bytes (tests/unit/test_forms.py). Never looks beyond ``end``; places are indices into the whole, never negative.
"""

from __future__ import annotations

import re
from typing import Final

_CONTROLS: Final = bytes((*range(0x09), *range(0x0A, 0x20), *range(0x7F, 0x100)))

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
