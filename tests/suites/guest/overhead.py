# SPDX-License-Identifier: Apache-2.0
"""Attach some of the kernel side's programs, run a loop, and print its rates: one line of JSON.

    overhead.py none|records|all SECONDS getppid|openat|fork

Nobody reads the rings, which hold all that comes meanwhile: what is counted is the programs' own work.
"""

from __future__ import annotations

import json
import subprocess
import sys

from enricher.sources.bpf import features, wire
from enricher.sources.bpf.families import Chosen, choose
from enricher.sources.bpf.hook import Hook
from enricher.sources.bpf.libbpf import library
from enricher.sources.bpf.loader import LibbpfObject, object_path

RINGS = 64 << 20
LOOP = "/opt/share/workload/sysloop"


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
    rates = subprocess.run([LOOP, seconds, what], capture_output=True, check=True).stdout.split()
    counters = dict.fromkeys(wire.COUNTERS, 0) if loaded is None else loaded.counters()
    print(json.dumps({"rates": [int(rate) for rate in rates], "counters": counters}))
    if loaded is not None:
        loaded.close()


main(*sys.argv[1:])
