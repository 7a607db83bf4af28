# SPDX-License-Identifier: Apache-2.0
"""The attempts of the threat model that auditd makes: a liar stands between auditd and the plugin.

See tests/suites/test_threats.py.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests import schema
from tests.suites.test_service import DROP_IN, EVENTS, TRUTH, numbers
from tests.suites.test_ways import CONF, SHIPPED, STATUS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

pytestmark = [pytest.mark.only_on("6.1", "newest"), pytest.mark.full]

LIAR = "/usr/local/sbin/liar"
FLOOD = 40_000
_WRAPPER = "#!/bin/sh\npython3 /usr/local/lib/liar.py | exec /usr/bin/audit-enricher plugin\n"
_LIES = f"""
import sys
out, done = sys.stdout.buffer, set()
def asked(word, line):
    # Once: programs that are started with the word have it in their records too.
    if word not in line or word in done:
        return False
    done.add(word)
    return True
for line in sys.stdin.buffer:
    out.write(line)
    if asked(b"liar-lies", line):
        out.write(b"this is no record\\n")
        out.write(b'node=elsewhere type=SYSCALL msg=audit(1.000:77): arch=c000003e comm="foreign"\\n')
        out.write(b'type=SYSCALL msg=audit(1.000:78): comm="' + b"A" * (1 << 20) + b'"\\n')
    if asked(b"liar-floods", line):
        for number in range({FLOOD}):
            out.write(b"type=AVC msg=audit(2.000:%d): flood=%d\\n" % (900000000 + number, number))
    out.flush()
"""


@pytest.fixture
def liar(guest: Guest, request: pytest.FixtureRequest) -> Iterator[None]:
    """Auditd with the plugin behind it, and the liar between them."""
    guest.run(["sh", "-c", f"systemctl stop audit-enricher; rm -f {EVENTS}*"], timeout=60)
    guest.put("/usr/local/lib/liar.py", _LIES.encode())
    guest.put(LIAR, _WRAPPER.encode(), 0o750)
    guest.put(DROP_IN, b'[source]\nreceive_buffer = "256K"\n')
    conf = re.sub(rb"(?m)^path = .*$", b"path = " + LIAR.encode(), SHIPPED.read_bytes())
    conf = re.sub(rb"(?m)^args = .*\n", b"", conf).replace(b"active = no", b"active = yes")
    guest.put(CONF, conf, 0o640)
    try:
        request.getfixturevalue("auditd")
        up = f"until {STATUS} >/dev/null 2>&1; do sleep 0.2; done"
        guest.run(["sh", "-c", up], timeout=180, check=True)
        yield
    finally:
        guest.run(["rm", "-f", CONF, LIAR, DROP_IN, "/usr/local/lib/liar.py"], check=True)


@pytest.mark.usefixtures("liar")
def test_auditd_lies_and_floods(guest: Guest, rules: Rules) -> None:
    """What is no record is passed on and marked, another host's left out, the longest cut; a flood is told as lost."""
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")

    def say(words: str) -> None:
        look = f"for i in 1 2 3 4 5 6 7 8 9; do grep -q --text {words} {EVENTS} && exit 0; sleep 0.3; done"
        script = f"auditctl -m {words}; until ({look}; exit 1); do auditctl -m {words}-again; done"
        guest.run(["sh", "-c", script], timeout=120, check=True)

    guest.run([TRUTH, "5", "before"], timeout=60, check=True)
    say("liar-lies")
    guest.run(["auditctl", "-m", "liar-floods"], check=True)
    lost = f'until grep -q --text \'"cause":"netlink"\' {EVENTS}; do sleep 0.3; done'
    guest.run(["sh", "-c", lost], timeout=120, check=True)
    say("liar-rests")  # what comes behind the flood has room again
    guest.run([TRUTH, "5", "after"], timeout=60, check=True)
    say("liar-is-done")
    status = json.loads(guest.run(["sh", "-c", STATUS], timeout=60, check=True).stdout)
    events = schema.parse(guest.get(EVENTS))
    counts = status["account"]["counts"]
    assert counts["foreign"] == 1
    assert counts["truncated"] >= 1
    assert status["account"]["malformed"] >= 1
    assert "this is no record" in json.dumps(events)
    assert '"foreign"' not in json.dumps([event["records"] for event in events])
    told = sum(
        event["lost"]["records"] for event in events if event.get("lost", {}).get("cause") == "netlink"
    )
    assert 0 < told <= counts["netlink_drops"] <= FLOOD + 1000
    assert numbers(events, "before") == numbers(events, "after") == list(range(5))
