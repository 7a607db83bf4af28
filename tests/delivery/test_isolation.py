# SPDX-License-Identifier: Apache-2.0
"""A destination that is dead and one that is slow beside one that is well: that one does not notice.

The same events at the same pace, with the two and without them in turn, so that what the machine does meanwhile is in
both. How long an event takes from `put` to the receiver is by the clock that both processes have. The ratio is a
matter of the soak: `make test` looks whether everything arrives.
"""

from __future__ import annotations

import socket
import statistics
from pathlib import Path

import pytest

from tests.delivery.conftest import FEW, Run, figure, until_ended
from tests.delivery.events import Events

pytestmark = pytest.mark.timeout(1500)

ROUNDS = 6
CHUNK, PAUSE = 10, 0.02
SLOW = 0.2
MOST = 1.2
WELL = "elasticsearch"


def test_one_dead_and_one_slow_beside_one_that_is_well(tmp_path: Path, events: Events, count: int) -> None:
    is_full = count != FEW
    rounds = ROUNDS if is_full else 1
    each = count // rounds // 2
    alone: list[float] = []
    beside: list[float] = []
    for number in range(rounds):
        order = (False, True) if number % 2 == 0 else (True, False)
        for others in order:
            place = tmp_path / f"{number}-{'beside' if others else 'alone'}"
            (beside if others else alone).append(p99(Run(place, events, each), others=others))
    ratio = statistics.median(beside) / statistics.median(alone)
    said = f"alone {milliseconds(alone)}, beside {milliseconds(beside)} ms, ratio {ratio:.2f}"
    figure("p99", said)
    assert not is_full or ratio <= MOST, said


def milliseconds(seconds: list[float]) -> str:
    return " ".join(f"{1000 * each:.1f}" for each in seconds)


def p99(run: Run, *, others: bool) -> float:
    """Send, and return the time that 99 of 100 events do not need, in seconds."""
    names = (WELL, "hec") if others else (WELL,)
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        dead.listen(1)  # it connects, and nobody ever answers
        fleet = run.fleet(*names, slow={"hec": SLOW}, more='schema = "native"')
        try:
            fleet.start()
            driver = run.driver(fleet, chunk=CHUNK, pause=PAUSE, leave="dead" if others else "")
            if others:
                address = f"127.0.0.1:{dead.getsockname()[1]}"
                driver.plan.config += f'[sinks.dead]\ntype = "relp"\naddress = "{address}"\ntimeout = "2s"\n'
            driver.start()
            until_ended(driver)
            for name in names:
                assert set(fleet.taken(name)) == run.all, name
            if others:
                facts = driver.facts("dead")
                assert (facts["waiting"], facts["lost"], facts["taken"]) == (run.count, 0, 0)
            taken = fleet.times(WELL)
        finally:
            run.close()
    took = []
    for line in (run.directory / "driver/times").read_text().splitlines():
        first, end, at = line.split()
        took += [taken[number] - float(at) for number in range(int(first), int(end))]
    return statistics.quantiles(took, n=100)[98]
