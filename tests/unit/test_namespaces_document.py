# SPDX-License-Identifier: Apache-2.0
"""From a made-up /proc to the document and the table: whose a namespace is, what was asked for, hostile names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from enricher.cli import main, namespaces
from enricher.enrich import nsshape
from enricher.enrich.nsplaces import Wanted
from enricher.errors import MissingCapability, UsageError
from enricher.route.views.namespaces import lines
from enricher.runtime.births import Births, Seen
from enricher.runtime.namespaces import look
from enricher.sources.namespaces import nsfs, survey
from enricher.sources.namespaces.network import Link, Network, Peer
from enricher.sources.namespaces.nsfs import Ns, Said
from tests import schema
from tests.unit.fake_namespaces import DOCKER, ID, INITIAL, OTHER_ID, PODMAN, FakeProc

Json = dict[str, Any]
NET = INITIAL["net"]


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


def told(proc: FakeProc, wanted: Wanted = Wanted(), **options: Any) -> Json:  # noqa: ANN401, B008
    document: Any = look(wanted, proc=proc.root, inside=False, **options)
    schema.validate_namespaces(document)
    made: Json = document
    return made


def entry(document: Json, kind: str, ino: int) -> Json:
    (found,) = (each for each in document["namespaces"] if (each["kind"], each["ino"]) == (kind, ino))
    made: Json = found
    return made


def shown(document: Json) -> set[tuple[str, int]]:
    return {(each["kind"], each["ino"]) for each in document["namespaces"]}


# -- whose it is -------------------------------------------------------------------------------------


def test_the_host_alone(proc: FakeProc) -> None:
    document = told(proc)
    assert shown(document) == set(INITIAL.items())
    for each in document["namespaces"]:
        assert (each["host"], each["pids"], each["host_tasks"], each["containers"]) == (
            True,
            [1, 2, 12],
            3,
            [],
        )
    assert document["host"] == {"name": "build-7", "boot_id": "0b6c0b6c-0000-4000-8000-0b6c0b6c0b6c"} | {
        name: fact for name, fact in document["host"].items() if name == "machine_id"
    }
    assert document["notes"] == []


def test_containers_by_the_cgroups_of_tasks(proc: FakeProc) -> None:
    proc.task(40, cgroup=PODMAN, net=500, mnt=501)
    proc.task(41, cgroup=PODMAN, net=500, mnt=501)
    proc.task(42, cgroup=DOCKER, net=500, mnt=502)
    proc.task(43, cgroup="/system.slice/some.service", net=500)
    proc.task(44, cgroup="/custom.scope", net=500)
    document = told(proc)
    net = entry(document, "net", 500)
    assert (net["host"], net["tasks"], net["host_tasks"], net["unknown_tasks"]) == (False, 5, 1, 1)
    assert net["containers"] == [
        {"id": ID, "runtime": "podman", "tasks": 2},
        {"id": OTHER_ID, "runtime": "docker", "tasks": 1},
    ]
    assert entry(document, "mnt", 501)["containers"] == [{"id": ID, "runtime": "podman", "tasks": 2}]
    where = {task["pid"]: (task["where"], task.get("container", {}).get("id")) for task in document["tasks"]}
    assert where[40] == ("container", ID)
    assert (where[43], where[44]) == (("host", None), ("unknown", None))


def test_a_container_in_a_container(proc: FakeProc) -> None:
    proc.task(40, cgroup=f"{PODMAN}{DOCKER}", net=500)
    (box,) = entry(told(proc), "net", 500)["containers"]
    assert (box["id"], [each["id"] for each in box["chain"]]) == (OTHER_ID, [ID, OTHER_ID])
    assert shown(told(proc, Wanted(container=ID[:8]))) == shown(told(proc, Wanted(pid=40)))


def test_a_users_container_without_a_cgroup_is_unknown(proc: FakeProc) -> None:
    place = "/user.slice/user-1000.slice/session-2.scope"
    proc.task(40, cgroup=place, user=500, mnt=501)
    proc.task(41, cgroup=place, mnt=502)
    document = told(proc)
    assert entry(document, "user", 500)["unknown_tasks"] == 1
    assert entry(document, "mnt", 502)["host_tasks"] == 1


@pytest.mark.parametrize("path", ["/..", "/../../init.scope", "/anything"])
def test_from_inside_a_cgroup_namespace_no_path_is_believed(proc: FakeProc, path: str) -> None:
    """There the root is the container's own: "/" would read as the host."""
    (proc.root / "2/cgroup").write_text(f"0::{path}\n")
    proc.task(40, cgroup=PODMAN)
    document = told(proc)
    assert {task["where"] for task in document["tasks"]} == {"unknown"}
    assert any("no container is told" in note for note in document["notes"])


def test_from_inside_a_pid_namespace_nothing_is_the_hosts(proc: FakeProc) -> None:
    (proc.root / "12/status").write_text("NSpid:\t312\t12\n")
    document = told(proc)
    assert {"host" in each for each in document["namespaces"]} == {False}
    assert {task["where"] for task in document["tasks"]} == {"unknown"}
    assert "not the initial pid namespace" in document["notes"][0]


# -- what holds it, what is above it, since when -----------------------------------------------------


def test_without_a_task(proc: FakeProc) -> None:
    proc.task(40, mnt=600)
    proc.fd(40, 7, "net:[501]")
    proc.mount(40, "net", 500, "/copy")
    proc.mount(1, "net", 500, "/run/netns/\\033[31m")
    document = told(proc)
    held = entry(document, "net", 500)
    assert (held["tasks"], held["pids"]) == (0, [])
    # The host's comes first, whatever the numbers are.
    assert held["mounts"] == [
        {"mnt": INITIAL["mnt"], "path": "/run/netns/\x1b[31m"},
        {"mnt": 600, "path": "/copy"},
    ]
    assert entry(document, "net", 501)["fds"] == [{"pid": 40, "fd": 7}]
    assert entry(document, "net", 500).keys().isdisjoint({"since", "since_at_latest", "oldest"})


def test_many_holders_are_counted(proc: FakeProc) -> None:
    for number in range(70):
        proc.mount(1, "net", 500, f"/run/netns/n{number}")
        proc.fd(1, 100 + number, "net:[500]")
    held = entry(told(proc), "net", 500)
    assert (len(held["mounts"]), held["more_mounts"], len(held["fds"]), held["more_fds"]) == (64, 6, 64, 6)


def test_what_went_away_meanwhile_is_left_out(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first look and the last: one process moves, one ends, a mount goes, a descriptor is another's."""
    proc.task(40, net=500)
    proc.task(41, net=501)
    proc.task(42, net=502)
    proc.task(43, net=502)
    proc.mount(1, "net", 503, "/run/netns/gone")
    proc.fd(1, 5, "net:[504]")
    proc.fd(1, 6, "net:[505]")
    real = survey.Survey.confirm

    def confirm(self: survey.Survey) -> survey.Found:
        proc.move(40, "net", 777)
        (proc.root / "41/stat").unlink()
        (proc.root / "42/stat").unlink()
        (proc.root / "1/mountinfo").write_text("")
        (proc.root / "1/fd/5").unlink()
        return real(self)

    monkeypatch.setattr(survey.Survey, "confirm", confirm)
    document = told(proc)
    assert {ino for kind, ino in shown(document) if kind == "net"} == {NET, 502, 505}
    assert entry(document, "net", 502)["pids"] == [43]
    assert {task["pid"] for task in document["tasks"]} == {1, 2, 12, 43}
    assert document["notes"] == ["3 processes ended or moved while this was read: left out"]


@pytest.fixture
def kernel_says(monkeypatch: pytest.MonkeyPatch) -> dict[Ns, Said]:
    """What the kernel says of namespaces, which nothing can be opened of in a made-up /proc."""
    said: dict[Ns, Said] = {}
    real = survey.Survey._ask_all

    def ask_all(self: survey.Survey) -> None:
        real(self)
        self.spaces.update(said)

    monkeypatch.setattr(survey.Survey, "_ask_all", ask_all)
    return said


def test_what_is_above(proc: FakeProc, kernel_says: dict[Ns, Said]) -> None:
    """A user namespace that nobody is in is there for what is below it, and goes with that."""
    proc.task(40, user=501, uts=502)
    user = INITIAL["user"]
    kernel_says |= {
        Ns("user", 500): Said(user, user, 1000, 2**60),
        Ns("user", 501): Said(500, 500, 1001),
        Ns("uts", 502): Said(0, 501),
        Ns("user", 510): Said(user, user, 0),
        Ns("user", user): Said(0, 0, 0),
    }
    document = told(proc)
    middle = entry(document, "user", 500)
    assert (middle["pids"], middle["parent"], middle["owner_uid"], middle["id"]) == (
        [],
        user,
        1000,
        str(2**60),
    )
    assert entry(document, "uts", 502)["owner"] == 501
    assert ("user", 510) not in shown(document)
    tree = [line.split("  ")[0] or line for line in lines(nsdocument(document))]
    text = "\n".join(lines(nsdocument(document)))
    assert tree
    assert f"\nuser {user} host" in text
    assert "\n  user 500 " in text
    assert "\n    user 501 " in text
    assert "\n      uts 502 " in text
    assert "made by uid 1000" in text


def nsdocument(document: Json) -> nsshape.Document:
    made: Any = document
    found: nsshape.Document = made
    return found


def test_since_when(proc: FakeProc, kernel_says: dict[Ns, Said]) -> None:
    """Only what is sure: a process is never older than its pid namespace, an inode never than its namespace."""
    proc.task(40, start=300, net=500, pid=501, uts=502)
    proc.task(41, start=400, net=500, pid=501, uts=503)
    now, hour = 2**62, 3_600 * 10**9
    kernel_says |= {Ns("uts", 502): Said(noticed=now), Ns("uts", 503): Said(noticed=hour)}
    document = told(proc, births=lambda _boot, _began: Births({("net", 500): Seen(2_500_000_000, 0)}, {}, ""))
    oldest = entry(document, "pid", 501)["oldest"]
    pid = entry(document, "pid", 501)
    assert (oldest["pid"], pid["since_at_latest"], pid["since_from"]) == (40, oldest["started"], "process")
    net = entry(document, "net", 500)
    assert "since_at_latest" not in net
    assert net["since_from"] == "service"
    assert net["since"] < net["oldest"]["started"]
    for ino in (502, 503):  # made by our looking; older than the boot
        assert entry(document, "uts", ino).keys().isdisjoint({"since", "since_at_latest"})
    assert "since_at_latest" not in entry(document, "pid", INITIAL["pid"])


def test_the_inode_tells_an_age(proc: FakeProc, kernel_says: dict[Ns, Said]) -> None:
    import time

    proc.task(40, net=500)
    before = time.time_ns() - 10**9
    kernel_says[Ns("net", 500)] = Said(noticed=before)
    assert entry(told(proc), "net", 500)["since_at_latest"].startswith(
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before // 10**9))
    )


def test_a_process_whose_children_are_elsewhere(proc: FakeProc) -> None:
    proc.task(40, pid_for_children=500)
    proc.task(41, pid=500)
    later = entry(told(proc), "pid", 500)
    assert (later["pids"], later["for_children"], later["tasks"]) == ([41], [40], 1)


def test_a_thread_is_told(proc: FakeProc) -> None:
    proc.task(40)
    proc.task(40, 40)
    proc.task(40, 42, net=500)
    document = told(proc)
    net = entry(document, "net", 500)
    assert (net["pids"], net["threads"], net["oldest"]["tid"]) == ([], [{"pid": 40, "tid": 42}], 42)
    assert (entry(document, "uts", INITIAL["uts"])["tasks"], "threads" in entry(document, "net", NET)) == (
        4,
        False,
    )
    assert shown(told(proc, Wanted(("net",), pid=40))) == {("net", 500), ("net", NET)}


def test_hostile_names(proc: FakeProc) -> None:
    proc.task(40, start=1, comm=b"\x1b]0;x\x07\xff\xe2\x80\xae", cgroup="/lxc.payload.\x1b[31m", net=500)
    proc.mount(1, "net", 500, "/run/\\033[2J\\012x")
    document = told(proc)
    assert entry(document, "net", 500)["oldest"]["comm_hex"] == "1B5D303B7807FFE280AE"
    text = "\n".join(lines(nsdocument(document)))
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "\\x1b]0;x\\x07" in text
    assert "/run/\\x1b[2J\\x0ax" in text


# -- what is asked for -------------------------------------------------------------------------------


def test_what_is_asked_for(proc: FakeProc) -> None:
    proc.task(40, cgroup=PODMAN, net=500, mnt=501)
    proc.task(41, cgroup=DOCKER, net=502)
    assert shown(told(proc, Wanted(("net", "mnt"), pid=40))) == {("net", 500), ("mnt", 501)}
    assert shown(told(proc, Wanted(("net",), container=OTHER_ID[:4]))) == {("net", 502)}
    assert shown(told(proc, Wanted(("net",)))) == {("net", NET), ("net", 500), ("net", 502)}
    document = told(proc, Wanted(("net",), pid=40))
    assert [task["pid"] for task in document["tasks"]] == [40]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted(pid=4711), "no process 4711"),
        (Wanted(container="f00\x1b"), "begins with 'f00\\x1b'"),
        (Wanted(pid=12, container=ID), "process 12 is not in that container"),
    ],
)
def test_what_is_not_there(proc: FakeProc, wanted: Wanted, words: str) -> None:
    proc.task(40, cgroup=PODMAN)
    with pytest.raises(UsageError) as error:
        look(wanted, proc=proc.root, inside=False)
    assert words in error.value.message
    assert error.value.hint


def test_what_may_not_be_read(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    proc.task(40)
    real = os.readlink

    def readlink(path: Any) -> str:  # noqa: ANN401
        if "/40/ns" in str(path) or "/1/ns" in str(path):
            raise PermissionError(13, "Permission denied")
        return str(real(path))

    monkeypatch.setattr(os, "readlink", readlink)
    with pytest.raises(MissingCapability, match="process 40 may not be read: CAP_SYS_PTRACE is missing"):
        look(Wanted(pid=40), proc=proc.root, inside=False)
    document = told(proc)
    (note,) = document["notes"]
    assert note == (
        "could not read the namespaces of 2 processes, pid 1's, which are the host's, among them"
        " (CAP_SYS_PTRACE is missing)"
    )
    assert {"host" in each for each in document["namespaces"]} == {False}
    assert {task["pid"] for task in document["tasks"]} == {2, 12}


def test_without_pyroute2(proc: FakeProc) -> None:
    document = look(Wanted(), proc=proc.root, iproute=lambda: None)
    (note,) = document["notes"]
    assert "apt install python3-pyroute2" in note
    assert all("network" not in each for each in document["namespaces"])


# -- the table ---------------------------------------------------------------------------------------


def test_links_in_the_table(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    proc.task(40, cgroup=PODMAN, net=500)
    proc.task(41, cgroup=DOCKER, net=501)
    proc.task(42, cgroup=DOCKER, net=502)
    veth = Link(2, b"eth0", "veth", "up", True, "aa:00:00:00:00:01", ("10.0.0.2/8",), Peer(5, NET))  # noqa: FBT003
    networks: dict[int, Network | str] = {
        500: Network(2**60, (veth, veth._replace(ifindex=3, peer=Peer(8, 0))), cut=True),
        501: "CAP_SYS_ADMIN is missing",
        502: "no \x1b answer",
        NET: Network(
            1, (veth._replace(ifindex=5, name=b"v\x1b[7m\xff", addresses=(), peer=Peer(2, 500)),), cut=False
        ),
    }
    monkeypatch.setattr(survey.Survey, "read_networks", lambda self, *_: self._networks.update(networks))
    document: Any = look(Wanted(), proc=proc.root, iproute=lambda: object)
    schema.validate_namespaces(document)
    assert entry(document, "net", 500)["id"] == str(2**60)
    text = "\n".join(lines(document))
    assert (
        f"eth0 up veth 10.0.0.2/8 -> v\\x1b[7m\ufffd (index 5) in net {NET} host aa:00:00:00:00:01\n" in text
    )
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "-> index 8 in an unknown namespace" in text
    assert "and more\n" in text
    assert "links: not known, CAP_SYS_ADMIN is missing\n" in text
    assert "links: not known, no \\x1b answer" in text
    assert "2 network namespaces" not in " ".join(document["notes"])
    assert document["notes"] == [
        "could not read the inside of 1 network namespace (CAP_SYS_ADMIN is missing)"
    ]


@pytest.mark.parametrize("width", [100, 120, 60, 10])
def test_the_table_keeps_to_its_width(proc: FakeProc, width: int) -> None:
    proc.task(40, cgroup=PODMAN, comm=b"a-name-of-fifteen", pid=500, user=501, mnt=502)
    proc.mount(1, "net", 503, "/run/" + "long" * 99)
    document: Any = told(proc)
    made = lines(document, width)
    assert max(map(len, made)) <= width
    if width >= 100:
        assert any("<=" in line for line in made)
        (row,) = (line for line in made if "pid 500" in line)
        assert f"podman {ID[:12]}" in row
        assert "40 a-name" in row


def test_who_is_in_it(proc: FakeProc) -> None:
    for number in range(5):
        proc.task(40 + number, cgroup=f"/docker/{number}{'e' * 63}", net=500 + number // 2, uts=700)
    proc.task(60, cgroup="/odd.scope", net=500)
    text = "\n".join(lines(nsdocument(told(proc))))
    assert f"docker 0{'e' * 11}, docker 1{'e' * 11}, unknown " in text
    assert "uts 700" in text
    assert " 5 containers " in text
    assert " host, 5 containers, unknown " in text


# -- the command -------------------------------------------------------------------------------------


def test_the_command(
    proc: FakeProc, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    proc.task(40, cgroup=PODMAN, net=500)
    monkeypatch.setattr(
        namespaces,
        "look",
        lambda wanted, inside, births: look(
            wanted, inside=inside, births=births, proc=proc.root, iproute=lambda: None
        ),
    )
    monkeypatch.setattr(namespaces, "ask", lambda *_: Births({}, {}, ""))
    options = ["namespaces", "--kind", "net", "--pid", "40", "--container", ID[:5]]
    assert main.main([*options, "--json", "--no-network"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    schema.validate_namespaces(document)
    assert (shown(document), err, out.count("\n")) == ({("net", 500)}, "", 1)
    assert main.main(options) == 0
    out, err = capsys.readouterr()
    assert out.startswith("NAMESPACE")
    assert err.startswith("audit-enricher: links and addresses are left out")
    assert main.main(["namespaces", "--pid", "4711"]) == 2
    assert "hint: " in capsys.readouterr().err


def test_this_host(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever this host is and whatever may be seen of it: ourselves at least."""
    import os

    assert main.main(["namespaces", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    schema.validate_namespaces(document)
    (own,) = (task for task in document["tasks"] if task["pid"] == os.getpid())
    for kind, ino in own["namespaces"].items():
        if not kind.endswith("_for_children"):
            assert os.getpid() in entry(document, kind, ino)["pids"]
            assert nsfs.parse_link(f"{kind}:[{ino}]") == Ns(kind, Path(f"/proc/self/ns/{kind}").stat().st_ino)
