# SPDX-License-Identifier: Apache-2.0
"""How often cycles of garbage are looked for."""

from __future__ import annotations

import gc
import weakref

from enricher.runtime.cycles import seldom


class Node:
    """Holds itself."""

    def __init__(self) -> None:
        self.me = self


def test_they_are_found_seldom_and_not_never() -> None:
    objects = 5_000
    gc.collect()
    before = gc.get_threshold(), gc.get_freeze_count()
    with seldom(objects):
        node = weakref.ref(Node())
        kept = [[number] for number in range(objects // 2)]
        assert node() is not None, "the interpreter's own threshold is less"
        kept += [[number] for number in range(objects)]
        assert node() is None, "what holds itself goes in time"
    assert (gc.get_threshold(), gc.get_freeze_count()) == before
    assert len(kept) > objects


def test_what_was_there_is_not_looked_at() -> None:
    old = Node()
    held = weakref.ref(old)
    with seldom(1000):
        del old
        gc.collect()
        assert held() is not None
    gc.collect()
    assert held() is None
