# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the suites that run on real kernels: one boot per kernel and run, shared by all suites."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import pytest

from tests.suites.main_job import BURST_EACH, BURST_EACH_FULL, Job, perform
from tests.suites.rules import Rules
from tests.suites.staging import installed, stage
from tests.vm.guest import Guest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANY_CPUS = "6.12"
"""The slot whose guest has eight possible CPUs, two of them online: a ring for each, most never written."""


_marks = itertools.count()


@pytest.fixture(scope="session")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stage(tmp_path_factory.mktemp("share"))


@pytest.fixture(scope="session")
def guest(kernel: str, share: Path) -> Iterator[Guest]:
    """The guest of this kernel. Audit is on, auditd is not running, no rule is loaded."""
    with installed(kernel, share, maxcpus=8 if kernel == MANY_CPUS else None) as machine:
        yield machine


@pytest.fixture
def auditd(guest: Guest) -> Iterator[None]:
    """auditd, its log in the kernel's own words (RAW). Its start loads its own rules: they are flushed."""
    configuration = guest.get("/etc/audit/auditd.conf")
    raw = re.sub(rb"(?m)^log_format *=.*$", b"log_format = RAW", configuration)
    guest.put("/etc/audit/auditd.conf", raw, 0o640)
    guest.run(["systemctl", "start", "auditd"], timeout=60, check=True)
    guest.run(["auditctl", "-D"], check=True)
    # The kernel kept for it what suites before this one made, and until it has all that, nobody gets anything else.
    mark = f"auditd-has-all-{next(_marks)}"
    guest.run(["auditctl", "-m", mark], check=True)
    logs = "/var/log/audit/audit.log.1 /var/log/audit/audit.log"
    guest.run(["sh", "-c", f"until grep -qs {mark} {logs}; do sleep 0.2; done"], timeout=120, check=True)
    yield
    # Debian's unit refuses a stop by hand; the daemon's own signal does it.
    guest.run(["pkill", "-TERM", "-x", "auditd"], check=True)
    guest.run(["sh", "-c", "while pgrep -x auditd >/dev/null; do :; done"], timeout=30, check=True)
    guest.put("/etc/audit/auditd.conf", configuration, 0o640)


@pytest.fixture
def rules(guest: Guest) -> Iterator[Rules]:
    """Audit rules that are gone after the test."""
    loaded = Rules(guest)
    loaded.clear()
    yield loaded
    loaded.clear()


@pytest.fixture(scope="session")
def job(guest: Guest, request: pytest.FixtureRequest) -> Job:
    """The main job's run on this kernel, with the ordinary options."""
    rules = Rules(guest)
    rules.clear()
    try:
        each = BURST_EACH_FULL if request.config.getoption("--full") else BURST_EACH
        return perform(guest, rules, each=each)
    finally:
        rules.clear()
