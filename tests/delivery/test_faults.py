# SPDX-License-Identifier: Apache-2.0
"""From a capture through routes, spools and couriers to receivers of every kind, while one thing after the other fails.

Acknowledged: the receiver's uids are the sender's, whatever happens, and what is there twice was sent twice. Not
acknowledged: the same without faults; with them what is missing is at most what was told.

`make test` has the same faults with fewer events than `make soak-delivery`, which has a hundred thousand for each test.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from enricher.runtime.route import SPOOLS
from enricher.sinks.delivery.spooldir import CURSOR, decode_cursor
from tests.delivery import rsyslog
from tests.delivery.conftest import FEW, Run, figure, until_ended
from tests.delivery.driver_process import HELD, Driver
from tests.delivery.fleet import ACKNOWLEDGED, RELP, SERVED, Fleet, until_each_has_more, until_taken
from tests.delivery.network import Network

pytestmark = pytest.mark.timeout(1200)

KILLS = 20
SENDERS = (*RELP, *SERVED)
"""Those over a network that know what has arrived."""
UNACKNOWLEDGED = ("unix", "tcp", "tls")
MOST = 512
"""Messages that a courier takes at once, of any destination."""
DISK = 512 << 10
BEHIND = 2000
"""Messages that wait for the slowest when the next fault comes: a quarter of what the driver is held up by."""


def until_each_fails(driver: Driver, before: dict[str, object]) -> None:
    """Every sender has met an error since; told is which did not, and what it says of itself."""

    def late() -> dict[str, object]:
        facts = {name: driver.facts(name) for name in before}
        return {name: each for name, each in facts.items() if each["errors"] == before[name]}

    rsyslog.wait_for(lambda: not late(), lambda: f"these have met no error: {late()}")


def until_none_is_far_behind(driver: Driver) -> None:
    """What one has not taken holds the driver up: then nothing would come for the others to meet an error with."""
    rsyslog.wait_for(
        lambda: all(driver.facts(name)["waiting"] <= BEHIND for name in SENDERS), "all of them keep up"
    )


def twice(taken: Counter[int]) -> int:
    return taken.total() - len(taken)


def everything_is_there(run: Run, fleet: Fleet, driver: Driver) -> None:
    """Check acknowledged destinations after the end of a driver that was not killed."""
    assert driver.numbers("put") == run.all
    for name in fleet.names:
        if name not in ACKNOWLEDGED:
            continue
        taken, facts = fleet.taken(name), driver.facts(name)
        missing = run.all - set(taken)
        assert not missing, f"{name}: {len(missing)} are missing: {sorted(missing)[:10]}"
        assert set(taken) == run.all, name
        assert twice(taken) <= facts["retries"], name
        assert (facts["lost"], facts["refused"], facts["waiting"], facts["bugs"]) == (0, 0, 0, 0), name


def no_more_is_missing_than_was_told(run: Run, fleet: Fleet, driver: Driver) -> dict[str, tuple[int, int]]:
    """Return for each unacknowledged destination what is missing and what was told."""
    found = {}
    told = 0
    for name in fleet.names:
        if name in ACKNOWLEDGED:
            continue
        taken, facts = fleet.taken(name), driver.facts(name)
        assert set(taken) <= run.all, name
        missing = len(run.all - set(taken))
        # What comes while nobody listens at a Unix socket is no loss, say the documents; it is counted all the same.
        bound = facts["unsure"] + facts["unheard"]
        found[name] = (missing, bound)
        assert missing <= bound, f"{name}: {missing} are missing, {bound} were told"
        assert (facts["lost"], facts["refused"], facts["bugs"]) == (0, 0, 0), name
        told += facts["unsure"]
    assert driver.told()["lost"].get("sink messages", 0) == told
    return found


def test_without_faults_every_receiver_has_everything_once(run: Run) -> None:
    # Without a fault nobody is to run out of it.
    fleet = run.fleet(*ACKNOWLEDGED, *UNACKNOWLEDGED, syslog_patience="60s")
    fleet.start()
    driver = run.driver(fleet)
    driver.open_gate(1)
    driver.start()
    rsyslog.wait_for(lambda: fleet.consumed() == 1, "the consumer connects")
    driver.open_gate(run.count + 1)
    until_ended(driver)
    until_taken(fleet, UNACKNOWLEDGED, run.all)
    for name in fleet.names:
        assert set(fleet.taken(name)) == run.all, name
        facts = driver.facts(name)
        assert facts["unsure"] == facts["unheard"] == facts["lost"] == 0, name
        if not facts["errors"]:
            assert twice(fleet.taken(name)) == 0, name
    everything_is_there(run, fleet, driver)


def test_without_faults_everything_arrives_over_udp_that_is_not_in_a_hurry(run: Run) -> None:
    """Nothing but the receiver's buffer can overflow: what is put is bounded by what was written."""
    fleet = run.fleet("udp")
    fleet.start()
    driver = run.driver(fleet)
    driver.open_gate(1)
    driver.start()
    step = 200
    for end in range(1 + step, run.count + 1 + step, step):
        driver.open_gate(min(end, run.count + 1))
        until_taken(fleet, ["udp"], set(range(1, min(end, run.count + 1))))
    until_ended(driver)
    assert set(fleet.taken("udp")) == run.all
    assert twice(fleet.taken("udp")) == 0


def test_receivers_that_are_killed_and_come_back(run: Run) -> None:
    fleet = run.fleet(*SENDERS, *UNACKNOWLEDGED)
    fleet.start()
    driver = run.driver(fleet)
    times = 1 if run.count == FEW else 8
    driver.open_gate(1)
    driver.start()
    for number in range(times):
        driver.open_gate(run.count * (number + 1) // (times + 1))
        until_each_has_more(fleet, SENDERS)
        until_none_is_far_behind(driver)
        fleet.kill()
        before = {name: driver.facts(name)["errors"] for name in SENDERS}
        driver.open_gate(run.count * (2 * number + 3) // (2 * times + 2))
        until_each_fails(driver, before)
        fleet.start()
    driver.open_gate(run.count + 1)
    until_ended(driver)
    everything_is_there(run, fleet, driver)
    fleet.stop()  # rsyslogd writes what it has
    figure("missing, and the bound that was told", no_more_is_missing_than_was_told(run, fleet, driver))


def test_a_network_that_is_cut(run: Run) -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces are root's")
    with Network() as network:
        fleet = run.fleet(
            *SENDERS, "tcp", "tls", address=network.address, within=network.within, enter=network.enter
        )
        fleet.start()
        driver = run.driver(fleet, network=network.ours)
        driver.open_gate(1)
        driver.start()
        times = 1 if run.count == FEW else 4
        for number in range(times):
            driver.open_gate(run.count * (number + 1) // (times + 1))
            until_each_has_more(fleet, SENDERS)
            until_none_is_far_behind(driver)
            network.cut()
            before = {name: driver.facts(name)["errors"] for name in SENDERS}
            driver.open_gate(run.count * (2 * number + 3) // (2 * times + 2))
            until_each_fails(driver, before)
            network.mend()
        driver.open_gate(run.count + 1)
        until_ended(driver)
        everything_is_there(run, fleet, driver)
        fleet.stop()
        figure("missing, and the bound that was told", no_more_is_missing_than_was_told(run, fleet, driver))


def test_a_disk_that_is_full_until_receivers_come_back(run: Run) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting is root's")
    fleet = run.fleet("relp", *SERVED)
    driver = run.driver(fleet, disk=DISK, waiting=HELD)
    driver.open_gate(1)
    driver.start()
    times = 1 if run.count == FEW else 10
    for number in range(times):
        driver.open_gate(run.count * (number + 1) // times + 1)
        rsyslog.wait_for(
            lambda: any("No space left" in driver.facts(name)["error"] for name in fleet.names), "it is full"
        )
        fleet.start()
        goal = run.count * (2 * number + 1) // (2 * times)
        rsyslog.wait_for(lambda: driver.put() > goal, "it goes on")  # noqa: B023 - called at once
        if number + 1 < times:
            fleet.kill()
    until_ended(driver)
    everything_is_there(run, fleet, driver)


def cursors_are_near(fleet: Fleet, driver: Driver) -> None:
    """What the next run sends again is what was sent at once, at most, and not all that was ever sent."""
    for name in fleet.names:
        cursor = driver.plan.directory / "state" / SPOOLS / name / CURSOR
        found = decode_cursor(cursor.read_bytes(), name)
        assert found is not None, name
        has = len(fleet.taken(name))
        assert has - found.done <= MOST, f"{name} has {has} events, and its cursor is at {found.done}"


def test_the_program_is_killed_at_twenty_moments(run: Run) -> None:
    chance = random.Random(20)  # noqa: S311 - the same each time
    fleet = run.fleet(*ACKNOWLEDGED)
    fleet.start()
    driver = run.driver(fleet, chunk=5)
    retried: Counter[str] = Counter()
    for number in range(KILLS):
        # What comes after this cannot be put before the kill, so that there is something left for the next ones.
        driver.open_gate(run.count * (number + 1) // KILLS)
        driver.start()
        name = chance.choice(fleet.names)
        wanted = len(fleet.taken(name)) + chance.randrange(run.count // KILLS - 2 * driver.plan.chunk)
        rsyslog.wait_for(lambda: len(fleet.taken(name)) >= wanted, f"{name} has more")  # noqa: B023 - called at once
        driver.kill()
        for each, facts in driver.last_told().items():
            retried[each] += facts["retries"]
        cursors_are_near(fleet, driver)
    driver.open_gate(run.count + 1)
    driver.start()
    until_ended(driver)
    put, kept = driver.numbers("put"), driver.numbers("in")
    assert driver.kills == KILLS
    assert len(put - kept) <= KILLS * driver.plan.chunk
    assert put == run.all
    doubled = {}
    for name in fleet.names:
        taken, facts = fleet.taken(name), driver.facts(name)
        missing = kept - set(taken)
        assert not missing, (
            f"{name}: {len(missing)} that spools had taken are missing: {sorted(missing)[:10]}"
        )
        assert set(taken) <= put, name
        doubled[name] = twice(taken)
        # What was being sent at a kill, and what was sent again since it told its figures.
        assert doubled[name] <= KILLS * 2 * facts["most"] + retried[name] + facts["retries"], name
        assert (facts["lost"], facts["refused"], facts["waiting"]) == (0, 0, 0), name
    figure("delivered twice", doubled)
