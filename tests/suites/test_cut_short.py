# SPDX-License-Identifier: Apache-2.0
"""A record inside of a system call whose own records a rule drops, by a task that lives on: nothing ends such an event.

The task makes no other event and does not end; what would tell of the event's end is asked for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.suites.live import Live
from tests.suites.test_service import EVENTS, Service, service
from tests.vm.process import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.suites.live import Json
    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

__all__ = ["service"]  # a fixture

# AUDIT_TTY_SET as it is already, which the kernel answers with a CONFIG_CHANGE record of the caller's event.
_CHANGE = (
    "import socket, struct, sys\n"
    "with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9) as audit:\n"
    "    audit.sendto(struct.pack('=IHHIIII', 24, 1017, 5, 1, 0, 0, 0), (0, 0))\n"
    "    error = struct.unpack_from('=IHHIIi', audit.recv(8192))[5]\n"
    "print('told', error, flush=True)\n"
    "sys.stdin.read()\n"
)
_LIMIT = 60.0 * PATIENCE
_WORD = b"tty_set"


def change(guest: Guest, rules: Rules, output: Callable[[], bytes]) -> None:
    """Have such an event made, and wait until it is in the output while its task sleeps."""
    rules.add("-a", "never,exit", "-F", "arch=b64", "-S", "sendto")
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "swapoff", "-k", "other")
    with guest.popen(["python3", "-c", _CHANGE], stdin=True) as process:
        assert process.read_line(60) == b"told 0\n"
        limit = time.monotonic() + _LIMIT
        while _WORD not in output():
            assert time.monotonic() < limit
        assert process.poll() is None
        process.close_stdin()


def is_whole(events: list[Json]) -> None:
    (event,) = (event for event in events if _WORD.decode() in str(event["records"]))
    assert [record["type"] for record in event["records"]] == ["CONFIG_CHANGE"]
    assert event["enrichment"]["complete"], event["enrichment"]
    assert event["subject"]["comm"] == "python3"


def test_an_event_that_a_rule_cut_short_is_whole(guest: Guest, rules: Rules) -> None:
    with Live(guest) as live:
        change(guest, rules, live.output)
        account = live.stop()
        events = live.events()
    is_whole(events)
    assert account.balanced, live.said


@pytest.mark.only_on("6.1")
def test_the_service_may_ask(service: Service, rules: Rules) -> None:
    """By a system call that its unit must not forbid."""
    change(service.guest, rules, lambda: service.guest.get(EVENTS))
    is_whole(service.events())
