# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: tries what the threat model says somebody tries, as whoever it was started as.

Usage: attempts.py <ATTEMPTS

ATTEMPTS is a JSON array of arrays: a verb and its words. Prints a JSON array: of each attempt "ok", or the name of the
error with which the kernel refused it. Imports nothing of the project.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import struct
import subprocess
import sys

NETLINK_AUDIT, READLOG = 9, 1
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
SYS_BPF = 321  # x86_64
MAP_UPDATE, MAP_DELETE = 2, 3
LINK_NEXT, LINK_BY_ID, LINK_DETACH, MAP_BY_ID = 31, 30, 34, 14
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
libc.ptrace.restype = ctypes.c_long


def failed() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def read(path: str) -> None:
    """A file, or what is in a directory."""
    if os.path.isdir(path):  # noqa: PTH112 - one that may not be looked at is none
        os.listdir(path)  # noqa: PTH208
    else:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


def write(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


def kill(pid: str) -> None:
    """No signal, but the right to send one."""
    os.kill(int(pid), 0)


def trace(pid: str) -> None:
    if libc.ptrace(PTRACE_ATTACH, int(pid), None, None):
        raise failed()
    os.waitpid(int(pid), 0)
    libc.ptrace(PTRACE_DETACH, int(pid), None, None)


def trace_own() -> None:
    """The same with a process that lets its user do it."""
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            trace(str(child.pid))
        finally:
            child.kill()


def multicast(text: str) -> None:
    """A datagram to the group that readers of audit are in. The kernel has it too, and no use for it."""
    body = text.encode() + b"\0"
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_AUDIT) as sender:
        sender.bind((0, 0))
        sender.sendto(struct.pack("=IHHII", 16 + len(body), 1300, 1, 1, 0) + body, (0, READLOG))


def join() -> None:
    """The group itself."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_AUDIT) as reader:
        reader.bind((0, READLOG))


def bpf(command: int, *words: int) -> int:
    attribute = ctypes.create_string_buffer(struct.pack("=8I", *words, *[0] * (8 - len(words))), 128)
    result = int(libc.syscall(SYS_BPF, command, attribute, 128))
    if result < 0:
        raise failed()
    (number,) = struct.unpack_from("=I", attribute, 4)
    return int(number) if command == LINK_NEXT else result


def detach() -> None:
    """Every link of a BPF program that there is; the first refusal counts."""
    number, detached = 0, 0
    while True:
        try:
            number = bpf(LINK_NEXT, number)
        except OSError as error:
            if error.errno == errno.ENOENT and detached:
                return
            raise
        fd = bpf(LINK_BY_ID, number)
        try:
            bpf(LINK_DETACH, fd)
        finally:
            os.close(fd)
        detached += 1


def fill(map_id: str, key_size: str, value_size: str, count: str, command: int = MAP_UPDATE) -> None:
    """Put so many entries of nothing into a map. What the map has no room for is what was wanted."""
    fd = bpf(MAP_BY_ID, int(map_id))
    key, value = ctypes.create_string_buffer(int(key_size)), ctypes.create_string_buffer(int(value_size))
    keys, values = struct.pack("=Q", ctypes.addressof(key)), struct.pack("=Q", ctypes.addressof(value))
    words = struct.unpack("=4I", keys + (values if command == MAP_UPDATE else bytes(8)))
    try:
        for number in range(int(count)):
            ctypes.memmove(key, struct.pack("=Q", (0xFFFF << 48) | number), 8)
            try:
                bpf(command, fd, 0, *words)
            except OSError as error:
                if error.errno not in (errno.E2BIG, errno.ENOENT):
                    raise
    finally:
        os.close(fd)


def drain(map_id: str, key_size: str, value_size: str, count: str) -> None:
    """Take them out again."""
    fill(map_id, key_size, value_size, count, MAP_DELETE)


VERBS = {
    verb.__name__: verb
    for verb in (connect, read, write, kill, trace, trace_own, multicast, join, detach, fill, drain)
}


def attempt(verb: str, words: list[str]) -> str:
    try:
        VERBS[verb](*words)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "ok"


def main() -> None:
    """Try all."""
    tried = json.loads(sys.stdin.read() or "[]")
    print(json.dumps([attempt(verb, words) for verb, *words in tried]))


main()
