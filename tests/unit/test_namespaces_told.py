# SPDX-License-Identifier: Apache-2.0
"""Whose a namespace is, and which facts are told though no rule asked for them."""

from __future__ import annotations

import pytest

from enricher.enrich.surroundings import Surroundings
from enricher.facts import Change, ChangeOp
from enricher.model import Batch, CgroupChange, CgroupOp, Event
from enricher.route.own import OwnEvents
from tests.unit.sample_events import BOX_INUMS, HOST, HOST_INUMS, context
from tests.unit.sample_facts import batch, change, freed, made, member

WEB, DB, HOSTS, ODD = 11, 12, 13, 14
PATHS = {
    WEB: f"/system.slice/docker-{'ab' * 32}.scope",
    DB: f"/system.slice/docker-{'cd' * 32}.scope",
    HOSTS: "/system.slice/ssh.service",
    ODD: "/nobody/knows",
}
NET, MNT = BOX_INUMS[3], BOX_INUMS[0]


def around(*, watched: bool = True) -> Surroundings:
    known = Surroundings(HOST)
    told = tuple(CgroupChange(ident, CgroupOp.MADE, path.encode(), 0) for ident, path in PATHS.items())
    known.learn(Batch([], [], [], parked=False, now=0.0, wall=0.0, cgroups=told))
    if watched:
        kinds = (("mnt", BOX_INUMS[0]), ("net", BOX_INUMS[3]), ("pid", BOX_INUMS[4]))
        known.learn(batch(*(made(kind, inum, 1_000) for kind, inum in kinds)))
    return known


def owner(known: Surroundings, time: int = 5_000) -> str:
    home = known.tenants.owner(NET, time)
    return "" if home is None or home.container is None else home.container["id"][:2]


def test_the_first_container_has_it() -> None:
    known = around()
    assert owner(known) == ""
    known.learn(batch(member(HOSTS, time=1_500), member(WEB, time=2_000), member(DB, time=3_000)))
    assert owner(known) == "ab"
    inside = known.tenants.inside(NET, 5_000) or []
    assert [home.container["id"][:2] for home in inside if home.container] == ["ab", "cd"]


def test_the_time_decides_who_is_first() -> None:
    known = around()
    known.learn(batch(member(DB, time=3_000), member(WEB, time=2_000)))
    assert owner(known) == "ab"


def test_behind_one_that_nobody_knows_it_is_nobodys() -> None:
    known = around()
    known.learn(batch(member(ODD, time=1_500), member(WEB, time=2_000)))
    assert owner(known) == ""


def test_a_user_may_run_a_container_without_a_cgroup_in_a_hosts_cgroup() -> None:
    known = around()
    foreign = (*BOX_INUMS[:5], 4026539000, *BOX_INUMS[6:])
    known.learn(batch(member(HOSTS, foreign, 1_500), member(WEB, time=2_000)))
    assert owner(known) == ""
    assert known.tenants.inside(NET, 5_000) is None


def test_what_was_there_before_is_nobodys() -> None:
    known = around(watched=False)
    known.learn(batch(member(WEB, time=2_000)))
    assert owner(known) == ""


def test_the_next_of_the_same_number_begins_anew() -> None:
    known = around()
    known.learn(batch(member(WEB, time=2_000), freed(NET, 3_000), made("net", NET, 3_500)))
    assert (owner(known, 2_500), owner(known, 4_000)) == ("ab", "")
    known.learn(batch(member(DB, time=4_000)))
    assert (owner(known, 2_500), owner(known, 4_500)) == ("ab", "cd")


def test_of_is_told_where_it_differs_only() -> None:
    known = around()
    known.learn(batch(member(WEB, time=2_000)))
    inside = context(inums=BOX_INUMS)
    web, host = known.cgroups.of(WEB), known.cgroups.of(HOSTS)
    assert known.tenants.of(inside, web) == []
    (of,) = known.tenants.of(inside, host)
    assert (of["id"], of["runtime"], of["kinds"]) == ("ab" * 32, "docker", ["mnt", "net", "pid"])
    assert known.tenants.of(context(), host) == []


def choice(known: Surroundings, changes: str = "containers", *, lives: bool = False) -> OwnEvents:
    return OwnEvents(HOST, known, changes=changes, lives=lives)


def told(fact: object) -> Event:
    event = Event(b"1.000:0", 0.0)
    event.told = fact  # type: ignore[assignment]
    return event


def entering(inums: tuple[int, ...], cgroup: int, before: tuple[int, ...] = HOST_INUMS) -> Change:
    return change(context(inums=inums), op=ChangeOp.SETNS, cgroup=cgroup, before=before)


NETTED = (*HOST_INUMS[:3], NET, *HOST_INUMS[4:])
NEW = (*HOST_INUMS[:3], 4026539999, *HOST_INUMS[4:])


@pytest.mark.parametrize(
    ("fact", "wanted"),
    [
        (change(cgroup=WEB), True),
        (change(cgroup=HOSTS), False),
        (change(cgroup=ODD), True),
        (change(cgroup=99), True),
        (entering(NETTED, HOSTS), True),
        (entering(NEW, HOSTS), True),  # from before the start: it may be a container's
        (entering(HOST_INUMS, HOSTS, NETTED), True),
        (change(op=ChangeOp.CLONE, cgroup=HOSTS), False),
    ],
)
def test_which_changes_are_told(fact: Change, *, wanted: bool) -> None:
    known = around()
    known.learn(batch(member(WEB, time=2_000)))
    events = [told(fact)]
    assert choice(known).chosen(events) == (events if wanted else [])
    assert choice(known, "all").chosen(events) == events
    assert choice(known, "none").chosen(events) == []


def test_a_namespace_that_is_the_hosts_own_business_is_not_told_of() -> None:
    known = around()
    known.learn(batch(made("net", 4026539999, 1_000), member(HOSTS, NEW, 2_000)))
    assert choice(known).chosen([told(entering(NEW, HOSTS))]) == []


def test_lives_are_told_on_request_and_in_pairs() -> None:
    known = around()
    known.learn(batch(freed(NET, 3_000), freed(77, 3_000)))
    events = [told(made("net", NET)), told(freed(NET, 3_000)), told(freed(77, 3_000))]
    assert choice(known).chosen(events) == []
    assert choice(known, lives=True).chosen(events) == events[:2]


def test_other_events_pass() -> None:
    events = [Event(b"1.000:5", 0.0)]
    assert choice(around(), "none").chosen(events) is events
