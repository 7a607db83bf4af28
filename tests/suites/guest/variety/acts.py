# SPDX-License-Identifier: Apache-2.0
"""What the scripts of `variety` share: raw system calls, audit messages, generic netlink, and the list of acts.

Never provokes anything by itself. Shares no code with the program under test. x86_64 only, as the guests are.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Act = Callable[[], object]

NETLINK_AUDIT, NETLINK_GENERIC = 9, 16
REQUEST_AND_ACK = 1 | 4
ERROR = 2
AT_FDCWD = -100
HOSTILE = (
    b"plain",
    b"with space",
    b'quo"te',
    b"apostrophe' res=success",
    b"new\nline type=SYSCALL msg=audit(1.000:1): pid=1",
    b"\x1b[31mred\x1b]0;title\x07",
    b"\xff\xfe\x80 not UTF-8 \xc3",
    "Grüße 名前".encode(),
    b"\x01\x1d\x7f",
    b"pid=1 uid=0 auid=0 exe=fake",
    b"4142",
    b"(null)",
    b"'\\x41%s%n",
    b"n" * 255,
)
"""Names and words that try to be something else. Each is a legal file name."""

ACTS: dict[str, Act] = {}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def act(function: Act) -> Act:
    """Enter a function into the list; it runs in a child of its own, so that it leaves nothing in the next one."""
    ACTS[function.__name__] = function
    return function


def attempt(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make a system call; an error is the negative errno, as the kernel has it."""
    given = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *given))
    return -ctypes.get_errno() if result < 0 else result


def call(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make a system call that must not fail."""
    result = attempt(number, *arguments)
    if result < 0:
        raise OSError(-result, f"system call {number}: {os.strerror(-result)}")
    return result


def run(*argv: str | bytes, ok: Iterable[int] = (0,), text: bytes = b"") -> None:
    """Run a program; an exit status that is not in `ok` is an error, with what the program said."""
    done = subprocess.run(argv, input=text, capture_output=True, check=False)
    if done.returncode not in ok:
        raise RuntimeError(
            f"{argv!r}: status {done.returncode}: {done.stderr.decode(errors='replace')[-400:]}"
        )


def apart(work: Act) -> int:
    """Do something in a child and return how that ended, as os.waitstatus_to_exitcode has it."""
    child = os.fork()
    if not child:
        status = 99
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fine(work: Act) -> None:
    """Do something in a child that must succeed."""
    status = apart(work)
    if status:
        raise RuntimeError(f"{work}: ended with {status}")


def _refused(channel: socket.socket, what: str) -> None:
    (kind,) = struct.unpack_from("=H", answer := channel.recv(65536), 4)
    code = struct.unpack_from("=i", answer, 16)[0] if kind == ERROR else 0
    if code:
        raise OSError(-code, f"{what}: {os.strerror(-code)}")


def audit(kind: int, payload: bytes) -> None:
    """Send the kernel one audit message and wait for its acknowledgement."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_AUDIT) as channel:
        channel.bind((0, 0))
        channel.send(struct.pack("=IHHII", 16 + len(payload), kind, REQUEST_AND_ACK, 1, 0) + payload)
        _refused(channel, f"audit message {kind}")


def attribute(number: int, value: bytes) -> bytes:
    """Pack a netlink attribute."""
    return struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)


def word(value: int) -> bytes:
    """Pack a u32."""
    return struct.pack("=I", value)


def generic(family: bytes, command: int, attributes: bytes) -> None:
    """Send one generic netlink request and wait for its acknowledgement."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC) as channel:
        channel.bind((0, 0))

        def send(number: int, flags: int, command: int, payload: bytes) -> None:
            body = struct.pack("=BBH", command, 1, 0) + payload
            channel.send(struct.pack("=IHHII", 16 + len(body), number, flags, 1, 0) + body)

        controller, get_family, family_name, family_id = 16, 3, 2, 1
        send(controller, 1, get_family, attribute(family_name, family + b"\0"))
        answer = channel.recv(65536)
        if struct.unpack_from("=H", answer, 4)[0] == ERROR:
            raise OSError(-struct.unpack_from("=i", answer, 16)[0], f"no generic netlink family {family!r}")
        at = 20
        number = 0
        while at + 4 <= len(answer) and not number:
            size, name = struct.unpack_from("=HH", answer, at)
            if name == family_id:
                (number,) = struct.unpack_from("=H", answer, at + 4)
            at += size + (-size % 4)
        send(number, REQUEST_AND_ACK, command, attributes)
        _refused(channel, f"{family!r} command {command}")
