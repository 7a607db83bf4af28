# SPDX-License-Identifier: Apache-2.0
"""The scorer of `make accuracy`: what it must not let pass, and the readers of both outputs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from enricher.model import KINDS
from tests import schema
from tests.accuracy import answers
from tests.accuracy.answers import of_laurel
from tests.accuracy.gate import hold
from tests.accuracy.matrix import OURS, Outcome
from tests.accuracy.report import table
from tests.accuracy.rows import Claim, claim
from tests.accuracy.score import Answer, Expected, Score, Tally, Unnamed, judge, score
from tests.suites.live import Account

ID, OTHER = "ab" * 32, "cd" * 32
BOX = Expected("podman", "loop", 2, "container", "podman", ID, name="web", named=True)
HOST = Expected("host", "loop", 2, "host", unit="a.service")


@pytest.mark.parametrize(
    ("expected", "answer", "verdict"),
    [
        (BOX, Answer("t", 0, "container", "podman", ID), "right"),
        (BOX, Answer("t", 0, "container", "", ID), "right"),
        (BOX, Answer("t", 0, "container", "docker", ID), "wrong"),
        (BOX, Answer("t", 0, "container", "podman", OTHER), "wrong"),
        (BOX, Answer("t", 0, "container", "podman", ID[:11]), "wrong"),
        # We say the full id; who has no word for where may cut it as `docker ps` does.
        (BOX, Answer("t", 0, "container", "podman", ID[:12]), "wrong"),
        (BOX, Answer("t", 0, "", id=ID[:12]), "right"),
        (BOX, Answer("t", 0, "", id=ID[:11]), "wrong"),
        (BOX, Answer("t", 0, "container", "podman", ID, name="web"), "right"),
        (BOX, Answer("t", 0, "container", "podman", ID, name="other"), "wrong"),
        (BOX, Answer("t", 0, "container", "podman", ""), "wrong"),
        (BOX, Answer("t", 0, "host"), "wrong"),
        (BOX, Answer("t", 0, "unknown"), "unknown"),
        (BOX, Answer("t", 0, "container", "podman", ID, doubts=("mnt: 1 for 2",)), "wrong"),
        (BOX, Answer("t", 0, "container", "podman", ID, incomplete=True), "unknown"),
        (HOST, Answer("t", 0, "host", unit="a.service"), "right"),
        (HOST, Answer("t", 0, "host", unit="b.service"), "wrong"),
        (HOST, Answer("t", 0, "container", "podman", ID), "wrong"),
        (HOST, Answer("t", 0, "unknown"), "unknown"),
        # A program that has no word for where.
        (BOX, Answer("t", 0, "", id=ID), "right"),
        (BOX, Answer("t", 0, "", id=OTHER), "wrong"),
        (BOX, Answer("t", 0, ""), "unknown"),
        (HOST, Answer("t", 0, ""), "right"),
        (HOST, Answer("t", 0, "", id=ID), "wrong"),
    ],
)
def test_verdict(expected: Expected, answer: Answer, verdict: str) -> None:
    assert judge(expected, answer)[0] == verdict


def test_every_event_is_in_one_count() -> None:
    answers = [
        Answer("box", 0, "container", "podman", ID),
        Answer("box", 0, "container", "podman", ID),  # twice
        Answer("box", 7, "container", "podman", ID),  # never run
        Answer("host", 0, "unknown"),
        Answer("not-ours", 0, "host"),
    ]
    found = score({"box": BOX, "host": HOST}, answers)
    box, host = found.tallies
    assert (box.events, box.right, box.wrong, box.unknown, box.lost, box.doubled) == (2, 1, 0, 0, 1, 2)
    assert (host.events, host.right, host.wrong, host.unknown, host.lost, host.doubled) == (2, 0, 0, 1, 1, 0)
    assert found.total("lost") == 2
    assert len(found.samples) == 1


@pytest.mark.parametrize(
    ("first", "last", "unnamed"),
    [("", "web", []), ("web", "web", []), ("web", "", ["box"]), ("", "", ["box"]), ("web", None, ["box"])],
)
def test_the_last_event_has_the_name(first: str, last: str | None, unnamed: list[str]) -> None:
    names = [first] if last is None else [first, last]
    said = [Answer("box", number, "container", "podman", ID, name=name) for number, name in enumerate(names)]
    assert [each.tag for each in score({"box": BOX}, said).unnamed] == unnamed
    expected = {"box": replace(BOX, named=False), "host": HOST}
    assert score(expected, said).unnamed == []


def test_ours_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    event = sample(
        where="container",
        container={"id": ID, "runtime": "podman", "name": "web"},
        namespaces={},
        enrichment={"context": "kernel"},
    )
    monkeypatch.setattr(answers, "mismatches", lambda *_: [])
    monkeypatch.setattr(schema, "parse", lambda lines: [json.loads(line) for line in lines.splitlines()])
    ((answer, _),) = answers.of_ours(json.dumps(event).encode())
    assert answer == Answer("a", 3, "container", "podman", ID, name="web")


def sample(**more: object) -> dict[str, object]:
    words = ["truth-leaf", "tag=a", "n=3", "self=7", "nspid=7", *(f"{kind}=1" for kind in KINDS)]
    return {"records": [{"type": "EXECVE", "fields": {"ARGV": words}}]} | more


def test_laurel_is_read() -> None:
    def event(**more: object) -> bytes:
        return json.dumps({"EXECVE": {"ARGV": ["truth-leaf", "tag=a", "n=3"]}} | more).encode()

    old, new = {"CONTAINER_INFO": {"ID": ID}}, {"SYSCALL": {"PID": {"container": {"id": ID}}}}
    nothing = {"SYSCALL": {"PID": {"systemd_service": ["a"]}}}
    lines = [event(**each) for each in (old, new, nothing, {})]
    lines += [b'{"EXECVE": {"ARGV": ["ls"]}}', b"{}"]
    told = [Answer("a", 3, "", id=ident) for ident in (ID, ID, "", "")]
    assert list(of_laurel(b"\n".join(lines))) == told


def outcome(tally: Tally) -> Outcome:
    account = Account._make([0] * len(Account._fields))._replace(balanced=True)
    return Outcome("6.1", {OURS: Score([tally], [], [])}, account, "", {}, {})


@pytest.mark.parametrize(
    ("tally", "hierarchy", "held"),
    [
        (Tally("docker", "loop", 2, 2, 0, 0, 0, 0), "unified", True),
        (Tally("docker", "loop", 2, 1, 1, 0, 0, 0), "unified", False),
        (Tally("docker", "loop", 2, 1, 0, 1, 0, 0), "unified", False),
        (Tally("docker", "loop", 2, 1, 0, 0, 1, 0), "unified", False),
        (Tally("docker", "loop", 2, 2, 0, 0, 0, 1), "unified", False),
        (Tally("nspawn", "loop", 2, 1, 0, 1, 0, 0), "legacy", True),
        (Tally("nspawn", "loop", 2, 1, 1, 0, 0, 0), "legacy", False),
        (Tally("podman rootless", "loop", 2, 1, 0, 1, 0, 0), "legacy", True),
        (Tally("podman rootless", "loop", 2, 1, 1, 0, 0, 0), "legacy", False),
        (Tally("podman rootless", "loop", 2, 1, 1, 0, 0, 0), "unified", False),
    ],
)
def test_gate(tally: Tally, hierarchy: str, held: bool) -> None:  # noqa: FBT001 - a column of the table
    if held:
        hold(outcome(tally), hierarchy)
    else:
        with pytest.raises(AssertionError):
            hold(outcome(tally), hierarchy)


@pytest.mark.parametrize(
    ("row", "hierarchy", "held"),
    [("docker", "legacy", False), ("nspawn", "unified", False), ("nspawn", "legacy", True)],
)
def test_gate_of_names(row: str, hierarchy: str, held: bool) -> None:  # noqa: FBT001 - a column of the table
    found = outcome(Tally(row, "loop", 2, 2, 0, 0, 0, 0))
    found.scores[OURS].unnamed.append(Unnamed(row, "tag"))
    if held:
        hold(found, hierarchy)
    else:
        with pytest.raises(AssertionError, match="has no name"):
            hold(found, hierarchy)


def test_tables() -> None:
    found = outcome(Tally("docker", "loop", 9, 4, 1, 2, 2, 0))
    assert "| docker | 9 | 4/1/2/2 |" in table(found, "row")
    assert "| loop | 9 | 4/1/2/2 |" in table(found, "act")
    assert "| all | 9 | 4/1/2/2 |" in table(found, "act")


def test_claims() -> None:
    assert claim("docker", "unified") is claim("docker", "legacy") is Claim.RIGHT
    assert claim("nspawn", "unified") is Claim.RIGHT
    assert claim("nspawn", "hybrid") is Claim.UNKNOWN
