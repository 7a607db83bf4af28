# SPDX-License-Identifier: Apache-2.0
"""The member ``packet``: which net namespace, and exactly the containers that are in it at that moment."""

from __future__ import annotations

import pytest

from enricher.correlate.lives import Lives
from enricher.enrich.cgroups import CgroupTable
from enricher.enrich.namespaces import NamespaceEntries
from enricher.enrich.packets import Packets
from enricher.enrich.tenants import CGROUPS_MAX, Tenants
from enricher.facts import Fact, Member, NamespaceLife, NamespaceOp, PacketNet
from enricher.model import KINDS, Batch, CgroupChange, CgroupOp
from tests.unit.sample_events import BOX_INUMS, HOST, HOST_INUMS, STAMP

NET = KINDS.index("net")
INUM = BOX_INUMS[NET]
WEB, SIDE, OWN = 71, 72, 73
IDS = {WEB: "ab" * 32, SIDE: "cd" * 32}


class Host:
    """What was told of one host so far."""

    def __init__(self) -> None:
        self.lives = Lives()
        self.lives.watched = True
        self.cgroups = CgroupTable()
        self.tenants = Tenants(self.lives, self.cgroups, HOST.initial)
        self.packets = Packets(NamespaceEntries(HOST, self.lives), self.tenants, self.lives)
        self.cgroup(OWN, "/system.slice/ssh.service")
        for ident, name in IDS.items():
            self.cgroup(ident, f"/system.slice/docker-{name}.scope")

    def cgroup(self, ident: int, path: str, op: CgroupOp = CgroupOp.MADE, time: int = 0) -> None:
        change = CgroupChange(ident, op, path.encode(), time)
        self.cgroups.learn(Batch([], [], [], parked=False, now=0.0, wall=0.0, cgroups=(change,)))

    def learn(self, *facts: Fact) -> None:
        self.lives.learn(facts)
        self.tenants.learn(facts)

    def member(self, cgroup: int, time: int, inums: tuple[int, ...] = BOX_INUMS) -> None:
        self.learn(Member(time, cgroup, 4711, 1, inums, (0,) * len(KINDS)))

    def names(self, time: int, inum: int = INUM) -> list[str] | None:
        entry = self.packets.of(PacketNet(STAMP, time, 1324, inum, 0))
        found = entry.get("containers")
        return None if found is None else [container["id"] for container in found]


def life(time: int, op: NamespaceOp, inum: int = INUM, ident: int = 0) -> NamespaceLife:
    return NamespaceLife(time, op, inum, NET, ident, 0, 0, 0, 0, 0, 0, 0, 0, b"")


@pytest.fixture
def host() -> Host:
    return Host()


def test_the_members(host: Host) -> None:
    host.learn(life(100, NamespaceOp.MADE, ident=4242))
    host.member(WEB, 200)
    entry = host.packets.of(PacketNet(STAMP, 300, 1324, INUM, 4242))
    assert entry == {
        "net": {"ino": INUM, "id": "4242", "life": "4242", "host": False},
        "containers": [{"id": IDS[WEB], "runtime": "docker"}],
    }


def test_each_container_once_and_nothing_of_the_hosts(host: Host) -> None:
    """The runtime's helper is in the host's cgroup, a pod's containers share the namespace."""
    host.learn(life(100, NamespaceOp.MADE))
    for time, cgroup in enumerate((OWN, WEB, SIDE, WEB), 200):
        host.member(cgroup, time)
    assert host.names(300) == [IDS[WEB], IDS[SIDE]]


def test_a_namespace_without_containers(host: Host) -> None:
    host.learn(life(100, NamespaceOp.MADE))
    assert host.names(300) == []
    host.member(OWN, 200)
    assert host.names(300) == []


def test_the_hosts_own_has_no_list(host: Host) -> None:
    host.member(WEB, 200, HOST_INUMS)
    entry = host.packets.of(PacketNet(STAMP, 300, 1324, HOST_INUMS[NET], 0))
    assert entry == {"net": {"ino": HOST_INUMS[NET], "life": "0", "host": True}}


def test_a_namespace_that_was_there_before_us(host: Host) -> None:
    """Who was executed in it before is not known, and one that comes later is not all."""
    host.member(WEB, 200)
    entry = host.packets.of(PacketNet(STAMP, 300, 1324, INUM, 0))
    assert entry == {"net": {"ino": INUM, "life": "0", "host": False}}


def test_another_life_of_the_number_is_another_namespace(host: Host) -> None:
    host.learn(life(100, NamespaceOp.MADE))
    host.member(WEB, 150)
    host.learn(life(200, NamespaceOp.FREED), life(300, NamespaceOp.MADE))
    host.member(SIDE, 350)
    assert host.names(190) == [IDS[WEB]]
    assert host.names(400) == [IDS[SIDE]]


def test_a_container_that_has_ended(host: Host) -> None:
    """It is in its last packets, and not in those of the pod that goes on without it."""
    host.learn(life(100, NamespaceOp.MADE))
    host.member(WEB, 200)
    host.member(SIDE, 201)
    host.cgroup(SIDE, f"/system.slice/docker-{IDS[SIDE]}.scope", CgroupOp.REMOVED, 500)
    assert host.names(499) == [IDS[WEB], IDS[SIDE]]
    assert host.names(501) == [IDS[WEB]]


def test_unknown_is_not_none(host: Host) -> None:
    """Which life the number is of was lost; more cgroups came than are kept."""
    host.learn(life(100, NamespaceOp.MADE))
    host.member(WEB, 200)
    for cgroup in range(1000, 1000 + CGROUPS_MAX - 2):
        host.member(cgroup, 201)
    assert host.names(300) == [IDS[WEB]]
    host.member(SIDE, 202)
    assert host.names(300) is None
    host.learn(life(400, NamespaceOp.FREED), life(500, NamespaceOp.LOST))
    assert host.names(600) is None


def test_a_cgroup_of_which_nobody_can_say_whose_it_is(host: Host) -> None:
    host.learn(life(100, NamespaceOp.MADE))
    host.member(WEB, 200)
    host.cgroup(99, "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podx.slice/odd")
    home = host.cgroups.of(99)
    assert home is not None
    home.where = "unknown"
    host.member(99, 201)
    assert host.names(300) is None
