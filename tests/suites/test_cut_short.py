# SPDX-License-Identifier: Apache-2.0
"""A record inside of a system call whose own records a rule drops, by a task that lives on: nothing ends such an event.

The task makes no other event and does not end; what would tell of the event's end is asked for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.suites.live import Live

if TYPE_CHECKING:
    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

# AUDIT_TTY_SET as it is already, which the kernel answers with a CONFIG_CHANGE record of the caller's event.
_CHANGE = (
    "import socket, struct, sys\n"
    "with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9) as audit:\n"
    "    audit.sendto(struct.pack('=IHHIIII', 24, 1017, 5, 1, 0, 0, 0), (0, 0))\n"
    "    error = struct.unpack_from('=IHHIIi', audit.recv(8192))[5]\n"
    "print('told', error, flush=True)\n"
    "sys.stdin.read()\n"
)
_LIMIT = 60.0


def test_an_event_that_a_rule_cut_short_is_whole(guest: Guest, rules: Rules) -> None:
    rules.add("-a", "never,exit", "-F", "arch=b64", "-S", "sendto")
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "swapoff", "-k", "other")
    with Live(guest) as live, guest.popen(["python3", "-c", _CHANGE], stdin=True) as process:
        assert process.read_line(60) == b"told 0\n"
        limit = time.monotonic() + _LIMIT
        while b"tty_set" not in live.output():
            assert time.monotonic() < limit, live.said
        assert process.poll() is None
        account = live.stop()
        process.close_stdin()
        events = live.events()
    (event,) = (event for event in events if "tty_set" in str(event["records"]))
    assert [record["type"] for record in event["records"]] == ["CONFIG_CHANGE"]
    assert event["enrichment"]["complete"], event["enrichment"]
    assert event["subject"]["comm"] == "python3"
    assert account.balanced, live.said
