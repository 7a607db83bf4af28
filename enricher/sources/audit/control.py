# SPDX-License-Identifier: Apache-2.0
"""Questions to the kernel's audit system, and the one message we send into it.

Owns request, acknowledgement and reply on a socket of its own. Never changes the audit state: there
is no AUDIT_SET, no AUDIT_ADD_RULE and no AUDIT_DEL_RULE here, and `AuditControl` refuses to send any
type but the two queries and user-space messages.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.errors import AuditUnavailable, EnricherError, MissingCapability, WrongNamespace
from enricher.sources.audit.netlink import (
    CAP_AUDIT_CONTROL,
    CAP_AUDIT_WRITE,
    HEADER,
    HEADER_SIZE,
    NETLINK_AUDIT,
    open_socket,
)
from enricher.sources.audit.rules import Rule, parse_rule
from enricher.sources.audit.types import is_user
from enricher.sources.host import PROC, has_capability

if TYPE_CHECKING:
    from pathlib import Path

AUDIT_GET: Final = 1000
AUDIT_LIST_RULES: Final = 1013
USER_AVC: Final = 1107

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 1
NLM_F_ACK: Final = 4

TEXT_MAX: Final = 8560
"""AUDIT_MESSAGE_TEXT_MAX: the kernel cuts a user-space message after so many bytes."""

_ERROR: Final = struct.Struct("=i")
_WORD: Final = struct.Struct("=I")
_STATUS_MIN: Final = 32  # eight words, since the first kernel that had the structure

_FILTER_TASK: Final = 1
_FILTER_EXCLUDE: Final = 5
_FILTER_PREPEND: Final = 0x10
_ACTION_NEVER: Final = 0
_RULE: Final = struct.Struct("=III")  # struct audit_rule_data: flags, action, field_count, ...


class AuditStatus(NamedTuple):
    """struct audit_status as AUDIT_GET returns it; None for what an older kernel does not tell.

    ``enabled`` is 0 off, 1 on, 2 locked until reboot; ``failure`` 0 silent, 1 printk, 2 panic; ``pid`` the
    registered auditd or 0; ``lost`` records the kernel knows it lost (multicast overflow is not in it);
    ``backlog`` records waiting for auditd now; the wait times are in jiffies.
    """

    enabled: int
    failure: int
    pid: int
    rate_limit: int
    backlog_limit: int
    lost: int
    backlog: int
    features: int | None
    backlog_wait_time: int | None
    backlog_wait_time_actual: int | None


class RulesCount(NamedTuple):
    """The rules in force: how many, how many of them make records, and whether syscalls are not audited.

    ``recording`` leaves out the action ``never`` and the list ``exclude``: 0 means that the kernel makes no
    SYSCALL event by rule. ``task_never`` is the rule ``-a never,task`` without a condition, which some
    distributions ship: tasks started since then are not audited whatever the other rules say.
    """

    total: int
    recording: int
    task_never: bool


class AuditControl:
    """Requests to the kernel's audit system, each waiting for its answer. For one thread.

    Raises AuditUnavailable when the kernel has no audit or does not answer within `timeout` seconds.
    """

    def __init__(self, *, timeout: float = 5.0, protocol: int = NETLINK_AUDIT, proc: Path = PROC) -> None:
        self._sock = open_socket(protocol)
        self._timeout = timeout
        self._proc = proc
        self._seq = 0

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def status(self) -> AuditStatus:
        """Return the state of the audit system (AUDIT_GET); needs CAP_AUDIT_CONTROL, initial pid ns."""
        replies = self._ask(AUDIT_GET, b"", dump=False)
        return parse_status(replies[0])

    def rules_count(self) -> RulesCount:
        """Count the rules in force (AUDIT_LIST_RULES); needs what `status` needs."""
        return count_rules(self._ask(AUDIT_LIST_RULES, b"", dump=True))

    def rules(self) -> list[Rule | None]:
        """The rules in force, list by list and each in its order; None for one that cannot be read."""
        return [parse_rule(reply) for reply in self._ask(AUDIT_LIST_RULES, b"", dump=True)]

    def send_user(self, record_type: int, text: bytes) -> None:
        """Have the kernel write a user-space record with ``msg='text'``; needs CAP_AUDIT_WRITE.

        The kernel acknowledges every type but, while audit is off, makes a record of USER_AVC alone.
        Raises ValueError for a type or a text that would not come out as given.
        """
        if not is_user(record_type):
            msg = f"{record_type} is not a user-space record type"
            raise ValueError(msg)
        if not 0 < len(text) <= TEXT_MAX or b"\0" in text or b"'" in text:
            msg = f"text must have 1 to {TEXT_MAX} bytes, none of them NUL or a single quote"
            raise ValueError(msg)
        # the kernel overwrites the last byte with NUL, so it has to be one that we can spare
        self._ask(record_type, text + b"\0")

    def _ask(self, request: int, payload: bytes, *, dump: bool | None = None) -> list[bytes]:
        """Send one request; return the payloads of its replies once it is acknowledged and complete.

        `dump` is None for a request without reply, False for one reply, True for replies up to NLMSG_DONE.
        The reply comes from a kernel thread of its own: it may be queued before or after the acknowledgement.
        """
        if request not in {AUDIT_GET, AUDIT_LIST_RULES} and not is_user(request):
            msg = f"request {request} could change the audit state"
            raise ValueError(msg)
        self._seq += 1
        header = HEADER.pack(HEADER_SIZE + len(payload), request, NLM_F_REQUEST | NLM_F_ACK, self._seq, 0)
        deadline = time.monotonic() + self._timeout
        try:
            self._sock.settimeout(self._timeout)
            self._sock.sendto(header + payload, (0, 0))
            replies: list[bytes] = []
            acknowledged, complete = False, dump is None
            while not (acknowledged and complete):
                self._sock.settimeout(max(deadline - time.monotonic(), 0.001))
                kind, body = self._reply()
                if kind == NLMSG_ERROR:
                    number = -_ERROR.unpack_from(body)[0]
                    if number:
                        raise refused(number, request, self._proc)
                    acknowledged = True
                elif kind == NLMSG_DONE:
                    complete = True
                elif kind == request:
                    replies.append(body)
                    complete = complete or not dump
        except TimeoutError as error:
            message = f"the kernel did not answer audit request {request} within {self._timeout:g} s"
            raise AuditUnavailable(message, "try again; if it persists, look at the kernel log") from error
        except OSError as error:
            raise refused(error.errno or 0, request, self._proc) from error
        return replies

    def _reply(self) -> tuple[int, bytes]:
        """Return type and payload of the next message that answers the current request."""
        while True:
            data, (port, _groups) = self._sock.recvfrom(65536)
            if port or len(data) < HEADER_SIZE:
                continue
            _length, kind, _flags, seq, _port = HEADER.unpack_from(data)
            body = data[HEADER_SIZE:]
            # a late answer to a request that timed out has an older number
            if seq == self._seq and not (kind == NLMSG_ERROR and len(body) < _ERROR.size):
                return kind, body


def parse_status(payload: bytes) -> AuditStatus:
    """Read struct audit_status, which has grown at its end over the years: missing words are None.

    Raises AuditUnavailable for a payload shorter than the oldest form.
    """
    if len(payload) < _STATUS_MIN:
        message = f"the kernel's audit status has {len(payload)} bytes, {_STATUS_MIN} are the least"
        raise AuditUnavailable(message)
    words: list[int | None] = [word for (word,) in _WORD.iter_unpack(payload[: len(payload) & ~3])]
    words += [None] * 3
    fixed = [word or 0 for word in words[1:8]]
    return AuditStatus(*fixed, *words[8:11])


def count_rules(rules: list[bytes]) -> RulesCount:
    """Count struct audit_rule_data payloads; one too short to read counts as a rule that records."""
    recording = 0
    task_never = False
    for rule in rules:
        if len(rule) < _RULE.size:
            recording += 1
            continue
        flags, action, conditions = _RULE.unpack_from(rule)
        which = flags & ~_FILTER_PREPEND
        if which == _FILTER_TASK and action == _ACTION_NEVER and not conditions:
            task_never = True
        if which != _FILTER_EXCLUDE and action != _ACTION_NEVER:
            recording += 1
    return RulesCount(len(rules), recording, task_never)


def refused(number: int, request: int, proc: Path = PROC) -> EnricherError:
    """Name the reason why the kernel refused `request` with errno `number`.

    ``audit_netlink_ok``: ECONNREFUSED from any user namespace but the initial one; EPERM for want of the
    capability and, for queries only, from any pid namespace but the initial one. What we hold tells the
    two apart. EACCES comes from a security module.
    """
    if is_user(request):
        name, bit = "CAP_AUDIT_WRITE", CAP_AUDIT_WRITE
    else:
        name, bit = "CAP_AUDIT_CONTROL", CAP_AUDIT_CONTROL
    if number == errno.ECONNREFUSED:
        return WrongNamespace(
            "the kernel refuses audit messages from this user namespace",
            "run in the initial user namespace (no rootless container, no unshare -U)",
        )
    if number == errno.EPERM and not has_capability(bit, proc):
        return MissingCapability(
            f"{name} is missing: the kernel refused audit request {request}",
            f"run as root, or give the service AmbientCapabilities={name}",
        )
    if number == errno.EPERM and not is_user(request):
        return WrongNamespace(
            f"the kernel refused audit request {request} although {name} is held",
            "queries are answered in the initial pid namespace only: run on the host or with --pid=host",
        )
    if number in {errno.EPERM, errno.EACCES}:
        return MissingCapability(
            f"audit request {request} was refused although {name} is held",
            "a security module forbids it (SELinux: the nlmsg permissions); look for its denial in the log",
        )
    return AuditUnavailable(f"audit request {request} failed: {os.strerror(number)}")
