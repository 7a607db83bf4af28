# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: a second reader of the audit multicast group, which writes down what there was.

Usage: serials.py FILE. Prints "ready"; ends when its standard input does, and prints how many datagrams it lost
itself. In FILE are six bytes for each record: its serial and its type. Imports nothing of the project: what both have
wrong, no comparison finds.
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import sys

NETLINK_AUDIT, SOL_NETLINK, ADD_MEMBERSHIP, READLOG = 9, 270, 1, 1
RCVBUFFORCE, MEMINFO, DROPS = 33, 55, 8
BUFFER = 256 << 20
STILL = 0.5

stamp = re.compile(rb"audit\(\d+\.\d+:(\d+)\)")


def main(path: str) -> None:
    """Read and write."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_AUDIT)
    sock.setsockopt(socket.SOL_SOCKET, RCVBUFFORCE, BUFFER)
    sock.bind((0, 0))  # unbound it has the kernel's own port, and is skipped as the sender
    sock.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, READLOG)
    print("ready", flush=True)
    ended = False
    with open(path, "wb", buffering=0) as file:  # noqa: PTH123
        while True:
            ready, _, _ = select.select(
                [sock] if ended else [sock, sys.stdin], [], [], STILL if ended else None
            )
            if not ready:
                break
            if sys.stdin in ready and not os.read(0, 65536):
                ended = True
            if sock not in ready:
                continue
            found = []
            for _ in range(512):
                try:
                    data = sock.recv(65536, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break
                except OSError:
                    continue  # ENOBUFS: the count below tells
                match = stamp.search(data[16:80])
                if match:
                    found.append(struct.pack("=IH", int(match[1]), struct.unpack_from("=H", data, 4)[0]))
            file.write(b"".join(found))
    print(struct.unpack("=9I", sock.getsockopt(socket.SOL_SOCKET, MEMINFO, 36))[DROPS], flush=True)


main(sys.argv[1])
