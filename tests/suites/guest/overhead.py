# SPDX-License-Identifier: Apache-2.0
"""Attach some of the kernel side's programs, run a loop, and print its rates: one line of JSON.

    overhead.py none|records|all SECONDS getppid|openat|fork

Nobody reads the rings, which hold all that comes meanwhile: what is counted is the programs' own work.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from enricher.sources.bpf import features, wire
from enricher.sources.bpf.families import Chosen, choose
from enricher.sources.bpf.hook import Hook
from enricher.sources.bpf.libbpf import library
from enricher.sources.bpf.loader import LibbpfObject, object_path

MEASURE = Path("/proc/sys/kernel/bpf_stats_enabled")
RINGS = 64 << 20
LOOP = "/opt/share/workload/sysloop"


def programs(loaded: LibbpfObject | None, what: str) -> dict[str, tuple[float, int]]:
    """By program that ran in one more second: nanoseconds of a run on average, and runs."""
    if loaded is None:
        return {}
    MEASURE.write_text("1")
    before = loaded.run_times()
    subprocess.run([LOOP, "1", what], capture_output=True, check=True)
    after = loaded.run_times()
    MEASURE.write_text("0")
    grown = {name: (after[name][0] - before[name][0], after[name][1] - before[name][1]) for name in after}
    return {name: (round(spent / runs, 1), runs) for name, (spent, runs) in grown.items() if runs}


def main(which: str, seconds: str, what: str) -> None:
    lib = library()
    loaded = None
    if which != "none":
        part = features.can_kprobe(Hook.PART.value).yes
        with features.KernelTypes(lib) as types:
            uring = types.has_function("__audit_uring_exit").yes
            chosen = choose(types) if which == "all" else Chosen([], {})
        hook = Hook.PART if part else Hook.PLAIN
        loaded = LibbpfObject(lib, object_path(), hook, b"0" * 16, RINGS, chosen, uring=uring, verbose=True)
        loaded.look_at_all()  # as a run does at its start: what it learns makes records cheaper
    rates = subprocess.run([LOOP, seconds, what], capture_output=True, check=True).stdout.split()
    counters = dict.fromkeys(wire.COUNTERS, 0) if loaded is None else loaded.counters()
    said = {"rates": [int(rate) for rate in rates], "counters": counters, "programs": programs(loaded, what)}
    print(json.dumps(said))
    if loaded is not None:
        loaded.close()


main(*sys.argv[1:])
