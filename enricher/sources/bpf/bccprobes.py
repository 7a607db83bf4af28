# SPDX-License-Identifier: Apache-2.0
"""The programs beside the record hook as bcc attaches them: kprobes and return probes in place of fentry and fexit.

Owns which family can be had with bcc, and how each of its programs is attached. The functions are those of `families`.
Never attaches. The names of the programs in ``bpf/bcc/audit.c`` are those of the CO-RE object with ``bcc_`` before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.sources.bpf import bccfacts, families
from enricher.sources.bpf.features import Answer, Found, can_kprobe

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Protocol

    class _Attacher(Protocol):
        """What of bcc's BPF class attaches."""

        def attach_kprobe(self, *, event: bytes, fn_name: bytes) -> object: ...
        def attach_kretprobe(self, *, event: bytes, fn_name: bytes) -> object: ...
        def attach_raw_tracepoint(self, *, tp: bytes, fn_name: bytes) -> object: ...


# Programs that look at what a call returns; the others look at its entry.
_RETURNS: Final = frozenset({"pidfd_found", "pidfd_used"})
_ENTERED: Final = ("_copied", "user_made")
"""Returns that need an argument of the call as well: a probe at the entry keeps it, ``bcc_NAME_enter``."""
_LEAVING: Final = "_leave"
_NO_ITERATOR: Final = "an iterator needs BTF and libbpf: bcc loads none"
_NO_PACKETS: Final = "bcc has no way to attach a program to a module that is loaded later"
# These stand in no header, and BTF tells them.
_NO_OWNER: Final = "no BTF: where a mount namespace has its owner is not known"
_NO_CALLS: Final = "no BTF: by what audit tells one call from another is not known"
_MACROS: Final = {
    "changes": "WITH_CHANGES",
    "lives": "WITH_LIVES",
    "targets": "WITH_TARGETS",
    "refused": "WITH_REFUSED",
}


class Chosen(NamedTuple):
    """``programs`` to attach in this order, why the other families are absent, and ``macros`` for the compiler."""

    programs: tuple[families.Program, ...]
    absent: dict[str, str]
    macros: dict[str, int]


def choose(known: Collection[str]) -> Chosen:
    """Ask the kernel for the functions. `known` are the macros of what is known of it (`bccfacts`)."""
    calls = bccfacts.CALL.issubset(known)

    def offered(program: families.Program) -> Found | None:
        if not program.function:
            return None
        # Whether it has the tracepoint is seen when it is attached: to ask takes BTF or tracefs.
        return Found(Answer.YES, "") if program.tracepoint else can_kprobe(program.function)

    never = {families.BASELINE: _NO_ITERATOR, families.PACKETS: _NO_PACKETS}
    if not calls:
        never["targets"] = _NO_CALLS
    if "MNT_USER_NS" not in known:
        never["lives"] = _NO_OWNER
    chosen = families.choose_of(offered, never)
    programs = [program for each in families.families() for program in each.programs]
    macros = {macro: 1 for name, macro in _MACROS.items() if not chosen.absent[name]}
    if "WITH_CHANGES" in macros and calls:
        macros["WITH_LINKS"] = 1
    return Chosen(tuple(p for p in programs if p.name in chosen.programs), chosen.absent, macros)


def none(why: str) -> Chosen:
    """No family, for this reason."""
    return Chosen((), {family.name: why for family in families.families()}, {})


def attach(module: _Attacher, programs: tuple[families.Program, ...]) -> None:
    """Attach them. An entry comes before its return: what was under way then is not taken for one that was missed."""
    for program in programs:
        function, name = program.function.encode(), f"bcc_{program.name}".encode()
        if program.tracepoint:
            module.attach_raw_tracepoint(tp=function, fn_name=name)
        elif program.name.endswith(_ENTERED):
            module.attach_kprobe(event=function, fn_name=name + b"_enter")
            module.attach_kretprobe(event=function, fn_name=name)
        elif program.name in _RETURNS or program.name.endswith(_LEAVING):
            module.attach_kretprobe(event=function, fn_name=name)
        else:
            module.attach_kprobe(event=function, fn_name=name)
    # bcc attaches one program to a tracepoint and no second: where there is `task_made`, that one looks as well.
    names = {program.name for program in programs}
    if any(name.endswith(_ENTERED) for name in names) and "task_made" not in names:
        module.attach_raw_tracepoint(tp=b"task_newtask", fn_name=b"bcc_task_cloned")
