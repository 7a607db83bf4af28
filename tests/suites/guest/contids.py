# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: what the store of container identifiers does, against processes that try to get out of it.

    contids.py family FAMILY COUNT [CGROUP_DIRECTORY]
    contids.py events FAMILY COUNT [CGROUP_DIRECTORY]
    contids.py race ROUNDS
    contids.py refusals

Prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from enricher.sources.bpf import features
from enricher.sources.bpf.contidstore import KernelStore
from enricher.sources.bpf.hook import Hook
from enricher.sources.bpf.libbpf import library
from enricher.sources.bpf.loader import LibbpfLoader
from enricher.sources.contid import UNSET, ContidOp

EIGHT = 8
REAPED = 120
"""Seconds in which init reaps what nobody waits for, on a machine that has much else to do."""
AT_A_TIME = 250
"""Processes of a family: the guest's zombies have to be reaped by us."""


class Task:
    """A child that does one thing when it is told to, and lives until it is let go."""

    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        told, self._tell = os.pipe()
        self._said, say = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                os.close(self._tell)
                os.close(self._said)
                os.read(told, 1)
                os.write(say, json.dumps(act()).encode() + b"\n")
                signal.pause()
            finally:
                os._exit(0)
        os.close(told)
        os.close(say)
        self.fd = os.pidfd_open(self.pid)
        self.answer: object = None

    def go(self) -> None:
        os.write(self._tell, b"g")

    def said(self) -> object:
        return json.loads(os.read(self._said, 4096))

    def end(self) -> None:
        # Its own end of the pipe is in every task that was made after it.
        os.kill(self.pid, signal.SIGKILL)
        os.close(self._tell)
        os.close(self._said)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def code(call: Callable[[], object]) -> str:
    """The error's name, "" for none."""
    try:
        call()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return ""


@contextlib.contextmanager
def pidfd(pid: int) -> Iterator[int]:
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


def left(store: KernelStore, before: Sequence[ContidOp] = ()) -> dict[str, object]:
    """What there is at the end: nothing, after the last drop. `before` is what the store told up to now."""
    deadline = time.monotonic() + REAPED
    while (store.held() or store.entries()) and time.monotonic() < deadline:
        os.sched_yield()
    ops = [*before, *store.take_ops()]
    return {
        "held": store.held(),
        "ids": len(store.entries()),
        "sets": sum(op.op == "set" and not op.res for op in ops),
        "failed": Counter(errno.errorcode[op.res] for op in ops if op.res),
        "drops": [(op.old, op.opid) for op in ops if op.op == "drop"],
        "counters": store.counters(),
    }


def family(store: KernelStore, program: str, count: str, *cgroup: str) -> dict[str, object]:
    """As many processes in all ways there are, of one that was set."""
    made = 0
    rounds = -(-int(count) // AT_A_TIME)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with pidfd(os.getpid()) as own:
        for number in range(rounds):
            command = [program, str(AT_A_TIME), *cgroup]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert child.stdin
            assert child.stdout
            with pidfd(child.pid) as target:
                store.set(caller=own, target=target, contid=number)
                assert store.get(target) == (number,)
            child.stdin.write(b"g")
            child.stdin.close()
            made += int(child.stdout.read())
            assert child.wait() == 0
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.waitpid(-1, 0)
    return {"made": made, "rounds": rounds, **left(store)}


def racer(spin: int) -> int:
    for _ in range(spin):
        pass
    pid = os.fork()
    if not pid:
        signal.pause()
    return pid


def race(store: KernelStore, rounds: str) -> dict[str, object]:
    """Tasks that fork while they are set: a set that succeeded has the child, one that was refused has not."""
    outcomes: Counter[str] = Counter()
    wrong: list[object] = []
    ops: list[ContidOp] = []  # taken in time: the ring has no room for those of all rounds
    yard = Yard(store)
    for number in range(8 * (int(rounds) // EIGHT)):
        if number >= int(rounds) // EIGHT and len(outcomes) > 1:
            break  # where both come is a matter of the machine's speed: it goes on until they have
        ops += store.take_ops()
        tasks = [Task(partial(racer, 100 * ((5 * number + 7 * i) % 60))) for i in range(EIGHT)]
        for task in tasks:
            task.go()
        results = [yard.set(task.fd, number * EIGHT + i) for i, task in enumerate(tasks)]
        for i, (task, result) in enumerate(zip(tasks, results, strict=True)):
            child = task.said()
            assert isinstance(child, int)
            with pidfd(child) as fd:
                chains = store.get(task.fd), store.get(fd)
            outcomes[result or "set"] += 1
            contid = number * EIGHT + i
            if chains != (((contid,), (contid,)) if not result else ((), ())):
                wrong.append((number, result, chains))
            os.kill(child, signal.SIGKILL)
            task.end()
    return {"outcomes": outcomes, "wrong": wrong, **left(store, ops)}


def in_thread() -> int:
    """A thread that stays."""
    threading.Thread(target=signal.pause, daemon=True).start()
    return 0


def child_of_it() -> int:
    pid = os.fork()
    if not pid:
        signal.pause()
    return pid


def nobody_with_child() -> int:
    os.setgid(65534)
    os.setuid(65534)
    return child_of_it()


def root_of_user_namespace() -> int:
    # os.unshare is newer than the guest's Python.
    if ctypes.CDLL(None).unshare(0x10000000):  # CLONE_NEWUSER
        raise OSError
    return child_of_it()


class Yard:
    """Tasks and their children, all gone at the end."""

    def __init__(self, store: KernelStore) -> None:
        self.store = store
        self.own = os.pidfd_open(os.getpid())
        self._tasks: list[Task] = []
        self._children: list[int] = []

    def task(self, act: Callable[[], object] | None = None) -> Task:
        """A task; it has done its act."""
        task = Task(act or (lambda: None))
        self._tasks.append(task)
        if act is not None:
            task.go()
            task.answer = task.said()
        return task

    def child(self, task: Task) -> int:
        """The pidfd of the child that the act has made."""
        assert isinstance(task.answer, int)
        self._children.append(task.answer)
        return os.pidfd_open(task.answer)

    def set(self, target: int, contid: int, caller: int | None = None, *, orchestrator: bool = False) -> str:
        by = self.own if caller is None else caller
        return code(
            lambda: self.store.set(caller=by, target=target, contid=contid, orchestrator=orchestrator)
        )

    def grant(self, target: int, caller: int | None = None, *, allow: bool = True) -> str:
        by = self.own if caller is None else caller
        return code(lambda: self.store.grant(caller=by, target=target, allow=allow))

    def close(self) -> None:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        for task in self._tasks:
            task.end()


def refusals(store: KernelStore) -> dict[str, object]:
    """Each row of the contract's table, and what goes beside it. Named so that the test reads as the table."""
    yard = Yard(store)
    said: dict[str, object] = {}
    plain, second, third = yard.task(), yard.task(), yard.task()
    nobody, inside = yard.task(nobody_with_child), yard.task(root_of_user_namespace)
    nobodys, insides = yard.child(nobody), yard.child(inside)
    said["unset"] = yard.set(plain.fd, UNSET)
    said["unprivileged"] = yard.set(nobodys, 5, nobody.fd)
    said["root of a user namespace"] = yard.set(insides, 5, inside.fd)
    said["unprivileged orchestrator"] = yard.set(plain.fd, 5, nobody.fd, orchestrator=True)
    said["threads"] = yard.set((threads := yard.task(in_thread)).fd, 5)
    parent = yard.task(child_of_it)
    child = yard.child(parent)
    said["children"] = yard.set(parent.fd, 5)
    said["children, orchestrator"] = yard.set(parent.fd, 5, orchestrator=True)
    said["self"] = yard.set(plain.fd, 5, plain.fd)
    said["no descendant"] = yard.set(plain.fd, 5, second.fd)
    said["first"] = yard.set(plain.fd, 5)
    said["the same again"] = yard.set(plain.fd, 5)
    said["another"] = yard.set(plain.fd, 6)
    said["joined by its owner"] = yard.set(second.fd, 5)
    said["grandchild, by its parent"] = yard.set(child, 20, parent.fd)
    said["in use, of another owner"] = yard.set(third.fd, 20)
    said["threads, orchestrator"] = yard.set(threads.fd, 8, orchestrator=True)
    said["zero"] = yard.set(third.fd, 0)
    said["chains"] = [store.get(fd) for fd in (plain.fd, second.fd, child, threads.fd, third.fd, parent.fd)]
    chief = yard.task()
    said["chief"] = yard.set(chief.fd, 30)
    not_reaped(yard, said)
    return {"said": said, **nested(yard, said), **granted(yard, said, nobody, nobodys, inside, insides)}


def nested(yard: Yard, said: dict[str, object]) -> dict[str, object]:
    """Orchestrators within each other, and one too many: each is the child of the one before."""
    chain = []
    pids = yard.task(partial(family_line, 10)).answer
    assert isinstance(pids, list)
    fds = [os.pidfd_open(pid) for pid in pids]
    yard._children += pids
    # From the innermost outward nobody could be set: each has a child. So the innermost takes one after the other.
    last = fds[-1]
    said["line, first"] = yard.set(last, 40)
    said["line, by the owner again"] = yard.set(last, 41)
    said["line, by one that is not above"] = yard.set(last, 41, yard.task().fd)
    for number, fd in enumerate(fds[:-1]):
        chain.append(yard.set(last, 50 + number, fd))
    said["line"] = chain
    said["line's chain"] = yard.store.get(last)
    said["line, from outside again"] = yard.set(last, 90)
    return {}


def not_reaped(yard: Yard, said: dict[str, object]) -> None:
    """An identifier that no process has and another is nested in: not even its owner may add one, until it is gone."""
    between = Task(child_of_it)
    said["between"] = yard.set(between.fd, 70)
    between.go()
    child = between.said()
    assert isinstance(child, int)
    with pidfd(child) as fd:
        said["nested"] = yard.set(fd, 71, between.fd)
        between.end()
        said["kept by what is nested"] = yard.store.get(fd)
        said["not reaped"] = yard.set(yard.task().fd, 70)
        os.kill(child, signal.SIGKILL)
        deadline = time.monotonic() + REAPED
        while any(entry.contid == 70 for entry in yard.store.entries()) and time.monotonic() < deadline:
            os.sched_yield()
    said["reaped"] = yard.set(yard.task().fd, 70)


def family_line(length: int) -> list[int]:
    """Make a line of processes, each the child of the one before."""
    reading, writing = os.pipe()
    if not os.fork():
        for number in range(length):
            os.write(writing, f"{os.getpid()} ".encode())
            if number == length - 1 or os.fork():
                break
        signal.pause()
    said = b""
    while len(said.split()) < length or not said.endswith(b" "):
        said += os.read(reading, 4096)
    return [int(pid) for pid in said.split()]


def granted(  # noqa: PLR0913 - who takes part
    yard: Yard, said: dict[str, object], nobody: Task, nobodys: int, inside: Task, insides: int
) -> dict[str, object]:
    """Capcontid."""
    said["grant by nobody"] = yard.grant(nobodys, nobody.fd)
    said["grant"] = yard.grant(inside.fd)
    said["grant, self"] = yard.grant(yard.own)
    said["granted: a child is not"] = yard.set(insides, 60, insides)
    said["granted: no descendant"] = yard.set(nobodys, 60, inside.fd)
    said["granted: orchestrator"] = yard.set(insides, 60, inside.fd, orchestrator=True)
    said["granted: set"] = yard.set(insides, 60, inside.fd)
    said["granted: passed on"] = yard.grant(insides, inside.fd)
    said["revoked"] = yard.grant(inside.fd, allow=False)
    said["revoked: set"] = yard.set(nobodys, 61, inside.fd)
    gone = yard.task()
    fd = os.dup(gone.fd)
    yard._tasks.remove(gone)
    gone.end()
    said["gone"] = yard.set(fd, 77)
    yard.close()
    return left(yard.store)


def events(store: KernelStore, program: str, count: str, *cgroup: str) -> dict[str, object]:
    """A family whose every end is recorded: what the programs of a run say of each. The rules are the caller's."""
    part = features.can_kprobe(Hook.PART.value).yes
    with features.KernelTypes(library()) as types:
        uring = types.has_function("__audit_uring_exit").yes
    loader = LibbpfLoader(verbose=True, contid=store.shared)
    loaded = loader.load(Hook.PART if part else Hook.PLAIN, b"0" * 16, 64 << 20, uring=uring)
    child = subprocess.Popen([program, count, *cgroup], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin
    assert child.stdout
    with pidfd(os.getpid()) as own, pidfd(child.pid) as target:
        store.set(caller=own, target=target, contid=2)
        child.stdin.write(b"g")
        child.stdin.close()
        made = int(child.stdout.read())
        assert child.wait() == 0
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
    left_over = left(store)
    contexts, _ = loaded.drain()
    chains = Counter((bytes(one.comm).decode(), str(one.contid)) for one in contexts)
    counters = loaded.counters()
    families = loaded.families
    loaded.close()
    return {
        "made": made,
        "contexts": [(*who, number) for who, number in chains.items()],
        "dropped": counters["drop_context"],
        "families": families,
        **left_over,
    }


WAYS: dict[str, Callable[..., dict[str, object]]] = {
    "family": family,
    "race": race,
    "refusals": refusals,
    "events": events,
}


def main(what: str, *words: str) -> None:
    store = KernelStore(home=None, verbose=True)
    try:
        answer = WAYS[what](store, *words)
    finally:
        store.close()
    print(json.dumps(answer))


main(*sys.argv[1:])
