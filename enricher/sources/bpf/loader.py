# SPDX-License-Identifier: Apache-2.0
"""Loads the programs and gives their rings and counters a Python face.

Owns the life of a loaded object: open, settings, layout check, load, rings, attach, detach. The
`Loader` protocol is what the rest of the program knows of it, so that another way to load (bcc) is
another class. Never chooses the hook and never interprets a message.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from enricher.config.settings import RING_MEMORY
from enricher.errors import KernelUnsupported, LoadFailed, MissingCapability
from enricher.facts import NamespaceOp
from enricher.sources import cgroups
from enricher.sources.bpf import baseline, contidshare, families, layout, wire
from enricher.sources.bpf.features import KernelTypes
from enricher.sources.bpf.hook import PROGRAM, Hook
from enricher.sources.bpf.libbpf import (
    BPF_MAP_TYPE_RINGBUF,
    Libbpf,
    ProgramInfo,
    error_text,
    last_useful_lines,
    library,
)
from enricher.sources.bpf.moduleprobes import ModuleProbes
from enricher.sources.bpf.ring import ReadingSide, Ring

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enricher.facts import Fact
    from enricher.model import CgroupChange, Context, Tally

OBJECTS: Final = Path(__file__).parent / "objects"
DEFAULT_BUDGET: Final = RING_MEMORY.default
SMALLEST_RING: Final = 64 << 10
LARGEST_RING: Final = 1 << 30  # the kernel takes the size as 32 bits, and we map it twice
NONCE_LENGTH: Final = 16

# Attached before the record hook, so that no event is begun that nothing would end.
_ENDINGS: Final = ("event_exit", "task_exit")
# Tells on demand which events a rule has cut short. The number is of the system call unshare.
_SETTLING: Final = "settle_all"
_SETTLING_FUNCTION: Final = "ksys_unshare"
_UNSHARE: Final = {"x86_64": 272, "aarch64": 97}
# Tell of cgroups. Attached first: what is made while user space looks for those that are there is told of.
_CGROUPS: Final = ("cgroup_made", "cgroup_removed", "cgroup_renamed", "cgroup_released")
# Ends an io_uring worker's event; the function came with io_uring's audit support (5.16).
_URING: Final = "uring_exit"
_SETTINGS: Final = struct.Struct("=QQIII")
# Counts what the kernel says it lost; the function may be inlined, and is not what a run rests on.
_LOST: Final = "record_lost"
_LOST_FUNCTION: Final = "audit_log_lost"


class Loaded(Protocol):
    """Programs that are attached, with `ring_count` rings (one per possible CPU) of `ring_size` bytes.

    `counts_lost` says whether the ``lost_`` counters run. While `tap` is a list, every message is also
    appended to it as it stood in the ring: for a capture. What was told of cgroups is appended to `cgroups`,
    other facts beside the records to `facts`, and taken from there. `families` says by the name of each family
    (`families.families`) why its programs are not attached, "" where they are.
    """

    ring_count: int
    ring_size: int
    counts_lost: bool
    tap: list[bytes] | None
    cgroups: list[CgroupChange]
    facts: list[Fact]
    families: dict[str, str]

    def found(self, cgroups: list[CgroupChange]) -> None:
        """Enter cgroups that user space found, as if they had been told."""
        ...

    def look_at_all(self) -> tuple[list[Context], list[Tally]]:
        """Have it told in which namespaces and cgroups all tasks are now; to be called once, when all is attached.

        The rings are emptied meanwhile: what of their messages is no fact is returned, as by `drain`. Where not all
        could be told, `families` says why.
        """
        ...

    def drain(self) -> tuple[list[Context], list[Tally]]:
        """Take every committed message out of every ring."""
        ...

    @property
    def parked(self) -> bool:
        """Whether the last drain stopped at a reservation that is not yet committed."""
        ...

    def wake_fds(self) -> list[int]:
        """Descriptors that poll as readable when the kernel side asks to be drained."""
        ...

    def counters(self) -> dict[str, int]:
        """The sum over all CPUs of every counter of `wire.COUNTERS`, and `unknown_messages`."""
        ...

    def drops_by_cpu(self) -> list[int]:
        """Messages of any kind that found the ring of a CPU full, by possible CPU; read as `counters` are."""
        ...

    def settle(self) -> None:
        """Have the counts told of those events that are over and of which nothing in the kernel says so.

        Those that a record began inside of a system call whose own records a rule then dropped. A system call.
        """
        ...

    def run_times(self) -> dict[str, tuple[int, int]]:
        """By program: nanoseconds it ran, and how often, while the kernel measured; asks the kernel.

        Empty where this loader cannot tell; 0 and 0 while nothing was measured (`features.measures_programs`).
        """
        ...

    def missed(self) -> int | None:
        """Runs of the record hook that the kernel skipped to avoid re-entry; None where it keeps no count.

        Counted for fentry since 5.12, for kprobes since 6.7. Skipped runs of the programs that end events
        are not in it (259 in a run of 33 159 records on 7.2, where tasks are preempted in them): they lose
        no record, the next one to run for the task ends the event.
        """
        ...

    def missed_losses(self) -> int | None:
        """Calls of audit_log_lost that were not counted by their cause, to avoid re-entry; as `missed`."""
        ...

    def missed_facts(self) -> int:
        """Runs of the programs beside the record hook that the kernel skipped, as `missed`; 0 where not counted."""
        ...

    def missed_lives(self) -> int:
        """Of those, the ones that tell of a namespace's beginning and end."""
        ...

    def look_for_missed(self) -> None:
        """Say in the stream of facts where `missed_lives` has grown; asks the kernel."""
        ...

    def close(self) -> None:
        """Detach and free everything: each function that was attached to takes the kernel a tenth of a second."""
        ...


class Loader(Protocol):
    """A way to get the programs into the kernel."""

    name: str

    def load(self, hook: Hook, nonce: bytes, budget: int = DEFAULT_BUDGET, *, uring: bool = True) -> Loaded:
        """Load and attach the programs with `hook` as the record hook.

        `nonce` is the 16 characters that the queue hook learns the queue by; `budget` is the memory
        of all rings together in bytes; `uring` says whether __audit_uring_exit exists. Raises
        LoadFailed, MissingCapability, LayoutMismatch.
        """
        ...


def ring_size(budget: int, cpus: int) -> int:
    """Bytes per ring: the largest power of two that fits the budget, from 64 KiB to 1 GiB."""
    share = max(budget // max(cpus, 1), SMALLEST_RING, mmap.PAGESIZE)
    return min(1 << (share.bit_length() - 1), LARGEST_RING)


@cache
def object_path() -> Path:
    """The BPF object for this machine and kernel. Raises KernelUnsupported where there is none."""
    machine = os.uname().machine
    name = machine
    if machine == "x86_64":
        with KernelTypes(library()) as types:
            casts = types.has_function("bpf_rdonly_cast").yes
            if types.has_variable("__preempt_count").yes:
                name += "-casts" if casts else ""
            else:
                name += "-pcpu_hot" if casts and types.has_variable("pcpu_hot").yes else "-nowhere"
    path = OBJECTS / f"{name}.bpf.o"
    if not path.exists():
        raise KernelUnsupported(
            f"no BPF object for {machine} in this installation ({path.name})",
            "in a checkout run `make bpf`; objects are built for x86_64 and aarch64",
        )
    return path


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


class LibbpfLoader:
    """The CO-RE object through libbpf.so.1."""

    name = "libbpf"

    def __init__(
        self, path: Path | None = None, *, verbose: bool = False, contid: Mapping[str, int] | None = None
    ) -> None:
        """`contid` are the descriptors of the store's maps (`contidstore.KernelStore.shared`), where there is one."""
        self._path = path
        self._verbose = verbose
        self._contid = contid

    def load(self, hook: Hook, nonce: bytes, budget: int = DEFAULT_BUDGET, *, uring: bool = True) -> Loaded:
        """See `Loader.load`.

        What records do not rest on must not keep them from being had: where the kernel refuses the whole, it is
        tried without container identifiers, then without the further families.
        """
        path, lib = self._path or object_path(), library()
        with KernelTypes(lib) as types:
            chosen = families.choose(types)

        def made(these: families.Chosen, contid: Mapping[str, int] | None) -> LibbpfObject:
            return LibbpfObject(
                lib, path, hook, nonce, budget, these, uring=uring, verbose=self._verbose, contid=contid
            )

        why = ""
        tries = [(chosen, self._contid), (chosen, None)] if self._contid else [(chosen, None)]
        for these, contid in tries:
            try:
                return made(these, contid)
            except LoadFailed as error:
                why = f"the kernel refused: {error.message.splitlines()[-1]}"
        without = families.Chosen([], dict.fromkeys(chosen.absent, why))
        return made(without, None)


class LibbpfObject(ReadingSide):
    """One loaded object. Closes itself where the constructor fails half way."""

    def __init__(  # noqa: PLR0913 - one call site, and each is a different kind of thing
        self,
        lib: Libbpf,
        path: Path,
        hook: Hook,
        nonce: bytes,
        budget: int,
        chosen: families.Chosen,
        *,
        uring: bool,
        verbose: bool,
        contid: Mapping[str, int] | None = None,
    ) -> None:
        self.hook = hook
        self.families = chosen.absent
        self._beside = chosen.programs
        self._baseline = chosen.baseline
        self.tap: list[bytes] | None = None
        self.cgroups: list[CgroupChange] = []
        self.facts: list[Fact] = []
        self._lib = lib
        self._verbose = verbose
        self._links: list[int] = []
        self._probes = ModuleProbes(lib)
        self._rings: list[Ring] = []
        self._fds: list[int] = []
        self._object = 0
        self._counters_map: mmap.mmap | None = None
        self._image = path.read_bytes()
        lib.take_log()
        try:
            self._open(nonce, contid=bool(contid))
            contidshare.share(lib, self._map, contid or {}, self._fail)
            with KernelTypes(lib) as types:
                self.counts_lost = types.has_function(_LOST_FUNCTION).yes
                settles = types.has_function(_SETTLING_FUNCTION).yes
            self._secret = struct.unpack(">QI", nonce[:12])[1] << 32 if settles else 0
            further = [_URING] if uring else []
            further += [_LOST] if self.counts_lost else []
            further += [_SETTLING] if settles else []
            once = [chosen.baseline] if chosen.baseline else []
            beside = [*chosen.programs, *chosen.modules, *once]
            self._load([PROGRAM[hook], *_ENDINGS, *_CGROUPS, *further, *beside])
            self.ring_count = self._cpus
            self.ring_size = ring_size(budget, self._cpus)
            self._make_rings(self.ring_size)
            self._map_counters()
            # What begins an act comes after what ends it, and what tells of a namespace before who enters it.
            for name in [*_CGROUPS, *_ENDINGS, *further, *chosen.programs]:
                self._attach(name)
            if chosen.modules:
                self._probes.attach(self._program)
                self.families[families.PACKETS] = self._probes.reason
            self._attach(PROGRAM[hook], kprobe=hook.value if hook is Hook.PART else "")
        except BaseException:
            self.close()
            raise

    def _fail(self, what: str, code: int) -> LoadFailed | MissingCapability:
        text = error_text(code)
        log = self._lib.take_log()
        if text.startswith(("EPERM", "EACCES")) and "BEGIN PROG LOAD LOG" not in log:
            return MissingCapability(
                f"{what}: {text}",
                "loading needs CAP_BPF and CAP_PERFMON (or root), no lockdown of the kernel, and before Linux 5.11"
                " a limit on locked memory (LimitMEMLOCK=) above what the rings take",
            )
        detail = log if self._verbose else last_useful_lines(log)
        return LoadFailed(
            f"{what}: {text}\n{detail}", "run again with --verbose for the verifier's whole log"
        )

    def _open(self, nonce: bytes, *, contid: bool) -> None:
        lib = self._lib
        self._object = lib.bpf_object__open_mem(self._image, len(self._image), None) or 0
        if not self._object:
            raise self._fail("the BPF object cannot be opened", -1)
        layout.check(lib, lib.bpf_object__btf(self._object))
        self._cpus = lib.libbpf_num_possible_cpus()
        if self._cpus < 1:
            raise self._fail("the number of possible CPUs cannot be read", self._cpus)
        for name in ("rings", "counters"):
            lib.bpf_map__set_max_entries(self._map(name), self._cpus)
        size = ctypes.c_size_t()
        # .rodata holds the nonce, the hierarchy and contid_on, nothing else, in the order of maps.bpf.c.
        rodata = lib.bpf_map__initial_value(self._map(".rodata"), ctypes.byref(size))
        if not rodata or size.value != _SETTINGS.size:
            raise LoadFailed("the BPF object's settings have an unexpected size", "run `make bpf`")
        watched = cgroups.hierarchy()
        words = _SETTINGS.pack(*struct.unpack(">QQ", nonce), watched.number, watched.subsystem, int(contid))
        ctypes.memmove(rodata, words, len(words))

    def _map(self, name: str) -> int:
        # libbpf names the data sections after the object; find_map_by_name knows their own names.
        found: int | None = self._lib.bpf_object__find_map_by_name(self._object, name.encode())
        if not found:
            raise LoadFailed(f"the BPF object has no map {name}", "run `make bpf`")
        return found

    def _program(self, name: str) -> int:
        found: int | None = self._lib.bpf_object__find_program_by_name(self._object, name.encode())
        if not found:
            raise LoadFailed(f"the BPF object has no program {name}", "run `make bpf`")
        return found

    def _load(self, wanted: list[str]) -> None:
        self._names = wanted
        own = {*PROGRAM.values(), *_ENDINGS, *_CGROUPS, _URING, _LOST, _SETTLING}
        for name in own | families.all_programs():
            self._lib.bpf_program__set_autoload(self._program(name), name in wanted)
        code = self._lib.bpf_object__load(self._object)
        if code:
            raise self._fail("the kernel refused the programs", code)

    def _make_rings(self, size: int) -> None:
        lib = self._lib
        outer = lib.bpf_map__fd(self._map("rings"))
        for cpu in range(self._cpus):
            fd = lib.bpf_map_create(BPF_MAP_TYPE_RINGBUF, b"audit_ring", 0, 0, size, None)
            if fd < 0:
                raise self._fail(f"ring buffer of {size} bytes for CPU {cpu}", fd)
            self._fds.append(fd)
            try:
                self._rings.append(Ring(fd, size))
            except OSError as error:
                raise LoadFailed(
                    f"ring buffer of {size} bytes for CPU {cpu} cannot be mapped: {error.strerror}",
                    "give less --ring-memory, or raise the limits on locked memory and on open files (three a CPU)",
                ) from error
            code = lib.bpf_map_update_elem(
                outer, ctypes.byref(ctypes.c_uint32(cpu)), ctypes.byref(ctypes.c_uint32(fd)), 0
            )
            if code:
                raise self._fail(f"ring buffer for CPU {cpu}", code)

    def _map_counters(self) -> None:
        length = self._cpus * wire.COUNTERS_SIZE
        length += -length % mmap.PAGESIZE
        self._counters_map = mmap.mmap(
            self._lib.bpf_map__fd(self._map("counters")), length, mmap.MAP_SHARED, mmap.PROT_READ
        )

    def _attach(self, name: str, kprobe: str = "") -> None:
        program = self._program(name)
        if kprobe:
            link = self._lib.bpf_program__attach_kprobe(program, False, kprobe.encode())  # noqa: FBT003 - C's signature
        else:
            link = self._lib.bpf_program__attach(program)
        if not link:
            raise self._fail(f"program {name} cannot be attached", -ctypes.get_errno() or -errno.EINVAL)
        self._links.append(link)

    def settle(self) -> None:
        """See `Loaded.settle`: the kernel refuses the flags, and the program knows by them that we ask."""
        number = _UNSHARE.get(os.uname().machine)
        if self._secret and number is not None:
            _libc().syscall(ctypes.c_long(number), ctypes.c_ulong(self._secret))

    def look_at_all(self) -> tuple[list[Context], list[Tally]]:
        """See `Loaded.look_at_all`."""
        contexts: list[Context] = []
        tallies: list[Tally] = []
        if not self._baseline:
            return contexts, tallies

        def drain() -> None:
            more_contexts, more_tallies = self.drain()
            contexts.extend(more_contexts)
            tallies.extend(more_tallies)

        deadline = time.monotonic() + baseline.LONGEST
        iterator = baseline.Iterator(self._lib, self._program(self._baseline))
        self._baseline = ""
        try:
            why = baseline.look(iterator.begin, drain, baseline.step_for(self.ring_size), deadline)
        finally:
            iterator.close()
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if not baseline.settle(drain, lambda: self.parked, deadline):
            why = why or "a message stayed unfinished"
        self.families[families.BASELINE] = why
        if not why:
            self._tell(NamespaceOp.ALL_FOUND, now)
        return contexts, tallies

    def wake_fds(self) -> list[int]:
        """See `Loaded.wake_fds`: the ring maps themselves."""
        return list(self._fds)

    def missed(self) -> int | None:
        """See `Loaded.missed`."""
        return self._misses(PROGRAM[self.hook])

    def missed_losses(self) -> int | None:
        """See `Loaded.missed_losses`."""
        return self._misses(_LOST) if self.counts_lost else None

    def missed_facts(self) -> int:
        """See `Loaded.missed_facts`."""
        return sum(self._misses(name) or 0 for name in self._beside)

    def missed_lives(self) -> int:
        """See `Loaded.missed_lives`."""
        return sum(self._misses(name) or 0 for name in families.LIVES if name in self._beside)

    def run_times(self) -> dict[str, tuple[int, int]]:
        """See `Loaded.run_times`."""
        found = ((name, *self._info(name)) for name in self._names)
        end = ProgramInfo.run_cnt.offset + 8
        return {
            name: (int(info.run_time_ns), int(info.run_cnt)) for name, info, length in found if length >= end
        }

    def _misses(self, program: str) -> int | None:
        info, length = self._info(program)
        return int(info.recursion_misses) if length >= ProgramInfo.recursion_misses.offset + 8 else None

    def _info(self, program: str) -> tuple[ProgramInfo, int]:
        """Return what the kernel tells of a program, and how many bytes of that it filled in."""
        info = ProgramInfo()
        length = ctypes.c_uint32(ctypes.sizeof(info))
        fd = self._lib.bpf_program__fd(self._program(program))
        if self._lib.bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(length)):
            return info, 0
        return info, length.value

    def close(self) -> None:
        """See `Loaded.close`. The record hook goes first: what is open can still end."""
        while self._links:
            self._lib.bpf_link__destroy(self._links.pop())
        self._probes.close()
        while self._rings:
            self._rings.pop().close()
        while self._fds:
            os.close(self._fds.pop())
        if self._counters_map is not None:
            self._counters_map.close()
            self._counters_map = None
        if self._object:
            self._lib.bpf_object__close(self._object)
            self._object = 0
