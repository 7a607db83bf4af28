# SPDX-License-Identifier: Apache-2.0
"""A memory of what was used lately: what nobody asks for any more goes by itself.

Owns two generations of a table and when the older one goes. A table that only ends at a number of entries holds what
is dead until it is full, hours after the start; this one is as large as what lives. What is forgotten is made anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class Recent:  # not generic: Cython's classes have no base that is Python's
    """Values by key, none of them None. One that was not asked for in the time `kept` is forgotten before twice `kept`.

    The times are the caller's, in any unit; one that goes back (another boot) begins a generation. Each of the two
    holds at most `most`; beyond, the older one goes early.
    """

    def __init__(self, most: int, kept: float) -> None:
        self._new: dict[Hashable, Any] = {}
        self._old: dict[Hashable, Any] = {}
        self._begun = 0.0
        self._most = most
        self._kept = kept

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def get(self, key: Hashable, now: float) -> Any:  # noqa: ANN401 - as it was put
        """Return the value, which is used now; None where there is none."""
        found = self._new.get(key)
        if found is None and self._old:
            found = self._old.pop(key, None)
            if found is not None:
                self.put(key, found, now)
        return found

    def put(self, key: Hashable, value: Any, now: float) -> None:  # noqa: ANN401 - anything
        """Enter a value, or another one in its place."""
        if not 0 <= now - self._begun < self._kept or len(self._new) >= self._most:
            self._old, self._new = self._new, {}
            self._begun = now
        self._new[key] = value

    def discard(self, key: Hashable) -> None:
        """Forget one, if it is there."""
        self._new.pop(key, None)
        self._old.pop(key, None)

    def keep(self, wanted: Callable[[Any, Any], bool]) -> None:
        """Forget all but those."""
        self._new = {key: value for key, value in self._new.items() if wanted(key, value)}
        self._old = {key: value for key, value in self._old.items() if wanted(key, value)}

    def clear(self) -> None:
        """Forget all."""
        self._new.clear()
        self._old.clear()
