# SPDX-License-Identifier: Apache-2.0
"""Whether an event's kernel context may be named as the one that acted, and why not.

Owns that one decision, which every view and filter takes from here, and the words for what is missing, which
are the same in every view. Never guesses a subject in place of a missing one, and never parses more of a
record than its ``pid=``.

Three things speak against a context: there is none; the kernel side marked its task as a bystander (a
kernel thread at work for somebody else, a softirq on top of whoever ran); or the record names another
process than the context does. The last one should never happen. If it does, the join is wrong or one of
the two is, and an identity that is in doubt is not reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from enricher import scan
from enricher.enrich.values import SAFE_DIGITS
from enricher.messages import ContextFlag
from enricher.sources.audit.types import is_user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enricher.messages import Context
    from enricher.model import Event

# IntFlag operations build an enum member each time (about 1 us); these are tested once per event.
_SUBJECT = int(ContextFlag.SUBJECT)
_KTHREAD = int(ContextFlag.KTHREAD)
_INTERRUPT = int(ContextFlag.INTERRUPT)
_AFTER_SERVING = int(ContextFlag.AFTER_SERVING)

SYSCALL = 1300
URINGOP = 1336
CONFIG_CHANGE = 1305
_LOGIN = 1006

# Their `pid=` is task_tgid_nr(current), written by the kernel: the same task the context describes.
# So is that of the records user-space programs send: the kernel puts it before the program's text.
_PID: Final = b" pid="
_SPACE: Final = 0x20
_PID_IS_CURRENT = frozenset((SYSCALL, URINGOP, _LOGIN))


class Attribution(NamedTuple):
    """``context`` is set only when it may be put forward as the subject's; else ``reason`` says why not."""

    context: Context | None
    reason: str


def _bystander(flags: int) -> str:
    if flags & _INTERRUPT:
        return "no subject: interrupt"
    if flags & _KTHREAD:
        return "no subject: kernel thread"
    return "no subject: the record is not about the task that wrote it"


def _other_pid(text: bytes, pid: int) -> int:
    """Return the first ``pid=`` of a record where it is another than this one; -1 if there is none, or none other.

    In the record types asked for, nothing that a process can choose stands before it.
    """
    start = text.find(_PID)
    if start < 0:
        return -1
    data, at, end = text, start + len(_PID), len(text)
    stop = scan.digits(data, at, end)
    if stop == at or (stop < end and data[stop] != _SPACE):
        return -1
    # Nearly always it is this one.
    if stop - at <= SAFE_DIGITS and scan.number(data, at, stop) == pid:
        return -1
    written = int(data[at:stop])
    return -1 if written == pid else written


def attribute(event: Event) -> Attribution:
    """Decide for one event. ``reason`` is "" when the context is good and nothing of it is missing."""
    context = event.context
    if context is None:
        return Attribution(None, "no kernel context")
    against = _against(event, context)
    return Attribution(None, against) if against else Attribution(context, left_doubt(context.flags))


def subject_context(event: Event) -> Context | None:
    """Return the context that `attribute` would, for who has no use for the reason."""
    context = event.context
    return None if context is None or _against(event, context) else context


def _against(event: Event, context: Context) -> str:
    """Return what speaks against an event's context; "" where nothing does."""
    flags = context.flags
    if not flags & _SUBJECT:
        return _bystander(flags)
    for record in event.records:
        number = record.type
        if number == CONFIG_CHANGE and b" op=updated_rules " in record.text:
            # A rule followed its file: the task renamed or made the file and knows nothing of the rule.
            return _bystander(0)
        if number in _PID_IS_CURRENT or is_user(number):
            pid = _other_pid(record.text, context.pid)
            if pid >= 0:
                return f"context not used: it is of pid {context.pid}, the record says {pid}"
            break
    return ""


def left_doubt(flags: int) -> str:
    """Return the words for a context of these flags that may stand for the subject, "" where there are none."""
    return "the task had already left its namespaces" if flags & _AFTER_SERVING else ""


def not_read(kinds: Sequence[str]) -> str:
    """Return the words for kinds of namespaces that a context lacks; "" for none."""
    return f"not read: namespaces {', '.join(kinds)}" if kinds else ""


def reason_of(event: Event, doubt: str) -> str:
    """Return all that is missing of an event, in words; "" when nothing is. ``doubt`` is about its context."""
    reason = event.reason
    if doubt and (event.context is not None or event.recalled is not None or not reason):
        # Without a context, the stage that waited for it knows better why than "no kernel context".
        return f"{reason}; {doubt}" if reason else doubt
    return reason
