# SPDX-License-Identifier: Apache-2.0
"""The audit daemon's slot: the kernel's own queue, sent to this socket alone, on hosts that have no auditd.

Owns asking for the slot, giving it back, and what the kernel says there that is no record. The one message to audit
that changes anything is AUDIT_SET with the mask of the pid alone: limits, rules and whether audit is on stay as they
are. Never takes the slot from anybody: it asks who has it first, and after that the kernel refuses.

`audit_receive_msg` (kernel/audit.c) takes the pid of the asking process only, sends the holder AUDIT_REPLACE, and
answers EEXIST where that reached it. It registers the port that asked: this socket. Giving back takes CAP_AUDIT_CONTROL
again, and has to be before the socket is closed: until the next record the kernel goes on sending to the port, and any
process may bind to a port that is free.
"""

from __future__ import annotations

import errno
import os
import select
import struct
import time
from contextlib import closing
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from enricher.errors import AuditUnavailable, EnricherError, NotProved, UsageError
from enricher.sources.audit.control import NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, AuditControl, refused
from enricher.sources.audit.netlink import HEADER, HEADER_SIZE, NETLINK_AUDIT, open_socket
from enricher.sources.audit.receiver import BATCH, Receiver
from enricher.sources.audit.socket import grow
from enricher.sources.host import PROC

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from enricher.model import Record

AUDIT_SET: Final = 1001
AUDIT_REPLACE: Final = 1329
"""To the holder, with the pid of a process that asks for the slot: a holder that can be sent it is alive. No answer."""

_STATUS_PID: Final = 4
_STATUS: Final = struct.Struct(
    "=8I"
)  # struct audit_status: mask, enabled, failure, pid, and what is not set here
_ANSWER: Final = struct.Struct("=iIHHII")  # NLMSG_ERROR: an error, and the header that it answers
_NO_RECORDS: Final = frozenset((NLMSG_ERROR, AUDIT_REPLACE))
_TYPE: Final = attrgetter("type")
_TIMEOUT: Final = 5.0
_KEPT: Final = (
    "audit's daemon slot could not be given back, the kernel takes it when it has a record for us next"
)
_FREE: Final = "service.daemon = false reads beside it; to have its place, stop it and keep it from starting"


class DaemonSocket(Receiver):
    """A `Source` over the slot; see `Receiver` for `receive`, `drops` and the counters.

    Needs CAP_AUDIT_CONTROL in the initial user and pid namespace, here and in `leave`. ``challenges`` counts the
    processes that asked the kernel for the slot meanwhile, in vain. What this socket has no room for the kernel keeps,
    within its backlog limit, and makes those wait who have records to write.

    Raises UsageError where another one has the slot, NotProved where the kernel has not noticed that he is gone,
    MissingCapability, WrongNamespace or AuditUnavailable.
    """

    way = "daemon"
    patience = 20.0
    """Seconds: what waited in the kernel for a daemon comes first."""
    unheard = (
        "somebody took audit's daemon away again, or the kernel is held up: auditctl -s says who has the slot"
    )
    ended = False

    def __init__(  # noqa: PLR0913 - what a test puts in the kernel's place
        self,
        receive_buffer: int,
        note: Callable[[str], None],
        batch: int = BATCH,
        *,
        protocol: int = NETLINK_AUDIT,
        proc: Path = PROC,
        holder: Callable[[], int] | None = None,
    ) -> None:
        """`note` is told where giving back fails; `holder` says who has the slot, 0 for nobody."""
        self.challenges = 0
        self._note = note
        self._proc = proc
        self._early: list[Record] = []
        self._seq = 0
        self._has_slot = False
        before = (holder or _ask_holder)()
        if before and before != os.getpid() and _lives(before):
            raise UsageError(f"{self._named(before)} is the audit daemon of this host already", _FREE)
        sock = open_socket(protocol)
        try:
            self.receive_buffer = grow(sock, receive_buffer)  # before the slot: no window with a small one
            self.buffer_limited = self.receive_buffer < 2 * receive_buffer
            super().__init__(sock, batch)
            self._take(before)
        except BaseException:
            sock.close()
            raise
        self._has_slot = True

    def _take(self, before: int) -> None:
        if number := self._set_pid(os.getpid()):
            raise self._refusal(number, before)

    def receive(self) -> list[Record]:
        """See `Source`: what is no record is taken out."""
        records = super().receive()
        if not _NO_RECORDS.isdisjoint(map(_TYPE, records)):
            self.challenges += sum(record.type == AUDIT_REPLACE for record in records)
            records = [record for record in records if record.type not in _NO_RECORDS]
        if self._early:
            records, self._early = self._early + records, []
        return records

    def drops(self) -> int:
        """See `Source`: none of this socket's.

        The kernel tries to send for a tenth of a second, and netlink counts each try without room as a drop. The record
        is kept and tried again (measured on 6.12: 60 tries beside 261 records that were lost): only what the kernel's
        own queue loses is lost, which `audit_log_lost` tells.
        """
        return 0

    def leave(self) -> bool:
        """See `Source`: give the slot back. What was sent before is still there to be received, and nowhere else."""
        if not self._has_slot:
            return False
        self._has_slot = False
        try:
            number = self._set_pid(0)
        except (EnricherError, OSError) as error:
            self._note(f"{_KEPT}: {error}")
            return True
        if number:
            self._note(f"{_KEPT}: {refused(number, AUDIT_SET, self._proc).message}")
        return True

    def close(self) -> None:
        """See `Source`."""
        self.leave()
        super().close()

    def _set_pid(self, pid: int) -> int:
        """Have the kernel set or unset its daemon; return its error number. What comes meanwhile is kept."""
        self._seq += 1
        body = _STATUS.pack(_STATUS_PID, 0, 0, pid, 0, 0, 0, 0)
        header = HEADER.pack(HEADER_SIZE + len(body), AUDIT_SET, NLM_F_REQUEST | NLM_F_ACK, self._seq, 0)
        try:
            self._sock.sendto(header + body, (0, 0))
        except OSError as error:
            return error.errno or errno.EIO
        deadline = time.monotonic() + _TIMEOUT
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            poll.poll(left * 1000)
            records = super().receive()
            self.challenges += sum(record.type == AUDIT_REPLACE for record in records)
            self._early += [record for record in records if record.type not in _NO_RECORDS]
            for record in records:
                if record.type == NLMSG_ERROR and len(record.text) >= _ANSWER.size:
                    number, _, _, _, seq, _ = _ANSWER.unpack_from(record.text)
                    if seq == self._seq:
                        return -int(number)
        raise AuditUnavailable(
            f"the kernel did not answer audit request {AUDIT_SET} within {_TIMEOUT:g} s",
            "try again; if it persists, look at the kernel log",
        )

    def _refusal(self, number: int, before: int) -> EnricherError:
        if number != errno.EEXIST:
            return refused(number, AUDIT_SET, self._proc)
        if before and not _lives(before):
            return NotProved(
                f"process {before}, which was the audit daemon, has ended, and the kernel can still send to its port",
                "a process that it started may hold its socket; else somebody took its place to read audit records:"
                " /proc/net/netlink has the sockets of protocol 9 and their ports",
            )
        return UsageError("another process has become the audit daemon of this host meanwhile", _FREE)

    def _named(self, pid: int) -> str:
        try:
            comm = (self._proc / str(pid) / "comm").read_bytes().strip(b"\n").decode("utf-8", "replace")
        except OSError:
            return f"process {pid}"
        shown = "".join(each if each.isprintable() else "?" for each in comm)
        return f"process {pid} ({shown})"


def _ask_holder() -> int:
    with closing(AuditControl()) as control:
        return control.status().pid


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
