# SPDX-License-Identifier: Apache-2.0
"""What a view costs: microseconds per event, from joined event to finished line, on one core.

    python -m tests.bench.bench_views [events]

The event is an exec with seven records (SYSCALL, EXECVE, CWD, two PATH, PROCTITLE, EOE). Pids, addresses,
arguments and inodes differ from event to event and the containers take turns, as they do on a busy host;
what repeats there repeats here: credentials, programs, rule keys. Then the same for a connect. Best of five runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from enricher import codec
from enricher.enrich.decode import Decoder
from enricher.enrich.native import NativeBuilder
from enricher.model import Context, ContextFlag, Event, HostFacts, Level, Record
from enricher.route.filters import Filter
from enricher.route.views.audit_text import AuditText
from enricher.route.views.native_json import render
from enricher.route.views.table import Table
from enricher.sources.audit.text import parse
from enricher.sources.names import HostNames

EVENTS = 20_000
RUNS = 5
CONTAINERS = 40
HOST_INUMS = tuple(range(4026531830, 4026531840))
HOST = HostFacts("bench", "0" * 32, "00000000-0000-0000-0000-000000000000", "00:04", HOST_INUMS)


def exec_event(number: int) -> Event:
    stamp = b"1772366400.%03d:%d" % (number % 1000, number)
    head = b"audit(" + stamp + b"): "
    pid = 4711 + number
    inode = 1000 + number % 300
    program = (b"ls", b"cat", b"sh", b"grep")[number % 4]
    title = (program + b"\0-la\0/srv/dir%d" % number).hex().upper().encode()
    bodies = (
        (
            1300,
            b"arch=c000003e syscall=59 success=yes exit=0 a0=55d2a9%06x a1=55d2a8%06x a2=55d2a7%06x a3=8"
            b" items=2 ppid=%d pid=%d auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0"
            b' tty=pts0 ses=3 comm="%b" exe="/usr/bin/%b" subj=unconfined key="exec"'
            % (number, number, number, 4000 + number // 8, pid, program, program),
        ),
        (1309, b'argc=3 a0="%b" a1="-la" a2="/srv/dir%d"' % (program, number)),
        (1307, b'cwd="/root"'),
        (
            1302,
            b'item=0 name="/usr/bin/%b" inode=%d dev=fe:01 mode=0100755 ouid=0 ogid=0 rdev=00:00'
            b" nametype=NORMAL cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0" % (program, inode),
        ),
        (
            1302,
            b'item=1 name="/lib64/ld-linux-x86-64.so.2" inode=%d dev=fe:01 mode=0100755 ouid=0 ogid=0'
            b" rdev=00:00 nametype=NORMAL cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0" % (inode + 7),
        ),
        (1327, b"proctitle=" + title),
        (1320, b""),
    )
    event = Event(stamp, 0.0)
    event.records = [Record(kind, head + body) for kind, body in bodies]
    base = 4026532200 + number % CONTAINERS * 10
    inums = tuple(range(base, base + 10))
    levels = (Level(HOST_INUMS[4], pid), Level(base + 4, 7 + number % 50))
    event.context = Context(
        stamp=stamp,
        time=number,
        record_type=1300,
        flags=int(ContextFlag.SUBJECT),
        pid=pid,
        tid=pid,
        ppid=4000,
        auid=1000,
        ses=3,
        start=80_000_000_000 + number,
        cgroup_id=7000 + number % CONTAINERS,
        comm=program,
        inums=inums,
        ids=(0, 0, 0, base, 0, 0, 0, 0, 0, 0),
        levels=levels,
        key=b"%d" % base,
    )
    event.complete = True
    return event


def call_event(number: int) -> Event:
    """A connect that fails: arguments and an address with a meaning, and an error."""
    event = exec_event(number)
    head = b"audit(" + event.stamp + b"): "
    port = 1024 + number % 60000
    event.records = [
        Record(
            1300,
            head
            + b"arch=c000003e syscall=42 success=no exit=-111 a0=%x a1=7ffc%06x a2=10 a3=0 items=0 ppid=1"
            b" pid=%d auid=1000 uid=33 gid=33 euid=33 suid=33 fsuid=33 egid=33 sgid=33 fsgid=33 tty=(none) ses=3"
            b' comm="web" exe="/usr/bin/web" subj=unconfined key="net"'
            % (3 + number % 9, number, 4000 + number),
        ),
        Record(1306, head + b"saddr=0200%04X0A0000%02X0000000000000000" % (port, number % 250)),
        Record(1327, head + b"proctitle=" + (b"web\0--port\0%d" % port).hex().upper().encode()),
        Record(1320, head),
    ]
    return event


def best(events: list[Event], work: Callable[[Event], object]) -> float:
    """Return the least microseconds per event of all runs."""
    least = float("inf")
    for _ in range(RUNS):
        begin = time.perf_counter()
        for event in events:
            work(event)
        least = min(least, time.perf_counter() - begin)
    return least / len(events) * 1e6


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    events = [exec_event(number) for number in range(count)]
    records = len(events[0].records)
    text, table, wanted = AuditText(HOST), Table(120), Filter(keys=["exec"])
    builder, decoder = NativeBuilder(HOST, names=HostNames()), Decoder(HostNames())
    calls = [call_event(number) for number in range(count)]
    size = len(render(builder.build(events[0])))
    library = "stdlib json" if codec._encode is codec._stdlib else "orjson"
    print(f"{count} events of {records} records, {size} bytes of JSON each, Python {sys.version.split()[0]}")
    work: dict[str, Callable[[Event], object]] = {
        "parse alone": lambda event: [parse(record) for record in event.records],
        "filter on a key": wanted.early,
        "decode and interpret": lambda event: decoder.entries(event.records),
        "native event": builder.build,
        f"native event and JSON ({library})": lambda event: render(builder.build(event)),
        "audit text": text.render,
        "table row": lambda event: table.render(builder.build(event)),
    }
    if library == "orjson":
        work["native event and JSON (stdlib json)"] = lambda event: codec._stdlib(builder.build(event))
    for name, step in work.items():
        cost = best(events, step)
        print(f"{name:40} {cost:7.1f} us/event {records / cost * 1e6:12,.0f} records/s")
    records = len(calls[0].records)
    print(
        f"{count} events of a connect, {records} records, {len(render(builder.build(calls[0])))} bytes of JSON each"
    )
    for name in ("decode and interpret", f"native event and JSON ({library})"):
        cost = best(calls, work[name])
        print(f"{name:40} {cost:7.1f} us/event {records / cost * 1e6:12,.0f} records/s")


if __name__ == "__main__":
    main()
