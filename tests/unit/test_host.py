# SPDX-License-Identifier: Apache-2.0
"""Facts about the host and the check of where we stand, on a made-up /proc."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from enricher.errors import WrongNamespace
from enricher.model import KINDS
from enricher.sources.host import (
    effective_capabilities,
    has_capability,
    read_host_facts,
    require_initial_namespaces,
)

KTHREADD = "2 (kthr) eadd) S 0 0 0 0 -1 2129984 0 0"
ORDINARY = "2 (kthr) eadd) S 1 2 2 0 -1 4194560 0 0"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Return a /proc in which we share every namespace with pid 1; namespaces are files, equal by inode."""
    root = tmp_path / "proc"
    for directory in ("1/ns", "self/ns", "2", "sys/kernel/random"):
        (root / directory).mkdir(parents=True)
    for kind in KINDS:
        (root / "1" / "ns" / kind).touch()
        (root / "self" / "ns" / kind).hardlink_to(root / "1" / "ns" / kind)
    (root / "2" / "stat").write_text(KTHREADD)
    (root / "self" / "uid_map").write_text("         0          0 4294967295\n")
    (root / "self" / "status").write_text(
        "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0000002000080000\nNSpid:\t812\n"
    )
    (root / "sys" / "kernel" / "hostname").write_text("build-7\n")
    (root / "sys" / "kernel" / "random" / "boot_id").write_text("0b6c-boot\n")
    (tmp_path / "machine-id").write_text("d41d8cd9\n")
    return root


def leave(proc: Path, kind: str) -> None:
    """Put us into another namespace of `kind` than pid 1's."""
    own = proc / "self" / "ns" / kind
    own.unlink()
    own.touch()


def forbid(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deny access to pid 1's namespaces, as the kernel does without CAP_SYS_PTRACE, to root too."""
    real = Path.stat
    forbidden = proc / "1" / "ns"

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.parent == forbidden:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", stat)


# -- facts -------------------------------------------------------------------------------------------


def test_facts(proc: Path, tmp_path: Path) -> None:
    facts, notes = read_host_facts(proc, tmp_path / "machine-id")
    assert notes == ()
    assert (facts.name, facts.machine_id, facts.boot_id) == ("build-7", "d41d8cd9", "0b6c-boot")
    assert facts.initial == tuple((proc / "1" / "ns" / kind).stat().st_ino for kind in KINDS)
    assert len(set(facts.initial)) == 10
    device = (proc / "self" / "ns" / "mnt").stat().st_dev
    assert facts.ns_dev == f"{os.major(device):02x}:{os.minor(device):02x}"


def test_initial_namespaces_are_pid_1s_not_ours(proc: Path, tmp_path: Path) -> None:
    before = read_host_facts(proc, tmp_path / "machine-id").facts.initial
    for kind in KINDS:
        leave(proc, kind)
    facts, notes = read_host_facts(proc, tmp_path / "machine-id")
    assert facts.initial == before
    assert any("uts" in note for note in notes)


def test_a_kernel_without_a_kind(proc: Path, tmp_path: Path) -> None:
    for kind in ("time", "time_for_children"):
        (proc / "1" / "ns" / kind).unlink()
    facts, notes = read_host_facts(proc, tmp_path / "machine-id")
    assert [kind for kind, ino in zip(KINDS, facts.initial, strict=True) if not ino] == [
        "time",
        "time_for_children",
    ]
    assert len(notes) == 2
    assert "ns/time: No such file" in notes[0]


def test_pid_1_out_of_reach(proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(proc, monkeypatch)
    facts, notes = read_host_facts(proc, tmp_path / "machine-id")
    assert facts.initial == (0,) * 10
    assert facts.ns_dev
    assert len(notes) == 10
    assert all("CAP_SYS_PTRACE" in note for note in notes)


def test_nothing_there_at_all(tmp_path: Path) -> None:
    facts, notes = read_host_facts(tmp_path / "none", tmp_path / "no-machine-id")
    assert facts == ("", "", "", "", (0,) * 10)
    assert len(notes) == 14


def test_a_name_that_is_no_utf8(proc: Path, tmp_path: Path) -> None:
    (proc / "sys" / "kernel" / "hostname").write_bytes(b"h\xff\n")
    assert read_host_facts(proc, tmp_path / "machine-id").facts.name == "h\N{REPLACEMENT CHARACTER}"


@pytest.mark.skipif(not Path("/proc/self/ns/mnt").exists(), reason="no /proc here")
def test_this_machine() -> None:
    facts, _ = read_host_facts()
    assert re.fullmatch(r"[0-9a-f]{2}:[0-9a-f]{2}", facts.ns_dev)
    assert re.fullmatch(r"[0-9a-f-]{36}", facts.boot_id)


# -- where we stand ----------------------------------------------------------------------------------


def test_on_the_host(proc: Path) -> None:
    assert require_initial_namespaces(proc) == ()


@pytest.mark.parametrize(
    ("kind", "words"), [("user", "user namespace"), ("pid", "pids"), ("net", "multicast")]
)
def test_elsewhere(proc: Path, kind: str, words: str) -> None:
    leave(proc, kind)
    with pytest.raises(WrongNamespace) as caught:
        require_initial_namespaces(proc)
    assert words in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in {"user", "pid", "net"}])
def test_other_kinds_do_not_matter(proc: Path, kind: str) -> None:
    leave(proc, kind)
    assert require_initial_namespaces(proc) == ()


@pytest.mark.parametrize("second", [ORDINARY, None])
def test_in_a_container_pid_1_is_the_containers(proc: Path, second: str | None) -> None:
    """Every namespace is the same as pid 1's there; what is missing is kthreadd."""
    if second is None:
        (proc / "2" / "stat").unlink()
    else:
        (proc / "2" / "stat").write_text(second)
    with pytest.raises(WrongNamespace, match="pid namespace"):
        require_initial_namespaces(proc)


def test_in_a_pid_namespace_with_the_hosts_proc(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `unshare -pf` without a /proc of its own; needs no right to look at pid 1."""
    forbid(proc, monkeypatch)
    (proc / "self" / "status").write_text("NSpid:\t812\t1\n")
    with pytest.raises(WrongNamespace, match="pid namespace"):
        require_initial_namespaces(proc)


def test_without_ptrace_the_rest_is_still_checked(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(proc, monkeypatch)
    notes = require_initial_namespaces(proc)
    assert [("user" in n, "network" in n) for n in notes] == [(True, False), (False, True)]
    (proc / "self" / "uid_map").write_text("0 100000 65536\n")
    with pytest.raises(WrongNamespace, match="user namespace"):
        require_initial_namespaces(proc)


def test_with_processes_hidden_nothing_is_claimed(proc: Path) -> None:
    """Mounted with hidepid: neither pid 1 nor pid 2 can be seen. No reason to refuse, three to say so."""
    (proc / "1").rename(proc / "hidden")
    (proc / "2" / "stat").unlink()
    assert len(require_initial_namespaces(proc)) == 3


def test_a_stat_that_cannot_be_read_is_no_proof(proc: Path) -> None:
    (proc / "2" / "stat").write_text("2 (kthreadd")
    assert require_initial_namespaces(proc) == ()


# -- capabilities ------------------------------------------------------------------------------------


def test_capabilities(proc: Path) -> None:
    assert effective_capabilities(proc) == 1 << 37 | 1 << 19
    assert has_capability(37, proc)
    assert not has_capability(29, proc)


@pytest.mark.parametrize("status", ["", "CapEff:\n", "CapEff:\txyz\n", "Name: CapEff: 1\n"])
def test_capabilities_that_cannot_be_read(proc: Path, status: str) -> None:
    (proc / "self" / "status").write_text(status)
    assert effective_capabilities(proc) is None
    assert not has_capability(0, proc)


def test_default_root() -> None:
    assert isinstance(effective_capabilities(), int)


def test_a_forbidden_link_that_leads_to_a_directory_is_not_a_namespace(proc: Path, tmp_path: Path) -> None:
    """5.10 without CAP_SYS_PTRACE: stat of /proc/1/ns/net gives /proc/1 itself, and no error."""
    for kind in KINDS:
        (proc / "1" / "ns" / kind).unlink()
        (proc / "1" / "ns" / kind).symlink_to(proc / "1")
    facts, notes = read_host_facts(proc, tmp_path / "machine-id")
    assert facts.initial == (0,) * 10
    assert all("CAP_SYS_PTRACE" in note for note in notes)
    assert any("network" in note for note in require_initial_namespaces(proc))
