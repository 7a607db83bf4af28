# SPDX-License-Identifier: Apache-2.0
"""Container identifiers of containers: Podman with the shipped hook, Docker with the shipped runtime, a kill.

Everything is as an administrator would have it: the example's drop-in, the hook's file in Podman's directory.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.suites.contid_bench import HOOK, ON, PINS, contids, of_true, ops, settled, unkept
from tests.suites.test_metadata import IMAGE
from tests.suites.test_packets import by_expression, packets
from tests.suites.test_service import DROP_IN, UNIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.suites.test_metadata import Bench
    from tests.vm.guest import Guest

pytestmark = pytest.mark.vm

Json = dict[str, Any]
BOXES = {False: 3, True: 25}
"""Containers of Podman on each kernel: a hundred in all with --full."""
TOGETHER = 5
MARK = 7
RUNC = "/usr/libexec/audit-enricher/contid-runc"
DAEMON = "/etc/docker/daemon.json"


@pytest.fixture(scope="module")
def bench(guest: Guest) -> Iterator[Bench]:
    with contids(guest) as made:
        yield made


def balanced(events: list[Json]) -> None:
    """Every identifier that was set was dropped, once."""
    sets = {op["contid"] for op in ops(events) if op["op"] == "set" and op["res"]}
    assert sorted(op["old_contid"][0] for op in ops(events) if op["op"] == "drop") == sorted(sets)


def of_box(events: list[Json], ident: str) -> list[Json]:
    """What the kernel recorded of it. Events of our own have no identifier, and tell of what the runtime does first."""
    theirs = [event for event in events if event["records"]]
    return [event for event in theirs if event.get("container", {}).get("id") == ident]


@pytest.mark.only_on("6.12")
@pytest.mark.timeout(1500)
def test_podman_with_the_hook(
    bench: Bench, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    """Before the first instruction, for what is executed in it later as well, for health checks; and balanced."""
    boxes = BOXES[bool(request.config.getoption("--full"))]
    settled(bench)
    for number in range(boxes):
        name = f"hooked{number}"
        health = f"--health-cmd '/bin/true healthy-{number}' --health-interval disable --health-timeout 10m"
        bench.sh(
            f"podman run -d --name {name} {health} {IMAGE} sh -c '/bin/true first-{number}; exec sleep 600'"
        )
        bench.exec("podman", "exec", name, "true", f"later-{number}")
        bench.exec("podman", "healthcheck", "run", name)
        if number % TOGETHER == TOGETHER - 1 or number == boxes - 1:
            bench.sh("podman rm -af -t 0")
    events = settled(bench)
    told = ops(events)
    assert [op for op in told if not op["res"]] == []
    named = {op["engine"]["name"]: op for op in told if op["op"] == "set" and "engine" in op}
    assert set(named) == {f"hooked{number}" for number in range(boxes)}
    assert len({op["contid"] for op in named.values()}) == boxes
    events_of_boxes = 0
    for number in range(boxes):
        op = named[f"hooked{number}"]
        assert op["orchestrator"]
        assert op["engine"]["image"] == IMAGE
        assert op["engine"]["runtime"] == "podman"
        for tag in ("first", "later", "healthy"):
            [event] = of_true(events, f"{tag}-{number}")
            assert event["contid"] == [op["contid"]], tag
            assert event["container"]["id"] == op["engine"]["id"], tag
        inside = of_box(events, op["engine"]["id"])
        assert len(inside) > 3, "its first program and the three above"
        events_of_boxes += len(inside)
        without = [event for event in inside if event.get("contid") != [op["contid"]]]
        assert [(event["type"], event["id"], event.get("contid")) for event in without] == []
    others = [event for event in events if event.get("where") == "host" and event.get("contid")]
    assert others == [], "nobody outside of a container has one"
    balanced(events)
    joined = [op for op in told if op["op"] == "set" and op["res"]]
    record_property("containers with the hook", f"{boxes}, {len(joined)} sets, {events_of_boxes} events")


@pytest.mark.full
def test_docker_with_the_runtime(bench: Bench) -> None:
    """As with Podman: before the first instruction, for what is executed in it later as well; and balanced."""
    before = bench.sh(f"cat {DAEMON}", check=False).stdout
    daemon = json.loads(before or b"{}")
    daemon.setdefault("runtimes", {})["contid"] = {"path": RUNC}
    bench.sh("mkdir -p /etc/docker")
    bench.guest.put(DAEMON, json.dumps(daemon).encode())
    try:
        bench.sh("systemctl restart docker; guest-images docker")
        settled(bench)
        bench.sh(
            f"docker run -d --runtime contid --name wrapped {IMAGE} sh -c '/bin/true wrapped-first; exec sleep 600'"
        )
        bench.exec("docker", "exec", "wrapped", "true", "wrapped-later")
        bench.sh(f"docker run --rm --name unwrapped {IMAGE} /bin/true not-wrapped")
        bench.sh("docker rm -f wrapped")
        events = settled(bench)
    finally:
        bench.sh(
            f"docker rm -f wrapped unwrapped; systemctl stop docker.socket docker; rm {DAEMON}", check=False
        )
        if before:
            bench.guest.put(DAEMON, before)
    told = ops(events)
    assert [op for op in told if not op["res"]] == []
    op = next(op for op in told if op["op"] == "set")
    assert op["engine"]["name"] == "wrapped"
    assert {name: op["engine"][name] for name in ("image", "runtime")} == {
        "image": IMAGE,
        "runtime": "docker",
    }
    for tag in ("wrapped-first", "wrapped-later"):
        [event] = of_true(events, tag)
        assert event["contid"] == [op["contid"]], tag
        assert event["container"]["id"] == op["engine"]["id"], tag
    [event] = of_true(events, "not-wrapped")
    assert "contid" not in event
    balanced(events)


@pytest.mark.full
def test_a_packet_has_those_of_its_net_namespace(bench: Bench) -> None:
    """A packet has no task: what an engine announced of the containers in its net namespace, and of no other."""
    settled(bench)
    for name in ("netted", "beside"):
        bench.sh(f"podman run -d --name {name} --network none {IMAGE} sleep 600")
    bench.sh(f"podman run -d --name shares --network container:netted {IMAGE} sleep 600")
    pid = bench.sh("podman inspect --format '{{.State.Pid}}' netted").stdout.decode().strip()
    inside = ["nsenter", "-t", pid, "-n", "sh", "-c"]
    bench.guest.run([*inside, f"ip link set lo up; {by_expression(MARK)}"], timeout=60, check=True)
    ping = f"nsenter -t {pid} -n busybox ping -q -c 3 -i 0.1 127.0.0.1"
    bench.sh(ping)
    bench.unit("restart")
    bench.sh(ping)
    bench.sh(
        "podman rm -f -t 0 shares && podman rm -f -t 0 netted beside"
    )  # none goes while another needs it
    events = settled(bench)
    named = {op["engine"]["name"]: op["contid"] for op in ops(events) if op["op"] == "set" and "engine" in op}
    told = packets(events)[MARK]
    assert len(told) == 24, "three there and three back, each by two rules; and after a restart"
    expected = sorted((named["netted"], named["shares"]))
    for event in told:
        assert sorted(event["packet"]["contids"]) == [[contid] for contid in expected]
        [told_of] = event["container_ids"]
        assert (told_of["record"], sorted(told_of["contid"].split(","))) == (1, expected)
        assert "contid" not in event
    balanced(events)


@pytest.mark.full
def test_a_kill_of_the_service_loses_no_inheritance(bench: Bench) -> None:
    """Maps and links are pinned: what a container makes while nobody runs has its identifier."""
    lacking = unkept(bench)
    assert not lacking, lacking
    settled(bench)
    bench.sh(
        f"podman run -d --name survivor {IMAGE} sh -c 'mkfifo /f; read x </f; /bin/true of-the-first; exec sleep 600'"
    )
    before = settled(bench)
    contid = next(op["contid"] for op in ops(before) if op["op"] == "set")
    listed = bench.sh(f"ls -A {PINS}/*").stdout.split()
    gone = f'until [ "$(systemctl show -P SubState {UNIT})" = auto-restart ]; do :; done'
    # The stop is of the start that systemd would try next. One is made by the container then, one comes into it.
    bench.sh(f"systemctl kill -s KILL --kill-who=main {UNIT}; {gone}; systemctl stop {UNIT}")
    bench.sh("podman exec survivor sh -c 'echo >/f'")
    bench.sh("podman exec -d survivor sh -c 'mkfifo /g; read x </g; /bin/true of-a-child; exec sleep 600'")
    bench.sh("until podman exec survivor test -p /g; do :; done")
    bench.sh(f"systemctl reset-failed {UNIT}; systemctl start {UNIT}")
    assert bench.status()["contid"]["state"] == "on"
    assert bench.sh(f"ls -A {PINS}/*").stdout.split() == listed, "no link of the killed one is left beside"
    bench.sh("podman exec survivor sh -c '/bin/true of-the-next; echo >/g'")
    bench.sh("podman run --rm --name afterwards " + IMAGE + " /bin/true of-another")
    bench.sh("podman rm -af -t 0", check=False)
    events = settled(bench)
    for tag in ("of-a-child", "of-the-next"):
        [event] = of_true(events, tag)
        assert event["contid"] == [contid], tag
    [other] = of_true(events, "of-another")
    assert other["contid"] not in ([contid], [])
    counters = bench.status()["contid"]
    assert {name: counters[name] for name in ("full_tasks", "lost_ops", "fail_id")} == {
        "full_tasks": 0,
        "lost_ops": 0,
        "fail_id": 0,
    }
    balanced(before + events)


@pytest.mark.full
def test_off_takes_everything_away(bench: Bench) -> None:
    """Only root may look at what is pinned; after a start with contid off nothing is."""
    assert bench.sh(f"find {PINS} -type f | head -1").stdout
    modes = bench.sh(f"stat -c %a /sys/fs/bpf {PINS} {PINS}/*").stdout.decode().split()
    assert (modes[1], modes[2]) == ("700", "700")
    looked = bench.sh(f"setpriv --reuid 65534 --regid 65534 --clear-groups ls {PINS}", check=False)
    assert looked.returncode
    bench.guest.put(DROP_IN, b"")
    bench.unit("restart")
    assert bench.status()["contid"] == {"state": "off"}
    assert bench.sh(f"find {PINS} -type f", check=False).stdout == b""
    bench.guest.put(DROP_IN, ON.encode())
    bench.unit("restart")
    assert bench.status()["contid"]["state"] == "on"


@pytest.mark.full
def test_without_the_service_a_container_starts(bench: Bench) -> None:
    bench.unit("stop")
    assert bench.sh(f"podman run --rm {IMAGE} true").returncode == 0
    said = json.dumps({"id": "x", "pid": 1})
    assert bench.sh(f"echo '{said}' | {HOOK} --required", check=False).returncode == 1
    bench.unit("start")
