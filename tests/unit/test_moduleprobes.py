# SPDX-License-Identifier: Apache-2.0
"""Probes on modules' functions, with a list of probes and a libbpf of our own: nothing is probed."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Any, cast

import pytest

from enricher.sources.bpf import families, perfevent
from enricher.sources.bpf.features import Answer, Found
from enricher.sources.bpf.moduleprobes import GROUP, PROBES, ModuleProbes

PROGRAMS = {probe.program: number for number, probe in enumerate(PROBES, 1)}
FUNCTIONS = sum(len(probe.functions) for probe in PROBES)


class Kernel:
    """The kernel's list, and what is attached. `refuses` maps the end of a line or a name to an errno."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.refuses: dict[str, int] = {}
        self.events: dict[str, list[str]] = {}
        self.attached: dict[int, object] = {}
        self.detached: list[int] = []
        self.opened: dict[int, int] = {}
        self.fds: dict[int, int] = {}
        (root / "events").mkdir()
        (root / "kprobe_events").touch()

    def write(self, line: str) -> None:
        for end, code in self.refuses.items():
            if line.endswith(end):
                raise OSError(code, os.strerror(code))
        command, _, function = line.partition(" ")
        kind, _, name = command.partition(":")
        if kind == "-":
            if self.events.pop(name, None) is None:
                raise FileNotFoundError(errno.ENOENT, "there is none of that name")
            return
        self.events.setdefault(name, []).append(f"{kind} {function}")
        place = self.root / "events" / name
        place.mkdir(parents=True, exist_ok=True)
        (place / "id").write_text(f"{1000 + PROGRAMS[name.partition('/')[2]]}\n")

    def open_disabled(self, kind: int, identity: int) -> int:
        assert kind == 2  # PERF_TYPE_TRACEPOINT
        fd = os.open(os.devnull, os.O_RDONLY)
        self.opened[fd] = identity
        return fd

    # libbpf's

    def bpf_program__attach_perf_event(self, program: int, fd: int) -> int:
        if "attach" in self.refuses:
            ctypes.set_errno(self.refuses["attach"])
            return 0
        self.attached[program] = self.opened[fd]
        self.fds[program] = fd
        return program

    def bpf_program__attach_kprobe(self, program: int, at_exit: bool, symbol: bytes) -> int:  # noqa: FBT001
        if self.refuses.get(symbol.decode()):
            return 0
        self.attached[100 + len(self.attached)] = (program, at_exit, symbol)
        return 99 + len(self.attached)

    def bpf_link__destroy(self, link: int) -> None:
        self.detached.append(link)
        if link in self.fds:
            os.close(self.fds.pop(link))

    def take_log(self) -> str:
        return ""


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel(tmp_path)
    monkeypatch.setattr(ModuleProbes, "_write", lambda _, line: made.write(line))
    monkeypatch.setattr(perfevent, "open_disabled", made.open_disabled)
    return made


def probes(double: Kernel, *roots: Path) -> ModuleProbes:
    return ModuleProbes(cast("Any", double), roots or (double.root,))


def program(name: str) -> int:
    return PROGRAMS[name]


def test_every_function_has_its_entry_and_its_exit() -> None:
    entered = [function for probe in PROBES if not probe.exit for function in probe.functions]
    left = [function for probe in PROBES if probe.exit for function in probe.functions]
    assert sorted(entered) == sorted(left)
    assert len(set(entered)) == len(entered)
    assert {probe.program for probe in PROBES} <= families.all_programs()


class Types:
    """A kernel's BTF that has all but some names."""

    def __init__(self, *lacks: str) -> None:
        self._lacks = lacks

    def has_function(self, name: str) -> Found:
        return Found(Answer.NO if name in self._lacks else Answer.YES, f"about {name}")

    has_tracepoint = has_function


def test_a_kernel_with_netfilter_and_one_without() -> None:
    """These programs are loaded and not attached with the others."""
    chosen = families.choose(cast("Any", Types()))
    assert set(chosen.modules) == set(PROGRAMS)
    assert set(chosen.modules) & set(chosen.programs) == set()
    assert chosen.absent[families.PACKETS] == ""
    without = families.choose(cast("Any", Types("nf_hook_slow")))
    assert without.modules == ()
    assert without.absent[families.PACKETS].startswith("about nf_hook_slow")
    assert without.programs == chosen.programs


def test_modules_that_are_not_there_yet(double: Kernel) -> None:
    made = probes(double)
    made.attach(program)
    assert made.reason == ""
    assert sum(len(functions) for functions in double.events.values()) == FUNCTIONS
    assert double.events[f"{GROUP}/packet_by_expression"] == ["p nft_log:nft_log_eval"]
    assert double.events[f"{GROUP}/about_over"][0] == "r xt_AUDIT:audit_tg"
    assert double.attached == {number: 1000 + number for number in PROGRAMS.values()}
    made.close()
    made.close()
    assert double.events == {}
    assert sorted(double.detached) == sorted(PROGRAMS.values())


def test_what_is_there_already_is_used(double: Kernel) -> None:
    """Another of us runs: the kernel keeps what it uses. Or it was killed: then we are the last."""
    first, second = probes(double), probes(double)
    first.attach(program)
    before = dict(double.events)
    there = {function: errno.EEXIST for probe in PROBES for function in probe.functions}
    used = {probe.program: errno.EBUSY for probe in PROBES}
    double.refuses = there | used
    second.attach(program)
    assert (second.reason, len(double.attached)) == ("", len(PROBES))
    second.close()
    assert double.events == before
    double.refuses = there
    third = probes(double)
    third.attach(program)
    third.close()
    assert double.events == {}


def test_what_another_takes_away_meanwhile(double: Kernel) -> None:
    double.refuses = {function: errno.EEXIST for probe in PROBES for function in probe.functions}
    made = probes(double)
    made.attach(program)
    assert "about_over/id: No such file or directory" in made.reason
    made.close()


def test_a_function_that_a_loaded_module_does_not_have(double: Kernel) -> None:
    double.refuses = {"arp_tables:arpt_unregister_table": errno.ENOENT}
    made = probes(double)
    made.attach(program)
    assert made.reason == ""
    assert len(double.events[f"{GROUP}/table_gone"]) == 3
    made.close()


def test_where_the_list_cannot_be_written(double: Kernel) -> None:
    """What is loaded now can be had all the same, and it is said that this is all."""
    double.refuses = {
        function.partition(":")[2]: 1
        for probe in PROBES
        for function in probe.functions
        if "xt_" not in function
    }
    made = probes(double, double.root / "nowhere")
    made.attach(program)
    assert made.reason == (
        "only for modules that were loaded at the start (xt_AUDIT:audit_tg, xt_AUDIT:audit_tg_ebt):"
        f" {double.root}/nowhere/kprobe_events: No such file or directory"
    )
    assert len(double.attached) == 4
    made.close()
    assert len(double.detached) == 4


def test_a_list_that_refuses_leaves_nothing_half_made(double: Kernel) -> None:
    double.refuses = {"nft_log:nft_log_eval": errno.EINVAL} | {
        function.partition(":")[2]: 1 for probe in PROBES for function in probe.functions
    }
    made = probes(double)
    made.attach(program)
    assert made.reason.startswith("only for modules that were loaded at the start (none): ")
    assert (double.events, double.attached) == ({}, {})


def test_a_program_that_cannot_be_attached(double: Kernel) -> None:
    double.refuses = {"attach": errno.EACCES}
    made = probes(double)
    made.attach(program)
    assert "Permission denied" in made.reason
    assert double.events == {}
    made.close()
