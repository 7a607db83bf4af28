# SPDX-License-Identifier: Apache-2.0
"""A made-up host for the tests of `doctor`: it has everything, until a test takes something away.

Owns the double and the acts that change one thing on it. Never says what a row should then be.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from enricher.errors import EnricherError, MissingCapability
from enricher.runtime import doctor, startup
from enricher.runtime.doctor import kernel, process
from enricher.runtime.doctor.rows import Host, Row, State
from enricher.runtime.selftest import Proof, Trial
from enricher.sources.audit.control import AuditStatus
from enricher.sources.audit.rules import Condition, Rule
from enricher.sources.bpf import bccfacts, bccload, features
from enricher.sources.bpf.features import Answer, Found
from enricher.sources.bpf.hook import Candidate, Hook
from tests.unit.fake_host import Host as Programs
from tests.unit.fake_host import started

OK, WARN, FAIL, UNKNOWN = State.OK, State.WARN, State.FAIL, State.UNKNOWN
STATUS = AuditStatus(1, 1, 812, 0, 8192, 3, 0, 127, 15000, 0)
STATUS = STATUS._replace(lost=0, backlog=3)
EXIT, ALWAYS, NEVER = 4, 2, 0
RULE = Rule(EXIT, ALWAYS, (Condition(11, 0x40000000, 1),), every_syscall=False)
ALL_CAPABILITIES = (1 << 41) - 1
LIMITS = "Limit  Soft Limit  Hard Limit  Units\nMax locked memory  8388608  8388608  bytes\n"
NETLINK = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
KERNEL = ("audit_log_end", "skb_queue_tail", "audit_log_exit", "__audit_uring_exit")
MORE = ("audit_log_lost", "bpf_ktime_get_coarse_ns")

FILES = {
    "proc/sys/kernel/osrelease": "9.9.9-made-up\n",
    "proc/sys/kernel/version": "#1 SMP PREEMPT_DYNAMIC Thu Jan 1\n",
    "proc/sys/kernel/perf_event_paranoid": "2\n",
    "proc/sys/kernel/kptr_restrict": "2\n",
    "proc/sys/kernel/unprivileged_bpf_disabled": "2\n",
    "proc/sys/net/core/bpf_jit_enable": "1\n",
    "proc/sys/net/core/rmem_max": "212992\n",
    "proc/cmdline": "root=/dev/vda1 audit=1\n",
    "proc/self/cgroup": "0::/user.slice\n",
    "proc/self/limits": LIMITS,
    "proc/self/status": f"Name:\tx\nCapEff:\t{ALL_CAPABILITIES:016x}\nNSpid:\t812\n",
    "proc/self/uid_map": "         0          0 4294967295\n",
    "proc/2/stat": "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0",
    "proc/812/comm": "auditd\n",
    "proc/net/netlink": NETLINK,
    "sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
    "sys/kernel/security/lsm": "capability,lockdown,apparmor",
    "sys/kernel/tracing/enabled_functions": "",
    "sys/kernel/debug/kprobes/enabled": "1\n",
    "sys/kernel/debug/kprobes/list": "",
}


class Bench:
    """A host that has everything, until a test takes something away."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.status: AuditStatus | EnricherError = STATUS
        self.rules: list[Rule | None] | EnricherError = [RULE]
        self.known = {*KERNEL, *MORE}
        self.types_known = True
        self.btf = Found(Answer.YES, "BTF is readable")
        self.part = Found(Answer.NO, "no symbol part")
        self.kprobe = Found(Answer.YES, "a kprobe was accepted")
        self.ftrace = Found(Answer.YES, "ftrace is on")
        self.bcc = False
        self.headers: list[Path] | EnricherError = [Path("headers/include")]
        self.caveats: list[str] = []  # of what bcc loaded
        self.version: bytes | EnricherError = b"v1.1"
        self.object: Path | EnricherError = Path("x86_64.bpf.o")
        self.programs = Programs()
        self.trial = Trial(Proof.PROVED, 100, [], [], [])
        self.candidate = Candidate(Hook.PLAIN, "told to")
        self.refusal: BaseException | None = None
        self.closed = 0
        self.daemon = False  # what the configuration says
        for name, text in FILES.items():
            self.write(name, text)
        for kind in ("user", "pid", "net"):
            for who in ("1", "self"):
                (root / "proc" / who / "ns").mkdir(parents=True, exist_ok=True)
            (root / "proc/1/ns" / kind).touch()
            (root / "proc/self/ns" / kind).hardlink_to(root / "proc/1/ns" / kind)
        for module in (kernel, process):
            monkeypatch.setattr(module, "KernelTypes", lambda _lib: self)
            monkeypatch.setattr(module, "library", self._library)
        monkeypatch.setattr(kernel, "object_path", lambda: _or_raise(self.object))
        monkeypatch.setattr(features, "has_btf", lambda: self.btf)
        monkeypatch.setattr(features, "can_kprobe", self._can_kprobe)
        monkeypatch.setattr(features, "try_kprobe", lambda _name: self.kprobe)
        monkeypatch.setattr(features, "has_ftrace", lambda: self.ftrace)
        monkeypatch.setattr(bccload, "is_installed", lambda: self.bcc)
        monkeypatch.setattr(bccfacts, "header_trees", lambda: _or_raise(self.headers))
        monkeypatch.setattr(doctor, "caveats", lambda _loaded: self.caveats)
        monkeypatch.setattr(startup, "start", self._start)

    def write(self, name: str, text: str | bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)

    def remove(self, name: str) -> None:
        (self.root / name).unlink()

    def hold(self, *numbers: int) -> None:
        mask = sum(1 << number for number in numbers)
        self.write("proc/self/status", f"CapEff:\t{mask:x}\nNSpid:\t812\n")

    def drop(self, *numbers: int) -> None:
        self.hold(*(set(range(41)) - set(numbers)))

    def leave(self, kind: str) -> None:
        self.remove(f"proc/self/ns/{kind}")
        self.write(f"proc/self/ns/{kind}", "")

    def split(self) -> None:
        """GCC split audit_log_end: the hook is a kprobe."""
        self.part = Found(Answer.YES, "part is there")

    def _can_kprobe(self, name: str) -> Found:
        if name == Hook.PART.value:
            return self.part
        return Found(Answer.YES if name in self.known else Answer.NO, f"tried {name}")

    def _library(self) -> SimpleNamespace:
        if isinstance(self.version, EnricherError):
            raise self.version
        return SimpleNamespace(libbpf_version_string=lambda: _or_raise(self.version))

    # -- KernelTypes ---------------------------------------------------------------------------------

    def __enter__(self) -> Bench:  # noqa: PYI034 - a double
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def has_function(self, name: str) -> Found:
        if not self.types_known:
            return Found(Answer.UNKNOWN, "the kernel's BTF cannot be read")
        return Found(Answer.YES if name in self.known else Answer.NO, f"asked for {name}")

    def has_tracepoint(self, name: str) -> Found:
        assert name == "sched_process_exit"
        return self.has_function("audit_log_exit")

    # -- the start-up, and the questions -------------------------------------------------------------

    def _start(self, note: Callable[[str], None]) -> startup.Started:
        if self.refusal:
            raise self.refusal
        note("hook audit_log_end: tried in vain")
        note("audit is off")
        if self.trial.proof is Proof.SILENT:
            note("the self-test's record came back on neither side")
        return started(self.programs, self.trial)._replace(candidate=self.candidate)

    def examined(self, *, load: bool = True) -> dict[str, Row]:
        control = lambda: cast("Any", _Control(self))  # noqa: E731 - a double's maker
        host = Host(self.root / "proc", self.root / "sys", control, daemon=self.daemon)
        return {row.name: row for row in doctor.run(host, load=load)}

    def row(self, name: str) -> Row:
        return self.examined()[name]


class _Control:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def status(self) -> AuditStatus:
        return cast("AuditStatus", _or_raise(self._bench.status))

    def rules(self) -> list[Rule | None]:
        return cast("list[Rule | None]", _or_raise(self._bench.rules))

    def close(self) -> None:
        self._bench.closed += 1


def _or_raise(value: object) -> object:
    if isinstance(value, Exception):
        raise value
    return value


Act = Callable[[Bench], object]


def writes(name: str, text: str | bytes) -> Act:
    return lambda bench: bench.write(name, text)


def removes(name: str) -> Act:
    return lambda bench: bench.remove(name)


def sets(**values: object) -> Act:
    return lambda bench: vars(bench).update(values)


def both(*acts: Act) -> Act:
    return lambda bench: [act(bench) for act in acts]


def with_status(**values: int | None) -> Act:
    return sets(status=STATUS._replace(**cast("Any", values)))


def with_rules(*rules: Rule | None) -> Act:
    return sets(rules=list(rules))


def split(bench: Bench) -> None:
    bench.split()


def without(*names: str) -> Act:
    return lambda bench: bench.known.difference_update(names)


def dropped(*numbers: int) -> Act:
    return lambda bench: bench.drop(*numbers)


def rule(which: int, action: int, *conditions: tuple[int, int], every: bool = False) -> Rule:
    return Rule(which, action, tuple(Condition(f, 0x40000000, v) for f, v in conditions), every)


NO_CONTROL = MissingCapability("CAP_AUDIT_CONTROL is missing", "run as root")
NO_BTF = Found(Answer.NO, "no file")
REFUSED = Found(Answer.UNKNOWN, "kprobe refused with EACCES")
