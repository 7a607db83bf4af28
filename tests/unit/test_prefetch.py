# SPDX-License-Identifier: Apache-2.0
"""What is asked for and when, from the cgroup's making to the answer in a batch; the helper is the test."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from enricher.clock import ManualClock
from enricher.config.load import Settings, load
from enricher.enrich.cgroups import CgroupTable
from enricher.enrich.native import NativeBuilder
from enricher.enrich.shape import NativeEvent
from enricher.enrich.surroundings import Surroundings
from enricher.model import Answer, Batch, CgroupChange, CgroupOp, Known, Metadata
from enricher.runtime import helper, prefetch
from enricher.runtime.lookups import Lookups
from enricher.runtime.prefetch import PENDING_MAX, RESTING_MAX, Prefetch
from tests.unit.sample_events import HOST, context, event
from tests.unit.test_lookups import Play

ID = "ab" * 32
WEB = f"/system.slice/docker-{ID}.scope".encode()
USERS = b"/user.slice/user-1000.slice/user@1000.service"
SHOP = Metadata("docker", "shop", "shop:1", (("k", "v"),))
BATCH = Known("runc", "batch", "/jobs/batch", Metadata("runc", "batch", "", (("k", "v"),)))
MADE, REMOVED = CgroupOp.MADE, CgroupOp.REMOVED


class Bench(Play):
    """A table and its prefetch, in turns of a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.prefetch = Prefetch(self.lookups)
        self.table = CgroupTable()
        self.table.asker = self.prefetch.want
        self.builder = NativeBuilder(HOST, around=Surroundings(HOST, self.table))
        self.given: list[Answer] = []

    def turn(self, *changes: tuple[int, CgroupOp, bytes], seconds: float = 0.0) -> None:
        """One turn of the loop, so many seconds after the one before."""
        self.clock.advance(seconds)
        now = self.clock.monotonic()
        told = tuple(CgroupChange(ident, op, path, 0) for ident, op, path in changes)
        answers = self.prefetch.take()
        self.given += answers
        self.table.learn(Batch([], [], [], parked=False, now=now, wall=0.0, cgroups=told, answers=answers))
        self.prefetch.turn(now)

    def answer(self, value: object) -> None:
        """The helper says this, and the loop serves it."""
        self.theirs.send(value if isinstance(value, bytes) else json.dumps(value).encode())
        self.prefetch.serve()

    def event(self, cgroup: int, *, own: bool = False) -> NativeEvent:
        made = event((1307, b'cwd="/"'), context=context()._replace(cgroup_id=cgroup))
        made.self_caused = own
        return self.builder.build(made)

    def counted(self, name: str) -> int:
        return self.prefetch.counts()[name]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.prefetch.close()
    made.theirs.close()


def test_a_container_is_asked_for_as_it_is_made_and_named_from_the_next_batch_on(bench: Bench) -> None:
    bench.turn((7, MADE, WEB))
    assert bench.asked() == ID
    assert "name" not in bench.event(7)["container"]
    bench.answer({"metadata": SHOP})
    assert "name" not in bench.event(7)["container"], "within a batch nothing changes"
    bench.turn()
    made = bench.event(7)
    assert made["container"] == {"id": ID, "name": "shop", "runtime": "docker", "image": "shop:1"}
    assert made["enrichment"]["metadata"] == "docker"
    bench.turn((7, REMOVED, WEB))
    assert bench.event(7)["container"]["name"] == "shop", "what is on its way has its name"
    assert bench.asked() is None
    assert bench.prefetch.wait(0.0) is None


def test_all_in_a_container_share_one_question(bench: Bench) -> None:
    bench.turn((7, MADE, WEB), (8, MADE, WEB + b"/init.scope"), (9, MADE, WEB + b"/docker/" + b"cd" * 32))
    assert bench.asked() == ID
    bench.answer({"metadata": SHOP})
    bench.turn((10, MADE, WEB + b"/system.slice/a.service"))
    assert bench.asked() is None
    for ident in (7, 8, 10):
        assert bench.event(ident)["container"]["name"] == "shop"
    inner = bench.event(9)["container"]
    assert (inner["id"], inner.get("name")) == ("cd" * 32, None), "nobody vouches for it"
    assert [each.get("name") for each in inner["chain"]] == ["shop", None]


def test_a_free_name_is_asked_for_soon_and_often_and_then_rarely(bench: Bench) -> None:
    bench.turn((7, MADE, b"/jobs/batch"))
    start = bench.clock.monotonic()
    asked = []
    for _ in range(10_000):
        if bench.asked() is not None:
            asked.append(round(bench.clock.monotonic() - start, 2))
            bench.answer({"known": None})
        bench.turn(seconds=0.01)
    assert asked == pytest.approx([0.0, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0], abs=0.05)
    assert bench.event(7)["where"] == "unknown"
    bench.turn()
    assert bench.asked() == "/jobs/batch", "an event wants it"
    bench.answer({"known": BATCH})
    bench.turn()
    made = bench.event(7)
    assert (made["where"], made["enrichment"]["container"], made["enrichment"]["metadata"]) == (
        "container",
        "runtime",
        "runc",
    )
    assert made["container"] == {"id": "batch", "name": "batch", "runtime": "runc"}


def test_what_nobody_knows_is_asked_for_ever_more_rarely_however_many_events_come(bench: Bench) -> None:
    bench.turn((7, MADE, b"/jobs/batch"))
    asked = 0
    for _ in range(3600):
        while bench.asked() is not None:
            asked += 1
            bench.answer({"known": None})
        bench.event(7)
        bench.turn(seconds=1)
    assert asked < 25, "in an hour of an event each second"
    assert bench.counted("pending") <= 1


def test_what_we_do_ourselves_asks_for_nothing(bench: Bench) -> None:
    """Reading makes records under a rule on every system call: in a cgroup of a free name they would ask again."""
    bench.turn((7, MADE, b"/jobs/batch"))
    for _ in range(2000):
        while bench.asked() is not None:
            bench.answer({"known": None})
        bench.turn(seconds=0.1)
    before = bench.counted("asked")
    for _ in range(1000):
        bench.event(7, own=True)
        bench.turn(seconds=1)
    assert bench.counted("asked") == before
    bench.event(7)
    bench.turn()
    assert bench.counted("asked") == before + 1


def test_a_burst_of_cgroups_is_not_queued(bench: Bench) -> None:
    for number in range(10_000):
        bench.turn((number, MADE, b"/jobs/%d" % number))
    assert bench.counted("pending") == PENDING_MAX
    assert bench.counted("waiting") <= 64
    assert bench.counted("overfull") == 10_000 - PENDING_MAX
    for number in range(10_000):
        bench.turn((number, REMOVED, b"/jobs/%d" % number))
    while bench.asked() is not None:
        bench.answer({"known": None})
    bench.turn()
    assert bench.counted("asked") <= 65
    assert bench.counted("short_lived") >= PENDING_MAX - 65
    bench.event(9_999)
    bench.turn()
    assert bench.asked() == "/jobs/9999", "an event has been there"


def test_a_burst_of_a_users_does_not_keep_roots_waiting(bench: Bench) -> None:
    for number in range(2 * PENDING_MAX):
        bench.turn((number, MADE, USERS + b"/x/%d" % number))
    bench.turn((99_999, MADE, WEB))
    bench.asked()
    bench.answer({"known": None})
    assert bench.asked() == ID


def test_those_that_rest_are_bounded_too(bench: Bench) -> None:
    for number in range(RESTING_MAX + 50):
        bench.turn((number, MADE, b"/user.slice/user@1.service/x/%d" % number))
    assert bench.counted("resting") == RESTING_MAX
    assert bench.counted("asked") == 0, "nobody's state can answer for those"


@pytest.mark.parametrize("failure", ["time-out", "crash", "budget"])
def test_events_flow_when_the_reader_hangs_or_dies(bench: Bench, failure: str) -> None:
    bench.turn((7, MADE, WEB))
    assert bench.asked() == ID
    bench.answer({"failed": failure})
    assert bench.event(7)["container"] == {"id": ID, "runtime": "docker"}
    for _ in range(100):
        bench.turn(seconds=0.05)
    assert bench.asked() == ID
    bench.answer({"metadata": SHOP})
    bench.turn()
    assert bench.event(7)["container"]["name"] == "shop"


def test_without_the_helper_nothing_is_wanted_any_more(bench: Bench) -> None:
    bench.turn((7, MADE, WEB))
    bench.theirs.close()
    bench.prefetch.serve()
    assert not bench.prefetch.runs
    bench.turn((8, MADE, b"/jobs/x"))
    for ident in (7, 8):
        bench.event(ident)
    assert bench.counted("pending") == 0
    assert bench.prefetch.wait(bench.clock.monotonic()) is None


def test_labels_are_told_on_request_only(bench: Bench) -> None:
    bench.turn((7, MADE, WEB), (8, MADE, b"/jobs/batch"))
    bench.answer({"metadata": SHOP})
    bench.answer({"known": BATCH})
    bench.turn()
    assert [bench.event(ident)["container"].get("labels") for ident in (7, 8)] == [None, None]
    bench.prefetch = Prefetch(Lookups(bench.lookups._helper, bench.clock), labels=True)
    bench.table.asker = bench.prefetch.want
    bench.turn((9, MADE, WEB + b"0"), (10, MADE, WEB.replace(b"ab", b"cd")))
    bench.lookups._current = None
    while bench.asked() not in {None, "cd" * 32}:
        bench.answer({"metadata": SHOP})
    bench.answer({"metadata": SHOP})
    bench.turn()
    assert bench.event(10)["container"]["labels"] == {"k": "v"}


def test_the_helpers_processes_are_told_when_one_is_new(bench: Bench) -> None:
    assert bench.prefetch.take_helpers() == ()
    bench.answer({"helpers": [[41, 7], [42, 8]]})
    assert bench.prefetch.take_helpers() == ((41, 7), (42, 8))
    assert bench.prefetch.take_helpers() == ()


# -- started by settings -----------------------------------------------------------------------------


def settings(tmp_path: object, text: str) -> Settings:
    file = f"{tmp_path}/settings.toml"
    with open(file, "w") as made:  # noqa: PTH123
        made.write(text)
    return load(file, {})


def test_it_is_started_where_the_settings_say(tmp_path: object) -> None:
    said: list[str] = []
    clock = ManualClock()
    assert prefetch.start(settings(tmp_path, "[metadata]\nenabled = false\n"), clock, said.append) is None
    made = prefetch.start(settings(tmp_path, ""), clock, said.append)
    assert made is not None
    assert len({pid for pid, _ in made.take_helpers()}) == 2
    made.close()


def test_where_it_cannot_be_started_containers_have_no_names(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(11, "no more processes")

    monkeypatch.setattr(helper, "start", refuse)
    said: list[str] = []
    assert prefetch.start(settings(tmp_path, ""), ManualClock(), said.append) is None
    assert said == ["containers will have no names: no more processes"]
