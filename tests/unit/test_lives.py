# SPDX-License-Identifier: Apache-2.0
"""Which life a number was of: messages in any order, numbers used again, messages lost."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from enricher.correlate import lives as module
from enricher.correlate.lives import FOREVER, Lives
from enricher.facts import NamespaceLife, NamespaceOp
from tests.unit.sample_facts import found, freed, made, member

INUM = 4026532261


def told(*facts: NamespaceLife) -> Lives:
    lives = Lives()
    lives.learn([member(1), *facts])
    return lives


def born(lives: Lives, time: int, inum: int = INUM) -> int | None:
    life = lives.at(inum, time)
    return None if life is None else life.born


def test_nothing_is_known_before_anything_was_told() -> None:
    assert born(Lives(), 5) is None


def test_a_number_that_was_never_given_out_is_of_before() -> None:
    assert born(told(), 5) == 0


def test_two_lives_never_merge() -> None:
    lives = told(made("net", INUM, 100), freed(INUM, 200), made("uts", INUM, 201), freed(INUM, 300))
    assert [born(lives, time) for time in (100, 150, 200, 201, 299, 300)] == [100, 100, 100, 201, 201, 201]
    assert born(lives, 400) is None
    assert born(lives, 50) is None, "it was given out first at 100, so nobody was in it before"
    known = lives.at(INUM, 150)
    assert known is not None
    assert (known.kind, known.ended) == (3, 200)


def test_what_was_there_before_and_ended() -> None:
    lives = told(freed(INUM, 100), made("net", INUM, 150))
    assert [born(lives, time) for time in (50, 100, 150)] == [0, 0, 150]


@given(order=st.permutations(range(6)))
def test_the_order_of_messages_does_not_matter(order: list[int]) -> None:
    facts = [
        *(freed(INUM, 50), made("net", INUM, 100), freed(INUM, 200)),
        *(made("uts", INUM, 300), freed(INUM, 400), made("pid", INUM, 500)),
    ]
    lives = told(*(facts[place] for place in order))
    assert [born(lives, time) for time in (40, 50, 100, 200, 300, 400, 500, 900)] == [
        *(0, 0, 100, 100, 300, 300, 500, 500)
    ]
    assert [born(lives, time) for time in (60, 250, 450)] == [None] * 3


def test_what_lives_has_no_end() -> None:
    life = told(made("net", INUM, 100)).at(INUM, 200)
    assert life is not None
    assert life.ended == FOREVER


def test_after_a_loss_only_what_is_told_from_then_on_is_known() -> None:
    lost = freed(0, 150)._replace(op=NamespaceOp.LOST)
    lives = told(made("net", INUM, 100), lost, made("net", INUM + 1, 200))
    assert [born(lives, 160), born(lives, 210, INUM + 1), born(lives, 210, INUM + 2)] == [None, 200, None]


def test_the_epoch_moves_with_every_answer_that_may_have_changed() -> None:
    lives = told()
    seen = {lives.epoch}
    for fact in (made("net", INUM, 100), freed(INUM, 200), made("net", INUM, 300)):
        lives.learn([fact])
        seen.add(lives.epoch)
    assert len(seen) == 4


def test_memory_is_bounded_by_the_numbers_in_use() -> None:
    lives = told()
    for turn in itertools.islice(itertools.count(1), 5_000):
        start = turn * module.KEPT // 10
        lives.learn([made("net", INUM + turn % 7, start), freed(INUM + turn % 7, start + 1)])
    assert lives._count == sum(map(len, lives._numbers.values())) < 60
    assert lives.forgotten == 0


def test_a_life_is_remembered_as_long_as_an_event_of_its_time_is_under_way() -> None:
    lives = told(made("net", INUM, 100), freed(INUM, 200))
    later = 10 * module.KEPT
    lives.learn([made("net", INUM, later), freed(INUM, later + 1), made("net", INUM, later + 2)], oldest=150)
    assert born(lives, 150) == 100
    lives.learn([freed(INUM, 2 * later), made("net", INUM, 2 * later + 1)], oldest=2 * later)
    assert born(lives, 150) is None


def test_beyond_the_limit_all_is_forgotten_and_nothing_is_wrong() -> None:
    lives = Lives(limit=3)
    lives.learn([member(1), *(made("net", INUM + place, 100 + place) for place in range(4))])
    assert lives.forgotten == 4
    assert [born(lives, 200, INUM + place) for place in range(4)] == [None] * 4
    lives.learn([made("net", INUM, 300)])
    assert born(lives, 300) == 300


def test_the_kernels_own_number_decides_where_there_is_one() -> None:
    """A creation that went unseen is not taken for the one before it, nor is its end."""
    lives = told(made("net", INUM, 100, ident=7), freed(INUM, 400)._replace(id=8))
    assert born(lives, 300) == 100
    assert lives.at(INUM, 300, 8) is None
    first = lives.at(INUM, 300, 7)
    assert first is not None
    assert (first.born, first.ended) == (100, FOREVER)
    assert lives.at(INUM, 300, 9) is None
    lives.learn([freed(INUM, 500)._replace(id=7)])
    first = lives.at(INUM, 300, 7)
    assert first is not None
    assert first.ended == 500


@given(order=st.permutations(range(4)))
def test_with_the_kernels_numbers_the_order_does_not_matter_either(order: list[int]) -> None:
    facts = [
        *(made("net", INUM, 100, ident=7), freed(INUM, 200)._replace(id=7)),
        *(made("uts", INUM, 300, ident=8), freed(INUM, 400)._replace(id=8)),
    ]
    lives = told(*(facts[place] for place in order))
    known = [lives.at(INUM, 1_000, ident) for ident in (7, 8)]
    assert [(life.born, life.ended, life.kind) for life in known if life] == [(100, 200, 3), (300, 400, 1)]


def living(lives: Lives) -> set[tuple[int, int, int]]:
    return {(life.inum, life.born, when) for life, when in lives.living()}


def test_what_lives_now_and_since_when() -> None:
    lives = told(
        *(made("net", 1, 100), made("net", 2, 100), freed(2, 200), made("uts", 2, 201)),
        *(made("net", 3, 100), freed(3, 200), found("mnt", 4, 50), found("mnt", 5, 50), freed(5, 60)),
        *(found("mnt", 6, 50), freed(6, 60), made("pid", 6, 70)),
    )
    assert living(lives) == {(1, 100, 0), (2, 201, 0), (4, 0, 50), (6, 70, 0)}
    assert living(Lives()) == set()


def test_what_a_loss_may_hide_the_end_of_is_not_said_to_live() -> None:
    lost = freed(0, 150)._replace(op=NamespaceOp.LOST)
    lives = told(
        made("net", 1, 100, ident=7), found("mnt", 2, 50), lost, made("net", 3, 150), made("net", 4, 200)
    )
    assert living(lives) == {(3, 150, 0), (4, 200, 0)}
