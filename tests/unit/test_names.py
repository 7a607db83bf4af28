# SPDX-License-Identifier: Apache-2.0
"""Names of users and groups: asked for once, for a while, and never in a way that can fail."""

from __future__ import annotations

import os
import pwd

import pytest

from enricher.clock import ManualClock
from enricher.model import UNSET
from enricher.sources.names import LIFETIME, LIMIT, HostNames, NoNames


class Service:
    """Counts what it is asked, and answers by number."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, number: int) -> str:
        self.asked.append(number)
        if number % 2:
            raise KeyError(number)
        return f"name{len(self.asked)}"


def names(clock: ManualClock, service: Service) -> HostNames:
    return HostNames(clock, ask_user=service, ask_group=service)


def test_this_machines_users() -> None:
    known = HostNames()
    assert known.user(os.getuid()) == pwd.getpwuid(os.getuid()).pw_name
    assert known.user(0) == "root"
    assert known.group(0) == "root"
    assert known.user(4_000_000_123) is None


def test_both_answers_are_kept_and_both_end() -> None:
    clock, service = ManualClock(), Service()
    known = names(clock, service)
    before = known.generation
    assert [known.user(2), known.user(2), known.user(3), known.user(3)] == ["name1", "name1", None, None]
    assert service.asked == [2, 3]
    clock.advance(LIFETIME - 1)
    assert known.generation == before
    clock.advance(1)
    assert known.generation != before
    assert known.user(2) == "name3"
    assert service.asked == [2, 3, 2]


def test_users_and_groups_are_apart() -> None:
    known = HostNames(ManualClock(), ask_user=lambda _: "u", ask_group=lambda _: "g")
    assert (known.user(1), known.group(1)) == ("u", "g")


def test_the_memory_is_bounded() -> None:
    service = Service()
    known = names(ManualClock(), service)
    for number in range(0, 2 * LIMIT + 20, 2):
        known.user(number)
    assert 0 < len(known._users) <= LIMIT


@pytest.mark.parametrize("number", [-5, UNSET + 1, 10**30])
def test_what_is_no_id_is_not_asked_for(number: int) -> None:
    service = Service()
    assert names(ManualClock(), service).user(number) is None
    assert not service.asked


def test_unset_is_no_user() -> None:
    service = Service()
    assert names(ManualClock(), service).user(UNSET) == "unset"
    assert not service.asked
    assert NoNames().user(UNSET) == NoNames().group(UNSET) == "unset"
    assert NoNames().user(0) is None
    assert NoNames().group(0) is None


@pytest.mark.parametrize(
    "error", [OSError("the directory is away"), ValueError("x"), OverflowError("y"), KeyError(1)]
)
def test_a_service_that_fails_knows_nobody(error: Exception) -> None:
    def ask(_: int) -> str:
        raise error

    assert HostNames(ManualClock(), ask_user=ask).user(7) is None


def test_a_name_that_is_no_text() -> None:
    assert HostNames(ManualClock(), ask_user=lambda _: "m\udcfcller").user(7) == "m\ufffdller"
    assert HostNames(ManualClock(), ask_user=lambda _: "").user(7) is None
