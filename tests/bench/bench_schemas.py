# SPDX-License-Identifier: Apache-2.0
"""What a schema costs: microseconds per event, from native event to finished bytes, on one core.

    python -m tests.bench.bench_schemas [events]

The events are those of bench_views: an exec with seven records, and a connect. Making the native event is not counted.
Then what it costs to keep or to hide members before. Best of five runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from enricher import codec
from enricher.enrich.native import NativeBuilder
from enricher.enrich.shape import HostEntry, NativeEvent
from enricher.route.schemas import SCHEMAS, renderer
from enricher.route.schemas.seen import see
from enricher.route.select import Selection
from enricher.sources.names import HostNames
from tests.bench.bench_views import HOST, RUNS, call_event, exec_event

EVENTS = 5_000
OF: HostEntry = {"name": HOST.name, "machine_id": HOST.machine_id}


def best(events: list[NativeEvent], work: Callable[[NativeEvent], object]) -> float:
    """Return the least microseconds per event of all runs."""
    least = float("inf")
    for _ in range(RUNS):
        begin = time.perf_counter()
        for event in events:
            work(event)
        least = min(least, time.perf_counter() - begin)
    return least / len(events) * 1e6


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    builder = NativeBuilder(HOST, names=HostNames())
    kinds = {
        "exec": [builder.build(exec_event(number)) for number in range(count)],
        "connect": [builder.build(call_event(number)) for number in range(count)],
    }
    codec.dumps({})
    library = "stdlib json" if codec._encode is codec._stdlib else "orjson"
    print(f"{count} events of each kind, {library}, Python {sys.version.split()[0]}")
    work: dict[str, Callable[[NativeEvent], object]] = {name: renderer(name, OF) for name in SCHEMAS}
    work["(reading alone)"] = see
    work["fields: 3 members"] = Selection(["subject", "container", "records.fields.exe"]).apply
    work["redact: 3 members"] = Selection(redact=["host.name", "records.*.argv", "records.fields.name"]).apply
    for kind, events in kinds.items():
        for name, step in work.items():
            made = step(events[0])
            size = f"{len(made):6} bytes" if isinstance(made, bytes) else ""
            print(f"{kind:8} {name:20} {best(events, step):7.1f} us/event {size}")


if __name__ == "__main__":
    main()
