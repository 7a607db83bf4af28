# SPDX-License-Identifier: Apache-2.0
"""What can befall the service on a host, made to happen in a guest and healed again.

Owns the faults, each a function, and what each may cost: whether another process of the service is there afterwards,
and whether events may be lost or lack their contexts meanwhile. Never judges: tests/suites/reckoning.py does.
"""

from __future__ import annotations

import json
import shlex
import struct
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from tests.suites.reckoning import SEEN, STOP
from tests.suites.staging import COMMAND, SHARE
from tests.suites.test_service import EVENTS, TRUTH, UNIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.suites.test_service import Service

JOURNAL = "/var/lib/audit-enricher/journal.sqlite"
RULE = "-a always,exit -F arch=b64 -S execve -k exec"
FILL = "/home/tester"
SERIALS = 1 << 32
_FULL_MAP = 20_000
"""Entries, more than the map of open events has room for."""
_ANSWERS = f"until {COMMAND} status >/dev/null 2>&1; do sleep 0.3; done"


class Size(NamedTuple):
    """How much of a fault."""

    seconds: float
    disk: int
    """Programs that are started on a full disk, at least."""
    containers: tuple[int, int]
    """How many, and in one of how many something is executed."""
    pids: int
    """Processes, of which there can be some seven hundred at a time."""


SMALL = Size(3, 60, (200, 10), 300)
FULL = Size(30, 400, (10_000, 20), 4000)


class Fault(NamedTuple):
    """One of them. `make` is given the service and how much of it is wanted."""

    make: Callable[[Service, Size], None]
    ends: bool = False
    """Afterwards there is another process, and a gap before it."""
    loses: bool = False
    """Records may be lost, or be without a context."""
    rules: bool = False
    """Somebody flushes audit's rules meanwhile: what is done then may leave no record."""


def main_pid(service: Service) -> str:
    """The service's process, asked of systemd: it may be stopped."""
    return service.sh(f"systemctl show -P MainPID {UNIT}").stdout.decode().strip()


@contextmanager
def load(service: Service, tag: str, pause: float = 0.2) -> Iterator[list[int]]:
    """A mixed load (guest/load.sh) while the block runs; then the number of its rounds is in the list."""
    rounds: list[int] = []
    service.sh(f"rm -f {STOP}")
    with service.guest.popen(["sh", f"{SHARE}/guest/load.sh", STOP, tag, str(pause)]) as process:
        try:
            yield rounds
        finally:
            service.sh(f"touch {STOP}")
        assert process.wait(120) == 0, process.stderr
        rounds.append(int(process.read()))


def stopped(service: Service, size: Size) -> None:
    """SIGSTOP. From 30 s on systemd's watchdog may end it, which is a crash."""
    service.sh(
        f"kill -STOP {main_pid(service)}; sleep {size.seconds}; kill -CONT $(systemctl show -P MainPID {UNIT})"
    )
    service.sh(_ANSWERS)


def out_of_memory(service: Service, _size: Size) -> None:
    """The kernel's OOM killer, within the unit's cgroup."""
    group = f"/sys/fs/cgroup/system.slice/{UNIT}"
    pid = main_pid(service)
    service.sh(f"echo 4M >{group}/memory.max; while [ -d /proc/{pid} ]; do sleep 0.1; done")
    service.sh(_ANSWERS)


def clock_steps(service: Service, _size: Size) -> None:
    """An hour ahead, and two back, with something happening at each time."""
    for step in (3600, -7200, 3600):
        service.sh(f"date -s @$(($(date +%s) + {step})) >/dev/null; {TRUTH} 5 stepped")


def disk_is_full(service: Service, size: Size) -> None:
    """The root file system, for everybody but root: events, journal, state and spool are on it."""
    fill = f"dd if=/dev/zero of={FILL}/fill bs=64K; dd if=/dev/zero of={FILL}/rest bs=1K"
    room = f"fallocate -l $(($(df --output=avail -B1 {FILL} | tail -1) - 4194304)) {FILL}/room; {fill}"
    service.sh(f"runuser -u tester -- sh -c {shlex.quote(room)} 2>/dev/null || true")
    try:
        service.sh(f"{TRUTH} {size.disk} disk")
        told = '"error": *"[^"]*No space left'
        service.sh(
            f"until {TRUTH} 20 disk && {COMMAND} status --json | grep -q {shlex.quote(told)}; do :; done"
        )
    finally:
        service.sh(f"rm -f {FILL}/room {FILL}/fill {FILL}/rest")
    test = "import json, sys; sys.exit(json.load(sys.stdin)['output']['waiting'] > 0)"
    service.sh(
        f"until {COMMAND} status --json | python3 -c {shlex.quote(test)}; do {TRUTH} 1 room; sleep 0.3; done"
    )


def journal_is_corrupted(service: Service, _size: Size) -> None:
    """Its pages, while it is written; the start after that finds it as it is."""
    service.sh(
        f"dd if=/dev/urandom of={JOURNAL} bs=4096 seek=1 count=64 conv=notrunc 2>/dev/null; {TRUTH} 20 journal"
    )
    service.unit("restart")
    test = "import json, sys; sys.exit(bool(json.load(sys.stdin)['journal']['error']))"
    service.sh(
        f"{TRUTH} 5 journal; until {COMMAND} status --json | python3 -c {shlex.quote(test)}; do sleep 1; done"
    )


def socket_directory_is_removed(service: Service, _size: Size) -> None:
    """Events go on; who asks is told where nobody listens. Another start makes it anew."""
    service.sh(f"rm -rf /run/audit-enricher; {TRUTH} 5 unheard")
    asked = service.guest.run([COMMAND, "status"], timeout=60)
    assert asked.returncode not in (0, 1), asked.stderr
    assert b"no service answers" in asked.stderr
    assert b"hint: " in asked.stderr
    service.sh(f"until grep -q --text tag=unheard {EVENTS}; do sleep 0.2; done")
    service.unit("restart")
    service.status()


def auditd_is_killed(service: Service, _size: Size) -> None:
    """It is started beside the service first. systemd starts it again, and the end of each start flushes the rules."""
    again = f"auditctl -D >/dev/null; auditctl {RULE}"
    service.sh(f"systemctl start auditd; {again}; {TRUTH} 5 auditd")
    shown = "systemctl show auditd -P"
    killed = f"pid=$({shown} MainPID); kill -KILL $pid; {TRUTH} 5 alone"
    # Seen by systemd, then over its start or given up: what flushes the rules comes behind the start itself.
    noticed = f"while [ $({shown} MainPID) = $pid ]; do sleep 0.1; done"
    settled = f"until {shown} SubState | grep -qxE 'running|dead|failed'; do sleep 0.2; done"
    ended = (
        f"until {shown} SubState | grep -qxE 'dead|failed'; do pkill -TERM -x auditd || true; sleep 0.3; done"
    )
    service.sh(f"{killed}; {noticed}; {settled}; {ended}; {again}; systemctl reset-failed auditd || true")


def programs_are_detached(service: Service, _size: Size) -> None:
    """By one who may trace the service: the hook is gone, and it is told. Another start has it again."""
    said = service.guest.run(["python3", f"{SHARE}/guest/overlay.py", main_pid(service)], timeout=60)
    assert said.returncode == 0, said.stderr
    assert int(said.stdout) > 0
    told = '"kind":"blind"'
    service.sh(f"until grep -q --text {shlex.quote(told)} {EVENTS}; do {TRUTH} 70 blind; done")
    service.unit("restart")


def map_is_filled(service: Service, _size: Size) -> None:
    """That of open events, by root of the host, with entries of nothing."""
    found = json.loads(service.sh("bpftool -j map show").stdout)
    (known,) = [each for each in found if each.get("name") == "open_events"]
    words = [str(known["id"]), str(known["bytes_key"]), str(known["bytes_value"]), str(_FULL_MAP)]
    for verb in ("fill", "drain"):
        asked = json.dumps([[verb, *words]]).encode()
        done = service.guest.run(
            ["python3", f"{SHARE}/guest/attempts.py"], input=asked, timeout=300, check=True
        )
        assert json.loads(done.stdout) == ["ok"], done.stdout
        service.sh(f"{TRUTH} 20 {verb}ed")


def many_containers(service: Service, size: Size) -> None:
    """At the same time, with an exec in some."""
    count, every = size.containers
    words = ["python3", f"{SHARE}/guest/many.py", str(count), str(every), TRUTH, "many"]
    done = service.guest.run(words, timeout=900, check=True)
    assert int(done.stdout) == count // every


def pids_go_round(service: Service, size: Size) -> None:
    """Some five hundred numbers for all processes: each is used again and again."""
    service.sh("sysctl -q kernel.pid_max=1000")
    try:
        service.guest.run([TRUTH, str(size.pids), "pids"], timeout=600, check=True)
    finally:
        service.sh("sysctl -q kernel.pid_max=4194304")


def serials_go_round(service: Service, _size: Size) -> None:
    """The kernel's counter, set near its end while the service is down; it goes round while it runs.

    In steps of less than half its range: what is further away is behind.
    """
    found = service.sh("grep -E ' [bBdD] serial([.][0-9]+)?$' /proc/kallsyms").stdout.decode()
    candidates = [int(line.split()[0], 16) for line in found.splitlines()]
    for target in (0x60000000, 0xC0000000, SERIALS - 400):
        service.unit("stop")
        now = last_serial(service)
        with service.guest.memory() as memory:
            values = {at: struct.unpack("<I", memory.read(at, 4))[0] for at in candidates}
            places = [at for at, value in values.items() if 0 <= value - now < 5000]
            assert len(places) == 1, (now, values)
            memory.write(places[0], struct.pack("<I", target))
        service.unit("start")
        service.sh(f"{TRUTH} 1 jumped")
    service.sh(f"{TRUTH} 500 round")
    assert last_serial(service) < 1 << 20


def last_serial(service: Service) -> int:
    """The last one that the second reader has."""
    service.sh("auditctl -m what-is-the-serial")
    data = service.guest.run(["tail", "-c", "6", SEEN], check=True).stdout
    return int(struct.unpack("=IH", data)[0])


def machine_is_suspended(service: Service, size: Size) -> None:
    """No CPU of the guest runs for so long, and its clock stands still."""
    with service.guest.suspended():
        time.sleep(size.seconds)  # the fault is this long
    service.sh(f"{TRUTH} 5 resumed")


FAULTS = {
    "stopped": Fault(stopped),
    "clock": Fault(clock_steps),
    "containers": Fault(many_containers),
    "pids": Fault(pids_go_round),
    "suspended": Fault(machine_is_suspended),
    "memory": Fault(out_of_memory, ends=True),
    "disk": Fault(disk_is_full, loses=True),
    "journal": Fault(journal_is_corrupted, ends=True),
    "socket": Fault(socket_directory_is_removed, ends=True),
    "auditd": Fault(auditd_is_killed, rules=True),
    "detached": Fault(programs_are_detached, ends=True, loses=True),
    "map": Fault(map_is_filled, loses=True),
    "serials": Fault(serials_go_round, ends=True),
}
