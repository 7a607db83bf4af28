# SPDX-License-Identifier: Apache-2.0
"""Loading through bcc, with a bcc and a libbpf of our own: what is told, made, attached, and left behind."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from enricher.errors import EnricherError, LoadFailed, MissingCapability, UsageError
from enricher.runtime import loaders
from enricher.runtime.selftest import Proof, Trial
from enricher.sources.bpf import bccfacts, bccload, bccprobes, bccproof, wire
from enricher.sources.bpf.bccfacts import Facts
from enricher.sources.bpf.bccload import BccObject
from enricher.sources.bpf.features import Answer, Found
from enricher.sources.bpf.hook import Hook

PAGE = mmap.PAGESIZE
NONCE = b"0123456789abcdef"
YES, NO = Found(Answer.YES, "it is there"), Found(Answer.NO, "it is not there")
ROOT = Path(__file__).parents[2]


class Lib:
    """libbpf's functions that are used; maps are anonymous files. `fails` maps a function to its result."""

    def __init__(self) -> None:
        self.fails: dict[str, int] = {}
        self.made: dict[str, tuple[int, ...]] = {}
        self.open: dict[str, list[int]] = {}
        self.inner: dict[int, int] = {}

    def _result(self, name: str) -> int:
        if name in self.fails:
            ctypes.set_errno(-self.fails[name])
        return self.fails.get(name, 0)

    def libbpf_num_possible_cpus(self) -> int:
        return self._result("cpus") or 2

    def take_log(self) -> str:
        return ""

    def bpf_map_create(self, kind: int, name: bytes, key: int, value: int, entries: int, options: Any) -> int:  # noqa: ANN401, PLR0913 - C's
        if failed := self._result(name.decode()):
            return failed
        told = options._obj
        assert told.sz == ctypes.sizeof(told) == 32
        fd = os.memfd_create(name.decode())
        os.ftruncate(fd, 2 * PAGE + 2 * entries if kind == 27 else PAGE)
        self.made[name.decode()] = (kind, key, value, entries, told.map_flags, told.inner_map_fd)
        self.open.setdefault(name.decode(), []).append(fd)
        return fd

    def bpf_map_update_elem(self, _map: int, key: Any, value: Any, _flags: int) -> int:  # noqa: ANN401 - C's
        self.inner[key._obj.value] = value._obj.value
        return self._result("update")

    def fds(self) -> list[int]:
        return [fd for fds in self.open.values() for fd in fds]


class Bcc:
    """bcc's BPF class. `act` may raise, by what is done: "compile", or an event's name."""

    act: ClassVar[dict[str, Callable[[], None]]] = {}

    def __init__(self, *, text: bytes, cflags: list[str], debug: int) -> None:
        self.text, self.cflags = text, cflags
        self.log: list[str] = []
        assert not debug
        self._do("compile")

    def _do(self, what: str, *more: str) -> None:
        self.act.get(what, lambda: None)()
        self.log.append(" ".join((what, *more)))

    def attach_kprobe(self, *, event: bytes, fn_name: bytes) -> None:
        self._do(event.decode(), "entry", fn_name.decode())

    def attach_kretprobe(self, *, event: bytes, fn_name: bytes) -> None:
        self._do(event.decode(), "return", fn_name.decode())

    def attach_raw_tracepoint(self, *, tp: bytes, fn_name: bytes) -> None:
        self._do(tp.decode(), "raw", fn_name.decode())

    def detach_kprobe(self, event: bytes) -> None:
        self._do("detach", event.decode())

    def cleanup(self) -> None:
        self._do("cleanup")


@pytest.fixture
def lib(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lib]:
    made = Lib()
    monkeypatch.setattr(Bcc, "act", {})
    for module in (bccload, bccprobes):
        monkeypatch.setattr(module, "can_kprobe", lambda _symbol: YES)
    yield made
    for fd in made.fds():
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.close(fd)


def loaded(  # noqa: PLR0913 - as the class
    lib: Lib,
    hook: Hook = Hook.PLAIN,
    facts: Facts | None = None,
    *,
    uring: bool = True,
    chosen: bccprobes.Chosen | None = None,
    contid: dict[str, int] | None = None,
) -> BccObject:
    known = facts or Facts({"BUFFER_SKB": 0, "OWN_MNT_INUM": 4026531841}, proved_later=False, notes=())
    return BccObject(
        cast("Any", lib),
        cast("Any", Bcc),
        ROOT / "bpf",
        known,
        hook,
        NONCE,
        128 << 10,
        chosen or bccprobes.none("not asked for"),
        uring=uring,
        verbose=True,
        contid=contid or {},
    )


def bcc_of(made: BccObject) -> Bcc:
    return cast("Bcc", made._module)


def refuse(words: str, printed: bytes = b"") -> Callable[[], None]:
    def act() -> None:
        os.write(2, printed)
        raise Exception(words)  # noqa: TRY002 - bcc's way

    return act


# -- which bcc ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [None, SimpleNamespace(), SimpleNamespace(BPF=object)])
def test_bcc_is_missing_or_another_package(module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcc", cast("Any", module))
    with pytest.raises(UsageError) as caught:
        bccload.compiler()
    assert "python3-bpfcc" in caught.value.hint
    assert not bccload.is_installed()


def test_bcc_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcc", cast("Any", SimpleNamespace(BPF=Bcc)))
    assert bccload.compiler() is cast("Any", Bcc)
    assert bccload.is_installed()


def test_a_package_has_every_source_as_it_is() -> None:
    bpf = ROOT / "bpf"
    every = [path for path in bpf.rglob("*.[ch]") if path.parent != bpf / "contid"]  # for libbpf alone
    ours = {path.relative_to(bpf): path.read_bytes() for path in every}
    copy = Path(bccload.__file__).parent / "source"
    shipped = {path.relative_to(copy): path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert shipped == ours, "run `make bpf`"


def test_sources_are_found_in_both_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert bccload.source_directory() == ROOT / "bpf"
    monkeypatch.setattr(bccload, "_CHECKOUT", tmp_path)
    assert bccload.source_directory() == Path(bccload.__file__).parent / "source"
    monkeypatch.setattr(bccload, "_PACKAGED", tmp_path)
    with pytest.raises(LoadFailed):
        bccload.source_directory()


# -- loading -----------------------------------------------------------------------------------------


def test_maps_are_those_of_the_object(lib: Lib) -> None:
    made = loaded(lib)
    ring, rings = lib.open["audit_ring"], lib.open["rings"][0]
    assert lib.made["audit_ring"] == (27, 0, 0, 64 << 10, 0, 0)
    assert lib.made["rings"] == (12, 4, 4, 2, 0, ring[0])
    assert lib.made["open_events"] == (1, 8, 160, 16384, 0, 0)
    assert lib.made["counters"] == (2, 4, wire.COUNTERS_SIZE, 2, 1 << 10, 0)
    assert lib.inner == dict(enumerate(ring))
    flags = bcc_of(made).cflags
    assert {
        f"-DRINGS_FD={rings}",
        f"-DCOUNTERS_FD={lib.open['counters'][0]}",
        f"-DNONCE_HIGH={int.from_bytes(NONCE[:8])}UL",
        f"-DNONCE_LOW={int.from_bytes(NONCE[8:])}UL",
        "-DOWN_MNT_INUM=4026531841UL",
        "-DBUFFER_SKB=0",
        f"-I{ROOT / 'bpf'}",
    } <= set(flags)
    assert b"int bcc_record_end(" in bcc_of(made).text
    made.close()


@pytest.mark.parametrize(
    ("hook", "program"),
    [
        (Hook.PLAIN, "bcc_record_end"),
        (Hook.PART, "bcc_record_end"),
        (Hook.QUEUE, "bcc_record_queued"),
    ],
)
def test_ends_before_the_record_hook(lib: Lib, hook: Hook, program: str) -> None:
    made = loaded(lib, hook)
    log = bcc_of(made).log
    assert log[1:] == [
        *(f"cgroup_{change} raw bcc_cgroup_{change}" for change in ("mkdir", "rmdir", "rename", "release")),
        "audit_log_exit return bcc_event_exit",
        "__audit_syscall_entry entry bcc_syscall_entry",
        "sched_process_exit raw bcc_task_exit",
        "__audit_uring_exit return bcc_uring_exit",
        "audit_log_lost entry bcc_record_lost",
        f"{hook.value} entry {program}",
    ]
    names = [line.split()[-1] for line in log[1:]]
    assert all(f"int {name}(" in (ROOT / "bpf/bcc/audit.c").read_text() for name in names)
    made.close()
    assert log[11:] == [f"detach {hook.value}", "cleanup"]
    made.close()
    assert log[11:] == [f"detach {hook.value}", "cleanup"]


# Everything that is known of a kernel with BTF and that a family asks for.
ALL_KNOWN = {**dict.fromkeys(bccfacts.CALL, 4), "MNT_USER_NS": 8}


def test_families_come_before_the_record_hook_and_after_the_ends(lib: Lib) -> None:
    made = loaded(lib, chosen=bccprobes.choose(ALL_KNOWN))
    log = bcc_of(made).log[1:]
    text = (ROOT / "bpf/bcc/audit.c").read_text()
    assert [line for line in log if f"int {line.split()[-1]}(" not in text] == []
    assert log[-1] == "audit_log_end entry bcc_record_end"
    assert log[:9][-1] == "audit_log_lost entry bcc_record_lost"
    beside = log[9:-1]
    assert beside.index("copy_net_ns entry bcc_net_copied_enter") + 1 == beside.index(
        "copy_net_ns return bcc_net_copied"
    )
    assert {
        "ksys_unshare entry bcc_unshare_enter",
        "ksys_unshare return bcc_unshare_leave",
        "task_newtask raw bcc_task_made",
        "sched_process_exec raw bcc_task_executed",
        "create_user_ns entry bcc_user_made_enter",
        "__ns_common_free entry bcc_ns_freed",
        "find_get_pid return bcc_pidfd_found",
        "__audit_ptrace entry bcc_task_traced",
        "audit_receive_msg entry bcc_message_received",
    } <= set(beside)
    assert "proc_free_inum entry bcc_inum_freed" not in beside
    tracepoints = [line.split()[0] for line in log if " raw " in line]
    assert len(tracepoints) == len(set(tracepoints)), "bcc attaches one program to each"
    macros = ("CHANGES", "LINKS", "LIVES", "TARGETS", "REFUSED")
    assert {f"-DWITH_{name}=1" for name in macros} <= set(bcc_of(made).cflags)
    assert {name for name, why in made.families.items() if why} == {"baseline", "packets"}
    made.close()


def test_without_btf_a_family_says_why_it_is_absent(lib: Lib) -> None:
    known = Facts({"BY_PROOF": 1}, proved_later=False, notes=())
    made = loaded(lib, facts=known, chosen=bccprobes.choose(known.macros))
    assert {name for name, why in made.families.items() if not why} == {"changes", "refused"}
    assert "no BTF" in made.families["lives"]
    assert "no BTF" in made.families["targets"]
    flags = {flag for flag in bcc_of(made).cflags if flag.startswith("-DWITH_")}
    assert flags == {"-DWITH_CHANGES=1", "-DWITH_REFUSED=1"}
    made.close()


def test_a_function_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"copy_time_ns", "audit_receive_msg", "__ns_common_free"}
    monkeypatch.setattr(bccprobes, "can_kprobe", lambda symbol: NO if symbol in missing else YES)
    chosen = bccprobes.choose(ALL_KNOWN)
    assert chosen.absent["refused"] == NO.reason
    assert chosen.absent["lives"] == ""
    names = {program.name for program in chosen.programs}
    assert not names & {"time_copied", "message_received", "ns_freed"}
    assert {"inum_freed", "uts_copied"} <= names


def test_the_stores_maps_are_handed_over(lib: Lib) -> None:
    made = loaded(lib, contid={"contid_tasks": 91, "contid_ids": 92, "contid_gone": 93})
    assert {"-DCONTID_ON=1", "-DCONTID_TASKS_FD=91", "-DCONTID_IDS_FD=92", "-DCONTID_GONE_FD=93"} <= set(
        bcc_of(made).cflags
    )
    made.close()
    made = loaded(lib)
    assert "-DCONTID_ON=0" in bcc_of(made).cflags
    made.close()


def test_records_are_had_where_the_rest_is_refused(lib: Lib, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel refuses one program beside the records: all of them are left out, with the identifiers."""
    known = Facts(ALL_KNOWN, proved_later=False, notes=())
    monkeypatch.setattr(bccload, "library", lambda: lib)
    monkeypatch.setattr(bccload, "compiler", lambda: Bcc)
    monkeypatch.setattr(bccload, "header_trees", list)
    monkeypatch.setattr(bccload, "facts", lambda _lib, _trees: known)
    Bcc.act["copy_net_ns"] = refuse("Failed to load BPF program bcc_net_copied_enter")
    contid = {"contid_tasks": 91, "contid_ids": 92, "contid_gone": 93}
    made = bccload.BccLoader(contid=contid).load(Hook.PLAIN, NONCE, 128 << 10)
    assert all("bcc_net_copied_enter" in why for why in made.families.values())
    flags = bcc_of(cast("BccObject", made)).cflags
    assert "-DCONTID_ON=0" in flags
    assert not [flag for flag in flags if flag.startswith("-DWITH_")]
    made.close()
    Bcc.act["audit_log_end"] = refuse("Failed to attach BPF program")
    with pytest.raises(LoadFailed, match="Failed to attach"):
        bccload.BccLoader().load(Hook.PLAIN, NONCE, 128 << 10)


def test_what_the_kernel_lacks_is_left_out(lib: Lib, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bccload, "can_kprobe", lambda _symbol: NO)
    made = loaded(lib, uring=False)
    assert not made.counts_lost
    assert not [line for line in bcc_of(made).log if "uring" in line or "lost" in line]
    made.close()


def test_rings_and_counters_are_read(lib: Lib) -> None:
    made = loaded(lib)
    ring = lib.open["audit_ring"][1]
    tally = struct.pack("=HHIQQIIIHHHH", 2, 1, 168, 9, 1700000000, 12, 34, 3, 1, 1, 1300, 3).ljust(168, b"\0")
    os.pwrite(ring, struct.pack("=II", len(tally), 0) + tally, 2 * PAGE)
    os.pwrite(ring, struct.pack("=Q", len(tally) + 8), PAGE)
    for cpu in range(2):
        os.pwrite(lib.open["counters"][0], struct.pack("=Q", 5 + cpu), cpu * wire.COUNTERS_SIZE)
    made.tap = []
    contexts, tallies = made.drain()
    assert contexts == []
    assert [(each.stamp, each.total) for each in tallies] == [(b"1700000000.012:34", 3)]
    assert made.tap == [tally]
    assert not made.parked
    assert made.wake_fds() == lib.open["audit_ring"]
    assert made.counters()["records"] == 11
    assert made.counters()["unknown_messages"] == 0
    assert made.missed() is None
    assert made.caveats() == []
    made.close()
    assert made.counters() == {}


@pytest.mark.parametrize(
    ("map_name", "code", "kind"),
    [
        ("cpus", -errno.EIO, LoadFailed),
        ("audit_ring", -errno.ENOMEM, LoadFailed),
        ("audit_ring", -errno.EPERM, MissingCapability),
        ("rings", -errno.EINVAL, LoadFailed),
        ("update", -errno.EINVAL, LoadFailed),
        ("counters", -errno.EPERM, MissingCapability),
    ],
)
def test_a_map_cannot_be_made(lib: Lib, map_name: str, code: int, kind: type[EnricherError]) -> None:
    lib.fails[map_name] = code
    with pytest.raises(kind, match=errno.errorcode[-code]):
        loaded(lib)


@pytest.mark.parametrize(
    ("step", "words", "printed", "kind"),
    [
        ("compile", "Failed to compile", b"main.c:3: error: no member named 'x'\n", LoadFailed),
        ("audit_log_exit", "Need super-user privileges to run", b"", MissingCapability),
        ("sched_process_exit", "Failed to attach", b"Operation not permitted\n", MissingCapability),
        ("audit_log_end", "Permission denied", b"R9 min value\nprocessed 7 insns\n", LoadFailed),
        ("audit_log_end", "Failed to attach BPF program", b"no such probe\n", LoadFailed),
    ],
)
def test_bcc_refuses(  # noqa: PLR0913 - the columns of the table
    lib: Lib,
    step: str,
    words: str,
    printed: bytes,
    kind: type[EnricherError],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Its words are in the error and not on standard error, and everything is undone."""
    Bcc.act[step] = refuse(words, printed)
    with pytest.raises(kind) as caught:
        loaded(lib)
    assert words in caught.value.message
    if kind is LoadFailed:
        assert printed.decode().strip() in caught.value.message
    os.write(2, b"still ours\n")
    assert capfd.readouterr().err == "still ours\n"


def test_works_with_standard_error_closed(lib: Lib, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptor 2 is somebody else's then, one of our maps' perhaps: it is left alone."""
    monkeypatch.setattr(sys, "__stderr__", None)
    monkeypatch.setattr("tempfile.TemporaryFile", refuse("not ours"))
    loaded(lib).close()


@pytest.mark.parametrize(
    ("hook", "learned", "missing"),
    [
        (Hook.PLAIN, (0, 1, 1, 1), []),
        (Hook.PLAIN, (0, 1, 0, 1), ["how many records"]),
        (Hook.PLAIN, (0, 1, 1, 0), ["mount namespaces are not known"]),
        (Hook.QUEUE, (9, 0, 0, 1), ["how many records"]),
    ],
)
def test_says_what_is_not_proved(
    lib: Lib, hook: Hook, learned: tuple[int, ...], missing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(bccload, "_write_listener_record", lambda: written.append("listener"))
    made = loaded(lib, hook, Facts({}, proved_later=True, notes=("no BTF",)))
    assert written == ["listener"]
    os.pwrite(lib.open["learned"][0], struct.pack("=4Q", *learned), 0)
    first, *others = made.caveats()
    assert first == "no BTF"
    assert len(others) == len(missing)
    assert all(line.startswith(words) for line, words in zip(others, missing, strict=True))
    made.close()


# -- self-test --------------------------------------------------------------------------------------


OWN = SimpleNamespace(pid=os.getpid(), record_type=1107)
OTHERS = SimpleNamespace(pid=1, record_type=1107)


@pytest.mark.parametrize(
    ("proof", "contexts", "wrong", "why"),
    [
        (Proof.PROVED, [OTHERS, OWN], [], ""),
        (Proof.PROVED, [OTHERS, OWN], ["ppid: 7 read, 8 is right"], "ppid: 7 read"),
        (Proof.SILENT, [], [], "rule drops USER_AVC"),
        (Proof.NOT_DELIVERED, [OTHERS], [], "rule drops USER_AVC"),
    ],
)
def test_self_test_of_what_was_compiled(  # noqa: PLR0913 - the columns of the table
    lib: Lib,
    proof: Proof,
    contexts: list[object],
    wrong: list[str],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bccproof, "differences", lambda context: wrong if context is OWN else ["another's"])
    made = loaded(lib)
    trial = Trial(proof, 5, [], cast("Any", contexts), [])
    said = loaders.unusable(made, trial)
    assert why in said
    assert bool(said) == bool(why)
    assert loaders.unusable(cast("Any", object()), trial) == ""
    made.close()


def test_bcc_reads_chains_as_long_as_the_sources_have() -> None:
    """The build by bcc has macros of its own for that, and takes place on hosts alone."""
    names = re.findall(r'#include "(\w+)\.bpf\.c"', (ROOT / "bpf" / "bcc" / "audit.c").read_text())
    shared = [ROOT / "bpf" / f"{name}.bpf.c" for name in names]
    text = "".join(path.read_text() for path in [*shared, *(ROOT / "bpf" / "include").glob("*.h")])
    longest = max(
        len(chain.split(",")) - before
        for name, before in (("FOLLOW", 2), ("BPF_CORE_READ", 1))
        for chain in re.findall(rf"\b{name}\(([^()]+)\)", text)
    )
    assert f"READ_MEMBER_{longest}(" in (ROOT / "bpf" / "bcc" / "kernel.h").read_text()
