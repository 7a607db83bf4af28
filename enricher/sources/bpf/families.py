# SPDX-License-Identifier: Apache-2.0
"""The programs beside those that records rest on: what each needs of the kernel, and what is missing without it.

Owns the table. Never loads: `loader` asks which of them this kernel can have. Without a family its facts are
absent from events, and marked so; the records and their contexts are not touched by it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.sources.bpf import moduleprobes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from enricher.sources.bpf.features import Found, KernelTypes

PACKETS: Final = "packets"
BASELINE: Final = "baseline"
_ITERATOR: Final = "bpf_iter_task"  # declares what a program is given that is called for every task
_NETFILTER: Final = "nf_hook_slow"  # without it the kernel was built without netfilter
_SETNS: Final = {"x86_64": ("__x64_sys_setns", "__ia32_sys_setns"), "aarch64": ("__arm64_sys_setns", "")}


_INSTEAD: Final = {"ns_freed": "inum_freed"}
"""Programs that are taken instead of another where both can be had: they tell the same, and more."""


class Program(NamedTuple):
    """One program of the object. ``function`` is what it is attached to, or a tracepoint; "" where there is none."""

    name: str
    function: str
    tracepoint: bool = False
    required: bool = True
    """Whether its family is worth nothing without it."""
    attached: bool = True
    """Whether it is attached to that function; `moduleprobes` or `baseline` attach the others, and here is what they
    need."""


class Family(NamedTuple):
    """Programs that stand and fall together. ``facts`` says in words what nobody knows without them."""

    name: str
    facts: str
    programs: tuple[Program, ...]
    needs: str = ""
    """Another family, named before it, without which this one is worth nothing."""


def families(machine: str = "") -> tuple[Family, ...]:
    """All families, for this machine or the one named."""
    setns, setns32 = _SETNS.get(machine or os.uname().machine, ("", ""))
    pairs = (("setns", setns, True), ("setns32", setns32, False), ("exec", "exec_task_namespaces", False))
    calls = [
        Program(f"{name}_{end}", function, required=required)
        for name, function, required in (("unshare", "ksys_unshare", True), *pairs)
        for end in ("enter", "leave")
    ]
    made = [
        Program(name, function)
        for name, function in (
            ("uts_copied", "copy_utsname"),
            ("ipc_copied", "copy_ipcs"),
            ("mnt_copied", "copy_mnt_ns"),
            ("net_copied", "copy_net_ns"),
            ("pid_copied", "copy_pid_ns"),
            ("user_made", "create_user_ns"),
            ("cgroup_copied", "copy_cgroup_ns"),
        )
    ]
    return (
        Family(
            "changes",
            "which namespaces a task left and entered",
            (*calls, Program("task_made", "task_newtask", tracepoint=True)),
        ),
        Family(
            "lives",
            "when a namespace was made and when it was freed, and whose it is",
            (
                Program("inum_freed", "proc_free_inum"),
                Program("ns_freed", "__ns_common_free", required=False),
                *made,
                Program("time_copied", "copy_time_ns", required=False),
                Program("task_executed", "sched_process_exec", tracepoint=True),
            ),
        ),
        Family(
            BASELINE,
            "which namespaces there were at the start, and whose those are",
            (Program("task_found", _ITERATOR, attached=False),),
            needs="lives",
        ),
        Family(
            "targets",
            "the namespaces and the container of whom a signal, a trace or a pidfd is aimed at",
            (
                Program("signal_sent", "audit_signal_info_syscall"),
                Program("task_traced", "__audit_ptrace"),
                Program("pidfd_found", "find_get_pid", required=False),
                Program("pidfd_made", "pidfd_prepare", required=False),
                Program("pidfd_robbed", "pidfd_getfd", required=False),
                Program("pidfd_used", "pidfd_get_pid", required=False),
            ),
        ),
        Family(
            PACKETS,
            "the net namespace of a packet that a rule had recorded",
            tuple(Program(probe.program, _NETFILTER, attached=False) for probe in moduleprobes.PROBES),
        ),
        Family(
            "refused",
            "messages to audit that the kernel refused, since their sender is in a user namespace",
            (Program("message_received", "audit_receive_msg"),),
        ),
    )


LIVES: Final = tuple(
    program.name
    for family in families()
    if family.name == "lives"
    for program in family.programs
    if not program.tracepoint
)
"""The programs without which a namespace's beginning or end is not seen."""


class Chosen(NamedTuple):
    """What of the families this kernel can have, and by family why it is absent or "".

    ``programs`` are to be attached, ``modules`` are for `moduleprobes` to attach, ``baseline`` for `baseline`; "" for
    none.
    """

    programs: list[str]
    absent: dict[str, str]
    modules: tuple[str, ...] = ()
    baseline: str = ""


def choose(types: KernelTypes) -> Chosen:
    """Ask the kernel's BTF."""
    return choose_of(lambda program: _offered(types, program))


def choose_of(offered: Callable[[Program], Found | None], never: Mapping[str, str] | None = None) -> Chosen:
    """Ask `offered` for each program; None: not on this machine. `never` says by family why it cannot be had anyway.

    An optional program whose function is not there is left out in silence.
    """
    programs: list[str] = []
    modules: list[str] = []
    baseline = ""
    absent: dict[str, str] = {}
    for family in families():
        wanted: list[Program] = []
        lacking: list[str] = [absent[family.needs]] if absent.get(family.needs) else []
        if never and family.name in never:
            absent[family.name] = never[family.name]
            continue
        for program in family.programs:
            found = offered(program)
            if found is not None and found.yes:
                wanted.append(program)
            elif program.required:
                lacking.append(found.reason if found is not None else f"{program.name}: not on this machine")
        replaced = {_INSTEAD[program.name] for program in wanted if program.name in _INSTEAD}
        wanted = [program for program in wanted if program.name not in replaced]
        absent[family.name] = "; ".join(lacking)
        if not lacking and family.name == BASELINE:
            baseline = wanted[0].name
        elif not lacking:
            programs += [program.name for program in wanted if program.attached]
            modules += [program.name for program in wanted if not program.attached]
    return Chosen(programs, absent, tuple(modules), baseline)


def _offered(types: KernelTypes, program: Program) -> Found | None:
    if not program.function:
        return None
    return (
        types.has_tracepoint(program.function) if program.tracepoint else types.has_function(program.function)
    )


def all_programs() -> set[str]:
    """The names of all programs of all families."""
    return {program.name for family in families() for program in family.programs}
