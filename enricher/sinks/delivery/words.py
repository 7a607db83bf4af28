# SPDX-License-Identifier: Apache-2.0
"""A receiver's own words, which end up on a terminal."""

from __future__ import annotations

from typing import Final

_MOST: Final = 200


def printable(words: str) -> str:
    """Return them without control characters, and not long."""
    return "".join(letter if letter.isprintable() else " " for letter in words[:_MOST]).strip()
