# SPDX-License-Identifier: Apache-2.0
"""The service under its own unit: start, status, follow, reload, restart, crash, and no hook."""

from __future__ import annotations

import json
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests import schema
from tests.suites.staging import COMMAND, SHARE
from tests.vm.guest import Completed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

Json = dict[str, Any]
UNIT = "audit-enricher.service"
EVENTS = "/var/log/audit-enricher/events.json"
DROP_IN = "/etc/audit-enricher/config.d/suite.toml"
TRUTH = f"{SHARE}/workload/truth"
GONE = "while pgrep -f '[a]udit-enricher plugin' >/dev/null; do sleep 0.2; done"
"""Until a plugin has ended, which it does a moment after auditd: it has an account to give."""
PARTS, EACH = 4, 16
"""Execs with which the output is rotated."""
KEPT = {"CAP_AUDIT_WRITE", "CAP_BPF"}
"""The second on kernels before 5.19."""


class Service:
    """The unit in the guest. Its file is read from where a test began."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self._read = 0
        self._marks = 0

    def sh(self, line: str, *, check: bool = True) -> Completed:
        return self.guest.run(["sh", "-c", line], timeout=120, check=check)

    def unit(self, verb: str) -> None:
        # Longer than systemd waits for a start and an end: then there is something to be read of why.
        done = self.guest.run(["systemctl", verb, UNIT], timeout=240)
        assert done.returncode == 0, self.sh(f"journalctl -q --no-pager -n 30 -u {UNIT}").stdout.decode()

    def reload(self) -> None:
        """Reload, and wait until it is over: to systemd 252 it is when the signal was sent."""
        said = "no setting has changed|notice: (new settings are in force|the new settings are wrong)"
        count = f"journalctl -q -o cat -u {UNIT} | grep -cE '{said}'"
        before = int(self.sh(count, check=False).stdout)
        self.unit("reload")
        self.sh(f'until [ "$({count})" -gt {before} ]; do :; done')

    def status(self) -> Json:
        # One that has more to do than its host can is not heard within the command's 10 s each time.
        asked = self.sh(f"until {COMMAND} status --json 2>/dev/null; do sleep 0.2; done")
        told: Json = json.loads(asked.stdout)
        return told

    def truth(self, count: int, tag: str) -> None:
        """So many execs with this tag, each an event; and wait until the last of them is in the file."""
        self.guest.run([TRUTH, str(count), tag], timeout=120, check=True)
        self._marks += 1
        mark = f"suite-mark-{self._marks}-end"
        pipe = f"tail -n +1 -F {EVENTS} 2>/dev/null | grep --line-buffered --text {mark}"
        self.guest.run(["auditctl", "-m", mark], check=True)
        with self.guest.popen(["sh", "-c", pipe]) as search:
            search.read_line(60)

    def events(self, *, killed: bool = False) -> list[Json]:
        """What was written since the last call, all of it as the schema has it; a kill may leave half a line."""
        data = whole_lines(self.guest.get(EVENTS))
        fresh, self._read = data[self._read :], len(data)
        if killed:
            lines = fresh.splitlines(keepends=True)
            whole = [line for line in lines if schema.is_whole(line)]
            assert len(lines) - len(whole) <= 1
            fresh = b"".join(whole)
        return schema.parse(fresh)

    def from_the_start(self) -> None:
        """The file is another one."""
        self._read = 0


def whole_lines(data: bytes) -> bytes:
    """Without a line at the end that is being written."""
    return data[: data.rfind(b"\n") + 1]


def notices(events: list[Json]) -> list[Json]:
    return [event["notice"] for event in events if event["type"] == "NOTICE"]


def numbers(events: list[Json], tag: str) -> list[int]:
    """The numbers of the execs with this tag, in the order of the file."""
    found = []
    for event in events:
        for record in event["records"]:
            arguments = record["fields"].get("ARGV", []) if record["type"] == "EXECVE" else []
            if arguments[:1] == ["truth-leaf"] and f"tag={tag}" in arguments:
                found += [int(word[2:]) for word in arguments if word.startswith("n=")]
    return found


@contextmanager
def serving(guest: Guest, rules: Rules) -> Iterator[Service]:
    """The service, started for the first time; gone with all it left at the end."""
    guest.run(["sh", "-c", GONE], timeout=60, check=True)  # one state directory is for one of them
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    guest.run(["systemctl", "unmask", UNIT], check=True)
    made = Service(guest)
    try:
        made.unit("start")
        yield made
    finally:
        wipe = f"rm -rf {DROP_IN} /var/log/audit-enricher /var/lib/audit-enricher"
        guest.run(["sh", "-c", f"systemctl stop {UNIT}; systemctl reset-failed {UNIT}; {wipe}"], timeout=60)
        guest.run(["systemctl", "mask", UNIT], check=True)


@pytest.fixture
def service(guest: Guest, rules: Rules) -> Iterator[Service]:
    with serving(guest, rules) as made:
        yield made


@pytest.mark.only_on("6.1")
def test_the_life_of_a_service(
    service: Service, guest: Guest, record_property: Callable[[str, object], None]
) -> None:
    """One start and what follows from it: each part begins where the one before it ended."""
    status = service.status()
    assert (status["mode"], status["gap"], status["watchdog"]) == ("full", None, True)
    held = set(status["capabilities"])
    assert "CAP_AUDIT_WRITE" in held
    assert held <= KEPT
    kernel_says = service.sh(f"cat /proc/{status['pid']}/status").stdout.decode()
    masks = {line.split()[1] for line in kernel_says.splitlines() if line.startswith(("CapPrm", "CapEff"))}
    assert masks == {f"{1 << 29 | (1 << 39 if 'CAP_BPF' in held else 0):016x}"}
    record_property("service", f"keeps {' '.join(sorted(held))}; {status['rss'] >> 20} MiB")

    service.truth(20, "first")
    assert numbers(service.events(), "first") == list(range(20))
    assert status["account"]["counts"]["hook_misses"] is not None or "CAP_BPF" not in held

    _follows(service, guest)
    _reloads(service)
    _restarts(service)
    _crashes(service)


def _follows(service: Service, guest: Guest) -> None:
    with guest.popen([COMMAND, "follow", "--key", "exec", "--count", "3", "--format", "json"]) as following:
        # It follows from when the service says so, which is before it prints anything: have it told.
        wait = f"until {COMMAND} status --json | grep -q '\"followers\": *1'; do :; done"
        service.sh(wait)
        service.truth(3, "followed")
        followed = schema.parse(b"".join(following.read_line(60) for _ in range(3)))
        assert following.wait(60) == 0
    assert {event["keys"][0] for event in followed} == {"exec"}
    service.events()


def _reloads(service: Service) -> None:
    """Another file in the middle of a burst: each exec is in one of the two, and in one only."""
    guest = service.guest
    other = "/var/log/audit-enricher/other.json"
    with guest.popen([TRUTH, "400", "reloaded"]) as burst:
        guest.put(DROP_IN, f'[output]\npath = "{other}"\n[source]\nring_memory = "1M"\n'.encode())
        service.reload()
        guest.put(DROP_IN, b"[output]\nkeys = 5\n")
        service.reload()
        assert burst.wait(120) == 0
    guest.run(["rm", DROP_IN], check=True)
    service.reload()
    service.truth(1, "after")
    first = service.events()
    second = schema.parse(guest.get(other))
    told = notices(second) + notices(first)
    assert [(each["kind"], each.get("settings")) for each in told] == [
        ("reload", ["source.ring_memory", "output.path"]),
        ("refused", None),
        ("reload", ["source.ring_memory", "output.path"]),
    ]
    assert sorted(numbers(first, "reloaded") + numbers(second, "reloaded")) == list(range(400))
    assert service.status()["reloaded"]


def _restarts(service: Service) -> None:
    service.unit("restart")
    service.truth(5, "restarted")
    events = service.events()
    (gap,) = notices(events)
    assert (gap["kind"], gap["reason"]) == ("gap", "restart")
    serials = [int(event["id"].rpartition(":")[2]) for event in events]
    before = serials[: serials.index(0)]
    assert gap["first"] - 1 in before, "it begins behind the record that closed the run before"
    assert numbers(events, "restarted") == list(range(5))
    told = service.status()["gap"]
    assert (told["first"], told["last"]) == (gap["first"], gap["last"])
    said = service.sh(f"journalctl -q --no-pager -o cat -u {UNIT}").stdout.decode()
    assert "every record is accounted for" in said, said


def _crashes(service: Service) -> None:
    """SIGKILL: systemd starts it again, and the gap begins behind what was surely written."""
    pid = service.status()["pid"]
    service.truth(5, "killed")
    service.sh(f"systemctl kill --kill-who=main --signal=KILL {UNIT}")
    service.sh(f"until {COMMAND} status >/dev/null 2>&1; do :; done")
    assert service.status()["pid"] != pid
    service.truth(5, "again")
    events = service.events(killed=True)
    (gap,) = notices(events)
    assert (gap["kind"], gap["reason"]) == ("gap", "crash")
    assert (numbers(events, "killed"), numbers(events, "again")) == (list(range(5)), list(range(5)))


@pytest.mark.only_on("5.10")
def test_without_a_hook(service: Service) -> None:
    """kernel.ftrace_enabled=0 takes every hook away, as a kernel without function tracing would."""
    guest = service.guest
    service.unit("stop")
    service.events()
    service.sh("sysctl -q kernel.ftrace_enabled=0")
    try:
        service.unit("start")
        service.truth(5, "blind")
        status = service.status()
        shown = service.sh(f"systemctl status --no-pager {UNIT}").stdout.decode()
        guest.put(DROP_IN, b'[service]\nwithout_hook = "refuse"\n')
        refused = service.sh(f"systemctl restart {UNIT}", check=False)
        code = service.sh(f"systemctl show -P ExecMainStatus {UNIT}").stdout.strip()
    finally:
        service.sh("sysctl -q kernel.ftrace_enabled=1")
    assert (status["mode"], status["hook"]) == ("degraded", "")
    assert "degraded, no hook" in shown
    assert refused.returncode != 0
    assert code == b"6"
    events = service.events()
    kinds = [notice["kind"] for notice in notices(events)]
    assert kinds == ["gap", "degraded"]
    assert numbers(events, "blind") == list(range(5))
    (first, *_) = [event for event in events if numbers([event], "blind")]
    assert first["enrichment"]["context"] == "none"
    assert "ftrace_enabled" in first["enrichment"]["reason"]
    assert "complete" not in first["enrichment"]
    assert "namespaces" not in first


@pytest.mark.only_on("6.1")
def test_rotation(service: Service) -> None:
    """By size, without losing an event, and no more files than wanted."""
    guest = service.guest
    guest.put(DROP_IN, b'[output]\nrotate_size = "64K"\nrotate_keep = 3\n')
    service.reload()
    # More than one for each file: what is written at once is not divided.
    for part in range(PARTS):
        guest.run([TRUTH, str(EACH), f"rotated-{part}"], timeout=120, check=True)
        while service.status()["output"]["rotations"] <= part:
            pass  # each question is an event too
    service.unit("stop")
    listed = service.sh(f"ls -1 -v -r {EVENTS}*").stdout.decode().split()
    assert len(listed) == 4
    modes = service.sh(f"stat -c '%a %U %G' {EVENTS}*").stdout.decode().splitlines()
    assert set(modes) == {"640 audit-enricher audit-enricher"}
    events = [event for name in listed for event in schema.parse(guest.get(name))]
    found = [(part, number) for part in range(PARTS) for number in numbers(events, f"rotated-{part}")]
    written = [(part, number) for part in range(PARTS) for number in range(EACH)]
    assert found
    assert found == written[-len(found) :], "the oldest go, and nothing else"


@pytest.mark.only_on("6.1")
def test_a_full_disk(service: Service) -> None:
    """A file system of 128 KiB below the output: what does not fit waits, and comes when there is room."""
    guest = service.guest
    service.sh(
        "mkdir -p /var/log/audit-enricher/small && mount -t tmpfs -o size=128k none /var/log/audit-enricher/small"
    )
    try:
        small = "/var/log/audit-enricher/small/events.json"
        service.sh("chown audit-enricher: /var/log/audit-enricher/small")
        # The unit's mounts are its own; those made later come in.
        guest.put(DROP_IN, f'[output]\npath = "{small}"\n'.encode())
        service.reload()
        service.sh(f"{shlex.join([TRUTH, '100', 'full'])}")
        output = service.status()["output"]
        assert output["waiting"] > 0
        assert "No space left" in output["error"]
        service.sh("mount -o remount,size=4m /var/log/audit-enricher/small")
        while service.status()["output"]["waiting"]:
            pass
        lines = guest.get(small).splitlines(keepends=True)
        cut = [line for line in lines if not line.endswith(b"}\n")]
        assert len(cut) <= 1, "what the disk had room for of the first line that did not fit"
        events = schema.parse(b"".join(line for line in lines if line not in cut))
        assert numbers(events, "full") == list(range(100))
        assert service.status()["output"]["failed"] == 0
    finally:
        service.sh("umount -l /var/log/audit-enricher/small")
