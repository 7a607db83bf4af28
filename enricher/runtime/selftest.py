# SPDX-License-Identifier: Apache-2.0
"""Proves that the hook sees what the plain symbol may miss, and finds the serials that bound a run.

Owns the nonce: a USER_AVC record, which the kernel accepts even with audit disabled and writes
from inside kernel/audit.c, where a split audit_log_end is bypassed. Never keeps what it read: all
records, contexts and tallies that came meanwhile are handed back, none is lost.
"""

from __future__ import annotations

import enum
import os
import select
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.sources.audit.text import split_stamp, stamp_of

if TYPE_CHECKING:
    from enricher.model import Context, Record, Tally
    from enricher.sources.audit.control import AuditControl
    from enricher.sources.audit.source import Source
    from enricher.sources.bpf.loader import Loaded

USER_AVC: Final = 1107
_WAIT: Final = 3.0
_PARKED_WAIT_MS: Final = 1


class Proof(enum.Enum):
    """What a nonce record told."""

    PROVED = "proved"  # read from netlink and seen by the hook
    HOOK_MISSED = "hook missed it"  # read from netlink, not seen by the hook
    NOT_DELIVERED = "not delivered"  # seen by the hook, not read from netlink
    SILENT = "silent"  # neither: a rule drops USER_AVC records


class Trial(NamedTuple):
    """One nonce's outcome and serial (None where silent), and all that was read while waiting for it.

    `drops` is the socket's count of drops from before the nonce was sent.
    """

    proof: Proof
    serial: int | None
    records: list[Record]
    contexts: list[Context]
    tallies: list[Tally]
    drops: int = 0


def new_nonce() -> bytes:
    """Sixteen characters that nobody else can have written."""
    return os.urandom(8).hex().encode()


def send_and_wait(  # noqa: PLR0913 - both ends of the test, and what it is told apart by
    nonce: bytes,
    word: bytes,
    control: AuditControl,
    socket: Source,
    loaded: Loaded,
    pid: int,
    wait: float = _WAIT,
) -> Trial:
    """Send the nonce as USER_AVC and wait at most `wait` seconds for both sides to show it.

    `word` says what it is for ("start", "stop"); `pid` is our own, by which the hook's context is
    recognised where netlink delivers nothing. Raises what `AuditControl.send_user` raises.
    """
    drops = socket.drops()
    control.send_user(USER_AVC, b"nonce=%b op=audit-enricher-%b" % (nonce, word))
    needle = b"nonce=" + nonce
    records: list[Record] = []
    contexts: list[Context] = []
    tallies: list[Tally] = []
    stamp: bytes | None = None
    seen = False
    deadline = time.monotonic() + wait
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    left = wait
    while left:
        left = max(0.0, deadline - time.monotonic())  # at 0 a last look: this process may have stood still
        poll.poll(left * 1000 if stamp is None else min(left * 1000, _PARKED_WAIT_MS))
        batch = socket.receive()
        records += batch
        for record in batch:
            if record.type == USER_AVC and needle in record.text:
                stamp = stamp_of(record.text)
        # Each time, as in the loop proper: the rings have to take what comes while we wait.
        more_contexts, more_tallies = loaded.drain()
        contexts += more_contexts
        tallies += more_tallies
        if stamp is not None:
            # The record was received, so its context is committed; only an uncommitted one can hide it.
            seen = any(context.stamp == stamp for context in contexts)
            if seen or not loaded.parked:
                break
        elif socket.ended:
            break  # and readable from now on
    if stamp is not None:
        proof = Proof.PROVED if seen else Proof.HOOK_MISSED
    else:
        own = [
            context.stamp for context in contexts if context.pid == pid and context.record_type == USER_AVC
        ]
        proof = Proof.NOT_DELIVERED if own else Proof.SILENT
        stamp = own[-1] if own else None
    return Trial(proof, split_stamp(stamp)[2] if stamp else None, records, contexts, tallies, drops)
