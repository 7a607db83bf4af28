# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: a second reader of the audit multicast group, to hold the account against.

Usage: second_reader.py RESULT. Prints "ready", reads until its standard input ends and the group has been
still, then writes a JSON object to RESULT: what was read between the two self-test records of the run beside
it. It imports nothing of the project on purpose: what both have wrong, no comparison finds.
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

NETLINK_AUDIT, SOL_NETLINK, ADD_MEMBERSHIP, READLOG = 9, 270, 1, 1
RCVBUFFORCE, MEMINFO, DROPS = 33, 55, 8
BUFFER = 256 << 20
STILL = 1.5
EOE = 1320

stamp = re.compile(rb"audit\((\d+)\.(\d+):(\d+)\)")
nonce = re.compile(rb"op=audit-enricher-(start|stop)[ ']")


def main(result: str) -> None:
    """Read, then count."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_AUDIT)
    sock.setsockopt(socket.SOL_SOCKET, RCVBUFFORCE, BUFFER)
    sock.bind((0, 0))  # unbound it has the kernel's own port, and is skipped as the sender
    sock.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, READLOG)
    print("ready", flush=True)
    seen: list[tuple[int, int]] = []  # type, serial
    bounds: dict[bytes, int] = {}
    ended = False
    while True:
        wanted = [sock] if ended else [sock, sys.stdin]
        ready, _, _ = select.select(wanted, [], [], STILL if ended else None)
        if not ready:
            break
        if sys.stdin in ready and not os.read(0, 65536):
            ended = True
        if sock not in ready:
            continue
        data = sock.recv(65536)
        found = stamp.search(data[16:80])
        serial = int(found[3]) if found else -1
        seen.append((struct.unpack_from("=H", data, 4)[0], serial))
        mark = nonce.search(data)
        if mark:
            bounds[mark[1]] = serial
    inside = [(kind, serial) for kind, serial in seen if bounds[b"start"] <= serial <= bounds[b"stop"]]
    drops = struct.unpack("=9I", sock.getsockopt(socket.SOL_SOCKET, MEMINFO, 36))[DROPS]
    counted = {
        "records": len(inside),
        "events": len({serial for _, serial in inside}),
        "types": Counter(kind for kind, _ in inside),
        "drops": drops,
    }
    Path(result).write_text(json.dumps(counted))


main(sys.argv[1])
