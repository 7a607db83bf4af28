# SPDX-License-Identifier: Apache-2.0
"""The store of audit container identifiers in the kernel: its object, its maps, its requests.

Owns the life of the object and the one request at a time that `contid.ContidStore` promises. Never decides who may
set what: `bpf/contid/set.bpf.c` does, where it cannot race with a fork.

A request is written into a map, then the signal 0 is sent to the caller's pidfd and to the target's. A program at
`security_task_kill` sees both tasks there without looking up a number. Signal 0 does nothing, and is refused where a
security module says so; the program has run by then.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import struct
import threading
import time
from ctypes import byref, c_uint32, c_uint64
from typing import TYPE_CHECKING, Final

from enricher.errors import KernelUnsupported, LoadFailed
from enricher.sources import cgroups
from enricher.sources.bpf import contidpins
from enricher.sources.bpf import contidwire as shapes
from enricher.sources.bpf.features import KernelTypes
from enricher.sources.bpf.libbpf import error_text, last_useful_lines, library
from enricher.sources.bpf.loader import OBJECTS
from enricher.sources.bpf.ring import Ring
from enricher.sources.contid import UNSET, ContidEntry, ContidOp

if TYPE_CHECKING:
    from pathlib import Path

TASKS: Final = 65536
"""Processes that can have an identifier at a time, as the object says."""
_PROGRAMS: Final = (
    "contid_exit",
    "contid_exit_again",
    "contid_newtask",
    "contid_newtask_again",
    "contid_attached",
    "contid_asked",
)
"""In the order of attaching: nobody begins to have one before its end is seen."""
_AGAIN: Final = ("contid_exit_again", "contid_newtask_again")
"""Kprobes, for kernels that leave out a tracepoint's program where a task is preempted in it. None of those is from
before 5.15, and what is from before has no kprobe that can be pinned: it goes without."""
_MAPS: Final = tuple(
    f"contid_{name}"
    for name in ("tasks", "ids", "gone", "request", "outcomes", "grants", "bound", "counters", "ring")
)
_NEEDED: Final = ("security_task_kill",)
_LOST_OPS_MAX: Final = 4096
_LINK_INFO: Final = (
    64  # bytes; struct bpf_link_info has grown, and the kernel fills in what there is room for
)


def object_path() -> Path:
    """The store's object for this machine. Raises KernelUnsupported where there is none."""
    path = OBJECTS / f"{os.uname().machine}-contid.bpf.o"
    if not path.is_file():
        raise KernelUnsupported(
            f"no BPF object of container identifiers for this machine ({path.name})",
            "in a checkout run `make bpf`; objects are built for x86_64 and aarch64",
        )
    return path


class KernelStore:
    """`contid.ContidStore`, in the kernel.

    Pinned below `home` (`contidpins`) it outlives this process, and the next one takes it over with all identifiers;
    ``unpinned`` says why it is not, "" where it is. With no `home` it ends with this object. ``alone`` says which of
    `_AGAIN` the host refused. `tasks` is the number of processes that can have an identifier at a time. Raises
    LoadFailed, KernelUnsupported, LayoutMismatch.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        home: Path | None = contidpins.HOME,
        tasks: int = TASKS,
        verbose: bool = False,
    ) -> None:
        self._lib = library()
        self._verbose = verbose
        self._lock = threading.Lock()
        self._unseen: list[ContidOp] = []
        self._sequence = 0
        self._ring: Ring | None = None
        self._links: list[int] = []
        self._fds: dict[str, int] = {}
        self._image = (path or object_path()).read_bytes()
        self._object = 0
        self.alone: list[str] = []
        self._pins = contidpins.Pins(self._lib, home)
        try:
            self._load(tasks)
        except BaseException:
            self.close()
            raise

    def _load(self, tasks: int) -> None:
        lib = self._lib
        with KernelTypes(lib) as types:
            for name in _NEEDED:
                found = types.has_function(name)
                if not found.yes:
                    raise KernelUnsupported(
                        f"container identifiers cannot be kept: {found.reason}", "set contid to off"
                    )
        lib.take_log()
        self._object = lib.bpf_object__open_mem(self._image, len(self._image), None) or 0
        if not self._object:
            raise self._fail("the BPF object of container identifiers cannot be opened", -1)
        shapes.check(lib, lib.bpf_object__btf(self._object))
        self._set_hierarchy()
        lib.bpf_map__set_max_entries(self._map("contid_tasks"), tasks)
        before = self._pins.found(_MAPS)
        for name, fd in before.items():
            code = lib.bpf_map__reuse_fd(self._map(name), fd)
            os.close(fd)  # libbpf has its own
            if code:
                raise self._fail(f"the map {name} of an earlier run cannot be taken over", code)
        code = lib.bpf_object__load(self._object)
        if code:
            raise self._fail("the kernel refused the programs of container identifiers", code)
        maps = {name: lib.bpf_map__fd(self._map(name)) for name in _MAPS}
        self._fds = {name.removeprefix("contid_"): fd for name, fd in maps.items()}
        self._ring = Ring(self._fds["ring"], shapes.RING_SIZE)
        links = {}
        for name in _PROGRAMS:
            link = self._attach(name)
            if link:
                self._links.append(link)
                links[name] = lib.bpf_link__fd(link)
        # Whatever an earlier run has attached goes now, when ours is there.
        self._pins.keep({} if before else maps, links, _MAPS)

    def _attach(self, name: str) -> int:
        """Return the link; 0 for one of `_AGAIN` that is not to be had. Raises LoadFailed."""
        lib = self._lib
        program = lib.bpf_object__find_program_by_name(self._object, name.encode())
        link: int = (lib.bpf_program__attach(program) if program else None) or 0
        if name not in _AGAIN:
            if not link:
                raise self._fail(f"program {name} cannot be attached", -ctypes.get_errno() or -errno.EINVAL)
        elif not link:
            self.alone.append(f"{name}: {error_text(-ctypes.get_errno() or -errno.EINVAL)}")
        elif not self._is_link(lib.bpf_link__fd(link)):
            lib.bpf_link__destroy(link)
            link = 0
        return link

    def _is_link(self, fd: int) -> bool:
        """Whether it can be pinned: before 5.15 a kprobe's descriptor is the probe's."""
        info = ctypes.create_string_buffer(_LINK_INFO)
        length = c_uint32(_LINK_INFO)
        return not self._lib.bpf_obj_get_info_by_fd(fd, info, byref(length))

    @property
    def unpinned(self) -> str:
        """Why the store ends with this process, "" where it does not."""
        return self._pins.why

    def _set_hierarchy(self) -> None:
        size = ctypes.c_size_t()
        settings = self._lib.bpf_map__initial_value(self._map(".rodata"), byref(size))
        word = struct.pack("=I", cgroups.hierarchy().number)
        if not settings or size.value < len(word):
            raise LoadFailed("the BPF object's settings have an unexpected size", "run `make bpf`")
        ctypes.memmove(settings, word, len(word))

    def _map(self, name: str) -> int:
        found: int | None = self._lib.bpf_object__find_map_by_name(self._object, name.encode())
        if not found:
            raise LoadFailed(f"the BPF object has no map {name}", "run `make bpf`")
        return found

    def _fail(self, what: str, code: int) -> LoadFailed:
        log = self._lib.take_log()
        detail = log if self._verbose else last_useful_lines(log)
        return LoadFailed(
            f"{what}: {error_text(code)}\n{detail}", "run again with --verbose for the whole log"
        )

    def set(
        self, *, caller: int, target: int, contid: int, orchestrator: bool = False, bind_cgroup: int = 0
    ) -> None:
        """See `ContidStore.set`."""
        if not 0 <= contid <= UNSET:
            raise shapes.error(errno.EINVAL, "no identifier of 64 bits")
        request = shapes.Request(
            op=shapes.REQUEST_SET,
            contid=shapes.inverted(contid),
            cgroup=bind_cgroup if orchestrator else 0,
            orchestrator=orchestrator,
        )
        with self._lock:
            answer = self._ask(request, caller, target)
            if answer.step != shapes.STEP_DONE:
                self._tell_unseen(contid, orchestrator=orchestrator)
        self._conclude(answer, "the identifier was not set")

    def grant(self, *, caller: int, target: int, allow: bool) -> None:
        """See `ContidStore.grant`."""
        op = shapes.REQUEST_GRANT if allow else shapes.REQUEST_REVOKE
        with self._lock:
            answer = self._ask(shapes.Request(op=op), caller, target)
        self._conclude(answer, "the grant was not changed")

    def get(self, target: int) -> tuple[int, ...]:
        """See `ContidStore.get`."""
        with self._lock:
            answer = self._ask(shapes.Request(op=shapes.REQUEST_GET), None, target)
        self._conclude(answer, "the identifier was not found out")
        return shapes.chain(answer.chain, answer.depth)

    def number(self, target: int) -> int:
        """See `ContidStore.number`."""
        with self._lock:
            answer = self._ask(shapes.Request(op=shapes.REQUEST_GET), None, target)
        return int(answer.target.tgid) if answer.step == shapes.STEP_DONE else 0

    def _ask(self, request: shapes.Request, caller: int | None, target: int) -> shapes.Request:
        """Make a request and return it with the answer; where a process is gone its step is not STEP_DONE."""
        request.service = os.getpid() << 32 | threading.get_native_id()
        # Even, and never twice: what a program that was held up enters for an earlier one counts for nothing.
        self._sequence = request.sequence = (
            max(time.clock_gettime_ns(time.CLOCK_BOOTTIME), self._sequence + 2) & ~1
        )
        request.step = shapes.STEP_TARGET if caller is None else shapes.STEP_CALLER
        self._write(request)
        try:
            if caller is not None:
                _touch(caller)
            _touch(target)
            return self._read()
        finally:
            self._write(shapes.Request())
            for key in self._keys(self._fds["outcomes"]):
                self._lib.bpf_map_delete_elem(self._fds["outcomes"], byref(key))

    def _write(self, request: shapes.Request) -> None:
        first = c_uint32(0)
        code = self._lib.bpf_map_update_elem(self._fds["request"], byref(first), byref(request), 0)
        if code:
            raise shapes.error(ctypes.get_errno() or errno.EINVAL, "the request cannot be written")

    def _read(self) -> shapes.Request:
        first, answer = c_uint32(0), shapes.Request()
        code = self._lib.bpf_map_lookup_elem(self._fds["request"], byref(first), byref(answer))
        if code:
            raise shapes.error(ctypes.get_errno() or errno.EINVAL, "the answer cannot be read")
        return answer

    def _conclude(self, answer: shapes.Request, what: str) -> None:
        if answer.step != shapes.STEP_DONE:
            raise shapes.error(errno.ESRCH, what)
        if answer.result:
            raise shapes.error(answer.result, what)

    def _tell_unseen(self, contid: int, *, orchestrator: bool) -> None:
        """An attempt at which no program could look, since a process was gone. Bounded: the oldest go first."""
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._unseen.append(ContidOp("set", 0, contid, (), errno.ESRCH, now, orchestrator))
        del self._unseen[:-_LOST_OPS_MAX]

    def entries(self) -> list[ContidEntry]:
        """See `ContidStore.entries`."""
        found = []
        for number in self._keys(self._fds["ids"]):
            value = shapes.Id()
            if self._lib.bpf_map_lookup_elem(self._fds["ids"], byref(number), byref(value)) == 0:
                owner = (value.owner.tgid, value.owner.start)
                own = shapes.inverted(number.value)
                ids = shapes.chain(value.chain, value.depth)
                found.append(ContidEntry(own, owner, value.held & shapes.TASKS_MASK, value.cgroup, ids))
        return found

    def _keys(self, fd: int) -> list[c_uint64]:
        keys: list[c_uint64] = []
        at, following = None, c_uint64()
        while len(keys) < TASKS and self._lib.bpf_map_get_next_key(fd, at, byref(following)) == 0:
            keys.append(c_uint64(following.value))
            at = byref(keys[-1])
        return keys

    def held(self) -> int:
        """How many processes have an identifier now: for tests and for the account."""
        at, count = None, 0
        following = shapes.Key()
        while self._lib.bpf_map_get_next_key(self._fds["tasks"], at, byref(following)) == 0:
            count += 1
            key = shapes.Key(following.start, following.tgid, 0)
            at = byref(key)
        return count

    def take_ops(self) -> list[ContidOp]:
        """See `ContidStore.take_ops`."""
        with self._lock:
            unseen, self._unseen = self._unseen, []
            messages = self._ring.take() if self._ring is not None else []
        known = [op for op in map(shapes.decode, messages) if op is not None]
        return sorted(known + unseen, key=lambda op: op.time) if unseen else known

    def wake_fd(self) -> int:
        """See `ContidStore.wake_fd`."""
        return self._fds["ring"]

    @property
    def shared(self) -> dict[str, int]:
        """The maps that the programs of a run look into, by their names: descriptors, for `loader.LibbpfLoader`."""
        return {f"contid_{name}": self._fds[name] for name in ("tasks", "ids", "gone")}

    def counters(self) -> dict[str, int]:
        """See `ContidStore.counters`."""
        first, value = c_uint32(0), shapes.Counters()
        self._lib.bpf_map_lookup_elem(self._fds["counters"], byref(first), byref(value))
        return {str(name): int(getattr(value, name)) for name, *_ in shapes.Counters._fields_}

    def close(self) -> None:
        """See `ContidStore.close`."""
        while self._links:
            self._lib.bpf_link__destroy(self._links.pop())
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        self._fds.clear()
        if self._object:
            self._lib.bpf_object__close(self._object)
            self._object = 0


def _touch(pidfd: int) -> None:
    """Have the program look at this process. It is gone: nothing happens, and the request stays where it is."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(pidfd, 0)
