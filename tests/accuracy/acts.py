# SPDX-License-Identifier: Apache-2.0
"""The acts where guessing fails: entered, unshared, orphaned, moved, removed, recycled.

Owns what each does and what its events must say. Never knows how a runtime starts a container.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.accuracy.yard import AGENT_UNIT, TRUTH, WORKLOAD, YARD, Box, Yard
from tests.suites.staging import SHARE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.accuracy.runtimes import Runtime

_HOST_TRUTH = f"{WORKLOAD}/truth"
_MOVE = ("python3", f"{SHARE}/guest/move.py")
PID_ROUNDS = 8
INUM_ROUNDS = 8


def on_the_host(yard: Yard, count: int) -> None:
    """Plain processes, a service, a session of systemd's own making, and a task whose parent is gone."""
    yard.run(_HOST_TRUTH, str(count), yard.expect("host", "loop", count, unit=AGENT_UNIT))
    tag = yard.expect("host", "service", count, unit="yard-unit.service")
    yard.run("systemd-run", "--wait", "--quiet", "--unit=yard-unit", _HOST_TRUTH, str(count), tag)
    tag = yard.expect("host", "scope", count)
    yard.run("systemd-run", "--scope", "--quiet", _HOST_TRUTH, str(count), tag)
    yard.run(f"{WORKLOAD}/nsmake", "unshare", "mnt,net,uts", "--", _HOST_TRUTH, str(count),
             yard.expect("host", "unshare", count, unit=AGENT_UNIT))  # fmt: skip
    yard.fifos(["host"])
    tag = yard.expect("host", "orphan", count, unit=AGENT_UNIT)
    yard.sh(f"{_orphan('host', _HOST_TRUTH, count, tag)}")
    _release(yard, ["host"])


def _orphan(name: str, truth: str, count: int, tag: str) -> str:
    """A shell command that ends at once and leaves a child; the child starts when it is told, by then alone."""
    there = YARD if name == "host" else "/yard"
    inner = f"(read -r go <{there}/{name}.in; {truth} {count} {tag}; echo $? >{there}/{name}.out)"
    return f"sh -c '{inner} </dev/null >/dev/null 2>&1 &'"


def _release(yard: Yard, names: Sequence[str]) -> None:
    for name in names:
        said = yard.sh(f"echo go >{YARD}/{name}.in; read -r said <{YARD}/{name}.out; echo $said", timeout=60)
        assert said.split() == ["0"], (name, said)


def orphans(yard: Yard, boxes: Sequence[Box], count: int) -> None:
    """Inside: the parent has ended before the loop begins."""
    names = [f"{box.name}-orphan" for box in boxes]
    yard.fifos(names)
    told = {}
    for box, name in zip(boxes, names, strict=True):
        told[box.name] = _orphan(name, TRUTH, count, yard.expect(box.row, "orphan", count, box))
    yard.tell(told)
    _release(yard, names)


def unshared(yard: Yard, boxes: Sequence[Box], count: int) -> None:
    """Inside: new namespaces, made by the container's own process."""
    told = {}
    for box in boxes:
        tag = yard.expect(box.row, "unshare", count, box)
        told[box.name] = f"/w/nsmake unshare mnt,uts,ipc -- {TRUTH} {count} {tag}"
    yard.tell(told)


def entered(yard: Yard, runtime: Runtime, boxes: Sequence[Box], count: int) -> None:
    """From outside, by the runtime's own exec."""
    for box in boxes:
        tag = yard.expect(box.row, "exec", count, box)
        runtime.enter(yard, box, TRUTH, str(count), tag)


def nsentered(yard: Yard, boxes: Sequence[Box], count: int) -> None:
    """From the host, by nsenter: the namespaces are the container's, the cgroup is not, and so it is the host."""
    for box in boxes:
        tag = yard.expect(box.row, "nsenter from the host", count, unit=AGENT_UNIT)
        yard.run("nsenter", "-t", yard.pid(box), "-m", "-n", "-p", TRUTH, str(count), tag)


def moved(yard: Yard, first: Box, second: Box, count: int) -> None:
    """A container's first process, and one of the host's, in another container's cgroup and back again."""
    # systemd ends a scope with its last process: one stays behind.
    yard.tell({first.name: "sleep 100000 >/dev/null 2>&1 &"})
    pid = yard.pid(first)
    for name, task in (("first", pid), ("second", yard.pid(second)), ("own", "self")):
        yard.sh(f"cat /proc/{task}/cgroup >/run/yard-{name}")
    loop = (first.name, count)
    _told(yard, *loop, yard.expect(first.row, "before a move", count, first))
    yard.run(*_MOVE, pid, "/run/yard-second")
    _told(yard, *loop, yard.expect(first.row, "moved to another", count, second))
    yard.run(*_MOVE, pid, "/run/yard-first")
    _told(yard, *loop, yard.expect(first.row, "moved back", count, first))
    # It writes itself there, in the middle of its own life.
    before, there, back = (
        yard.expect("host", "before a move", count, unit=AGENT_UNIT),
        yard.expect("host", "moved to a container", count, second),
        yard.expect("host", "moved back", count, unit=AGENT_UNIT),
    )
    run = f"{_HOST_TRUTH} {count}"
    move = " ".join(_MOVE)
    yard.sh(
        f"{run} {before}; {move} $$ /run/yard-second; {run} {there}; {move} $$ /run/yard-own; {run} {back}"
    )


def _told(yard: Yard, name: str, count: int, tag: str) -> None:
    yard.tell({name: f"{TRUTH} {count} {tag}"})


@contextmanager
def _stopped(yard: Yard, pids: Sequence[int]) -> Iterator[None]:
    """Hold programs still, so that what happens meanwhile is over before they read of it."""
    for pid in pids:
        yard.run("kill", "-STOP", str(pid))
    try:
        yield
    finally:
        for pid in pids:
            yard.run("kill", "-CONT", str(pid))


def removed_in_flight(yard: Yard, runtime: Runtime, box: Box, count: int, readers: Sequence[int]) -> None:
    """A container that is gone, with its cgroup, before any reader has read a record of it."""
    with _stopped(yard, readers):
        yard.loop([box], "removed in flight", count)
        runtime.remove(yard, [box])
        yard.sh(
            'until ! pgrep -xf "$1" >/dev/null; do :; done', f"/bin/sh /yard/box.sh {box.name}", timeout=60
        )


def same_inums(yard: Yard, count: int) -> tuple[int, int]:
    """Run containers one after another, until one has an inum that one before it had.

    Returns how many that took, and how many of the last one's inums were used before.
    """
    seen: set[str] = set()
    script = f'{TRUTH} {count} "$1"; for kind in mnt uts ipc net pid; do readlink /proc/self/ns/$kind; done'
    for number in range(1, INUM_ROUNDS + 1):
        name = f"inums-{number}"
        create = ("podman", "create", "--name", name, "-v", f"{WORKLOAD}:/w:ro", "localhost/busybox")
        # The id is known before anything of it runs.
        with_tag = ("sh", "-c", script, "sh")
        tag = f"podman:reused-inum:{name}"
        ident = yard.run(*create, *with_tag, tag).split()[-1]
        box = Box("podman", name, "podman", ident)
        made = yard.expect("podman", "reused inum", count, box)
        yard.expected[tag] = yard.expected.pop(made)
        links = set(yard.run("podman", "start", "--attach", name).split())
        yard.run("podman", "rm", "-f", name)
        # The kinds are apart: a number may be of another kind's next.
        inums = {link.partition("[")[2] for link in links}
        if inums & seen:
            return number, len(inums & seen)
        seen |= inums
    return INUM_ROUNDS, 0


def few_pids(yard: Yard, boxes: Sequence[Box], count: int) -> list[list[str]]:
    """Two containers at a time use up the pids there are, several times over; returns the tags of each box."""
    tasks = int(yard.sh("ls -d /proc/[0-9]*/task/* | wc -l"))
    before = yard.sh("cat /proc/sys/kernel/pid_max").strip()
    yard.sh('echo "$1" >/proc/sys/kernel/pid_max', str(301 + tasks + 200))
    tags: list[list[str]] = [[] for _ in boxes]
    try:
        for _ in range(PID_ROUNDS):
            for mine, tag in zip(tags, yard.loop(boxes, "reused pid", count), strict=True):
                mine.append(tag)
    finally:
        yard.sh('echo "$1" >/proc/sys/kernel/pid_max', before)
    return tags
