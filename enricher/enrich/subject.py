# SPDX-License-Identifier: Apache-2.0
"""Who acted: the member ``subject``, from the kernel side's context where there is one, else from the primary record.

Owns which member comes from where (see `enrich.native`). Never decides whether the context may stand for the subject.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from enricher.enrich.values import text_of
from enricher.model import UNSET

if TYPE_CHECKING:
    from enricher.enrich.shape import Fields, PidEntry, Subject
    from enricher.model import Context

CREDENTIALS: Final = ("uid", "gid", "euid", "suid", "fsuid", "egid", "sgid", "fsgid")


def pids_of(context: Context) -> list[PidEntry]:
    """Return the process's number in each pid namespace that it is in, outermost first."""
    return [{"ns": level.ns, "pid": level.pid} for level in context.levels]


def subject_of(context: Context | None, fields: Fields) -> Subject:
    """Put the subject together, of numbers of 32 bits as the kernel has; an empty dict if nothing is known of it."""
    subject: dict[str, object] = {}
    get = fields.get
    if context is not None:
        subject["pid"] = context.pid
        subject["tid"] = context.tid
        subject["ppid"] = context.ppid
        subject["start"] = str(context.start)
        subject["comm"], exact = text_of(context.comm)
        if exact is not None:
            subject["comm_hex"] = exact
        _copy_text(fields, subject, "exe")
        subject["pids"] = pids_of(context)
        auid: object = context.auid
        ses: object = context.ses
    else:
        for name in ("pid", "ppid"):
            value = get(name)
            if isinstance(value, int) and 0 <= value <= UNSET:
                subject[name] = value
        _copy_text(fields, subject, "comm")
        _copy_text(fields, subject, "exe")
        auid = get("auid")
        ses = get("ses")
    if isinstance(auid, int) and 0 <= auid < UNSET:
        subject["auid"] = auid
    if isinstance(ses, int) and 0 <= ses < UNSET:
        subject["ses"] = ses
    for name in CREDENTIALS:
        value = get(name)
        if isinstance(value, int) and 0 <= value <= UNSET:
            subject[name] = value
    return cast("Subject", subject)


def _copy_text(fields: Fields, subject: dict[str, object], name: str) -> None:
    """Take a text and its exact bytes, if they stand apart, from the record. ``(null)`` is no text."""
    value = fields.get(name)
    if isinstance(value, str) and value not in ("(null)", "?"):
        subject[name] = value
        exact = fields.get(name + "_hex")
        if isinstance(exact, str):
            subject[name + "_hex"] = exact
