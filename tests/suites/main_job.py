# SPDX-License-Identifier: Apache-2.0
"""The main job's workload: everything one run of the program must get right on one kernel.

Owns the order of the acts and what each leaves behind. Never asserts: tests/suites/test_main_job.py
looks at one `Job` per kernel from many sides.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from enricher.correlate.join import BEFORE_START
from tests.suites.live import Account, Json, Live, Truth, truth_of
from tests.suites.staging import SHARE

if TYPE_CHECKING:
    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

KINDS_TO_MAKE = ("mnt", "uts", "ipc", "net", "pid", "user", "cgroup", "time")
BURST_TASKS = 4
BURST_EACH, BURST_EACH_FULL = 250, 1000
WITHOUT_EOE = 200
TRUTH = f"{SHARE}/workload/truth"
IMAGE = "localhost/busybox:latest"
_PROVOKE = ("python3", f"{SHARE}/guest/provoke.py")
_TEARDOWN_LIMIT = 80.0


class Job(NamedTuple):
    """One finished run. ``truths`` pairs each workload exec's event with what the process said of itself."""

    version: str
    hook: str
    said: str
    account: Account
    events: list[Json]
    truths: list[tuple[Json, Truth]]
    bursts: int  # execs of the bursts, by all tasks
    uring: tuple[int, int]  # exit statuses of the inline operation and of the worker's
    audits_uring: bool
    output: bytes
    capture: bytes
    containers: dict[str, tuple[str, str]]  # by the workload's tag: the engine, and the container's id

    def tagged(self, tag: str) -> list[tuple[Json, Truth]]:
        return [pair for pair in self.truths if pair[1].tag == tag]

    def of_type(self, name: str) -> list[Json]:
        """Events of the run that have such a record; what was finished before the programs is not of the run."""
        return [
            event
            for event in self.events
            if any(record["type"] == name for record in event["records"])
            and BEFORE_START not in event["enrichment"].get("reason", "")
        ]


def perform(guest: Guest, rules: Rules, *options: str, each: int = BURST_EACH) -> Job:
    """Run the program over all acts and return what it wrote; `each` execs by each task of the bursts."""
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    audits_uring = guest.run(["grep", "-q", " __audit_uring_exit$", "/proc/kallsyms"]).returncode == 0
    if audits_uring:
        guest.run([*_PROVOKE, "uring-rule", "add"], check=True)
    with Live(guest, "--raw", *options, capture=True) as live:
        _bursts(guest, each)
        _new_namespaces(guest)
        ids = _containers(guest)
        _records_of_user_space(guest)
        _orphan(guest, rules)
        uring = guest.run([f"{SHARE}/workload/uring", "inline"]).returncode
        worker = guest.run([f"{SHARE}/workload/uring", "iowq"]).returncode
        _kernel_thread(guest, live)
        rules.add("-a", "always,exclude", "-F", "msgtype=EOE")
        guest.run([TRUTH, str(WITHOUT_EOE), "without-eoe"], check=True)
        account = live.stop()
        events = live.events()
    if audits_uring:
        guest.run([*_PROVOKE, "uring-rule", "delete"], check=True)
    pairs = [(event, truth) for event in events if (truth := truth_of(event))]
    return Job(
        guest.version,
        live.hook,
        live.said,
        account,
        events,
        pairs,
        BURST_TASKS * each,
        (uring, worker),
        audits_uring,
        live.output(),
        guest.get(live.capture),
        ids,
    )


def _bursts(guest: Guest, each: int) -> None:
    guest.run([TRUTH, "-j", str(BURST_TASKS), str(each), "burst"], timeout=240, check=True)


def _new_namespaces(guest: Guest) -> None:
    for call in ("unshare", "clone3"):
        for kind in KINDS_TO_MAKE:
            guest.run(
                [f"{SHARE}/workload/nsmake", call, kind, "--", TRUTH, "1", f"{call}-{kind}"], check=True
            )
    # Three pid namespaces deep, below the initial one: four levels in all, as many as the short message holds;
    # and one more, which takes the long one.
    nest = [f"{SHARE}/workload/nsmake", "clone3", "pid", "--"]
    guest.run([*nest * 3, TRUTH, "1", "deep-4"], check=True)
    guest.run([*nest * 7, TRUTH, "1", "deep-8"], check=True)


def _containers(guest: Guest) -> dict[str, tuple[str, str]]:
    """Run what the workload does in containers; returns by its tag in which engine's, and the container's id."""
    ids: dict[str, tuple[str, str]] = {}
    # Other suites have stopped it, so that nothing of Docker runs beside what they measure.
    guest.run(["systemctl", "start", "docker.socket"], timeout=60, check=True)
    guest.run(["guest-images", "podman", "docker"], timeout=120, check=True)
    mount = ("-v", f"{SHARE}/workload:/w:ro")
    for engine in ("podman", "docker"):
        name = f"{engine}-box"
        guest.run(
            [engine, "run", "-d", "--name", name, *mount, IMAGE, "sleep", "100000"], timeout=120, check=True
        )
        note = f"/run/{engine}-id"
        guest.run(
            [engine, "run", "--rm", "--cidfile", note, *mount, IMAGE, "/w/truth", "5", engine],
            timeout=120,
            check=True,
        )
        ids[engine] = (engine, guest.get(note).decode().strip())
        guest.run(["rm", note], check=True)
        guest.run([engine, "exec", name, "/w/truth", "5", f"{engine}-exec"], timeout=60, check=True)
        told = guest.run(
            [engine, "inspect", "--format", "{{.State.Pid}} {{.Id}}", name], timeout=60, check=True
        )
        pid, ident = told.stdout.split()
        ids[f"{engine}-exec"] = (engine, ident.decode())
        guest.run(
            ["nsenter", "-t", pid.decode(), "-m", "-n", "-p", "/w/truth", "2", f"{engine}-nsenter"],
            check=True,
        )
        guest.run([engine, "rm", "-f", name], timeout=120, check=True)
    return ids


def _records_of_user_space(guest: Guest) -> None:
    guest.run(["auditctl", "-m", "a message of ours"], check=True)
    guest.run([*_PROVOKE, "user", "1112", "op=login acct=nobody res=success"], check=True)
    guest.run([*_PROVOKE, "user", "1107", "avc: nothing was denied"], check=True)
    guest.run([*_PROVOKE, "listener"], check=True)
    guest.run(["sh", "-c", "echo 1000 >/proc/self/loginuid"], check=True)


def _orphan(guest: Guest, rules: Rules) -> None:
    """A `never` rule drops the SYSCALL record of auditctl's sendto: its CONFIG_CHANGE is all that is left."""
    rules.add("-a", "never,exit", "-F", "arch=b64", "-S", "sendto")
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "swapoff", "-k", "orphan")
    guest.run(["auditctl", "-d", "never,exit", "-F", "arch=b64", "-S", "sendto"], check=True)


def _kernel_thread(guest: Guest, live: Live) -> None:
    """The tables of a dying net namespace are unregistered by a kernel thread, at its leisure."""
    guest.run(["ip", "netns", "add", "dying"], check=True)
    guest.run(["ip", "netns", "exec", "dying", "iptables-legacy", "-L"], check=True)
    guest.run(["ip", "netns", "del", "dying"], check=True)
    deadline = time.monotonic() + _TEARDOWN_LIMIT
    while b"unregister pid=" not in live.output() and time.monotonic() < deadline:
        guest.run(["true"])  # the poll's pace: a round trip to the guest
