# SPDX-License-Identifier: Apache-2.0
"""`audit-enricher namespaces` against namespaces of every sort, a container's among them, and against lsns."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests import schema
from tests.suites import test_service
from tests.suites.staging import COMMAND, SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.suites.test_service import Service
    from tests.vm.guest import Guest

Json = dict[str, Any]
ONE_KERNEL = pytest.mark.only_on("6.1")
IMAGE = "localhost/busybox:latest"
LINK = b"v\x1b[7m\xffa"
service = test_service.service
OWN_KINDS = ("mnt", "uts", "ipc", "net", "pid", "cgroup")


class Yard:
    """A guest with the namespaces of guest/nsyard.py and a container; `truth` is what those in them read."""

    def __init__(self, guest: Guest, truth: Json, container: str) -> None:
        self.guest = guest
        self.truth = truth
        self.container = container

    def run(self, *options: str, prefix: tuple[str, ...] = ()) -> tuple[int, str, str]:
        done = self.guest.run([*prefix, COMMAND, "namespaces", *options], timeout=60)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def document(self, *options: str, prefix: tuple[str, ...] = ()) -> tuple[Json, str]:
        code, out, err = self.run("--json", *options, prefix=prefix)
        assert code == 0, err
        document: Json = json.loads(out)
        schema.validate_namespaces(document)
        return document, err


@pytest.fixture(scope="module")
def yard(guest: Guest) -> Iterator[Yard]:
    guest.run(["guest-images", "podman"], timeout=120, check=True)
    run = ["podman", "run", "-d", "--name", "nsbox", "--network", "none", IMAGE, "sleep", "100000"]
    container = guest.run(run, timeout=120, check=True).stdout.decode().strip()
    try:
        asked = ["podman", "inspect", "--format", "{{.State.Pid}}", "nsbox"]
        pid = guest.run(asked, timeout=60, check=True).stdout.decode().strip()
        with guest.popen(["python3", f"{SHARE}/guest/nsyard.py", pid], stdin=True) as process:
            line = process.read_line(60)
            assert line, process.read().decode()
            yield Yard(guest, json.loads(line), container)
            process.close_stdin()
            process.wait(60)
    finally:
        guest.run(["podman", "rm", "-f", "-t", "0", "nsbox"], timeout=60, check=True)


def by_key(document: Json) -> dict[tuple[str, int], Json]:
    return {(entry["kind"], entry["ino"]): entry for entry in document["namespaces"]}


def link_of(entry: Json, name: str | bytes) -> Json:
    exact = name.hex().upper() if isinstance(name, bytes) else None
    links = entry["network"]["links"]
    (link,) = (each for each in links if (each.get("name_hex") == exact if exact else each["name"] == name))
    found: Json = link
    return found


@pytest.mark.only_on("6.1", "newest")  # where namespaces have no number of their own, and where they have one
def test_all_that_there_is(yard: Yard, record_property: Callable[[str, object], None]) -> None:
    listed = yard.guest.run(["lsns", "--json", "--output", "NS,TYPE,PID"], timeout=60, check=True).stdout
    document, said = yard.document()
    spaces = by_key(document)
    known = {(row["type"], int(row["ns"])) for row in json.loads(listed)["namespaces"]}
    assert known - set(spaces) == set()
    # lsns sees neither the threads of a process nor what nobody is in, in the version of the guest.
    more = {key for key, entry in spaces.items() if entry["pids"]} - known
    assert more == set(), more
    _mounted(yard, spaces)
    _box(yard, spaces)
    _nested(yard, spaces)
    _held(yard, spaces)
    initial = {kind: ino for (kind, ino), entry in spaces.items() if entry.get("host")}
    assert len(initial) == 8
    assert {spaces["user", initial["user"]].get(name) for name in ("parent", "owner")} == {None}
    assert spaces["net", initial["net"]]["host_tasks"] > 10
    assert not re.search("CAP_|pyroute2|containers are", said), said
    record_property("namespaces", f"{len(spaces)}, {len(known)} of them in lsns")


def _mounted(yard: Yard, spaces: dict[tuple[str, int], Json]) -> None:
    """It has no task, is held by its mount, and is named at both ends of its pair of links."""
    inum = yard.truth["mounted"]["inum"]
    entry = spaces["net", inum]
    assert (entry["pids"], entry["tasks"], "fds" in entry) == ([], 0, False)
    assert "/run/netns/idle" in {mount["path"] for mount in entry["mounts"]}
    assert "since_at_latest" in entry
    (host,) = (entry for (kind, _), entry in spaces.items() if kind == "net" and entry.get("host"))
    near, far = link_of(host, "idle-host"), link_of(entry, LINK)
    assert near["peer"] == {
        "index": far["index"],
        "net": inum,
        "name": "v\x1b[7m\ufffda",
        "name_hex": LINK.hex().upper(),
    }
    assert far["peer"] == {"index": near["index"], "net": host["ino"], "name": "idle-host"}
    assert near["addresses"] == ["192.0.2.1/24"]
    assert (near["kind"], near["up"], far["kind"], far["up"]) == ("veth", True, "veth", False)
    told = yard.guest.run(["ip", "-j", "link", "show", "idle-host"], check=True).stdout
    (row,) = json.loads(told)
    assert (row["ifindex"], row["address"], row["link_index"]) == (near["index"], near["mac"], far["index"])


def _box(yard: Yard, spaces: dict[tuple[str, int], Json]) -> None:
    """Its namespaces are the container's alone; its pair of links does not touch the host."""
    box = yard.truth["box"]
    for kind in OWN_KINDS:
        entry = spaces[kind, box[kind]]
        assert entry["pids"] == [box["init"]]
        assert (entry["host_tasks"], entry["unknown_tasks"], entry["host"]) == (0, 0, False)
        assert entry["containers"] == [{"id": yard.container, "runtime": "podman", "tasks": 1}]
    assert "since_at_latest" in spaces["pid", box["pid"]]
    inside = link_of(spaces["net", box["net"]], "eth0")
    other = link_of(spaces["net", yard.truth["mounted"]["inum"]], "to-box")
    assert inside["addresses"] == ["10.9.8.7/16"]
    assert inside["peer"] == {
        "index": other["index"],
        "net": yard.truth["mounted"]["inum"],
        "name": "to-box",
    }
    assert other["peer"] == {"index": inside["index"], "net": box["net"], "name": "eth0"}
    # Which it shares with the host, and with what containers other suites run.
    (users,) = (entry for (kind, _), entry in spaces.items() if kind == "user" and entry.get("host"))
    assert [each for each in users["containers"] if each["id"] == yard.container] == [
        {"id": yard.container, "runtime": "podman", "tasks": 1}
    ]


def _nested(yard: Yard, spaces: dict[tuple[str, int], Json]) -> None:
    """Parents and owners, also of a namespace that nobody is in."""
    users = yard.truth["users"]
    outer, inner = spaces["user", users["outer"]], spaces["user", users["inner"]]
    initial = next(ino for (kind, ino), entry in spaces.items() if kind == "user" and entry.get("host"))
    assert (outer["pids"], outer["parent"], outer["owner"]) == ([], initial, initial)
    assert (inner["pids"], inner["parent"]) == ([users["pid"]], users["outer"])
    assert (outer["owner_uid"], inner["owner_uid"]) == (1000, 1000)
    assert spaces["uts", users["uts"]]["owner"] == users["inner"]
    pids = yard.truth["pids"]
    first, last = spaces["pid", pids["outer"]], spaces["pid", pids["inner"]]
    assert (first["pids"], first["for_children"]) == ([pids["middle"]], [pids["pid"]])
    assert (last["pids"], last["parent"], last["for_children"]) == (
        [pids["last"]],
        pids["outer"],
        [pids["middle"]],
    )
    assert last["oldest"]["comm"] == "\x1b[31m) (x"
    assert first["since_at_latest"] <= last["since_at_latest"]


def _held(yard: Yard, spaces: dict[tuple[str, int], Json]) -> None:
    """What a descriptor or a thread alone is in."""
    held, thread = yard.truth["fd"], yard.truth["thread"]
    entry = spaces["net", held["inum"]]
    assert (entry["tasks"], entry["fds"]) == (0, [{"pid": held["pid"], "fd": held["fd"]}])
    assert [link["name"] for link in entry["network"]["links"]] == ["lo"]
    entry = spaces["net", thread["inum"]]
    assert (entry["pids"], entry["threads"]) == ([], [{"pid": thread["pid"], "tid": thread["tid"]}])
    assert [link["name"] for link in entry["network"]["links"]] == ["lo"]


@ONE_KERNEL
def test_the_table(yard: Yard) -> None:
    """100 columns hold it, and nothing that a name holds reaches the terminal."""
    with yard.guest.popen([COMMAND, "namespaces"], pty=(50, 100)) as process:
        shown = process.read(60).decode()
        assert process.wait(60) == 0, shown
    lines = shown.replace("\r\n", "\n").rstrip("\n").split("\n")
    # A note to standard error is a sentence, and as long as it is.
    notes = [line for line in lines if line.startswith("audit-enricher: ")]
    assert max(len(line) for line in lines if line not in notes) <= 100
    # Some process of the guest may have ended meanwhile, which is told too.
    assert len([note for note in notes if "ended or moved while" not in note]) == 1, notes
    assert all(line.isprintable() for line in lines)
    box, mounted = yard.truth["box"], yard.truth["mounted"]["inum"]
    text = "\n".join(lines)
    assert re.search(rf"^ +net {box['net']} +podman {yard.container[:12]} ", text, re.MULTILINE)
    assert re.search(rf"^ +net {mounted} +no task ", text, re.MULTILINE)
    assert "v\\x1b[7m" in text
    assert "-> to-box (index " in text
    users = yard.truth["users"]
    assert re.search(rf"^  user {users['outer']} .*\n.*\n    user {users['inner']} ", text, re.MULTILINE)


@ONE_KERNEL
def test_what_is_asked_for(yard: Yard) -> None:
    """The choice is ours and knows no kernel."""
    box = yard.truth["box"]
    document, _ = yard.document("--container", yard.container[:6], "--kind", "net", "--kind", "mnt")
    assert set(by_key(document)) == {("net", box["net"]), ("mnt", box["mnt"])}
    document, _ = yard.document("--pid", str(box["init"]), "--no-network", "--kind", "net")
    assert [entry["ino"] for entry in document["namespaces"]] == [box["net"]]
    assert "network" not in document["namespaces"][0]
    absent = "e00" if yard.container.startswith("f00") else "f00"
    code, out, err = yard.run("--container", absent)
    assert (code, out) == (2, "")
    assert absent in err


@ONE_KERNEL
def test_without_privilege(yard: Yard) -> None:
    """What may be seen is shown, what may not is said; a link that may not be followed leads nowhere, on 5.10 too."""
    prefix = ("setpriv", "--reuid=tester", "--regid=tester", "--clear-groups", "--inh-caps=-all")
    document, said = yard.document(prefix=prefix)
    unread = r"could not read the namespaces of \d+ processes, pid 1's.*SYS_PTRACE.* nor the inside of 1 .*SYS_ADMIN"
    assert re.search(unread, said), said
    # One line for that, and one because no service runs in this guest; some process may have ended meanwhile.
    notes = [line for line in said.splitlines() if "ended or moved while" not in line]
    assert (len(notes), said.count("no exact times: no service answers on")) == (2, 1), said
    assert not any("since" in entry for entry in document["namespaces"])
    assert document["namespaces"]
    assert {"host" in entry for entry in document["namespaces"]} == {False}
    assert {task["comm"] for task in document["tasks"]} <= {"audit-enricher", "python3"}
    # The mounted one is in a table that anybody may read.
    networks = {entry["ino"]: entry for entry in document["namespaces"] if entry["kind"] == "net"}
    mounted = networks.pop(yard.truth["mounted"]["inum"])
    assert mounted["network"] == {"reason": "CAP_SYS_ADMIN is missing"}
    (own,) = networks.values()
    link_of(own, "lo")
    code, _, err = yard.run("--pid", "1", prefix=prefix)
    assert code == 3
    assert "CAP_SYS_PTRACE" in err


@ONE_KERNEL
def test_without_sys_admin_or_pyroute2(yard: Yard) -> None:
    document, said = yard.document("--kind", "net", prefix=("setpriv", "--bounding-set=-sys_admin"))
    spaces = by_key(document)
    reasons = {entry["network"].get("reason") for entry in spaces.values() if not entry["host"]}
    assert reasons == {"CAP_SYS_ADMIN is missing"}
    assert re.search(
        r"could not read the inside of \d+ network namespaces .CAP_SYS_ADMIN is missing", said
    ), said
    (host,) = (entry for entry in spaces.values() if entry["host"])
    peer = link_of(host, "idle-host")["peer"]
    assert peer["net"] == yard.truth["mounted"]["inum"]
    hide = 'mount -t tmpfs none /usr/lib/python3/dist-packages/pyroute2 && exec "$@"'
    document, said = yard.document("--kind", "net", prefix=("unshare", "--mount", "sh", "-c", hide, "sh"))
    assert "python3-pyroute2" in said
    assert all("network" not in entry for entry in document["namespaces"])
    assert ("net", yard.truth["box"]["net"]) in by_key(document)


@contextmanager
def in_a_net_namespace(guest: Guest) -> Iterator[int]:
    """A process in a network namespace of its own, which goes with it; its inum."""
    line = "stat -Lc %i /proc/self/ns/net; exec cat"
    with guest.popen(["unshare", "--net", "sh", "-c", line], stdin=True) as process:
        yield int(process.read_line(60))
        process.close_stdin()
        process.wait(60)


@pytest.fixture
def early(guest: Guest) -> Iterator[int]:
    """A network namespace that is there before the service."""
    with in_a_net_namespace(guest) as inum:
        yield inum


@pytest.mark.only_on("5.10")  # where no namespace has a number of its own
def test_exact_times_from_the_service(early: int, service: Service) -> None:
    """What it saw being made has its time, what it found none, and the next with a number not that of the last."""
    guest = service.guest

    def now() -> str:
        return service.sh("date -u +%Y-%m-%dT%H:%M:%S.%3NZ").stdout.decode().strip()

    def entries() -> tuple[dict[tuple[str, int], Json], str]:
        done = guest.run([COMMAND, "namespaces", "--json", "--kind", "net"], timeout=60, check=True)
        document: Json = json.loads(done.stdout)
        schema.validate_namespaces(document)
        return by_key(document), done.stderr.decode()

    started = now()
    for _ in range(3):
        before = now()
        with in_a_net_namespace(guest) as inum:
            after = now()
            spaces, said = entries()
            while "does not answer" in said:  # within its five seconds, which are for a machine
                spaces, said = entries()
        assert "no exact times" not in said
        made = spaces["net", inum]
        assert before <= made["since"] <= after
        assert (made["since_from"], "since_at_latest" in made) == ("service", False)
        there = spaces["net", early]
        assert "since" not in there
        assert (there["since_from"], there["since_at_latest"] <= started) == ("service", True)
    service.unit("stop")
    spaces, said = entries()
    assert "no exact times: no service answers on" in said
    assert "since" not in spaces["net", early]
