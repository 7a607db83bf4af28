# SPDX-License-Identifier: Apache-2.0
"""Births of namespaces over the control socket: told as far as they are sure, and believed as far as they may be."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from enricher.cli import main as command
from enricher.correlate.lives import Lives
from enricher.enrich.nsplaces import Wanted
from enricher.facts import Fact, NamespaceOp
from enricher.model import KINDS
from enricher.runtime import births
from enricher.runtime.births import Births, Seen, answer, ask, believed
from enricher.runtime.control_client import ANSWER_MAX
from enricher.runtime.namespaces import look
from enricher.sources.namespaces.nsfs import Ns, Said
from enricher.sources.namespaces.survey import Survey
from tests import schema
from tests.unit.fake_control import FakeService
from tests.unit.fake_namespaces import FakeProc
from tests.unit.sample_facts import found, freed, made, member

Json = dict[str, Any]
BOOT = "0b6c0b6c-0000-4000-8000-0b6c0b6c0b6c"
BEGAN = 1_000
NOW = 2_000


class Rings:
    """As much of what is loaded as an answer asks for."""

    def __init__(self, *, parked: bool = False, missed: bool = False) -> None:
        self.facts: list[Fact] = []
        self.parked = parked
        self._missed = missed

    def look_for_missed(self) -> None:
        if self._missed:
            self.facts.append(freed(0, 5)._replace(op=NamespaceOp.LOST))


def lives(*facts: Fact) -> Lives:
    known = Lives()
    known.learn([member(1), *facts])
    return known


def said(**other: object) -> Json:
    born = {"net": [[500, "100", "7"]], "pid": [[501, "1000", "0"], [502, "1001", "0"]]}
    found_then = {"mnt": [[503, "50", "0"]]}
    made_up: Json = {"boot_id": BOOT, "now": str(NOW), "watched": True, "behind": False, "cut": False}
    return {**made_up, "born": born, "found": found_then, **other}


def read(answered: Json) -> Births:
    return believed(answered, BOOT, BEGAN, (NOW - 1, NOW + 1))


def nothing_but(told: Births, word: str) -> bool:
    """Whether it says nothing of any namespace, and why."""
    return not told.born and not told.found and word in told.note


# -- what the service says ---------------------------------------------------------------------------


def test_what_lives_is_told_by_kind_and_what_was_found_apart() -> None:
    known = lives(
        made("net", 500, 100, ident=1 << 63), made("pid", 501, 90), freed(501, 95), found("mnt", 503, 50)
    )
    told = answer(known, BOOT, Rings())
    assert told["born"] == {"net": [(500, "100", str(1 << 63))]}
    assert told["found"] == {"mnt": [(503, "50", "0")]}
    assert (told["boot_id"], told["watched"], told["behind"], told["cut"]) == (BOOT, True, False, False)


@pytest.mark.parametrize("rings", [Rings(parked=True), Rings(missed=True)])
def test_nothing_is_said_while_something_is_still_to_be_read(rings: Rings) -> None:
    told = answer(lives(made("net", 500, 100), found("mnt", 503, 50)), BOOT, rings)
    assert (told["behind"], told["born"], told["found"]) == (True, {}, {})


def test_an_answer_is_bounded_and_the_youngest_are_told() -> None:
    longest, last = 1 << 62, births.MOST + 10
    facts: list[Fact] = []
    for number in range(last):
        facts.append(made("cgroup", (1 << 32) - 1 - number, longest + number, ident=(1 << 64) - 1))
        facts.append(found("cgroup", (1 << 31) - 1 - number, longest + number, ident=(1 << 64) - 1))
    told = answer(lives(*facts), BOOT, Rings())
    assert told["cut"] is True
    line = json.dumps(told, separators=(",", ":"))
    assert len(line) < ANSWER_MAX
    read_again = believed(json.loads(line), BOOT, 1 << 63, (0, 1 << 63))
    assert len(read_again.born) == len(read_again.found) == births.MOST
    assert min(seen.time for seen in read_again.born.values()) == longest + last - births.MOST
    assert "too many" in read_again.note


# -- what is believed of it --------------------------------------------------------------------------


def test_what_began_when_the_look_had_is_not_what_was_seen() -> None:
    assert read(said()) == (
        {("net", 500): Seen(100, 7), ("pid", 501): Seen(1000, 0)},
        {("mnt", 503): Seen(50, 0)},
        "",
    )


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"boot_id": "another"}, "boot"),
        ({"boot_id": None}, "boot"),
        ({"now": str(NOW + 2)}, "clock"),
        ({"now": str(NOW - 2)}, "clock"),
        ({"watched": False}, "nothing"),
        ({"watched": 1}, "nothing"),
        ({"now": NOW}, "understood"),
        ({"now": "9" * 5000}, "understood"),
        ({"now": "\u0661"}, "understood"),
        ({"born": None}, "understood"),
        ({"born": []}, "understood"),
        ({"found": {"net": {}}}, "understood"),
        ({"born": {"net": [500]}}, "understood"),
        ({"born": {"net": [[]]}}, "understood"),
        ({"born": {"net": [[500, "100"]]}}, "understood"),
        ({"born": {"net": [[500, 100, "0"]]}}, "understood"),
        ({"born": {"net": [["500", "100", "0"]]}}, "understood"),
        ({"born": {"net": [[True, "100", "0"]]}}, "understood"),
        ({"born": {"net": [[500.0, "100", "0"]]}}, "understood"),
        ({"born": {"net": [[0, "100", "0"]]}}, "understood"),
        ({"born": {"net": [[1 << 32, "100", "0"]]}}, "understood"),
        ({"born": {"net": [[500, "-1", "0"]]}}, "understood"),
        ({"born": {"net": [[500, "1e3", "0"]]}}, "understood"),
        ({"born": {"net": [[500, str(1 << 64), "0"]]}}, "understood"),
        ({"born": {"net": [[500, "100", None]]}}, "understood"),
        ({"born": {"net": [[500, "100", "0"], [500, "200", "0"]]}}, "understood"),
    ],
)
def test_what_is_not_as_it_should_be_costs_the_times_and_nothing_else(other: Json, word: str) -> None:
    told = read(said(**other))
    assert nothing_but(told, word)


def test_a_newer_service_may_say_more() -> None:
    told = read(said(more=1, found={}, born={"net": [[500, "100", "0", "x"]], "new kind": "?"}))
    assert told == ({("net", 500): Seen(100, 0)}, {}, "")


def test_a_time_of_zero_is_none() -> None:
    assert read(said(born={"net": [[500, "0", "0"]]}, found={})) == ({}, {}, "")


# -- asking ------------------------------------------------------------------------------------------


def alive() -> Json:
    return said(now=str(time.clock_gettime_ns(time.CLOCK_BOOTTIME)))


def test_a_service_is_asked_until_it_has_read_all(tmp_path: Path) -> None:
    asked = []

    def reply() -> Json:
        asked.append(1)
        return alive() if len(asked) == 3 else said(behind=True)

    with FakeService(tmp_path, births=reply) as service:
        assert ask(str(service.path), "", BOOT, BEGAN).born[("net", 500)] == Seen(100, 7)
    assert len(asked) == 3


def test_one_that_never_has_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(births, "_PAUSE", 0.0)
    with FakeService(tmp_path, births=lambda: said(behind=True)) as service:
        told = ask(str(service.path), "", BOOT, BEGAN)
    assert nothing_but(told, "not read")


def test_one_that_does_not_know_the_question_and_one_that_is_not_there(tmp_path: Path) -> None:
    with FakeService(tmp_path) as service:
        told = ask(str(service.path), "", BOOT, BEGAN)
    assert nothing_but(told, "not known here")
    told = ask(str(service.path), "", BOOT, BEGAN)
    assert nothing_but(told, "no service answers")


def hostile(path: Path, act: Callable[[socket.socket], None]) -> threading.Thread:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def run() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection:
                act(connection)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def drip(connection: socket.socket) -> None:
    connection.recv(100)
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b" ")
            time.sleep(0.01)


@pytest.mark.parametrize("act", [lambda connection: connection.recv(100) and connection.recv(100), drip])
def test_one_that_hangs_or_drips_is_not_waited_for(
    tmp_path: Path, act: Callable[[socket.socket], None]
) -> None:
    thread = hostile(tmp_path / "sock", act)
    begun = time.monotonic()
    told = ask(str(tmp_path / "sock"), "", BOOT, BEGAN, within=0.2)
    assert time.monotonic() - begun < 5
    thread.join()
    assert nothing_but(told, "does not answer")


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"\n", b"[]\n", b"\xff\n", b"[" * 100_000 + b"\n", b"9" * 100_000 + b"\n"),
        *(b'{"error":"\\u001b[31m\\ud800' + b"x" * 9000 + b'"}\n', b" " * (ANSWER_MAX + (1 << 20))),
    ],
)
def test_whatever_answers_becomes_a_note_in_one_plain_line(tmp_path: Path, line: bytes) -> None:
    def act(connection: socket.socket) -> None:
        connection.recv(100)
        with contextlib.suppress(OSError):
            connection.sendall(line)

    thread = hostile(tmp_path / "sock", act)
    told = ask(str(tmp_path / "sock"), "", BOOT, BEGAN)
    thread.join()
    assert nothing_but(told, "no exact times")
    assert told.note.isprintable()
    assert len(told.note) < 600


# -- what is shown -----------------------------------------------------------------------------------


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


def shown(proc: FakeProc, told: Births) -> dict[tuple[str, int], Json]:
    document: Any = look(Wanted(), proc=proc.root, inside=False, births=lambda _boot, _began: told)
    schema.validate_namespaces(document)
    assert document["notes"] == ([told.note] if told.note else [])
    return {(entry["kind"], entry["ino"]): entry for entry in document["namespaces"]}


def test_what_was_found_is_never_given_an_exact_time(proc: FakeProc) -> None:
    proc.task(40, net=500, mnt=501)
    entries = shown(proc, Births({("net", 500): Seen(5 * 10**9, 0)}, {("mnt", 501): Seen(7 * 10**9, 0)}, ""))
    assert (entries["net", 500]["since_from"], "since_at_latest" in entries["net", 500]) == ("service", False)
    later = entries["mnt", 501]
    assert ("since" in later, later["since_from"]) == (False, "service")
    assert later["since_at_latest"] > entries["net", 500]["since"]


def test_the_earlier_of_two_bounds_is_shown_with_whose_it_is(proc: FakeProc) -> None:
    proc.task(40, start=300, pid=500)
    proc.task(41, start=300, pid=501)
    entries = shown(
        proc, Births({}, {("pid", 500): Seen(10**9, 0), ("pid", 501): Seen(4 * 10**9, 0)}, "a note")
    )
    assert [entries["pid", inum]["since_from"] for inum in (500, 501)] == ["service", "process"]


def test_another_with_the_number_is_not_taken_for_it(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernel's own number, where both know it; and nobody in a pid namespace is older than it."""
    proc.task(40, start=300, net=500, uts=501, ipc=502, pid=503)
    real = Survey._ask_all

    def ask_all(self: Survey) -> None:
        real(self)
        self.spaces.update({Ns("net", 500): Said(ident=7), Ns("uts", 501): Said(ident=8)})

    monkeypatch.setattr(Survey, "_ask_all", ask_all)
    born = {("net", 500): 7, ("uts", 501): 9, ("ipc", 502): 9}
    seen = {key: Seen(10**9, ident) for key, ident in born.items()}
    entries = shown(proc, Births({**seen, ("pid", 503): Seen(4 * 10**9, 0)}, {}, ""))
    of = {"net": 500, "uts": 501, "ipc": 502, "pid": 503}
    assert ["since" in entries[key] for key in of.items()] == [True, False, True, False]


def test_the_host_s_own_have_no_age(proc: FakeProc) -> None:
    initial = {(kind, 4026531801 + place): Seen(10**9, 0) for place, kind in enumerate(KINDS[:8])}
    entries = shown(proc, Births({}, initial, ""))
    assert all("since_at_latest" not in entry and "since_from" not in entry for entry in entries.values())


def test_the_command_asks_where_the_settings_say_and_says_why_it_knows_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def reply() -> Json:
        asked.append(1)
        return alive()

    with FakeService(tmp_path, births=reply) as service:
        config = str(service.config)
        assert command.main(["namespaces", "--no-network", "--json", "--config", config]) == 0
        assert asked == [1]
        assert "no exact times: what answers is not of this boot" in capsys.readouterr().err
    assert command.main(["namespaces", "--no-network", "--json", "--config", config]) == 0
    out, err = capsys.readouterr()
    assert f"no exact times: no service answers on {service.path}" in err
    assert any("no exact times" in note for note in json.loads(out)["notes"])
