# SPDX-License-Identifier: Apache-2.0
"""The numbers of fixed size in messages of the kernel side, read at once, and a stamp's text.

Owns no layout: `wire` has it, and hands in what unpacks it. Where that is compiled, `fixed.pxd` has the same as C's
structures, without an object for each number. Who asks knows that the message is as long; both forms read the same
(tests/unit/test_forms.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    _Unpack = Callable[[bytes, int], tuple[Any, ...]]


def context(unpack: _Unpack, data: bytes, at: int) -> tuple[int, ...]:
    """Return the numbers of a context, up to its cgroup."""
    return unpack(data, at)


def level(unpack: _Unpack, data: bytes, at: int) -> tuple[int, ...]:
    """Return those of a level of pid namespaces."""
    return unpack(data, at)


def tally(unpack: _Unpack, data: bytes, at: int) -> tuple[int, ...]:
    """Return those of a tally, up to its runs."""
    return unpack(data, at)


def stamp(unpack: _Unpack, data: bytes, at: int) -> bytes:
    """Return a stamp as records have it."""
    seconds, milliseconds, serial = unpack(data, at)
    return b"%d.%03d:%d" % (seconds, milliseconds, serial)
