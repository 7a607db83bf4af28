# SPDX-License-Identifier: Apache-2.0
"""perf_event_open(2), as far as probes need it. Never enables what it opens."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

TRACEPOINT: Final = 2  # PERF_TYPE_TRACEPOINT
_PERF_FLAG_FD_CLOEXEC: Final = 8
_ATTR_SIZE: Final = 112
_NUMBER: Final = {"x86_64": 298, "aarch64": 241}


def is_known() -> bool:
    """Whether we know the call's number on this machine."""
    return os.uname().machine in _NUMBER


def open_disabled(kind: int, config: int, name: int = 0) -> int:
    """Return the descriptor of an event of this type on CPU 0; ``name`` is a symbol's address, for the kprobe PMU.

    Raises OSError; ENOSYS on a machine whose number for the call we do not know.
    """
    number = _NUMBER.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, "unknown machine")
    # struct perf_event_attr: type, size, config, ..., bp_addr/config1 at 56, bp_len/config2 at 64;
    # the flags word at 40 has `disabled` as its first bit.
    attr = bytearray(_ATTR_SIZE)
    struct.pack_into("=IIQ", attr, 0, kind, _ATTR_SIZE, config)
    struct.pack_into("=Q", attr, 40, 1)
    struct.pack_into("=QQ", attr, 56, name, 0)
    raw = (ctypes.c_char * len(attr)).from_buffer(attr)
    libc = ctypes.CDLL(None, use_errno=True)
    any_process, cpu_zero, no_group = -1, 0, -1
    fd: int = libc.syscall(
        ctypes.c_long(number), raw, any_process, cpu_zero, no_group, ctypes.c_ulong(_PERF_FLAG_FD_CLOEXEC)
    )
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd
