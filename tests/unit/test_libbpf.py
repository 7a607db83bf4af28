# SPDX-License-Identifier: Apache-2.0
"""libbpf through ctypes: what it says is collected and cut to what helps; objects are opened, never loaded."""

from __future__ import annotations

import ctypes
import errno

import pytest

from enricher.errors import LoadFailed
from enricher.sources.bpf import libbpf
from enricher.sources.bpf.libbpf import Libbpf, ProgramInfo, error_text, last_useful_lines, library

LOG = """\
libbpf: prog 'record_end': BPF program load failed: Permission denied
libbpf: prog 'record_end': -- BEGIN PROG LOAD LOG --
arg#0 reference type('UNKNOWN ') size cannot be determined: -22
0: R1=ctx(off=0,imm=0) R10=fp0
; int BPF_PROG(record_end, struct audit_buffer *ab)
0: (79) r6 = *(u64 *)(r1 +0)
func 'audit_log_end' arg0 has btf_id 4711 type STRUCT 'audit_buffer'
1: R1=ctx(off=0,imm=0) R6_w=ptr_audit_buffer(off=0,imm=0)
from 12 to 14: R0=scalar() R6=ptr_audit_buffer(off=0,imm=0) R10=fp0
14: R0=scalar() R10=fp0
 R1_w=scalar() R2=0
14: (79) r1 = *(u64 *)(r0 +0)
R0 invalid mem access 'scalar'
processed 14 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 1
verification time 51 usec
stack depth 48
-- END PROG LOAD LOG --

libbpf: prog 'record_end': failed to load: -13
libbpf: failed to load object 'audit'
"""


def test_digest_of_a_verifier_log() -> None:
    assert last_useful_lines(LOG).splitlines() == [
        "libbpf: prog 'record_end': BPF program load failed: Permission denied",
        "arg#0 reference type('UNKNOWN ') size cannot be determined: -22",
        "; int BPF_PROG(record_end, struct audit_buffer *ab)",
        "0: (79) r6 = *(u64 *)(r1 +0)",
        "func 'audit_log_end' arg0 has btf_id 4711 type STRUCT 'audit_buffer'",
        "14: (79) r1 = *(u64 *)(r0 +0)",
        "R0 invalid mem access 'scalar'",
        "libbpf: prog 'record_end': failed to load: -13",
        "libbpf: failed to load object 'audit'",
    ]


def test_digest_keeps_the_end() -> None:
    assert last_useful_lines(LOG, 3).splitlines()[0] == "R0 invalid mem access 'scalar'"
    long = "\n".join(f"{i}: (bf) r1 = r{i}" for i in range(1000))
    assert last_useful_lines(long).splitlines() == [f"{i}: (bf) r1 = r{i}" for i in range(988, 1000)]
    assert last_useful_lines("") == ""


def test_no_library_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str | None, **_: object) -> ctypes.CDLL:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    with pytest.raises(LoadFailed) as caught:
        Libbpf()
    assert "libbpf.so.1: cannot open" in caught.value.message
    assert "libbpf1" in caught.value.hint
    assert caught.value.exit_code == 7


def test_what_the_library_prints_is_collected_and_taken_once(capfd: pytest.CaptureFixture[str]) -> None:
    lib = library()
    lib.take_log()
    assert not lib.bpf_object__open_mem(b"no object at all", 16, None)
    said = lib.take_log()
    assert said.startswith("libbpf: ")
    assert "not a proper ELF object" in said
    assert lib.take_log() == ""
    assert capfd.readouterr() == ("", "")


def test_error_of_the_library() -> None:
    ctypes.set_errno(0)
    assert not library().bpf_object__open_mem(b"no object at all", 16, None)
    library().take_log()
    assert ctypes.get_errno() == 4001  # LIBBPF_ERRNO__FORMAT: the library has numbers of its own
    assert error_text(-1).startswith("4001 (")
    ctypes.set_errno(errno.EPERM)
    assert error_text(-1) == "EPERM (Operation not permitted)"
    assert error_text(-errno.ENOMEM) == "ENOMEM (Cannot allocate memory)"


def test_collected_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Libc:
        @staticmethod
        def vsnprintf(
            buffer: ctypes.Array[ctypes.c_char], size: ctypes.c_size_t, pattern: ctypes.c_char_p, _: object
        ) -> None:
            assert size.value == ctypes.sizeof(buffer)
            buffer.value = (pattern.value or b"") * 100

    lib = library()
    lib.take_log()
    monkeypatch.setattr(lib, "_libc", Libc)
    monkeypatch.setattr(libbpf, "_KEPT_CHARACTERS", 500)
    for _ in range(10):
        assert lib._print(0, b"abc", 0) == 0
    assert lib.take_log() == "abc" * 200
    lib._print(0, b"bad \xff", 0)
    assert lib.take_log().startswith("bad \ufffd")
    lib._print(2, b"debugging", 0)
    assert lib.take_log() == ""


def test_a_function_that_is_not_declared_is_not_called() -> None:
    with pytest.raises(AttributeError):
        library().bpf_object__pin  # noqa: B018 - the look-up is the test
    assert library() is library()


def test_info_of_a_program_has_the_kernels_offsets() -> None:
    """include/uapi/linux/bpf.h, struct bpf_prog_info: the members around those that we read."""
    offsets = {"name": 64, "netns_dev": 88, "btf_id": 128, "run_time_ns": 192, "recursion_misses": 208}
    assert {name: getattr(ProgramInfo, name).offset for name in offsets} == offsets
