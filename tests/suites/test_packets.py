# SPDX-License-Identifier: Apache-2.0
"""Records of netfilter: which net namespace they are about, and whose that is; on every kernel.

The truth is in the records: every net namespace marks its packets with a number of its own before it audits them.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from enricher.sources.bpf.moduleprobes import GROUP, PROBES
from tests.suites.live import Json, Live
from tests.suites.test_service import UNIT, Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vm.guest import Guest

pytestmark = pytest.mark.full  # it needs a guest in which no table of netfilter is left

IMAGE = "localhost/busybox:latest"
PINGS = 20
FIRST, SECOND, HOST = 1, 2, 3  # marks
ADDRESS = {FIRST: "10.99.0.1", SECOND: "10.99.0.2", HOST: "127.0.0.9"}
MODULES = ("xt_AUDIT", "nft_log")
_TEARDOWN_LIMIT = 30.0
_NFT = "add table ip suite; add chain ip suite {hook} {{ type filter hook {hook} priority 5; }}; "
_NFT += "add rule ip suite {hook} ip protocol icmp meta mark set {mark} log level audit"
_CLEAN = """
# One by one: a name that is gone already, or a net namespace that another still shares, would stop all.
for name in packet3 packet2 packet1; do podman rm -f -t 0 $name; done
iptables-legacy -F; iptables-legacy -t mangle -F; ip netns del one; ip netns del two
for module in xt_AUDIT nft_log; do
    # Net namespaces go when the kernel gets to them, and their rules with them.
    timeout 60 sh -c "while grep -q '^$module ' /proc/modules; do rmmod $module; done"
done
true
"""


class Box(NamedTuple):
    """A container: its id, its first process, its net namespace."""

    id: str
    pid: int
    net: int


class Yard:
    """Containers in the guest, joined by hand: an engine's own network would bring rules of its own."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def sh(self, line: str, *, check: bool = True) -> str:
        return self.guest.run(["sh", "-c", line], timeout=120, check=check).stdout.decode()

    def box(self, name: str, network: str = "none") -> Box:
        self.sh(f"podman run -d --name {name} --network {network} {IMAGE} sleep 600")
        pid, ident = self.sh(f"podman inspect --format '{{{{.State.Pid}}}} {{{{.Id}}}}' {name}").split()
        return Box(ident, int(pid), int(self.sh(f"stat -Lc %i /proc/{pid}/ns/net")))

    def inside(self, box: Box, line: str) -> None:
        self.guest.run(["nsenter", "-t", str(box.pid), "-n", "sh", "-c", line], timeout=60, check=True)

    def join(self, one: Box, other: Box) -> None:
        self.inside(one, f"ip link add eth0 type veth peer name eth0 netns {other.pid}")
        for box, mark in ((one, FIRST), (other, SECOND)):
            self.inside(
                box, f"ip link set lo up; ip addr add {ADDRESS[mark]}/24 dev eth0; ip link set eth0 up"
            )

    def loaded(self) -> list[str]:
        names = {line.split()[0] for line in self.guest.get("/proc/modules").decode().splitlines()}
        return [module for module in MODULES if module in names]


@pytest.fixture
def yard(guest: Guest) -> Iterator[Yard]:
    made = Yard(guest)
    made.sh(_CLEAN)
    assert made.loaded() == []
    made.sh("guest-images podman")
    yield made
    made.sh(_CLEAN)


def by_target(mark: int) -> str:
    """Rules that mark ICMP packets and audit them, in and out, by xt_AUDIT."""
    hooks = (("PREROUTING", "INPUT"), ("OUTPUT", "OUTPUT"))
    return "; ".join(
        f"iptables-legacy -w -t mangle -A {first} -p icmp -j MARK --set-mark {mark}"
        f" && iptables-legacy -w -A {then} -p icmp -j AUDIT --type accept"
        for first, then in hooks
    )


def by_expression(mark: int) -> str:
    """The same by nft_log."""
    return "; ".join(f"nft '{_NFT.format(hook=hook, mark=mark)}'" for hook in ("input", "output"))


def ping(mark: int, count: int = PINGS) -> str:
    return f"busybox ping -q -c {count} -i 0.02 {ADDRESS[mark]} >/dev/null"


def packets(events: list[Json]) -> dict[int, list[Json]]:
    """The events of packets by their mark."""
    found: dict[int, list[Json]] = {}
    for event in events:
        if event["type"] == "NETFILTER_PKT":
            (record,) = event["records"]
            found.setdefault(int(record["fields"]["mark"], 0), []).append(event)
    return found


def told(event: Json) -> str:
    """What an event says of its net namespace and its containers, and nothing of a subject: in one line."""
    packet: dict[str, Any] = event.get("packet", {})
    net = packet.get("net", {})
    ids = [container["id"] for container in packet["containers"]] if "containers" in packet else None
    return json.dumps([net.get("ino"), net.get("host"), ids, "subject" in event, "container" in event])


def expected(net: int, ids: list[str] | None) -> str:
    return json.dumps([net, ids is None, ids, False, False])


def test_packets_between_containers(yard: Yard, guest: Guest) -> None:
    """The modules are loaded when the program runs already, unloaded, and loaded again."""
    with Live(guest) as live:
        first, second = yard.box("packet1"), yard.box("packet2")
        shares = yard.box("packet3", "container:packet2")
        assert shares.net == second.net != first.net
        yard.join(first, second)
        assert yard.loaded() == []
        yard.inside(first, by_target(FIRST))
        yard.inside(second, by_expression(SECOND))
        # At once: packets are evaluated in interrupts on top of each other's senders.
        both = f"{ping(SECOND)} & {ping(FIRST)}; wait"
        yard.sh(f"nsenter -t {first.pid} -n {ping(SECOND)} & nsenter -t {second.pid} -n sh -c '{both}'; wait")
        assert yard.loaded() == list(MODULES)
        yard.inside(first, "iptables-legacy -F; iptables-legacy -t mangle -F")
        yard.sh("until rmmod xt_AUDIT; do :; done")
        yard.sh(f"{by_target(HOST)}; {ping(HOST)}")
        host = int(yard.sh("stat -Lc %i /proc/self/ns/net"))
        account = live.stop()
        found = packets(live.events())
    assert account.balanced
    # Requests and answers: the first's are of two pings that cross the wire, the second's of its own to itself too.
    assert {mark: len(events) for mark, events in found.items()} == {
        FIRST: 2 * 2 * PINGS,
        SECOND: 2 * 2 * PINGS + 4 * PINGS,
        HOST: 4 * PINGS,
    }
    assert {mark: {told(event) for event in events} for mark, events in found.items()} == {
        FIRST: {expected(first.net, [first.id])},
        SECOND: {expected(second.net, [second.id, shares.id])},
        HOST: {expected(host, None)},
    }


def test_two_calls_of_iptables_from_one_shell(yard: Yard, guest: Guest) -> None:
    """Each says whose tables it changed; and so does the kernel thread that takes them down."""
    tools = ("iptables-legacy -A INPUT -j ACCEPT", "iptables-nft -A INPUT -j ACCEPT")
    with Live(guest) as live:
        yard.sh("ip netns add one; ip netns add two")
        nets = {int(yard.sh(f"stat -Lc %i /run/netns/{name}")) for name in ("one", "two")}
        line = "echo $$ $(stat -Lc %i /proc/self/ns/net); exec"
        calls = [f"ip netns exec {name} sh -c '{line} {tool}'" for tool in tools for name in ("one", "two")]
        truth = {
            int(pid): int(net) for pid, net in (row.split() for row in yard.sh("; ".join(calls)).splitlines())
        }
        assert (set(truth.values()), len(truth)) == (nets, len(calls))
        yard.sh("ip netns del one; ip netns del two")
        gone = _taken_down(live, nets)
        live.stop()
        events = [event for event in live.events() if event["type"] == "NETFILTER_CFG" or _changes(event)]
    said: dict[int, set[int]] = {}
    for event in events:
        if event.get("subject", {}).get("pid") in truth:
            said.setdefault(event["subject"]["pid"], set()).add(event["namespaces"]["net"]["ino"])
    assert said == {pid: {net} for pid, net in truth.items()}
    assert gone == nets


@pytest.fixture
def service(guest: Guest) -> Iterator[Service]:
    guest.run(["systemctl", "unmask", UNIT], check=True)
    made = Service(guest)
    try:
        made.unit("start")
        yield made
    finally:
        wipe = "rm -rf /var/log/audit-enricher /var/lib/audit-enricher"
        guest.run(["sh", "-c", f"systemctl stop {UNIT}; systemctl reset-failed {UNIT}; {wipe}"], timeout=60)
        guest.run(["systemctl", "mask", UNIT], check=True)


def test_the_service_makes_its_probes_and_takes_them_away(service: Service) -> None:
    """As an ordinary user within its sandbox; what a kill leaves is used by the next start."""

    def listed() -> list[str]:
        lines = service.guest.get("/sys/kernel/tracing/kprobe_events").decode().splitlines()
        # Once a return probe was armed, the kernel also shows how many it allows for at a time.
        return sorted(re.sub(r"^r\d+:", "r:", line) for line in lines if GROUP in line)

    # What a loaded module does not have is not in the list: no kernel here has all of them loaded.
    before = listed()
    assert {line.split(" ")[0].partition("/")[2] for line in before} == {probe.program for probe in PROBES}
    # Armed: our descriptors are open, and the module is there.
    service.sh("modprobe xt_AUDIT")
    probed = service.sh("grep -w audit_tg+0x[04] /sys/kernel/debug/kprobes/list").stdout.decode().splitlines()
    service.sh("rmmod xt_AUDIT")
    assert sorted(line.split()[1] for line in probed) == ["k", "r"]
    assert "DISABLED" not in "".join(probed)
    gone = f'until [ "$(systemctl show -P SubState {UNIT})" = auto-restart ]; do :; done'
    service.sh(f"systemctl kill -s KILL {UNIT}; {gone}")
    assert listed() == before
    service.unit("restart")
    assert listed() == before
    service.unit("stop")
    assert listed() == []


def _changes(event: Json) -> bool:
    return any(record["type"] == "NETFILTER_CFG" for record in event["records"])


def _taken_down(live: Live, nets: set[int]) -> set[int]:
    """Wait until a kernel thread has unregistered tables of all of these; returns of which it is said."""
    deadline = time.monotonic() + _TEARDOWN_LIMIT
    gone: set[int] = set()
    while gone < nets and time.monotonic() < deadline:
        # What is being written may end within a line.
        whole = live.output().rpartition(b"\n")[0].splitlines()
        for line in whole:
            with contextlib.suppress(KeyError):
                event = json.loads(line)
                if event["enrichment"].get("subject") is False and _changes(event):
                    gone.add(event["packet"]["net"]["ino"])
        gone &= nets
    return gone
