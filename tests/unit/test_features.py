# SPDX-License-Identifier: Apache-2.0
"""What the kernel offers, with files of our own and a C library that answers as told."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from enricher.sources.bpf import features
from enricher.sources.bpf.features import (
    Answer,
    Found,
    KernelTypes,
    can_kprobe,
    has_btf,
    has_ftrace,
    try_kprobe,
)

PART = "audit_log_end.part.0"
KALLSYMS = (
    b"0000000000000000 T audit_log_end\n0000000000000000 t audit_log_end.part.0\n"
    b"0000000000000000 t nft_log_eval\t[nft_log]\n"
)


class Libc:
    """perf_event_open: gives the descriptor, or refuses with an errno; remembers what it was asked."""

    def __init__(self, refusal: int = 0) -> None:
        self.refusal = refusal
        self.asked: list[tuple[int, int, int, str]] = []  # pmu, size, flags, symbol
        self.arguments: tuple[object, ...] = ()
        self.fd = -1

    def syscall(
        self,
        number: ctypes.c_long,
        attr: ctypes.Array[ctypes.c_char],
        *target: int | ctypes.c_ulong,
    ) -> int:
        raw = bytes(attr)
        pmu, size = struct.unpack_from("=II", raw)
        name, offset = struct.unpack_from("=QQ", raw, 56)
        assert offset == 0
        symbol = ctypes.string_at(name).decode()
        self.asked.append((pmu, size, struct.unpack_from("=Q", raw, 40)[0], symbol))
        *rest, flags = target
        assert isinstance(flags, ctypes.c_ulong)
        self.arguments = (number.value, *rest, flags.value)
        if self.refusal:
            ctypes.set_errno(self.refusal)
            return -1
        self.fd = os.open(os.devnull, os.O_RDONLY)
        return self.fd


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A kernel with a kprobe PMU and a table of symbols, on x86_64."""
    monkeypatch.setattr(features, "KERNEL_BTF", tmp_path / "vmlinux")
    monkeypatch.setattr(features, "_KPROBE_PMU", tmp_path / "type")
    monkeypatch.setattr(features, "_KALLSYMS", tmp_path / "kallsyms")
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="x86_64"))
    (tmp_path / "type").write_text("6\n")
    (tmp_path / "kallsyms").write_bytes(KALLSYMS)
    return tmp_path


def with_libc(monkeypatch: pytest.MonkeyPatch, refusal: int = 0) -> Libc:
    libc = Libc(refusal)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: libc)
    return libc


# -- BTF ---------------------------------------------------------------------------------------------


def test_btf(system: Path) -> None:
    assert has_btf().no
    assert "CONFIG_DEBUG_INFO_BTF" in has_btf().reason
    (system / "vmlinux").write_bytes(b"")
    assert has_btf().yes


def test_btf_that_may_not_be_read_is_neither_yes_nor_no(system: Path) -> None:
    (system / "vmlinux").symlink_to("vmlinux")  # ELOOP, for root as well
    found = has_btf()
    assert (found.yes, found.no, found.answer) == (False, False, Answer.UNKNOWN)
    assert str(system / "vmlinux") in found.reason


class Btf:
    """libbpf's part in `KernelTypes`: knows names by their kind (12 function, 14 variable)."""

    def __init__(self, btf: int | None, *known: tuple[int, bytes]) -> None:
        self.btf = btf
        self.known = known
        self.freed: list[int] = []

    def btf__load_vmlinux_btf(self) -> int | None:
        return self.btf

    def btf__free(self, btf: int) -> None:
        self.freed.append(btf)

    def btf__find_by_name_kind(self, btf: int, name: bytes, kind: int) -> int:
        assert btf == self.btf
        return 17 if (kind, name) in self.known else -errno.ENOENT


def test_functions_and_variables_in_btf() -> None:
    lib = Btf(4711, (12, b"audit_log_end"), (14, b"pcpu_hot"))
    with KernelTypes(lib) as types:  # type: ignore[arg-type]
        assert types.has_function("audit_log_end").yes
        assert types.has_function("skb_queue_tail").no
        assert types.has_function("pcpu_hot").no
        assert types.has_variable("pcpu_hot").yes
        assert types.has_variable("audit_log_end").no
        assert lib.freed == []
    assert lib.freed == [4711]
    assert types.has_function("audit_log_end").answer is Answer.UNKNOWN


def test_without_btf_nothing_is_known() -> None:
    lib = Btf(None)
    with KernelTypes(lib) as types:  # type: ignore[arg-type]
        assert types.has_function("audit_log_end").answer is Answer.UNKNOWN
        assert types.has_variable("pcpu_hot").answer is Answer.UNKNOWN
    assert lib.freed == []


def test_tracepoints_in_btf() -> None:
    lib = Btf(4711, (8, b"btf_trace_sched_process_exit"), (12, b"sched_switch"))
    with KernelTypes(lib) as types:  # type: ignore[arg-type]
        assert types.has_tracepoint("sched_process_exit").yes
        assert types.has_tracepoint("sched_switch").no


# -- ftrace ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b"1\n", Answer.YES),
        (b"0\n", Answer.NO),
        (b"", Answer.UNKNOWN),
        (b"\xff\xfe", Answer.UNKNOWN),
        (None, Answer.UNKNOWN),
    ],
)
def test_ftrace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, answer: Answer
) -> None:
    monkeypatch.setattr(features, "_FTRACE_ENABLED", tmp_path / "ftrace_enabled")
    if content is not None:
        (tmp_path / "ftrace_enabled").write_bytes(content)
    assert has_ftrace().answer is answer


@pytest.mark.parametrize(
    ("content", "measures"), [(b"1\n", True), (b"0\n", False), (b"", False), (None, False)]
)
def test_whether_programs_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, *, measures: bool
) -> None:
    monkeypatch.setattr(features, "_STATS_ENABLED", tmp_path / "bpf_stats_enabled")
    if content is not None:
        (tmp_path / "bpf_stats_enabled").write_bytes(content)
    assert features.measures_programs() is measures


def test_ftrace_that_the_kernel_gave_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(Path, "read_text", refuse)
    assert has_ftrace().no
    assert "next boot" in has_ftrace().reason


# -- kprobes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 298), ("aarch64", 241)])
def test_an_accepted_kprobe_is_a_yes_and_leaves_nothing(
    system: Path, monkeypatch: pytest.MonkeyPatch, machine: str, number: int
) -> None:
    libc = with_libc(monkeypatch)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    (system / "kallsyms").unlink()
    assert can_kprobe(PART).yes
    pmu_disabled = (6, 112, 1, PART)
    assert libc.asked == [pmu_disabled]
    assert libc.arguments == (number, -1, 0, -1, 8)  # any process, CPU 0, no group, close on exec
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(libc.fd)


def test_no_such_symbol_is_a_no_whatever_kallsyms_has(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_libc(monkeypatch, errno.ENOENT)
    found = can_kprobe(PART)
    assert found == Found(Answer.NO, f"the kernel has no symbol {PART}")
    assert (system / "kallsyms").exists()


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.EACCES, errno.ENODEV])
def test_refused_for_another_reason_asks_kallsyms(
    system: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    libc = with_libc(monkeypatch, refusal)
    assert can_kprobe(PART).yes
    assert try_kprobe(PART) == Found(Answer.UNKNOWN, f"kprobe refused with {errno.errorcode[refusal]}")
    assert can_kprobe("audit_log").no  # the beginning of a name is not the name
    assert can_kprobe("nft_log_eval").yes  # of a module
    assert errno.errorcode[refusal] in can_kprobe(PART).reason
    assert len(libc.asked) == 5
    (system / "kallsyms").write_bytes(b"")
    assert can_kprobe(PART).answer is Answer.UNKNOWN
    (system / "kallsyms").unlink()
    assert can_kprobe(PART).answer is Answer.UNKNOWN


@pytest.mark.parametrize("content", [None, "", "six"])
def test_no_kprobe_pmu_asks_kallsyms(
    system: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    libc = with_libc(monkeypatch)
    (system / "type").unlink()
    if content is not None:
        (system / "type").write_text(content)
    assert can_kprobe(PART) == Found(Answer.YES, f"no kprobe PMU; {PART} is in {system / 'kallsyms'}")
    assert can_kprobe("no_such_function").no
    assert libc.asked == []


def test_a_machine_whose_numbers_are_not_known(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    libc = with_libc(monkeypatch)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="riscv64"))
    assert can_kprobe(PART).yes
    assert "unknown machine" in can_kprobe(PART).reason
    assert libc.asked == []
    assert system.exists()
