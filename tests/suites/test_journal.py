# SPDX-License-Identifier: Apache-2.0
"""auditd's own log, read with the journal of a service that was killed in the middle: exact, or unknown."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from enricher.cli import main as command
from enricher.sources.journal import UNKNOWN
from tests import schema
from tests.suites import test_service
from tests.suites.live import truth_of
from tests.suites.main_job import IMAGE
from tests.suites.staging import COMMAND, SHARE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.suites.live import Truth
    from tests.suites.test_service import Service

Json = dict[str, Any]
LOG = "/var/log/audit/audit.log"
JOURNAL = "/var/lib/audit-enricher/journal.sqlite"
EACH, AFTER = 5, 20
"""Execs in a round of those in the container that the service is killed in the middle of; execs when it is back."""
SAME = ("namespaces", "where", "container", "cgroup", "host")

service = test_service.service


def written(service: Service) -> int:
    """How many events the journal has."""
    events: int = service.status()["journal"]["events"]
    return events


def wait_for(service: Service, words: str, *files: str) -> None:
    for file in files:
        service.sh(f"until grep -q --text -e {shlex.quote(words)} {file}; do :; done")


ROUNDS = f"i=0; until [ -e /stop ]; do /w/truth {EACH} old-round-$i; i=$((i + 1)); done"


def act(service: Service) -> str:
    """Execs in a container before, around and after a kill of the service; returns the container's id."""
    guest = service.guest
    guest.run(["guest-images", "podman"], timeout=120, check=True)
    box = ["podman", "run", "-d", "--name", "old", "-v", f"{SHARE}/workload:/w:ro", IMAGE, "sleep", "100000"]
    ident = guest.run(box, timeout=120, check=True).stdout.decode().strip()
    run = ["podman", "exec", "old"]
    try:
        first = service.status()["pid"]
        with guest.popen([*run, "sh", "-c", ROUNDS]) as rounds:
            wait_for(service, '"tag=old-round-1"', test_service.EVENTS)
            begun = written(service)
            while written(service) == begun:
                pass  # each call is a round trip to the guest, and an event
            service.sh(f"systemctl kill --kill-who=main --signal=KILL {test_service.UNIT}")
            guest.run([*run, "touch", "/stop"], timeout=60, check=True)
            assert rounds.wait(60) == 0
        service.sh(f"until {COMMAND} status >/dev/null 2>&1; do :; done")
        guest.run([*run, "/w/truth", str(AFTER), "old-after"], timeout=120, check=True)
    finally:
        guest.run(["podman", "rm", "-f", "old"], timeout=120, check=True)
    guest.run(["auditctl", "-m", "old-logs-end"], check=True)
    wait_for(service, "old-logs-end", test_service.EVENTS, LOG)
    assert service.status()["pid"] != first
    return ident


def place(truth: Truth) -> int:
    """Which of the rounds' execs it is; behind all of them those that came after."""
    # Tags of this test alone: what the kernel held while no auditd ran comes into its log as well.
    round_of = truth.tag.removeprefix("old-round-")
    return 10**6 + truth.number if truth.tag == "old-after" else int(round_of) * EACH + truth.number


def replay_here(service: Service, directory: Path) -> list[Json]:
    """Fetch the guest's log and journal, and read them on this machine."""
    for name, path in (("audit.log", LOG), ("journal.sqlite", JOURNAL)):
        (directory / name).write_bytes(service.guest.get(path))
    out = directory / "out.json"
    argv = ["replay", "--journal", str(directory / "journal.sqlite"), str(directory / "audit.log")]
    assert command.main([*argv, "--format", "json", "--output", str(out)]) == 0
    return schema.parse(out.read_bytes())


def differences(event: Json, then: Json | None) -> list[str]:
    """In what an event of the log differs from the same one when it was written live."""
    if then is None:
        return [f"{event['id']} is in the journal, and was not in the output"]
    return [f"{event['id']} {name}" for name in SAME if kept(event, name) != kept(then, name)]


def kept(event: Json, name: str) -> object:
    """What a journal keeps of a member: of namespaces the numbers and their lives, not changes and owners."""
    member = event.get(name)
    if name != "namespaces" or member is None:
        return member
    return {kind: entry for kind, entry in member.items() if kind not in {"change", "of"}}


def untrue(event: Json, truth: Truth, ident: str) -> list[str]:
    """In what it differs from what the process said of itself."""
    wrong = [
        f"{event['id']} {kind}: {event['namespaces'][kind]} for {inum}"
        for kind, inum in truth.inums.items()
        if inum and event["namespaces"][kind]["ino"] != inum
    ]
    if (event["where"], event["container"]["id"]) != ("container", ident):
        wrong.append(f"{event['id']} is not in the container")
    return wrong


@pytest.mark.only_on("6.1")
@pytest.mark.usefixtures("auditd")
def test_old_logs(service: Service, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    guest = service.guest
    ident = act(service)
    facts = service.status()["journal"]
    assert (facts["failed"], facts["lost"], facts["error"]) == (0, 0, "")
    service.unit("stop")
    # What SQLite makes beside the file for a reader who is root must not be in the service's way.
    guest.run([COMMAND, "replay", "--journal", JOURNAL, LOG, "--count", "1"], timeout=120, check=True)
    modes = service.sh(f"stat -c '%a %U %G' {JOURNAL}*").stdout.decode().splitlines()
    assert set(modes) == {"640 audit-enricher audit-enricher"}

    written_live = sorted(service.events(killed=True), key=lambda event: "namespaces" in event)
    live = {event["id"]: event for event in written_live}  # of an event in parts, the one that says most
    replayed = replay_here(service, tmp_path)
    found = [event for event in replayed if event["enrichment"]["context"] == "journal"]
    wrong = [each for event in found for each in differences(event, live.get(event["id"]))]
    # The container's, which was made while the service looked on, has the time of that; the host's are of before.
    lives = {event["namespaces"]["uts"].get("life") for event in found if event["where"] == "container"}
    assert len(lives - {None, "0"}) >= 1, lives
    known: list[int] = []
    unknown: list[int] = []
    for event in replayed:
        truth = truth_of(event)
        if truth is None or not truth.tag.startswith("old-"):
            continue
        if event["enrichment"]["context"] == "journal":
            known.append(place(truth))
            wrong += untrue(event, truth, ident)
        else:
            assert UNKNOWN in event["enrichment"]["reason"]
            unknown.append(place(truth))
    assert wrong == []
    assert known[-AFTER:] == list(range(10**6, 10**6 + AFTER))
    # What was not written when it was killed, and what nobody read until it was back; and nothing else.
    rounds = sorted(known[:-AFTER] + unknown)
    assert rounds == list(range(len(rounds)))
    assert unknown == list(range(unknown[0], unknown[-1] + 1))
    assert known[0] == 0
    record_property(
        "journal",
        f"{len(found)} of {len(replayed)} events of the log found, {len(wrong)} wrong; of {len(rounds)}"
        f" execs around the kill {len(unknown)} unknown; {facts['bytes'] >> 10} KiB with its log for"
        f" {facts['events']} events",
    )


CONTAINERS, PER_SECOND, EXECS = 10_000, 125, 10
"""Cgroups that come and go, and in one of so many an exec: at this pace the half of them takes longer than any is
remembered behind its end."""
GROWTH = 1.05
LEAST = 8 << 20
"""Bytes: the least that settings allow the journal."""


@pytest.mark.full
@pytest.mark.only_on("newest")
@pytest.mark.timeout(900)
def test_ten_thousand_containers(service: Service, record_property: Callable[[str, object], None]) -> None:
    """Real cgroups in the shape of Docker's, of which no runtime's state tells: memory is flat, the journal bounded."""
    service.guest.put(test_service.DROP_IN, b'[journal]\nmax_size = "8M"\n')
    service.reload()
    pid = service.status()["pid"]
    sizes = (str(CONTAINERS), str(PER_SECOND), str(EXECS))
    words = ["python3", f"{SHARE}/guest/churn.py", *sizes, test_service.TRUTH, str(pid), JOURNAL]
    done = service.guest.run(words, timeout=600, check=True)
    (half, _), (end, journal) = json.loads(done.stdout)
    service.truth(1, "churn-end")
    status = service.status()
    record_property(
        "churn", f"{half} and {end} KiB resident, journal {journal >> 10} KiB, {status['metadata']}"
    )
    assert (status["pid"], status["mode"]) == (pid, "full")
    told = [event for event in service.events() if test_service.numbers([event], "churn")]
    assert len(told) == CONTAINERS // EXECS
    assert {event["where"] for event in told} == {"container"}
    numbers = [int(event["container"]["id"], 16) for event in told]
    assert numbers == list(range(EXECS, CONTAINERS + 1, EXECS))
    assert end <= half * GROWTH
    assert journal <= LEAST
