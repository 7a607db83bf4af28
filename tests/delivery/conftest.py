# SPDX-License-Identifier: Apache-2.0
"""What the tests from a capture to a receiver share: how many events, and that all ends with the test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.delivery import rsyslog
from tests.delivery.driver_process import Driver, Plan
from tests.delivery.events import Events, load
from tests.delivery.fleet import Fleet

EVENTS, FEW = 100_000, 1_000
FULL_SECONDS = 900.0
"""For anything that is waited for where there are that many."""


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def events(tmp_path_factory: pytest.TempPathFactory, full: bool) -> Events:  # noqa: FBT001 - a fixture
    return load(tmp_path_factory.mktemp("capture") / "made", full=full)


@pytest.fixture
def count(full: bool, monkeypatch: pytest.MonkeyPatch) -> int:  # noqa: FBT001 - a fixture
    if full:
        monkeypatch.setattr(rsyslog, "SECONDS", FULL_SECONDS)
    return EVENTS if full else FEW


class Run:
    """Makes destinations and the driver that sends to them, and ends all."""

    def __init__(self, directory: Path, events: Events, count: int) -> None:
        self.directory = directory
        self.events = events
        self.count = count
        self.all = set(range(1, count + 1))
        self._ends: list[Callable[[], None]] = []

    def fleet(self, *names: str, **more: object) -> Fleet:
        patience = 3 if self.count == FEW else 15
        made = Fleet(names, self.directory / "receivers", self.events, patience=patience, **more)  # type: ignore[arg-type]
        self._ends.append(made.stop)
        return made

    def driver(self, fleet: Fleet, **more: object) -> Driver:
        return self.driver_of(fleet.config(), **more)

    def driver_of(self, config: str, **more: object) -> Driver:
        """As `driver`, with these tables."""
        plan = Plan(self.directory / "driver", self.events, self.count, config, **more)  # type: ignore[arg-type]
        made = Driver(plan)
        self._ends.append(made.stop)
        return made

    def at_end(self, end: Callable[[], None]) -> None:
        """Call this at the end, whatever comes."""
        self._ends.append(end)

    def close(self) -> None:
        for end in reversed(self._ends):
            end()


@pytest.fixture
def run(tmp_path: Path, events: Events, count: int) -> Iterator[Run]:
    made = Run(tmp_path, events, count)
    try:
        yield made
    finally:
        made.close()


def until_ended(driver: Driver) -> None:
    rsyslog.wait_for(lambda: driver.ended, "the driver has delivered everything")


def figure(what: str, value: object) -> None:
    """Say a result, for who reads the soak's output."""
    sys.stdout.write(f"\n{what}: {value}\n")
