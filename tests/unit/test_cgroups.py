# SPDX-License-Identifier: Apache-2.0
"""Cgroups from the kernel's messages and the file system to what an event says: the table, the scan, the wire."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.enrich.cgroups import KEPT, CgroupTable
from enricher.model import Answer, Batch, CgroupChange, CgroupOp, Known, Metadata
from enricher.sources import cgroups
from enricher.sources.bpf import wire

MADE, REMOVED, RENAMED = CgroupOp.MADE, CgroupOp.REMOVED, CgroupOp.RENAMED
WEB = b"/system.slice/docker-" + b"ab" * 32 + b".scope"


def tell(table: CgroupTable, *changes: tuple[int, CgroupOp, bytes], now: float = 0.0) -> None:
    told = tuple(CgroupChange(ident, op, path, 0) for ident, op, path in changes)
    table.learn(Batch([], [], [], parked=False, now=now, wall=0.0, cgroups=told))


def path_of(table: CgroupTable, ident: int) -> bytes | None:
    home = table.of(ident)
    return None if home is None else home.path


# -- the table ---------------------------------------------------------------------------------------


def test_a_cgroup_is_known_from_its_making_until_a_while_after_its_end() -> None:
    table = CgroupTable()
    tell(table, (7, MADE, WEB))
    home = table.of(7)
    assert home is not None
    assert home.container == {"id": "ab" * 32, "runtime": "docker"}
    tell(table, (7, REMOVED, WEB), now=10.0)
    tell(table, (7, CgroupOp.RELEASED, WEB), now=11.0)
    tell(table, (8, MADE, b"/x"), now=10.0 + KEPT - 0.1)
    assert path_of(table, 7) == WEB
    tell(table, (9, MADE, b"/y"), now=10.0 + KEPT)
    assert table.of(7) is None
    assert len(table) == 2


def test_what_nobody_told_of_is_not_there() -> None:
    table = CgroupTable()
    tell(table, (7, MADE, b""))
    assert table.of(7) is None
    tell(table, (7, CgroupOp.FOUND, WEB))
    tell(table, (7, MADE, b"/another"))
    assert path_of(table, 7) == WEB, "an id has one path in its life"


def test_one_that_is_heard_of_at_its_end_is_known_for_the_records_on_their_way() -> None:
    table = CgroupTable()
    tell(table, (7, REMOVED, WEB), now=5.0)
    assert path_of(table, 7) == WEB
    tell(table, (8, MADE, b"/x"), now=5.0 + KEPT)
    assert table.of(7) is None


def test_one_that_was_removed_is_known_as_long_as_an_event_of_its_time_is_under_way() -> None:
    table = CgroupTable()

    def turn(now: float, oldest: int, *changes: CgroupChange) -> None:
        table.learn(Batch([], [], [], parked=False, now=now, wall=0.0, cgroups=changes, oldest=oldest))

    turn(0.0, 0, CgroupChange(7, MADE, WEB, 100))
    turn(1.0, 0, CgroupChange(7, REMOVED, WEB, 200), CgroupChange(8, MADE, b"/x", 201))
    turn(1000.0, 150, CgroupChange(9, MADE, b"/y", 900))
    assert path_of(table, 7) == WEB
    turn(1001.0, 201, CgroupChange(10, MADE, b"/z", 901))
    assert path_of(table, 7) == WEB, "an event of another ring may be a little older"
    turn(1002.0, 2 * 10**9, CgroupChange(11, MADE, b"/w", 902))
    assert table.of(7) is None


def test_a_new_name_is_that_of_all_below() -> None:
    table = CgroupTable()
    tell(table, (1, MADE, b"/a"), (2, MADE, b"/a/b"), (3, MADE, b"/ab"), (4, MADE, b"/a/b/c"))
    tell(table, (1, RENAMED, WEB))
    assert [path_of(table, ident) for ident in (1, 2, 3, 4)] == [WEB, WEB + b"/b", b"/ab", WEB + b"/b/c"]
    tell(table, (5, RENAMED, b"/new"), (5, RENAMED, b""))
    assert path_of(table, 5) == b"/new"


def test_memory_is_bounded_and_the_oldest_goes() -> None:
    table = CgroupTable(limit=3)
    for ident in range(5):
        tell(table, (ident, MADE, b"/%d" % ident))
    tell(table, (2, REMOVED, b"/2"))
    assert [path_of(table, ident) for ident in range(5)] == [None, None, b"/2", b"/3", b"/4"]
    assert (len(table), table.forgotten) == (3, 2)
    tell(table, (5, MADE, b"/5"))
    assert table.forgotten == 2, "one that was removed is no loss"


@given(st.binary(max_size=300))
def test_any_path_makes_members_that_can_be_written(path: bytes) -> None:
    table = CgroupTable()
    tell(table, (7, MADE, b"/" + path))
    home = table.of(7)
    assert home is not None
    home.cgroup["path"].encode()
    for word in (home.cgroup.get("unit", ""), (home.container or {"id": ""})["id"]):
        word.encode()
    assert bytes.fromhex(home.cgroup.get("path_hex", (b"/" + path).hex())) == b"/" + path


# -- the wire ----------------------------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1), st.sampled_from(CgroupOp), st.binary(max_size=1022))
def test_what_user_space_writes_is_read_as_the_kernels(ident: int, op: CgroupOp, path: bytes) -> None:
    change = CgroupChange(ident, op, path, 5)
    message = wire.encode_cgroup(change)
    assert wire.decode_cgroup(message, 0) == change
    padded = message.ljust(wire.SIZES["cgroup_event"], b"\xee")
    assert wire.decode_cgroup(padded, 0) == change


def test_a_path_that_may_go_on_is_not_known() -> None:
    message = wire.encode_cgroup(CgroupChange(7, MADE, b"/" + b"x" * 2000, 5))
    assert wire.decode_cgroup(message, 0).path == b""


def walk(*names: bytes, whole: int = 1, ident: int = 7) -> CgroupChange:
    head = struct.pack("=HHIQQHHI", 4, 1, 2080, 5, ident, len(names), whole, 0)
    body = b"".join((name + b"\0").ljust(wire.WALK_NAME, b"\xee")[: wire.WALK_NAME] for name in names)
    return wire.decode_walk((head + body).ljust(2080, b"\xee"), 0)


def test_a_walk_is_read_from_the_root() -> None:
    assert walk(b"init.scope", b"docker-1.scope", b"system.slice") == CgroupChange(
        7, CgroupOp.FOUND, b"/system.slice/docker-1.scope/init.scope", 5
    )
    assert walk().path == b"/"
    assert walk(b"a" * 126, b"b").path == b"/b/" + b"a" * 126
    assert walk(b"a" * 127, b"b").path == b"", "a name that fills its place may go on"
    assert walk(*[b"a"] * 16, whole=0).path == b"", "deeper than it goes"


# -- the file system ---------------------------------------------------------------------------------


def proc(tmp_path: Path, subsystems: str, *mounts: str) -> Path:
    (tmp_path / "self").mkdir()
    (tmp_path / "cgroups").write_text("#subsys_name\thierarchy\tnum_cgroups\tenabled\n" + subsystems)
    (tmp_path / "self" / "mountinfo").write_text("".join(f"{line}\n" for line in mounts))
    return tmp_path


ALL = "cpuset\t{0}\t5\t1\ncpu\t{0}\t5\t1\nmemory\t{1}\t5\t1\npids\t{2}\t5\t1\n"
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
HYBRID = "31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
PIDS = "33 30 0:29 / /sys/fs/cgroup/pids rw shared:9 master:1 - cgroup cgroup rw,pids"
PART = "34 30 0:26 /a /somewhere rw - cgroup2 cgroup2 rw"


@pytest.mark.parametrize(
    ("subsystems", "mounts", "expected"),
    [
        (ALL.format(0, 0, 0), (PART, V2), (0, cgroups.V2, "/sys/fs/cgroup", "v2")),
        (ALL.format(3, 4, 5), (HYBRID, PIDS), (5, 3, "/sys/fs/cgroup/pids", "pids")),
        (ALL.format(3, 4, 0), (HYBRID, PIDS), (4, 2, None, "memory")),
        (ALL.format(0, 0, 0), (PART,), (0, cgroups.V2, None, "v2")),
        ("", (), (0, cgroups.V2, None, "v2")),
        ("what\nis this", (V2,), (0, cgroups.V2, "/sys/fs/cgroup", "v2")),
    ],
)
def test_the_hierarchy_that_runtimes_use(
    tmp_path: Path, subsystems: str, mounts: tuple[str, ...], expected: tuple[int, int, str | None, str]
) -> None:
    number, index, root, name = cgroups.hierarchy(proc(tmp_path, subsystems, *mounts))
    assert (number, index, None if root is None else str(root), name) == expected


def test_a_proc_that_cannot_be_read_is_as_v2(tmp_path: Path) -> None:
    assert cgroups.hierarchy(tmp_path / "nowhere") == (0, cgroups.V2, None, "v2")


def test_the_scan_finds_all_with_their_inodes(tmp_path: Path) -> None:
    for name in ("a/b/c", "d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "cgroup.procs").touch()
    (tmp_path / "link").symlink_to("a")
    odd = tmp_path / "od\udcffd"
    odd.mkdir()
    found = cgroups.scan(cgroups.Hierarchy(0, cgroups.V2, tmp_path, "v2"))
    assert {change.path for change in found} == {b"/", b"/a", b"/a/b", b"/a/b/c", b"/d", b"/od\xffd"}
    by_path = {change.path: change.id for change in found}
    assert by_path[b"/a/b"] == (tmp_path / "a/b").stat().st_ino
    assert [change.path for change in found].index(b"/a") < [change.path for change in found].index(b"/a/b")
    assert cgroups.scan(cgroups.Hierarchy(0, cgroups.V2, None, "v2")) == []
    assert cgroups.scan(cgroups.Hierarchy(0, cgroups.V2, tmp_path / "gone", "v2")) == []


# -- what runtimes say -------------------------------------------------------------------------------

SHOP = Metadata("docker", "shop", "shop:1", (), "uid", "shop-0", "prod")


def known(cgroup: str) -> Known:
    return Known("runc", "batch", cgroup, Metadata("runc", "batch"))


def answer(table: CgroupTable, ident: int, said: Metadata | Known) -> None:
    told = (Answer(ident, said),)
    table.learn(Batch([], [], [], parked=False, now=0.0, wall=0.0, answers=told))


def place_of(table: CgroupTable, ident: int) -> tuple[str, str, str]:
    home = table.of(ident)
    assert home is not None
    return home.where, home.container.get("name", "") if home.container else "", home.provenance


def test_an_answer_replaces_the_home_and_leaves_given_events_alone() -> None:
    table = CgroupTable()
    tell(table, (7, MADE, WEB))
    before = table.of(7)
    assert before is not None
    given = before.container
    answer(table, 7, SHOP)
    assert given == {"id": "ab" * 32, "runtime": "docker"}
    after = table.of(7)
    assert after is not None
    assert after.container == {
        "id": "ab" * 32,
        "name": "shop",
        "runtime": "docker",
        "image": "shop:1",
        "pod": {"uid": "uid", "name": "shop-0", "namespace": "prod"},
    }
    assert (after.answered, after.provenance) == ("docker", "cgroup")
    answer(table, 7, SHOP._replace(name="other"))
    assert place_of(table, 7)[1] == "shop", "the first answer stays"


def test_who_the_path_takes_for_lxc_may_be_incus() -> None:
    table = CgroupTable()
    tell(table, (7, MADE, b"/lxc.payload.prod_web"))
    answer(table, 7, Metadata("incus", "web"))
    home = table.of(7)
    assert home is not None
    assert home.container == {"id": "prod_web", "name": "web", "runtime": "incus"}


def test_a_container_of_a_free_name_holds_all_below_it_from_then_on() -> None:
    table = CgroupTable()
    inner = b"/jobs/batch/docker/" + b"cd" * 32
    tell(table, (6, MADE, b"/jobs"), (7, MADE, b"/jobs/batch"), (8, MADE, b"/jobs/batches"))
    answer(table, 7, known("/jobs/batch"))
    tell(table, (9, MADE, b"/jobs/batch/a"), (10, MADE, inner))
    container = ("container", "batch", "runtime")
    unknown = ("unknown", "", "none")
    assert [place_of(table, ident) for ident in (6, 7, 8, 9)] == [unknown, container, unknown, container]
    home = table.of(10)
    assert home is not None
    assert home.container is not None
    assert home.container["id"] == "cd" * 32
    assert [each["id"] for each in home.container["chain"]] == ["batch", "cd" * 32]
    tell(table, (7, REMOVED, b"/jobs/batch"), (9, REMOVED, b""), now=1.0)
    tell(table, (11, MADE, b"/x"), now=1.0 + KEPT)
    tell(table, (12, MADE, b"/jobs/batch"), now=1.0 + KEPT)
    assert place_of(table, 12) == unknown, "another container may be there now, or none"


def test_one_below_may_be_answered_for_by_itself() -> None:
    table = CgroupTable()
    tell(table, (7, MADE, b"/jobs/batch"), (8, MADE, b"/jobs/batch/init"))
    answer(table, 8, known("/jobs/batch"))
    assert place_of(table, 8) == ("container", "batch", "runtime")
    assert place_of(table, 7) == ("unknown", "", "none")


@pytest.mark.parametrize(
    ("ident", "said"),
    [
        (1, SHOP),
        (2, SHOP),
        (2, known("/jobs/other")),
        (2, known("/jobs/batc")),
        (3, known("/system.slice/a.service")),
        (9, SHOP),
        (4, SHOP),
    ],
)
def test_an_answer_that_does_not_fit_changes_nothing(ident: int, said: Metadata | Known) -> None:
    """Neither the host, nor another kind of answer, nor one for another cgroup, nor for one inside, nor for nothing."""
    table = CgroupTable()
    tell(
        table,
        (1, MADE, b"/system.slice/a.service"),
        (2, MADE, b"/jobs/batch"),
        (3, MADE, WEB),
        (4, MADE, WEB + b"/init.scope"),
    )
    before = [table.of(each) for each in range(1, 5)]
    answer(table, ident, said)
    assert [table.of(each) for each in range(1, 5)] == before


def test_a_new_name_is_another_question_and_an_old_answer_goes() -> None:
    table = CgroupTable()
    tell(table, (7, MADE, b"/jobs/a"), (8, MADE, b"/jobs/a/b"))
    answer(table, 7, known("/jobs/a"))
    tell(table, (7, RENAMED, b"/jobs/z"))
    assert [place_of(table, ident) for ident in (7, 8)] == [("unknown", "", "none")] * 2
    tell(table, (9, MADE, b"/jobs/a"))
    assert place_of(table, 9) == ("unknown", "", "none")


def test_what_goes_for_want_of_room_takes_its_answer_along() -> None:
    table = CgroupTable(limit=2)
    tell(table, (7, MADE, b"/jobs/a"))
    answer(table, 7, known("/jobs/a"))
    tell(table, (8, MADE, b"/x"), (9, MADE, b"/y"), (10, MADE, b"/jobs/a"))
    answer(table, 7, known("/jobs/a"))
    assert place_of(table, 10) == ("unknown", "", "none")
    assert not table._own
    assert not table._known


EVERY = st.sampled_from(
    [b"/jobs/a", b"/jobs/a/b", WEB, WEB + b"/x", WEB + b"/docker/" + b"cd" * 32, b"/s.slice"]
)
ACT = st.one_of(
    st.tuples(st.just("tell"), st.integers(1, 6), st.sampled_from(CgroupOp), EVERY),
    st.tuples(st.just("say"), st.integers(1, 6), st.sampled_from([SHOP, known("/jobs/a")]), st.none()),
)


@given(st.lists(ACT, max_size=30), st.integers(1, 5))
def test_whatever_comes_the_table_holds_no_more_than_its_homes(
    acts: list[tuple[object, ...]], limit: int
) -> None:
    table = CgroupTable(limit)
    table.asker = lambda inquiry: inquiry.cgroup % 2 == 0
    for number, (what, ident, about, path) in enumerate(acts):
        if what == "tell":
            tell(table, (ident, about, path), now=10.0 * number)  # type: ignore[arg-type]
        else:
            answer(table, ident, about)  # type: ignore[arg-type]
        homes = table._homes
        for each, home in homes.items():
            assert home.where == "host" or each in home.inquiry.members
            assert home.inquiry.members - {home.inquiry.cgroup} <= set(homes)
            assert (home.where == "container") == (home.container is not None)
        paths = {home.path for home in homes.values()}
        assert set(table._own) <= paths
        assert set(table._known) <= paths
