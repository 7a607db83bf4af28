# SPDX-License-Identifier: Apache-2.0
"""The state of the audit system: on or off, its limits, its rules, and what the rules keep from us.

Owns these rows. Asks the two questions that `AuditControl` knows and reads the kernel's command line;
never changes anything.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from enricher.errors import AuditUnavailable
from enricher.runtime.doctor.rows import Group, Host, Row, State, single
from enricher.sources.audit.rules import (
    ACTION_NEVER,
    FILTER_EXCLUDE,
    FILTER_TASK,
    Rule,
    excluded,
    swallowed,
)
from enricher.sources.audit.types import name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enricher.sources.audit.control import AuditStatus

_EOE: Final = 1320
_USER_AVC: Final = 1107
_SMALL_BACKLOG: Final = 1024  # one exec event is eight records; the kernel's own default holds eight events
_NAMES_SHOWN: Final = 12
_COMM: Final = "audit-enricher"
_FAILURES: Final = ("silent", "printk", "panic")


def _boot(host: Host) -> Row:
    """``audit_enable``: one audit=0 or audit=off switches audit off until the next boot."""
    words = host.read(host.proc / "cmdline").split()
    given = [word for word in words if word.startswith("audit=")]
    if any(word.partition("=")[2].lower() in {"0", "off"} for word in given):
        return Row(
            "audit-boot",
            State.FAIL,
            f"booted with {' '.join(given)}: no audit until the next boot",
            "boot with audit=1",
        )
    if given:
        return Row("audit-boot", State.OK, f"booted with {' '.join(given)}")
    return Row(
        "audit-boot",
        State.WARN,
        "booted without audit=1: tasks that were started before audit was switched on, and"
        " what they do, make no SYSCALL records",
        "boot with audit=1",
    )


def _state(host: Host) -> Iterator[Row]:
    try:
        with closing(host.control()) as control:
            status = control.status()
    except AuditUnavailable as error:
        yield Row("audit", State.FAIL, error.message, error.hint)
        raise
    yield _enabled(status)
    yield _failure(status)
    yield _backlog(status)
    yield _backlog_wait(status)
    yield _rate(status)
    yield _lost(status)
    yield _auditd(host, status)
    yield _daemon(host, status)


def _enabled(status: AuditStatus) -> Row:
    if not status.enabled:
        return Row(
            "audit",
            State.WARN,
            "off: only a few records are written",
            "auditctl -e 1, and boot with audit=1 to keep it",
        )
    return Row("audit", State.OK, "on" if status.enabled == 1 else "on, and locked until the next boot")


def _failure(status: AuditStatus) -> Row:
    word = _FAILURES[status.failure] if status.failure < len(_FAILURES) else "a mode we do not know"
    panics = ": the kernel stops where a record is lost" if word == "panic" else ""
    return Row("audit-failure", State.OK, f"{status.failure} ({word}){panics}")


def _backlog(status: AuditStatus) -> Row:
    limit = status.backlog_limit
    detail = f"{status.backlog} records wait, the limit is {limit or 'none'}"
    if limit and status.backlog * 2 > limit:
        return Row(
            "audit-backlog",
            State.WARN,
            detail,
            "auditd does not keep up, or is stopped: see it, or auditctl -b",
        )
    if limit and limit < _SMALL_BACKLOG:
        return Row(
            "audit-backlog",
            State.WARN,
            f"{detail}: a burst loses records before they are made",
            "auditctl -b 8192, and boot with audit_backlog_limit=8192",
        )
    return Row("audit-backlog", State.OK, detail)


def _backlog_wait(status: AuditStatus) -> Row:
    wait = status.backlog_wait_time
    if wait is None:
        return Row("audit-backlog-wait", State.UNKNOWN, "this kernel does not tell")
    if not wait:
        detail = "0: where the backlog is full, a record is lost at once"
        return Row("audit-backlog-wait", State.WARN, detail, "auditctl --backlog_wait_time 60000")
    return Row(
        "audit-backlog-wait", State.OK, f"{wait} jiffies at most for a task that finds the backlog full"
    )


def _rate(status: AuditStatus) -> Row:
    if status.rate_limit:
        return Row(
            "audit-rate-limit",
            State.WARN,
            f"what is more than {status.rate_limit} records a second is thrown away",
            "auditctl -r 0",
        )
    return Row("audit-rate-limit", State.OK, "none")


def _lost(status: AuditStatus) -> Row:
    if not status.lost:
        return Row("audit-lost", State.OK, "0 records lost by the kernel's count")
    if not status.pid:
        # Measured: the queue that waits for an auditd overflows although multicast delivered every record.
        detail = f"{status.lost} by the kernel's count, which also rises without any loss here while no auditd runs"
        return Row("audit-lost", State.OK, detail)
    return Row(
        "audit-lost",
        State.WARN,
        f"{status.lost} records lost by the kernel's count since boot, or since somebody reset it",
        "a larger backlog (auditctl -b), fewer rules; auditctl --reset-lost sets the count to 0",
    )


def _auditd(host: Host, status: AuditStatus) -> Row:
    if not status.pid:
        return Row("auditd", State.OK, "none: the kernel prints every record to its log as well")
    comm = _comm(host, status.pid) or "a name that cannot be read"
    return Row("auditd", State.OK, f"pid {status.pid}, {comm}")


def _comm(host: Host, pid: int) -> str:
    try:
        return host.read(host.proc / str(pid) / "comm").strip("\n")
    except OSError:
        return ""


def _daemon(host: Host, status: AuditStatus) -> Row:
    """Whether the service can have the audit daemon's slot, where it is to; what has our name is taken for it."""
    ours = bool(status.pid) and _comm(host, status.pid) == _COMM
    if not host.daemon:
        if ours:
            detail = f"pid {status.pid} is the audit daemon, and the configuration does not say so any more"
            return Row(
                "daemon-slot", State.WARN, detail, "the next start reads the multicast group: restart it"
            )
        return Row("daemon-slot", State.OK, "not asked for: records come by the multicast group")
    if not status.pid:
        detail = "free: the service, which service.daemon makes the audit daemon, will take it"
        return Row("daemon-slot", State.OK, detail)
    if ours:
        return Row("daemon-slot", State.OK, f"the service has it, pid {status.pid}")
    return Row(
        "daemon-slot",
        State.FAIL,
        f"service.daemon is true, and pid {status.pid} has the slot: the service refuses to start",
        "service.daemon = false reads beside it; to have its place, stop it and keep it from starting",
    )


def _rules(host: Host) -> Iterator[Row]:
    with closing(host.control()) as control:
        found = control.rules()
    yield _recording(found)
    rules = [rule for rule in found if rule]
    yield _task_never(rules)
    yield _swallowed(rules)
    yield _excluded(rules)


def _recording(found: list[Rule | None]) -> Row:
    """A rule that cannot be read may well record."""
    recording = sum(
        rule is None or (rule.action != ACTION_NEVER and rule.which != FILTER_EXCLUDE) for rule in found
    )
    if not recording:
        return Row(
            "rules",
            State.WARN,
            f"{len(found)} rules, none of which makes events: only logins, AVCs and the like appear",
            "load rules with auditctl; audit-enricher-sample.rules, which comes with this program, is an example",
        )
    unread = sum(rule is None for rule in found)
    more = f", {unread} of a form we do not know" if unread else ""
    return Row("rules", State.OK, f"{len(found)} rules, {recording} of which make events{more}")


def _task_never(rules: list[Rule]) -> Row:
    never = [rule for rule in rules if rule.which == FILTER_TASK and rule.action == ACTION_NEVER]
    if any(not rule.conditions for rule in never):
        return Row(
            "rule-task-never",
            State.WARN,
            "`-a never,task` is loaded: tasks started since are not audited whatever other rules say",
            "auditctl -d never,task, then start anew what is to be audited",
        )
    if never:
        return Row("rule-task-never", State.OK, f"{len(never)} `never,task` rules, for some tasks")
    return Row("rule-task-never", State.OK, "no `-a never,task`")


def _swallowed(rules: list[Rule]) -> Row:
    behind = swallowed(rules)
    if behind:
        return Row(
            "rules-swallowed",
            State.WARN,
            f"{behind} rules do nothing: they stand behind a `never,exit` for every system call",
            "order the rules: auditctl -l shows them as the kernel goes through them",
        )
    return Row("rules-swallowed", State.OK, "no rule stands behind a `never` for all")


def _excluded(rules: list[Rule]) -> Row:
    always, sometimes = excluded(rules)
    parts = []
    if always:
        parts.append(f"never written: {_named(always)}")
    if sometimes:
        parts.append(f"not written for some tasks: {_named(sometimes)}")
    if _EOE in always:
        parts.append("EOE is not needed")
    detail = "; ".join(parts) or "no record type is excluded"
    if set(always) | set(sometimes) <= {_EOE}:
        return Row("excluded-types", State.OK, detail)
    hint = (
        "these records are missing everywhere, in auditd's log too; the rules say `exclude` or `never,user`"
    )
    if _USER_AVC in always:
        hint += "; without USER_AVC the self-test cannot prove that the hook sees every record"
    return Row("excluded-types", State.WARN, detail, hint)


def _named(numbers: tuple[int, ...]) -> str:
    shown = ", ".join(name_of(number) for number in numbers[:_NAMES_SHOWN])
    more = len(numbers) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


GROUPS: Final = (
    single("audit-boot", _boot),
    Group(
        (
            "audit",
            "audit-failure",
            "audit-backlog",
            "audit-backlog-wait",
            "audit-rate-limit",
            "audit-lost",
            "auditd",
            "daemon-slot",
        ),
        _state,
    ),
    Group(("rules", "rule-task-never", "rules-swallowed", "excluded-types"), _rules),
)
