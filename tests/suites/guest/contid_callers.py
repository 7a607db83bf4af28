# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: asks for container identifiers as whoever may, and as whoever may not, through the socket.

    contid_callers.py SOCKET

Each role is a process with what it needs to be asked about below it. Prints one line of JSON: by role, what was
answered, "" for yes, else the error's name. The socket has to admit everybody; who may what is the kernel side's.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from enricher.errors import ContidRefused
from enricher.runtime import contid_client

PATH = sys.argv[1]
UNSET = 2**64 - 1
CLONE_NEWUSER = 0x10000000
NEW_OF_A_CONTAINER = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000  # ns, uts, ipc, pid, net
KEPT = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 21, 27, 29, 31)
"""What Docker leaves root of a container (AUDIT_WRITE is 29, AUDIT_CONTROL would be 30), and CAP_SYS_ADMIN (21)."""
NOBODY = 65534
TAKEN = 900
HOSTS = [os.open(f"/proc/1/ns/{kind}", os.O_RDONLY) for kind in ("net", "uts", "ipc", "mnt")]
libc = ctypes.CDLL(None, use_errno=True)


def asked(request: dict[str, object], target: int) -> str:
    while True:
        try:
            contid_client.ask(PATH, request, target)
        except ContidRefused as error:
            if error.name != "EAGAIN":
                return error.name
            time.sleep(0.5)  # the limit is by the second
        else:
            return ""


def put(target: int, contid: int, **more: object) -> str:
    return asked({"op": "set", "contid": str(contid), **more}, target)


def chain(target: int) -> list[str]:
    while True:
        try:
            said = contid_client.ask(PATH, {"op": "get"}, target)["contid"]
        except ContidRefused as error:
            if error.name != "EAGAIN":
                raise
            time.sleep(0.5)
        else:
            assert isinstance(said, list)
            return said


def own_chain() -> list[str]:
    own = os.pidfd_open(os.getpid())
    try:
        return chain(own)
    finally:
        os.close(own)


def below(act: Callable[[], object] = lambda: None) -> int:
    """A child that has done this and stays; returns its pidfd."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            act()
            os.write(writing, b"!")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 1) == b"!"
    os.close(reading)
    return os.pidfd_open(pid)


def with_child() -> None:
    if not os.fork():
        signal.pause()


def with_thread() -> None:
    threading.Thread(target=signal.pause, daemon=True).start()


def reap_all() -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def unshare(flags: int) -> None:
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def root() -> None:
    """As it is."""


def in_container() -> None:
    """As the first process of a container that was given CAP_SYS_ADMIN as well."""
    unshare(NEW_OF_A_CONTAINER)
    pid = os.fork()  # who made a pid namespace is not in it
    if pid:
        os.waitpid(pid, 0)
        os._exit(0)
    for number in range(64):
        if number not in KEPT:
            libc.prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP: a number that the kernel does not know fails
    kept = sum(1 << number for number in KEPT)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    if libc.capset(header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)):
        raise OSError(ctypes.get_errno(), "capset")


def in_user_namespace() -> None:
    unshare(CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text("0 0 1")
    Path("/proc/self/gid_map").write_text("0 0 1")


def unprivileged() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


ROLES = (root, in_container, in_user_namespace, unprivileged)


def denied() -> dict[str, object]:
    """Who has no right: nothing is set, changed, cleared or shed."""
    own = os.pidfd_open(os.getpid())
    before = chain(own)
    child = below()
    said: dict[str, object] = {
        "set": put(child, 5),
        "change": put(own, 5),
        "clear": put(own, UNSET),
        "clear a child's": put(child, UNSET),
        "as an orchestrator": put(child, 5, orchestrator=True),
        "as an orchestrator, itself": put(own, 5, orchestrator=True),
        "grant": asked({"op": "grant"}, child),
        "kept": before != [] and before == chain(child) == chain(own) == far_away(),
    }
    signal.pidfd_send_signal(child, signal.SIGKILL)
    reap_all()
    return said


def far_away() -> list[str]:
    """The chain of one that went as far as it could: two forks, a session, the host's namespaces, its own ones."""
    ours, theirs = socket.socketpair()
    if not os.fork():
        os.setsid()
        # Each where it may: that is the role's affair.
        for fd in HOSTS:
            libc.setns(fd, 0)
        libc.unshare(CLONE_NEWUSER)
        libc.unshare(NEW_OF_A_CONTAINER)
        if not os.fork():
            try:
                said = own_chain()
            except Exception as error:  # noqa: BLE001 - told in place of the answer
                said = [repr(error)]
            theirs.send(json.dumps(said).encode())
        os._exit(0)
    theirs.close()
    answer: list[str] = json.loads(ours.recv(4096))
    ours.close()
    return answer


def allowed(stranger: int, number: int) -> dict[str, object]:
    """Who has it: each row of the table."""
    own = os.pidfd_open(os.getpid())
    mine = number + 1
    said: dict[str, object] = {"self": put(own, mine)}
    before = chain(own)
    child, second, third = below(), below(), below()
    said["unset"] = put(child, UNSET)
    said["children"] = put(below(with_child), mine)
    said["threads"] = put(below(with_thread), mine)
    said["self, with children"] = put(own, mine)
    said["no descendant"] = put(stranger, mine)
    said["set"] = put(child, mine)
    said["again"] = put(child, mine)
    said["another"] = put(child, number + 2)
    said["a second one"] = put(second, mine)
    said["of another owner"] = put(third, TAKEN)
    said["as an orchestrator"] = put(third, number + 3, orchestrator=True)
    orchestrated = [str(number + 3)] if not said["as an orchestrator"] else []
    said["kept"] = (chain(child), chain(second), chain(third), chain(own)) == (
        [str(mine), *before],
        [str(mine), *before],
        [*orchestrated, *before],
        before,
    )
    return said


def serve(role: Callable[[], None], number: int, stranger: int, main: socket.socket) -> None:
    """The process of a role."""
    os.setpgid(0, 0)
    main.recv(1)  # it has its identifier, as a container has
    role()
    socket.send_fds(main, [b"ready"], [os.pidfd_open(os.getpid())])
    while (what := main.recv(16)) != b"":
        said = denied() if what == b"denied" else allowed(stranger, number)
        main.send(json.dumps(said).encode())


def play(role: Callable[[], None], number: int, stranger: int) -> dict[str, object]:
    """A role, first without a grant and then with one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if not pid:
        ours.close()
        try:
            serve(role, number, stranger, theirs)
        except Exception as error:  # noqa: BLE001 - what failed is the answer
            theirs.send(json.dumps({"failed": repr(error)}).encode())
        finally:
            os._exit(0)
    theirs.close()
    target = os.pidfd_open(pid)
    said: dict[str, object] = {"own": put(target, number)}
    ours.send(b"!")
    first, fds, _, _ = socket.recv_fds(ours, 4096, 1)
    assert first == b"ready", first
    if role is not root:
        ours.send(b"denied")
        said["denied"] = json.loads(ours.recv(65536))
        said["granted"] = asked({"op": "grant"}, fds[0])
    ours.send(b"allowed")
    said["allowed"] = json.loads(ours.recv(65536))
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return said


def main() -> None:
    stranger, holder = below(), below()
    told: dict[str, object] = {"taken": put(holder, TAKEN)}
    for number, role in enumerate(ROLES):
        told[role.__name__] = play(role, 100 * number + 100, stranger)
    for fd in (stranger, holder):
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    reap_all()
    print(json.dumps(told))


main()
