# SPDX-License-Identifier: Apache-2.0
"""What the programs that bcc compiles have to be told about this kernel, as macros.

Owns where a private offset comes from: the kernel's BTF; without it, a candidate that the programs
use only once a record has proved it (``bpf/bcc/proof.h``). Public structures come from the kernel's
headers, of which this module knows where they are and which optional fields they have. Never compiles,
and never compares a version.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.errors import KernelUnsupported
from enricher.sources.bpf import features
from enricher.sources.bpf.layout import read_struct
from enricher.sources.bpf.libbpf import BTF_KIND_VAR, Libbpf

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULES: Final = Path("/lib/modules")
KALLSYMS: Final = Path("/proc/kallsyms")
_KHEADERS: Final = Path("/sys/kernel/kheaders.tar.xz")
_OWN_MNT: Final = Path("/proc/self/ns/mnt")

# Where the fields stand on every kernel whose source we have read, but for those with lists of records:
# candidates, each of which has to be proved.
_CANDIDATES: Final = {"BUFFER_SKB": 0, "BUFFER_CTX": 8, "MNT_NS": 0}
_BEHIND_COUNT: Final = 8
"""Where a mount namespace's number is before 5.11: its users were counted in front of what all namespaces have."""
_NS_COMMON: Final = ("linux/ns_common.h", "linux/ns/ns_common_types.h")

# What tells one call from another, by the names it has had: 5.16 and 6.18 moved two.
_OF_CONTEXT: Final = {
    "CONTEXT_DUMMY": ("dummy",),
    "CONTEXT_MAJOR": ("major",),
    "CONTEXT_ARGV": ("argv",),
    "CONTEXT_KIND": ("context", "in_syscall"),
    "CONTEXT_CTIME": ("stamp.ctime", "ctime"),
}
CALL: Final = frozenset(_OF_CONTEXT)
"""The macros without which a call's records and what else is told of it cannot be brought together."""

# A declaration in the headers that a kernel may or may not have. The compiler reads the same files: a
# field that we take for one and that is none ends in an error, never in a wrong number.
_OPTIONAL: Final = {
    # 5.12: set at creation; before it was an atomic64_t, made on first use.
    "HAVE_NET_COOKIE": (("net/net_namespace.h",), r"\bu64\s+net_cookie\s*;"),
    # 6.18: every namespace has an id that is never used again.
    "HAVE_NS_OPS": (
        _NS_COMMON,
        r"\bconst\s+struct\s+proc_ns_operations\s*\*ops\s*;",
    ),
    "HAVE_NS_ID": (_NS_COMMON, r"\bu64\s+ns_id\s*;"),
}


class Facts(NamedTuple):
    """``macros`` by name, ``proved_later`` where offsets rest on proof, ``notes`` for the operator."""

    macros: Mapping[str, int]
    proved_later: bool
    notes: tuple[str, ...]


def header_trees(modules: Path = MODULES, kheaders: Path = _KHEADERS) -> list[Path]:
    """The include directories of the running kernel's headers; [] where only bcc can unpack them.

    Raises KernelUnsupported where there are none.
    """
    release = os.uname().release
    trees = [modules / release / name / "include" for name in ("source", "build")]
    found = [tree for tree in trees if tree.is_dir()]
    if not found and not kheaders.exists():
        raise KernelUnsupported(
            f"the headers of the running kernel are not installed: {modules / release / 'build'} leads nowhere",
            f"install them: Debian and Ubuntu linux-headers-{release}, Fedora kernel-devel-{release}",
        )
    return found


def facts(lib: Libbpf, trees: list[Path]) -> Facts:
    """All that the programs need to know of the running kernel. Raises KernelUnsupported."""
    macros = {name: 1 for name, (files, field) in _OPTIONAL.items() if _declared(trees, files, field)}
    notes: list[str] = []
    btf = None if features.has_btf().no else lib.btf__load_vmlinux_btf()
    if btf:
        try:
            macros |= _from_btf(lib, btf)
        finally:
            lib.btf__free(btf)
        return Facts(macros, proved_later=False, notes=())
    macros |= _CANDIDATES
    if trees and not _declared(trees, _NS_COMMON, r"\brefcount_t\s+(__ns_ref|count)\s*;"):
        macros["MNT_NS"] = _BEHIND_COUNT
    macros |= {"BY_PROOF": 1, "OWN_MNT_INUM": _OWN_MNT.stat().st_ino}
    notes.append("no BTF: mount namespaces have no unique id")
    count = _preempt_count_by_symbol()
    macros |= count
    if not count and os.uname().machine == "x86_64":
        notes.append(
            "no BTF: records that an interrupt wrote are not told from the task's, where it is not the type"
        )
    return Facts(macros, proved_later=True, notes=tuple(notes))


def _declared(trees: list[Path], files: tuple[str, ...], field: str) -> bool:
    for tree in trees:
        for name in files:
            try:
                text = (tree / name).read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            if re.search(field, text):
                return True
    return False


def _from_btf(lib: Libbpf, btf: int) -> dict[str, int]:
    """Offsets of private fields, and the variable that holds the preempt count."""
    macros = {}
    buffer = _members(lib, btf, "audit_buffer")
    context = _members(lib, btf, "audit_context")
    mnt = _members(lib, btf, "mnt_namespace")
    try:
        macros["BUFFER_SKB"] = buffer["skb"]
        macros["BUFFER_CTX"] = buffer["ctx"]
        # 6.18, and Ubuntu's 5.19 to 6.8: in a struct audit_stamp.
        macros["CONTEXT_SERIAL"] = context["stamp.serial"] if "stamp.serial" in context else context["serial"]
        macros["MNT_NS"] = mnt["ns"]
    except KeyError as error:
        raise KernelUnsupported(
            f"the kernel's BTF has no field {error} where audit keeps it",
            "report this with the kernel's version",
        ) from error
    for macro, names in _OF_CONTEXT.items():
        found = [context[name] for name in names if name in context]
        if found:
            macros[macro] = found[0]
    if "user_ns" in mnt:
        macros["MNT_USER_NS"] = mnt["user_ns"]
    if "skb_list" in buffer:
        macros["BUFFER_LIST"] = buffer["skb_list"]
    if "seq" in mnt:
        macros["MNT_SEQ"] = mnt["seq"]
    for variable, structure, member in (
        ("__preempt_count", "", ""),
        ("pcpu_hot", "pcpu_hot", "preempt_count"),
    ):
        number = lib.btf__find_by_name_kind(btf, variable.encode(), BTF_KIND_VAR)
        if number > 0:
            offset = _members(lib, btf, structure).get(member) if structure else 0
            if offset is not None:
                macros |= {"PREEMPT_COUNT_ID": number, "PREEMPT_COUNT_OFFSET": offset}
                break
    return macros


def _members(lib: Libbpf, btf: int, name: str) -> dict[str, int]:
    """Byte offsets by dotted path; {} where BTF has no such struct."""
    found = read_struct(lib, btf, name)
    return {path: place[0] for path, place in found.members.items()} if found else {}


def _preempt_count_by_symbol() -> dict[str, int]:
    """x86_64's per-CPU variable by its name; {} where it is hidden from us or a member of a struct."""
    wanted = {b"__preempt_count": "PREEMPT_COUNT_ADDRESS", b"__per_cpu_offset": "PER_CPU_OFFSETS"}
    found: dict[str, int] = {}
    try:
        with KALLSYMS.open("rb") as lines:
            for line in lines:
                words = line.split()
                if len(words) == 3 and words[2] in wanted:  # noqa: PLR2004 - address, kind, name; a fourth is a module
                    found[wanted[words[2]]] = int(words[0], 16)
    except (OSError, ValueError):
        return {}
    # kptr_restrict prints zeros. The percpu variable's may be small, the array's may not.
    return found if len(found) == len(wanted) and all(found.values()) else {}
