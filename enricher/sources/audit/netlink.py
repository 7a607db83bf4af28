# SPDX-License-Identifier: Apache-2.0
"""What the two audit sockets share: the netlink header, opening a socket, naming a refusal.

Owns the numbers of the netlink wire format (``linux/netlink.h``, ``linux/audit.h``) and the decision
which error of ours a refusal by the kernel is. Never sends or receives a message.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

from enricher.errors import AuditUnavailable, EnricherError, MissingCapability

NETLINK_AUDIT: Final = 9
SOL_NETLINK: Final = 270
NETLINK_ADD_MEMBERSHIP: Final = 1
AUDIT_NLGRP_READLOG: Final = 1

HEADER: Final = struct.Struct("=IHHII")
"""struct nlmsghdr: u32 len, u16 type, u16 flags, u32 seq, u32 pid."""
HEADER_SIZE: Final = HEADER.size

CAP_AUDIT_WRITE: Final = 29
CAP_AUDIT_CONTROL: Final = 30
CAP_AUDIT_READ: Final = 37


def open_socket(protocol: int = NETLINK_AUDIT) -> socket.socket:
    """Open a netlink socket and give it a port; nothing is joined and nothing is sent.

    Raises AuditUnavailable when the kernel has no such protocol. `protocol` is another one in tests only.
    """
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    except OSError as error:
        raise unavailable(error) from error
    try:
        sock.bind((0, 0))
    except OSError as error:
        sock.close()
        raise unavailable(error) from error
    return sock


def unavailable(error: OSError) -> EnricherError:
    """Name the reason why the audit protocol cannot be opened.

    ``audit_init`` returns before it registers the protocol when the kernel was booted with audit=0, so
    a disabled audit and a kernel built without it look the same from here: EPROTONOSUPPORT.
    """
    if error.errno in {errno.EPROTONOSUPPORT, errno.ENOENT}:
        return AuditUnavailable(
            "the kernel offers no audit netlink protocol",
            "it was booted with audit=0 (see /proc/cmdline) or built without CONFIG_AUDIT",
        )
    if error.errno in {errno.EAFNOSUPPORT, errno.EINVAL}:
        return AuditUnavailable(
            f"no netlink socket for audit can be made ({error.strerror})",
            "a service needs AF_NETLINK in RestrictAddressFamilies=; the kernel must be 3.16 or newer",
        )
    if error.errno in {errno.EPERM, errno.EACCES}:
        return MissingCapability(
            f"opening the audit socket was refused ({error.strerror})",
            "a security module or a seccomp filter forbids it; look for its denial in the log",
        )
    return AuditUnavailable(f"the audit socket failed: {error.strerror}")
