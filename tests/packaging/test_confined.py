# SPDX-License-Identifier: Apache-2.0
"""The service under its AppArmor profile, enforced, on a plain Debian 12: it does its work, and nothing was denied it.

The tests are the life of one host and run in their order, as in test_package.py. That the profile lets the code's
paths through is compared, path by path, in tests/unit/test_apparmor.py.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.packaging.host import EVENTS, SHARE, SLOT, UNIT, Host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.packaging.built import Debs

pytestmark = [pytest.mark.full, pytest.mark.vm, pytest.mark.kernel(SLOT)]

LOADED = "/sys/kernel/security/apparmor/profiles"
PROFILE = "audit-enricher"
FILE = f"/etc/apparmor.d/{PROFILE}"
DROP_IN = f"/etc/systemd/system/{UNIT}.d/apparmor.conf"
ID = "c0ffee" + "0" * 58
SCOPE = f"/sys/fs/cgroup/system.slice/docker-{ID}.scope"
SETTINGS = """
[journal]
enabled = true

[sinks.lines]
type = "file"
path = "/var/log/audit-enricher/lines.txt"
schema = "text"

[sinks.local]
type = "unix"

[sinks.nobody]
type = "relp"
address = "127.0.0.1:9"
"""


@pytest.fixture(scope="module")
def apparmor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's package, which the plain host's own source does not have."""
    work = tmp_path_factory.mktemp("apparmor")
    subprocess.run(["apt-get", "download", "apparmor"], cwd=work, check=True, capture_output=True)
    (deb,) = work.glob("apparmor_*.deb")
    plain = work / "apparmor.deb"  # a version may have a colon
    return deb.rename(plain)


@pytest.fixture(scope="module")
def host(debs: Debs, apparmor: Path) -> Iterator[Host]:
    with Host(debs.main, apparmor) as machine:
        yield machine


def denied(host: Host, profile: str = PROFILE) -> list[str]:
    """Return the records of what AppArmor denied, from the kernel's log, auditd's and what the service itself wrote."""
    logs = f"cat /var/log/audit/audit.log* {EVENTS}*; journalctl --no-pager -k; dmesg"
    lines = host.sh(f"({logs}) 2>/dev/null | grep -a DENIED", check=False).splitlines()
    return [line for line in lines if re.search(rf"profile=\\?\"{profile}", line)]


def modes(host: Host) -> dict[str, str]:
    """Return what each process of the service is confined by."""
    group = host.unit("ControlGroup")["ControlGroup"]
    line = f"for pid in $(cat /sys/fs/cgroup{group}/cgroup.procs); do echo $pid $(cat /proc/$pid/attr/current); done"
    return dict(row.split(" ", 1) for row in host.sh(line).splitlines())  # two words each


def test_installing_loads_it(host: Host, debs: Debs) -> None:
    host.apt("update")
    host.apt(f"install {SHARE}/apparmor.deb")
    assert host.sh("aa-enabled").strip() == "Yes"
    host.apt(f"install {SHARE}/{debs.main.name}")
    assert f"{PROFILE} (" in host.sh(f"cat {LOADED}")
    # Whatever it is shipped as: here it is enforced.
    host.sh(f"sed -i 's/, complain)/)/' {FILE} && apparmor_parser -r {FILE}")
    assert f"{PROFILE} (enforce)" in host.sh(f"cat {LOADED}")
    host.sh(f"mkdir -p {DROP_IN.rpartition('/')[0]}")
    host.machine.put(DROP_IN, f"[Service]\nAppArmorProfile=-{PROFILE}\n".encode(), 0o644)
    host.sh(f"systemctl daemon-reload && systemctl restart {UNIT}")
    assert host.unit("ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}


def test_the_service_and_its_helpers_are_confined(host: Host) -> None:
    found = modes(host)
    assert len(found) >= 3, "the service, the keeper and the worker"
    assert set(found.values()) == {f"{PROFILE} (enforce)"}
    assert host.sh("cat /proc/1/attr/current").strip() == "unconfined"


def test_it_does_its_work(host: Host) -> None:
    """Every kind of thing that the profile has a rule for: events, files, sockets, destinations, state files."""
    host.machine.put("/etc/audit-enricher/config.d/50-confined.toml", SETTINGS.encode(), 0o644)
    host.sh("auditctl -a always,exit -F arch=b64 -S execve -k confined")
    config = {"ID": ID, "Name": "/confined", "Config": {"Image": "image:1", "Labels": {}}}
    state = f"/var/lib/docker/containers/{ID}/config.v2.json"
    host.sh(f"mkdir -p -m 0710 /var/lib/docker && mkdir -p {state.rpartition('/')[0]}")
    host.machine.put(state, json.dumps(config).encode(), 0o600)
    host.sh(f"systemctl restart {UNIT}")
    # The first event of a container asks for what its runtime knows of it, and may be written before that is answered.
    host.sh(f"mkdir {SCOPE}")
    for _ in range(3):
        host.sh(f"sh -c 'echo $$ >{SCOPE}/cgroup.procs && /bin/true; /bin/true'")
        host.mark(EVENTS, "/var/log/audit-enricher/lines.txt")
    host.sh(f"systemctl reload {UNIT}")
    host.mark(EVENTS)
    said = json.loads(host.sh("audit-enricher status --json"))
    assert said
    found = [line for line in host.sh(f"cat {EVENTS}").splitlines() if ID in line]
    assert any('"confined"' in line and '"image:1"' in line for line in found), (found[-1:], denied(host))
    assert host.sh("ls /var/lib/audit-enricher").split(), "spools and the journal"
    assert host.unit("ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}


def test_at_boot(host: Host) -> None:
    host.reboot()
    host.sh("auditctl -a always,exit -F arch=b64 -S execve -k confined")
    host.mark(EVENTS)
    assert set(modes(host).values()) == {f"{PROFILE} (enforce)"}


def test_nothing_was_denied(host: Host) -> None:
    host.sh(f"systemctl restart {UNIT}")
    host.mark(EVENTS)
    assert denied(host) == []


def test_what_is_denied_is_told(host: Host) -> None:
    """The control: the same profile around root with all capabilities; and what `denied` looks for is there then."""
    attempt = '/usr/bin/python3 -I -c \'open("/etc/shadow").read(); print("read")\''
    assert host.sh(attempt) == "read\n"
    said = host.sh(f"aa-exec -p {PROFILE} -- {attempt} 2>&1", check=False)
    assert "PermissionError" in said
    host.mark(EVENTS)
    assert any("/etc/shadow" in line for line in denied(host))


def test_complain(host: Host) -> None:
    """As the documentation says: everything allowed, and told."""
    host.sh(f"apparmor_parser -r -C {FILE}")
    assert set(modes(host).values()) == {f"{PROFILE} (complain)"}
    host.sh(f"apparmor_parser -r {FILE}")
    assert set(modes(host).values()) == {f"{PROFILE} (enforce)"}


def test_purging_takes_it_away(host: Host) -> None:
    host.sh("echo '/srv/x r,' >/etc/apparmor.d/local/audit-enricher")
    host.apt("purge audit-enricher")
    assert PROFILE not in host.sh(f"cat {LOADED}")
    assert host.sh("find /etc/apparmor.d -name '*audit-enricher*'") == ""
