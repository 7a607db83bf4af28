# SPDX-License-Identifier: Apache-2.0
"""The service and its destinations: under its own unit, with its own privileges, and with a receiver that goes away."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests import schema
from tests.suites.live import truth_of
from tests.suites.staging import SHARE
from tests.suites.test_service import DROP_IN, EVENTS, Service, service

if TYPE_CHECKING:
    from tests.suites.test_service import Json
    from tests.vm.guest import Guest

__all__ = ["service"]  # a fixture

TAKEN = "/run/taken"
METRICS = "/run/audit-enricher/metrics.sock"
SETTINGS = f"""
[metrics]
socket = "{METRICS}"
[sinks.plain]
type = "file"
path = "/var/log/audit-enricher/ecs.json"
schema = "ecs"
[sinks.syslog]
type = "syslog"
address = "127.0.0.1:5514"
transport = "tcp"
filter = "key == exec"
[sinks.search]
type = "elasticsearch"
url = "http://127.0.0.1:9200"
filter = "key == exec"
"""
_SCRAPE = (
    "import socket\n"
    "with socket.socket(socket.AF_UNIX) as s:\n"
    f"    s.connect({METRICS!r}); s.sendall(b'GET /metrics HTTP/1.0\\r\\n\\r\\n')\n"
    "    while data := s.recv(65536): print(data.decode(), end='')\n"
)

# One process: each exec would be an event, and on its way to the receivers as well. A last line may be half of one.
_AWAIT = """
import sys, time
wanted = {"bulk " + uid for uid in open(sys.argv[1]).read().split()}
while not wanted <= set(open(sys.argv[2]).read().split(chr(10))):
    time.sleep(0.2)
"""


def sinks(service: Service) -> dict[str, Json]:
    return {sink["name"]: sink for sink in service.status()["sinks"]}


def taken(guest: Guest, name: str) -> list[str]:
    return [line.split()[1] for line in guest.get(TAKEN).decode().splitlines() if line.startswith(f"{name} ")]


@pytest.mark.full  # what the delivery does is tested without a guest
def test_a_receiver_that_goes_away_and_comes_back(service: Service, guest: Guest) -> None:
    receivers = ["python3", f"{SHARE}/guest/receivers.py", TAKEN]
    guest.put(DROP_IN, SETTINGS.encode(), 0o644)
    guest.run(["rm", "-f", TAKEN], check=True)
    with guest.popen(receivers) as first:
        assert first.read_line(60) == b"ready\n"
        service.unit("restart")  # metrics.socket is not live
        service.truth(20, "there")
        # Whether they have it all is the receivers' word: they are asked till they do.
        service.sh(
            f"until [ $(grep -c ^bulk {TAKEN}) -ge 20 ] && [ $(grep -c ^syslog {TAKEN}) -ge 20 ]; do :; done"
        )
    service.truth(20, "away")
    told = sinks(service)
    assert told["search"]["waiting"] >= 20, told
    assert told["plain"]["error"] == "", told
    service.unit("restart")  # what waits is in the spool
    with guest.popen(receivers) as second:
        assert second.read_line(60) == b"ready\n"
        service.truth(5, "again")
        # What was executed before the destinations were there is in the file as well.
        wanted = {
            event["uid"]
            for event in schema.parse(guest.get(EVENTS))
            if (truth := truth_of(event)) is not None and truth.tag in {"there", "away", "again"}
        }
        assert len(wanted) == 45
        guest.put("/run/wanted", "\n".join(sorted(wanted)).encode(), 0o644)
        guest.run(["python3", "-c", _AWAIT, "/run/wanted", TAKEN], timeout=120, check=True)
        assert wanted <= set(taken(guest, "bulk"))
        told = sinks(service)
        assert (told["search"]["refused"], told["search"]["lost"]) == (0, 0), told
        text = guest.run(["python3", "-c", _SCRAPE], timeout=60, check=True).stdout.decode()
    ecs = [json.loads(line) for line in guest.get("/var/log/audit-enricher/ecs.json").splitlines()]
    assert {event["ecs"]["version"] for event in ecs} == {"9.4.0"}
    assert text.startswith("HTTP/1.")
    assert 'audit_enricher_sink_taken_events_total{sink="search"' in text
