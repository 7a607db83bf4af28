# SPDX-License-Identifier: Apache-2.0
"""On which records of an event a container identifier is: the subject, whom it signals or traces, who writes as a user.

Nor is it on any other: a task without one has none on the same event. And on the events of our own that no rule asked
for: namespaces that are changed and made, messages that the kernel refuses.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.suites.contid_bench import contids, of_true, ops, settled
from tests.suites.live import own
from tests.suites.staging import COMMAND, SHARE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.suites.test_metadata import Bench
    from tests.vm.guest import Guest

pytestmark = [pytest.mark.vm, pytest.mark.full]

Json = dict[str, Any]
_PROVOKE = f"python3 {SHARE}/guest/provoke.py uring-rule"
_TARGET = "echo $$ >/run/suite-target; exec sleep 60"
_ALL = '[namespaces]\nchanges = "all"\nlives = true\n'
_NESTED = f"{COMMAND} exec --contid 61 -- {COMMAND} exec --contid 62 --"
_TIMES = 5
"""Of each act: a kernel that preempts tasks inside of programs leaves a program out now and then."""
_TOLD = 30.0
"""Seconds until a change has to be told by itself: it waits one for a record."""


@pytest.fixture(scope="module")
def bench(guest: Guest) -> Iterator[Bench]:
    with contids(guest, _ALL) as made:
        yield made


def by_key(events: list[Json], key: str) -> list[Json]:
    return [event for event in events if key in event.get("keys", [])]


def place(event: Json, kind: str) -> int:
    """Where this record is in the event, from 1."""
    return [record["type"] for record in event["records"]].index(kind) + 1


def signals(bench: Bench, sender: str, target: str) -> Json:
    """The event of a signal, from one in the first identifier to one in the second; "" is none."""
    settled(bench)
    wrapped = {who: f"{COMMAND} exec --contid {who} -- " if who else "" for who in (sender, target)}
    bench.sh("auditctl -a always,exit -F arch=b64 -S kill -F a1=10 -k suite-kill")
    try:
        bench.sh(
            f"rm -f /run/suite-target; {wrapped[target]}/bin/sh -c 'trap : USR1; {_TARGET}' & main=$!;"
            " until [ -s /run/suite-target ]; do :; done;"
            f" {wrapped[sender]}/bin/kill -USR1 $(cat /run/suite-target); wait $main; true"
        )
    finally:
        bench.sh("auditctl -d always,exit -F arch=b64 -S kill -F a1=10 -k suite-kill")
    found = [event for event in by_key(settled(bench), "suite-kill") if event.get("targets")]
    [event] = [event for event in found if event["subject"]["comm"] == "kill"]
    return event


def test_a_signal_has_the_senders_and_the_targets(bench: Bench) -> None:
    event = signals(bench, "12", "11")
    assert event["contid"] == ["12"]
    assert [target["contid"] for target in event["targets"]] == [["11"]]
    assert event["container_ids"] == [
        {"record": place(event, "SYSCALL"), "contid": "12"},
        {"record": place(event, "OBJ_PID"), "contid": "11"},
    ]


def test_a_signal_to_or_from_the_host_has_one(bench: Bench) -> None:
    into, out = signals(bench, "", "21"), signals(bench, "22", "")
    assert "contid" not in into
    assert [target["contid"] for target in into["targets"]] == [["21"]]
    assert into["container_ids"] == [{"record": place(into, "OBJ_PID"), "contid": "21"}]
    assert out["contid"] == ["22"]
    assert [target for target in out["targets"] if "contid" in target] == []
    assert out["container_ids"] == [{"record": place(out, "SYSCALL"), "contid": "22"}]


def test_what_a_program_writes_has_its_own(bench: Bench) -> None:
    settled(bench)
    bench.sh(f"{COMMAND} exec --contid 31 -- auditctl -m said-inside; auditctl -m said-outside")
    told = {}
    for event in settled(bench):
        for record in event["records"]:
            for word in ("said-inside", "said-outside"):
                if record["type"] == "USER" and word in str(record["fields"]):
                    told[word] = event
    assert told["said-inside"]["contid"] == ["31"]
    assert told["said-inside"]["container_ids"] == [{"record": 1, "contid": "31"}]
    assert "contid" not in told["said-outside"]
    assert "container_ids" not in told["said-outside"]


def test_it_is_kept_whatever_a_process_enters(bench: Bench) -> None:
    """Namespaces of all kinds, a session, another cgroup, another user, an orphan: with the chain on each event."""
    settled(bench)
    bench.sh("mkdir -p /sys/fs/cgroup/suite-contid")
    there = "setsid -f setpriv --reuid 65534 --regid 65534 --clear-groups /bin/true"
    bench.sh(
        f"{COMMAND} exec --contid 41 -- /bin/sh -c '"
        "unshare --user --map-root-user --mount --uts --ipc --net --pid --fork --cgroup /bin/true unshared;"
        " nsenter -t 1 -m -u -i -n -p /bin/true entered;"
        " echo $$ >/sys/fs/cgroup/suite-contid/cgroup.procs; /bin/true moved;"
        f' {there} orphan; chroot / /bin/true rooted\'; until [ -z "$({COMMAND} contid list)" ]; do :; done'
    )
    events = settled(bench)
    for tag in ("unshared", "entered", "moved", "orphan", "rooted"):
        [event] = of_true(events, tag)
        assert event["contid"] == ["41"], tag
    assert [op["op"] for op in ops(events)] == ["set", "drop"]


def test_operations_of_io_uring_have_it(bench: Bench) -> None:
    """By the task itself, and by a worker, which is a thread of it that the kernel makes."""
    audits = bench.guest.run(["grep", "-q", " __audit_uring_exit$", "/proc/kallsyms"]).returncode == 0
    if not audits:
        pytest.skip("this kernel does not audit io_uring: it has no __audit_uring_exit")
    settled(bench)
    bench.sh(f"{_PROVOKE} add")
    try:
        for how in ("inline", "iowq"):
            bench.sh(f"{COMMAND} exec --contid 51 -- {SHARE}/workload/uring {how}")
    finally:
        bench.sh(f"{_PROVOKE} delete")
    found = [event for event in settled(bench) if any(r["type"] == "URINGOP" for r in event["records"])]
    assert len(found) >= 2
    assert [event for event in found if event.get("contid") != ["51"]] == []


def until_all(bench: Bench, wanted: dict[str, int]) -> list[Json]:
    """Every event since the last call, up to when there are so many of each of these types, or the limit."""
    events: list[Json] = []
    limit = time.monotonic() + _TOLD
    while time.monotonic() < limit:
        events += settled(bench)
        if all(len(own(events, kind)) >= count for kind, count in wanted.items()):
            break
    return events


def with_chain(events: list[Json], *chain: str) -> list[Json]:
    """Those of a subject with this chain; each says the same in both ways."""
    found = [event for event in events if event.get("contid") == list(chain)]
    for event in found:
        assert event["container_ids"] == [{"record": 1, "contid": ",^".join(chain)}]
    return found


def test_changes_and_makings_of_namespaces_have_it(bench: Bench) -> None:
    """Of the same three acts outside and two levels deep: unshare, a clone into a pid namespace, setns back."""
    settled(bench)
    acts = "unshare --uts --pid --fork nsenter -t 1 -u /bin/true"
    for _ in range(_TIMES):
        bench.sh(f"{acts}; {_NESTED} {acts}")
    # Both times three changes and two namespaces, and an end for each of these.
    events = until_all(bench, {"NS_CHANGE": 6 * _TIMES, "NS_INIT": 4 * _TIMES, "NS_DEL": 4 * _TIMES})
    changes, born = own(events, "NS_CHANGE"), own(events, "NS_INIT")
    inside, outside = with_chain(changes, "62", "61"), [event for event in changes if "contid" not in event]
    for found in (inside, outside):
        ops_of = [event["namespaces"]["change"]["op"] for event in found]
        assert {"unshare", "clone", "setns"} <= set(ops_of), changes
    for op in ("unshare", "clone", "setns"):
        # No more than were made: nobody else's has it.
        assert sum(event["namespaces"]["change"]["op"] == op for event in inside) <= _TIMES
    made = with_chain(born, "62", "61")
    assert {event["namespace"]["kind"] for event in made} == {"uts", "pid"}
    assert len(made) <= 2 * _TIMES
    assert {event["subject"]["comm"] for event in made} == {"unshare"}
    # Whatever has an identifier is one of these, and neither the start's nor an end has any.
    assert {tuple(event["contid"]) for event in changes + born if "contid" in event} == {("62", "61")}
    assert [event for event in born if "contid" in event and "baseline" in event["namespace"]] == []
    assert [event for event in own(events, "NS_DEL") if "contid" in event] == []


def test_a_refused_message_has_the_senders(bench: Bench) -> None:
    settled(bench)
    say = f"unshare --user --map-root-user {SHARE}/workload/auditsay 1112"
    for number in range(_TIMES):
        bench.sh(f"{say} outside-{number}; {_NESTED} {say} 'contid=9 inside-{number}'")
    refused = own(until_all(bench, {"USER_REFUSED": 2 * _TIMES}), "USER_REFUSED")
    inside = [event for event in refused if "inside-" in event["refused"]["text"]]
    assert inside
    assert with_chain(inside, "62", "61") == inside
    outside = [event for event in refused if "outside-" in event["refused"]["text"]]
    assert outside
    assert [event for event in outside if "contid" in event or "container_ids" in event] == []


def test_an_attempt_has_that_of_who_asked(bench: Bench) -> None:
    """The outer command is in no container when it sets 61; the inner one is in that, and sets 62."""
    settled(bench)
    bench.sh(f"{_NESTED} /bin/true")
    told = own(settled(bench), "CONTAINER_OP")
    assert [
        (op["container_op"]["contid"], op.get("contid")) for op in told if op["container_op"]["op"] == "set"
    ] == [
        ("61", None),
        ("62", ["61"]),
    ]
    assert len(with_chain(told, "61")) == 1
