# SPDX-License-Identifier: Apache-2.0
"""How often the interpreter looks for objects that only hold each other.

Owns that for as long as records flow. Never switches the search off: what makes cycles is rare, a peer's connection or
an error with its frames, and goes in time.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def seldom(objects: int) -> Iterator[None]:
    """Look for cycles after so many objects more than there were, and never among those that are there now.

    Events and records make none, and there are very many of them: with the interpreter's own 700 it looks in the midst
    of every other batch, while events wait. A batch's objects go with it, so that what is a few batches' is reached by
    what stays alone.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(objects, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
