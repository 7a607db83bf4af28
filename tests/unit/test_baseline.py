# SPDX-License-Identifier: Apache-2.0
"""Namespaces that were there before the program: which life was found, whose it is, what is told, and by whom."""

from __future__ import annotations

import fcntl
import itertools
import os
import sys
import termios
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.correlate import lives as lives_module
from enricher.correlate.lives import FOREVER, Lives
from enricher.enrich import tenants as tenants_module
from enricher.enrich.surroundings import Surroundings
from enricher.enrich.told import namespace
from enricher.enrich.whereabouts import Whereabouts
from enricher.facts import Fact, NamespaceLife, NamespaceOp
from enricher.model import KINDS, Batch, CgroupChange, CgroupOp, Event
from enricher.route.own import OwnEvents
from enricher.runtime.output import Wanted
from enricher.sources.bpf import baseline, families, wirefacts
from tests import schema
from tests.unit.sample_events import BOX_INUMS, HOST, HOST_INUMS, context
from tests.unit.sample_facts import all_found, batch, found, freed, made, member
from tests.unit.sample_replay import Live, again
from tests.unit.test_moduleprobes import Types

INUM = 4026532261
NET = BOX_INUMS[3]
WEB, DB, HOSTS, ODD = 11, 12, 13, 14
PATHS = {
    WEB: f"/system.slice/docker-{'ab' * 32}.scope",
    DB: f"/system.slice/docker-{'cd' * 32}.scope",
    HOSTS: "/system.slice/ssh.service",
    ODD: "/nobody/knows",
}


# -- how all tasks are looked at ---------------------------------------------------------------------


def test_a_step_is_what_a_ring_has_room_for() -> None:
    assert [baseline.step_for(size) for size in (4096, 64 << 10, 1 << 20, 32 << 20)] == [1, 8, 128, 1024]


def test_rings_are_emptied_between_the_steps() -> None:
    sizes: list[int] = []
    read, write = os.pipe()

    def drain() -> None:
        sizes.append(left(read))

    def begin() -> int:
        return os.dup(read)

    os.write(write, bytes([1] * 20))
    os.close(write)
    assert baseline.look(begin, drain, 8, FOREVER) == "the look at all tasks saw none"  # the second one
    os.close(read)
    assert sizes == [12, 4, 0]


def left(fd: int) -> int:
    """Return how many bytes a pipe holds."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_read_that_fails_is_the_end(tmp_path: Path) -> None:
    why = baseline.look(lambda: os.open(tmp_path, os.O_RDONLY), lambda: None, 8, FOREVER)
    assert why == "the look at all tasks ended early: Is a directory"


def test_a_start_does_not_wait_for_rings_that_stay_full() -> None:
    read, write = os.pipe()
    os.write(write, bytes([1] * 20))
    drains: list[None] = []
    why = baseline.look(lambda: read, lambda: drains.append(None), 8, 0.0)
    os.close(write)
    assert (why, len(drains)) == ("the look at all tasks ended early: it took longer than 5 s", 1)
    assert not baseline.settle(lambda: drains.append(None), lambda: True, 0.0)
    turns = iter((True, True, False))
    assert baseline.settle(lambda: drains.append(None), lambda: next(turns), FOREVER)
    assert len(drains) == 5


def test_the_family_needs_the_iterator_and_the_lives() -> None:
    assert families.choose(cast("Any", Types())).baseline == "task_found"
    without = families.choose(cast("Any", Types("bpf_iter_task")))
    assert (without.baseline, without.absent["lives"]) == ("", "")
    assert without.absent["baseline"].startswith("about bpf_iter_task")
    blind = families.choose(cast("Any", Types("proc_free_inum")))
    assert blind.baseline == ""
    assert blind.absent["baseline"] == blind.absent["lives"] != ""
    assert "task_found" not in [*blind.programs, *blind.modules]


# -- messages ----------------------------------------------------------------------------------------


def test_what_is_found_is_read_as_it_was_written() -> None:
    for told in (found("user", INUM, 5_000, 77), all_found(9_000)):
        image = wirefacts.encode_namespace(told)
        assert wirefacts.DECODERS[wirefacts.EVENT_NAMESPACE](image, 0) == told


# -- which life ----------------------------------------------------------------------------------------


def lives_of(*facts: Fact) -> Lives:
    lives = Lives()
    lives.learn([member(1), *facts])
    return lives


def at(lives: Lives, time: int, ident: int = 0) -> tuple[int, int, int] | None:
    """Its birth, end and kind."""
    life = lives.at(INUM, time, ident)
    return None if life is None else (life.born, life.ended, life.kind)


OLD_NET = found("net", INUM, 100)


def test_one_that_was_found_is_known_by_all_that_was_told() -> None:
    life = lives_of(OLD_NET).at(INUM, 50)
    assert life is not None
    assert life == (INUM, 0, FOREVER, KINDS.index("net"), 0, 4026531836, 4026531837)


Expected = dict[int, tuple[int, int, int] | None]

ORDERS: dict[str, tuple[list[NamespaceLife], Expected, bool]] = {
    "it lives": ([OLD_NET], {50: (0, FOREVER, 3), 500: (0, FOREVER, 3)}, True),
    "it ends": ([OLD_NET, freed(INUM, 200)], {50: (0, 200, 3), 200: (0, 200, 3), 300: None}, True),
    "it ends, and the number is another's": (
        [OLD_NET, freed(INUM, 200), made("uts", INUM, 300)],
        {150: (0, 200, 3), 250: None, 350: (300, FOREVER, 1)},
        True,
    ),
    # Freed and made on another CPU while a task was looked at that had it: found is the one made.
    "it was freed and made before": (
        [freed(INUM, 60), made("net", INUM, 80), OLD_NET],
        {50: (0, 60, -1), 70: None, 90: (80, FOREVER, 3), 150: (80, FOREVER, 3)},
        False,
    ),
    "it was made before": ([made("net", INUM, 80), OLD_NET], {50: None, 150: (80, FOREVER, 3)}, False),
    # Read from a namespace that was on its way out, or of one whose making nobody told.
    "it was freed before": ([freed(INUM, 60), OLD_NET], {50: (0, 60, -1), 150: None}, False),
    "made, found, freed": (
        [made("net", INUM, 80), OLD_NET, freed(INUM, 120)],
        {90: (80, 120, 3), 150: None},
        False,
    ),
    "its end was missed": (
        [OLD_NET, made("uts", INUM, 300)],
        {250: (0, 300, 3), 350: (300, FOREVER, 1)},
        True,
    ),
    "found twice": ([OLD_NET, found("net", INUM, 110)], {50: (0, FOREVER, 3)}, True),
    "found twice, freed between": (
        [OLD_NET, freed(INUM, 105), found("net", INUM, 110)],
        {50: (0, 105, 3), 107: None, 120: None},
        True,
    ),
}


@pytest.mark.parametrize("name", ORDERS)
def test_messages_in_any_order_give_the_same_lives(name: str) -> None:
    """Those of different rings come as their rings are read."""
    facts, expected, begins = ORDERS[name]
    for order in itertools.permutations(facts):
        lives = lives_of(*order)
        assert {time: at(lives, time) for time in expected} == expected, order
        assert lives.began(OLD_NET) == begins
        assert not lives.began(found("net", INUM, 110))


@given(order=st.permutations(range(5)), split=st.integers(0, 5))
def test_with_the_kernels_own_numbers(order: list[int], split: int) -> None:
    facts = [
        found("net", INUM, 100, 7),
        freed(INUM, 200)._replace(id=7),
        made("net", INUM, 300, ident=9),
        freed(INUM, 400)._replace(id=9),
        made("uts", INUM, 500, ident=11),
    ]
    lives = lives_of()
    lives.learn(facts[place] for place in order[:split])
    lives.learn(facts[place] for place in order[split:])
    assert [at(lives, 350, ident) for ident in (7, 9, 11, 8)] == [
        (0, 200, 3),
        (300, 400, 3),
        (500, FOREVER, 1),
        None,
    ]
    assert lives.began(facts[0])


def test_ends_without_a_number_are_ends_of_what_has_one() -> None:
    """Before 6.18 only net and mnt have numbers, and an end never tells one."""
    lives = lives_of(found("net", INUM, 100, 7), freed(INUM, 200))
    assert at(lives, 150) == at(lives, 150, 7) == at(lives, 200) == (0, 200, 3)
    assert at(lives, 150, 8) is None
    assert at(lives, 250) is None


def test_after_a_loss_nothing_that_was_found_is_known() -> None:
    lost = freed(0, 50)._replace(op=NamespaceOp.LOST)
    for facts in ([lost, OLD_NET], [OLD_NET, lost]):
        lives = lives_of(*facts)
        assert at(lives, 150) is None
        assert not lives.began(OLD_NET)


def test_memory_of_what_was_found_is_bounded() -> None:
    later = 100 + 2 * lives_module.KEPT
    lives = lives_of(OLD_NET, freed(INUM, 200), made("net", INUM, 300), freed(INUM, later))
    assert at(lives, 150) == (0, 200, -1), "what was found is forgotten"
    assert lives._count == sum(map(len, lives._numbers.values())) < 4
    full = Lives(limit=3)
    full.learn([member(1), *(found("net", INUM + place, 100) for place in range(4))])
    assert (full.forgotten, full.at(INUM, 200)) == (4, None)


def test_what_nobody_knows_is_passed_over() -> None:
    """A capture may hold any number."""
    lives = lives_of(OLD_NET._replace(op=99))
    assert at(lives, 150) == (0, FOREVER, -1)


# -- whose it is -------------------------------------------------------------------------------------


def around(*facts: Fact) -> Surroundings:
    known = Surroundings(HOST)
    told = tuple(CgroupChange(ident, CgroupOp.FOUND, path.encode(), 0) for ident, path in PATHS.items())
    known.learn(Batch([], [], [], parked=False, now=0.0, wall=0.0, cgroups=told))
    known.learn(batch(*(found(kind, BOX_INUMS[KINDS.index(kind)], 1_000) for kind in ("mnt", "net", "pid"))))
    if facts:
        known.learn(batch(*facts))
    return known


def owner(known: Surroundings, time: int = 5_000) -> str:
    home = known.tenants.owner(NET, time)
    return "" if home is None or home.container is None else home.container["id"][:2]


def inside(known: Surroundings, time: int = 5_000) -> list[str] | None:
    homes = known.tenants.inside(NET, time)
    return None if homes is None else [home.container["id"][:2] for home in homes if home.container]


def test_it_is_the_containers_that_alone_was_in_it() -> None:
    known = around(member(WEB, time=1_000), member(HOSTS, time=1_500), all_found(2_000))
    assert (owner(known), inside(known)) == ("ab", ["ab"])
    host = known.cgroups.of(HOSTS)
    (of,) = known.tenants.of(context(inums=BOX_INUMS), host)
    assert (of["id"], of["kinds"]) == ("ab" * 32, ["mnt", "net", "pid"])


def test_without_a_whole_look_it_is_nobodys() -> None:
    known = around(member(WEB, time=1_000))
    assert (owner(known), inside(known)) == ("", None)
    known.learn(batch(all_found(2_000)))
    assert (owner(known), inside(known)) == ("ab", ["ab"])


@pytest.mark.parametrize(
    ("others", "who", "containers"),
    [
        ([member(DB, time=1_500)], "", ["ab", "cd"]),  # who was first cannot be known
        ([member(DB, time=2_500)], "ab", ["ab", "cd"]),  # who came later was not
        ([member(ODD, time=1_500)], "", None),
        ([member(99, time=1_500)], "", ["ab"]),  # a cgroup that is gone
        ([member(HOSTS, (*BOX_INUMS[:5], 4026539000, *BOX_INUMS[6:]), 1_500)], "", None),
    ],
)
def test_beside_others_it_is_nobodys(others: list[Fact], who: str, containers: list[str] | None) -> None:
    known = around(member(WEB, time=1_000), *others, all_found(2_000))
    assert (owner(known), inside(known)) == (who, containers)


def test_who_comes_into_an_old_one_later_is_not_its_container() -> None:
    known = around(all_found(2_000), member(WEB, time=2_500))
    assert (owner(known), inside(known)) == ("", ["ab"])


def test_a_list_that_is_full_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenants_module, "CGROUPS_MAX", 2)
    known = around(member(WEB, time=1_000), member(HOSTS, time=1_500), all_found(2_000))
    assert (owner(known), inside(known)) == ("", None)


def test_after_a_loss_it_is_nobodys() -> None:
    lost = freed(0, 3_000)._replace(op=NamespaceOp.LOST)
    known = around(member(WEB, time=1_000), all_found(2_000))
    known.learn(batch(lost))
    assert (owner(known), inside(known)) == ("", None)


def test_the_next_of_the_number_begins_anew() -> None:
    known = around(member(WEB, time=1_000), all_found(2_000))
    # A program in the next one whose making is read only later.
    known.learn(batch(member(DB, time=4_000)))
    known.learn(batch(freed(NET, 3_000), made("net", NET, 3_500)))
    assert (owner(known, 2_500), inside(known, 2_500)) == ("ab", ["ab"])
    assert owner(known, 4_500) == ""


def test_the_hosts_own_is_never_asked_for() -> None:
    known = around(member(WEB, HOST_INUMS, 1_000), all_found(2_000))
    assert known.tenants.of(context(inums=HOST_INUMS), known.cgroups.of(HOSTS)) == []


# -- what is told ------------------------------------------------------------------------------------


def events_of(*facts: NamespaceLife) -> list[Event]:
    events = []
    for fact in facts:
        event = Event(b"1.000:0", 0.0)
        event.told = fact
        events.append(event)
    return events


def test_each_has_one_beginning_and_one_end() -> None:
    again_found = found("net", NET, 1_100)
    newer, unknown = found("uts", 77, 1_000), found("ipc", 78, 1_000)
    facts = (
        *(found("net", NET, 1_000), again_found, newer, unknown),
        *(made("uts", 77, 900), freed(78, 800), freed(NET, 3_000)),
    )
    known = around(*facts)
    choice = OwnEvents(HOST, known, changes="none", lives=True)
    events = events_of(*facts)
    assert choice.chosen(events) == [events[0], events[4], events[6]]
    assert OwnEvents(HOST, known, changes="none", lives=False).chosen(events) == []


def test_a_beginning_that_nobody_saw_is_marked() -> None:
    where = Whereabouts(HOST, around(freed(NET, 3_000)))
    first = namespace(found("net", NET, 1_000), where)
    last = namespace(freed(NET, 3_000), where)
    both = {
        "kind": "net",
        "ino": NET,
        "life": "0",
        "parent": 4026531836,
        "owner": 4026531837,
    }
    assert first == {**both, "baseline": True}
    assert last == both
    assert "baseline" not in namespace(made("net", 5, 6_000), where)


# -- captures ----------------------------------------------------------------------------------------


def test_a_replay_tells_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(live: Live) -> None:
        was, who, whole = found("net", NET, 1_000), member(WEB, time=1_000), all_found(2_000)
        live.host.facts += [was, who, whole]
        assert live.host.tap is not None
        live.host.tap += [wirefacts.encode_namespace(was), wirefacts.encode_member(who)]
        live.host.tap.append(wirefacts.encode_namespace(whole))

    def ended(live: Live) -> None:
        fact = freed(NET, 3_000)
        live.host.facts.append(fact)
        assert live.host.tap is not None
        live.host.tap.append(wirefacts.encode_namespace(fact))

    live = Live(tmp_path, monkeypatch)
    live.run([looked, lambda live: live.exec(0), ended, lambda live: live.exec(0)])
    data = live.path.read_bytes()
    wanted = Wanted("json", lives=True)
    written, _, damage = again(data, tmp_path / "x", wanted)
    assert damage is None
    assert again(data, tmp_path / "y", wanted)[0] == written
    told = [event for event in schema.parse(written) if "namespace" in event]
    assert [(event["type"], event["namespace"].get("baseline")) for event in told] == [
        ("NS_INIT", True),
        ("NS_DEL", None),
    ]
    text, _, _ = again(data, tmp_path / "z", Wanted("text", lives=True))
    assert b'namespace_baseline="yes"' in text
