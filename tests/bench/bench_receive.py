# SPDX-License-Identifier: Apache-2.0
"""What one record costs in the audit source: receiving it, reading its stamp, taking it apart.

Run it with ``python3 -m tests.bench.bench_receive``. It opens a socket pair and, where it may, a pair of
NETLINK_USERSOCK sockets; no audit socket and nothing that leaves the machine. The figures are the best of
several rounds: what the code costs, not what the machine was doing besides.
"""

from __future__ import annotations

import argparse
import os
import socket
import time
from typing import TYPE_CHECKING

from enricher.model import Record
from enricher.sources.audit.netlink import HEADER, HEADER_SIZE
from enricher.sources.audit.receiver import Receiver
from enricher.sources.audit.text import parse, stamp_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NETLINK_USERSOCK = 2
SYSCALL = (
    b"audit(1700000000.123:%d): arch=c000003e syscall=257 success=yes exit=3 a0=ffffff9c a1=7ffd3c4%05x "
    b"a2=80000 a3=0 items=1 ppid=811 pid=%d auid=1000 uid=1000 gid=1000 euid=1000 suid=1000 fsuid=1000 "
    b'egid=1000 sgid=1000 fsgid=1000 tty=pts0 ses=4 comm="sh" exe="/usr/bin/dash" '
    b'subj=unconfined key="bench"'
)
PATH = (
    b'audit(1700000000.123:%d): item=0 name="/srv/file-%d" inode=%d dev=08:01 mode=0100644 ouid=0 ogid=0 '
    b"rdev=00:00 nametype=NORMAL cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0"
)


def records(count: int) -> Iterator[Record]:
    """Make records of which no two are the same: serial, arguments and pid differ."""
    for i in range(count):
        yield Record(1300, SYSCALL % (i, i, 1000 + i % 60000))


def unix_pair() -> tuple[socket.socket, socket.socket]:
    """Return a connected pair of datagram sockets."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)


def netlink_pair() -> tuple[socket.socket, socket.socket]:
    """Return two netlink sockets of which the second sends to the first."""
    reader = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_USERSOCK)
    reader.bind((0, 0))
    reader.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
    writer = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_USERSOCK)
    writer.connect((reader.getsockname()[0], 0))
    return reader, writer


def measure_receive(make: Callable[[], tuple[socket.socket, socket.socket]], batch: int, total: int) -> float:
    """Return microseconds of processor time per record, of the receiver alone."""
    reader, writer = make()
    reader.settimeout(0)
    writer.settimeout(0)
    datagrams = [
        HEADER.pack(HEADER_SIZE + len(r.text), r.type, 0, 0, 0) + r.text for r in records(min(total, batch))
    ]
    receiver = Receiver(reader, batch, kernel_only=False)
    spent = 0.0
    got = 0
    while got < total:
        queued = 0
        for datagram in datagrams:
            try:
                writer.send(datagram)
            except BlockingIOError:
                break
            queued += 1
        begin = time.process_time()
        seen = 0
        while seen < queued:
            seen += len(receiver.receive())
        spent += time.process_time() - begin
        got += seen
    writer.close()
    receiver.close()
    return spent / got * 1e6


def measure_call(call: Callable[[Record], object], items: list[Record]) -> float:
    """Return microseconds of processor time per record for `call`."""
    begin = time.process_time()
    for item in items:
        call(item)
    return (time.process_time() - begin) / len(items) * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--total", type=int, default=100_000, help="records per round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    syscalls = list(records(options.total))
    paths = [Record(1302, PATH % (i, i % 5000, i)) for i in range(options.total)]
    print(f"{os.uname().release} {os.uname().machine}; us of processor time per record")
    for name, make in (("unix", unix_pair), ("netlink", netlink_pair)):
        for batch in (32, 128, 512):
            try:
                best = min(measure_receive(make, batch, options.total) for _ in range(options.rounds))
            except OSError as error:
                print(f"receive {name:8} batch {batch:4}: {error}")
            else:
                print(f"receive {name:8} batch {batch:4}: {best:6.2f}")
    calls: list[tuple[str, Callable[[Record], object], list[Record]]] = [
        ("(empty call)", lambda record: record, syscalls),
        ("stamp_of", lambda record: stamp_of(record.text), syscalls),
        ("parse SYSCALL", parse, syscalls),
        ("parse PATH", parse, paths),
    ]
    for name, call, items in calls:
        print(f"{name:27}: {min(measure_call(call, items) for _ in range(options.rounds)):6.2f}")


if __name__ == "__main__":
    main()
