# SPDX-License-Identifier: Apache-2.0
"""What is asked, what is remembered and for how long; the helper is the test, and once the real one."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import statistics
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from enricher.clock import ManualClock, SystemClock
from enricher.enrich.metadata import Known, Metadata
from enricher.enrich.metadata.worker import answer
from enricher.enrich.places import Found
from enricher.runtime import lookups
from enricher.runtime.helper import Helper, start
from enricher.runtime.lookups import COUNTERS, Lookups, Missing
from tests.unit.sample_state import ID, MANAGER, SHOP, Tree, found

WEB = Metadata("docker", "web")
PATH = f"/docker/{ID}"
BATCH = Known("runc", "batch", "/jobs/batch", Metadata("runc", "batch"))
PENDING, UNKNOWN, UNAVAILABLE = Missing


class Play:
    """The other end of the socket, a process to be killed, and a clock to be set."""

    def __init__(self) -> None:
        self.pid = os.fork()
        if not self.pid:
            signal.pause()
            os._exit(0)
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(0)
        self.theirs.settimeout(0)
        self.clock = ManualClock(1000)
        self.lookups = Lookups(Helper(ours, self.pid, privileged=True), self.clock)

    def asked(self) -> Any:  # noqa: ANN401 - JSON
        """Return the request that has come, None for none."""
        try:
            request = json.loads(self.theirs.recv(1 << 20))
        except BlockingIOError:
            return None
        return request["path"] if request["op"] == "by_cgroup" else request["found"][1]

    def say(self, value: object) -> None:
        self.theirs.send(value if isinstance(value, bytes) else json.dumps(value).encode())
        self.lookups.serve()

    def count(self, name: str) -> int:
        return self.lookups.counts()[name]


@pytest.fixture
def play() -> Iterator[Play]:
    made = Play()
    yield made
    made.lookups.close()
    made.theirs.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(made.pid, 0)


def named(number: int, prefix: str = "") -> Found:
    return found(f"{prefix}/docker/{number}", "docker", str(number))


def test_an_answer_is_asked_for_once_and_held(play: Play) -> None:
    asked = found(PATH, "docker")
    assert play.lookups.ask(asked) is PENDING
    assert play.lookups.ask(asked) is PENDING
    assert play.asked() == ID
    assert play.asked() is None
    play.say({"metadata": WEB})
    play.clock.advance(1e6)
    assert play.lookups.ask(asked) == WEB
    assert play.asked() is None
    assert play.lookups.counts() == dict.fromkeys(COUNTERS, 0) | {
        "asked": 1, "answered": 1, "waiting": 0, "held": 1, "absent": 0, "owners_not_asked": 0,
    }  # fmt: skip


def test_a_container_by_its_cgroup(play: Play) -> None:
    assert play.lookups.ask_cgroup("/jobs/batch/x") is PENDING
    assert play.asked() == "/jobs/batch/x"
    play.say({"known": BATCH})
    assert play.lookups.ask_cgroup("/jobs/batch/x") == BATCH


def test_a_name_that_is_used_again_is_another_container(play: Play) -> None:
    play.lookups.ask(named(1), 10)
    play.say({"metadata": WEB})
    assert play.lookups.ask(named(1), 10) == WEB
    assert play.lookups.ask(named(1), 11) is PENDING


def test_one_at_a_time_and_root_first(play: Play) -> None:
    for number in (1, 2):
        play.lookups.ask(named(number, MANAGER))
    for number in (3, 4):
        play.lookups.ask(named(number))
    order = []
    while (asked := play.asked()) is not None:
        assert play.asked() is None
        order.append(asked)
        play.say({"metadata": None})
    assert order == ["1", "3", "4", "2"]


def test_what_is_unknown_is_asked_again_later_and_later(play: Play) -> None:
    asked = named(1)
    times = []
    for _ in range(80_000):
        if play.lookups.ask(asked) is PENDING:
            times.append(play.clock.monotonic())
            play.asked()
            play.say({"metadata": None})
            assert play.lookups.ask(asked) is UNKNOWN
        play.clock.advance(0.01)
    waits = [round(after - before, 1) for before, after in pairwise(times)]
    assert waits[:3] == [0.0] * 3, "its runtime may be about to write"
    assert waits[3:] == [0.2, 0.3, 0.5, 1.0, 4.0, 16.0, 64.0, 300.0, 300.0]
    play.clock.advance(300)
    play.lookups.ask(asked)
    play.say({"metadata": WEB})
    assert play.lookups.ask(asked) == WEB
    assert play.count("absent") == 0


@pytest.mark.parametrize(
    ("why", "counter"), [("time-out", "timed_out"), ("stuck", "timed_out"), ("crash", "crashed")]
)
def test_an_owner_whose_state_does_harm_is_left_alone(play: Play, why: str, counter: str) -> None:
    lookups_ = play.lookups
    assert lookups_.ask(named(1, MANAGER)) is PENDING
    assert lookups_.ask(named(2, MANAGER)) is PENDING, "it waits, and is refused when its turn comes"
    play.asked()
    play.say({"failed": why})
    assert lookups_.ask(named(1, MANAGER)) is UNAVAILABLE
    assert lookups_.ask(named(2, MANAGER)) is UNAVAILABLE
    assert lookups_.ask(named(3, MANAGER)) is UNAVAILABLE
    assert play.asked() is None
    assert (play.count(counter), play.count("refused"), play.count("owners_not_asked")) == (1, 2, 1)
    # Root's containers, and another user's, are as before.
    assert lookups_.ask(named(4)) is PENDING
    play.say({"metadata": WEB})
    assert lookups_.ask(named(5, "/user.slice/user-7.slice/user@7.service")) is PENDING
    play.say({"metadata": WEB})
    # After a second it is tried again, and after the next failure four seconds later.
    play.clock.advance(1.0)
    assert lookups_.ask(named(3, MANAGER)) is PENDING
    play.say({"failed": why})
    play.clock.advance(3.9)
    assert lookups_.ask(named(6, MANAGER)) is UNAVAILABLE
    play.clock.advance(0.1)
    assert lookups_.ask(named(6, MANAGER)) is PENDING
    play.say({"metadata": None})
    assert play.count("owners_not_asked") == 0
    # An answer is forgiveness.
    assert lookups_.ask(named(7, MANAGER)) is PENDING
    play.say({"failed": why})
    play.clock.advance(1.0)
    assert lookups_.ask(named(8, MANAGER)) is PENDING


@pytest.mark.parametrize(
    "said",
    [b"x", b"{", b"[]", b"\xff", {}, {"metadata": 5}, {"metadata": ["docker"]}, {"known": BATCH}, {"known": None},
     {"failed": "budget"}, {"failed": []}, {"metadata": [*WEB[:6], 7]}, b'{"metadata":' + b"[" * 5000],
)  # fmt: skip
def test_an_answer_that_is_none(play: Play, said: object) -> None:
    play.lookups.ask(named(1))
    play.say(said)
    assert play.lookups.ask(named(1)) is UNAVAILABLE
    assert play.count("failed") == 1
    assert play.lookups.ask(named(2)) is PENDING


def test_an_answer_to_nothing(play: Play) -> None:
    play.say({"metadata": WEB})
    assert play.count("failed") == 1
    play.lookups.serve()
    assert play.lookups.ask(named(1)) is PENDING


def test_what_waits_is_bounded_on_each_side(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "QUEUE_MAX", 3)
    users = [play.lookups.ask(named(number, MANAGER)) for number in range(5)]
    root = [play.lookups.ask(named(number)) for number in range(5)]
    assert users == [PENDING] * 4 + [UNAVAILABLE], "one is being asked"
    assert root == [PENDING] * 3 + [UNAVAILABLE] * 2
    assert (play.count("dropped"), play.count("waiting")) == (3, 7)


def test_what_is_held_is_bounded_on_each_side(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "HELD_MAX", 2)
    monkeypatch.setattr(lookups, "ABSENT_MAX", 2)
    play.lookups.ask(named(0))
    play.say({"metadata": WEB})
    for number in range(1, 5):
        play.lookups.ask(named(number, MANAGER))
        play.say({"metadata": WEB})
        play.lookups.ask(named(number + 10, MANAGER))
        play.say({"metadata": None})
    assert play.lookups.ask(named(0)) == WEB
    assert play.lookups.ask(named(4, MANAGER)) == WEB
    assert play.lookups.ask(named(2, MANAGER)) is PENDING
    assert (play.count("held"), play.count("absent"), play.count("forgotten")) == (3, 2, 2)


def test_owners_that_are_left_alone_are_bounded(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "OWNERS_MAX", 2)
    for uid in (1, 2, 3):
        play.lookups.ask(named(1, f"/user.slice/user-{uid}.slice/user@{uid}.service"))
        play.say({"failed": "crash"})
    assert play.count("owners_not_asked") == 2


def test_nobody_vouches_for_a_strange_place(play: Play) -> None:
    assert play.lookups.ask(named(1, "/user.slice/user-1.slice/user@2.service")) is UNKNOWN
    assert play.lookups.ask_cgroup("/user@7.service/x") is UNKNOWN
    assert play.asked() is None


def test_a_request_that_is_too_long(play: Play) -> None:
    assert play.lookups.ask(found("/" + "\udcff" * 20_000, "lxc", "x")) is PENDING
    assert play.lookups.ask(named(1)) is PENDING
    assert play.asked() == "1"
    assert play.count("refused") == 1


def test_a_helper_that_ends(play: Play) -> None:
    play.lookups.ask(named(1))
    play.say({"metadata": WEB})
    play.lookups.ask(named(2))
    play.lookups.ask(named(3))
    play.theirs.close()
    play.lookups.serve()
    assert play.lookups.gone
    assert play.lookups.fileno() == -1
    assert play.lookups.ask(named(1)) == WEB
    assert play.lookups.ask(named(2)) is UNAVAILABLE
    assert play.lookups.ask_cgroup("/x") is UNAVAILABLE
    assert play.count("waiting") == 0
    play.lookups.serve()


def test_a_helper_that_has_ended_when_it_is_asked(play: Play) -> None:
    play.theirs.close()
    play.lookups.ask(named(1))
    assert play.lookups.gone


def test_the_real_helper(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.docker()
    tree.podman(f"machine.slice:libpod:{ID}")
    for number in range(200):
        tree.runc(f"batch{number}", f"/jobs/batch{number}")
    made = Lookups(start(lambda line: answer(line, tree.host)), SystemClock())
    poll = select.poll()
    poll.register(made.fileno(), select.POLLIN)

    def until_known(path: str, instance: int) -> tuple[object, float]:
        begin = time.perf_counter()
        asked = found(path, "docker")
        act = (lambda: made.ask(asked, instance)) if path == PATH else lambda: made.ask_cgroup(path, instance)
        assert act() is PENDING
        assert poll.poll(20_000), "no answer"
        made.serve()
        return act(), time.perf_counter() - begin

    try:
        first, start_time = until_known(PATH, 0)
        times = {"lookup": [], "by_cgroup": []}  # type: dict[str, list[float]]
        for instance in range(1, 51):
            said, seconds = until_known(PATH, instance)
            assert said == first == SHOP
            times["lookup"].append(seconds)
            said, seconds = until_known("/jobs/batch7/x", instance)
            assert isinstance(said, Known)
            assert said[:3] == ("runc", "batch7", "/jobs/batch7")
            times["by_cgroup"].append(seconds)
        held = found(PATH, "docker")
        begin = time.perf_counter()
        for _ in range(10_000):
            made.ask(held, 1)
        per_ask = (time.perf_counter() - begin) / 10_000
    finally:
        made.close()
    medians = {name: f"{statistics.median(each) * 1e3:.2f} ms" for name, each in times.items()}
    print(f"first {start_time * 1e3:.1f} ms, then {medians}; held {per_ask * 1e9:.0f} ns")  # noqa: T201 - pytest -rP
