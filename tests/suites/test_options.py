# SPDX-License-Identifier: Apache-2.0
"""What the options of `run` promise, on a real kernel."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests import schema
from tests.suites.live import Live
from tests.suites.staging import COMMAND, SHARE

if TYPE_CHECKING:
    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

TRUTH = f"{SHARE}/workload/truth"
ONE_KERNEL = pytest.mark.only_on("6.12")
"""For what no kernel has a part in."""


@pytest.fixture
def two_keys(rules: Rules) -> None:
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "unshare", "-k", "new-namespace")


@ONE_KERNEL
@pytest.mark.usefixtures("two_keys")
def test_key_and_type(guest: Guest) -> None:
    """Only what was asked for is written; the account is about everything all the same."""
    with Live(guest, "--key", "new-namespace") as by_key, Live(guest, "--type", "USER_LOGIN") as by_type:
        guest.run([f"{SHARE}/workload/nsmake", "unshare", "uts", "--", TRUTH, "3"], check=True)
        guest.run(
            ["python3", f"{SHARE}/guest/provoke.py", "user", "1112", "op=login res=success"], check=True
        )
        accounts = [by_key.stop(), by_type.stop()]
        (unshare,) = by_key.events()
        (login,) = by_type.events()
    assert unshare["keys"] == ["new-namespace"]
    assert login["type"] == "USER_LOGIN"
    for account in accounts:
        assert account.balanced
        assert account.events > 4


@ONE_KERNEL
@pytest.mark.usefixtures("two_keys")
def test_count_ends_the_run(guest: Guest) -> None:
    with Live(guest, "--count", "2", "--key", "exec") as live:
        guest.run([TRUTH, "5"], check=True)
        live.stop(0)  # it has ended or is about to; signal 0 changes nothing
        assert len(live.events()) == 2


@ONE_KERNEL
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_with_the_account(guest: Guest, number: int) -> None:
    with Live(guest) as live:
        account = live.stop(number)
    assert account.balanced, live.said


@ONE_KERNEL
def test_unknown_type_is_refused_with_a_hint(guest: Guest) -> None:
    done = guest.run([COMMAND, "run", "--type", "SYSCAL"])
    assert done.returncode == 2
    assert b"SYSCALL" in done.stderr


@ONE_KERNEL
@pytest.mark.usefixtures("two_keys")
def test_reader_that_goes_away(guest: Guest) -> None:
    """`| head`: the end of the work, not a failure, and no traceback."""
    said = "/run/reader-that-goes-away"
    script = (
        f"({COMMAND} run --format json --key exec --for 20s 2>{said}; echo status $? >>{said}) | head -n 1 &"
        # Not before: while the programs are loaded nobody reads, and the nonce would stand behind all that.
        f" reader=$!; until grep -qs 'ready$' {said} || ! kill -0 $reader 2>/dev/null; do sleep 0.2; done;"
        f" while kill -0 $reader 2>/dev/null; do {TRUTH} 2; done; wait; cat {said} >&2; rm {said}"
    )
    done = guest.run(["sh", "-c", script], timeout=60, check=True)
    (event,) = schema.parse(done.stdout)
    assert event["keys"] == ["exec"]
    assert b"status 0" in done.stderr
    assert b"Traceback" not in done.stderr


@ONE_KERNEL
@pytest.mark.usefixtures("two_keys")
def test_table_for_people(guest: Guest) -> None:
    with Live(guest, "--key", "exec", "--no-self", view="table") as live:
        guest.run([f"{SHARE}/workload/nsmake", "clone3", "pid", "--", TRUTH, "3", "in-a-table"], check=True)
        live.stop()
        header, *rows = live.output().decode().splitlines()
    assert header.split()[:4] == ["TIME", "WHERE", "PID", "INSIDE"]
    leaves = [row.split() for row in rows if "truth-leaf" in row]
    assert len(leaves) == 3
    for columns in leaves:
        assert "pid" in columns[1] or "pid" in columns[2]
        assert "host" not in columns[1]
