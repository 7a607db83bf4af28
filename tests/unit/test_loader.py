# SPDX-License-Identifier: Apache-2.0
"""The life of a loaded object, with a libbpf of our own: nothing is loaded, and nothing is left behind."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from enricher.errors import EnricherError, KernelUnsupported, LayoutMismatch, LoadFailed, MissingCapability
from enricher.facts import NamespaceLife, NamespaceOp
from enricher.sources.bpf import baseline, contidshare, loader, wire, wirefacts
from enricher.sources.bpf.families import Chosen, all_programs
from enricher.sources.bpf.features import Answer, Found
from enricher.sources.bpf.hook import Hook
from enricher.sources.bpf.libbpf import ProgramInfo
from enricher.sources.bpf.loader import LibbpfLoader, LibbpfObject, ring_size
from tests.unit.fake_libbpf import CGROUPS, CPUS, NONCE, PAGE, PROGRAMS, VERIFIER, WATCHED, Lib, lib, load

__all__ = ["lib", "load"]  # fixtures


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


Load = Callable[..., LibbpfObject]


# -- sizes and objects -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "cpus", "size"),
    [
        (32 << 20, 1, 32 << 20),
        (32 << 20, 2, 16 << 20),
        (32 << 20, 3, 8 << 20),
        (32 << 20, 240, 128 << 10),
        (32 << 20, 4096, 64 << 10),
        (1, 8, 64 << 10),
        (32 << 20, 0, 32 << 20),
        (1 << 50, 2, 1 << 30),
    ],
)
def test_ring_size(budget: int, cpus: int, size: int) -> None:
    """A power of two within the budget, at least 64 KiB, and no more than 32 bits hold."""
    assert ring_size(budget, cpus) == size


def test_object_for_a_machine_that_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enricher.sources.bpf.loader.os.uname", lambda: SimpleNamespace(machine="riscv64"))
    loader.object_path.cache_clear()
    with pytest.raises(KernelUnsupported, match="riscv64"):
        loader.object_path()


@pytest.mark.parametrize(
    ("known", "name"),
    [
        ({"__preempt_count"}, "x86_64"),
        ({"__preempt_count", "bpf_rdonly_cast"}, "x86_64-casts"),
        ({"pcpu_hot", "bpf_rdonly_cast"}, "x86_64-pcpu_hot"),
        ({"pcpu_hot"}, "x86_64-nowhere"),
        ({"__preempt_count", "pcpu_hot"}, "x86_64"),
        (set(), "x86_64-nowhere"),
    ],
)
def test_object_by_what_the_kernel_has(monkeypatch: pytest.MonkeyPatch, known: set[str], name: str) -> None:
    class Types:
        def __init__(self, _: object) -> None:
            pass

        def __enter__(self) -> Types:  # noqa: PYI034 - a double
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def has_variable(self, variable: str) -> Found:
            return Found(Answer.YES if variable in known else Answer.NO, "")

        has_function = has_variable

    monkeypatch.setattr("enricher.sources.bpf.loader.os.uname", lambda: SimpleNamespace(machine="x86_64"))
    monkeypatch.setattr(loader, "KernelTypes", Types)
    loader.object_path.cache_clear()
    assert loader.object_path().name == f"{name}.bpf.o"
    loader.object_path.cache_clear()


# -- a life ------------------------------------------------------------------------------------------


def test_life(lib: Lib, load: Load) -> None:
    before = descriptors()
    loaded = load(budget=1 << 20)
    assert lib.entries == {"rings": CPUS, "counters": CPUS, **dict.fromkeys(contidshare.MAPS, 64)}
    assert lib.rodata.raw == struct.pack("=QQIII", 0x3031323334353637, 0x3839616263646566, *WATCHED, 0)
    assert {name for name, wanted in lib.autoloaded.items() if wanted} == set(PROGRAMS[:1] + PROGRAMS[3:])
    assert set(lib.autoloaded) == {*PROGRAMS, *all_programs()}
    # The record hook last: no event is begun that nothing would end. And first to go.
    assert lib.attached == [
        *CGROUPS,
        "event_exit",
        "task_exit",
        "uring_exit",
        "record_lost",
        "settle_all",
        "record_end",
    ]
    assert (loaded.ring_count, loaded.ring_size) == (CPUS, 512 << 10)
    assert loaded.wake_fds() == lib.rings == [lib.inner[cpu] for cpu in range(CPUS)]
    assert (loaded.drain(), loaded.parked) == (([], []), False)
    assert (loaded.look_at_all(), loaded.facts, loaded.families) == (([], []), [], {})
    loaded.close()
    assert lib.detached == lib.attached[::-1]
    assert loaded.drain() == ([], [])
    loaded.close()
    assert (lib.closed, len(lib.detached)) == (1, 10)
    assert descriptors() == before


def test_the_maps_of_container_identifiers_are_their_stores(lib: Lib, load: Load) -> None:
    fds = {name: 50 + place for place, name in enumerate(contidshare.MAPS)}
    loaded = load(contid=fds)
    assert lib.reused == fds
    assert lib.entries == {"rings": CPUS, "counters": CPUS}
    assert lib.rodata.raw[-4:] == struct.pack("=I", 1)
    loaded.close()
    lib.fails["bpf_map__reuse_fd"] = -errno.EINVAL
    with pytest.raises(
        LoadFailed, match="map contid_tasks of container identifiers cannot be shared: EINVAL"
    ):
        load(contid=fds)
    assert lib.closed == 2


@pytest.mark.parametrize(("hook", "program"), [(Hook.PART, "record_end_part"), (Hook.QUEUE, "record_queued")])
def test_other_hooks_and_no_io_uring(lib: Lib, load: Load, hook: Hook, program: str) -> None:
    loaded = load(hook, uring=False)
    assert lib.attached == [*CGROUPS, "event_exit", "task_exit", "record_lost", "settle_all", program]
    assert {name for name, wanted in lib.autoloaded.items() if wanted} == set(lib.attached)
    loaded.close()


def test_events_that_are_over_are_asked_for(lib: Lib, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """By unshare with flags that are none: the upper half of the nonce's second word."""
    calls = []
    monkeypatch.setattr(loader, "_libc", lambda: SimpleNamespace(syscall=lambda *what: calls.append(what)))
    loaded = load()
    loaded.settle()
    ((number, flags),) = calls
    assert number.value == loader._UNSHARE[os.uname().machine]
    assert flags.value == 0x3839616200000000
    loaded.close()
    lib.has_unshare = -errno.ENOENT
    loaded = load()
    assert "settle_all" not in lib.attached[len(lib.attached) // 2 :]
    loaded.settle()
    assert len(calls) == 1
    loaded.close()


def test_a_kernel_whose_losses_cannot_be_counted(lib: Lib, load: Load) -> None:
    lib.has_lost = -errno.ENOENT
    loaded = load()
    assert not loaded.counts_lost
    assert "record_lost" not in lib.attached
    assert not lib.autoloaded["record_lost"]
    loaded.close()


def test_counters_are_the_sum_over_all_cpus(lib: Lib, load: Load) -> None:
    first = [100 + i for i in range(32)]
    second = [1 << 40] * 32
    os.pwrite(lib.counters, struct.pack("=64Q", *first, *second), 0)
    loaded = load()
    counted = loaded.counters()
    assert list(counted) == [*wire.COUNTERS, "unknown_messages"]
    assert counted["records"] == 100 + (1 << 40)
    assert counted["fail_queue_unknown"] == 118 + (1 << 40)
    loaded.close()
    assert loaded.counters() == {}


def test_drops_by_cpu(lib: Lib, load: Load) -> None:
    """Of every kind, and of nothing but drops."""
    for cpu, drops in enumerate((1, 10)):
        values = [drops if name.startswith("drop_") else 1000 for name in wire.COUNTERS]
        os.pwrite(lib.counters, struct.pack(f"={len(values)}Q", *values), cpu * wire.COUNTERS_SIZE)
    loaded = load()
    kinds = sum(name.startswith("drop_") for name in wire.COUNTERS)
    assert loaded.drops_by_cpu() == [kinds, 10 * kinds]
    assert kinds == 6
    loaded.close()
    assert loaded.drops_by_cpu() == []


def test_run_times_are_of_what_is_loaded(lib: Lib, load: Load) -> None:
    lib.run_times["record_end"] = (5_000, 2)
    loaded = load()
    times = loaded.run_times()
    assert set(times) == {name for name, wanted in lib.autoloaded.items() if wanted}
    assert times["record_end"] == (5_000, 2)
    assert times["task_exit"] == (0, 0)
    lib.info_size = ProgramInfo.run_cnt.offset  # a kernel that does not measure
    assert loaded.run_times() == {}
    loaded.close()


def test_a_parked_ring_is_told(lib: Lib, load: Load) -> None:
    loaded = load()
    busy = struct.pack("=Q", 16).ljust(PAGE, b"\0") + struct.pack("=I", 8 | 1 << 31)
    os.pwrite(lib.rings[1], busy, PAGE)
    assert loaded.drain() == ([], [])
    assert loaded.parked
    loaded.close()


def test_skipped_runs(lib: Lib, load: Load) -> None:
    lib.misses |= {"record_end": 3, "task_exit": 4, "record_queued": 1000}
    loaded = load()
    assert loaded.missed() == 3
    lib.info_size = ProgramInfo.recursion_misses.offset
    assert loaded.missed() is None
    lib.fails["bpf_obj_get_info_by_fd"] = -errno.EPERM
    assert loaded.missed() is None
    loaded.close()


# -- failing half way --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "result", "kind", "words"),
    [
        ("bpf_object__open_mem", None, LoadFailed, "cannot be opened: ENOENT"),
        ("libbpf_num_possible_cpus", -errno.EINVAL, LoadFailed, "possible CPUs cannot be read: EINVAL"),
        ("bpf_map__initial_value", None, LoadFailed, "unexpected size"),
        ("bpf_object__find_map_by_name", None, LoadFailed, "no map rings"),
        ("bpf_object__find_program_by_name", None, LoadFailed, "no program"),
        ("bpf_object__load", -errno.EINVAL, LoadFailed, "refused the programs: EINVAL"),
        ("bpf_object__load", -errno.EPERM, MissingCapability, "refused the programs: EPERM"),
        ("bpf_map_create", -errno.ENOMEM, LoadFailed, "bytes for CPU 0: ENOMEM"),
        ("bpf_map_update_elem", -errno.E2BIG, LoadFailed, "ring buffer for CPU 0: E2BIG"),
        ("bpf_program__attach:event_exit", None, LoadFailed, "event_exit cannot be attached: ENOENT"),
        ("bpf_program__attach:record_end", None, LoadFailed, "record_end cannot be attached: ENOENT"),
    ],
)
def test_a_failure_leaves_nothing(  # noqa: PLR0913 - the columns of the table above  # noqa: PLR0913 - a row of the table
    lib: Lib, load: Load, place: str, result: int | None, kind: type[EnricherError], words: str
) -> None:
    before = descriptors()
    lib.fails[place] = result
    with pytest.raises(kind) as caught:
        load()
    assert words in caught.value.message
    assert descriptors() == before
    assert lib.detached == lib.attached[::-1]
    assert lib.closed == (place != "bpf_object__open_mem")


def test_rings_that_cannot_be_mapped(lib: Lib, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    before = descriptors()
    monkeypatch.setattr(loader, "Ring", refuse)
    with pytest.raises(LoadFailed, match="Too many open files"):
        load()
    assert descriptors() == before
    assert lib.closed == 1


def test_another_layout_is_refused(lib: Lib, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    def differ(*_: object) -> None:
        raise LayoutMismatch("differ")

    monkeypatch.setattr("enricher.sources.bpf.loader.layout.check", differ)
    with pytest.raises(LayoutMismatch):
        load()
    assert (lib.closed, lib.rings) == (1, [])


def test_the_verifiers_refusal_is_quoted(lib: Lib, load: Load) -> None:
    """EACCES with a log is the verifier's word, and no missing capability."""
    for verbose, quoted in ((False, False), (True, True)):
        lib.fails["bpf_object__load"] = -errno.EACCES
        original = lib.take_log
        lib.take_log = lambda: VERIFIER  # type: ignore[method-assign]
        with pytest.raises(LoadFailed) as caught:
            load(verbose=verbose)
        lib.take_log = original  # type: ignore[method-assign]
        assert "R0 invalid mem access" in caught.value.message
        assert ("BEGIN PROG LOAD LOG" in caught.value.message) == quoted
        assert "--verbose" in caught.value.hint


# -- what records do not rest on ---------------------------------------------------------------------


def test_a_kernel_that_refuses_a_family_still_has_the_records(
    lib: Lib, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_: Lib, __: int) -> int:
        return -errno.EINVAL if lib.autoloaded["unshare_enter"] else 0

    chosen = Chosen(["unshare_enter"], {"changes": "", "lives": "not on this kernel"})
    monkeypatch.setattr(Lib, "do_bpf_object__load", load, raising=False)
    monkeypatch.setattr("enricher.sources.bpf.loader.library", lambda: lib)
    monkeypatch.setattr("enricher.sources.bpf.loader.families.choose", lambda _: chosen)
    image = tmp_path / "x.bpf.o"
    image.write_bytes(b"ELF")
    loaded = LibbpfLoader(image).load(Hook.PLAIN, NONCE, 1 << 20)
    assert "record_end" in lib.attached
    assert "unshare_enter" not in lib.attached
    assert all(why.startswith("the kernel refused") for why in loaded.families.values())
    loaded.close()


# -- the look at the start ---------------------------------------------------------------------------


def test_all_tasks_are_looked_at_until_none_is_missed(lib: Lib, load: Load) -> None:
    before = descriptors()
    lib.looks = [bytes([1, 1, 2, 3]), bytes([1, 1, 4]), bytes([1, 2]), b"not wanted"]
    loaded = load(baseline="task_found")
    assert (lib.autoloaded["task_found"], "task_found" in lib.attached) == (True, False)
    loaded.tap = []
    assert loaded.look_at_all() == ([], [])
    assert lib.looks == [b"not wanted"]
    assert (lib.attached[-1], lib.detached) == ("task_found", ["task_found"])
    assert loaded.families == {"baseline": ""}
    (said,) = loaded.facts
    assert isinstance(said, NamespaceLife)
    assert (said.op, said.time > 0) == (NamespaceOp.ALL_FOUND, True)
    assert loaded.tap == [wirefacts.encode_namespace(said)]
    assert (loaded.look_at_all(), len(lib.looks)) == (([], []), 1), "once"
    loaded.close()
    assert descriptors() == before


@pytest.mark.parametrize(
    ("looks", "fails", "why"),
    [
        ([bytes([1, 3, 3])] * 6, {}, "2 tasks were changing their namespaces at each of 6 looks"),
        ([bytes([1, 4])] * 6, {}, "the rings had no room for what was to be told of 1 tasks"),
        ([b""], {}, "the look at all tasks saw none"),
        ([], {"bpf_iter_create": -errno.EPERM}, "the look at all tasks could not begin: EPERM"),
        ([], {"bpf_program__attach:task_found": None}, "the look at all tasks could not begin: ENOENT"),
    ],
)
def test_what_could_not_be_looked_at_is_told_and_no_more_than_that(
    lib: Lib, load: Load, looks: list[bytes], fails: dict[str, Any], why: str
) -> None:
    before = descriptors()
    loaded = load(baseline="task_found")
    lib.looks = list(looks)
    lib.fails |= fails
    loaded.look_at_all()
    assert loaded.families["baseline"].startswith(why)
    assert loaded.facts == []
    loaded.close()
    assert descriptors() == before


def test_what_stays_unfinished_may_be_a_task(lib: Lib, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "LONGEST", 0.2)
    loaded = load(baseline="task_found")
    busy = struct.pack("=Q", 16).ljust(PAGE, b"\0") + struct.pack("=I", 8 | 1 << 31)
    os.pwrite(lib.rings[1], busy, PAGE)
    lib.looks = [bytes([1])] * 2
    loaded.look_at_all()
    assert (loaded.families["baseline"], loaded.facts) == ("a message stayed unfinished", [])
    loaded.close()
