# SPDX-License-Identifier: Apache-2.0
"""What was used lately is remembered, what was not goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from enricher.recent import Recent

MOST, KEPT = 4, 10.0


def test_what_is_used_stays_and_what_is_not_goes() -> None:
    memory = Recent(100, KEPT)
    memory.put("used", 1, 0)
    memory.put("dead", 2, 0)
    for now in range(1, 40):
        assert memory.get("used", now) == 1
        memory.put(f"at {now}", now, now)
    assert memory.get("dead", 40) is None
    assert len(memory) <= 2 * KEPT + 1


def test_a_time_that_goes_back_begins_a_generation() -> None:
    memory = Recent(100, KEPT)
    memory.put("before", 1, 1000)
    memory.put("after", 2, 5)
    memory.put("later", 3, 16)
    assert [memory.get(key, 17) for key in ("before", "after", "later")] == [None, 2, 3]


def test_what_is_put_again_has_its_new_value_whichever_generation_had_the_old_one() -> None:
    memory = Recent(100, KEPT)
    memory.put("one", 1, 0)
    memory.put("two", 2, 11)
    memory.put("one", 3, 12)
    assert memory.get("one", 13) == 3
    memory.discard("one")
    assert memory.get("one", 14) is None


def test_only_what_is_wanted_is_kept() -> None:
    memory = Recent(100, KEPT)
    for at, key in enumerate(("a", "b", "c", "d")):
        memory.put(key, at, at * 6)
    memory.keep(lambda _, value: value % 2 == 0)
    assert [memory.get(key, 18) for key in ("a", "b", "c", "d")] == [0, None, 2, None]
    memory.clear()
    assert not len(memory)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(0, 20))))
def test_it_never_says_another_value_and_never_holds_more(steps: list[tuple[int, bool, int]]) -> None:
    memory = Recent(MOST, KEPT)
    last: dict[int, tuple[int, int]] = {}
    now = 0
    for number, (key, putting, later) in enumerate(steps):
        now += later
        if putting:
            last[key] = key, number
            memory.put(key, last[key], now)
        else:
            assert memory.get(key, now) in (None, last.get(key))
        assert len(memory) <= 2 * MOST
