# SPDX-License-Identifier: Apache-2.0
"""What the threat model says is tried, tried: docs/threat-model.md names the test of each row.

Where a defence can be taken away on a guest, the same attempt is seen to succeed without it. All but those that need
another start use one run of the service.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.suites.attempting import (
    ATTEMPTS,
    IN_GROUP,
    SAME_USER,
    USER,
    attempts,
    box,
    executed,
    fresh,
    jail,
    of_type,
    trial,
    tried,
)
from tests.suites.live import mismatches, truth_of
from tests.suites.staging import COMMAND, SHARE
from tests.suites.test_service import EVENTS, TRUTH, Service, notices, numbers

if TYPE_CHECKING:
    from tests.suites.attempting import Box
    from tests.vm.guest import Guest

__all__ = ["jail", "trial"]  # fixtures

pytestmark = pytest.mark.only_on("newest")

SOCKET = "/run/audit-enricher/control.sock"
STATE = "/var/lib/audit-enricher"
NOT_CGROUP = "mnt,uts,ipc,net,pid"
"""Out of a cgroup namespace of his own nobody gets into another cgroup."""
SAY, NSMAKE = f"{SHARE}/workload/auditsay", f"{SHARE}/workload/nsmake"
CONNECTION_REFUSED = b"111\n"
LIKE_RECORDS = (
    "x\ntype=SYSCALL msg=audit(1.000:1): arch=c000003e syscall=59 success=yes uid=0 key=0",
    'a"b \x1b[2J" uid=0',
    "",
)
LOGIN = "op=login acct=root uid=4242 auid=4242 ses=1 exe=/bin/login res=success"


def test_a_user_may_not_read_events_nor_signal(trial: Service) -> None:
    guest, pid = trial.guest, str(trial.status()["pid"])
    wanted = [("connect", SOCKET), ("read", EVENTS), ("read", STATE), ("read", f"{STATE}/journal.sqlite")]
    reads = [*wanted, ("write", EVENTS), ("join",), ("kill", pid)]
    refused = ["EACCES"] * 5 + ["EPERM"] * 2
    assert attempts(guest, USER, *reads) == refused
    # Without the modes nothing else stands in the way.
    logs = EVENTS.rpartition("/")[0]
    stat = trial.sh(
        f"stat -c '%a %n' {SOCKET} {logs} {EVENTS} {STATE} {STATE}/journal.sqlite"
    ).stdout.decode()
    trial.sh(f"chmod 666 {SOCKET} {EVENTS}; chmod 755 {logs} {STATE}; chmod 644 {STATE}/journal.sqlite")
    try:
        assert attempts(guest, USER, *reads) == ["ok"] * 5 + ["EPERM"] * 2
    finally:
        trial.sh("; ".join(f"chmod {line}" for line in stat.splitlines()))
    assert attempts(guest, USER, *reads) == refused


def test_nobody_of_its_own_user_looks_into_it(trial: Service) -> None:
    """Its memory, and what a core would hold. A process that lets its user do it is looked into the same way."""
    guest, pid = trial.guest, str(trial.status()["pid"])
    memory = f"/proc/{pid}/mem"
    assert attempts(guest, USER, ("trace", pid), ("read", memory)) == ["EPERM", "EACCES"]
    own = attempts(guest, SAME_USER, ("kill", pid), ("trace", pid), ("read", memory), ("trace_own",))
    assert own == ["ok", "EPERM", "EACCES", "ok"]
    limit = trial.sh(f"grep '^Max core file size' /proc/{pid}/limits").stdout.split()[4:6]
    assert limit == [b"0", b"0"]


@pytest.mark.full
def test_a_user_may_not_start_a_run(guest: Guest) -> None:
    done = guest.run([*USER, COMMAND, "run", "--format", "json", "--for", "1s"], timeout=60)
    assert done.returncode == 3, done.stderr.decode()
    assert b"CAP_" in done.stderr


def test_names_that_look_like_records(trial: Service) -> None:
    """Arguments and a file name of a user's, with what a record begins with behind a line's end."""
    trial.events()
    script = "import os, sys; os.execv('/bin/true', ['true', *sys.argv[1:], 'lookalike'])"
    trial.guest.run([*USER, "python3", "-c", script, *LIKE_RECORDS], check=True)
    events = fresh(trial)
    found = [event for event in executed(events, "lookalike") if event["subject"]["comm"] == "true"]
    (event,) = found
    (argv,) = [r["fields"]["ARGV"] for r in event["records"] if r["type"] == "EXECVE"]
    assert argv == ["true", *LIKE_RECORDS, "lookalike"]
    assert event["subject"]["uid"] == 1000
    assert all(each["id"].rpartition(":")[2] != "1" for each in events)


@pytest.mark.full
def test_nobody_sends_records_through_the_group(trial: Service, jail: Box) -> None:
    """The one who may, root of the host with CAP_NET_ADMIN, is not believed, and counted."""
    text = "audit(1.000:1): arch=c000003e syscall=59 comm=forged"
    words = json.dumps([("multicast", text), ("join",)]).encode()
    assert attempts(trial.guest, USER, ("multicast", text)) == ["EPERM"]
    inside = jail.root(*ATTEMPTS, apart="mnt,uts,ipc,pid,cgroup", input=words)
    assert tried(inside) == ["EPERM", "EPERM"]
    before = trial.status()["account"]["counts"]["foreign"]
    trial.events()
    assert attempts(trial.guest, (), ("multicast", text)) == ["ok"]
    events = fresh(trial)
    assert trial.status()["account"]["counts"]["foreign"] == before + 1
    assert [event for event in events if "forged" in json.dumps(event["records"])] == []


def test_a_message_of_a_containers_root_is_what_he_says(trial: Service, jail: Box) -> None:
    """He may write USER records, as a container of Docker's lets him: who he is stands apart from what he says."""
    trial.events()
    assert jail.root(SAY, "1112", LOGIN).stdout == b"0\n"
    events = [event for event in of_type(fresh(trial), "USER_LOGIN") if event["records"]]
    (event,) = events
    (record,) = [record for record in event["records"] if record["type"] == "USER_LOGIN"]
    assert record["fields"]["uid"] == 0, record
    assert record["fields"]["msg"]["uid"] in (4242, "4242"), record
    assert (event["where"], event["container"]["id"]) == ("container", jail.id)
    assert event["subject"]["uid"] == 0
    assert not event["namespaces"]["net"]["host"]


def test_a_message_from_another_user_namespace(trial: Service, jail: Box) -> None:
    """The kernel refuses it, and it is told; of a flood as many as the limit lets, and that there is one."""
    trial.events()
    assert jail.root(SAY, "1112", LOGIN, apart="mnt,uts,ipc,net,pid,cgroup,user").stdout == CONNECTION_REFUSED
    (refused,) = of_type(fresh(trial), "USER_REFUSED")
    assert refused["refused"]["text"] == LOGIN
    assert (refused["where"], refused["container"]["id"]) == ("container", jail.id)
    jail.root(SAY, "2110", "flood", "2000", apart="user")
    # The kernel side's counts are read now and then.
    trial.sh(f'until grep -q --text \'"kind":"limited"\' {EVENTS}; do {TRUTH} 1 ticks; sleep 0.2; done')
    events = fresh(trial)
    told = [event for event in of_type(events, "USER_REFUSED") if event["refused"]["text"] == "flood"]
    assert 0 < len(told) < 1000
    limits = [notice["text"] for notice in notices(events) if notice["kind"] == "limited"]
    assert limits
    assert trial.status()["account"]["counts"]["refusals_limited"] >= 2000 - len(told)


def test_a_containers_root_moves_before_he_acts(trial: Service, jail: Box) -> None:
    """To other namespaces, and to another container's cgroup: told is where he was when he acted."""
    trial.events()
    assert jail.root(NSMAKE, "unshare", "net,uts", "--", TRUTH, "1", "moved", caps="all").returncode == 0
    with box(trial.guest, 0xB0) as other:
        script = f"echo 0 >{other.cgroup}/cgroup.procs && exec {TRUTH} 1 elsewhere"
        assert jail.root("sh", "-c", script, caps="all", apart=NOT_CGROUP).returncode == 0
    # No rule asks for the call: that no record of it comes is known a second later.
    moved = f'grep --text \'"NS_CHANGE"\' {EVENTS} | grep -q --text \'"comm":"nsmake"\''
    trial.sh(f"until {moved}; do {TRUTH} 1 ticks; sleep 0.2; done")
    events = fresh(trial)
    leaves = {truth.tag: (event, truth) for event in events if (truth := truth_of(event)) is not None}
    for tag, ident in (("moved", jail.id), ("elsewhere", other.id)):
        event, truth = leaves[tag]
        assert mismatches(event, truth) == []
        assert (event["where"], event["container"]["id"]) == ("container", ident)
    changes = [event for event in of_type(events, "NS_CHANGE") if event["subject"].get("comm") == "nsmake"]
    assert [set(event["namespaces"]["change"]) for event in changes] == [{"op", "net", "uts"}]


def test_audit_is_changed(trial: Service, jail: Box) -> None:
    """In a pid namespace of his own nobody may, whatever he holds; in the host's who holds CAP_AUDIT_CONTROL may."""
    trial.events()
    for caps in ("audit_write", "all"):
        done = jail.root("auditctl", "-e", "0", caps=caps)
        assert done.returncode != 0, (caps, done.stdout)
    status = trial.guest.run(["auditctl", "-s"], check=True).stdout
    assert b"enabled 1\n" in status
    assert [notice for notice in notices(fresh(trial)) if notice["kind"] == "audit"] == []
    try:
        control = "audit_control,audit_read"
        for words in (("auditctl", "-D"), ("auditctl", "-e", "0"), ("auditctl", "-e", "1")):
            done = jail.root(*words, caps=control, apart="mnt")
            assert done.returncode == 0, (words, done.stderr)
    finally:
        trial.guest.run(["auditctl", "-e", "1"], check=True)
        rule = "-a always,exit -F arch=b64 -S execve -k exec"
        trial.guest.run(["auditctl", *rule.split()], check=True)
    events = fresh(trial)
    told = [notice["text"] for notice in notices(events) if notice["kind"] == "audit"]
    assert "rules of audit were removed: 1" in told
    assert any(text.startswith("audit's audit_enabled was set from 1 to 0") for text in told), told
    assert of_type(events, "CONFIG_CHANGE")


def test_programs_are_not_detached_through_the_kernel(trial: Service, jail: Box) -> None:
    """A user and a container's root are refused; root of the host is told that such links know no detaching."""
    trial.events()
    assert attempts(trial.guest, USER, ("detach",)) == ["EPERM"]
    assert tried(jail.root(*ATTEMPTS, input=b'[["detach"]]')) == ["EPERM"]
    assert attempts(trial.guest, (), ("detach",)) == ["ENOTSUP"]
    trial.truth(5, "attached")
    seen = [event for event in trial.events() if numbers([event], "attached")]
    assert len(seen) == 5
    assert all("namespaces" in event for event in seen)


@pytest.mark.full
def test_the_group_reads_and_changes_nothing(trial: Service) -> None:
    """Who is in the group has status and events, for which it is; there is no request that changes anything."""
    guest = trial.guest
    told = guest.run([*IN_GROUP, COMMAND, "status", "--json"], timeout=60, check=True).stdout
    before = json.loads(told)
    reads = attempts(
        guest,
        IN_GROUP,
        ("connect", SOCKET),
        ("read", EVENTS),
        ("write", EVENTS),
        ("kill", str(before["pid"])),
    )
    assert reads == ["ok", "ok", "EACCES", "EPERM"]
    guest.put("/run/asked.py", _ASK.encode())
    wanted = [{"op": op} for op in ("reload", "stop", "set", "rotate")] + [
        {"op": "status", "output": "/x"},
        {"x": 1},
    ]
    said = guest.run(
        [*IN_GROUP, "python3", "/run/asked.py"], input=json.dumps(wanted).encode(), timeout=60, check=True
    )
    answers = json.loads(said.stdout)
    assert [set(answer) >= {"error", "hint"} for answer in answers[: len(wanted)]] == [True] * len(wanted)
    # A line without an end, and more connections than there is room for.
    after = trial.status()
    assert after["pid"] == before["pid"]
    assert after["control"]["oversized"] > before["control"]["oversized"]
    assert after["control"]["crowded_out"] > before["control"]["crowded_out"]
    trial.truth(3, "beside")
    assert numbers(trial.events(), "beside") == [0, 1, 2]


_ASK = f"""
import contextlib, json, socket, sys

def client():
    made = socket.socket(socket.AF_UNIX)
    made.connect({SOCKET!r})
    made.settimeout(30)
    return made

answers = []
for request in json.load(sys.stdin):
    with client() as one:
        one.sendall(json.dumps(request).encode() + b"\\n")
        answers.append(json.loads(one.makefile().readline()))
with client() as one, contextlib.suppress(OSError):
    for _ in range(64):
        one.sendall(b"x" * 1024)
    one.recv(4096)
crowd = []
for _ in range(40):
    crowd.append(client())
with client() as one:
    one.sendall(b'{{"op":"status"}}\\n')
    json.loads(one.makefile().readline())
print(json.dumps(answers))
"""
