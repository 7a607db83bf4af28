# SPDX-License-Identifier: Apache-2.0
"""Which identifiers a packet is told of: those of the containers in its net namespace, of no other, at its time."""

from __future__ import annotations

import errno

import pytest

from enricher.enrich.contidboxes import ContidBoxes
from enricher.facts import CONTID_UNSET, ContainerOp, Engine, NamespaceOp, PacketNet
from enricher.model import Batch, Event, Record
from enricher.runtime.stages import Opening, Stages
from enricher.sources.contid import ContidEntry
from tests.unit.sample_events import HOST, HOST_INUMS, STAMP
from tests.unit.test_packets import IDS, INUM, NET, SIDE, WEB, Host, life

OTHER = INUM + 1


class Boxes(Host):
    """A host with two containers in one net namespace since 200."""

    def __init__(self) -> None:
        super().__init__()
        self.contids = ContidBoxes(self.tenants, self.cgroups, HOST.initial, limit=3)
        self.learn(life(100, NamespaceOp.MADE))
        self.member(WEB, 200)
        self.member(SIDE, 200)

    def set(self, contid: int, box: str, time: int, *old: int, res: int = 0) -> None:
        self.contids.learn(
            [ContainerOp(time, "set", 9, contid, old, res, engine=Engine(box) if box else None)]
        )

    def drop(self, contid: int, time: int) -> None:
        self.contids.learn([ContainerOp(time, "drop", 9, CONTID_UNSET, (contid,))])

    def at(self, time: int, inum: int = INUM) -> tuple[tuple[int, ...], ...]:
        return self.contids.fill(PacketNet(STAMP, time, 1324, inum, 0)).contids


@pytest.fixture
def host() -> Boxes:
    return Boxes()


def test_those_in_it_from_their_set_to_their_drop(host: Boxes) -> None:
    host.set(4, IDS[WEB], 300)
    host.set(5, IDS[SIDE], 310, 1)
    host.set(4, IDS[WEB], 320)  # one process more: it joined the cgroup
    host.drop(5, 400)
    assert [host.at(time) for time in (299, 300, 310, 399, 400)] == [
        (),
        ((4,),),
        ((4,), (5, 1)),
        ((4,), (5, 1)),
        ((4,),),
    ]


def test_of_no_other_namespace_and_not_of_the_hosts(host: Boxes) -> None:
    host.set(4, IDS[WEB], 300)
    assert host.at(500, OTHER) == host.at(500, HOST_INUMS[NET]) == ()


def test_what_no_engine_announced_or_was_refused_is_of_none(host: Boxes) -> None:
    host.set(4, "", 300)
    host.set(5, IDS[WEB], 300, res=errno.EEXIST)
    host.set(6, "ef" * 32, 300)
    assert host.at(500) == ()


def test_a_container_that_is_started_again_has_another(host: Boxes) -> None:
    host.set(4, IDS[WEB], 300)
    host.drop(4, 400)
    host.set(5, IDS[WEB], 410)
    assert (host.at(350), host.at(405), host.at(420)) == (((4,),), (), ((5,),))


def test_a_number_that_is_used_again_is_the_next_ones(host: Boxes) -> None:
    host.set(4, IDS[WEB], 300)
    host.drop(4, 400)
    host.set(4, IDS[SIDE], 410, 2)
    assert host.at(420) == ((4, 2),)


def test_what_is_in_use_at_the_start_is_known_by_its_cgroup(host: Boxes) -> None:
    entries = [
        ContidEntry(4, (1, 1), 2, WEB, (4, 2)),
        ContidEntry(5, (1, 1), 2),
        ContidEntry(6, (1, 1), 2, 999),
    ]
    host.contids.take_over(entries)
    assert host.at(300) == ((4, 2),)
    host.drop(4, 400)
    assert host.at(400) == ()


def test_the_table_is_bounded(host: Boxes) -> None:
    for contid, box in ((4, WEB), (5, SIDE), (6, WEB), (7, SIDE)):
        host.set(contid, IDS[box], 300)
    assert sorted(host.at(500)) == [(5,), (6,), (7,)]
    assert host.contids.forgotten == 1


def test_the_stages_have_packets_filled_in() -> None:
    seen: list[Event] = []
    stages = Stages(Opening(1, "r", None), seen.extend)
    stages.fill = lambda packet: packet._replace(contids=((4,),))
    packet = PacketNet(STAMP, 81, 1324, INUM, 0)
    record = Record(1324, b"audit(" + STAMP + b"): action=1")
    stages.take(Batch([record], [], [], parked=False, now=1.0, wall=1.0, facts=[packet]))
    stages.take(Batch([], [], [], parked=False, now=99.0, wall=99.0))
    [event] = [event for event in seen if event.stamp == STAMP]
    assert event.beside is not None
    assert event.beside.packet is not None
    assert event.beside.packet.contids == ((4,),)
