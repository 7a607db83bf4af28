# SPDX-License-Identifier: Apache-2.0
"""The store of container identifiers without a kernel: shapes, the request, what is told. Objects are opened only."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from enricher.errors import KernelUnsupported, LayoutMismatch, LoadFailed
from enricher.sources.bpf import contidpins, contidshare, contidstore, contidwire
from enricher.sources.bpf.contidstore import KernelStore
from enricher.sources.bpf.features import Answer, Found
from enricher.sources.bpf.libbpf import Libbpf, library
from enricher.sources.bpf.loader import OBJECTS
from enricher.sources.cgroups import Hierarchy
from enricher.sources.contid import DEPTH_MAX, UNSET, ContidEntry, ContidOp
from tests.unit.test_ring import Producer

NOBODY, CALLER, TARGET, GONE = 0, 101, 102, 103
OWNER = contidwire.Key(5000, 77, 0)


@pytest.fixture(params=["x86_64", "aarch64"])
def opened(request: pytest.FixtureRequest) -> Iterator[int]:
    lib = library()
    image = (OBJECTS / f"{request.param}-contid.bpf.o").read_bytes()
    found = lib.bpf_object__open_mem(image, len(image), None)
    assert found, lib.take_log()
    yield found
    lib.bpf_object__close(found)


def test_objects_and_shapes_agree(opened: int) -> None:
    lib = library()
    btf = lib.bpf_object__btf(opened)
    assert contidwire.differences(lib, btf) == []
    contidwire.check(lib, btf)


def test_a_difference_is_refused(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Short(ctypes.Structure):
        _fields_ = (("chain", ctypes.c_uint64), ("cgroup", ctypes.c_uint64))

    monkeypatch.setitem(contidwire.STRUCTS, "contid_id", Short)
    monkeypatch.setitem(contidwire.STRUCTS, "no_such", Short)
    with pytest.raises(LayoutMismatch, match="no_such: not in the object") as caught:
        contidwire.check(library(), library().bpf_object__btf(opened))
    assert "contid_id: 104 bytes in the object, 16 expected" in caught.value.message
    assert "contid_id.cgroup" in caught.value.message


def test_every_program_is_in_the_object(opened: int) -> None:
    lib = library()
    for name in contidstore._PROGRAMS:
        assert lib.bpf_object__find_program_by_name(opened, name.encode()), name


def message(**members: Any) -> bytes:  # noqa: ANN401 - of every type
    event = contidwire.Event(**members)
    event.header.type, event.header.version = contidwire.EVENT_CONTID, 1
    event.header.size, event.header.time = ctypes.sizeof(event), 9
    return bytes(event)


def numbers(*contids: int) -> tuple[int, ...]:
    inverted = [contidwire.inverted(contid) for contid in contids]
    return (*inverted, *[0] * (DEPTH_MAX - len(inverted)))


def test_messages_are_decoded() -> None:
    told = message(
        contid=contidwire.inverted(0),
        old=numbers(4, 2, 1),
        old_depth=3,
        opid=12,
        op=1,
        orchestrator=1,
        result=17,
    )
    assert contidwire.decode(told) == ContidOp("set", 12, 0, (4, 2, 1), errno.EEXIST, 9, orchestrator=True)
    assert contidwire.decode(message(old=numbers(4), old_depth=1, opid=3, op=2)) == ContidOp(
        "drop", 3, UNSET, (4,), 0, 9
    )


@pytest.mark.parametrize(
    "damage",
    [lambda text: text[:-1], lambda text: b"\x0e" + text[1:], lambda text: text[:2] + b"\2" + text[3:]],
)
def test_other_messages_are_none(damage: Callable[[bytes], bytes]) -> None:
    assert contidwire.decode(damage(message(op=1))) is None


def test_a_depth_that_cannot_be_is_cut() -> None:
    found = contidwire.decode(message(old=numbers(*range(DEPTH_MAX)), old_depth=4000, op=1))
    assert found is not None
    assert found.old == tuple(range(DEPTH_MAX))


class Kernel:
    """libbpf's functions, the maps behind them, and the program that a signal 0 reaches."""

    def __init__(self) -> None:
        self.request = contidwire.Request()
        self.asked: list[contidwire.Request] = []
        self.answer: Callable[[contidwire.Request], None] = lambda _: None
        self.ids: dict[int, contidwire.Id] = {}
        self.outcomes = [8, 9]
        self.refused: dict[str, int] = {}
        self.attached: list[str] = []
        self.unattachable: set[str] = set()
        self.no_links: set[str] = set()
        self.detached = 0
        self.reused: dict[str, int] = {}
        self.closed = 0
        self.entries = 0
        self.rodata = ctypes.create_string_buffer(4)
        self.ring = Producer()
        self.log = ""

    NAMES = ("", "contid_tasks", "contid_ids", "contid_gone", "contid_request", "contid_outcomes", "contid_counters",
             "contid_grants", "contid_bound", "contid_ring", ".rodata", *contidstore._PROGRAMS)  # fmt: skip

    def __getattr__(self, name: str) -> Callable[..., Any]:
        double = getattr(type(self), "do_" + name, None)

        def call(*arguments: Any) -> Any:  # noqa: ANN401 - C's
            if name in self.refused:
                ctypes.set_errno(-self.refused[name])
                return self.refused[name]
            return double(self, *arguments) if double else 0

        return call

    def take_log(self) -> str:
        return self.log

    def do_bpf_object__open_mem(self, _image: bytes, _size: int, _options: None) -> int:
        return 99

    def do_bpf_object__close(self, handle: int) -> None:
        assert handle == 99
        self.closed += 1

    def do_bpf_object__find_map_by_name(self, _: int, name: bytes) -> int:
        return self.NAMES.index(name.decode())

    do_bpf_object__find_program_by_name = do_bpf_object__find_map_by_name

    def do_bpf_map__initial_value(self, _: int, size: Any) -> int:  # noqa: ANN401
        size._obj.value = len(self.rodata)
        return ctypes.addressof(self.rodata)

    def do_bpf_map__set_max_entries(self, handle: int, number: int) -> None:
        assert self.NAMES[handle] == "contid_tasks"
        self.entries = number

    def do_bpf_map__fd(self, handle: int) -> int:
        return self.ring.fd if self.NAMES[handle] == "contid_ring" else 1000 + handle

    def do_bpf_link__fd(self, handle: int) -> int:
        return 2000 + handle

    def do_bpf_obj_pin(self, fd: int, path: bytes) -> int:
        if "." in Path(path.decode()).name:  # as the bpffs does
            ctypes.set_errno(errno.EPERM)
            return -errno.EPERM
        Path(path.decode()).write_text(str(fd))
        return 0

    def do_bpf_obj_get(self, path: bytes) -> int:
        """A descriptor that may be closed, and whose number is another one."""
        if not Path(path.decode()).exists():
            return -errno.ENOENT
        return os.open(path, os.O_RDONLY)

    def do_bpf_map__reuse_fd(self, handle: int, fd: int) -> int:
        self.reused[self.NAMES[handle]] = int(os.pread(fd, 9, 0))
        return 0

    def do_bpf_program__attach(self, handle: int) -> int:
        if self.NAMES[handle] in self.unattachable:
            ctypes.set_errno(errno.EPERM)
            return 0
        self.attached.append(self.NAMES[handle])
        return handle

    def do_bpf_obj_get_info_by_fd(self, fd: int, _info: object, _length: object) -> int:
        return -errno.EINVAL if self.NAMES[fd - 2000] in self.no_links else 0

    def do_bpf_link__destroy(self, _: int) -> None:
        self.detached += 1

    def name(self, fd: int) -> str:
        return self.NAMES[fd - 1000]

    def do_bpf_map_update_elem(self, fd: int, _key: Any, value: Any, _flags: int) -> int:  # noqa: ANN401
        assert self.name(fd) == "contid_request"
        self.request = contidwire.Request.from_buffer_copy(value._obj)
        self.asked.append(contidwire.Request.from_buffer_copy(value._obj))
        return 0

    def do_bpf_map_lookup_elem(self, fd: int, key: Any, value: Any) -> int:  # noqa: ANN401
        where = self.name(fd)
        if where == "contid_request":
            ctypes.memmove(value, ctypes.byref(self.request), ctypes.sizeof(self.request))
        elif where == "contid_ids":
            found = self.ids.get(key._obj.value)
            if found is None:
                return -errno.ENOENT
            ctypes.memmove(value, ctypes.byref(found), ctypes.sizeof(found))
        else:
            assert where == "contid_counters"
            value._obj.inherited = 4
        return 0

    def do_bpf_map_get_next_key(self, fd: int, at: Any, following: Any) -> int:  # noqa: ANN401
        where = self.name(fd)
        keys = {
            "contid_ids": list(self.ids),
            "contid_outcomes": list(self.outcomes),
            "contid_tasks": [1, 2, 3],
        }[where]
        value = 0 if at is None else at._obj.start if where == "contid_tasks" else at._obj.value
        place = keys.index(value) + 1 if at is not None else 0
        if place >= len(keys):
            return -errno.ENOENT
        if where == "contid_tasks":
            following._obj.start = keys[place]
        else:
            following._obj.value = keys[place]
        return 0

    def do_bpf_map_delete_elem(self, fd: int, key: Any) -> int:  # noqa: ANN401
        assert self.name(fd) == "contid_outcomes"
        self.outcomes.remove(key._obj.value)
        return 0

    def touched(self, pidfd: int) -> None:
        """As the program at security_task_kill; a process that is gone is never seen by it."""
        if pidfd == GONE:
            return
        if self.request.step == contidwire.STEP_CALLER:
            self.request.step = contidwire.STEP_TARGET
        else:
            self.answer(self.request)
            self.request.step = contidwire.STEP_DONE


@pytest.fixture
def side(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(contidstore, "library", lambda: made)
    monkeypatch.setattr(contidwire, "check", lambda *_: None)
    monkeypatch.setattr(contidstore, "KernelTypes", Types)
    monkeypatch.setattr("enricher.sources.cgroups.hierarchy", lambda: Hierarchy(3, 7, None, "pids"))
    monkeypatch.setattr(contidstore, "_touch", made.touched)
    monkeypatch.setattr(contidwire, "RING_SIZE", 4096)
    return made


class Types:
    lacking = ""

    def __init__(self, _: Libbpf) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def has_function(self, name: str) -> Found:
        return Found(Answer.NO if self.lacking == name else Answer.YES, f"{name} is not in the kernel's BTF")


def test_it_loads_and_lets_go(side: Kernel) -> None:
    store = KernelStore(OBJECTS / "x86_64-contid.bpf.o", tasks=500, home=None)
    assert side.entries == 500
    assert side.rodata.raw == b"\3\0\0\0"
    assert side.attached == list(contidstore._PROGRAMS), "who ends comes before who begins"
    assert side.attached.index("contid_exit") < side.attached.index("contid_newtask")
    store.close()
    store.close()
    assert (side.detached, side.closed) == (len(contidstore._PROGRAMS), 1)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("bpf_object__open_mem", 0),
        ("bpf_object__load", -errno.E2BIG),
        ("bpf_program__attach", 0),
        ("bpf_map__initial_value", 0),
    ],
)
def test_what_fails_is_said_and_nothing_stays(side: Kernel, name: str, code: int) -> None:
    side.refused[name] = code
    with pytest.raises(LoadFailed):
        KernelStore(OBJECTS / "x86_64-contid.bpf.o", home=None)
    assert side.closed == (name != "bpf_object__open_mem")


def test_a_kernel_without_the_function(side: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Types, "lacking", "security_task_kill")
    with pytest.raises(KernelUnsupported, match="security_task_kill is not"):
        KernelStore(OBJECTS / "x86_64-contid.bpf.o", home=None)
    assert side.attached == []


@pytest.fixture
def store(side: Kernel) -> Iterator[KernelStore]:
    assert not side.attached
    made = KernelStore(OBJECTS / "x86_64-contid.bpf.o", home=None)
    yield made
    made.close()


def test_a_set_is_a_request_and_two_signals(store: KernelStore, side: Kernel) -> None:
    store.set(caller=CALLER, target=TARGET, contid=4, orchestrator=True, bind_cgroup=12)
    first, last = side.asked
    assert (first.op, first.step) == (contidwire.REQUEST_SET, contidwire.STEP_CALLER)
    assert (first.contid, first.orchestrator, first.cgroup) == (contidwire.inverted(4), 1, 12)
    assert first.service >> 32 == os.getpid()
    assert first.sequence % 2 == 0
    assert last.service == 0, "nobody's signal means anything between requests"
    assert side.outcomes == []
    store.set(caller=CALLER, target=TARGET, contid=5, bind_cgroup=12)
    assert side.asked[2].sequence > first.sequence
    assert side.asked[2].cgroup == 0, "only an orchestrator binds"


def test_an_errno_of_the_program_is_raised(store: KernelStore, side: Kernel) -> None:
    def refuse(request: contidwire.Request) -> None:
        request.result = errno.ENOTUNIQ

    side.answer = refuse
    with pytest.raises(OSError) as caught:
        store.set(caller=CALLER, target=TARGET, contid=4)
    assert caught.value.errno == errno.ENOTUNIQ
    assert store.take_ops() == [], "the program has told"
    with pytest.raises(OSError):
        store.grant(caller=CALLER, target=TARGET, allow=True)


@pytest.mark.parametrize(("caller", "target"), [(GONE, TARGET), (CALLER, GONE)])
def test_who_is_gone_is_esrch_and_told(store: KernelStore, side: Kernel, caller: int, target: int) -> None:
    with pytest.raises(ProcessLookupError):
        store.set(caller=caller, target=target, contid=4)
    (op,) = store.take_ops()
    assert (op.op, op.opid, op.contid, op.res) == ("set", 0, 4, errno.ESRCH)
    assert side.request.service == 0
    with pytest.raises(ProcessLookupError):
        store.grant(caller=caller, target=target, allow=False)
    assert store.take_ops() == []


@pytest.mark.parametrize("contid", [-1, 1 << 64])
def test_what_is_no_number_of_64_bits_is_not_asked(store: KernelStore, side: Kernel, contid: int) -> None:
    with pytest.raises(OSError) as caught:
        store.set(caller=CALLER, target=TARGET, contid=contid)
    assert caught.value.errno == errno.EINVAL
    assert side.asked == []


def test_a_chain_is_asked_for(store: KernelStore, side: Kernel) -> None:
    def found(request: contidwire.Request) -> None:
        assert (request.op, request.service != 0) == (contidwire.REQUEST_GET, True)
        request.depth = 2
        request.chain[:] = numbers(7, 0)

    side.answer = found
    assert store.get(TARGET) == (7, 0)


def test_entries_are_counted_without_what_is_nested(store: KernelStore, side: Kernel) -> None:
    number = contidwire.inverted(7)
    side.ids[number] = contidwire.Id(numbers(7, 3), OWNER, 12, 2 << 32 | 5, 2, 0)
    assert store.entries() == [ContidEntry(7, (77, 5000), 5, 12, (7, 3))]
    assert store.held() == 3
    assert store.counters()["inherited"] == 4


def test_the_maps_that_are_shared_are_those_that_the_other_object_asks_for(store: KernelStore) -> None:
    assert tuple(store.shared) == contidshare.MAPS


def test_messages_of_the_ring_come_in_order(store: KernelStore, side: Kernel) -> None:
    assert store.wake_fd() == side.ring.fd
    side.ring.put(message(op=1, opid=1, contid=contidwire.inverted(2)))
    side.ring.put(b"\0" * 104)
    side.ring.put(message(op=2, opid=2, old=numbers(2), old_depth=1))
    assert [(op.op, op.opid) for op in store.take_ops()] == [("set", 1), ("drop", 2)]
    assert store.take_ops() == []


def test_a_request_that_cannot_be_written_is_an_error(store: KernelStore, side: Kernel) -> None:
    side.refused["bpf_map_update_elem"] = -errno.EPERM
    with pytest.raises(OSError):
        store.get(TARGET)


def names(home: Path) -> set[str]:
    return {path.name for path in (home / contidpins.VERSION).iterdir()}


def test_a_pinned_store_is_taken_over(side: Kernel, tmp_path: Path) -> None:
    home = tmp_path / "bpf"
    first = KernelStore(OBJECTS / "x86_64-contid.bpf.o", home=home)
    assert first.unpinned == ""
    assert side.reused == {}
    assert names(home) == {*contidstore._MAPS, *contidstore._PROGRAMS}
    assert (
        stat.S_IMODE(home.stat().st_mode) == stat.S_IMODE((home / contidpins.VERSION).stat().st_mode) == 0o700
    )
    first.close()
    pinned = {name: int((home / contidpins.VERSION / name).read_text()) for name in contidstore._MAPS}
    second = KernelStore(OBJECTS / "x86_64-contid.bpf.o", home=home)
    assert side.reused == pinned
    assert names(home) == {*contidstore._MAPS, *contidstore._PROGRAMS}
    second.close()
    assert contidpins.remains(home)
    assert contidpins.remove(home)
    assert not home.exists()
    assert not contidpins.remains(home)
    assert not contidpins.remove(home)


def test_what_a_start_cut_short_has_left_is_not_taken_over(side: Kernel, tmp_path: Path) -> None:
    KernelStore(OBJECTS / "x86_64-contid.bpf.o", home=tmp_path).close()
    (tmp_path / contidpins.VERSION / "contid_ring").unlink()
    store = KernelStore(OBJECTS / "x86_64-contid.bpf.o", home=tmp_path)
    assert (side.reused, store.unpinned) == ({}, "")
    store.close()


def test_where_nothing_can_be_pinned_it_goes_without(side: Kernel, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    store = KernelStore(OBJECTS / "x86_64-contid.bpf.o", home=blocked)
    assert "file" in store.unpinned
    assert len(side.attached) == len(contidstore._PROGRAMS)
    store.close()
    side.refused["bpf_obj_pin"] = -errno.EPERM
    store = KernelStore(OBJECTS / "x86_64-contid.bpf.o", home=tmp_path / "bpf")
    assert "Operation not permitted" in store.unpinned
    assert not (tmp_path / "bpf").exists()
    store.close()


def test_a_kprobe_that_cannot_be_pinned_is_let_go(side: Kernel, tmp_path: Path) -> None:
    """Before 5.15 its descriptor is none of a link: the pins of all others would fail by it."""
    side.no_links = set(contidstore._AGAIN)
    store = KernelStore(OBJECTS / "x86_64-contid.bpf.o", home=tmp_path)
    assert (store.unpinned, store.alone, side.detached) == ("", [], len(contidstore._AGAIN))
    assert names(tmp_path) == {*contidstore._MAPS, *contidstore._PROGRAMS} - side.no_links
    store.close()


def test_a_kprobe_that_the_host_forbids_is_told(side: Kernel) -> None:
    side.unattachable = {"contid_newtask_again"}
    store = KernelStore(OBJECTS / "x86_64-contid.bpf.o", home=None)
    assert [line.partition(":")[0] for line in store.alone] == ["contid_newtask_again"]
    assert "contid_newtask" in side.attached
    store.close()
    side.unattachable = {"contid_newtask"}
    with pytest.raises(LoadFailed, match="contid_newtask cannot be attached"):
        KernelStore(OBJECTS / "x86_64-contid.bpf.o", home=None)


@pytest.mark.usefixtures("side")
def test_links_of_another_build_end(tmp_path: Path) -> None:
    KernelStore(OBJECTS / "x86_64-contid.bpf.o", home=tmp_path).close()
    (tmp_path / contidpins.VERSION / "contid_as_it_was").touch()
    KernelStore(OBJECTS / "x86_64-contid.bpf.o", home=tmp_path).close()
    assert names(tmp_path) == {*contidstore._MAPS, *contidstore._PROGRAMS}


def test_a_map_that_cannot_be_taken_over_is_an_error(side: Kernel, tmp_path: Path) -> None:
    KernelStore(OBJECTS / "x86_64-contid.bpf.o", home=tmp_path).close()
    side.refused["bpf_map__reuse_fd"] = -errno.EINVAL
    with pytest.raises(LoadFailed, match="contid_tasks of an earlier run cannot be taken over"):
        KernelStore(OBJECTS / "x86_64-contid.bpf.o", home=tmp_path)
