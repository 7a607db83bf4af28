# SPDX-License-Identifier: Apache-2.0
"""Asks the running kernel what it offers. Three answers: yes, no, could not tell.

Owns the probes. Never compares a version: distributions backport, and a version says nothing about
what GCC inlined or split. Every probe leaves the kernel as it found it.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.sources.bpf import perfevent
from enricher.sources.bpf.libbpf import BTF_KIND_FUNC, BTF_KIND_TYPEDEF, BTF_KIND_VAR

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from enricher.sources.bpf.libbpf import Libbpf

KERNEL_BTF: Final = Path("/sys/kernel/btf/vmlinux")
_KPROBE_PMU: Final = Path("/sys/bus/event_source/devices/kprobe/type")
_KALLSYMS: Final = Path("/proc/kallsyms")
_FTRACE_ENABLED: Final = Path("/proc/sys/kernel/ftrace_enabled")
_STATS_ENABLED: Final = Path("/proc/sys/kernel/bpf_stats_enabled")


class Answer(enum.Enum):
    """What a probe found out."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "could not tell"


class Found(NamedTuple):
    """An answer with the reason for it, for reports."""

    answer: Answer
    reason: str

    @property
    def yes(self) -> bool:
        """True only for a definite yes."""
        return self.answer is Answer.YES

    @property
    def no(self) -> bool:
        """True only for a definite no."""
        return self.answer is Answer.NO


class KernelTypes:
    """The running kernel's BTF, for the life of a `with` block."""

    def __init__(self, lib: Libbpf) -> None:
        self._lib = lib
        self._btf: int | None = None

    def __enter__(self) -> Self:
        self._btf = self._lib.btf__load_vmlinux_btf()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._btf:
            self._lib.btf__free(self._btf)
            self._btf = None

    def has_function(self, name: str) -> Found:
        """Whether BTF describes function `name`, which fentry needs."""
        return self._has(name, BTF_KIND_FUNC)

    def has_variable(self, name: str) -> Found:
        """Whether BTF describes per-CPU variable `name`."""
        return self._has(name, BTF_KIND_VAR)

    def has_tracepoint(self, name: str) -> Found:
        """Whether BTF describes tracepoint `name`, which tp_btf needs."""
        return self._has(f"btf_trace_{name}", BTF_KIND_TYPEDEF)

    def _has(self, name: str, kind: int) -> Found:
        if not self._btf:
            return Found(Answer.UNKNOWN, "the kernel's BTF cannot be read")
        if self._lib.btf__find_by_name_kind(self._btf, name.encode(), kind) > 0:
            return Found(Answer.YES, f"{name} is in the kernel's BTF")
        return Found(Answer.NO, f"{name} is not in the kernel's BTF")


def has_btf() -> Found:
    """Whether the kernel carries its own BTF."""
    try:
        with KERNEL_BTF.open("rb"):
            return Found(Answer.YES, f"{KERNEL_BTF} is readable")
    except FileNotFoundError:
        return Found(Answer.NO, f"{KERNEL_BTF} does not exist (CONFIG_DEBUG_INFO_BTF is off)")
    except OSError as error:
        return Found(Answer.UNKNOWN, f"{KERNEL_BTF}: {error.strerror}")


def has_ftrace() -> Found:
    """Whether programs at the entry and exit of functions are called.

    With the sysctl at 0 they can be attached and are never called; and when they, or a kprobe, are detached,
    the kernel switches ftrace off until the next boot (seen on 6.12 and 7.2). So it is asked before.
    """
    try:
        text = _FTRACE_ENABLED.read_text(encoding="ascii").strip()
    except OSError as error:
        if error.errno == errno.ENODEV:
            return Found(Answer.NO, "the kernel has switched ftrace off after an error, until the next boot")
        return Found(Answer.UNKNOWN, f"{_FTRACE_ENABLED}: {error.strerror}")
    except ValueError:
        return Found(Answer.UNKNOWN, f"{_FTRACE_ENABLED} holds no number")
    if text == "0":
        return Found(Answer.NO, "kernel.ftrace_enabled is 0: programs at functions would not be called")
    if text == "1":
        return Found(Answer.YES, "kernel.ftrace_enabled is 1")
    return Found(Answer.UNKNOWN, f"{_FTRACE_ENABLED} holds {text[:40]!r}")


def measures_programs() -> bool:
    """Whether the kernel measures now how long programs run: since 5.1, off by default, costs each run."""
    try:
        return _STATS_ENABLED.read_bytes().strip() not in {b"", b"0"}
    except OSError:
        return False


def can_kprobe(symbol: str) -> Found:
    """Whether a kprobe can be set on `symbol`, by whoever is privileged enough.

    The 100 000 lines of /proc/kallsyms are read only where `try_kprobe` does not tell.
    """
    tried = try_kprobe(symbol)
    return _in_kallsyms(symbol, tried.reason) if tried.answer is Answer.UNKNOWN else tried


def try_kprobe(symbol: str) -> Found:
    """Whether we may set a kprobe on `symbol`, asked by making one that is never enabled.

    The kernel resolves the name itself, so kptr_restrict does not matter. A refusal for another reason
    than the name is "could not tell", with the error.
    """
    try:
        pmu = int(_KPROBE_PMU.read_text())
    except (OSError, ValueError):
        return Found(Answer.UNKNOWN, "no kprobe PMU")
    if not perfevent.is_known():
        return Found(Answer.UNKNOWN, "unknown machine")
    name = ctypes.create_string_buffer(symbol.encode())
    try:
        os.close(perfevent.open_disabled(pmu, 0, ctypes.addressof(name)))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return Found(Answer.NO, f"the kernel has no symbol {symbol}")
        code = error.errno or 0
        return Found(Answer.UNKNOWN, f"kprobe refused with {errno.errorcode.get(code, code)}")
    return Found(Answer.YES, f"a kprobe on {symbol} was accepted")


def _in_kallsyms(symbol: str, why: str) -> Found:
    try:
        names = _KALLSYMS.read_bytes()
    except OSError as error:
        return Found(Answer.UNKNOWN, f"{why}; {_KALLSYMS}: {error.strerror}")
    if not names:
        return Found(Answer.UNKNOWN, f"{why}; {_KALLSYMS} is empty")
    present = f" {symbol}\n".encode() in names or f" {symbol}\t".encode() in names
    answer = Answer.YES if present else Answer.NO
    return Found(answer, f"{why}; {symbol} is {'' if present else 'not '}in {_KALLSYMS}")
