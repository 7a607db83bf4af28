# SPDX-License-Identifier: Apache-2.0
"""What stands around the records of a task's event is written from memory: as it would be made, whatever was learnt."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.enrich.cgroups import Inquiry
from enricher.enrich.native import NativeBuilder
from enricher.enrich.surroundings import Surroundings
from enricher.enrich.users import USER
from enricher.facts import Extent, Fact, NamespaceLife, NamespaceOp, UserMap
from enricher.model import Answer, Batch, CgroupChange, CgroupOp, Context, ContextFlag, Event, Level, Metadata
from enricher.route.views import native_json
from enricher.route.views.native_json import NativeJson, render
from tests.unit.sample_events import BOX_INUMS, EXEC, HOST, HOST_INUMS, context, event
from tests.unit.sample_facts import TIME, all_found, batch, found, freed, made, member

WEB, DB, SSH, ODD, HELD = 11, 12, 13, 14, 15
PATHS: Final = {
    WEB: b"/system.slice/docker-" + b"ab" * 32 + b".scope",
    DB: b"/system.slice/docker-" + b"cd" * 32 + b".scope",
    SSH: b"/system.slice/ssh.service",
    ODD: b"/nobody/knows\xff",
}
NET: Final = BOX_INUMS[3]
OTHER_INUMS: Final = tuple(inum + 100 if inum not in HOST_INUMS else inum for inum in BOX_INUMS)
ROOTLESS: Final = (*BOX_INUMS[:USER], 4026532400, *BOX_INUMS[USER + 1 :])
NET_ID: Final = (0, 0, 0, 77, 0, 0, 0, 0, 0, 0)
MAP: Final = UserMap(
    TIME - 1,
    ROOTLESS[USER],
    1,
    1000,
    1001,
    (HOST_INUMS[USER],),
    (0, 0),
    (Extent(3, 0, 1),),
    (Extent(9, 0, 9),),
    whole=True,
)


def lost(time: int) -> NamespaceLife:
    return NamespaceLife(time, NamespaceOp.LOST, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b"")


def cgroup(ident: int, op: int = CgroupOp.MADE, path: bytes | None = None) -> Batch:
    change = CgroupChange(ident, op, PATHS.get(ident, b"") if path is None else path, TIME)
    return Batch([], [], [], parked=False, now=0.0, wall=0.0, cgroups=(change,))


def answer(ident: int, name: str) -> Batch:
    said = Metadata("docker", name, "image:1", (("a", "b"),))
    return Batch([], [], [], parked=False, now=0.0, wall=0.0, answers=(Answer(ident, said),))


def facts(*told: Fact) -> Batch:
    return batch(*told)


TIMES: Final = (500, 1_500, 2_500, TIME, TIME + 1)
LEARNT: Final = [
    *(cgroup(ident) for ident in PATHS),
    *(cgroup(ident, CgroupOp.REMOVED) for ident in PATHS),
    cgroup(SSH, CgroupOp.RENAMED, PATHS[WEB] + b"/x"),
    cgroup(WEB, CgroupOp.RENAMED, b"/system.slice/cron.service"),
    answer(WEB, "web"),
    answer(DB, "db"),
    Batch([], [], [], parked=False, now=100.0, wall=0.0),  # removed cgroups are forgotten
    *(facts(member(ident, inums, 1_200)) for ident in (WEB, DB, SSH) for inums in (BOX_INUMS, OTHER_INUMS)),
    *(
        facts(made(kind, inum, time))
        for kind, inum in (("net", NET), ("mnt", BOX_INUMS[0]))
        for time in TIMES[1:4]
    ),
    facts(made("net", NET, 1_000, ident=77)),
    facts(found("net", NET, 1_000, ident=77)),
    facts(found("net", NET, 1_000)),
    *(facts(freed(NET, time)) for time in TIMES[1:4]),
    facts(lost(1_800)),
    facts(all_found(1_900)),
    facts(MAP),
    facts(made("user", ROOTLESS[USER], 1_300), MAP),
]
SEEN: Final = [
    context(inums=inums, ids=ids, cgroup_id=ident)
    for inums in (HOST_INUMS, BOX_INUMS, OTHER_INUMS, ROOTLESS)
    for ids in ((0,) * 10, NET_ID)
    for ident in (*PATHS, HELD, 0)
]


def changed(seen: Context, draw: st.DrawFn) -> Context:
    nested = (Level(1, 4711), Level(2, 7))
    return seen._replace(
        time=draw(st.sampled_from(TIMES)),
        comm=draw(st.sampled_from([b"ls", b'"\\', b"\xff\x7f", b"", b"\xc2\x85"])),
        auid=draw(st.sampled_from([0, 1000, 0xFFFFFFFF])),
        ses=draw(st.sampled_from([0, 3, 0xFFFFFFFF])),
        levels=draw(st.sampled_from([seen.levels, (), nested])),
    )


@st.composite
def steps(draw: st.DrawFn) -> list[Batch | Event]:
    done: list[Batch | Event] = []
    for _ in range(draw(st.integers(1, 12))):
        if draw(st.booleans()):
            done.append(draw(st.sampled_from(LEARNT)))
            continue
        seen = changed(draw(st.sampled_from(SEEN)), draw)
        one = event(*EXEC, context=seen)
        one.complete = draw(st.sampled_from([True, True, False]))
        one.reason = draw(st.sampled_from(["", "", "no end"])) if one.complete else "no end"
        one.self_caused = draw(st.booleans())
        one.part = draw(st.sampled_from([1, 1, 2]))
        done.append(one)
    return done


@settings(max_examples=150, deadline=None)
@given(done=steps())
def test_whatever_was_learnt_before(done: list[Batch | Event]) -> None:
    around = Surroundings(HOST)
    short = NativeJson(NativeBuilder(HOST, around=around))
    for step in done:
        if isinstance(step, Batch):
            around.learn(step)
        else:
            line = short.line(step)
            assert line == render(NativeBuilder(HOST, around=around).build(step))
            assert short.line(step) == line


def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count how often what stands around records is made the long way."""
    made_long = 0
    around = NativeBuilder.around

    def count(self: NativeBuilder, *arguments: object) -> object:
        nonlocal made_long
        made_long += 1
        return around(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(NativeBuilder, "around", count)
    return lambda: made_long


def test_the_usual_event_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    around = Surroundings(HOST)
    for ident in PATHS:
        around.learn(cgroup(ident))
    around.learn(
        facts(made("net", NET, 1_000), made("user", ROOTLESS[USER], 1_300), MAP, member(WEB, time=1_200))
    )
    short = NativeJson(NativeBuilder(HOST, around=around))
    long = counted(monkeypatch)
    for seen in SEEN:
        if any(seen.ids):
            continue
        before = long()
        line = json.loads(short.line(event(*EXEC, context=seen)))
        assert long() == before + 1  # by the fixture that compares both
        assert ("inside" in line["subject"]) == (seen.inums == ROOTLESS)
        assert ("of" in line["namespaces"]) == (seen.inums in (BOX_INUMS, ROOTLESS) and seen.cgroup_id != WEB)


@pytest.mark.parametrize(
    ("seen", "first"),
    [
        (context(flags=0), EXEC[0]),
        (context(flags=ContextFlag.SUBJECT | ContextFlag.AFTER_SERVING), EXEC[0]),
        (context(flags=ContextFlag.KTHREAD), EXEC[0]),
        (context(pid=4712), EXEC[0]),
        (context()._replace(contid=(5, 1)), EXEC[0]),
        (context(), (1305, b"auid=0 op=updated_rules res=1")),
        (context(), (1006, b"pid=5 uid=0 old-auid=4294967295 auid=0 res=1")),
    ],
    ids=str,
)
def test_the_unusual_one_is_made_the_long_way(
    seen: Context, first: tuple[int, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = counted(monkeypatch)
    records = EXEC if first == EXEC[0] else (first, *EXEC)
    NativeJson(NativeBuilder(HOST)).line(event(*records, context=seen))
    assert long() == 2


def test_a_container_is_asked_for_by_the_first_event_in_it() -> None:
    around = Surroundings(HOST)
    asked: list[bool] = []

    def ask(inquiry: Inquiry) -> bool:
        asked.append(inquiry.noticed)
        return len(asked) > 2  # no room before

    around.cgroups.asker = ask
    around.learn(cgroup(WEB))
    assert asked == [False]
    short = NativeJson(NativeBuilder(HOST, around=around))
    own = event(*EXEC, context=context(cgroup_id=WEB))
    own.self_caused = True
    short.line(own)
    assert asked == [False]
    for _ in range(3):
        short.line(event(*EXEC, context=context(cgroup_id=WEB)))
    assert asked == [False, True, True]


def test_what_is_remembered_of_tasks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_json, "_COMMS", 8)
    short = NativeJson(NativeBuilder(HOST))
    for number in range(40):
        short.line(event(*EXEC, context=context(comm=b"x%d" % number, auid=number)))
        assert max(len(short._comms), len(short._logins)) <= 8


class Turns:
    """One view, told of more and more; its events are of a task of the SSH service with a container's namespaces."""

    def __init__(self) -> None:
        self.around = Surroundings(HOST)
        self.short = NativeJson(NativeBuilder(HOST, around=self.around))
        for ident in PATHS:
            self.around.learn(cgroup(ident))

    def learn(self, *told: Fact) -> None:
        self.around.learn(facts(*told))

    def others(
        self, time: int = TIME, *, cgroup_id: int = SSH, ids: tuple[int, ...] = (0,) * 10
    ) -> list[dict[str, Any]]:
        """Return ``namespaces.of`` of an event, as it is written and as it is made."""
        seen = context(inums=BOX_INUMS, ids=ids, cgroup_id=cgroup_id)._replace(time=time)
        line = self.short.line(event(*EXEC, context=seen))
        assert self.short.line(event(*EXEC, context=seen)) == line
        assert render(NativeBuilder(HOST, around=self.around).build(event(*EXEC, context=seen))) == line
        others: list[dict[str, Any]] = json.loads(line)["namespaces"].get("of", [])
        return others


def test_whose_namespaces_they_are_is_asked_again_when_more_is_known() -> None:
    turns = Turns()
    turns.learn(made("net", NET, 1_000))
    assert turns.others() == []
    turns.learn(member(WEB, time=1_200))
    assert [(each["id"][:2], each.get("name")) for each in turns.others()] == [("ab", None)]
    assert turns.others(cgroup_id=WEB) == []
    assert [each.get("name") for each in turns.others()] == [None]
    turns.around.learn(answer(WEB, "web"))
    assert [each.get("name") for each in turns.others()] == ["web"]
    turns.learn(freed(NET, 1_500), made("net", NET, 1_500))
    assert turns.others() == []
    assert [each.get("name") for each in turns.others(time=1_400)] == ["web"]


def test_whose_they_are_is_asked_each_time_where_it_depends_on_the_moment() -> None:
    turns = Turns()
    turns.learn(freed(NET, 1_500), made("net", NET, 2_000), all_found(900), member(WEB, time=800))
    assert [each["kinds"] for each in turns.others(ids=NET_ID, time=2_500)] == [["mnt", "pid"]]
    assert [each["kinds"] for each in turns.others(ids=NET_ID, time=1_000)] == [["mnt", "net", "pid"]]


def test_lives_are_told_as_soon_as_there_is_somebody_who_tells_them() -> None:
    turns = Turns()
    seen = context(inums=BOX_INUMS, cgroup_id=SSH)
    assert b'"life"' not in turns.short.line(event(*EXEC, context=seen))
    turns.learn(member(WEB, time=1_200))
    assert b'"life":"0"' in turns.short.line(event(*EXEC, context=seen))
