# SPDX-License-Identifier: Apache-2.0
"""Namespaces as they live, against ground truth.

What a task left and entered, which life a number is of, who was aimed at, whose namespaces a task has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from enricher.model import KINDS
from tests.suites.live import Live, again_where_skipped, own, skipped, truth_of
from tests.suites.staging import SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.suites.live import Json
    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

pytestmark = pytest.mark.only_on("newest")

TRUTH = f"{SHARE}/workload/truth"
NSMAKE = f"{SHARE}/workload/nsmake"
NSSWAP = f"{SHARE}/workload/nsswap"
IMAGE = "localhost/busybox:latest"
KINDS_TO_MAKE = ("mnt", "uts", "ipc", "net", "pid", "user", "cgroup", "time")


def initial_of(guest: Guest) -> dict[str, int]:
    """The numbers of the initial namespaces, as /proc/1 shows them."""
    script = 'for kind in "$@"; do readlink /proc/1/ns/$kind; done'
    said = guest.run(["sh", "-c", script, "sh", *KINDS], check=True).stdout.decode().split()
    return {kind: int(link.partition("[")[2].rstrip("]")) for kind, link in zip(KINDS, said, strict=True)}


@pytest.fixture(scope="module")
def box(guest: Guest) -> Iterator[tuple[str, str]]:
    """A container of podman's that was there before the program: its id, and the pid of its first process."""
    guest.run(["guest-images", "podman"], timeout=120, check=True)
    mount = ("-v", f"{SHARE}/workload:/w:ro")
    run = ("podman", "run", "-d", "--name", "changes", "--net", "none", *mount, IMAGE, "sleep", "100000")
    ident = guest.run(list(run), timeout=120, check=True).stdout.decode().split()[-1]
    pid = guest.run(["podman", "inspect", "--format", "{{.State.Pid}}", "changes"], timeout=60, check=True)
    yield ident, pid.stdout.decode().strip()
    guest.run(["podman", "rm", "-f", "-t", "0", "changes"], timeout=120, check=True)


@again_where_skipped
def test_every_kind_by_every_call(guest: Guest, rules: Rules) -> None:
    """The record's own event says what was left and what was entered; the exec behind it in its argv where it is."""
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "unshare,setns,clone,clone3,execve", "-k", "calls")
    initial = initial_of(guest)
    with Live(guest, "--key", "calls") as live:
        for kind in KINDS_TO_MAKE:
            for call in ("unshare", "clone3"):
                guest.run([NSMAKE, call, kind, "--", TRUTH, "1", f"{call}-{kind}"])
        guest.run([NSMAKE, "unshare", "mnt,uts,ipc,net,pid", "--", TRUTH, "1", "unshare-five"])
        account = live.stop()
        events = live.events()
    assert account.balanced, live.said
    truths = {truth.tag: (event, truth) for event in events if (truth := truth_of(event)) is not None}
    assert len(truths) == 2 * len(KINDS_TO_MAKE) + 1
    subjects = [event["subject"] for event in events if event["type"] == "SYSCALL"]
    parents = {subject["pid"]: subject["ppid"] for subject in subjects}
    changes: dict[int, list[Json]] = {}
    for event in events:
        if "change" in event.get("namespaces", {}):
            changes.setdefault(event["subject"]["pid"], []).append(event["namespaces"]["change"])
    wrong = []
    for tag, (event, truth) in truths.items():
        kinds = KINDS_TO_MAKE[:5] if tag == "unshare-five" else (tag.partition("-")[2],)
        # The leaf is a child of the program that nsmake became, or made.
        program = event["subject"]["ppid"]
        told = changes.get(program, []) + changes.get(parents[program], [])
        for kind in kinds:
            steps = [change[kind] for change in told if kind in change]
            found = [(step["from"]["ino"], step["to"]["ino"], step.get("host")) for step in steps]
            if found != [(initial[kind], truth.inums[kind], "left")]:
                wrong.append(f"{tag} {kind}: {steps} for {initial[kind]} to {truth.inums[kind]}")
    assert wrong == []


@again_where_skipped
def test_what_no_rule_asked_for(guest: Guest, box: tuple[str, str]) -> None:
    """By default: entries into a container and into the host, and whatever a container does itself."""
    ident, pid = box
    with Live(guest, "--ns-changes", "containers") as live:
        guest.run(["nsenter", "-t", pid, "-m", "-u", "-n", "/w/truth", "1", "entered"], check=True)
        made = ("/w/nsmake", "unshare", "uts,ipc", "--", "/w/truth", "1", "in")
        guest.run(["podman", "exec", "--privileged", "changes", *made], timeout=60, check=True)
        guest.run(["nsenter", "-t", pid, "-n", "nsenter", "-t", "1", "-n", TRUTH, "1", "back"], check=True)
        guest.run([NSMAKE, "unshare", "uts", "--", TRUTH, "1", "of-the-host"], check=True)
        account = live.stop()
        events = live.events()
    assert account.balanced, live.said
    changes = [(event, event["namespaces"]["change"]) for event in own(events, "NS_CHANGE")]
    entered = [
        event
        for event, change in changes
        if change["op"] == "setns" and event["subject"]["comm"] == "nsenter"
    ]
    assert any(
        event["where"] == "host" and event["namespaces"]["change"]["net"]["host"] == "left"
        for event in entered
    )
    assert any(event["namespaces"]["change"].get("net", {}).get("host") == "entered" for event in entered)
    inside = [event for event, change in changes if change["op"] == "unshare"]
    assert [event["container"]["id"] for event in inside] == [ident]
    assert set(inside[0]["namespaces"]["change"]) == {"op", "uts", "ipc"}
    # Whose own namespaces a host's process makes nobody has to be told.
    outside = [event["subject"].get("comm") for event, _ in changes if event["where"] == "host"]
    assert "nsmake" not in outside


@again_where_skipped
def test_who_is_aimed_at(guest: Guest, rules: Rules, box: tuple[str, str]) -> None:
    ident, pid = box
    rules.add(
        "-a",
        "always,exit",
        "-F",
        "arch=b64",
        "-S",
        "kill,tgkill,ptrace,pidfd_send_signal,pidfd_open,pidfd_getfd,waitid",
        "-k",
        "aim",
    )
    script = (
        "import ctypes, os, signal, sys, time\n"
        "pid = int(sys.argv[1]); libc = ctypes.CDLL(None, use_errno=True)\n"
        "os.kill(pid, 0)\n"
        "assert libc.ptrace(0x4206, ctypes.c_long(pid), None, None) == 0, ctypes.get_errno()\n"
        "assert libc.syscall(234, pid, pid, 0) == 0\n"
        "fd = os.pidfd_open(pid)\n"
        "signal.pidfd_send_signal(fd, 0)\n"
        "assert libc.syscall(438, fd, 0, 0) > 0, ctypes.get_errno()\n"  # pidfd_getfd
        "try: os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG)\n"  # it is traced, hence would be waited for
        "except ChildProcessError: pass\n"
    )
    namespaces = {
        kind: int(
            guest.run(["readlink", f"/proc/{pid}/ns/{kind}"], check=True)
            .stdout.decode()
            .split("[")[1]
            .rstrip("]\n")
        )
        for kind in ("mnt", "pid", "net", "user")
    }
    with Live(guest, "--key", "aim") as live:
        guest.run(["python3", "-c", script, pid], check=True)
        guest.run(["podman", "exec", "changes", "sh", "-c", "kill -0 1; kill -0 $$"], timeout=60, check=True)
        account = live.stop()
        events = live.events()
    assert account.balanced, live.said
    events = [event for event in events if event["records"]]  # what the kernel skipped is told by one without
    (aiming,) = {
        event["subject"]["pid"] for event in events if event["records"][0]["fields"]["SYSCALL"] == "ptrace"
    }
    outside = [event for event in events if event["subject"]["pid"] == aiming]
    calls = [record["fields"]["SYSCALL"] for event in outside for record in event["records"][:1]]
    assert calls == ["kill", "ptrace", "tgkill", "pidfd_open", "pidfd_send_signal", "pidfd_getfd", "waitid"]
    for event in outside:
        (target,) = event["targets"]
        assert target["pid"] == int(pid)
        assert target["container"]["id"] == ident
        assert [level["pid"] for level in target["pids"]] == [int(pid), 1]
        assert {kind: target["namespaces"][kind]["ino"] for kind in namespaces} == namespaces
    inside = [
        event
        for event in events
        if event.get("container", {}).get("id") == ident
        and event["records"][0]["fields"].get("SYSCALL") == "kill"  # what starts it there waits for its own
    ]
    first, itself = inside[:2]
    assert [level["pid"] for level in first["targets"][0]["pids"]] == [int(pid), 1]
    assert itself["targets"][0]["pids"] == itself["subject"]["pids"]
    # kill's argument is what the caller's pid namespace calls the target.
    for event in (first, itself):
        argument = int(event["records"][0]["fields"]["a0"], 16)
        assert event["targets"][0]["pids"][-1]["pid"] == argument


AIMED = 400
"""Signals to a task whose namespaces are exchanged meanwhile."""


def test_a_target_whose_namespaces_are_exchanged(
    guest: Guest, rules: Rules, record_property: Callable[[str, object], None]
) -> None:
    """It has those of the one or of the other, all of them; a reading that cannot know says nothing of them."""
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "kill", "-k", "swap")
    kinds = ("uts", "ipc", "net")
    script = "for at in 1 2; do $0 unshare uts,ipc,net -- /bin/sleep 600 >/dev/null 2>&1 </dev/null & echo $!; done"
    holders = guest.run(["sh", "-c", script, NSMAKE], check=True).stdout.decode().split()
    there = "for pid; do until [ /proc/$pid/exe -ef /bin/sleep ]; do :; done; done"
    guest.run(["sh", "-c", there, "sh", *holders], timeout=60, check=True)
    script = "for kind in uts ipc net; do readlink /proc/$0/ns/$kind; done"
    right = set()
    for pid in holders:
        links = guest.run(["sh", "-c", script, pid], check=True).stdout.decode().split()
        right.add(tuple(int(link.partition("[")[2].rstrip("]")) for link in links))
    assert len(right) == 2
    try:
        with Live(guest, "--key", "swap") as live:
            child = int(guest.run([NSSWAP, *holders, str(AIMED)], timeout=120, check=True).stdout)
            account = live.stop()
            events = live.events()
    finally:
        guest.run(["kill", *holders])
    assert account.balanced, live.said
    targets = [target for event in events for target in event.get("targets", []) if target["pid"] == child]
    assert AIMED + 1 - skipped(events) <= len(targets) <= AIMED + 1
    told = [tuple(target["namespaces"].get(kind, {}).get("ino") for kind in kinds) for target in targets]
    known = [each for each in told if each != (None, None, None)]
    initial = initial_of(guest)
    right.add(tuple(initial[kind] for kind in kinds))  # before its first call
    wrong = [each for each in known if each not in right]
    record_property("swapped", f"{len(told)} targets, {len(known)} with their namespaces, {len(wrong)} wrong")
    assert not wrong
    assert known


@pytest.mark.usefixtures("box")
@again_where_skipped
def test_the_child_by_both_numbers(guest: Guest, rules: Rules) -> None:
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "clone,clone3,vfork,fork,execve", "-k", "made")
    with Live(guest, "--key", "made") as live:
        guest.run(["podman", "exec", "changes", "/w/truth", "5", "child"], timeout=60, check=True)
        live.stop()
        events = live.events()
    leaves = {
        event["subject"]["pid"]: event["subject"]["pids"]
        for event in events
        if (truth := truth_of(event)) is not None and truth.tag == "child"
    }
    assert len(leaves) == 5
    children = {
        event["child"]["pid"]: event
        for event in events
        if event.get("child") and event["child"]["pid"] in leaves
    }
    assert set(children) == set(leaves)
    for pid, event in children.items():
        exit_value = event["records"][0]["fields"]["exit"]
        assert event["child"]["pids"][-1]["pid"] == exit_value == leaves[pid][-1]["pid"]
        assert exit_value != pid


@again_where_skipped
def test_whose_namespaces_a_task_has(guest: Guest, rules: Rules) -> None:
    """Nsenter from the host into a container that was started while we looked."""
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    with Live(guest, "--key", "exec") as live:
        run = (
            "podman",
            "run",
            "-d",
            "--name",
            "whose",
            "--net",
            "none",
            "-v",
            f"{SHARE}/workload:/w:ro",
            IMAGE,
        )
        ident = guest.run([*run, "sleep", "600"], timeout=120, check=True).stdout.decode().split()[-1]
        told = guest.run(["podman", "inspect", "--format", "{{.State.Pid}}", "whose"], timeout=60, check=True)
        pid = told.stdout.decode().strip()
        guest.run(["podman", "exec", "whose", "/w/truth", "1", "inside"], timeout=60, check=True)
        guest.run(["nsenter", "-t", pid, "-n", TRUTH, "1", "net"], check=True)
        guest.run(["nsenter", "-t", pid, "-m", "-p", "-n", "/w/truth", "1", "three"], check=True)
        guest.run(["podman", "rm", "-f", "-t", "0", "whose"], timeout=120, check=True)
        live.stop()
        events = live.events()
    found = {truth.tag: event for event in events if (truth := truth_of(event)) is not None}
    assert found["inside"]["where"] == "container"
    assert "of" not in found["inside"]["namespaces"]
    assert [(of["id"], of["kinds"]) for of in found["net"]["namespaces"]["of"]] == [(ident, ["net"])]
    assert [(of["id"], of["kinds"]) for of in found["three"]["namespaces"]["of"]] == [
        (ident, ["mnt", "net", "pid"])
    ]
    assert found["net"]["where"] == found["three"]["where"] == "host"
