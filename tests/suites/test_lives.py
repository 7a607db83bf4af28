# SPDX-License-Identifier: Apache-2.0
"""From when to when each namespace lived, against ground truth: what was there before, and numbers used again."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.suites import test_changes
from tests.suites.live import Live, own, skipped, truth_of
from tests.suites.test_changes import KINDS_TO_MAKE, NSMAKE, TRUTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.suites.live import Json
    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

pytestmark = pytest.mark.only_on("5.10")  # where no namespace has a number of its own

box = test_changes.box
SLEEPER = "/bin/sleep 4242"
STORM_TASKS = 8
STORM_EACH = 256
"""Namespaces that each task makes in a round."""
STORM_ROUNDS, STORM_ROUNDS_FULL = 1, 5
"""Between two the reader gets to its end: what it loses where it is too slow is not what is looked at."""

_IDLE = 40_000
"""Bytes a second that a reader writes who has nothing to do but what the question whether he has makes: four execs."""

_NO_MORE = 60.0
"""Seconds without another end: one whose telling was skipped never comes."""


@pytest.fixture
def idle(guest: Guest) -> Iterator[None]:
    """A task in a namespace of its own for each kind, idle since before the program."""
    script = "for kind in $1; do setsid $0 unshare $kind -- $2 >/dev/null 2>&1 </dev/null & done"
    guest.run(["sh", "-c", script, NSMAKE, " ".join(KINDS_TO_MAKE), SLEEPER], check=True)
    count = f"until [ $(pgrep -fxc '{SLEEPER}') -ge {len(KINDS_TO_MAKE)} ]; do :; done"
    guest.run(["sh", "-c", count], timeout=60, check=True)
    yield
    guest.run(["pkill", "-KILL", "-fx", SLEEPER])


def _listed(guest: Guest) -> set[tuple[str, int]]:
    """All namespaces that a task has, as /proc shows them: kind and number."""
    script = "find /proc/[0-9]*/task/[0-9]*/ns -type l -printf '%l\\n' 2>/dev/null | sort -u"
    links = guest.run(["sh", "-c", script], timeout=60).stdout.decode().split()
    pairs = [link.rstrip("]").split(":[") for link in links]
    return {(kind, int(number)) for kind, number in pairs}


def _key(namespace: Json) -> tuple[str, int, str]:
    return namespace["kind"], namespace["ino"], namespace["life"]


@pytest.mark.usefixtures("idle")
def test_baseline_of_what_was_there_before(
    guest: Guest,
    rules: Rules,
    box: tuple[str, str],
    record_property: Callable[[str, object], None],
) -> None:
    """A container and sleepers that do nothing: who they are is known, each namespace begins once and ends once."""
    ident, pid = box
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    before = _listed(guest)
    with Live(guest, "--ns-lives") as live:
        assert "which namespaces there were" not in live.said
        guest.run(["nsenter", "-t", pid, "-m", "-p", "-n", "/w/truth", "1", "entered"], check=True)
        guest.run(["nsenter", "-t", pid, "-n", TRUTH, "1", "net"], check=True)
        after = _listed(guest)
        guest.run(["pkill", "-KILL", "-fx", SLEEPER], check=True)
        _await_ends(guest, live, len(KINDS_TO_MAKE))
        account = live.stop()
        events = live.events()
    assert account.balanced, live.said
    found = {truth.tag: event for event in events if (truth := truth_of(event)) is not None}
    whose = {tag: event["namespaces"].get("of", []) for tag, event in found.items()}
    assert {tag: [(of["id"], of["kinds"]) for of in each] for tag, each in whose.items()} == {
        "entered": [(ident, ["mnt", "net", "pid"])],
        "net": [(ident, ["net"])],
    }
    begun = [event["namespace"] for event in own(events, "NS_INIT")]
    ended = [event["namespace"] for event in own(events, "NS_DEL")]
    old = [entry for entry in begun if "baseline" in entry]
    names = {(entry["kind"], entry["ino"]) for entry in old}
    assert (before & after) - names == set(), live.said
    # A unit may have been started just before the program.
    assert names - before - after == set(), "found, and nobody had it"
    assert {entry["owner"] for entry in old if "owner" in entry} <= {
        ino for kind, ino in names if kind == "user"
    }
    assert [key for key, count in Counter(map(_key, begun)).items() if count != 1] == []
    ends = Counter(map(_key, ended))
    had = Counter(kind for kind, _, _ in ends.keys() & set(map(_key, old)))
    unseen = Counter(KINDS_TO_MAKE) - had
    assert had - Counter(KINDS_TO_MAKE) == Counter()
    assert unseen.total() <= skipped(events), unseen
    assert set(ends.values()) == {1}
    assert set(ends) <= set(map(_key, begun))
    record_property("baseline", f"{len(old)} namespaces, {len(ends)} ended, of {dict(unseen)} no end seen")


def _await_ends(guest: Guest, live: Live, ends: int) -> None:
    """Frees are asynchronous: wait until so many ends of namespaces are told, or the limit."""
    limit = time.monotonic() + _NO_MORE
    while time.monotonic() < limit:
        said = guest.run(["grep", "-c", '"type":"NS_DEL"', live.path]).stdout
        if int(said or 0) >= ends:
            return


@pytest.mark.grows
def test_lives_of_numbers_that_are_used_again(
    guest: Guest,
    rules: Rules,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    """Eight tasks make namespaces of all kinds, with a program in each: its event names the life that its task made."""
    rounds = STORM_ROUNDS_FULL if request.config.getoption("--full") else STORM_ROUNDS
    each = rounds * STORM_EACH
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "storm")
    # Where a storm is about namespaces, records of paths only fill the reader's buffer.
    for name in ("PATH", "CWD", "PROCTITLE"):
        rules.add("-a", "always,exclude", "-F", f"msgtype={name}")
    script = (
        'task=$1; number=$2; while [ $number -lt "$3" ]; do '
        "for kind in mnt uts ipc net user cgroup pid time; do "
        f'{NSMAKE} unshare $kind -- {TRUTH} 1 "storm:$task:$kind:$number" || exit 1; number=$((number + 1)); '
        "done; done"
    )
    # Nine want the emulator's one core: the reader may be late, by all the records of a round.
    with Live(guest, "--ns-lives", "--receive-buffer", "64M") as live:
        for upto in range(STORM_EACH, each + 1, STORM_EACH):
            span = f"{upto - STORM_EACH} {upto}"
            tasks = " ".join(f'sh -c "$0" sh {task} {span} &' for task in range(STORM_TASKS))
            guest.run(["sh", "-c", f"{tasks} wait", script], timeout=600, check=True)
            # A few may be missing where the kernel skipped a program: those are accounted for below.
            _await_balance(guest, live, STORM_TASKS * upto * 99 // 100)
        account = live.stop()
        events = live.events()
    assert account.balanced, live.said
    born = {_life(event): event for event in own(events, "NS_INIT")}
    ended = {_life(event) for event in own(events, "NS_DEL")}
    storm = [
        (event, truth)
        for event in events
        if (truth := truth_of(event)) is not None and truth.tag.startswith("storm:")
    ]
    assert len(storm) == STORM_TASKS * each
    subjects = [event["subject"] for event in events if event["type"] == "SYSCALL"]
    parents = {subject["pid"]: subject["ppid"] for subject in subjects}
    lacking = skipped(events)
    wrong = []
    unseen = unknown = 0
    for event, truth in storm:
        kind = truth.tag.split(":")[2]
        entry = event["namespaces"][kind]
        # The leaf is a child of the program that nsmake became, or, with these two kinds, made.
        program = event["subject"]["ppid"]
        maker = parents[program] if kind in {"pid", "time"} else program
        birth = born.get((kind, entry["ino"], entry.get("life")))
        told = birth and (
            birth["namespace"].get("kind"),
            birth["subject"]["pid"],
            birth["namespace"].get("id"),
        )
        if entry["ino"] == truth.inums[kind] and (
            told == (kind, maker, entry.get("id")) or (told is None and "id" in entry)
        ):
            unseen += told is None
        elif entry["ino"] == truth.inums[kind] and "life" not in entry:
            # After a loss no life is known that began before it was noticed, unless the kernel has an id for it.
            unknown += 1
        else:
            wrong.append(f"{truth.tag} of {maker}: {entry}, {told}, for {truth.inums[kind]}")
    lost = [json.dumps(event["lost"]) for event in own(events, "LOST")]
    assert wrong == [], "\n".join([f"{len(wrong)} wrong; losses: {lost}", *wrong[:20]])
    assert unseen <= lacking
    assert not unknown or lacking, f"{unknown} lives are not known, and nothing was lost"
    made_here = {key for key, event in born.items() if event.get("subject", {}).get("comm") == "nsmake"}
    told_at_least = STORM_TASKS * each - (lacking if unknown else unseen)
    assert told_at_least <= len(made_here) <= STORM_TASKS * each - unseen
    alive = Counter(kind for kind, _, _ in made_here - ended)
    assert sum(alive.values()) <= lacking, alive
    numbers = Counter(number for _, number, _ in made_here)
    again = f"{len(numbers)} numbers, one of them {max(numbers.values())} times"
    record_property(
        "storm", f"{len(made_here)} namespaces, {unseen} not seen being made, {unknown} unknown, {again}"
    )
    assert max(numbers.values()) > 1, "no number was used again"


def _life(event: Json) -> tuple[str | None, int, str]:
    """By kind, too: a number may be that of a mount namespace, then that of a network namespace with the same id."""
    namespace = event["namespace"]
    return namespace.get("kind"), namespace["ino"], namespace["life"]


def _await_balance(guest: Guest, live: Live, least: int) -> None:
    """Frees are asynchronous: wait until all that were made are told of and have ended, or no more come.

    To count takes as long as to read all that was written, on the one core that the reader has too: only where it is
    not busy. While it is, it works, and the limit is the test's.
    """
    script = (
        'size=$(stat -c %s "$1"); sleep 1; grown=$(($(stat -c %s "$1") - size)); '
        f"[ $grown -lt {_IDLE} ] || {{ echo 0 -1; exit; }}; "
        'a=$(grep -c \'"type":"NS_INIT"\' "$1"); b=$(grep -c \'"type":"NS_DEL"\' "$1"); echo $a $b'
    )
    before = (0, 0)
    limit = time.monotonic() + _NO_MORE
    while time.monotonic() < limit:
        told = guest.run(["sh", "-c", script, "sh", live.path], check=True).stdout.split()
        made, freed = int(told[0]), int(told[1])
        if least <= made <= freed:
            return
        if freed < 0 or (made, freed) != before:
            before = made, freed
            limit = time.monotonic() + _NO_MORE
