# SPDX-License-Identifier: Apache-2.0
"""The line of JSON of a live event, and nothing before or behind it: an exec of seven records with a context.

    python -m tests.bench.bench_lines [LINES]             # microseconds of CPU a line
    valgrind --tool=callgrind --callgrind-out-file=F .venv/bin/python -m tests.bench.bench_lines LINES
                                                  # instructions: the difference of two numbers of lines is the lines'

All is known that a host with containers knows: their cgroups, when their namespaces were made and who was executed in
them first. Pids, arguments and inodes differ from event to event; what stood in events before was seen before.
"""

from __future__ import annotations

import sys
import time
from typing import Final

from enricher.clock import SystemClock
from enricher.enrich.native import NativeBuilder
from enricher.enrich.surroundings import Surroundings
from enricher.facts import Fact, Member, NamespaceLife, NamespaceOp
from enricher.model import KINDS, Batch, Context
from enricher.route.views.native_json import NativeJson
from enricher.sources.names import HostNames
from tests.bench.bench_views import CONTAINERS, HOST, exec_event
from tests.bench.line import cgroups

LINES: Final = 2000
MOST: Final = 2_000
WARM: Final = 300
"""Lines before those that count: as many inodes take turns."""
_OWN: Final = tuple(map(KINDS.index, ("mnt", "uts", "ipc", "net", "pid", "cgroup")))


def surroundings() -> Surroundings:
    """Return what is known of the containers of `exec_event`."""
    around = Surroundings(HOST)
    contexts = [
        context for number in range(CONTAINERS) if (context := exec_event(number).context) is not None
    ]
    facts = [fact for context in contexts for fact in _told(context)]
    told = cgroups(CONTAINERS)
    around.learn(Batch([], [], [], parked=False, now=0.0, wall=0.0, cgroups=told, facts=facts))
    return around


def _told(context: Context) -> list[Fact]:
    """Return that a container's namespaces were made, and that a program was executed with them."""
    lives = [
        NamespaceLife(
            0, NamespaceOp.MADE, context.inums[kind], kind, context.ids[kind], 0, 0, 1, 1, 1, 1, 1, 0, b"runc"
        )
        for kind in _OWN
    ]
    return [*lives, Member(0, context.cgroup_id, 1, 1, context.inums, context.ids)]


def main() -> None:
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else LINES
    line = NativeJson(NativeBuilder(HOST, names=HostNames(SystemClock()), around=surroundings())).line
    # All that may be wanted, so that how many there are makes no difference but that of the lines.
    events = [exec_event(number) for number in range(WARM + max(MOST, lines))]
    for event in events[:WARM]:
        line(event)
    begin = time.process_time()
    size = 0
    for event in events[WARM : WARM + lines]:
        size += len(line(event))
    spent = time.process_time() - begin
    if lines:
        print(f"{lines} lines of {size // lines} bytes, {spent / lines * 1e6:.1f} us of CPU each")


if __name__ == "__main__":
    main()
