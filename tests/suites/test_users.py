# SPDX-License-Identifier: Apache-2.0
"""User namespaces: who a subject is inside of his, and what he says to audit and is refused.

The truth comes from the processes themselves: tests/suites/guest/inside.py puts what they read of themselves into the
arguments of an exec.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest

from tests.accuracy.runtimes import Rootless
from tests.accuracy.yard import BOX, Yard
from tests.suites.live import Live, again_where_skipped
from tests.suites.staging import SHARE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

pytestmark = pytest.mark.only_on("5.10")

Json = dict[str, Any]
ACTS = ("alone", "nested", "many", "late", "again")
_SAY = f"{SHARE}/workload/auditsay"
PAM = 'op=PAM:authentication grantors=pam_permit acct="root" exe="/bin/su" hostname=? addr=? terminal=? res=success'
HOSTILE = "acct=%22x%22 %FF%00%0Atype=USER_LOGIN msg=audit(1.000:1): uid=0 res=success%1B[2J"
HOSTILE_BYTES = b'acct="x" \xff\x00\ntype=USER_LOGIN msg=audit(1.000:1): uid=0 res=success\x1b[2J'
CONNECTION_REFUSED = 111
EACH, SENT = 20, 2000
"""bpf/refused.bpf.c, REFUSED_EACH; and what is sent against it."""


def said(event: Json) -> dict[str, str]:
    """What a leaf said of itself; empty for an event of something else."""
    for record in event["records"]:
        arguments = record["fields"].get("ARGV", []) if record["type"] == "EXECVE" else []
        if arguments[:1] == ["inside-leaf"] or "tag=" in "".join(arguments[1:2])[:4]:
            return dict(word.split("=", 1) for word in arguments[1:])
    return {}


def wrong(event: Json, truth: dict[str, str]) -> list[str]:
    """In what the event differs from what the process read of itself."""
    inside = event["subject"].get("inside")
    if inside is None:
        return [f"{truth['tag']}: nothing is said"]
    found = [
        f"{truth['tag']} {name}: {inside.get(name, '-')} for {truth[name]}"
        for name in ("uid", "gid", "euid", "suid", "fsuid", "egid", "sgid", "fsgid")
        if name in truth and str(inside.get(name, "-")) != truth[name]
    ]
    chain = ",".join(str(entry["ino"]) for entry in inside["user_ns"])
    if "user" in truth and chain != truth["user"]:
        found.append(f"{truth['tag']} chain: {chain} for {truth['user']}")
    if [entry["host"] for entry in inside["user_ns"]] != [False] * (len(inside["user_ns"]) - 1) + [True]:
        found.append(f"{truth['tag']} chain: {inside['user_ns']}")
    return found


@pytest.fixture
def yard(guest: Guest) -> Iterator[Yard]:
    made = Yard(guest)
    yield made
    guest.run(["sh", "-c", f"pkill -f {BOX}; rm -rf /srv/yard/users*; true"], timeout=60)
    # The user's own manager and what podman keeps for him stay for a while, and others look at who is there.
    gone = "while pkill -KILL -u tester; do sleep 0.1; done"
    guest.run(["sh", "-c", gone], timeout=60, check=True)


@again_where_skipped
def test_numbers_inside_of_user_namespaces(guest: Guest, rules: Rules) -> None:
    """Mapped by hand: three deep, with hundreds of extents, late, and in numbers that were another's."""
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    with Live(guest) as live:
        for act in ACTS:
            guest.run(["python3", f"{SHARE}/guest/inside.py", act, act], timeout=120, check=True)
        live.stop()
    leaves = [(event, truth) for event in live.events() if (truth := said(event))]
    tags = [truth["tag"] for _, truth in leaves]
    assert tags == [
        "alone",
        *(f"nested.{level}" for level in (1, 2, 3)),
        *(f"many.{uid}" for uid in (0, 340, 678)),
        *(f"late.{step}" for step in ("none", "uid", "both")),
        *(f"again.{number}" for number in range(40)),
    ]
    assert [line for event, truth in leaves for line in wrong(event, truth)] == []
    by_tag = {truth["tag"]: (event, truth) for event, truth in leaves}
    # What the processes said is worth something: these are what the maps make of it.
    event, truth = by_tag["nested.3"]
    assert (truth["uid"], truth["euid"], event["subject"]["uid"]) == ("7", "8", 101502)
    assert len(event["subject"]["inside"]["user_ns"]) == 4
    assert [by_tag[f"late.{step}"][1]["uid"] for step in ("none", "uid", "both")] == ["-", "3", "3"]
    assert by_tag["many.678"][0]["subject"]["uid"] == 1000 + 3 * 339
    inums = [truth["user"] for tag, (_, truth) in by_tag.items() if tag.startswith("again.")]
    assert len(set(inums)) < len(inums), "no number was given again"
    host = [event for event in live.events() if not said(event) and event["where"] == "host"]
    assert [
        event for event in host if event["namespaces"]["user"]["host"] and "inside" in event["subject"]
    ] == []


@again_where_skipped
def test_a_rootless_container(guest: Guest, rules: Rules, yard: Yard) -> None:
    """Podman's own map, by newuidmap; and a login inside that audit never hears of.

    With this capability, as sshd wants it: without it the runtime's filter lets nobody have the socket.
    """
    podman = Rootless("--cap-add", "AUDIT_WRITE")
    podman.prepare(yard)
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    guest.run(
        ["rm", "-f", "/srv/yard/users-0.in", "/srv/yard/users-0.out"], check=True
    )  # of an attempt before
    yard.fifos(["users-0"])
    guest.put("/srv/yard/users-leaf.sh", b'exec /bin/true "tag=$1" "uid=$(id -u)" "gid=$(id -g)"\n', 0o644)
    say = f"test $(/w/auditsay 1100 {shlex.quote(PAM)}) = {CONNECTION_REFUSED}\n"
    guest.put("/srv/yard/users-say.sh", say.encode(), 0o644)
    with Live(guest) as live:
        (box,) = podman.boxes(yard, ["users-0"])
        try:
            leaf = ("sh", "/yard/users-leaf.sh")
            podman.enter(yard, box, *leaf, "podman.root")
            podman._podman(yard, "exec", "--user", "5:6", box.name, *leaf, "podman.five")
            map_ = guest.run(["cat", f"/proc/{yard.pid(box)}/uid_map"], check=True).stdout.decode().split()
            podman.enter(yard, box, "sh", "/yard/users-say.sh")
            live.stop()
        finally:
            podman.remove(yard, [box])
    events = live.events()
    leaves = {truth["tag"]: (event, truth) for event in events if (truth := said(event))}
    assert set(leaves) == {"podman.root", "podman.five"}
    assert [line for event, truth in leaves.values() for line in wrong(event, truth)] == []
    subject = leaves["podman.five"][0]["subject"]
    assert (subject["inside"]["uid"], subject["uid"]) == (5, int(map_[4]) + 5 - int(map_[3]))
    assert subject["inside"]["owner"] == {"uid": 1000, "gid": 1000}
    (refused,) = [event for event in events if event["type"] == "USER_REFUSED"]
    assert refused["refused"] == {"type": "USER_AUTH", "text": PAM, "length": len(PAM) + 1}
    assert (refused["where"], refused["container"]["id"]) == ("container", box.id)
    assert (refused["subject"]["comm"], refused["subject"]["uid"]) == ("auditsay", 1000)
    assert refused["subject"]["inside"]["uid"] == 0


@again_where_skipped
def test_refused_messages(guest: Guest, rules: Rules) -> None:
    """Debian's own su without a container; what is no text; and more of it than anybody wants to hear."""
    rules.clear()
    user = ["runuser", "-u", "tester", "--", "unshare", "-Ur"]
    with Live(guest) as live:
        guest.run([*user, "su", "-c", "true"], timeout=60)
        answer = guest.run([*user, _SAY, "1112", HOSTILE], check=True).stdout
        assert answer == b"%d\n" % CONNECTION_REFUSED
        guest.run([*user, _SAY, "1000", "x"], check=True)
        flood = shlex.join(["unshare", "-Ur", _SAY, "2110", "flood", str(SENT)])
        beside = shlex.join(["unshare", "-Ur", _SAY, "1105", "beside"])
        both = f"{flood} & {beside}; {beside}; wait"
        guest.run(["runuser", "-u", "tester", "--", "sh", "-c", both], timeout=60, check=True)
        # What the kernel takes is a record, and nothing is refused.
        guest.run([_SAY, "1104", "taken"], check=True)
        live.stop()
    events = [event for event in live.events() if event["type"] == "USER_REFUSED"]
    su = [event for event in events if event["subject"]["comm"] == "su"]
    assert su, live.said
    assert all('exe="/usr/bin/su"' in event["refused"]["text"] for event in su)
    (hostile,) = [event for event in events if event["refused"]["type"] == "USER_LOGIN"]
    assert hostile["refused"]["text_hex"] == HOSTILE_BYTES.hex().upper()
    (command,) = [event for event in events if event["refused"]["type"] == "GET"]
    assert (command["refused"]["text"], command["refused"]["length"]) == ("", 2)
    told = [event for event in events if event["refused"]["text"] == "flood"]
    assert EACH <= len(told) < SENT / 2
    assert [event for event in live.events() if event.get("notice", {}).get("kind") == "limited"], live.said
    beside_it = [event["refused"]["type"] for event in events if event["refused"]["text"] == "beside"]
    assert beside_it == ["USER_START", "USER_START"]
    assert [event for event in events if event["refused"]["text"] == "taken"] == []
    assert {event["where"] for event in events} <= {"host", "unknown"}
