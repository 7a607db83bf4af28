# SPDX-License-Identifier: Apache-2.0
"""A second way to load: the programs compiled on this host by bcc, with the kernel's headers.

Owns bcc's part of a loaded object: sources, compiler, probes. It needs no BTF, at a cost
(docs/adr/0007-bcc-loader.md). The maps are ours, made as the CO-RE object's are and read by the same
code; bcc knows them by descriptor only. Never imported by what does without bcc, and imports bcc itself
only when something is to be loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import mmap
import os
import socket
import struct
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, cast

from enricher.errors import LoadFailed, MissingCapability, UsageError
from enricher.sources import cgroups
from enricher.sources.bpf import bccmaps, bccprobes, wire
from enricher.sources.bpf.bccfacts import Facts, facts, header_trees
from enricher.sources.bpf.features import can_kprobe
from enricher.sources.bpf.hook import Hook
from enricher.sources.bpf.libbpf import BPF_MAP_TYPE_RINGBUF, Libbpf, error_text, last_useful_lines, library
from enricher.sources.bpf.loader import DEFAULT_BUDGET, Loaded, ring_size
from enricher.sources.bpf.ring import ReadingSide, Ring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from enricher.facts import Fact
    from enricher.model import CgroupChange


_RECORD: Final = {
    Hook.PLAIN: "bcc_record_end",
    Hook.PART: "bcc_record_end",
    Hook.QUEUE: "bcc_record_queued",
}

# In a checkout the sources are at its top; a package has them beside this module (`make bpf`).
_PACKAGED: Final = Path(__file__).parent / "source"
_CHECKOUT: Final = Path(__file__).parents[3] / "bpf"

HINT: Final = (
    "install audit-enricher-bcc, or the distribution's bcc for Python (Debian and Ubuntu: python3-bpfcc, Fedora:"
    " python3-bcc), and run with its interpreter; the package `bcc` of PyPI is something else"
)


# What bcc says, or the kernel through it, where a privilege is missing.
_REFUSALS: Final = ("super-user", "Operation not permitted", "Permission denied")
# linux/netlink.h, linux/audit.h
_NETLINK_AUDIT: Final = 9
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_AUDIT_NLGRP_READLOG: Final = 1


class _Module(Protocol):
    """What we use of bcc's BPF class."""

    def attach_kprobe(self, *, event: bytes, fn_name: bytes) -> object: ...
    def attach_kretprobe(self, *, event: bytes, fn_name: bytes) -> object: ...
    def attach_raw_tracepoint(self, *, tp: bytes, fn_name: bytes) -> object: ...
    def detach_kprobe(self, event: bytes) -> None: ...
    def cleanup(self) -> None: ...


class _Compile(Protocol):
    """bcc's BPF class itself."""

    def __call__(self, *, text: bytes, cflags: list[str], debug: int) -> _Module: ...


def is_installed() -> bool:
    """Whether `BccLoader` has its bcc and its sources. Imports the first, and with it 160 MB of compiler."""
    try:
        source_directory()
        compiler()
    except (UsageError, LoadFailed):
        return False
    return True


def compiler() -> _Compile:
    """The BPF class of bcc. Raises UsageError where there is no bcc, or another package of that name."""
    try:
        module = importlib.import_module("bcc")
    except (ImportError, OSError) as error:
        raise UsageError(f"bcc cannot be imported: {error}", HINT) from error
    found = getattr(module, "BPF", None)
    wanted = ("attach_kprobe", "attach_kretprobe", "attach_raw_tracepoint", "cleanup")
    if found is None or not all(hasattr(found, name) for name in wanted):
        place = getattr(module, "__file__", "")
        raise UsageError(f"the Python package bcc at {place} is not the BPF Compiler Collection", HINT)
    return cast("_Compile", found)


def source_directory() -> Path:
    """The sources of the kernel side. Raises LoadFailed where this installation has none."""
    for path in (_CHECKOUT, _PACKAGED):
        if (path / "bcc" / "audit.c").exists():
            return path
    raise LoadFailed(
        f"the sources of the BPF programs are not at {_PACKAGED}",
        "install audit-enricher-bcc, or run `make bpf` in a checkout",
    )


class BccLoader:
    """The sources, compiled by bcc. `verbose` shows the whole of what compiler and verifier say."""

    name = "bcc"

    def __init__(self, *, verbose: bool = False, contid: Mapping[str, int] | None = None) -> None:
        """`contid` are the descriptors of the store's maps, as for `loader.LibbpfLoader`."""
        self._verbose = verbose
        self._contid = contid or {}

    def load(self, hook: Hook, nonce: bytes, budget: int = DEFAULT_BUDGET, *, uring: bool = True) -> Loaded:
        """See `Loader.load`. Takes seconds: the compiler runs.

        What records do not rest on must not keep them from being had: where the kernel refuses the whole, it is tried
        without container identifiers and without the further families.
        """
        make = compiler()
        source = source_directory()
        lib = library()
        known = facts(lib, header_trees())

        def made(chosen: bccprobes.Chosen, contid: Mapping[str, int]) -> BccObject:
            return BccObject(
                lib,
                make,
                source,
                known,
                hook,
                nonce,
                budget,
                chosen,
                uring=uring,
                verbose=self._verbose,
                contid=contid,
            )

        try:
            return made(bccprobes.choose(known.macros), self._contid)
        except LoadFailed as error:
            return made(bccprobes.none(f"the kernel refused: {error.message.splitlines()[-1]}"), {})


class BccObject(ReadingSide):
    """One compiled and attached set of programs. Closes itself where the constructor fails half way."""

    def __init__(  # noqa: PLR0913 - one call site, and each is a different kind of thing
        self,
        lib: Libbpf,
        make: _Compile,
        source: Path,
        known: Facts,
        hook: Hook,
        nonce: bytes,
        budget: int,
        chosen: bccprobes.Chosen,
        *,
        uring: bool,
        verbose: bool,
        contid: Mapping[str, int],
    ) -> None:
        self.hook = hook
        self.tap: list[bytes] | None = None
        self.cgroups: list[CgroupChange] = []
        self.facts: list[Fact] = []
        self.families = dict(chosen.absent)
        self.known = known
        self._lib = lib
        self._verbose = verbose
        self._module: _Module | None = None
        self._rings: list[Ring] = []
        self._ring_fds: list[int] = []
        self._fds: list[int] = []
        self._counters_map: mmap.mmap | None = None
        self._learned_map: mmap.mmap | None = None
        lib.take_log()
        try:
            self._cpus = self.ring_count = self._possible_cpus()
            self.ring_size = ring_size(budget, self._cpus)
            macros = dict(known.macros) | bccmaps.CHECKED | chosen.macros | bccmaps.of_store(contid)
            macros |= self._make_maps()
            macros["NONCE_HIGH"], macros["NONCE_LOW"] = struct.unpack(">QQ", nonce)
            watched = cgroups.hierarchy()
            macros["CGROUP_HIERARCHY"], macros["CGROUP_SUBSYS"] = watched.number, watched.subsystem
            self._module = self._compile(make, source, macros)
            self.counts_lost = can_kprobe("audit_log_lost").yes
            self._attach(self._module, chosen, uring=uring)
        except BaseException:
            self.close()
            raise

    def _possible_cpus(self) -> int:
        cpus: int = self._lib.libbpf_num_possible_cpus()
        if cpus < 1:
            raise self._fail("the number of possible CPUs cannot be read", cpus)
        return cpus

    def _fail(self, what: str, code: int) -> LoadFailed | MissingCapability:
        text = error_text(code)
        if text.startswith(("EPERM", "EACCES")):
            return MissingCapability(f"{what}: {text}", "loading with bcc needs root")
        return LoadFailed(f"{what}: {text}\n{self._lib.take_log()}".rstrip())

    # -- maps ----------------------------------------------------------------------------------------

    def _make_maps(self) -> dict[str, int]:
        """Make what maps.bpf.c declares; returns the descriptors by the macros that name them."""
        for cpu in range(self._cpus):
            fd = self._map("audit_ring", bccmaps.Shape(BPF_MAP_TYPE_RINGBUF, 0, 0, self.ring_size))
            self._ring_fds.append(fd)
            try:
                self._rings.append(Ring(fd, self.ring_size))
            except OSError as error:
                raise LoadFailed(
                    f"ring buffer of {self.ring_size} bytes for CPU {cpu} cannot be mapped: {error.strerror}",
                    "give less --ring-memory, or raise the limits on locked memory and on open files",
                ) from error
        outer = bccmaps.Shape(bccmaps.ARRAY_OF_MAPS, 4, 4, self._cpus)
        rings = self._map("rings", outer, inner=self._ring_fds[0])
        for cpu, fd in enumerate(self._ring_fds):
            key, value = ctypes.c_uint32(cpu), ctypes.c_uint32(fd)
            code = self._lib.bpf_map_update_elem(rings, ctypes.byref(key), ctypes.byref(value), 0)
            if code:
                raise self._fail(f"ring buffer for CPU {cpu}", code)
        per_cpu = bccmaps.Shape(bccmaps.ARRAY, 4, wire.COUNTERS_SIZE, self._cpus, bccmaps.F_MMAPABLE)
        made = {name: self._map(name, shape) for name, shape in bccmaps.SHAPES.items()}
        made |= {"rings": rings, "counters": self._map("counters", per_cpu)}
        self._counters_map = _mapped(made["counters"], self._cpus * wire.COUNTERS_SIZE)
        self._learned_map = _mapped(made["learned"], bccmaps.LEARNED.size)
        return {f"{name.upper()}_FD": fd for name, fd in made.items()}

    def _map(self, name: str, shape: bccmaps.Shape, *, inner: int = 0) -> int:
        fd = bccmaps.make(self._lib, name, shape, self._fail, inner=inner)
        self._fds.append(fd)
        return fd

    # -- programs ------------------------------------------------------------------------------------

    def _compile(self, make: _Compile, source: Path, macros: dict[str, int]) -> _Module:
        # Up to INT_MAX as int: descriptors and identifiers go into 32-bit fields of instructions.
        flags = [f"-D{name}={value}{'UL' if value >> 31 else ''}" for name, value in macros.items()]
        flags += [f"-I{source}", f"-I{source / 'include'}"]
        text = (source / "bcc" / "audit.c").read_bytes()
        with self._told("bcc cannot compile the programs"):
            return make(text=text, cflags=flags, debug=0)

    def _attach(self, module: _Module, chosen: bccprobes.Chosen, *, uring: bool) -> None:
        """Attach the ends of events first, so that none is begun that nothing would end."""
        with self._told("bcc cannot attach the programs"):
            for change in (b"mkdir", b"rmdir", b"rename", b"release"):
                module.attach_raw_tracepoint(tp=b"cgroup_" + change, fn_name=b"bcc_cgroup_" + change)
            module.attach_kretprobe(event=b"audit_log_exit", fn_name=b"bcc_event_exit")
            module.attach_kprobe(event=b"__audit_syscall_entry", fn_name=b"bcc_syscall_entry")
            module.attach_raw_tracepoint(tp=b"sched_process_exit", fn_name=b"bcc_task_exit")
            if uring:
                module.attach_kretprobe(event=b"__audit_uring_exit", fn_name=b"bcc_uring_exit")
            if self.counts_lost:
                module.attach_kprobe(event=b"audit_log_lost", fn_name=b"bcc_record_lost")
            bccprobes.attach(module, chosen.programs)
            record = _RECORD[self.hook].encode()
            module.attach_kprobe(event=self.hook.value.encode(), fn_name=record)
        if self.known.proved_later:
            _write_listener_record()

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Turn bcc's bare exceptions, and what clang and the verifier print meanwhile, into our errors."""
        said = ""
        try:
            with _stderr_kept() as kept:
                try:
                    yield
                finally:
                    said = kept()
        except Exception as error:  # bcc raises nothing more precise
            # The verifier refuses with EACCES as well, and then says why.
            if "processed " not in said and any(word in f"{error}{said}" for word in _REFUSALS):
                raise MissingCapability(f"{what}: {error}", "loading with bcc needs root") from error
            detail = said if self._verbose else last_useful_lines(said)
            raise LoadFailed(
                f"{what}: {error}\n{detail}".rstrip(), "run again with --verbose for all that bcc says"
            ) from error

    # -- what a loader's user sees -------------------------------------------------------------------

    def wake_fds(self) -> list[int]:
        """See `Loaded.wake_fds`: the ring maps themselves."""
        return list(self._ring_fds)

    def missed(self) -> int | None:
        """See `Loaded.missed`: kprobes count it per probe, where we cannot read it."""
        return None

    def missed_losses(self) -> int | None:
        """See `Loaded.missed_losses`."""
        return None

    def caveats(self) -> list[str]:
        """What is not known with this loader on this kernel, one line each; asked after the self-test."""
        if not self.known.proved_later or self._learned_map is None:
            return list(self.known.notes)
        _queue, _record, context, mnt = bccmaps.LEARNED.unpack_from(self._learned_map)
        missing = list(self.known.notes)
        if not mnt:
            missing.append("mount namespaces are not known: where their number is could not be proved")
        if self.hook is Hook.QUEUE:
            missing.append("how many records an event has is not known: no count without BTF from this hook")
        elif not context:
            missing.append(
                "how many records an event has is not known until audit is on and a record shows it"
            )
        return missing

    def _detach(self) -> None:
        module, self._module = self._module, None
        if module is None:
            return
        # The record hook first: what is open can still end. It is not attached where attaching failed.
        with contextlib.suppress(Exception):
            module.detach_kprobe(self.hook.value.encode())
        module.cleanup()

    def close(self) -> None:
        """See `Loaded.close`."""
        self._detach()
        while self._rings:
            self._rings.pop().close()
        self._ring_fds.clear()
        while self._fds:
            os.close(self._fds.pop())
        for mapped in (self._counters_map, self._learned_map):
            if mapped is not None:
                mapped.close()
        self._counters_map = self._learned_map = None


def _mapped(fd: int, length: int) -> mmap.mmap:
    return mmap.mmap(fd, length + -length % mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)


def _write_listener_record() -> None:
    """Make the kernel write a record with our own audit context: EVENT_LISTENER, on joining the multicast group.

    It proves where an audit_buffer has its context. Where audit is off we have none: then it is proved later
    or never.
    """
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with contextlib.suppress(OSError), socket.socket(socket.AF_NETLINK, kind, _NETLINK_AUDIT) as listener:
        listener.bind((0, 0))
        listener.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _AUDIT_NLGRP_READLOG)


@contextlib.contextmanager
def _stderr_kept() -> Iterator[Callable[[], str]]:
    """Keep what is written to descriptor 2 by C code in this block: yields the function that returns it."""
    if sys.__stderr__ is None:  # closed at our start: the descriptor may be another file's by now
        yield str
        return
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as file:

        def kept() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        os.dup2(file.fileno(), 2)
        try:
            yield kept
        finally:
            os.dup2(before, 2)
            os.close(before)
