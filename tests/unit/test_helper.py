# SPDX-License-Identifier: Apache-2.0
"""The helper process for real: what it holds, and that neither a hang nor a death in it is ours."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from enricher.enrich.metadata.worker import answer, request_for
from enricher.runtime import helper, privileges
from enricher.runtime.helper import KEPT, STUCK_MAX, Helper, Keeper, processes_of, start
from tests.unit.sample_state import ID, Tree, found

LONG = 20.0
"""Seconds after which something that must happen is not going to."""
SETS = ("CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs")


def status(pid: int | str = "self") -> dict[str, int]:
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name], 16) for name in SETS}


def work(line: bytes) -> bytes:
    """What the tests' worker does."""
    said: Any = None
    match line.split():
        case [b"hang"]:
            while True:
                signal.pause()
        case [b"work", seconds]:
            said = float(seconds)
            _toil(said)
        case [b"raise"]:
            raise MemoryError
        case [b"die"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case [b"nothing"]:
            return b""
        case [b"pid"]:
            said = os.getpid()
        case [b"status"]:
            said = status()
        case [b"fds"]:
            links = [link for link in Path("/proc/self/fd").iterdir() if _is_open(int(link.name))]
            said = {link.name: str(link.readlink()) for link in links}
        case [b"write", path]:
            try:
                os.close(os.open(path, os.O_WRONLY))
                said = "written"
            except PermissionError:
                said = "refused"
    return json.dumps(said).encode()


def _toil(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def exchange(started: Helper, request: bytes) -> Any:  # noqa: ANN401 - JSON
    poll = select.poll()
    poll.register(started.socket, select.POLLIN)
    started.socket.send(request)
    while True:
        assert poll.poll(LONG * 1000), "no answer"
        said = started.socket.recv(1 << 20)
        if processes_of(json.loads(said or b"null")) is None:
            return json.loads(said) if said else None


@pytest.fixture
def run() -> Iterator[Callable[..., Helper]]:
    with ExitStack() as stack:

        def begin(act: Callable[[bytes], bytes] = work, seconds: float = LONG) -> Helper:
            started = start(act, seconds)
            stack.callback(os.waitpid, started.pid, 0)
            stack.callback(started.socket.close)
            return started

        yield begin


def test_it_keeps_one_capability(run: Callable[..., Helper]) -> None:
    before = privileges.held()
    started = run()
    kept = before & KEPT
    expected = {"CapInh": 0, "CapPrm": kept, "CapEff": kept, "CapAmb": 0, "NoNewPrivs": 1}
    assert exchange(started, b"status") == expected
    assert status(started.pid) == expected
    assert started.privileged == bool(kept)
    assert privileges.held() == before


def test_it_reads_what_is_not_for_everybody_and_writes_nothing(
    run: Callable[..., Helper], tmp_path: Path
) -> None:
    if not privileges.held() & KEPT:
        pytest.skip("needs CAP_DAC_READ_SEARCH")
    tree = Tree(tmp_path)
    tree.docker().chmod(0)
    said = exchange(run(lambda line: answer(line, tree.host)), request_for(found(f"/docker/{ID}", "docker")))
    assert said["metadata"][1] == "shop"
    assert exchange(run(), b"write " + os.fsencode(tree.text("file", "").with_name("file"))) == "written"
    tree.text("file", "").chmod(0o400)
    assert exchange(run(), b"write " + os.fsencode(tmp_path / "file")) == "refused"


def test_no_descriptor_goes_along(run: Callable[..., Helper], tmp_path: Path) -> None:
    with ExitStack() as stack:
        for number in range(20):
            stack.enter_context((tmp_path / str(number)).open("w"))
        high = os.open(tmp_path, os.O_RDONLY)
        stack.callback(os.close, high)
        stack.callback(os.close, os.dup2(high, 900))
        fds = exchange(run(), b"fds")
    null = {name: fds.pop(name) for name in "012"}
    assert null == dict.fromkeys("012", os.devnull)
    (own,) = fds.values()
    assert own.startswith("socket:")


def test_a_worker_that_hangs_is_replaced(run: Callable[..., Helper]) -> None:
    started = run(seconds=0.05)
    first = exchange(started, b"pid")
    for _ in range(STUCK_MAX + 2):
        assert exchange(started, b"hang") == {"failed": "time-out"}
    assert exchange(started, b"pid") != first


def test_a_worker_that_is_at_work_is_left_to_it(
    run: Callable[..., Helper], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a host has no processor to spare it may take as long as it likes, within reason."""
    monkeypatch.setattr(helper, "_BUSY_TIMES", 100)
    started = run(seconds=0.5)
    first = exchange(started, b"pid")
    assert exchange(started, b"work 0.6") == 0.6, "longer than one may stand still"
    assert exchange(started, b"pid") == first


def test_a_worker_that_is_at_work_for_ever_is_replaced(
    run: Callable[..., Helper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper, "_BUSY_TIMES", 4)
    started = run(seconds=0.5)
    first = exchange(started, b"pid")
    assert exchange(started, b"work 3000") == {"failed": "time-out"}
    assert exchange(started, b"pid") != first


@pytest.mark.parametrize("request_", [b"raise", b"die", b"nothing"])
def test_a_worker_that_dies_is_replaced(run: Callable[..., Helper], request_: bytes) -> None:
    started = run()
    first = exchange(started, b"pid")
    for _ in range(STUCK_MAX + 2):
        assert exchange(started, request_) == {"failed": "crash"}
    assert exchange(started, b"pid") not in {first, started.pid, os.getpid()}


def start_of(pid: int) -> tuple[int, int]:
    """A process and its start, by another way than its own."""
    return pid, int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_its_processes_are_told_with_their_starts(
    run: Callable[..., Helper], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of a worker that was replaced, before it was asked anything."""
    monkeypatch.setattr(helper, "_FORK_TICKS", 100_000)  # as long as a machine may take for a fork
    started = run()
    worker = exchange(started, b"pid")
    assert {pid for pid, _ in started.processes} == {started.pid, worker}
    assert {start_of(started.pid), start_of(worker)} <= set(started.processes)
    started.socket.send(b"die")
    told: list[Any] = []
    while len(told) < 3:
        assert select.select([started.socket], [], [], LONG)[0]
        told.append(json.loads(started.socket.recv(1 << 20)))
        if told[-1] == {"failed": "crash"}:
            started.socket.send(b"pid")
    processes, fresh = processes_of(told[1]) or (), told[2]
    assert {pid for pid, _ in processes} == {started.pid, fresh}
    assert fresh != worker
    assert {start_of(started.pid), start_of(fresh)} <= set(processes)


def test_a_start_that_took_too_long_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "_ticks", lambda: 1000)
    assert helper._starts(7, 999) == [(7, 999), (7, 1000)]
    assert len(helper._starts(7, 901)) == 100
    assert helper._starts(7, 900) == [(7, 0)]


def test_one_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "_keeper", lambda *_: None)
    with pytest.raises(OSError, match="did not start"):
        start(work)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_workers_that_cannot_even_die_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keeper, "_reap", lambda _: None)
    parents, unread = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with parents, unread:
        keeper = Keeper(work, 0.05, [])
        keeper._parent = parents
        for _ in range(STUCK_MAX):
            assert json.loads(keeper._answer(b"hang")) == {"failed": "time-out"}
        assert json.loads(keeper._answer(b"pid")) == {"failed": "stuck"}
    for pid in keeper._dead:
        os.waitpid(pid, 0)


def test_signals_to_the_service_are_not_for_it(run: Callable[..., Helper]) -> None:
    started = run()
    pid = exchange(started, b"pid")
    for number in helper._IGNORED:
        os.kill(started.pid, number)
        os.kill(pid, number)
    assert exchange(started, b"pid") == pid


def ended(*pids: int) -> bool:
    """Whether all of these processes, none of which is our own child to wait for, have come to their end."""
    deadline = time.monotonic() + LONG
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        gone = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        os.close(fd)
        if not gone:
            return False
    return True


def test_it_ends_with_its_socket() -> None:
    started = start(work, LONG)
    worker = exchange(started, b"pid")
    started.socket.close()
    assert ended(started.pid, worker)
    assert os.waitpid(started.pid, 0)[1] == 0


PROGRAM = """
import os, signal, sys
from enricher.runtime.helper import start
from tests.unit.test_helper import exchange, work
started = start(work, 20.0)
pid = exchange(started, b"pid")
if sys.argv[1] == "hang":
    started.socket.send(b"hang")
# Somebody else has our end as well: the end of the socket is not what ends it.
os.set_inheritable(started.socket.fileno(), True)
if not os.fork():
    print(started.pid, pid, os.getpid(), flush=True)
    signal.pause()
signal.pause()
"""


@pytest.mark.parametrize("state", ["idle", "hang"])
def test_it_ends_with_its_parent(state: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, state], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        keeper, worker, other = map(int, parent.stdout.readline().split())
        parent.kill()
        parent.wait()
        try:
            assert ended(keeper, worker)
        finally:
            os.kill(other, signal.SIGKILL)  # with it the last holder of the socket goes


def test_without_any_privilege() -> None:
    code = (
        "from enricher.runtime import privileges; privileges._set(0, 0)\n"
        "from enricher.runtime.helper import start\n"
        "from tests.unit.test_helper import exchange, work\n"
        "started = start(work, 20.0); print(started.privileged, exchange(started, b'status')['CapPrm'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "0"]
