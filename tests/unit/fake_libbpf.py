# SPDX-License-Identifier: Apache-2.0
"""A libbpf of our own for tests of the loader: it loads nothing, and knows what it was asked for."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from enricher.sources.bpf import contidshare
from enricher.sources.bpf.families import Chosen, all_programs
from enricher.sources.bpf.hook import Hook
from enricher.sources.bpf.libbpf import ProgramInfo
from enricher.sources.bpf.loader import LibbpfObject
from enricher.sources.cgroups import Hierarchy

CPUS = 2
PAGE = mmap.PAGESIZE
NONCE = b"0123456789abcdef"
VERIFIER = "libbpf: prog 'x': -- BEGIN PROG LOAD LOG --\nR0 invalid mem access\n-- END PROG LOAD LOG --\n"
PROGRAMS = (
    "record_end",
    "record_end_part",
    "record_queued",
    "cgroup_made",
    "cgroup_removed",
    "cgroup_renamed",
    "cgroup_released",
    "event_exit",
    "task_exit",
    "uring_exit",
    "record_lost",
    "settle_all",
)
CGROUPS = PROGRAMS[3:7]
WATCHED = (3, 7)


class Lib:
    """libbpf's functions by their names. `fails` maps one of them, or "name:argument", to a result."""

    def __init__(self) -> None:
        self.fails: dict[str, Any] = {}
        self.log = ""
        self.autoloaded: dict[str, bool] = {}
        self.attached: list[str] = []
        self.detached: list[str] = []
        self.closed = 0
        self.entries: dict[str, int] = {}
        self.reused: dict[str, int] = {}
        self.rings: list[int] = []
        self.looks: list[bytes] = []
        self.inner: dict[int, int] = {}
        self.rodata = ctypes.create_string_buffer(28)
        self.misses = dict.fromkeys(PROGRAMS, 0)
        self.run_times: dict[str, tuple[int, int]] = {}
        self.has_lost = 5  # a BTF type id; -2 where there is none
        self.has_unshare = 6
        self.info_size = ctypes.sizeof(ProgramInfo)
        self.counters = os.memfd_create("counters")
        os.ftruncate(self.counters, PAGE)
        names = (*PROGRAMS, *sorted(all_programs()), "rings", "counters", ".rodata", *contidshare.MAPS)
        self._names = [b"", *(name.encode() for name in names)]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Give what fails as told, else the double below, else 0."""
        double = getattr(type(self), "do_" + name, None)

        def call(*arguments: Any) -> Any:  # noqa: ANN401 - C's
            words = [self.name(each) for each in arguments if isinstance(each, int) and 0 < each < 100]
            for key in (name, *(f"{name}:{word}" for word in words)):
                if key in self.fails:
                    result = self.fails[key]
                    ctypes.set_errno(-result if result else errno.ENOENT)
                    return result
            return double(self, *arguments) if double else 0

        return call

    def name(self, handle: int) -> str:
        return self._names[handle].decode() if handle < len(self._names) else str(handle)

    def take_log(self) -> str:
        said, self.log = self.log, ""
        return said

    def do_bpf_object__open_mem(self, image: bytes, size: int, _: None) -> int:
        assert len(image) == size
        return 99

    def do_bpf_object__close(self, handle: int) -> None:
        assert handle == 99
        self.closed += 1

    def do_libbpf_num_possible_cpus(self) -> int:
        return CPUS

    def do_bpf_object__find_map_by_name(self, _: int, name: bytes) -> int:
        return self._names.index(name)

    do_bpf_object__find_program_by_name = do_bpf_object__find_map_by_name

    def do_bpf_map__set_max_entries(self, handle: int, number: int) -> None:
        self.entries[self.name(handle)] = number

    def do_bpf_map__reuse_fd(self, handle: int, fd: int) -> int:
        self.reused[self.name(handle)] = fd
        return 0

    def do_bpf_map__initial_value(self, _: int, size: Any) -> int:  # noqa: ANN401
        size._obj.value = len(self.rodata)
        return ctypes.addressof(self.rodata)

    def do_bpf_program__set_autoload(self, handle: int, wanted: bool) -> None:  # noqa: FBT001
        self.autoloaded[self.name(handle)] = wanted

    def do_bpf_map__fd(self, handle: int) -> int:
        return self.counters if self.name(handle) == "counters" else 7777

    def do_bpf_map_create(self, kind: int, *rest: Any) -> int:  # noqa: ANN401
        assert kind == 27
        fd = os.memfd_create("ring")
        os.ftruncate(fd, 2 * PAGE + 2 * rest[3])
        self.rings.append(fd)
        return fd

    def do_bpf_map_update_elem(self, outer: int, key: Any, value: Any, _: int) -> int:  # noqa: ANN401
        assert outer == 7777
        self.inner[key._obj.value] = value._obj.value
        return 0

    def do_bpf_program__attach(self, handle: int) -> int:
        self.attached.append(self.name(handle))
        return handle

    def do_bpf_program__attach_kprobe(self, handle: int, retprobe: bool, symbol: bytes) -> int:  # noqa: FBT001
        assert (retprobe, symbol) == (False, b"audit_log_end.part.0")
        return self.do_bpf_program__attach(handle)

    def do_bpf_link__destroy(self, handle: int) -> None:
        self.detached.append(self.name(handle))

    def do_bpf_link__fd(self, handle: int) -> int:
        return handle

    def do_bpf_iter_create(self, handle: int) -> int:
        """Each look writes what is next of `looks`."""
        assert self.name(handle) == "task_found"
        read, write = os.pipe()
        os.write(write, self.looks.pop(0))
        os.close(write)
        return read

    def do_bpf_program__fd(self, handle: int) -> int:
        return handle

    def do_btf__load_vmlinux_btf(self) -> int:
        return 98

    def do_btf__find_by_name_kind(self, _: int, name: bytes, kind: int) -> int:
        assert (name in {b"audit_log_lost", b"ksys_unshare"}, kind) == (True, 12)
        return self.has_lost if name == b"audit_log_lost" else self.has_unshare

    def do_bpf_obj_get_info_by_fd(self, handle: int, info: Any, length: Any) -> int:  # noqa: ANN401
        info._obj.recursion_misses = self.misses.get(self.name(handle), 0)
        info._obj.run_time_ns, info._obj.run_cnt = self.run_times.get(self.name(handle), (0, 0))
        length._obj.value = self.info_size
        return 0


@pytest.fixture
def lib(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lib]:
    monkeypatch.setattr("enricher.sources.bpf.loader.layout.check", lambda *_: None)
    monkeypatch.setattr(
        "enricher.sources.bpf.loader.cgroups.hierarchy", lambda: Hierarchy(*WATCHED, None, "pids")
    )
    made = Lib()
    yield made
    os.close(made.counters)


@pytest.fixture
def load(lib: Lib, tmp_path: Path) -> Callable[..., LibbpfObject]:
    image = tmp_path / "x.bpf.o"
    image.write_bytes(b"ELF")

    def make(  # noqa: PLR0913 - each with a default
        hook: Hook = Hook.PLAIN,
        *,
        uring: bool = True,
        verbose: bool = False,
        budget: int = 0,
        baseline: str = "",
        contid: dict[str, int] | None = None,
    ) -> LibbpfObject:
        chosen = Chosen([], {}, (), baseline)
        return LibbpfObject(
            cast("Any", lib), image, hook, NONCE, budget, chosen, uring=uring, verbose=verbose, contid=contid
        )

    return make
