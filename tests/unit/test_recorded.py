# SPDX-License-Identifier: Apache-2.0
"""Both sides of an answer: what goes into a capture, and that a replay knows the same at the same time."""

from __future__ import annotations

from typing import cast

import pytest

from enricher.sources import recorded
from enricher.sources.capture import CaptureWriter
from enricher.sources.recorded import RecordedNames, RecordingNames


class Service:
    """A name service whose answers change; counts what it is asked."""

    def __init__(self) -> None:
        self.generation = 7
        self.users: dict[int, str | None] = {0: "root", 1000: "alice"}
        self.asked: list[tuple[str, int]] = []

    def user(self, uid: int) -> str | None:
        self.asked.append(("user", uid))
        return self.users.get(uid)

    def group(self, gid: int) -> str | None:
        self.asked.append(("group", gid))
        return f"g{self.users.get(gid)}"


class Writer:
    """The writer, as far as names are concerned."""

    def __init__(self) -> None:
        self.turns = 0
        self.answers: list[tuple[str, int, str | None]] = []

    def answer(self, kind: str, number: int, name: str | None) -> None:
        self.answers.append((kind, number, name))


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
def names(service: Service, writer: Writer) -> RecordingNames:
    return RecordingNames(service, cast("CaptureWriter", writer))


def begin(writer: Writer, names: RecordingNames) -> int:
    """The next batch; returns the generation it sees."""
    writer.turns += 1
    return names.generation


def test_answers_are_the_hosts_and_are_written_once(
    service: Service, writer: Writer, names: RecordingNames
) -> None:
    for _ in range(3):
        begin(writer, names)
        assert (names.user(0), names.user(1000), names.user(5), names.group(0)) == (
            "root",
            "alice",
            None,
            "groot",
        )
    assert writer.answers == [
        ("user", 0, "root"),
        ("user", 1000, "alice"),
        ("user", 5, None),
        ("group", 0, "groot"),
    ]
    assert len(service.asked) == 4


def test_a_new_generation_asks_again_and_writes_what_differs(
    service: Service, writer: Writer, names: RecordingNames
) -> None:
    first = begin(writer, names)
    names.user(0), names.user(1000), names.user(5)
    service.users.update({1000: "bob", 5: "eve"})
    service.generation += 1
    assert begin(writer, names) != first
    assert (names.user(0), names.user(1000), names.user(5)) == ("root", "bob", "eve")
    assert writer.answers[3:] == [("user", 1000, "bob"), ("user", 5, "eve")]


def test_a_name_that_is_taken_away_is_written(
    service: Service, writer: Writer, names: RecordingNames
) -> None:
    begin(writer, names)
    names.user(1000)
    del service.users[1000]
    service.generation += 1
    begin(writer, names)
    assert names.user(1000) is None
    assert writer.answers == [("user", 1000, "alice"), ("user", 1000, None)]


def test_nothing_changes_within_a_batch(service: Service, writer: Writer, names: RecordingNames) -> None:
    """A replay learns all answers of a batch before it."""
    first = begin(writer, names)
    assert names.user(1000) == "alice"
    service.users[1000] = "bob"
    service.generation += 1
    assert (names.generation, names.user(1000)) == (first, "alice")
    begin(writer, names)
    assert names.user(1000) == "bob"


def test_nothing_changes_within_a_generation(service: Service, writer: Writer, names: RecordingNames) -> None:
    """Who remembers an answer for a generation and who asks again must be told the same."""
    first = begin(writer, names)
    names.user(1000)
    service.users[1000] = "bob"
    assert (begin(writer, names), names.user(1000)) == (first, "alice")


def test_bounded(
    service: Service, writer: Writer, names: RecordingNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "_REMEMBERED", 3)
    first = begin(writer, names)
    for uid in range(3):
        names.user(uid)
    assert begin(writer, names) == first + 1, "all are asked anew: whoever remembers must forget as well"
    for uid in (3, 4, 0):
        names.user(uid)
    assert writer.answers[-1] == ("user", 0, "root")
    assert len(names._written) <= 3
    assert len(service.asked) == 6


def test_recorded_names_are_what_was_learnt() -> None:
    names = RecordedNames()
    assert (names.user(0), names.group(0), names.user(0xFFFFFFFF), names.generation) == (None, None, None, 0)
    names.learn("user", 0, "root")
    names.learn("group", 5, None)
    assert (names.user(0), names.group(0), names.group(5)) == ("root", None, None)


def test_only_another_answer_is_another_generation() -> None:
    names = RecordedNames()
    names.learn("user", 0, "root")
    names.learn("user", 0, "root")
    names.learn("group", 0, "wheel")
    assert names.generation == 0
    names.learn("user", 0, "toor")
    assert (names.generation, names.user(0)) == (1, "toor")
    names.learn("user", 0, None)
    assert (names.generation, names.user(0)) == (2, None)
    names.learn("user", 0, "root")
    assert names.generation == 3
