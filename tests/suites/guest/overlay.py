# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: takes away a process's links to BPF programs, as whoever may trace it can.

Usage: overlay.py PID. Puts /dev/null, which the process has as its standard input, over each descriptor of a link: the
process itself has to make that call, dup2(2), so it is stopped in a system call and made to. Prints how many. x86_64.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from pathlib import Path

PEEK, GETREGS, SETREGS, STEP, ATTACH, DETACH = 1, 12, 13, 9, 16, 17
RAX, RSI, RDI, ORIG, RIP = 10, 13, 14, 15, 16  # places in struct user_regs_struct
DUP2, EINTR = 33, 4
INTERRUPTED = {(1 << 64) - code for code in (EINTR, 512, 513, 514, 516)}
"""What a call has as its result where it was stopped within: EINTR and the kernel's own, ERESTARTSYS and so on."""
SYSCALL = 0x050F
NONE = (1 << 64) - 1
TRIES = 200

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
libc.ptrace.restype = ctypes.c_long
Registers = ctypes.c_uint64 * 27


def trace(request: int, pid: int, address: int = 0, data: object = None) -> int:
    ctypes.set_errno(0)
    result = int(libc.ptrace(request, pid, address, data))
    if ctypes.get_errno():
        raise OSError(ctypes.get_errno(), f"ptrace {request}")
    return result


def links(pid: int) -> list[int]:
    """Return the descriptors of BPF links; others come and go meanwhile."""
    found = []
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if "link_type:" in path.read_text():
                found.append(int(path.name))
    return sorted(found)


def in_a_call(pid: int) -> bool:
    """Stop it; whether it was in a system call. Where it was not it goes on."""
    trace(ATTACH, pid)
    os.waitpid(pid, 0)
    registers = Registers()
    trace(GETREGS, pid, 0, ctypes.byref(registers))
    if registers[ORIG] < 1 << 32 and trace(PEEK, pid, registers[RIP] - 2) & 0xFFFF == SYSCALL:
        return True
    trace(DETACH, pid)
    return False


def main(pid: int) -> None:
    """Find, stop, replace, and let go."""
    wanted = links(pid)
    for _ in range(TRIES):
        if in_a_call(pid):
            break
        time.sleep(0.01)
    else:
        sys.exit("it is never in a system call")
    saved = Registers()
    trace(GETREGS, pid, 0, ctypes.byref(saved))
    try:
        for fd in wanted:
            call = Registers(*saved)
            call[RAX], call[RDI], call[RSI], call[ORIG] = DUP2, 0, fd, NONE
            call[RIP] = saved[RIP] - 2
            trace(SETREGS, pid, 0, ctypes.byref(call))
            trace(STEP, pid)
            os.waitpid(pid, 0)
            trace(GETREGS, pid, 0, ctypes.byref(call))
            if call[RAX] != fd:
                sys.exit(f"dup2 said {call[RAX]:x}")
    finally:
        if saved[RAX] in INTERRUPTED:
            # It is made again by who made it. One that was over has its result: made again, it would write twice.
            saved[RAX], saved[ORIG] = (1 << 64) - EINTR, NONE
        trace(SETREGS, pid, 0, ctypes.byref(saved))
        trace(DETACH, pid)
    print(len(wanted))


main(int(sys.argv[1]))
