# SPDX-License-Identifier: Apache-2.0
"""What the bcc loader knows of a kernel and where from, how it is proved right, and when it is chosen."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from enricher.errors import KernelUnsupported, UsageError
from enricher.model import KINDS, Context, ContextFlag, Level
from enricher.runtime import loaders, startup
from enricher.sources.bpf import bccfacts, bccload, bccproof, features
from enricher.sources.bpf.bccfacts import Facts
from enricher.sources.bpf.bccload import BccLoader
from enricher.sources.bpf.features import Answer, Found
from enricher.sources.bpf.hook import Hook
from enricher.sources.bpf.layout import StructLayout
from enricher.sources.bpf.loader import LibbpfLoader

YES, NO = Found(Answer.YES, "it is there"), Found(Answer.NO, "it is not there")


class Lib:
    """libbpf's access to the kernel's BTF; what is in its structs is `with_types`'s."""

    def __init__(self) -> None:
        self.freed: list[int] = []
        self.variables: dict[bytes, int] = {}

    def btf__load_vmlinux_btf(self) -> int:
        return 77

    def btf__free(self, btf: int) -> None:
        self.freed.append(btf)

    def btf__find_by_name_kind(self, _btf: int, name: bytes, _kind: int) -> int:
        return self.variables.get(name, -errno.ENOENT)


# -- facts -------------------------------------------------------------------------------------------

OLD = {
    "audit_buffer": {"skb": 0, "ctx": 8},
    "audit_context": {"serial": 16},
    "mnt_namespace": {"ns": 0, "seq": 72},
}
NEW = {
    "audit_buffer": {"skb": 0, "skb_list": 8, "ctx": 32},
    "audit_context": {"stamp": 16, "stamp.serial": 32},
    "mnt_namespace": {"ns": 0},
    "pcpu_hot": {"preempt_count": 8},
}


def with_types(monkeypatch: pytest.MonkeyPatch, types: dict[str, dict[str, int]] | None) -> None:
    monkeypatch.setattr(features, "has_btf", lambda: YES if types else NO)

    def read(_lib: object, _btf: int, name: str) -> StructLayout | None:
        found = (types or {}).get(name)
        return StructLayout(0, {path: (at, 8) for path, at in found.items()}) if found else None

    monkeypatch.setattr(bccfacts, "read_struct", read)


@pytest.mark.parametrize(
    ("types", "variables", "macros"),
    [
        (
            OLD,
            {b"__preempt_count": 41},
            {"BUFFER_SKB": 0, "BUFFER_CTX": 8, "CONTEXT_SERIAL": 16, "MNT_NS": 0, "MNT_SEQ": 72}
            | {"PREEMPT_COUNT_ID": 41, "PREEMPT_COUNT_OFFSET": 0},
        ),
        (
            NEW,
            {b"pcpu_hot": 42},
            {"BUFFER_SKB": 0, "BUFFER_CTX": 32, "BUFFER_LIST": 8, "CONTEXT_SERIAL": 32, "MNT_NS": 0}
            | {"PREEMPT_COUNT_ID": 42, "PREEMPT_COUNT_OFFSET": 8},
        ),
        (OLD, {}, {"BUFFER_SKB": 0, "BUFFER_CTX": 8, "CONTEXT_SERIAL": 16, "MNT_NS": 0, "MNT_SEQ": 72}),
    ],
)
def test_private_offsets_from_btf(
    types: dict[str, dict[str, int]],
    variables: dict[bytes, int],
    macros: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_types(monkeypatch, types)
    lib = Lib()
    lib.variables = variables
    assert bccfacts.facts(cast("Any", lib), []) == Facts(macros, proved_later=False, notes=())
    assert lib.freed == [77]


def test_a_private_field_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    with_types(monkeypatch, OLD | {"audit_buffer": {"skb": 0}})
    lib = Lib()
    with pytest.raises(KernelUnsupported, match="ctx"):
        bccfacts.facts(cast("Any", lib), [])
    assert lib.freed == [77]


@pytest.mark.parametrize(
    ("symbols", "known"),
    [
        (
            "000000000001a1f8 A __preempt_count\nffffffff82000000 R __per_cpu_offset\n",
            {"PREEMPT_COUNT_ADDRESS": 0x1A1F8, "PER_CPU_OFFSETS": 0xFFFFFFFF82000000},
        ),
        ("0000000000000000 A __preempt_count\n0000000000000000 R __per_cpu_offset\n", {}),
        ("ffffffff82000000 R __per_cpu_offset\n000000000001a1f8 A __preempt_count\t[other]\n", {}),
        ("nonsense A __preempt_count\n", {}),
        (None, {}),
    ],
)
def test_without_btf_nothing_is_believed(
    symbols: str | None, known: dict[str, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_types(monkeypatch, None)
    monkeypatch.setattr(bccfacts, "KALLSYMS", tmp_path / "kallsyms")
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="x86_64", release="6.1"))
    if symbols is not None:
        (tmp_path / "kallsyms").write_text(symbols)
    found = bccfacts.facts(cast("Any", Lib()), [])
    own = Path("/proc/self/ns/mnt").stat().st_ino
    candidates = {"BUFFER_SKB": 0, "BUFFER_CTX": 8, "MNT_NS": 0, "BY_PROOF": 1, "OWN_MNT_INUM": own}
    assert found.macros == candidates | known
    assert found.proved_later
    assert len(found.notes) == (1 if known else 2)


@pytest.mark.parametrize(
    ("text", "at"), [("\tunsigned int inum;\n", 8), ("\tunsigned int inum;\n\trefcount_t count;\n", 0)]
)
def test_where_a_mount_namespace_has_its_number_follows_from_who_counts_its_users(
    text: str, at: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_types(monkeypatch, None)
    (tmp_path / "linux").mkdir()
    (tmp_path / "linux/ns_common.h").write_text(f"struct ns_common {{\n{text}}};\n")
    assert bccfacts.facts(cast("Any", Lib()), [tmp_path]).macros["MNT_NS"] == at


def test_optional_fields_are_looked_for_in_the_headers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_types(monkeypatch, OLD)
    source, build = tmp_path / "source", tmp_path / "build"
    for path, text in (
        (source / "net/net_namespace.h", "struct net {\n\tu64\t\t\tnet_cookie; /* once */\n};\n"),
        (source / "linux/ns_common.h", "/* no u64 ns_id here */ atomic64_t ns_id;\n"),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    macros = bccfacts.facts(cast("Any", Lib()), [source, build]).macros
    assert "HAVE_NET_COOKIE" in macros
    assert "HAVE_NS_ID" not in macros


def test_headers(tmp_path: Path) -> None:
    release = os.uname().release
    with pytest.raises(KernelUnsupported) as caught:
        bccfacts.header_trees(tmp_path, tmp_path / "kheaders")
    assert f"linux-headers-{release}" in caught.value.hint
    (tmp_path / "kheaders").touch()
    assert bccfacts.header_trees(tmp_path, tmp_path / "kheaders") == []
    for name in ("build", "source"):
        (tmp_path / release / name / "include").mkdir(parents=True)
    assert [path.parent.name for path in bccfacts.header_trees(tmp_path)] == ["source", "build"]


# -- proof, choice -----------------------------------------------------------------------------------


def own_context(**changed: object) -> Context:
    """What a right reading of this thread would be."""
    proc = Path("/proc/self")
    ticks = int((proc / "stat").read_bytes().rpartition(b")")[2].split()[19])
    right: dict[str, Any] = {
        "stamp": b"1700000000.001:5",
        "time": 1,
        "record_type": 1107,
        "flags": int(ContextFlag.SUBJECT),
        "pid": os.getpid(),
        "tid": threading.get_native_id(),
        "ppid": os.getppid(),
        "auid": int((proc / "loginuid").read_text()),
        "ses": int((proc / "sessionid").read_text()),
        "start": ticks * 10**9 // os.sysconf("SC_CLK_TCK") + 5,
        "cgroup_id": 1,
        "comm": (proc / "comm").read_bytes().strip(),
        "inums": tuple(bccproof._inum(proc / "ns" / kind) for kind in KINDS),
        "ids": (0,) * len(KINDS),
        "levels": (Level(1, os.getpid()),),
        "key": b"",
    }
    return Context(**(right | changed))


def test_a_right_reading_is_no_difference() -> None:
    assert bccproof.differences(own_context()) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"pid": 1},
        {"tid": 1},
        {"ppid": 4194305},
        {"auid": 7},
        {"ses": 7},
        {"start": 5},
        {"comm": b"\xff\xff"},
        {"levels": ()},
        {"inums": (0,) * 10},
        {"inums": (5, *(0,) * 9)},
    ],
)
def test_a_wrong_reading_is_found_out(changed: dict[str, Any]) -> None:
    assert len(bccproof.differences(own_context(**changed))) == 1


def test_an_unknown_namespace_is_not_wrong() -> None:
    inums = own_context().inums
    assert bccproof.differences(own_context(inums=(0, *inums[1:]))) == []


@pytest.mark.parametrize(
    ("name", "btf", "installed", "kind"),
    [
        ("libbpf", NO, True, LibbpfLoader),
        ("bcc", YES, False, BccLoader),
        ("auto", YES, True, LibbpfLoader),
        ("auto", NO, False, LibbpfLoader),
        ("auto", NO, True, BccLoader),
    ],
)
def test_choice(
    name: str,
    btf: Found,
    installed: bool,  # noqa: FBT001 - a column of the table
    kind: type,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(features, "has_btf", lambda: btf)
    monkeypatch.setattr(bccload, "is_installed", lambda: installed)
    said: list[str] = []
    assert type(loaders.pick(name, said.append)) is kind
    assert bool(said) == (name == "auto" and kind is BccLoader)


def test_bcc_needs_no_btf_for_its_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "audit_log_end": YES,
        "audit_log_end.part.0": NO,
        "skb_queue_tail": YES,
        "__audit_uring_exit": NO,
    }
    monkeypatch.setattr(features, "can_kprobe", answers.__getitem__)
    found, uring = loaders.bcc_candidates(None)
    assert [candidate.hook for candidate in found] == [Hook.PLAIN, Hook.QUEUE]
    assert not uring
    ((forced, _),), _ = loaders.bcc_candidates(Hook.PART)
    assert forced is Hook.PART


def test_start_asks_for_bcc_s_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(_forced: Hook | None) -> None:
        raise UsageError("asked")

    class Control:
        def close(self) -> None:
            pass

    monkeypatch.setattr(startup, "require_initial_namespaces", tuple)
    monkeypatch.setattr(startup, "AuditControl", Control)
    monkeypatch.setattr(startup, "_audit_state", lambda _control, _note: (None, None))
    monkeypatch.setattr(startup, "bcc_candidates", asked)
    with pytest.raises(UsageError, match="asked"):
        startup.start(lambda _line: None, loader=BccLoader())
