# SPDX-License-Identifier: Apache-2.0
"""What the programs about namespaces cost tasks that have nothing to do with any, counted in instructions.

On boots of their own with one CPU and QEMU's instruction counter as the clock: rates repeat within a percent there, and
a rate's difference is the instructions' difference. Compared are the same programs without and with the families; what
the record hook itself costs is in neither.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.suites.rules import Rules
from tests.suites.staging import SHARE, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.vm.guest import Guest

pytestmark = [pytest.mark.full, pytest.mark.vm]

SECONDS = "4"
"""Of the guest's own clock."""

RECORDED, BY_KPROBE = 0.05, 0.055
"""The second where GCC has split the function that ends a record: a kprobe costs more by itself, 4.9 % was counted, and
a boot's rates are within 0.6 % of another's."""
LIMITS = {"fork": 0.03, "getppid": 0.05}


@pytest.fixture(scope="module")
def counting(kernel: str, share: Path) -> Iterator[Guest]:
    with installed(kernel, share, icount=True) as machine:
        yield machine


def rate(guest: Guest, which: str, what: str, seconds: str = SECONDS) -> tuple[float, dict[str, int], str]:
    """The median of a second's calls, the counters, and what each program took."""
    environment = "PYTHONPATH=/usr/lib/audit-enricher"
    command = ["env", environment, "python3", f"{SHARE}/guest/overhead.py", which, seconds, what]
    said = json.loads(guest.run(command, timeout=600, check=True).stdout)
    rates = sorted(said["rates"])
    each = ", ".join(f"{name} {spent:.0f} ns x {runs}" for name, (spent, runs) in said["programs"].items())
    return rates[len(rates) // 2], said["counters"], each


@pytest.mark.parametrize("what", LIMITS)
def test_counted_overhead(counting: Guest, what: str, record_property: Callable[[str, object], None]) -> None:
    rules = Rules(counting)
    rules.clear()
    # Every call is looked at by audit, and none of them is recorded.
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "swapoff", "-k", "never")
    try:
        records, _, _ = rate(counting, "records", what)
        whole, counters, programs = rate(counting, "all", what)
        nothing, _, _ = rate(counting, "none", what)
    finally:
        rules.clear()
    more = records / whole - 1
    own = f"the record programs {nothing / records - 1:.1%}, {nothing:.0f} calls/s without any"
    record_property(f"overhead of {what}", f"{more:.1%}; {own}; {programs}")
    assert counters["drop_namespace"] == 0, counters
    assert more <= LIMITS[what], (nothing, records, whole)


def test_counted_cost_of_a_recorded_call(
    counting: Guest, record_property: Callable[[str, object], None]
) -> None:
    """A call that a rule has recorded: four records, which the kernel formats, queues and offers to nobody."""
    rules = Rules(counting)
    rules.clear()
    # Where nobody listens the kernel keeps the records; beyond a limit each would be a loss, and looked at as one.
    counting.run(["auditctl", "-b", "0"], check=True)
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "openat", "-k", "counted")
    try:
        nothing, _, _ = rate(counting, "none", "openat", "2")
        whole, counters, programs = rate(counting, "all", "openat", "2")
    finally:
        rules.clear()
    record_property(
        "overhead of a recorded openat",
        f"{nothing / whole - 1:.1%}; {nothing:.0f} calls/s without any; {programs}",
    )
    limit = BY_KPROBE if "record_end_part" in programs else RECORDED
    assert nothing / whole - 1 <= limit, (nothing, whole)
    assert counters["drop_context"] == counters["drop_tally"] == 0, counters
    assert counters["contexts"] > whole, counters


def test_counted_overhead_of_container_identifiers(
    counting: Guest, record_property: Callable[[str, object], None]
) -> None:
    """Of a fork by a process that has one, whose child inherits it, exits and gives it back; and by one without."""
    Rules(counting).clear()
    nothing, _, _ = rate(counting, "none", "fork")
    unset, _, _ = rate(counting, "contid-unset", "fork")
    having, counters, programs = rate(counting, "contid", "fork")
    more = nothing / having - 1
    record_property(
        "overhead of fork with a contid",
        f"{more:.1%}, without one {nothing / unset - 1:.1%}; {nothing:.0f} calls/s without any; {programs}",
    )
    assert counters["inherited"] > 2 * having, "each child had it"
    assert counters["full_tasks"] == counters["fail_id"] == counters["lost_ops"] == 0, counters
    assert more <= LIMITS["fork"], (nothing, unset, having)
