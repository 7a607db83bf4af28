# SPDX-License-Identifier: Apache-2.0
"""Hosts with cgroup v1, alone and beside v2: boots of their own, since the hierarchy is chosen at the boot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.suites.live import Live, truth_of
from tests.suites.rules import Rules
from tests.suites.staging import SHARE, installed
from tests.suites.test_doctor import doctor, in_state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.vm.guest import Guest

SLOT = "6.1"
"""Debian 12's own: later ones still have cgroup v1, systemd soon has not."""

TRUTH = f"{SHARE}/workload/truth"
IMAGE = "localhost/busybox"
PIDS = "/sys/fs/cgroup/pids"
"""The hierarchy that is watched."""
RENAMED = "7e" * 32
APPENDED = {
    "legacy": "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1",
    "hybrid": "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=0",
}

pytestmark = [pytest.mark.full, pytest.mark.vm]


TOLD = {"legacy": "v1 only: ", "hybrid": "hybrid: v2 beside "}
"""What doctor calls them."""


@pytest.fixture(scope="module", params=APPENDED)
def v1_guest(request: pytest.FixtureRequest, share: Path) -> Iterator[Guest]:
    with installed(SLOT, share, extra_append=APPENDED[request.param]) as machine:
        mounted = machine.run(["stat", "-f", "-c", "%T", "/sys/fs/cgroup"], check=True).stdout
        assert mounted.strip() == b"tmpfs", "the guest has cgroup v2 at its root"
        yield machine


def test_containers_and_units(v1_guest: Guest) -> None:
    guest = v1_guest
    guest.run(["guest-images", "podman", "docker"], timeout=120, check=True)
    rules = Rules(guest)
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    mount = ("-v", f"{SHARE}/workload:/w:ro")
    ids: dict[str, tuple[str, str]] = {"renamed-after": ("docker", RENAMED)}
    with Live(guest) as live:
        for engine in ("docker", "podman"):
            name = f"{engine}-box"
            guest.run(
                [engine, "run", "-d", "--name", name, *mount, IMAGE, "sleep", "600"], timeout=120, check=True
            )
            told = guest.run([engine, "inspect", "--format", "{{.Id}}", name], timeout=60, check=True)
            ids[f"{engine}-exec"] = (engine, told.stdout.decode().strip())
            guest.run([engine, "exec", name, "/w/truth", "5", f"{engine}-exec"], timeout=60, check=True)
            guest.run([engine, "rm", "-f", name], timeout=120, check=True)
        _renamed(guest)
        guest.run([TRUTH, "3", "host"], check=True)
        unit = ("systemd-run", "--wait", "--quiet", "--unit=of-its-own", TRUTH, "3", "unit")
        guest.run(list(unit), timeout=60, check=True)
        account = live.stop()
        events = live.events()
    assert account.balanced, live.said
    wrong = []
    seen = []
    for event in events:
        truth = truth_of(event)
        if truth is None:
            continue
        seen.append(truth.tag)
        engine, ident = ids.get(truth.tag, ("", ""))
        named = event.get("container", {})
        got = (event["where"], named.get("runtime"), named.get("id"))
        expected = ("container", engine, ident) if engine else ("host", None, None)
        if truth.tag == "renamed-before":
            expected = ("unknown", None, None)
        if got != expected or (truth.tag == "unit" and event["cgroup"].get("unit") != "of-its-own.service"):
            wrong.append(f"{truth.tag}: {got}, cgroup {event.get('cgroup')}")
    assert wrong == []
    assert {tag: seen.count(tag) for tag in seen} == {
        "docker-exec": 5,
        "podman-exec": 5,
        "host": 3,
        "unit": 3,
        "renamed-before": 3,
        "renamed-after": 3,
    }


def _renamed(guest: Guest) -> None:
    """A cgroup has one name and then another, which v1 alone allows: the answer is that of the record's moment."""
    names = (f"{PIDS}/docker/not-yet", f"{PIDS}/docker/{RENAMED}")
    guest.run(["mkdir", "-p", names[0]], check=True)
    enter = 'echo 0 >"$1/cgroup.procs"; exec "$2" 3 "$3"'
    guest.run(["sh", "-euc", enter, "sh", names[0], TRUTH, "renamed-before"], check=True)
    guest.run(["mv", "-T", *names], check=True)
    guest.run(["sh", "-euc", enter, "sh", names[1], TRUTH, "renamed-after"], check=True)
    guest.run(["rmdir", names[1]], check=True)


def test_doctor_tells_the_hierarchies_and_what_lockdown_forbids(
    v1_guest: Guest, request: pytest.FixtureRequest
) -> None:
    """The last of each boot: nobody lifts a lockdown before the next one."""
    guest = v1_guest
    rows = doctor(guest, load=True)
    assert (rows["cgroup"]["state"], rows["lockdown"]["state"], rows["self-test"]["state"]) == (
        "warn",
        "ok",
        "ok",
    )
    assert rows["cgroup"]["detail"].startswith(TOLD[request.node.callspec.params["v1_guest"]])
    assert rows["cgroup"]["hint"]
    guest.run(["sh", "-c", "echo confidentiality > /sys/kernel/security/lockdown"], check=True)
    rows = doctor(guest, load=True)
    assert in_state(rows, "fail") == {"lockdown", "self-test"}
    assert rows["lockdown"]["detail"].startswith("confidentiality: ")
    assert "lockdown=integrity" in rows["lockdown"]["hint"]
