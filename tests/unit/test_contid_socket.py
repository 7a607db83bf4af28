# SPDX-License-Identifier: Apache-2.0
"""The container identifiers' socket: who is the caller, what a peer may send, and that each attempt is told."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from enricher.errors import ContidRefused, NotRunning
from enricher.facts import CONTID_UNSET, ContainerOp, Engine
from enricher.runtime import contid_client, contid_peer, contid_server
from enricher.runtime.contid_log import ContidLog
from enricher.runtime.contid_peer import NotKnown, Peer
from enricher.runtime.contid_server import ATTEMPTS, CLIENTS_MAX, ContidServer
from enricher.sources.contid import ContidOp
from tests.lint.tree import ROOT
from tests.unit.fake_contid import FakeStore

Json = dict[str, Any]
Child = subprocess.Popen[bytes]


class Rig:
    """A server that a thread drives while a test asks; the test looks at it when nothing is under way."""

    def __init__(self, path: Path, store: FakeStore | None) -> None:
        self.path, self.store = str(path), store
        self.clock = 0.0
        self.log = ContidLog(store)
        self.server = ContidServer(self.path, "", store, self.log, lambda: self.clock)
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self.server.fileno(), select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        while self._stop not in dict(poll.poll()):
            self.server.serve()

    def raw(self) -> tuple[socket.socket, str]:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(self.path)
        return connection, json.loads(line(connection))["nonce"]

    def ask(self, request: Json, target: int = -1) -> Json:
        return contid_client.ask(self.path, request, target)

    def stop(self) -> None:
        """Nothing is under way after this."""
        os.write(self._stopped, b"x")
        self._thread.join()

    def close(self) -> None:
        if self._thread.is_alive():
            self.stop()
        self.server.close()
        os.close(self._stop)
        os.close(self._stopped)


def line(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\n"):
        if not (data := connection.recv(65536)):
            break
        received += data
    return received


def said(connection: socket.socket, request: bytes, fds: list[int] | None = None) -> Json:
    with connection:
        socket.send_fds(connection, [request], fds or [])
        answer: Json = json.loads(line(connection))
    return answer


@pytest.fixture
def store() -> Iterator[FakeStore]:
    made = FakeStore()
    yield made
    made.close()


@pytest.fixture(params=["kernel", "nonce"])
def rig(request: pytest.FixtureRequest, tmp_path: Path, store: FakeStore) -> Iterator[Rig]:
    """Both ways of knowing the peer."""
    made = Rig(tmp_path / "sock", store)
    made.server.ask_kernel = request.param == "kernel"
    yield made
    made.close()


@pytest.fixture
def off(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "sock", None)
    yield made
    made.close()


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with its input."""
    made = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    yield made
    made.communicate()


@pytest.fixture
def target(child: subprocess.Popen[bytes]) -> Iterator[int]:
    fd = os.pidfd_open(child.pid)
    yield fd
    os.close(fd)


# -- asking ------------------------------------------------------------------------------------------


def test_set_is_for_the_peer_and_is_told(rig: Rig, store: FakeStore, child: Child, target: int) -> None:
    assert rig.ask({"op": "set", "contid": "4"}, target) == {"ok": True, "contid": "4"}
    assert store.asked == [("set", os.getpid(), child.pid, 4, False, 0)]
    [fact] = rig.log.take()
    assert fact == ContainerOp(
        fact.time, "set", child.pid, 4, caller_pid=os.getpid(), caller_uid=os.geteuid(), caller_contid=()
    )
    assert rig.ask({"op": "get"}, target) == {"ok": True, "contid": ["4"]}
    assert rig.log.take() == []


@pytest.mark.parametrize(
    "number",
    [
        errno.EINVAL,
        errno.EPERM,
        errno.EBUSY,
        errno.EXDEV,
        errno.EEXIST,
        errno.ENOTUNIQ,
        errno.ESRCH,
        errno.ENOSPC,
    ],
)
def test_every_refusal_is_answered_with_a_hint_and_told(
    rig: Rig, store: FakeStore, child: Child, target: int, number: int
) -> None:
    store.fails = number
    with pytest.raises(ContidRefused) as caught:
        rig.ask({"op": "set", "contid": "4"}, target)
    assert (caught.value.name, caught.value.exit_code) == (errno.errorcode[number], 14)
    assert caught.value.hint
    assert [(op.op, op.opid, op.contid, op.res, op.caller_pid) for op in rig.log.take()] == [
        ("set", child.pid, 4, number, os.getpid())
    ]


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("request_", [{"op": "set", "contid": "4"}, {"op": "grant"}])
def test_an_attempt_has_the_identifiers_of_who_asked(  # noqa: PLR0913 - what an attempt depends on
    rig: Rig, store: FakeStore, child: Child, target: int, request_: Json, *, silent: bool
) -> None:
    """Whether the kernel has told of it or not: those of the peer, and not those of the target."""
    store.silent = silent
    store.chains = {os.getpid(): (2, 1), child.pid: (9,)}
    rig.ask(request_, target)
    assert [op.caller_contid for op in rig.log.take()] == [(2, 1)]


def test_of_whom_nothing_can_be_found_out_nothing_is_said(rig: Rig, store: FakeStore, target: int) -> None:
    store.fails = errno.ESRCH
    with pytest.raises(ContidRefused, match="ESRCH"):
        rig.ask({"op": "set", "contid": "4"}, target)
    assert [op.caller_contid for op in rig.log.take()] == [None]


def test_unset_is_the_stores_to_refuse(rig: Rig, target: int) -> None:
    with pytest.raises(ContidRefused, match="EINVAL"):
        rig.ask({"op": "set", "contid": str(CONTID_UNSET)}, target)
    assert [op.res for op in rig.log.take()] == [errno.EINVAL]


def test_auto_is_random_and_below_two_to_the_63(rig: Rig, store: FakeStore, target: int) -> None:
    given_back = {int(rig.ask({"op": "set", "contid": "auto"}, target)["contid"]) for _ in range(8)}
    assert len(given_back) == 8
    assert all(0 < contid < 2**63 for contid in given_back)
    assert {call[3] for call in store.asked} == given_back


def test_an_orchestrator_announces_and_binds(
    rig: Rig, store: FakeStore, child: Child, target: int, tmp_path: Path
) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cg"
    (proc / "self").mkdir(parents=True)
    (root / "box").mkdir(parents=True)
    for pid in (child.pid, os.getpid()):
        (proc / str(pid)).mkdir()
        (proc / str(pid) / "status").write_text(Path(f"/proc/{pid}/status").read_text())
    (proc / str(child.pid) / "cgroup").write_text("0::/box\n")
    (proc / "self" / "mountinfo").write_text(f"30 20 0:26 / {root} rw - cgroup2 cgroup2 rw\n")
    rig.server.proc = proc
    engine = {"id": "ab" * 32, "name": "web", "image": "shop:1", "runtime": "podman"}
    asked = {"op": "set", "contid": 7, "orchestrator": True, "bind_cgroup": True, "engine": engine}
    rig.ask(asked, target)
    orchestrator, cgroup = store.asked[0][4:]
    assert (orchestrator, cgroup) == (True, (root / "box").stat().st_ino)
    [fact] = rig.log.take()
    assert (fact.engine, fact.orchestrator) == (Engine(**engine), True)
    # What joins later, and the drop, are told with the name; after that it is forgotten.
    store.ops += [
        ContidOp("set", 50, 7, (), 0, 1, orchestrator=True),
        ContidOp("drop", 50, CONTID_UNSET, (7,), 0, 2),
    ]
    store.ops += [ContidOp("set", 51, 7, (), 0, 3)]
    rig.log.collect()
    assert [op.engine for op in rig.log.take()] == [Engine(**engine), Engine(**engine), None]


def test_grant_and_revoke(rig: Rig, store: FakeStore, child: Child, target: int) -> None:
    assert rig.ask({"op": "grant"}, target) == {"ok": True}
    store.fails = errno.EPERM
    with pytest.raises(ContidRefused, match="EPERM"):
        rig.ask({"op": "revoke"}, target)
    assert [call[0] for call in store.asked] == ["grant", "revoke"]
    told = [(op.op, op.opid, op.contid, op.res) for op in rig.log.take()]
    assert told == [("grant", child.pid, CONTID_UNSET, 0), ("revoke", child.pid, CONTID_UNSET, errno.EPERM)]


def test_list_is_bounded_and_arrives_whole(
    rig: Rig, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.chains = {pid: (2**62 + pid, 1) for pid in range(1, 4001)}
    answer = rig.ask({"op": "list"})
    assert (len(answer["ids"]), answer["cut"]) == (4000, False)
    assert answer["ids"][0] == {
        "contid": str(2**62 + 1), "chain": [str(2**62 + 1), "1"], "owner": {"pid": 1, "start": "5"}, "tasks": 1,
    }  # fmt: skip
    monkeypatch.setattr(contid_server, "LIST_MAX", 3)
    answer = rig.ask({"op": "list"})
    assert (len(answer["ids"]), answer["cut"]) == (3, True)


def test_without_a_store_everything_is_refused_and_attempts_are_told(off: Rig, target: int) -> None:
    for request in ({"op": "set", "contid": "4"}, {"op": "grant"}, {"op": "get"}):
        with pytest.raises(ContidRefused, match="contid is off") as caught:
            off.ask(request, target)
        assert "contid.enabled" in caught.value.hint
    with pytest.raises(ContidRefused, match="contid is off"):
        off.ask({"op": "list"})
    # Whose process it is the store says, and there is none.
    assert [(op.op, op.opid, op.res) for op in off.log.take()] == [
        ("set", 0, errno.ENOSYS),
        ("grant", 0, errno.ENOSYS),
    ]


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="contid is off") as caught:
        contid_client.ask(str(tmp_path / "none"), {"op": "list"})
    assert "contid.enabled" in caught.value.hint


# -- for the parent ----------------------------------------------------------------------------------

CLIENT = """
import os, sys
from enricher.runtime import contid_client
from enricher.errors import ContidRefused
try:
    print(contid_client.ask(sys.argv[1], {"op": "set", "contid": "4", "as": "parent"}, int(sys.argv[2])))
except ContidRefused as error:
    print(error.message)
"""


def asked_by_a_child(rig: Rig, target: int, preexec_fn: Callable[[], None] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, rig.path, str(target)],
        cwd=ROOT, pass_fds=[target], capture_output=True, text=True, timeout=60, check=True, preexec_fn=preexec_fn,
    )  # fmt: skip
    return done.stdout


def test_the_command_acts_for_its_parent(rig: Rig, store: FakeStore, child: Child, target: int) -> None:
    assert "'ok': True" in asked_by_a_child(rig, target)
    assert store.asked == [("set", os.getpid(), child.pid, 4, False, 0)]
    [fact] = rig.log.take()
    assert fact.caller_pid not in (0, os.getpid())  # who asked is told, not for whom


def no_new_privileges() -> None:
    import ctypes

    assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0


def test_a_parent_with_other_credentials_is_none(rig: Rig, store: FakeStore, target: int) -> None:
    """As of a setuid program: what it may, its parent may not."""
    out = asked_by_a_child(rig, target, preexec_fn=no_new_privileges)
    assert "other credentials (NoNewPrivs)" in out
    assert store.asked == []
    assert [op.res for op in rig.log.take()] == [errno.EPERM]


def status(parent: int, uid: int = 0) -> str:
    return f"Name:\tx\nPPid:\t{parent}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"


def test_a_parent_that_changes_meanwhile_is_none(tmp_path: Path) -> None:
    mine = tmp_path / str(os.getpid())
    mine.mkdir()
    (mine / "status").write_text(status(1))
    peer = Peer(os.pidfd_open(os.getpid()), os.getpid(), 0, sure=True)
    try:
        with pytest.raises(NotKnown, match="ProtectProc"):
            peer.parent(tmp_path)
        (tmp_path / "1").mkdir()
        os.mkfifo(tmp_path / "1" / "status")

        writer = threading.Thread(target=_swap, args=(mine, tmp_path / "1" / "status"))
        writer.start()
        with pytest.raises(NotKnown, match="the parent has ended"):
            peer.parent(tmp_path)
        writer.join()
    finally:
        peer.close()


def _swap(mine: Path, fifo: Path) -> None:
    with fifo.open("w") as end:  # opens when it is being read
        (mine / "status").write_text(status(2))
        end.write(status(0))


def test_a_peer_whose_user_has_changed_is_not_judged(tmp_path: Path) -> None:
    """It may have executed a setuid program since: its rights are not those of who asked."""
    (tmp_path / str(os.getpid())).mkdir()
    (tmp_path / str(os.getpid()) / "status").write_text(status(1, uid=0))
    for uid, refused in ((0, False), (1000, True)):
        peer = Peer(os.pidfd_open(os.getpid()), os.getpid(), uid, sure=True)
        with contextlib.closing(peer), pytest.raises(NotKnown) if refused else contextlib.nullcontext():
            peer.judged(tmp_path)


# -- hostile peers -----------------------------------------------------------------------------------


def test_the_sender_has_to_be_who_connected(rig: Rig, store: FakeStore, target: int) -> None:
    """A child that has the connection asks in the name of who is gone by then, or of another process."""
    connection, nonce = rig.raw()
    request = json.dumps({"op": "set", "contid": "4", "nonce": nonce}).encode() + b"\n"
    pid = os.fork()
    if not pid:
        socket.send_fds(connection, [request], [target])
        os._exit(0)
    os.waitpid(pid, 0)
    answer = json.loads(line(connection))
    connection.close()
    if rig.server.ask_kernel and rig.server.unknown == 0:
        assert answer == {"ok": True, "contid": "4"}  # the kernel says who connected, whoever sends
        assert [call[1] for call in store.asked] == [os.getpid()]
    else:
        assert answer["error"] == "EPERM"
        assert store.asked == []


def test_the_nonce_has_to_be_the_one(rig: Rig, store: FakeStore, target: int) -> None:
    connection, _ = rig.raw()
    answer = said(
        connection, json.dumps({"op": "set", "contid": "4", "nonce": "\ud800x"}).encode() + b"\n", [target]
    )
    assert answer["error"] == "EPROTO"
    assert store.asked == []


def test_a_peer_that_is_gone_has_no_rights() -> None:
    ended = subprocess.Popen(["/bin/true"])
    peer = Peer(os.pidfd_open(ended.pid), ended.pid, 0, sure=False)
    ended.wait()
    with contextlib.closing(peer), pytest.raises(NotKnown, match="has ended"):
        peer.confirm(contid_peer.Message(b"", ended.pid, [], cut=False))


def pidfds() -> int:
    held = [path for path in Path("/proc/self/fdinfo").iterdir() if path.exists()]
    return sum("\nPid:" in path.read_text() for path in held)


def test_descriptors_are_bounded_and_never_kept(rig: Rig, store: FakeStore, target: int) -> None:
    for count in (2, 4, 5, 60):
        connection, nonce = rig.raw()
        answer = said(
            connection, json.dumps({"op": "get", "nonce": nonce}).encode() + b"\n", [target] * count
        )
        assert answer["text"] == "more than one descriptor"
    connection, nonce = rig.raw()
    with connection:
        socket.send_fds(connection, [b"{"], [target])
        answer = said(connection, b"}\n", [target])
    assert answer["error"] == "EPROTO"
    assert rig.ask({"op": "list"})["ok"]
    rig.stop()
    assert pidfds() == 1  # the target's, which is ours
    assert store.asked == []


def test_what_is_no_pidfd_is_no_target(rig: Rig) -> None:
    for fds in ([], [0]):
        with Path(os.devnull).open() as null:
            connection, nonce = rig.raw()
            request = json.dumps({"op": "set", "contid": "4", "nonce": nonce}).encode() + b"\n"
            assert said(connection, request, [null.fileno()] if fds else [])["error"] == "EBADF"
    assert rig.server.refused == 2


HOSTILE = [
    b"\n", b"[]\n", b"null\n", b"{}\n", b'{"op":5}\n', b'{"op":"get"}\n', b'{"op":"unset","nonce":"N"}\n',
    b'{"op":"set","nonce":"N","contid":-1}\n', b'{"op":"set","nonce":"N","contid":1e3}\n',
    b'{"op":"set","nonce":"N","contid":true}\n', b'{"op":"set","nonce":"N","contid":18446744073709551616}\n',
    b'{"op":"set","nonce":"N","contid":"4","caller":1}\n', b'{"op":"set","nonce":"N","contid":"4","as":"init"}\n',
    b'{"op":"set","nonce":"N","contid":"4","as":[]}\n', b'{"op":"set","nonce":"N","contid":"4","engine":{"id":""}}\n',
    b'{"op":"set","nonce":"N","contid":"4","engine":{"id":"a\\nb"}}\n',
    b'{"op":"set","nonce":"N","contid":"4","engine":{"id":"a","x":"y"}}\n',
    b'{"op":"get","nonce":"N"}\n{"op":"get","nonce":"N"}\n', b"\xff\xfe\n", b"[" * 5000 + b"\n", b"x" * 17000 + b"\n",
    b'{"op":"set","nonce":"N","contid":"' + b"9" * 5000 + b'"}\n', b'{"op":"get","nonce":' + b"9" * 10000 + b"}\n",
]  # fmt: skip


@pytest.mark.parametrize("request_", HOSTILE)
def test_hostile_requests_get_an_error(rig: Rig, store: FakeStore, target: int, request_: bytes) -> None:
    connection, nonce = rig.raw()
    answer = said(connection, request_.replace(b'"N"', json.dumps(nonce).encode()), [target])
    assert answer["error"] == "EPROTO"
    assert store.asked == []
    assert rig.server.refused == 1
    assert rig.ask({"op": "list"})["ok"]


def test_clients_are_bounded(rig: Rig) -> None:
    held = [rig.raw()[0] for _ in range(CLIENTS_MAX + 3)]
    assert rig.ask({"op": "list"})["ok"]
    assert rig.server.crowded_out == 4
    for connection in held:
        connection.close()


def test_attempts_of_a_user_are_bounded_and_roots_are_not(tmp_path: Path, store: FakeStore) -> None:
    clock = [0.0]
    server = ContidServer(str(tmp_path / "sock"), "", store, ContidLog(store), lambda: clock[0])
    try:
        assert sum(server._may(1000) for _ in range(3 * ATTEMPTS)) == ATTEMPTS
        assert all(server._may(0) for _ in range(3 * ATTEMPTS))
        assert server._may(1001)
        clock[0] = 0.5
        assert sum(server._may(1000) for _ in range(3 * ATTEMPTS)) == ATTEMPTS // 2
        for uid in range(2000, 2000 + 2 * contid_server.USERS_MAX):
            server._may(uid)
        assert len(server._rates) == contid_server.USERS_MAX
    finally:
        server.close()


def test_a_silent_peer_holds_up_nobody(rig: Rig, target: int) -> None:
    connection, _ = rig.raw()
    assert rig.ask({"op": "get"}, target)["ok"]
    connection.close()


def test_the_signal_that_ends_a_client_ends_no_service(rig: Rig) -> None:
    connection, _ = rig.raw()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    assert rig.ask({"op": "list"})["ok"]
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
