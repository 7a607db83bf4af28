# SPDX-License-Identifier: Apache-2.0
"""Who is in which namespace, and what holds them, on a made-up /proc: races, hostile names, what may not be read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from enricher.sources.cgroups import Hierarchy
from enricher.sources.namespaces import holders, nsfs, tasks
from enricher.sources.namespaces.nsfs import Ns, open_at, parse_link
from tests.unit.fake_namespaces import INITIAL, PODMAN, WATCHED, FakeProc


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


def found(proc: FakeProc) -> dict[tuple[int, int], tasks.Task]:
    return {(task.pid, task.tid): task for task in tasks.look(proc.root, WATCHED).tasks}


@pytest.mark.parametrize(
    "text",
    [
        "net:[]",
        "net:[12",
        "net:[-1]",
        "net:[1]\n",
        "net:[1] (deleted)",
        "net:[99999999999]",
        "mntns:[1]",
        "pid_for_children:[1]",
        "/proc/7",
        "net:[\u0661]",
        "",
    ],
)
def test_a_link_that_names_no_namespace(text: str) -> None:
    assert parse_link(text) is None


def test_a_link() -> None:
    assert parse_link("net:[4026532261]") == Ns("net", 4026532261)


def test_what_is_at_a_path_must_be_the_namespace_that_was_meant(tmp_path: Path) -> None:
    """A fifo would be waited for, were it opened; a directory is where 5.10 leads who may not follow."""
    own = parse_link(str(Path("/proc/self/ns/uts").readlink()))
    assert own
    dev = nsfs.device()
    fd = open_at("/proc/self/ns/uts", own, dev)
    assert os.fstat(fd).st_ino == own.inum
    os.close(fd)
    os.mkfifo(tmp_path / "fifo")
    for path, wanted in (
        ("/proc/self/ns/uts", own._replace(inum=own.inum + 1)),
        ("/proc/self", own),
        (str(tmp_path / "fifo"), own),
    ):
        with pytest.raises(OSError, match="Stale") as error:
            open_at(path, wanted, dev)
        assert error.value.errno == errno.ESTALE


def test_a_process_and_its_facts(proc: FakeProc) -> None:
    proc.task(40, start=4711, comm=b"a) (b) S\n 9", cgroup=PODMAN, net=500, pid=501)
    task = found(proc)[40, 40]
    assert (task.start, task.comm, task.cgroup) == (4711, b"a) (b) S\n 9", PODMAN)
    assert {ns for ns in task.namespaces() if ns.inum < 600} == {Ns("net", 500), Ns("pid", 501)}
    assert list(task.for_children()) == []
    proc.task(41, pid_for_children=502)
    assert list(found(proc)[41, 41].for_children()) == [Ns("pid", 502)]


def test_a_kind_that_the_kernel_has_not(proc: FakeProc) -> None:
    proc.task(40, time=0)
    task = found(proc)[40, 40]
    assert "time" not in {ns.kind for ns in task.namespaces()}
    assert len(list(task.namespaces())) == 7


def test_a_link_of_another_kind_is_not_believed(proc: FakeProc) -> None:
    proc.task(40)
    (proc.root / "40/ns/net").unlink()
    (proc.root / "40/ns/net").symlink_to("mnt:[77]")
    assert Ns("net", 77) not in set(found(proc)[40, 40].namespaces())
    assert "net" not in {ns.kind for ns in found(proc)[40, 40].namespaces()}


def test_threads_that_are_elsewhere(proc: FakeProc) -> None:
    proc.task(40, cgroup=PODMAN)
    proc.task(40, 40)
    proc.task(40, 41)
    proc.task(40, 42, start=300, comm=b"worker", net=500)
    told = found(proc)
    assert {key for key in told if key[0] == 40} == {(40, 40), (40, 42)}
    thread = told[40, 42]
    assert (thread.start, thread.comm, thread.links) == (300, b"worker", "40/task/42/ns")
    assert Ns("net", 500) in set(thread.namespaces())


def test_a_pid_that_is_given_to_another_between_two_reads(
    proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time that the process's cgroup is read, it has ended and another one has its pid."""
    proc.task(40, start=100, cgroup=PODMAN, net=500)
    real = tasks._cgroup
    starts = iter(range(200, 300))

    def cgroup(base: str, watched: Hierarchy) -> str | None:
        said = real(base, watched)
        if base.endswith("/40"):
            stat = Path(base) / "stat"
            words = stat.read_text().split()
            words[-3] = str(next(starts))
            stat.write_text(" ".join(words))
        return said

    monkeypatch.setattr(tasks, "_cgroup", cgroup)
    looked = tasks.look(proc.root, WATCHED)
    assert 40 not in {task.pid for task in looked.tasks}
    assert looked.gone == 1


def test_a_pid_that_was_given_to_another_once_is_read_again(
    proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc.task(40, start=100, net=500)
    real = tasks._cgroup
    done: list[str] = []

    def cgroup(base: str, watched: Hierarchy) -> str | None:
        said = real(base, watched)
        if base.endswith("/40") and not done:
            done.append(base)
            stat = Path(base) / "stat"
            stat.write_text(stat.read_text().replace(" 100 0 0", " 101 0 0"))
            proc.move(40, "net", 501)
        return said

    monkeypatch.setattr(tasks, "_cgroup", cgroup)
    task = found(proc)[40, 40]
    assert task.start == 101
    assert Ns("net", 501) in set(task.namespaces())


def test_what_ends_meanwhile_is_counted(proc: FakeProc) -> None:
    proc.task(40)
    (proc.root / "40/stat").unlink()
    proc.task(41)
    (proc.root / "41/stat").write_bytes(b"41 (no end")
    looked = tasks.look(proc.root, WATCHED)
    assert looked.gone == 2
    assert {task.pid for task in looked.tasks} == {1, 2, 12}


def test_what_may_not_be_read_is_counted(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.readlink

    def readlink(path: str) -> str:
        if "/1/ns/" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "readlink", readlink)
    looked = tasks.look(proc.root, WATCHED)
    assert (looked.denied, looked.gone) == (1, 0)
    assert {task.pid for task in looked.tasks} == {2, 12}


def test_what_5_10_says_without_an_error_is_no_namespace(
    proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.readlink
    monkeypatch.setattr(os, "readlink", lambda path: "" if "/1/ns/" in str(path) else real(path))
    looked = tasks.look(proc.root, WATCHED)
    assert (looked.denied, {task.pid for task in looked.tasks}) == (1, {2, 12})
    assert nsfs.read_link(f"{proc.root}/2/ns/gone") is None


def test_there_is_a_bound(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "MOST", 2)
    looked = tasks.look(proc.root, WATCHED)
    assert (len(looked.tasks), looked.cut) == (2, True)


def test_it_is_still_there(proc: FakeProc) -> None:
    proc.task(40, net=500)
    proc.task(41, net=500)
    proc.task(42, net=500)
    told = found(proc)
    proc.move(41, "net", 501)
    stat = proc.root / "42/stat"
    stat.write_text(stat.read_text().replace(" 100 0 0", " 101 0 0"))
    assert [tasks.is_still(proc.root, told[pid, pid]) for pid in (40, 41, 42)] == [True, False, False]


@pytest.mark.parametrize(
    ("watched", "path"),
    [
        (WATCHED, "/user.slice/\udcff"),
        (Hierarchy(5, 11, None, "pids"), "/docker/x"),
        (Hierarchy(1, 3, None, "memory"), "/a:b"),
        (Hierarchy(8, 3, None, "memory"), None),
    ],
)
def test_the_path_of_the_hierarchy_that_is_watched(watched: Hierarchy, path: str | None) -> None:
    text = b"5:pids:/docker/x\n1:cpu,memory:/a:b\n0::/user.slice/\xff\nnonsense\n\n"
    assert tasks.cgroup_path(text, watched) == path


# -- what holds namespaces ---------------------------------------------------------------------------


def test_mounts_in_every_mount_namespace(proc: FakeProc) -> None:
    proc.task(40, mnt=600)
    proc.task(41, mnt=600)
    proc.mount(1, "net", 500, "/run/netns/a\\040b\\134\\012")
    proc.mount(40, "net", 500, "/run/netns/x")
    proc.mount(41, "net", 999, "/not/looked/at")
    proc.mount(1, "uts", 501, "/run/uts")
    held = holders.look(proc.root, tasks.look(proc.root, WATCHED).tasks)
    assert held.mounts == {
        Ns("net", 500): [
            holders.Mount(INITIAL["mnt"], b"/run/netns/a b\\\n", 1),
            holders.Mount(600, b"/run/netns/x", 40),
        ],
        Ns("uts", 501): [holders.Mount(INITIAL["mnt"], b"/run/uts", 1)],
    }
    assert not held.cut


def test_a_mountinfo_of_rubbish(proc: FakeProc) -> None:
    lines = (
        b"\n99\n99 25 0:4 net:[1]\n - nsfs nsfs rw\n"
        b"9 9 0:4 net:[7] /tmp/x rw - ext4 nsfs rw\n"  # the type of another file system
        b"9 9 0:4 /net:[7] /tmp/x rw - nsfs nsfs rw\n\xff\xfe"
    )
    (proc.root / "1/mountinfo").write_bytes(lines)
    assert holders.mounts_of(str(proc.root), 1) == []


def test_descriptors(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    proc.fd(12, 3, "/dev/null")
    proc.fd(12, 4, "net:[500]")
    proc.fd(12, 5, "socket:[500]")
    proc.fd(1, 9, "user:[501]")
    looked = tasks.look(proc.root, WATCHED).tasks
    held = holders.look(proc.root, looked)
    assert held.fds == {Ns("net", 500): [holders.Fd(12, 4)], Ns("user", 501): [holders.Fd(1, 9)]}
    assert holders.is_still(proc.root, Ns("net", 500), holders.Fd(12, 4))
    assert not holders.is_still(proc.root, Ns("net", 501), holders.Fd(12, 4))
    assert not holders.is_still(proc.root, Ns("net", 500), holders.Fd(12, 8))
    monkeypatch.setattr(holders, "MOST_FDS", 1)
    assert holders.look(proc.root, looked).cut
