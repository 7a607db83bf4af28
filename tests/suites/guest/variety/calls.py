# SPDX-License-Identifier: Apache-2.0
"""Acts of `variety` that make many different system calls, with arguments that have names.

What a call answers does not matter here, refused ones are recorded as well; but nothing may be left behind.
Never run by itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import socket
import stat
import struct
from functools import partial
from pathlib import Path

from .acts import AT_FDCWD, act, attempt, call, fine

NEW_NAMESPACES = (0x20000, 0x4000000, 0x8000000, 0x40000000, 0x20000000, 0x10000000, 0x2000000, 0x80)
"""mnt, uts, ipc, net, pid, user, cgroup, time."""
ANY_CHILD = 0x40000000
"""__WALL: for clone the last flag is a part of the signal that the child sends at its exit."""


def named(name: bytes) -> None:
    """Give this process another comm."""
    call(157, 15, name[:15] + b"\0", 0, 0, 0)


@act
def files() -> None:
    for flags in (
        os.O_RDONLY | os.O_CREAT,
        os.O_WRONLY | os.O_APPEND | os.O_SYNC,
        os.O_RDWR | os.O_TRUNC | os.O_NONBLOCK | os.O_NOATIME,
        os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_DIRECT,
        os.O_PATH | os.O_NOCTTY,
        os.O_RDONLY | os.O_DSYNC | 0o100000,
        0o3,
    ):
        attempt(2, b"file", flags, 0o640)
        attempt(257, AT_FDCWD, b"file", flags, 0o640)
    attempt(257, AT_FDCWD, b".", os.O_RDWR | os.O_TMPFILE, 0o600)
    attempt(257, 4_000, b"relative to nothing", os.O_RDONLY, 0)
    attempt(2, b"x" * 5000, 0, 0)
    attempt(2, None, 0, 0)
    attempt(85, b"created", 0o4755)
    descriptor = os.open("file", os.O_RDWR)
    for where in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE, 77):
        attempt(8, descriptor, 0, where)
    os.write(descriptor, b"content")
    os.ftruncate(descriptor, 100)
    os.truncate("file", 50)
    attempt(285, descriptor, 1 | 2, 0, 4096)
    attempt(221, descriptor, 0, 0, 4)
    attempt(77, descriptor, -1)
    for command, argument in (
        (1, 0),
        (2, 1),
        (3, 0),
        (4, os.O_NONBLOCK),
        (1030, 0),
        (1033, 3),
        (1024, 1),
        (99, 0),
    ):
        attempt(72, descriptor, command, argument)
    for how in (fcntl.LOCK_SH, fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_UN):
        fcntl.flock(descriptor, how)
    for name in ("file", "created"):
        Path(name).unlink()
    for mode in (os.R_OK, os.W_OK | os.X_OK, os.F_OK, 0o7):
        attempt(21, b"/etc/shadow", mode)
        attempt(269, AT_FDCWD, b"/etc/shadow", mode)
        attempt(439, AT_FDCWD, b"/etc/shadow", mode, 0x200)
    for number in (4, 6):
        attempt(number, b"/etc/passwd", ctypes.create_string_buffer(512))
    attempt(262, AT_FDCWD, b"/etc/passwd", ctypes.create_string_buffer(512), 0x100)
    attempt(332, AT_FDCWD, b"/etc/passwd", 0x100, 0x7FF, ctypes.create_string_buffer(512))


@act
def attributes() -> None:
    Path("file").write_text("content")
    for mode in (0o600, 0o4755, 0o2775, 0o1777, 0):
        attempt(90, b"file", mode)
        attempt(268, AT_FDCWD, b"file", mode)
    attempt(452, AT_FDCWD, b"file", 0o644, 0x100)
    attempt(91, os.open("file", os.O_RDONLY), 0o640)
    for owner in ((0, 0), (1000, -1), (-1, 1000), (65534, 65534), (4_000_000_000, 0)):
        attempt(92, b"file", *owner)
        attempt(94, b"file", *owner)
        attempt(260, AT_FDCWD, b"file", *owner, 0x100)
    for name in (b"user.variety", b"trusted.variety", b"security.variety", b'user."quo\nted'):
        attempt(188, b"file", name, b"value \xff\x01", 8, 1)
        attempt(189, b"file", name, b"value", 5, 2)
        attempt(191, b"file", name, ctypes.create_string_buffer(64), 64)
        attempt(197, b"file", name)
    os.utime("file", (1, 2))
    attempt(235, b"file", None)
    attempt(280, AT_FDCWD, b"file", struct.pack("=4q", 0, (1 << 30) - 1, 0, (1 << 30) - 2), 0x100)
    Path("file").unlink()


@act
def names_of_files() -> None:
    Path("one").write_text("content")
    os.link("one", "two")
    attempt(265, AT_FDCWD, b"one", AT_FDCWD, b"three", 0x400)
    Path("symbolic").symlink_to("one")
    Path("two").rename("four")
    for flags in (1, 2, 4):
        attempt(316, AT_FDCWD, b"one", AT_FDCWD, b"four", flags)
    attempt(89, b"symbolic", ctypes.create_string_buffer(64), 64)
    attempt(267, AT_FDCWD, b"symbolic", ctypes.create_string_buffer(64), 64)
    for kind in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFDIR):
        attempt(133, b"node %o" % kind, kind | 0o640, os.makedev(1, 3))
        attempt(259, AT_FDCWD, b"node2 %o" % kind, kind | 0o640, os.makedev(1, 3))
    attempt(83, b"directory", 0o1777)
    attempt(258, AT_FDCWD, b"directory2", 0o2750)
    os.chdir("directory")
    os.chdir("..")
    attempt(81, os.open(".", os.O_RDONLY | os.O_DIRECTORY))
    attempt(84, b"directory")
    attempt(263, AT_FDCWD, b"directory2", 0x200)
    for path in Path().iterdir():
        path.unlink()


@act
def mounts() -> None:
    call(272, NEW_NAMESPACES[0])
    readonly, nosuid, nodev, noexec, remount, bind, recursive, private, relatime = (
        1, 2, 4, 8, 32, 4096, 16384, 1 << 18, 1 << 21,
    )  # fmt: skip
    attempt(165, None, b"/", None, recursive | private, None)
    point = Path("mount point")
    point.mkdir()
    here = bytes(point)
    for kind, flags in (
        (b"tmpfs", nosuid | nodev | noexec),
        (b"proc", readonly | relatime),
        (b"nonsense", 0),
    ):
        attempt(165, b'source "quoted"', here, kind, flags, b"size=1m" if kind == b"tmpfs" else None)
    attempt(165, b"/etc", here, None, bind | recursive, None)
    attempt(165, None, here, None, remount | bind | readonly, None)
    attempt(442, AT_FDCWD, here, 0x8000, struct.pack("=4Q", 1 | 2, 0, 0, 0), 32)
    for _ in range(4):
        attempt(166, here, 2 | 8)
    attempt(166, b"/absent", 1 | 4)
    attempt(428, AT_FDCWD, b"/etc", 1 | 0x80000)
    attempt(430, b"tmpfs", 1)
    attempt(155, b".", b".")
    attempt(161, b"/absent")
    attempt(167, b"absent", 0x8000)
    attempt(168, b"absent")
    point.rmdir()


@act
def namespaces() -> None:
    child_only = 0x1200011
    for flag in NEW_NAMESPACES:
        fine(partial(attempt, 272, flag))
        for number, arguments in (
            (56, (flag | signal.SIGCHLD, None, None, None, None)),
            (435, (struct.pack("=8Q", flag, 0, 0, 0, signal.SIGCHLD, 0, 0, 0), 64)),
        ):
            child = attempt(number, *arguments)
            if not child:
                os._exit(0)
            if child > 0:
                os.waitpid(child, ANY_CHILD)
    for kind, flag in (("mnt", NEW_NAMESPACES[0]), ("uts", NEW_NAMESPACES[1]), ("net", 0), ("pid", 0)):
        attempt(308, os.open(f"/proc/self/ns/{kind}", os.O_RDONLY), flag)
    attempt(308, 4_000, child_only)
    attempt(272, 1)

    def renamed() -> None:
        call(272, NEW_NAMESPACES[1])
        call(170, b'host "quoted"\n', 14)
        call(171, b"domain", 6)

    fine(renamed)


@act
def processes() -> None:
    for option, value in (
        (1, 9),
        (4, 0),
        (8, 1),
        (24, 13),
        (23, 21),
        (38, 1),
        (21, 0),
        (36, 1),
        (47, 2),
        (9999, 0),
    ):
        attempt(157, option, value, 0, 0, 0)
    for persona in (0xFFFFFFFF, 0x0040000, 0):
        attempt(135, persona)
    for request in (2, 16, 0x4200, 0x4206, 0x4210):
        attempt(101, request, 4_000_000, 0, 0)
    for policy, priority in ((0, 0), (1, 10), (2, 99), (3, 0), (5, 0), (9, 1)):
        attempt(144, 0, policy, struct.pack("=i", priority))
    attempt(144, 0, 0, struct.pack("=i", 0))
    attempt(203, 0, 8, struct.pack("=Q", 1))
    attempt(141, 0, 0, 5)
    for limit in (
        resource.RLIMIT_NOFILE,
        resource.RLIMIT_CORE,
        resource.RLIMIT_NPROC,
        resource.RLIMIT_MEMLOCK,
    ):
        soft, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (soft, hard))
        attempt(160, limit, struct.pack("=qq", soft, hard))
    attempt(160, 99, struct.pack("=qq", 0, 0))
    os.setpgid(0, 0)
    attempt(424, -1, signal.SIGHUP, None, 0)
    attempt(434, os.getpid(), 0)
    attempt(310, 4_000_000, None, 0, None, 0, 0)
    attempt(312, os.getpid(), os.getpid(), 0, 0, 0)
    for number in (113, 114, 117, 119, 105, 106, 122, 123):  # set*id to what they are
        attempt(number, 0, 0, 0)
    attempt(116, 0, None)
    attempt(62, os.getpid(), 0)
    attempt(200, os.getpid(), 0)
    attempt(10, 0x1000, 4096, 1 | 2 | 4)
    attempt(9, 0, 4096, 1 | 4, 0x22, -1, 0)
    attempt(28, 0x1000, 4096, 4)
    attempt(149, 0x1000, 4096)
    attempt(319, b'memory "quoted"', 1 | 2)
    attempt(323, 0x800)
    attempt(298, bytes(128), 0, -1, -1, 0)
    attempt(321, 99, bytes(64), 64)


@act
def system() -> None:
    """What only an administrator may do, asked for in ways that are refused."""
    for number, arguments in (
        (103, (9, 0, 0)),
        (163, (b"/absent/acct",)),
        (164, (None, struct.pack("=ii", 99_999, 0))),
        (169, (0, 0, 0, 0)),
        (172, (9,)),
        (173, (0x10000, 1, 1)),
        (175, (b"no module", 9, b"param=1")),
        (176, (b"absent", os.O_NONBLOCK)),
        (179, (0x800007 << 8, b"/absent", 0, None)),
        (227, (99, struct.pack("=qq", 0, 0))),
        (246, (0, 0, None, 0)),
        (248, (b"user", b'a "key"', b"value", 5, -3)),
        (250, (0, -3, 0)),
        (249, (b"user", b"a key", None, -3)),
        (304, (4_000, b"handle", 0)),
        (313, (4_000, b"param", 0)),
        (320, (-1, -1, 0, None, 0)),
    ):
        attempt(number, *arguments)


@act
def sockets_of_all_families() -> None:
    for family in (1, 2, 10, 16, 17, 38, 40, 29, 31, 44, 99):
        for kind in (1 | 0x80000, 2 | 0x800, 3, 5):
            attempt(41, family, kind, 0)
            attempt(53, family, kind, 0, ctypes.create_string_buffer(8))
    with socket.socket() as server, contextlib.suppress(OSError):
        for level, option in ((1, 2), (1, 8), (1, 36), (6, 1), (6, 13), (0, 1), (41, 26), (255, 1), (263, 1)):
            attempt(54, server.fileno(), level, option, struct.pack("=i", 1), 4)
            attempt(
                55, server.fileno(), level, option, ctypes.create_string_buffer(64), struct.pack("=I", 64)
            )
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        with socket.create_connection(server.getsockname()) as client:
            accepted, _ = server.accept()
            for flags in (0x40, 0x4000, 0x40 | 0x4000 | 0x1):
                attempt(44, client.fileno(), b"data", 4, flags, None, 0)
            attempt(45, accepted.fileno(), ctypes.create_string_buffer(64), 64, 0x40 | 2, None, None)
            attempt(46, client.fileno(), bytes(56), 0x4000)
            for how in (0, 1, 2, 9):
                attempt(48, client.fileno(), how)
            accepted.close()
