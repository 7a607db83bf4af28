# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: a second reader of the audit multicast group, to hold the account against.

    second_reader.py count RESULT
    second_reader.py serials FILE

Prints "ready" and reads until its standard input ends and the group has been still. With "count" it then writes a JSON
object to RESULT: what was read between the two self-test records of the run beside it. With "serials" FILE grows by
six bytes for each record, its serial and its type, and at the end it prints how many datagrams it lost itself. Behind
the record of a mark, "mark=N=", comes N with the type `MARK`: serials come again when the kernel's counter goes round.

It imports nothing of the project on purpose: what both have wrong, no comparison finds.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import struct
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NETLINK_AUDIT, SOL_NETLINK, ADD_MEMBERSHIP, READLOG = 9, 270, 1, 1
RCVBUFFORCE, MEMINFO, DROPS = 33, 55, 8
BUFFER = 256 << 20
STILL = 1.5
AT_ONCE = 512
"""Datagrams that are taken before what came of them is written."""

MARK = 0xFFFF

stamp = re.compile(rb"audit\(\d+\.\d+:(\d+)\)")
nonce = re.compile(rb"op=audit-enricher-(start|stop)[ ']")
marked = re.compile(rb"mark=(\d+)=")


def group() -> socket.socket:
    """Join it. Says so."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_AUDIT)
    sock.setsockopt(socket.SOL_SOCKET, RCVBUFFORCE, BUFFER)
    sock.bind((0, 0))  # unbound it has the kernel's own port, and is skipped as the sender
    sock.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, READLOG)
    print("ready", flush=True)
    return sock


def datagrams(sock: socket.socket) -> Iterator[list[bytes]]:
    """What there is, again and again, until the standard input has ended and nothing came for a while."""
    ended = False
    while True:
        ready, _, _ = select.select([sock] if ended else [sock, sys.stdin], [], [], STILL if ended else None)
        if not ready:
            return
        if sys.stdin in ready and not os.read(0, 65536):
            ended = True
        found: list[bytes] = []
        while sock in ready and len(found) < AT_ONCE:
            try:
                found.append(sock.recv(65536, socket.MSG_DONTWAIT))
            except BlockingIOError:
                break
            except OSError:
                continue  # ENOBUFS: the kernel's count tells
        yield found


def record_of(data: bytes) -> tuple[int, int]:
    """Its type and its serial, -1 where it has none."""
    found = stamp.search(data[16:80])
    return struct.unpack_from("=H", data, 4)[0], int(found[1]) if found else -1


def drops(sock: socket.socket) -> int:
    """How many datagrams found no room."""
    lost: int = struct.unpack("=9I", sock.getsockopt(socket.SOL_SOCKET, MEMINFO, 36))[DROPS]
    return lost


def count(result: Path) -> None:
    """Read, then count."""
    sock = group()
    seen: list[tuple[int, int]] = []
    bounds: dict[bytes, int] = {}
    for found in datagrams(sock):
        for data in found:
            kind, serial = record_of(data)
            seen.append((kind, serial))
            mark = nonce.search(data)
            if mark:
                bounds[mark[1]] = serial
    inside = [(kind, serial) for kind, serial in seen if bounds[b"start"] <= serial <= bounds[b"stop"]]
    counted = {
        "records": len(inside),
        "events": len({serial for _, serial in inside}),
        "types": Counter(kind for kind, _ in inside),
        "drops": drops(sock),
    }
    result.write_text(json.dumps(counted))


def serials(path: Path) -> None:
    """Read and write."""
    sock = group()
    with path.open("wb", buffering=0) as file:
        for found in datagrams(sock):
            entries = []
            for data in found:
                kind, serial = record_of(data)
                if serial >= 0:
                    entries.append((serial, kind))
                    if mark := marked.search(data):
                        entries.append((int(mark[1]), MARK))
            file.write(b"".join(struct.pack("=IH", *entry) for entry in entries))
    print(drops(sock), flush=True)


WAYS: dict[str, Callable[[Path], None]] = {"count": count, "serials": serials}

WAYS[sys.argv[1]](Path(sys.argv[2]))
