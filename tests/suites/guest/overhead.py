# SPDX-License-Identifier: Apache-2.0
"""Attach some of the kernel side's programs, run a loop, and print its rates: one line of JSON.

    overhead.py none|records|all SECONDS getppid|openat|fork
    overhead.py contid|contid-unset SECONDS fork: the store of container identifiers alone, the loop in one or in none

Nobody reads the rings, which hold all that comes meanwhile: what is counted is the programs' own work.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

from enricher.sources.bpf import contidstore, features, wire
from enricher.sources.bpf.contidstore import KernelStore
from enricher.sources.bpf.families import Chosen, choose
from enricher.sources.bpf.hook import Hook
from enricher.sources.bpf.libbpf import ProgramInfo, library
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


def of_store(store: KernelStore) -> dict[str, tuple[int, int]]:
    """As `run_times`, of the store's programs."""
    lib, found = library(), {}
    for name in contidstore._PROGRAMS:
        info = ProgramInfo()
        length = ctypes.c_uint32(ctypes.sizeof(info))
        program = lib.bpf_object__find_program_by_name(store._object, name.encode())
        lib.bpf_obj_get_info_by_fd(lib.bpf_program__fd(program), ctypes.byref(info), ctypes.byref(length))
        found[name] = int(info.run_time_ns), int(info.run_cnt)
    return found


def loop_with(store: KernelStore, contid: int | None, seconds: str, what: str) -> list[int]:
    """The loop's rates; it has the identifier, if one is given, from before its first fork."""
    words = ["sh", "-c", 'read go; exec "$@"', "sh", LOOP, seconds, what]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as loop:
        if contid is not None:
            own, target = os.pidfd_open(os.getpid()), os.pidfd_open(loop.pid)
            store.set(caller=own, target=target, contid=contid)
            assert store.get(target) == (contid,)
        said, _ = loop.communicate(b"\n")
    assert loop.returncode == 0
    return [int(rate) for rate in said.split()]


def contids(which: str, seconds: str, what: str) -> None:
    """What the store of container identifiers costs."""
    store = KernelStore(home=None, verbose=True)
    contid = 7 if which == "contid" else None
    rates = loop_with(store, contid, seconds, what)
    before = store.counters()["inherited"]
    MEASURE.write_text("1")
    start = of_store(store)
    loop_with(store, contid, "1", what)
    end = of_store(store)
    MEASURE.write_text("0")
    runs = {name: (end[name][0] - start[name][0], end[name][1] - start[name][1]) for name in end}
    each = {name: (round(spent / number, 1), number) for name, (spent, number) in runs.items() if number}
    said = {"rates": rates, "counters": store.counters(), "programs": each, "inherited": before}
    store.close()
    print(json.dumps(said))


def main(which: str, seconds: str, what: str) -> None:
    if which.startswith("contid"):
        contids(which, seconds, what)
        return
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
