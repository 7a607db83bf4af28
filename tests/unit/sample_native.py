# SPDX-License-Identifier: Apache-2.0
"""Native events, one for each shape the schema knows, and changes that make them contradict themselves."""

from __future__ import annotations

import copy
import errno
import json
from typing import Any

from enricher.enrich.cgroups import CgroupTable
from enricher.enrich.native import NativeBuilder, build
from enricher.enrich.surroundings import Surroundings
from enricher.facts import (
    CONTID_UNSET,
    Beside,
    ChangeOp,
    ContainerOp,
    Engine,
    Extent,
    PacketNet,
    Told,
    UserMap,
)
from enricher.model import (
    KINDS,
    Answer,
    Batch,
    CgroupChange,
    CgroupOp,
    ContextFlag,
    Event,
    HostFacts,
    Known,
    Metadata,
    Recalled,
    Record,
)
from tests.unit.sample_events import BOX_INUMS, EXEC, HOST, SYSCALL, context, event
from tests.unit.sample_facts import MAKER, batch, change, found, freed, link, made, member, refusal, target

Json = dict[str, Any]

RUN = f"{HOST.boot_id}/5eed0001/"
LOST: Json = {
    "schema": "audit-enricher/1",
    "time": "2026-03-01T12:00:00.042Z",
    "id": "1772366400.042:0",
    "uid": RUN + "12",
    "host": {"name": "web1", "machine_id": HOST.machine_id, "boot_id": HOST.boot_id},
    "type": "LOST",
    "keys": [],
    "where": "unknown",
    "lost": {
        "cause": "netlink",
        "stage": "netlink",
        "records": 7,
        "first": 9001,
        "last": 9003,
        "types": {"SYSCALL": 3, "UNKNOWN[1999]": 4},
    },
    "records": [],
    "enrichment": {"context": "none", "container": "none"},
}


def native(made: Event) -> Json:
    """The event as a reader of the JSON line gets it."""
    read: Json = json.loads(json.dumps(build(made, HOST)))
    return read


def nested() -> Json:
    """A container in a container of a rootless engine, whose user wrote a name that is not UTF-8."""
    outer, inner = "ab" * 32, "cd" * 32
    user = b"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + outer.encode()
    path = user + b".scope/container/docker/" + inner.encode() + b"/\xff"
    return in_cgroup(path)


def in_a_cluster_in_a_container() -> Json:
    """As kind does it: a node is a container."""
    node = f"/system.slice/docker-{'ab' * 32}.scope/kubelet.slice/kubelet-kubepods.slice"
    pod = "kubelet-kubepods-pod0123abcd_0123_4567_89ab_0123456789ab.slice"
    return in_cgroup(f"{node}/{pod}/cri-containerd-{'cd' * 32}.scope".encode())


def in_lxc_in_lxc() -> Json:
    return in_cgroup(b"/lxc.payload.web/lxc.payload.inner")


def in_pod() -> Json:
    pod = "0123abcd-0123-4567-89ab-0123456789ab"
    slices = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{pod.replace('-', '_')}.slice"
    return in_cgroup(f"{slices}/cri-containerd-{'ef' * 32}.scope".encode())


def in_lxc() -> Json:
    return in_cgroup(b"/lxc.payload.web")


def in_a_unit() -> Json:
    return in_cgroup(b"/system.slice/sshd.service")


SHOP = Metadata("docker", "shop", "shop:1", (("k", "v"),), "u-1", "shop-0", "prod")


def named() -> Json:
    return in_cgroup(f"/system.slice/docker-{'ab' * 32}.scope".encode(), SHOP)


def named_and_nested() -> Json:
    outer = f"/system.slice/docker-{'ab' * 32}.scope"
    return in_cgroup(f"{outer}/docker/{'cd' * 32}".encode(), SHOP)


def free_name() -> Json:
    return in_cgroup(b"/jobs/batch", Known("runc", "batch", "/jobs/batch", Metadata("runc", "batch")))


def in_cgroup(path: bytes, said: Metadata | Known | None = None) -> Json:
    table = CgroupTable()
    change = CgroupChange(7312, CgroupOp.FOUND, path, 0)
    answers = (Answer(7312, said),) if said else ()
    table.learn(Batch([], [], [], parked=False, now=0.0, wall=0.0, cgroups=(change,), answers=answers))
    made = NativeBuilder(HOST, around=Surroundings(HOST, table)).build(event(*EXEC, context=context()))
    read: Json = json.loads(json.dumps(made))
    return read


def container() -> Json:
    ids = (12, 13, 14, 4711, 16, 17, 18, 19, 20, 2**64 - 1)
    inside = context(inums=BOX_INUMS, ids=ids, comm=b"l\xff", levels=((4026531836, 4711), (4026532260, 7)))
    records = [(1300, SYSCALL.replace(b'exe="/usr/bin/ls"', b"exe=2FFF")), *EXEC[1:]]
    return native(event(*records, context=inside))


def bystander() -> Json:
    return native(event((1324, b"hook=1 len=60"), context=context(flags=ContextFlag.INTERRUPT)))


def damaged() -> Json:
    made = event(context=context())
    made.records = [Record(1307, b"audit(" + b'1.0:1): name=\xff cwd="open', truncated=True)]
    made.self_caused = True
    read = native(made)
    read["records"][0]["fields"] |= {"list": ["a", 1.5, None, ["b"], {"c": "d"}], "object": {"e": ["f", 2]}}
    return read


def from_a_log() -> Json:
    read = native(event(*EXEC))
    del read["enrichment"]["complete"]
    read["host"] = {"name": "elsewhere"}
    read["uid"] = read["uid"].removeprefix(HOST.boot_id)
    return read


def journalled() -> Event:
    """An event of a log whose context a journal has."""
    made = event(*EXEC)
    made.complete = None
    made.reason = "read from a log: no count"
    path = b"/system.slice/docker-" + b"ab" * 32 + b".scope"
    ids = (0, 0, 0, 2**64 - 1, 0, 0, 0, 0, 0, 0)
    made.recalled = Recalled(HOST, 0, 7312, path, None, tuple(BOX_INUMS), ids, b"1")
    return made


def from_a_journal() -> Json:
    elsewhere = HostFacts("", "", "", "", (0,) * 10)
    read: Json = json.loads(json.dumps(NativeBuilder(elsewhere).build(journalled())))
    return read


def around() -> Surroundings:
    """Two sets of ten namespaces each, all made while somebody watched; two containers, one in the other's."""
    known = Surroundings(HOST)
    docker, podman = (f"/system.slice/docker-{'ab' * 32}.scope", f"/machine.slice/libpod-{'cd' * 32}.scope")
    paths = ((7312, docker), (MAKER, podman))
    told = tuple(CgroupChange(ident, CgroupOp.MADE, path.encode(), 0) for ident, path in paths)
    answers = (Answer(7312, Metadata("docker", "web")),)
    known.cgroups.learn(Batch([], [], [], parked=False, now=0.0, wall=0.0, cgroups=told, answers=answers))
    lives = [
        made(KINDS[min(place, 7)], inum, 1_000 + inum, ident=ident)
        for inums, ids in ((LEFT, LEFT_IDS), (ENTERED, IDS))
        for place, (inum, ident) in enumerate(zip(inums, ids, strict=True))
    ]
    every = (Extent(0, 0, 70_000),)
    users = UserMap(
        5_000, ENTERED[5], 1, 1000, 1001, (LEFT[5],), (IDS[5], LEFT_IDS[5]), every, every, whole=True
    )
    known.learn(batch(*lives, member(7312, ENTERED, 9_000), users))
    return known


LEFT = tuple(range(101, 111))
ENTERED = tuple(range(201, 211))
IDS = tuple(range(1, 11))
LEFT_IDS = tuple(range(51, 61))


def changing() -> Json:
    """All ten kinds, and a child; the task is in one container and has another's namespaces."""
    who = context(inums=ENTERED, ids=IDS, levels=((4026531836, 4711), (206, 3)), cgroup_id=MAKER)
    one = change(who, before=LEFT, before_ids=LEFT_IDS)
    made_event = event((1300, SYSCALL), context=who)
    made_event.beside = Beside((one,), (), link(child=4720))
    return _read(
        NativeBuilder(HOST._replace(initial=(*LEFT[:5], *ENTERED[5:])), around=around()).build(made_event)
    )


def signalling() -> Json:
    ids = tuple(range(1, 11))
    inside = context(inums=ENTERED, ids=ids, comm=b"s\xff", pid=4800, levels=((4026531836, 4800), (206, 9)))
    made_event = event(
        (1300, SYSCALL), (1318, b"opid=4800 oauid=-1 ouid=0 oses=-1 ocomm=73FF"), context=context()
    )
    made_event.beside = Beside((), (target(inside),), link())
    return _read(NativeBuilder(HOST, around=around()).build(made_event))


def packet() -> Json:
    made_event = event((1324, b"action=0 hook=1 len=60"), context=context(flags=ContextFlag.INTERRUPT))
    made_event.beside = Beside(packet=PacketNet(made_event.stamp, 81_000_000_000, 1324, ENTERED[3], IDS[3]))
    return _read(NativeBuilder(HOST, around=around()).build(made_event))


def own(fact: Told) -> Json:
    made_event = event()
    made_event.stamp = b"1772366400.042:0"
    made_event.records = []
    made_event.own_id = "5eed0001/12"
    made_event.told = fact
    return _read(NativeBuilder(HOST, around=around()).build(made_event))


def cloned() -> Json:
    return own(change(op=ChangeOp.CLONE))


def born() -> Json:
    return own(made("pid", 205, 1_205, ident=77))


def baseline() -> Json:
    return own(found("user", 305, 1_305))


def ended() -> Json:
    return own(freed(204, 5_000))


def refused_message() -> Json:
    return own(refusal(b"op=PAM:auth acct=\xff"))


def contained() -> Json:
    """Three levels deep, and a signal to a task of another identifier."""
    inside = context(inums=ENTERED, pid=4800)._replace(contid=(3,))
    made_event = event(
        (1300, SYSCALL),
        (1318, b"opid=4800 oauid=-1 ouid=0 oses=-1 ocomm=73FF"),
        context=context()._replace(contid=(4, 2, 1)),
    )
    made_event.beside = Beside((), (target(inside),), link())
    return _read(NativeBuilder(HOST, around=around()).build(made_event))


def packet_of_contained() -> Json:
    made_event = event((1324, b"action=0 hook=1 len=60"), context=context(flags=ContextFlag.INTERRUPT))
    net = PacketNet(made_event.stamp, 81_000_000_000, 1324, ENTERED[3], IDS[3], ((2, 1), (3, 1)))
    made_event.beside = Beside(packet=net)
    return _read(NativeBuilder(HOST, around=around()).build(made_event))


def changed_in_contained() -> Json:
    return own(change(contid=(4, 2, 1)))


def born_in_contained() -> Json:
    return own(made("net", 206, 1_206)._replace(contid=(4, 2)))


def refused_in_contained() -> Json:
    return own(refusal(b"op=login")._replace(contid=(4,)))


ENGINE = Engine("ab" * 32, "web", "registry.example/web:1", "podman")
SET = ContainerOp(
    81_000_000_000,
    "set",
    8730,
    2**63 + 5,
    (2, 1),
    orchestrator=True,
    caller_pid=700,
    caller_uid=0,
    engine=ENGINE,
)


def contid_set() -> Json:
    return own(SET)


def contid_refused() -> Json:
    return own(ContainerOp(81_000_000_000, "set", 8730, 4, res=errno.EBUSY, caller_contid=(2, 1)))


def contid_dropped() -> Json:
    return own(ContainerOp(81_000_000_000, "drop", 8730, CONTID_UNSET, (4, 2, 1)))


def _read(made_native: object) -> Json:
    read: Json = json.loads(json.dumps(made_native))
    return read


def lost() -> Json:
    return copy.deepcopy(LOST)


def lost_messages() -> Json:
    return lost() | {"lost": {"cause": "ring", "stage": "ring", "messages": 1}}


def lost_by_a_sink() -> Json:
    return lost() | {"lost": {"cause": "queue", "stage": "queue", "records": 1, "sink": "siem-2"}}


def notice(**said: object) -> Json:
    made = {name: value for name, value in lost().items() if name != "lost"}
    return made | {"type": "NOTICE", "notice": said}


def gap() -> Json:
    return notice(kind="gap", text="nobody looked", first=4711, last=4720, reason="restart")


def open_gap() -> Json:
    return notice(kind="gap", text="nobody looked, nobody knows since when")


def reload() -> Json:
    return notice(kind="reload", text="new settings", settings=["output.keys"])


SAMPLES = {
    made.__name__: made
    for made in (
        *(
            container,
            nested,
            in_a_cluster_in_a_container,
            in_lxc_in_lxc,
            in_pod,
            in_lxc,
            named,
            named_and_nested,
            free_name,
            in_a_unit,
            bystander,
            damaged,
            from_a_log,
            from_a_journal,
        ),
        *(lost, lost_messages, lost_by_a_sink, gap, open_gap, reload),
        *(packet, changing, signalling, cloned, born, baseline, ended, refused_message),
        *(changed_in_contained, born_in_contained, refused_in_contained),
        *(contained, packet_of_contained, contid_set, contid_refused, contid_dropped),
    )
}


INSIDE: Json = {"owner": {"uid": 0, "gid": 0}, "user_ns": []}
BREAKS: list[tuple[str, Json]] = [
    ("lost", {"uid": "x/5eed0001/1"}),
    ("lost", {"id": "1772366400.042:5"}),
    ("lost", {"records": [{"type": "CWD", "fields": {}}]}),
    ("lost", {"uid": f"{HOST.boot_id}/1772366400.042:0"}),
    ("lost", {"type": "NOTICE"}),
    ("lost", {"lost.first": None}),
    ("lost", {"lost.records": None}),
    ("lost", {"lost.messages": 7}),
    ("lost", {"lost.sink": "siem-2"}),
    ("lost_by_a_sink", {"lost.stage": "ring"}),
    ("lost_by_a_sink", {"lost.sink": "siem/2"}),
    ("lost_by_a_sink", {"lost.sink": "s" * 33}),
    # limits that a looser schema would let through together with the values made from it
    ("lost", {"lost.records": 0}),
    ("lost", {"lost.first": 2**32}),
    ("lost", {"uid": f"{HOST.boot_id}/5EED0001/12"}),
    ("container", {"namespaces.mnt.ino": 0}),
    ("container", {"subject.start": "007"}),
    ("container", {"subject.pid": 2**53 + 1}),
    ("container", {"subject.auid": 2**32 - 1}),
    ("container", {"time": "2026-03-01T12:00:00Z"}),
    ("container", {"uid": f"{HOST.boot_id}/1772366400.042:9001/1"}),
    ("container", {"host.boot_id": "6b1c"}),
    ("container", {"type": "syscall"}),
    ("from_a_log", {"namespaces": {}}),
    ("from_a_log", {"cgroup": {"id": "1"}, "namespaces": {}}),
    ("from_a_log", {"subject.tid": 1}),
    ("from_a_log", {"subject.start": "1"}),
    ("from_a_log", {"subject.pids": []}),
    ("from_a_log", {"enrichment.reason": None}),
    ("from_a_journal", {"namespaces": None}),
    ("from_a_journal", {"host": {"name": "web1"}}),
    ("from_a_journal", {"subject.tid": 1}),
    ("from_a_journal", {"subject.pids": []}),
    ("from_a_journal", {"enrichment.context": "none"}),
    ("from_a_journal", {"enrichment.subject": False}),
    ("gap", {"type": "LOST"}),
    ("gap", {"uid": f"{HOST.boot_id}/1772366400.042:0"}),
    ("gap", {"notice.first": None}),
    ("gap", {"notice.last": None}),
    ("gap", {"notice.reason": None}),
    ("gap", {"notice.first": 2**32}),
    ("gap", {"notice.kind": "degraded"}),
    ("gap", {"notice.kind": None}),
    ("gap", {"lost": {"cause": "sink", "stage": "sink", "records": 1}}),
    ("reload", {"notice.settings": []}),
    ("reload", {"notice.settings": ["keys"]}),
    ("reload", {"notice.text": ""}),
    ("reload", {"notice.first": 1}),
    ("reload", {"notice.last": 1}),
    ("reload", {"notice.reason": "boot"}),
    ("nested", {"where": "host"}),
    ("nested", {"where": "unknown"}),
    ("nested", {"container": None}),
    ("nested", {"enrichment.container": "none"}),
    ("nested", {"cgroup.path": None}),
    ("nested", {"cgroup": None}),
    ("in_a_unit", {"where": "unknown"}),
    ("in_a_unit", {"container": {"id": "web"}}),
    ("in_a_unit", {"cgroup.path": None}),
    ("in_a_unit", {"enrichment.container": "none"}),
    ("in_a_unit", {"enrichment.container": "runtime"}),
    ("in_a_unit", {"enrichment.metadata": "docker"}),
    ("born", {"type": "NS_CHANGE"}),
    ("born", {"namespaces": {}}),
    ("born", {"lost": {"cause": "sink", "stage": "sink", "records": 1}}),
    ("born", {"notice": {"kind": "reload", "text": "x"}}),
    ("born", {"refused": {"type": "USER", "text": "", "length": 1}}),
    ("baseline", {"namespace.baseline": False}),
    ("refused_message", {"type": "NS_CHANGE"}),
    ("refused_message", {"lost": {"cause": "sink", "stage": "sink", "records": 1}}),
    ("refused_message", {"notice": {"kind": "reload", "text": "x"}}),
    ("contid_set", {"type": "NS_CHANGE"}),
    ("contid_set", {"namespaces": {}}),
    ("contid_set", {"namespace": {"ino": 1}}),
    ("contid_set", {"refused": {"type": "USER", "text": "", "length": 1}}),
    ("contid_set", {"lost": {"cause": "sink", "stage": "sink", "records": 1}}),
    ("contid_set", {"notice": {"kind": "reload", "text": "x"}}),
    ("contid_set", {"container_op.orchestrator": False}),
    ("contid_set", {"container_op.error": "EBUSY"}),
    ("contained", {"container_ids": [{"record": 0, "contid": "4"}]}),
    ("from_a_log", {"container_op": {"op": "set", "opid": 1, "res": 1}}),
    ("from_a_log", {"child": {"pid": 1, "pids": []}}),
    ("from_a_log", {"targets": []}),
    ("from_a_log", {"subject.inside": INSIDE}),
    ("from_a_journal", {"subject.inside": INSIDE}),
    ("bystander", {"subject": {"inside": INSIDE}}),
    ("from_a_log", {"namespace": {"ino": 1}}),
    ("from_a_log", {"refused": {"type": "USER", "text": "", "length": 1}}),
    ("container", {"where": "host"}),
    ("container", {"cgroup": {"id": "1", "path_hex": "FF"}}),
    ("container", {"cgroup": {"id": "1", "unit": "a.service"}}),
    ("container", {"enrichment.container": "cgroup"}),
    ("bystander", {"namespaces": {}}),
    ("bystander", {"cgroup": {"id": "1"}, "namespaces": {}}),
    ("bystander", {"subject": {"tid": 1}}),
    ("bystander", {"subject": {"start": "1"}}),
    ("bystander", {"subject": {"pids": []}}),
    ("bystander", {"enrichment.context": "none"}),
    ("bystander", {"enrichment.reason": None}),
    ("container", {"namespaces": None}),
    ("container", {"enrichment.complete": False}),
    ("container", {"subject.comm": None}),
    ("container", {"subject.exe": None}),
    ("container", {"records": [{"type": "CWD", "fields": {}, "undecoded": True}]}),
    ("container", {"records": [{"type": "CWD", "fields": {}, "truncated": True}]}),
    ("container", {"records": [{"type": "CWD", "fields": {}, "raw_hex": "FF"}]}),
]
"""Members that are right by themselves and wrong together: a sample, and what is changed (None: taken out)."""
