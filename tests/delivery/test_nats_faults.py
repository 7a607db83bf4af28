# SPDX-License-Identifier: Apache-2.0
"""A cluster of three real nats-servers through every fault: the stream has each event exactly once.

`make test` has the same faults with fewer events than `make soak-fleet`, which has a hundred thousand for each test.
"""

from __future__ import annotations

import pytest

from tests.delivery.conftest import FEW, Run
from tests.delivery.natsservers import NatsServers
from tests.delivery.streams import NAME, Fault, everything_is_there, through_faults, through_kills

pytestmark = pytest.mark.timeout(1200)


def cluster(run: Run, count: int = 3) -> NatsServers:
    servers = NatsServers(run.directory / "nats", count)
    run.at_end(servers.stop)
    servers.start()
    servers.make_stream()
    return servers


def config(servers: NatsServers) -> str:
    table = f'[sinks.{NAME}]\ntype = "nats"\naddress = "{servers.address}"\n'
    return table + "timeout = 2\nack_timeout = 2\n"


def killed(servers: NatsServers) -> Fault:
    """The stream's leader dies and comes back."""
    name: list[str] = []

    def hurt() -> None:
        name.append(servers.leader())
        servers.kill(name[0])

    return hurt, lambda: servers.start(name[0])


def restarted(servers: NatsServers) -> Fault:
    """A server that is not the leader is stopped in good order and comes back at once."""
    return lambda: servers.restart(
        next(each for each in servers.names if each != servers.leader())
    ), lambda: None


def paused(servers: NatsServers) -> Fault:
    """The leader hangs."""
    name: list[str] = []

    def hurt() -> None:
        name.append(servers.leader())
        servers.pause(name[0])

    return hurt, lambda: servers.go_on(name[0])


def exactly_once(run: Run, servers: NatsServers, taken: object) -> None:
    assert taken == dict.fromkeys(run.all, 1)
    assert servers.count() == run.count


def test_leaders_die_servers_are_restarted_and_hang(run: Run) -> None:
    servers = cluster(run)
    driver = run.driver_of(config(servers))
    faults = [killed(servers), restarted(servers), paused(servers)] * (1 if run.count == FEW else 3)
    through_faults(run, driver, faults, goes_on=True)
    taken = servers.taken(run.events)
    everything_is_there(run, driver, taken)
    exactly_once(run, servers, taken)


def test_the_only_server_is_away_and_hangs(run: Run) -> None:
    servers = cluster(run, 1)
    driver = run.driver_of(config(servers))
    through_faults(run, driver, [killed(servers), paused(servers)], goes_on=False)
    taken = servers.taken(run.events)
    everything_is_there(run, driver, taken)
    exactly_once(run, servers, taken)


def test_the_program_is_killed_at_random_moments(run: Run) -> None:
    servers = cluster(run)
    driver = run.driver_of(config(servers), chunk=5)
    through_kills(run, driver)
    taken = servers.taken(run.events)
    everything_is_there(run, driver, taken)
    assert set(taken.values()) == {1}
    assert servers.count() == len(taken)
