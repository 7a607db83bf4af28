# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: makes namespaces of every sort, says which, and keeps them until its standard input ends.

What it says is read from /proc by the processes that are in them, one JSON object on one line. Every process that it
starts ends with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

NEWNS, NEWUTS, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x10000000, 0x20000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME = 1, 4, 15
NAME = b"\x1b[31m) (x"
LINK = b"v\x1b[7m\xffa"

Said = dict[str, int]

libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")


def inum(kind: str, who: str | int = "self") -> int:
    return int(str(Path(f"/proc/{who}/ns/{kind}").readlink()).partition("[")[2].rstrip("]"))


def child(act: Callable[[], Said]) -> tuple[int, Said]:
    """Start a process that acts, says what came of it, and waits for its end; return its pid and that."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(ours)
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        os.write(theirs, json.dumps(act()).encode() + b"\n")
        signal.pause()
    os.close(theirs)
    with os.fdopen(ours) as said:
        # A line, not all: what the child starts has the other end too.
        return pid, json.loads(said.readline())


def fd_only() -> Said:
    """A network namespace that only a descriptor of ours holds."""

    def act() -> Said:
        unshare(NEWNET)
        return {"inum": inum("net")}

    pid, said = child(act)
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return {**said, "pid": os.getpid(), "fd": fd}


def users() -> Said:
    """A user namespace in another one, which nobody is in; a uts namespace that the inner one owns."""

    def act() -> Said:
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        unshare(NEWUSER)
        outer = inum("user")
        # The kernel makes none for somebody who has no id in the one that it would be in.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text("7 1000 1")
        Path("/proc/self/gid_map").write_text("7 1000 1")
        unshare(NEWUSER)
        unshare(NEWUTS)
        return {"outer": outer, "inner": inum("user"), "uts": inum("uts")}

    pid, said = child(act)
    return {"pid": pid, **said}


def pids() -> Said:
    """A pid namespace in another one, the first process of which is in neither."""

    def inner() -> Said:
        libc.prctl(PR_SET_NAME, NAME, 0, 0, 0)
        return {"inner": inum("pid")}

    def middle() -> Said:
        number = inum("pid")
        unshare(NEWPID)
        return {"outer": number, **child(inner)[1]}

    def first() -> Said:
        unshare(NEWPID)
        return child(middle)[1]

    pid, said = child(first)
    (below,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    (last,) = Path(f"/proc/{below}/task/{below}/children").read_text().split()
    return {"pid": pid, "middle": int(below), "last": int(last), **said}


def thread() -> Said:
    """A thread of ours in a network namespace of its own."""
    said: dict[str, int] = {}
    ready = threading.Event()

    def act() -> None:
        unshare(NEWNET)
        said.update(pid=os.getpid(), tid=threading.get_native_id(), inum=inum("net", "thread-self"))
        ready.set()
        signal.pause()

    threading.Thread(target=act, daemon=True).start()
    ready.wait()
    return said


def mounted() -> Said:
    """A network namespace that only a mount holds, with a pair of links to the host's."""
    subprocess.run(["ip", "netns", "add", "idle"], check=True)
    pair = [b"ip", b"link", b"add", b"idle-host", b"type", b"veth", b"peer", b"name", LINK, b"netns", b"idle"]
    subprocess.run(pair, check=True)
    subprocess.run(["ip", "addr", "add", "192.0.2.1/24", "dev", "idle-host"], check=True)
    subprocess.run(["ip", "link", "set", "idle-host", "up"], check=True)
    return {"inum": Path("/run/netns/idle").stat().st_ino}


def boxed(pid: str) -> Said:
    """The namespaces of the container whose first process this is, with a pair of links to the mounted one."""
    pair = ["ip", "-n", "idle", "link", "add", "to-box", "type", "veth", "peer", "name", "eth0", "netns", pid]
    subprocess.run(pair, check=True)
    subprocess.run(
        ["nsenter", "-t", pid, "-n", "ip", "addr", "add", "10.9.8.7/16", "dev", "eth0"], check=True
    )
    return {
        "init": int(pid),
        **{kind: inum(kind, pid) for kind in ("mnt", "uts", "ipc", "net", "pid", "cgroup")},
    }


def main() -> None:
    """Make all, say so, wait, and take away what would stay."""
    try:
        truth = {
            "mounted": mounted(),
            "box": boxed(sys.argv[1]),
            "users": users(),
            "pids": pids(),
            "fd": fd_only(),
            "thread": thread(),
        }
        print(json.dumps(truth), flush=True)
        sys.stdin.read()
    finally:
        subprocess.run(["ip", "netns", "del", "idle"], check=False)


main()
