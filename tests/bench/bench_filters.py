# SPDX-License-Identifier: Apache-2.0
"""What a filter costs: microseconds per event, on one core.

    python -m tests.bench.bench_filters [events]

The events are the execs of `bench_views`, seven records each, in forty containers with names. "early" is what is told
from the records alone; all else includes making what the filter asks, the place or the native event, which the view of
an accepted event needs as well. Best of five runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from enricher.enrich.native import NativeBuilder
from enricher.enrich.shape import NativeEvent
from enricher.enrich.surroundings import Surroundings
from enricher.model import Answer, Batch, CgroupChange, CgroupOp, Event, Metadata
from enricher.route.expression import compile_filter
from enricher.route.filters import Filter, Shared
from enricher.sources.names import HostNames
from tests.bench.bench_views import CONTAINERS, EVENTS, HOST, best, exec_event

FIVE = (
    'type == EXECVE and key in (exec, login) and container.name ~ "web-*"'
    " and not user == alice and exe ~ /usr/bin/*"
)
FILTERS = (
    ("early reject by type", "type == USER_LOGIN", False),
    ("early reject by key", "key == other", False),
    ("early accept by type and key", "type == EXECVE and key == exec", True),
    ("early reject, four terms unasked", FIVE.replace("EXECVE", "USER_LOGIN"), False),
    ("reject by container name", "container.name == db", False),
    ("reject by pid", "pid == 1", False),
    ("accept by five terms", FIVE, True),
)


def around() -> Surroundings:
    """Forty containers of Docker with names."""
    known = Surroundings(HOST)
    for number in range(CONTAINERS):
        path = f"/system.slice/docker-{number:064x}.scope".encode()
        change = CgroupChange(7000 + number, CgroupOp.MADE, path, 0)
        answer = Answer(7000 + number, Metadata("docker", f"web-{number}"))
        known.learn(Batch([], [], [], parked=False, now=0.0, wall=0.0, cgroups=(change,), answers=(answer,)))
    return known


Making = Callable[[Event], NativeEvent]


def asked(text: str, build: Making, place: Making | None, *, passes: bool) -> Callable[[Event], bool]:
    """Return what a route does with an event, having seen that the filter says what it should."""
    wanted = compile_filter(text)

    def step(event: Event) -> bool:
        one = Shared(event, build, place)
        return wanted.matches(event, one.native, one.place)

    if step(exec_event(1)) is not passes:
        raise AssertionError(f"{text}: should {'' if passes else 'not '}pass")
    return step


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    events = [exec_event(number) for number in range(count)]
    builder = NativeBuilder(HOST, names=HostNames(), around=around())
    print(f"{count} events of {len(events[0].records)} records, Python {sys.version.split()[0]}")

    def row(name: str, cost: float) -> None:
        print(f"{name:54} {cost:7.2f} us/event")

    row("--type USER_LOGIN, which rejects", best(events, Filter(types=["USER_LOGIN"]).early))
    row("native event alone", best(events, builder.build))
    row("its place alone", best(events, builder.place))
    for name, text, passes in FILTERS:
        row(name, best(events, asked(text, builder.build, builder.place, passes=passes)))
    few = events[:500]  # as many as a batch has
    natives = {event.stamp: builder.build(event) for event in few}
    for name, text, passes in FILTERS[-3:]:
        step = asked(text, lambda event: natives[event.stamp], None, passes=passes)
        row(f"{name}, the native event being there", best(few, step))
    row("compile the five terms", best(few, lambda _: compile_filter(FIVE)))


if __name__ == "__main__":
    main()
