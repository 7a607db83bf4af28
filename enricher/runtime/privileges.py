# SPDX-License-Identifier: Apache-2.0
"""Which capabilities are held, and giving up those that the start alone needed.

Owns capget(2), capset(2) and the table of what is kept and why. Never raises a privilege: a capability that is
dropped from the permitted set is gone for the life of the process.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, Final

from enricher.enrich.tables.numbers import CAPABILITY
from enricher.sources.audit.netlink import CAP_AUDIT_CONTROL, CAP_AUDIT_WRITE

if TYPE_CHECKING:
    from collections.abc import Callable

CAP_KILL: Final = 5  # linux/capability.h
CAP_BPF: Final = 39

KEPT: Final = {CAP_AUDIT_WRITE: "the self-test's record at the end, which closes the account"}
"""What is kept for the whole run."""

ON_DEMAND: Final = {CAP_BPF: "before 5.19: reading how often the kernel skipped the hook"}
"""What is kept where it is found to be needed."""

CONTID: Final = {
    CAP_KILL: "container identifiers: signal 0 to a pidfd, which shows the process to a program in the kernel",
    CAP_BPF: "container identifiers: reading and writing their maps",
}
"""What is kept beside that where container identifiers are on."""
CONTID_MASK: Final = 1 << CAP_KILL | 1 << CAP_BPF

DAEMON: Final = {
    CAP_AUDIT_CONTROL: "the audit daemon's slot: giving it back at the end; not in effect before"
}
"""What is kept where the service is the audit daemon. The slot has to be given back before the socket is closed, since
anybody may bind to a port that is free (docs/adr/0031-the-daemon-slot.md)."""
DAEMON_MASK: Final = 1 << CAP_AUDIT_CONTROL

_VERSION_3: Final = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: two words of 32 bits for each set
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_DUMPABLE: Final = 4
_WORD: Final = 0xFFFFFFFF


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def held() -> int:
    """Return the permitted set of this process as a mask."""
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    _call("capget", ctypes.byref(header), ctypes.byref(data))
    return int(data[0].permitted) | int(data[1].permitted) << 32


def _set(effective: int, permitted: int) -> None:
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    for half, shift in zip(data, (0, 32), strict=True):
        half.effective = effective >> shift & _WORD
        half.permitted = permitted >> shift & _WORD
    _call("capset", ctypes.byref(header), ctypes.byref(data))


def drop(works: Callable[[], bool], also: int = 0, aside: int = 0) -> int:
    """Give up all capabilities but the kept ones, and `also`; returns the mask of what is left. Raises OSError.

    `works` is asked with the kept ones alone in effect: where it says no, those of ON_DEMAND stay too. `aside` is
    kept, and not in effect before `take_up`.
    """
    before = held()
    keep = (sum(1 << number for number in KEPT) | also) & before
    more = sum(1 << number for number in ON_DEMAND) & before
    aside &= before & ~keep
    _set(keep, keep | more | aside)
    if more and not works():
        keep |= more
    keep_only(keep, aside)
    return keep | aside


def take_up() -> None:
    """Put into effect what was kept aside. Raises OSError."""
    mask = held()
    _set(mask, mask)


def put_away(mask: int) -> None:
    """Give up these too. Raises OSError."""
    left = held() & ~mask
    _set(left, left)


def keep_only(keep: int, aside: int = 0) -> None:
    """Give up all capabilities but those of this mask, and those kept `aside`, for good. Raises OSError."""
    _set(keep, keep | aside)
    _clear_ambient()
    # What we may ever become is bounded by this; and nobody of our uid may look into us.
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)


def _clear_ambient() -> None:
    try:
        _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before 4.3 there were none
            raise


def names(mask: int) -> list[str]:
    """Return the names of a mask's capabilities, CAP_37 for one that we have no name for."""
    found = (CAPABILITY.get(bit, str(bit)) for bit in range(mask.bit_length()) if mask >> bit & 1)
    return [f"CAP_{name.upper()}" for name in found]
