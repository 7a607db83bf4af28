# SPDX-License-Identifier: Apache-2.0
"""Who watches the watcher: audit's own state changed, its rules taken away, a hook that sees nothing any more.

Owns what of that the events themselves tell, and in which words. Never asks the host: a replay tells the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from enricher.correlate.join import BEFORE_START, BEGUN_BEFORE_START
from enricher.model import Notice

if TYPE_CHECKING:
    from enricher.model import Event, Record

CONFIG_CHANGE: Final = 1305
"""Made by the kernel alone: it takes no such record from programs."""

BARE: Final = 64
"""Events without a context in a row, from which on it is doubted that the hook is there. A full ring does as much, so
the hook's own count has the last word."""

# audit_log_config_change(), audit_log_rule_change(): kernel/audit.c, kernel/auditfilter.c.
_SET: Final = re.compile(rb": op=set ([a-z_]+)=([0-9]+) old=([0-9]+) .*\bres=([01])\b")
_REMOVED: Final = re.compile(rb"\bop=remove_rule\b.*\bres=1\b")
_BY: Final = re.compile(rb" auid=([0-9]+) ses=([0-9]+) ")
_NOBODY: Final = b"4294967295"


class Watch:
    """One run's. `look` is asked about all events that are given out, `count` whenever the counts were read."""

    def __init__(self, *, blind: bool) -> None:
        self._expects = not blind
        self._bare = 0  # events without a context, since the last that had one
        self._base: int | None = None  # the hook's count when it was looked at first
        self._is_blind = False

    @property
    def doubts(self) -> bool:
        """Whether the hook may be gone: the counts are wanted."""
        return self._bare >= BARE and not self._is_blind

    def look(self, done: list[Event]) -> list[Notice]:
        """What the events tell of audit and of the hook; each has a record at least."""
        told: list[Notice] = []
        if done:
            last = done[-1]
            if last.context is None or self._bare or self._is_blind:
                self._look_for_contexts(done, told)
        removed = 0
        for event in done:
            record = event.records[0]
            if record.type == CONFIG_CHANGE:
                for record in event.records:
                    if record.type == CONFIG_CHANGE:
                        removed += _REMOVED.search(record.text) is not None
                        told += _changed(record)
        if removed:
            told.append(Notice("audit", f"rules of audit were removed: {removed}"))
        return told

    def _look_for_contexts(self, done: list[Event], told: list[Notice]) -> None:
        for event in done:
            if event.context is not None:
                self._bare = 0
                self._base = None
                if self._is_blind:
                    self._is_blind = False
                    told.append(Notice("blind", "the hook sees records again: events have contexts"))
            elif self._expects and event.reason not in (BEFORE_START, BEGUN_BEFORE_START):
                self._bare += not event.malformed

    def count(self, hook_records: int) -> list[Notice]:
        """The hook's own count of records so far. Two that are equal, with events in between, and it is gone."""
        if not self.doubts:
            return []
        if self._base is None:
            self._base = hook_records
            self._bare = BARE - 1  # one more event is asked for
            return []
        if self._base != hook_records:
            self._bare = 0
            self._base = None
            return []
        self._is_blind = True
        return [
            Notice("blind", "the hook sees none of the records that come: it was taken away or switched off")
        ]


def _changed(record: Record) -> list[Notice]:
    found = _SET.search(record.text)
    if found is None or found[2] == found[3]:
        return []
    name, now, before, done = (each.decode("ascii") for each in found.groups())
    by = _BY.search(record.text)
    who = "" if by is None or by[1] == _NOBODY else f", by auid {by[1].decode('ascii')}"
    verb = "was set" if done == "1" else "was refused to be set"
    return [Notice("audit", f"audit's {name} {verb} from {before} to {now}{who}")]
