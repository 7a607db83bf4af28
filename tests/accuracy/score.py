# SPDX-License-Identifier: Apache-2.0
"""What an event must say, what it said, and the verdict: right, wrong or unknown.

Owns the rules of the comparison, which are the same for every program that is compared, and the counting. Never
reads a program's output (`answers` does) and never runs anything.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Answer", "Expected", "Score", "Tally", "Unnamed", "judge", "score"]

Verdict = Literal["right", "wrong", "unknown"]

SHORTEST_ID = 12
"""Digits of a truncated id that still count as that id in what LAUREL says: what `docker ps` shows."""
_SAMPLES = 40


@dataclass(frozen=True)
class Expected:
    """What the events of one tag must say. The tag is in the argv of each, so the kernel's record carries it."""

    row: str
    """Of the report: the runtime."""
    act: str
    """Of the report: how the process got there."""
    count: int
    """Events with this tag, numbered from 0."""
    where: Literal["host", "container"]
    runtime: str = ""
    """As the event names it; "" where it cannot be told."""
    id: str = ""
    """The runtime's own id, or name where that is the id; "" on the host."""
    unit: str = ""
    """On the host: the systemd unit, "" for any."""
    name: str = ""
    """The name that the runtime gave it; "" on the host. No event may have another one."""
    named: bool = False
    """Whether the last of these events has to have the name: the runtime's state was there long before."""


class Answer(NamedTuple):
    """What one event said of a process of the workload."""

    tag: str
    number: int
    where: str
    """host, container, unknown; "" from a program that has no such word."""
    runtime: str = ""
    id: str = ""
    unit: str = ""
    doubts: tuple[str, ...] = ()
    """Namespaces and pids that are not those in the argv; () also from a program that does not tell them."""
    incomplete: bool = False
    """The event says that it has no namespaces, or not all."""
    name: str = ""
    """Of the container; "" where the event has none, or the program is not asked for any."""


def _same(answer: Answer, wanted: str) -> bool:
    """Compare ids. Of us, who have a word for where, it is the full one that is wanted."""
    if answer.id == wanted:
        return True
    return not answer.where and len(answer.id) >= SHORTEST_ID and wanted.startswith(answer.id)


def judge(expected: Expected, answer: Answer) -> tuple[Verdict, str]:
    """Return the verdict on one event, and why it is not "right".

    A program without a word for the host says it by naming no container. That counts as right there, and as
    unknown in a container.
    """
    if answer.doubts:
        return "wrong", "; ".join(answer.doubts)
    if answer.incomplete:
        return "unknown", "incomplete"
    if answer.where == "unknown":
        return "unknown", f"unknown, where {expected.where} {expected.id} was expected"
    said_container = answer.where == "container" or (not answer.where and bool(answer.id))
    if not said_container and not answer.where and expected.where == "container":
        return "unknown", f"nothing for {expected.id}"
    if said_container != (expected.where == "container"):
        return "wrong", f"{answer.where} {answer.id} for {expected.where} {expected.id}"
    why = _wrong_container(expected, answer) if said_container else _wrong_unit(expected, answer)
    return ("wrong", why) if why else ("right", "")


def _wrong_container(expected: Expected, answer: Answer) -> str:
    if not _same(answer, expected.id):
        return f"container {answer.id!r} for {expected.id!r}"
    if answer.runtime and expected.runtime and answer.runtime != expected.runtime:
        return f"runtime {answer.runtime} for {expected.runtime}"
    if answer.name and answer.name != expected.name:
        return f"name {answer.name!r} for {expected.name!r}"
    return ""


def _wrong_unit(expected: Expected, answer: Answer) -> str:
    if answer.where and expected.unit and answer.unit != expected.unit:
        return f"unit {answer.unit!r} for {expected.unit!r}"
    return ""


class Tally(NamedTuple):
    """Events of one row and act. ``events`` is what was run; the four others are what became of them."""

    row: str
    act: str
    events: int
    right: int
    wrong: int
    unknown: int
    lost: int
    doubled: int
    """Events of a tag and number that was there already, or was never run; in no other count."""


class Unnamed(NamedTuple):
    """A tag whose last event should have its container's name, and has none."""

    row: str
    tag: str


class Score(NamedTuple):
    """The verdicts on one program's output."""

    tallies: list[Tally]
    samples: list[str]
    """The first verdicts that are not "right", one line each."""
    unnamed: list[Unnamed]
    """Of what has to be named: whose last event has no name."""

    def total(self, name: str) -> int:
        """Sum one count over all tallies."""
        return sum(getattr(tally, name) for tally in self.tallies)


def score(expectations: Mapping[str, Expected], answers: Iterable[Answer]) -> Score:
    """Hold all answers against what was run."""
    verdicts: Counter[tuple[str, str, str]] = Counter()
    seen: set[tuple[str, int]] = set()
    samples: list[str] = []
    nameless = {tag: expected for tag, expected in expectations.items() if expected.named}
    for answer in answers:
        expected = expectations.get(answer.tag)
        if expected is None:
            continue
        key = expected.row, expected.act
        mark = answer.tag, answer.number
        if mark in seen or answer.number >= expected.count:
            verdicts[*key, "doubled"] += 1
            continue
        seen.add(mark)
        if answer.number == expected.count - 1 and answer.name:
            nameless.pop(answer.tag, None)
        verdict, why = judge(expected, answer)
        verdicts[*key, verdict] += 1
        if why and len(samples) < _SAMPLES:
            samples.append(f"{answer.tag} n={answer.number}: {verdict}: {why}")
    run: Counter[tuple[str, str]] = Counter()
    for expected in expectations.values():
        run[expected.row, expected.act] += expected.count
    tallies = []
    for (row, act), events in run.items():
        right, wrong, unknown, doubled = (
            verdicts[row, act, name] for name in ("right", "wrong", "unknown", "doubled")
        )
        tallies.append(
            Tally(row, act, events, right, wrong, unknown, events - right - wrong - unknown, doubled)
        )
    return Score(tallies, samples, [Unnamed(expected.row, tag) for tag, expected in nameless.items()])
