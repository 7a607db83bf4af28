# SPDX-License-Identifier: Apache-2.0
"""After each fault records flow again, and each is written or told: counted by a second reader, serial by serial.

The faults are tests/suites/faults.py, the count is tests/suites/reckoning.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.suites.attempting import trial
from tests.suites.faults import FAULTS, FULL, RULE, SMALL, load, main_pid
from tests.suites.reckoning import Reckoning, loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.suites.reckoning import Told
    from tests.suites.test_service import Json, Service

__all__ = ["trial"]  # a fixture

pytestmark = pytest.mark.only_on("newest")

QUICK = ("stopped", "clock")
"""Those that `make test` has too."""
MARKED = [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in FAULTS]


@pytest.fixture(scope="module")
def reckoning(trial: Service) -> Iterator[Reckoning]:
    with Reckoning(trial) as made:
        yield made


def explained(account: Json) -> int:
    """Records that a source says it dropped between the hook and the reader."""
    counts = account["counts"]
    return sum(counts[name] or 0 for name in ("netlink_drops", "rate_limit", "lost_unseen"))


@pytest.mark.parametrize("name", MARKED)
def test_fault(
    trial: Service,
    reckoning: Reckoning,
    name: str,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    fault, full = FAULTS[name], request.config.getoption("--full")
    trial.sh(f"auditctl -D >/dev/null; auditctl {RULE}")  # whatever the fault before this one has left
    reckoning.told()
    before = main_pid(trial)
    with load(trial, "during") as during:
        fault.make(trial, FULL if full else SMALL)
    with load(trial, "after") as after:
        trial.truth(20, "flows")
    told = reckoning.told()
    record_property(f"fault {name}", f"{told.records} records, {told.lost} told as lost, {during} rounds")
    assert told.unaccounted == 0
    assert told.wrong == []
    assert loaded(told, "after", after[0]) == []
    account = trial.status()["account"]
    assert account["missing"] <= explained(account), account
    if fault.ends:
        assert main_pid(trial) != before
        assert told.notices("gap")
    elif main_pid(trial) == before:
        assert told.notices("gap") == []
        if not fault.loses:
            assert told.lost == 0, losses(told)
            assert fault.rules or loaded(told, "during", during[0]) == []
    if name == "detached":
        assert told.notices("blind")


def losses(told: Told) -> list[Json]:
    """What was told as lost."""
    return [event["lost"] for event in told.events if "lost" in event]
