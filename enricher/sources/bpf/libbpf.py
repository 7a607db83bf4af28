# SPDX-License-Identifier: Apache-2.0
"""The part of libbpf.so.1 that we call, through ctypes, with Python types and our own errors.

Owns the declarations of the C functions, and the text that libbpf prints: it is collected instead
of reaching stderr, so that a failure can quote it. Stays inside the API of libbpf 1.1.2 (Debian 12).
Never decides what to load.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from ctypes import c_char_p, c_int, c_size_t, c_uint32, c_void_p
from typing import Final

from enricher.errors import LoadFailed

BPF_MAP_TYPE_RINGBUF: Final = 27
BTF_KIND_STRUCT: Final = 4
BTF_KIND_TYPEDEF: Final = 8
BTF_KIND_FUNC: Final = 12
BTF_KIND_VAR: Final = 14
_INFO: Final = 1  # enum libbpf_print_level; above it are thousands of debugging lines per load
_KEPT_CHARACTERS: Final = 4 << 20
_LINE_CHARACTERS: Final = 1 << 16
_LOG_CHARACTERS: Final = 1 << 22  # a program's whole verifier log is one message

# Register dumps are "R1=.." or "7: R0_w=..", alone or after "from 3 to 7"; a verdict has no "=" there.
_noise = re.compile(
    r"processed \d|verification time|stack depth|peak_states|.*-- (BEGIN|END) PROG LOAD LOG"
    r"|(from \d+ to \d+|\d+): (R\d|frame\d)|\s*R\d+(_\w+)?="
).match

_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)

_PROTOTYPES: Final[dict[str, tuple[object, ...]]] = {
    # name: (result, arguments...)
    "libbpf_set_print": (c_void_p, _PRINT),
    "libbpf_version_string": (c_char_p,),
    "libbpf_num_possible_cpus": (c_int,),
    "bpf_object__open_mem": (c_void_p, c_char_p, c_size_t, c_void_p),
    "bpf_object__load": (c_int, c_void_p),
    "bpf_object__close": (None, c_void_p),
    "bpf_object__btf": (c_void_p, c_void_p),
    "bpf_object__find_program_by_name": (c_void_p, c_void_p, c_char_p),
    "bpf_object__find_map_by_name": (c_void_p, c_void_p, c_char_p),
    "bpf_program__set_autoload": (c_int, c_void_p, ctypes.c_bool),
    "bpf_program__fd": (c_int, c_void_p),
    "bpf_program__attach": (c_void_p, c_void_p),
    "bpf_program__attach_kprobe": (c_void_p, c_void_p, ctypes.c_bool, c_char_p),
    "bpf_program__attach_perf_event": (c_void_p, c_void_p, c_int),
    "bpf_link__destroy": (c_int, c_void_p),
    "bpf_link__fd": (c_int, c_void_p),
    "bpf_iter_create": (c_int, c_int),
    "bpf_map__fd": (c_int, c_void_p),
    "bpf_map__set_max_entries": (c_int, c_void_p, c_uint32),
    "bpf_map__initial_value": (c_void_p, c_void_p, ctypes.POINTER(c_size_t)),
    "bpf_map_create": (c_int, c_int, c_char_p, c_uint32, c_uint32, c_uint32, c_void_p),
    "bpf_map_update_elem": (c_int, c_int, c_void_p, c_void_p, ctypes.c_uint64),
    "bpf_map_lookup_elem": (c_int, c_int, c_void_p, c_void_p),
    "bpf_map_delete_elem": (c_int, c_int, c_void_p),
    "bpf_map_get_next_key": (c_int, c_int, c_void_p, c_void_p),
    "bpf_map__reuse_fd": (c_int, c_void_p, c_int),
    "bpf_obj_pin": (c_int, c_int, c_char_p),
    "bpf_obj_get": (c_int, c_char_p),
    "bpf_obj_get_info_by_fd": (c_int, c_int, c_void_p, ctypes.POINTER(c_uint32)),
    "btf__load_vmlinux_btf": (c_void_p,),
    "btf__free": (None, c_void_p),
    "btf__find_by_name_kind": (ctypes.c_int32, c_void_p, c_char_p, c_uint32),
    "btf__type_by_id": (c_void_p, c_void_p, c_uint32),
    "btf__name_by_offset": (c_char_p, c_void_p, c_uint32),
    "btf__resolve_size": (ctypes.c_int64, c_void_p, c_uint32),
}


class ProgramInfo(ctypes.Structure):
    """``struct bpf_prog_info`` as far as recursion_misses (include/uapi/linux/bpf.h)."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("jited_prog_len", c_uint32),
        ("xlated_prog_len", c_uint32),
        ("jited_prog_insns", ctypes.c_uint64),
        ("xlated_prog_insns", ctypes.c_uint64),
        ("load_time", ctypes.c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", ctypes.c_uint64),
        ("name", ctypes.c_char * 16),
        ("ifindex", c_uint32),
        ("gpl_compatible", c_uint32),
        ("netns_dev", ctypes.c_uint64),
        ("netns_ino", ctypes.c_uint64),
        ("nr_jited_ksyms", c_uint32),
        ("nr_jited_func_lens", c_uint32),
        ("jited_ksyms", ctypes.c_uint64),
        ("jited_func_lens", ctypes.c_uint64),
        ("btf_id", c_uint32),
        ("func_info_rec_size", c_uint32),
        ("func_info", ctypes.c_uint64),
        ("nr_func_info", c_uint32),
        ("nr_line_info", c_uint32),
        ("line_info", ctypes.c_uint64),
        ("jited_line_info", ctypes.c_uint64),
        ("nr_jited_line_info", c_uint32),
        ("line_info_rec_size", c_uint32),
        ("jited_line_info_rec_size", c_uint32),
        ("nr_prog_tags", c_uint32),
        ("prog_tags", ctypes.c_uint64),
        ("run_time_ns", ctypes.c_uint64),
        ("run_cnt", ctypes.c_uint64),
        ("recursion_misses", ctypes.c_uint64),
    )


class Libbpf:
    """libbpf.so.1, loaded once. Every function of the table above is an attribute.

    Raises LoadFailed when the library is not installed.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libbpf.so.1", use_errno=True)
            self._libc = ctypes.CDLL(None)
        except OSError as error:
            raise LoadFailed(
                f"libbpf cannot be loaded: {error}",
                "install libbpf 1.1 or later (Debian: apt install libbpf1)",
            ) from error
        for name, (result, *arguments) in _PROTOTYPES.items():
            function = getattr(self._library, name)
            function.restype = result
            function.argtypes = arguments
        self._said: list[str] = []
        self._said_characters = 0
        # Kept as an attribute: libbpf holds the pointer for the life of the process.
        self._callback = _PRINT(self._print)
        self._library.libbpf_set_print(self._callback)

    def _print(self, level: int, pattern: bytes, arguments: int) -> int:
        if level > _INFO:
            return 0
        # A va_list reaches a callee as a pointer on x86_64 and arm64 alike, so vsnprintf takes it on.
        size = _LOG_CHARACTERS if b"LOG" in pattern else _LINE_CHARACTERS
        buffer = ctypes.create_string_buffer(size)
        self._libc.vsnprintf(buffer, c_size_t(size), c_char_p(pattern), c_void_p(arguments))
        text = buffer.value.decode(errors="replace")
        if self._said_characters < _KEPT_CHARACTERS:
            self._said.append(text)
            self._said_characters += len(text)
        return 0

    def __getattr__(self, name: str) -> ctypes._NamedFuncPointer:
        if name not in _PROTOTYPES:
            raise AttributeError(name)
        function: ctypes._NamedFuncPointer = getattr(self._library, name)
        return function

    def take_log(self) -> str:
        """What libbpf has printed since the last call, verifier logs included."""
        text = "".join(self._said)
        self._said.clear()
        self._said_characters = 0
        return text


_loaded: list[Libbpf] = []


def library() -> Libbpf:
    """The one instance of this process."""
    if not _loaded:
        _loaded.append(Libbpf())
    return _loaded[0]


def error_text(code: int) -> str:
    """Words for a negative errno that libbpf returned, or for the thread's errno where it is -1 or NULL."""
    number = -code if code < -1 else ctypes.get_errno()
    return f"{errno.errorcode.get(number, number)} ({os.strerror(number)})"


def last_useful_lines(log: str, count: int = 12) -> str:
    """The verifier's verdict: the end of its log without the statistics and the repeated register dumps."""
    lines = [line for line in log.splitlines() if line.strip() and not _noise(line)]
    return "\n".join(lines[-count:])


__all__ = [
    "BPF_MAP_TYPE_RINGBUF",
    "Libbpf",
    "ProgramInfo",
    "error_text",
    "last_useful_lines",
    "library",
]
