# SPDX-License-Identifier: Apache-2.0
"""One boot's whole comparison: every runtime, every act, all programs reading at once.

Owns the order and the sizes. Never decides what is right: the expectations come from the acts, the verdicts from
`score`.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from tests.accuracy import acts, runtimes
from tests.accuracy.answers import LEAF, of_laurel, of_ours
from tests.accuracy.rivals import Rivals
from tests.accuracy.score import Score, score
from tests.accuracy.yard import TRUTH, WORKLOAD, Box, Yard
from tests.suites.live import Account, Live, truth_of
from tests.suites.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.accuracy.runtimes import Runtime
    from tests.suites.live import Json
    from tests.vm.guest import Guest

OURS = "audit-enricher"
_MARKER = "the-end-of-it-all"
_ASKED_AT_MOST = 60


class Size(NamedTuple):
    """How much."""

    boxes: int
    """Containers of each runtime."""
    loop: int
    """Commands of a millisecond in each."""
    act: int
    """Commands in each of the other acts."""
    every_act: bool
    """Also those that take long: recycled inums and pids."""
    when_known: bool
    """Begin with a container whose cgroup's path does not name it when the state that its runtime writes was read: what
    it does before is unknown where the machine is slow, and how much of it that is, is not for `make test`.
    """


FULL = Size(5, 200, 20, every_act=True, when_known=False)
REDUCED = Size(1, 20, 5, every_act=False, when_known=True)


class Outcome(NamedTuple):
    """One boot's comparison."""

    release: str
    scores: dict[str, Score]
    """By program, ours first."""
    account: Account
    said: str
    figures: dict[str, str]
    skipped: dict[str, str]
    """Rows that could not be had here, and why."""


def full_runtimes() -> list[Runtime]:
    """All that Debian 12's release has."""
    host = ("--pid", "host")
    network = ("--net", "host")
    return [
        # containerd is started anew for CRI: before Docker uses it.
        runtimes.Ctr(),
        runtimes.Cri(),
        runtimes.Engine("podman"),
        runtimes.Engine("docker"),
        runtimes.Rootless(),
        runtimes.Bare("runc"),
        runtimes.Bare("crun"),
        runtimes.Lxc(),
        runtimes.Pod(),
        runtimes.Engine("podman", "podman host namespaces", *host, *network),
        runtimes.Engine("docker", "docker host namespaces", *host, *network),
        runtimes.Nspawn(),
    ]


def reduced_runtimes() -> list[Runtime]:
    """Those that `make test` has the time for."""
    return [runtimes.Engine("podman"), runtimes.Engine("docker"), runtimes.Bare("runc")]


def perform(
    guest: Guest, chosen: Iterable[Runtime], size: Size, versions: dict[str, str] | None = None
) -> Outcome:
    """Run everything. `versions` are those of the staged LAURELs, which then read the same events."""
    rules = Rules(guest)
    yard = Yard(guest)
    times: dict[str, str] = {}
    with ExitStack() as stack:
        rivals = stack.enter_context(Rivals(guest, versions)) if versions else None
        rules.clear()
        stack.callback(rules.clear)
        rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
        live = stack.enter_context(Live(guest))
        readers = [live.pid, *(rivals.pids if rivals else [])]
        acts.on_the_host(yard, size.loop)
        recycled = _visit_all(yard, live, list(chosen), size, readers, times)
        guest.run([f"{WORKLOAD}/truth", "1", _MARKER], check=True)
        if rivals:
            rivals.wait_for(_MARKER)
        account = live.stop()
        # Of what engines do besides, nothing is asked but that it keeps to the schema.
        ours = list(of_ours(live.output()))
        scores = {OURS: score(yard.expected, (answer for answer, _ in ours))}
        for laurel in rivals.laurels if rivals else ():
            answers = of_laurel(_workload(guest, laurel.log))
            scores[f"LAUREL {laurel.version}"] = score(yard.expected, answers)
        if rivals:
            times["times that auditd's queue was full"] = str(rivals.queue_overflows())
    times |= _recycled(recycled, [event for _, event in ours])
    return Outcome(guest.version, scores, account, live.said, times, {})


def _workload(guest: Guest, path: str) -> bytes:
    return guest.run(["grep", "-a", LEAF, path], timeout=120, check=True).stdout


def _visit_all(  # noqa: PLR0913 - one boot's whole state
    yard: Yard,
    live: Live,
    chosen: Sequence[Runtime],
    size: Size,
    readers: Sequence[int],
    times: dict[str, str],
) -> list[list[str]]:
    """Visit all runtimes; podman and docker stay until the acts that need two containers are done."""
    kept: list[tuple[Runtime, list[Box]]] = []
    recycled: list[list[str]] = []
    for runtime in sorted(chosen, key=lambda each: each.last):
        if runtime.last:
            recycled += _other_acts(yard, kept, size, readers, times)
            kept = []
        started = time.monotonic()
        runtime.prepare(yard)
        boxes = runtime.start(yard, size.boxes)
        if size.when_known and isinstance(runtime, runtimes.Bare):
            _until_known(yard, live, boxes)
        _visit(yard, runtime, boxes, size)
        if runtime.row in {"podman", "docker"}:
            kept.append((runtime, boxes))
        else:
            runtime.remove(yard, boxes)
        times[f"seconds for {runtime.row}"] = f"{time.monotonic() - started:.0f}"
    return recycled + _other_acts(yard, kept, size, readers, times)


def _other_acts(
    yard: Yard,
    kept: Sequence[tuple[Runtime, list[Box]]],
    size: Size,
    readers: Sequence[int],
    times: dict[str, str],
) -> list[list[str]]:
    """Run what needs a container of podman and one of docker, and remove those; returns the tags of recycled pids."""
    if not kept:
        return []
    started = time.monotonic()
    (podman, first), (docker, second) = kept
    acts.moved(yard, first[0], second[0], size.act)
    recycled: list[list[str]] = []
    if size.every_act:
        recycled = acts.few_pids(yard, [first[1], second[1]], size.act * 3)
        number, same = acts.same_inums(yard, size.act)
        times["containers in a row until an inum came again"] = str(number)
        times["inums that came again"] = str(same)
    for runtime, boxes in ((podman, first), (docker, second)):
        acts.removed_in_flight(yard, runtime, boxes[-1], size.act, readers)
        if boxes[:-1]:
            runtime.remove(yard, boxes[:-1])
    times["seconds for the other acts"] = f"{time.monotonic() - started:.0f}"
    return recycled


def _until_known(yard: Yard, live: Live, boxes: Sequence[Box]) -> None:
    """Run commands that nothing is expected of, until one of each box is told as a container's."""
    for box in boxes:
        for number in range(_ASKED_AT_MOST):
            tag = f"known:{box.name}:{number}"
            yard.tell({box.name: f"{TRUTH} 1 {tag}"})
            said = yard.sh('grep -a "$1" "$2" || true', f"tag={tag}", live.path).encode()
            if any(answer.where == "container" for answer, _ in of_ours(said)):
                break


def _visit(yard: Yard, runtime: Runtime, boxes: list[Box], size: Size) -> None:
    yard.loop(boxes, "loop", size.loop)
    some = boxes[:2]
    acts.entered(yard, runtime, some, size.act)
    acts.nsentered(yard, some[:1], size.act)
    acts.orphans(yard, some, size.act)
    acts.unshared(yard, some, size.act)


def _recycled(tags: Sequence[Sequence[str]], events: Iterable[Json]) -> dict[str, str]:
    """Count the pids that processes of both boxes had, as the host counts pids."""
    pids: list[set[int]] = [set() for _ in tags]
    for event in events:
        truth = truth_of(event)
        for mine, names in zip(pids, tags, strict=True):
            if truth is not None and truth.tag in names:
                mine.add(event["subject"]["pid"])
    return {"pids that both containers had": str(len(set.intersection(*pids)))} if tags else {}
