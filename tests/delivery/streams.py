# SPDX-License-Identifier: Apache-2.0
"""What the tests of one receiver through its faults share: how far the driver is, kills at random, and the figures.

For receivers that a fleet's hosts publish to. Owns no receiver.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from tests.delivery import rsyslog
from tests.delivery.conftest import FEW, Run, figure, until_ended
from tests.delivery.driver_process import Driver

NAME = "stream"
"""Of the destination."""
KILLS = 20
FEW_KILLS = 5

Fault = tuple[Callable[[], None], Callable[[], None]]
"""What goes wrong, and what makes it well again."""


def until_it_has_taken(driver: Driver, more: int) -> None:
    """Wait until the receiver has acknowledged so many more events than now, or all that the gate lets through."""
    chunk = driver.plan.chunk
    goal = min(driver.facts(NAME)["taken"] + more, (int(driver.plan.gate.read_text()) - 1) // chunk * chunk)
    rsyslog.wait_for(lambda: driver.facts(NAME)["taken"] >= goal, f"{goal} events were acknowledged")


def through_faults(run: Run, driver: Driver, faults: list[Fault], *, goes_on: bool) -> None:
    """Let events flow, and one fault after the other come and go; `goes_on`: some arrive while it lasts."""
    driver.open_gate(1)
    driver.start()
    steps = 2 * len(faults) + 1
    for number, (hurt, mend) in enumerate(faults):
        driver.open_gate(run.count * (2 * number + 1) // steps)
        until_it_has_taken(driver, run.count // steps // 2)
        hurt()
        driver.open_gate(run.count * (2 * number + 2) // steps)
        if goes_on:
            until_it_has_taken(driver, run.count // steps // 2)
        else:
            before = driver.facts(NAME)["errors"]
            rsyslog.wait_for(lambda: driver.facts(NAME)["errors"] > before, "it is noticed")  # noqa: B023
        mend()
    driver.open_gate(run.count + 1)
    until_ended(driver)


def through_kills(run: Run, driver: Driver, kills: int = 0) -> None:
    """Kill the program at random moments, and let it come to its end at last."""
    chance = random.Random(21)  # noqa: S311 - the same each time
    kills = kills or (FEW_KILLS if run.count == FEW else KILLS)
    for number in range(kills):
        driver.open_gate(run.count * (number + 1) // kills)
        driver.start()
        # Of this start, and not from now on: what the gate lets through may have been acknowledged by now.
        goal = chance.randrange(max(1, run.count // kills - 2 * driver.plan.chunk))
        rsyslog.wait_for(
            lambda: driver.facts(NAME)["taken"] >= goal,  # noqa: B023 - called at once
            f"{goal} events were acknowledged",
        )
        driver.kill()
    driver.open_gate(run.count + 1)
    driver.start()
    until_ended(driver)


def everything_is_there(run: Run, driver: Driver, taken: Counter[int]) -> None:
    """The receiver's uids are the sender's, however often each came."""
    put, kept = driver.numbers("put"), driver.numbers("in")
    assert put == run.all
    assert len(put - kept) <= driver.kills * driver.plan.chunk
    missing = kept - set(taken)
    assert not missing, f"{len(missing)} are missing: {sorted(missing)[:10]}"
    assert set(taken) <= put
    facts = driver.facts(NAME)
    assert (facts["lost"], facts["refused"], facts["waiting"], facts["bugs"]) == (0, 0, 0, 0), facts
    figure("delivered twice", taken.total() - len(taken))
    figure("errors, retries", (facts["errors"], facts["retries"]))


__all__ = ["NAME", "Fault", "everything_is_there", "through_faults", "through_kills", "until_it_has_taken"]
