# SPDX-License-Identifier: Apache-2.0
"""Chooses the function through which every finished audit record passes.

Owns the order of preference and the reasons given for it (docs/adr/0001-audit-hook.md). Never
loads anything: the choice is a list of candidates, the start-up tries them and proves the first
that works with a nonce record.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from enricher.errors import NoHook

if TYPE_CHECKING:
    from enricher.sources.bpf.features import Found


class Hook(enum.Enum):
    """The value is what the command line and the reports call it."""

    PLAIN = "audit_log_end"
    PART = "audit_log_end.part.0"
    QUEUE = "skb_queue_tail"


PROGRAM = {Hook.PLAIN: "record_end", Hook.PART: "record_end_part", Hook.QUEUE: "record_queued"}
"""The program of ``bpf/audit.bpf.c`` for each hook."""

CAVEATS = {
    Hook.PLAIN: "",
    Hook.PART: "",
    Hook.QUEUE: "sees records only after the kernel's rate limit, and runs for other sockets' traffic too",
}


class Candidate(NamedTuple):
    """A hook worth trying, and why."""

    hook: Hook
    reason: str


def candidates(plain: Found, part: Found, queue: Found) -> list[Candidate]:
    """The hooks to try, best first.

    `plain` and `queue` say whether fentry can attach to audit_log_end and skb_queue_tail, `part`
    whether a kprobe can be set on audit_log_end.part.0. Raises NoHook where nothing is left.
    """
    chosen = []
    if part.yes:
        # The plain symbol would miss the callers inside kernel/audit.c, so it is not a candidate.
        chosen.append(Candidate(Hook.PART, "GCC split audit_log_end; its part sees every record"))
    elif part.no and not plain.no:
        chosen.append(Candidate(Hook.PLAIN, "audit_log_end is one function and sees every record"))
    elif not part.no:
        doubt = f"whether GCC split audit_log_end is not known ({part.reason}), the self-test decides"
        if not plain.no:
            chosen.append(Candidate(Hook.PLAIN, doubt))
        chosen.append(Candidate(Hook.PART, doubt))
    if not queue.no:
        chosen.append(Candidate(Hook.QUEUE, "last resort: the queueing of the finished record"))
    if not chosen:
        raise NoHook(
            f"no function to attach to: {plain.reason}; {part.reason}; {queue.reason}",
            "the kernel needs CONFIG_AUDIT, CONFIG_DEBUG_INFO_BTF and CONFIG_FUNCTION_TRACER",
        )
    return chosen
