# SPDX-License-Identifier: Apache-2.0
"""Namespaces as they live, against ground truth.

What a task left and entered, which life a number is of, who was aimed at, whose namespaces a task has.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from enricher.model import KINDS
from tests.suites.live import Live, truth_of
from tests.suites.staging import SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.suites.live import Json
    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

pytestmark = pytest.mark.only_on("5.10", "newest")

TRUTH = f"{SHARE}/workload/truth"
NSMAKE = f"{SHARE}/workload/nsmake"
NSSWAP = f"{SHARE}/workload/nsswap"
IMAGE = "localhost/busybox:latest"
KINDS_TO_MAKE = ("mnt", "uts", "ipc", "net", "pid", "user", "cgroup", "time")
STORM_TASKS = 8
STORM_EACH = 256
"""Namespaces that each task makes in a round."""
STORM_ROUNDS, STORM_ROUNDS_FULL = 1, 5
"""Between two the reader gets to its end: what it loses where it is too slow is not what is looked at."""

_IDLE = 40_000
"""Bytes a second that a reader writes who has nothing to do but what the question whether he has makes: four execs."""

_NO_MORE = 15.0
"""Seconds without another end: one whose telling was skipped never comes."""


def own(events: list[Json], kind: str) -> list[Json]:
    return [event for event in events if event["type"] == kind]


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
    run = ("podman", "run", "-d", "--name", "changes", "--net", "none", *mount, IMAGE, "sleep", "600")
    ident = guest.run(list(run), timeout=120, check=True).stdout.decode().split()[-1]
    pid = guest.run(["podman", "inspect", "--format", "{{.State.Pid}}", "changes"], timeout=60, check=True)
    yield ident, pid.stdout.decode().strip()
    guest.run(["podman", "rm", "-f", "-t", "0", "changes"], timeout=120, check=True)


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
    assert AIMED + 1 - _skipped(events) <= len(targets) <= AIMED + 1
    told = [tuple(target["namespaces"].get(kind, {}).get("ino") for kind in kinds) for target in targets]
    known = [each for each in told if each != (None, None, None)]
    initial = initial_of(guest)
    right.add(tuple(initial[kind] for kind in kinds))  # before its first call
    wrong = [each for each in known if each not in right]
    record_property("swapped", f"{len(told)} targets, {len(known)} with their namespaces, {len(wrong)} wrong")
    assert not wrong
    assert known


@pytest.mark.usefixtures("box")
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


SLEEPER = "/bin/sleep 4242"


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
    assert unseen.total() <= _skipped(events), unseen
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
    skipped = _skipped(events)
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
    assert unseen <= skipped
    assert not unknown or skipped, f"{unknown} lives are not known, and nothing was lost"
    made_here = {key for key, event in born.items() if event.get("subject", {}).get("comm") == "nsmake"}
    told_at_least = STORM_TASKS * each - (skipped if unknown else unseen)
    assert told_at_least <= len(made_here) <= STORM_TASKS * each - unseen
    alive = Counter(kind for kind, _, _ in made_here - ended)
    assert sum(alive.values()) <= skipped, alive
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


def _skipped(events: list[Json]) -> int:
    """Where a task was preempted inside of a program, the kernel skips it for the next: that is told as a loss."""
    return sum(
        event["lost"]["messages"] for event in own(events, "LOST") if event["lost"]["cause"] == "facts"
    )


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
