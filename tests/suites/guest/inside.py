# SPDX-License-Identifier: Apache-2.0
"""Programs in user namespaces of many kinds, each with what it sees of itself in its arguments.

    inside.py ACT TAG

A leaf is an exec of /bin/true as ``inside-leaf tag=.. uid=.. gid=.. euid=.. suid=.. fsuid=.. egid=.. sgid=.. fsgid=..
user=INUM,PARENT,..,INITIAL``: the numbers are the process's own, "-" where its map has none and it reads 65534. Runs
as root of the guest.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CLONE_NEWUSER = 0x10000000
OVERFLOW = 65534
PR_SET_DUMPABLE = 4
Maps = tuple[str, str]
"""What is written to uid_map and to gid_map."""

_libc = ctypes.CDLL(None, use_errno=True)


def own_namespace() -> str:
    """The inum of the caller's user namespace."""
    return str(Path("/proc/self/ns/user").stat().st_ino)


def seen(number: int, kind: str) -> str:
    """What a process is to be shown as that reads this of itself."""
    rows = [tuple(map(int, line.split())) for line in Path(f"/proc/self/{kind}_map").read_text().splitlines()]
    mapped = any(first <= number < first + count for first, _, count in rows)
    return str(number) if number != OVERFLOW or mapped else "-"


def leaf(tag: str, above: list[str]) -> None:
    """Say it, by an exec in a child."""
    pid = os.fork()
    if not pid:
        uid, euid, _ = os.getresuid()
        gid, egid, _ = os.getresgid()
        # An exec makes the saved ids and those for files the effective ones.
        uids = {"uid": uid} | dict.fromkeys(("euid", "suid", "fsuid"), euid)
        gids = {"gid": gid} | dict.fromkeys(("egid", "sgid", "fsgid"), egid)
        said = [f"{name}={seen(number, 'uid')}" for name, number in uids.items()]
        said += [f"{name}={seen(number, 'gid')}" for name, number in gids.items()]
        chain = ",".join([own_namespace(), *above])
        os.execv("/bin/true", ["inside-leaf", f"tag={tag}", *said, f"user={chain}"])  # noqa: S606
    assert os.waitpid(pid, 0)[1] == 0


def within(maps: Maps, body: Callable[[list[str]], None], above: list[str] | None = None) -> None:
    """Run `body` in a child in a new user namespace whose maps this process writes."""
    chain = [own_namespace(), *(above or [])]
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        os.close(go[1])
        assert _libc.unshare(CLONE_NEWUSER) == 0, os.strerror(ctypes.get_errno())
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        body(chain)
        os._exit(0)
    os.read(ready[0], 1)
    for kind, text in zip(("uid", "gid"), maps, strict=True):
        if text:
            Path(f"/proc/{pid}/{kind}_map").write_text(text)
    os.write(go[1], b"x")
    assert os.waitpid(pid, 0)[1] == 0
    for fd in (*ready, *go):
        os.close(fd)


def root() -> None:
    """Become root of the own user namespace, whose children's maps it may write."""
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    dumpable()


def dumpable() -> None:
    """Have the own files in /proc again, which a change of ids gives to root."""
    assert _libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0


def become(uids: tuple[int, int, int], gids: tuple[int, int, int]) -> None:
    """Take these real, effective and saved ids."""
    os.setgroups([])
    os.setresgid(*gids)
    os.setresuid(*uids)


def nested(tag: str) -> None:
    """Three deep, each with other numbers; the innermost has 7 as 101502."""

    def innermost(above: list[str]) -> None:
        become((7, 8, 9), (21, 20, 20))
        leaf(f"{tag}.3", above)

    def middle(above: list[str]) -> None:
        root()
        leaf(f"{tag}.2", above)
        within(("5 500 10", "20 700 5"), innermost, above)

    def outer(above: list[str]) -> None:
        root()
        leaf(f"{tag}.1", above)
        within(("0 1000 2000", "0 1000 2000"), middle, above)

    within(("0 100000 65536", "0 100000 65536"), outer)


def many(tag: str) -> None:
    """As many extents as a map can have, and one more than it holds itself."""
    # Less than a page of text is all that can be written.
    uids = "".join(f"{2 * row} {1000 + 3 * row} 1\n" for row in range(340))
    gids = "".join(f"{10 * row} {300000 + 7 * row} 2\n" for row in reversed(range(6)))

    def body(above: list[str]) -> None:
        for uid, gid in ((0, 0), (2 * 170, 31), (2 * 339, 51)):
            pid = os.fork()
            if not pid:
                become((uid, uid, uid), (gid, gid, gid))
                leaf(f"{tag}.{uid}", above)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0

    within((uids, gids), body)


def late(tag: str) -> None:
    """A leaf before the maps are written, one when the first is, and one when both are."""
    chain = [own_namespace()]
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        assert _libc.unshare(CLONE_NEWUSER) == 0
        for step in ("none", "uid", "both"):
            leaf(f"{tag}.{step}", chain)
            os.write(ready[1], b"x")
            os.read(go[0], 1)
        os._exit(0)
    for name, text in (("uid_map", "3 0 1"), ("gid_map", "4 0 1"), ("", "")):
        os.read(ready[0], 1)
        if name:
            Path(f"/proc/{pid}/{name}").write_text(text)
        os.write(go[1], b"x")
    assert os.waitpid(pid, 0)[1] == 0


def again(tag: str) -> None:
    """Namespaces one after the other, whose maps differ in nothing but the numbers; the kernel gives inums again."""
    for number in range(40):

        def body(above: list[str], number: int = number) -> None:
            leaf(f"{tag}.{number}", above)

        within((f"{1000 + number} 0 1", f"{2000 + number} 0 1"), body)


def alone(tag: str) -> None:
    """An ordinary user writes his own map, as `unshare -Ur` does."""
    pid = os.fork()
    if not pid:
        chain = [own_namespace()]
        os.setgroups([])
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        dumpable()
        assert _libc.unshare(CLONE_NEWUSER) == 0
        for name, text in (("setgroups", "deny"), ("uid_map", "0 1000 1"), ("gid_map", "0 1000 1")):
            Path(f"/proc/self/{name}").write_text(text)
        leaf(tag, chain)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


if __name__ == "__main__":
    {act.__name__: act for act in (nested, many, late, again, alone)}[sys.argv[1]](sys.argv[2])
