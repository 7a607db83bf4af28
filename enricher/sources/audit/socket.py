# SPDX-License-Identifier: Apache-2.0
"""The multicast reader: every record the kernel's audit system finishes, as it is finished.

Owns joining the group AUDIT_NLGRP_READLOG and the size of the receive buffer. Never takes auditd's
unicast slot, never sends anything, and never changes audit's state: joining is the whole interaction
(the kernel logs it, and the leaving, as EVENT_LISTENER 1335).
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Final

from enricher.config import settings
from enricher.errors import AuditUnavailable, EnricherError, MissingCapability, WrongNamespace
from enricher.sources.audit.netlink import (
    AUDIT_NLGRP_READLOG,
    CAP_AUDIT_READ,
    NETLINK_ADD_MEMBERSHIP,
    NETLINK_AUDIT,
    SOL_NETLINK,
    open_socket,
    unavailable,
)
from enricher.sources.audit.receiver import BATCH, Receiver
from enricher.sources.host import PROC, has_capability

if TYPE_CHECKING:
    from pathlib import Path

SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h; socket.SO_RCVBUFFORCE is not in Python 3.11

RECEIVE_BUFFER: Final = settings.RECEIVE_BUFFER.default
"""Bytes asked for. The kernel doubles it and counts whole buffers, some 2.3 KiB for a common record."""


class AuditSocket(Receiver):
    """A socket joined to the audit multicast group; see `Receiver` for `receive`, `drops` and the counters.

    Needs CAP_AUDIT_READ in the initial user namespace. In any network namespace but the initial one the
    join succeeds and nothing ever arrives: check with `host.require_initial_namespaces` first.

    ``receive_buffer`` is what the kernel granted, in its own accounting (twice what was asked for). It is
    less than that when CAP_NET_ADMIN is missing and net.core.rmem_max is low; ``buffer_limited`` says so.

    Raises MissingCapability, WrongNamespace or AuditUnavailable.
    """

    patience = 3.0
    unheard = (
        "audit records are sent to the initial network namespace only: run there. If this is it, an auditd"
        " that does not read may be holding the kernel up"
    )
    way = "multicast"
    ended = False

    def __init__(
        self,
        receive_buffer: int = RECEIVE_BUFFER,
        batch: int = BATCH,
        *,
        protocol: int = NETLINK_AUDIT,
        proc: Path = PROC,
    ) -> None:
        sock = open_socket(protocol)
        try:
            self.receive_buffer = grow(sock, receive_buffer)  # before the join: no window with a small one
            self.buffer_limited = self.receive_buffer < 2 * receive_buffer
            try:
                sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, AUDIT_NLGRP_READLOG)
            except OSError as error:
                raise _join_refused(error, proc) from error
            super().__init__(sock, batch)
        except BaseException:
            sock.close()
            raise

    def leave(self) -> bool:
        """See `Source`: others read the same records, so there is nothing to leave before the end."""
        return False


def grow(sock: socket.socket, size: int) -> int:
    """Ask for a receive buffer of `size` bytes, by force if we may; return what the kernel granted."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def _join_refused(error: OSError, proc: Path) -> EnricherError:
    """Name the reason why the group could not be joined."""
    if error.errno == errno.EPERM:
        if has_capability(CAP_AUDIT_READ, proc):
            # The kernel asks for the capability in the initial user namespace; ours is of another one.
            return WrongNamespace(
                "joining the audit multicast group was refused although CAP_AUDIT_READ is held",
                "run in the initial user namespace; otherwise a security module or seccomp forbids it",
            )
        return MissingCapability(
            "CAP_AUDIT_READ is missing: the audit multicast group cannot be joined",
            "run as root, or give the service AmbientCapabilities=CAP_AUDIT_READ",
        )
    if error.errno == errno.EINVAL:
        return AuditUnavailable(
            "the kernel's audit has no multicast group", "kernels before 3.16 send records to auditd only"
        )
    return unavailable(error)
