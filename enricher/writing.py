# SPDX-License-Identifier: Apache-2.0
"""Text that is put together from many short pieces of bytes: one copy of each, and no object where C does it.

Owns no meaning of any byte. Each function is a step of a list here; where the module that asks is compiled, what
`writing.pxd` has for it, which copies into memory that is kept from one text to the next. A text's places are the
caller's to hand on, and mean nothing else: each step takes where the text ends, and returns where it ends then. Both
forms make the same text (tests/unit/test_forms.py).
"""

from __future__ import annotations

Text = list[bytes]
"""What texts are written into, one at a time. Compiled it is a bytearray, whose end is not the text's."""


def fresh() -> Text:
    """Return one to write into."""
    return []


def begin(out: Text) -> int:
    """Forget what was written before; returns where a text begins."""
    out.clear()
    return 0


def back(out: Text, at: int) -> int:
    """Forget what was written behind this place."""
    del out[at:]
    return at


def put(out: Text, at: int, piece: bytes) -> int:
    """Write this."""
    out.append(piece)
    return at + 1


def put_two(out: Text, at: int, first: bytes, second: bytes) -> int:
    """Write both."""
    out += (first, second)
    return at + 2


def put_three(out: Text, at: int, first: bytes, second: bytes, third: bytes) -> int:
    """Write all of them."""
    out += (first, second, third)
    return at + 3


def put_part(out: Text, at: int, before: bytes, data: bytes, start: int, end: int) -> int:  # noqa: PLR0913 - a slice
    """Write one piece and the part of another."""
    out += (before, data[start:end])
    return at + 2


def put_number(out: Text, at: int, before: bytes, number: int) -> int:
    """Write a piece and a number, of up to 64 bits without a sign, in decimal."""
    out.append(b"%b%d" % (before, number))
    return at + 1


def put_replaced(out: Text, at: int, data: bytes, by: bytes) -> int:
    """Write a piece with this instead of each NUL."""
    out.append(data.replace(b"\0", by))
    return at + 1


def taken(out: Text, at: int) -> bytes:
    """Return a text that ends there."""
    return b"".join(out[:at])


def taken_with(out: Text, at: int, behind: Text, end: int, last: bytes) -> bytes:
    """Return a text that ends there, another behind it, and a piece behind both."""
    return b"".join((*out[:at], *behind[:end], last))
