# SPDX-License-Identifier: Apache-2.0
"""The package on a plain Debian 12 that boots, one line of its promise after the other.

The tests are the life of one host and run in their order: each begins where the one before it ended. What can be
seen without booting is in test_deb.py and test_chroot.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from enricher.runtime.privileges import names
from tests.lint.tree import ROOT
from tests.packaging.host import AUDIT_LOG, EVENTS, SHARE, SLOT, UNIT, Host
from tests.packaging.traces import left_behind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.packaging.built import Debs

pytestmark = [pytest.mark.full, pytest.mark.vm, pytest.mark.kernel(SLOT)]

ACTIVE_WITHIN = 15.0
"""Seconds, under emulation; what the issue promises."""

RULES = "/etc/audit/rules.d/package-test.rules"
RULE = "-a always,exit -F arch=b64 -S execve -k package-test"
MICRO = 1e6

PROTECTIONS = ("ProtectKernelModules", "ProtectKernelTunables", "MemoryDenyWriteExecute")
UNLOCKED = (*PROTECTIONS, "TimeoutStartUSec")
"""What the drop-in of audit-enricher-bcc changes."""


@pytest.fixture(scope="module")
def host(debs: Debs, previous: Debs) -> Iterator[Host]:
    with Host(debs.main, previous.main, previous.bcc) as machine:
        yield machine


@pytest.fixture(scope="module")
def before(host: Host) -> set[str]:
    """Every name on the disk before anything was installed."""
    return host.names()


def seconds_to_active(host: Host) -> float:
    """By systemd's own clock, from the start job's first step to READY=1."""
    told = host.unit("ActiveState", "InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    assert told["ActiveState"] == "active", host.sh(
        f"systemctl status {UNIT}; journalctl -u {UNIT}", check=False
    )
    began, ended = (int(told[f"{name}TimestampMonotonic"]) for name in ("InactiveExit", "ActiveEnter"))
    return (ended - began) / MICRO


def documented_figures() -> dict[str, str]:
    """Return the rows of the table under "Figures" in docs/packaging.md."""
    text = (ROOT / "docs/packaging.md").read_text()
    section = text.partition("\n## Figures\n")[2].partition("\n## ")[0]
    return {
        name.strip(): value.strip()
        for name, value in re.findall(r"^\| ([^|]+) \| ([^|]+) \|", section, re.MULTILINE)
    }


def exposure(host: Host) -> str:
    """What systemd makes of the unit and its drop-ins."""
    said = host.sh(f"systemd-analyze security --no-pager {UNIT}", check=False)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found, said
    return found[1]


def account_files(host: Host) -> str:
    return host.sh("cat /etc/passwd /etc/group /etc/shadow /etc/gshadow")


def test_install(
    host: Host, before: set[str], previous: Debs, record_property: Callable[[str, object], None]
) -> None:
    assert "/usr/bin/python3" not in before
    assert not host.sh("command -v audit-enricher", check=False)
    host.apt("update")
    host.apt(f"install {SHARE}/{previous.main.name}")
    took = seconds_to_active(host)
    record_property("active after", f"{took:.1f} s")
    record_property("release", host.machine.version)
    assert took <= ACTIVE_WITHIN


def test_first_event(host: Host) -> None:
    host.machine.put(RULES, f"{RULE}\n".encode(), 0o640)
    host.sh("augenrules --load")
    host.sh("/bin/true")
    host.mark(EVENTS)
    assert '"package-test"' in host.sh(f'grep -m1 \'"keys":\\["package-test"\\]\' {EVENTS}')
    assert host.sh(f"stat -c '%a %U %G' {EVENTS}").split() == ["640", "audit-enricher", "audit-enricher"]


def test_the_hosts_namespaces(host: Host) -> None:
    pid = host.unit("MainPID")["MainPID"]
    for kind in ("pid", "user", "net", "uts", "ipc", "cgroup"):
        ours, first = host.sh(f"readlink /proc/{pid}/ns/{kind} /proc/1/ns/{kind}").split()
        assert ours == first, kind


def test_figures_are_the_documented_ones(host: Host, record_property: Callable[[str, object], None]) -> None:
    """Not worse than what docs/packaging.md says. A better one is for the next edition of the table."""
    figures = documented_figures()
    pid = host.unit("MainPID")["MainPID"]
    status = dict(line.split(":", 1) for line in host.sh(f"cat /proc/{pid}/status").splitlines())

    exposed = exposure(host)
    record_property("exposure", exposed)
    assert float(exposed) <= float(figures["exposure"])

    held = set(names(int(status["CapEff"], 16))) | set(names(int(status["CapPrm"], 16)))
    record_property("capabilities at run time", " ".join(sorted(held)) or "none")
    assert held <= set(figures["capabilities at run time"].replace("none", "").split())

    resident = int(status["VmRSS"].split()[0]) / 1024
    record_property("resident memory", f"{resident:.0f} MiB")
    assert resident <= float(figures["resident memory"].removesuffix(" MiB"))


def test_reload(host: Host) -> None:
    pid = host.unit("MainPID")
    host.sh(f"systemctl reload {UNIT}")
    host.mark(EVENTS)
    assert host.unit("MainPID") == pid
    assert host.unit("ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}


def test_bcc_beside_it(host: Host, previous: Debs, record_property: Callable[[str, object], None]) -> None:
    """The package for kernels without BTF, with all that it depends on; this kernel does not need it."""
    bare, pid = host.unit(*UNLOCKED, "DropInPaths"), host.unit("MainPID")
    assert bare == {**dict.fromkeys(PROTECTIONS, "yes"), "TimeoutStartUSec": "1min 30s", "DropInPaths": ""}
    host.apt(f"install {SHARE}/{previous.bcc.name}")
    assert host.unit(*UNLOCKED) == {**dict.fromkeys(PROTECTIONS, "no"), "TimeoutStartUSec": "5min"}
    assert UNIT in host.unit("DropInPaths")["DropInPaths"]
    allowed = host.unit("SystemCallFilter")["SystemCallFilter"].split()
    assert {"bpf", "sched_setscheduler", "setpriority"} <= set(allowed), "the unit's own, and the drop-in's"
    assert host.sh("/usr/bin/python3 -I -c 'import bcc; print(bcc.BPF.__name__)'") == "BPF\n"
    exposed = exposure(host)
    record_property("exposure with audit-enricher-bcc", exposed)
    assert float(exposed) <= float(documented_figures()["exposure with audit-enricher-bcc"])
    # What runs without bcc was left alone, and starts with it.
    assert host.unit("MainPID") == pid
    host.sh(f"systemctl restart {UNIT}")
    seconds_to_active(host)
    host.mark(EVENTS)
    host.apt("purge audit-enricher-bcc")
    assert host.unit(*UNLOCKED, "DropInPaths") == bare
    host.sh(f"systemctl restart {UNIT}")
    seconds_to_active(host)
    host.mark(EVENTS)
    assert float(exposure(host)) < float(exposed)


def test_upgrade_with_records_flowing(host: Host, debs: Debs) -> None:
    pid = host.unit("MainPID")["MainPID"]
    told = len(host.delivered().gaps)
    with host.flow():
        host.mark(EVENTS)
        host.apt(f"install {SHARE}/{debs.main.name}")
        host.mark(EVENTS)
    host.mark(EVENTS, AUDIT_LOG)
    assert host.unit("MainPID")["MainPID"] != pid
    assert host.unit("ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}
    delivered, audited = host.both()
    assert len(delivered.gaps) == told + 1, delivered.told
    assert delivered.unaccounted(audited) == []
    # One restart's worth, or the gap would account for anything.
    gap = delivered.gaps[-1]
    assert audited & set(gap), "records flowed while it restarted"
    flowed = {serial for serial in audited if serial >= min(delivered.serials)}
    assert len(flowed & set(gap)) < len(flowed & delivered.serials)


def test_auditd_is_reloaded_and_restarted_beside_it(host: Host) -> None:
    pid, told = host.unit("MainPID"), host.delivered().told
    daemon = host.sh("pgrep -x auditd").strip()
    with host.flow():
        host.mark(EVENTS, AUDIT_LOG)
        host.sh("pkill -HUP -x auditd")
        host.mark(EVENTS, AUDIT_LOG)
        assert host.sh("pgrep -x auditd").strip() == daemon
        # Debian's unit refuses a stop by hand; the daemon's own signal does it.
        host.sh("pkill -TERM -x auditd; while kill -0 $(cat /run/auditd.pid) 2>/dev/null; do :; done")
        host.mark(EVENTS)
        host.sh("systemctl start auditd.service")
        host.mark(EVENTS, AUDIT_LOG)
    host.mark(EVENTS, AUDIT_LOG)
    assert host.sh("pgrep -x auditd").strip() != daemon
    assert host.unit("MainPID") == pid
    delivered, audited = host.both()
    assert delivered.told == told, "neither a loss nor a gap"
    assert delivered.unaccounted(audited) == []


def test_locked_rules(host: Host) -> None:
    rules = host.sh("auditctl -l")
    host.sh("auditctl -e 2")
    host.sh(f"systemctl restart {UNIT}")
    seconds_to_active(host)
    host.mark(EVENTS, AUDIT_LOG)
    assert "enabled 2" in host.sh("auditctl -s")
    assert host.sh("auditctl -l") == rules
    delivered, audited = host.both()
    assert delivered.unaccounted(audited) == []


def test_reboot(host: Host, record_property: Callable[[str, object], None]) -> None:
    gaps = len(host.delivered().gaps)
    host.reboot()
    record_property("active after, at boot", f"{seconds_to_active(host):.1f} s")
    host.mark(EVENTS)
    assert "enabled 1" in host.sh("auditctl -s")
    assert RULE.split(" -k ", maxsplit=1)[0] in host.sh("auditctl -l")
    # Serials begin anew with a boot: all up to the first that was read is a gap.
    later = host.delivered().gaps[gaps:]
    assert [gap.start for gap in later] == [1]
    assert host.sh(f"systemctl is-failed {UNIT} auditd.service", check=False).split() == ["active", "active"]


def test_remove_and_purge_leave_nothing(host: Host, before: set[str]) -> None:
    pid = host.unit("MainPID")["MainPID"]
    host.sh(f"rm {RULES}; augenrules --load; rm -f /etc/audit/audit.rules.prev", check=False)
    host.apt("remove audit-enricher")
    assert not host.sh(f"test -e /proc/{pid} && echo alive", check=False)
    assert host.sh(f"test -s {EVENTS} && echo kept") == "kept\n"
    host.apt("purge audit-enricher")
    assert left_behind(before, host.names(), host.owned()) == []
    assert host.sh("find /run -path /run/udev -prune -o -name '*enricher*' -print") == ""
    assert "audit-enricher" not in account_files(host)
    assert host.sh("systemctl list-units --all --plain --no-legend 'audit-enricher*'") == ""
    assert host.sh("systemctl list-unit-files --no-legend 'audit-enricher*'", check=False) == ""
    assert "enricher" not in host.sh("cat /proc/net/unix")
    assert host.sh("pgrep -f '[a]udit-enricher'", check=False) == ""
