# SPDX-License-Identifier: Apache-2.0
"""Tables of the kernel's names, made by tools/gen_tables.py, and how their text is read.

Owns the two forms of a table. Never decides which value a table is for, and loads none by itself: the
modules beside this one are read when the first record asks for a name.
"""

from __future__ import annotations

from typing import Final

_HEX: Final = 16


def numbered(text: str) -> dict[int, str]:
    """Return number to name from words ``NUMBER NAME ..``, numbers in hex."""
    words = text.split()
    return {int(number, _HEX): name for number, name in zip(words[::2], words[1::2], strict=True)}


def bits(text: str) -> tuple[tuple[int, str], ...]:
    """Return (bits, name) pairs from the same form, in its order."""
    return tuple(numbered(text).items())
