# SPDX-License-Identifier: Apache-2.0
"""Accounts for every record between the start nonce and the stop nonce.

Owns the figures of one run and the words they are reported in. Never decides anything: it is told
which events were given out and what the kernel side and the socket counted.

The window is bounded by serials, not by time: a record before the start nonce's serial was
finished before the programs were proved to see all, one after the stop nonce's is not ours any
more. Both are counted apart and are never held against the balance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.model import Context, ContextFlag, Event

if TYPE_CHECKING:
    from collections.abc import Iterable

_HALF: Final = 1 << 31
_SERIALS: Final = 1 << 32


def serial_of(stamp: bytes) -> int:
    """The serial of a well-formed stamp."""
    return int(stamp[stamp.rindex(b":") + 1 :])


def serial_before(serial: int, other: int) -> bool:
    """Whether `serial` was taken before `other`; the 32-bit counter wraps, so half its range is past."""
    return (serial - other) % _SERIALS >= _HALF


class KernelCounts(NamedTuple):
    """What sources other than the event stream counted; None where a source keeps no count."""

    netlink_drops: int
    ring_drops: int
    hook_misses: int | None
    hook_failures: int


class Summary(NamedTuple):
    """The figures of a run; all in records unless named otherwise."""

    events: int
    finished: int  # the kernel side counted them in the window
    delivered: int  # read from netlink in the window
    joined: int  # of those, with the context of their task
    without_context: int
    missing: int  # counted by the kernel side and never read
    incomplete_events: int
    malformed: int
    before: int
    after: int
    no_subject_events: int
    self_events: int
    counts: KernelCounts

    @property
    def unmatched(self) -> int:
        """Records on one side only: read without a context, or counted and never read."""
        return self.without_context + self.missing

    @property
    def balanced(self) -> bool:
        """Whether every record that the kernel finished was read and joined."""
        return self.unmatched == 0 and self.malformed == 0 and self.finished == self.delivered


class Ledger:
    """One run's account. `start` is the start nonce's serial, None where there was none."""

    def __init__(self, start: int | None) -> None:
        self._start = start
        self._stop: int | None = None
        self.events = 0
        self.finished = 0
        self.delivered = 0
        self.joined = 0
        self.without_context = 0
        self.missing = 0
        self.incomplete_events = 0
        self.malformed = 0
        self.before = 0
        self.after = 0
        self.no_subject_events = 0
        self.self_events = 0

    def stop_at(self, serial: int) -> None:
        """Close the window at the stop nonce's serial."""
        self._stop = serial

    def is_before(self, event: Event) -> bool:
        """Whether the event was finished before the window opened."""
        return (
            self._start is not None
            and not event.malformed
            and serial_before(serial_of(event.stamp), self._start)
        )

    def is_after(self, event: Event) -> bool:
        """Whether the event began after the window was closed."""
        return (
            self._stop is not None
            and not event.malformed
            and serial_before(self._stop, serial_of(event.stamp))
        )

    def account(self, events: Iterable[Event]) -> None:
        """Enter events that were given out."""
        for event in events:
            records = len(event.records)
            if self.is_before(event):
                self.before += records
                continue
            if self.is_after(event):
                self.after += records
                continue
            self.events += 1
            if event.self_caused:
                self.self_events += 1
            self.delivered += records
            if event.malformed:
                self.malformed += records
                continue
            if event.context is None:
                self.without_context += records
            else:
                self.joined += records
                if not event.context.is_subject:
                    self.no_subject_events += 1
            if not event.complete:
                self.incomplete_events += 1
            if event.expected:
                self.finished += event.expected
                self.missing += max(event.expected - records, 0)
            elif event.context is not None:
                self.finished += records

    def account_unread(self, events: Iterable[Event]) -> None:
        """Enter events of which the kernel side told and no record was ever read."""
        for event in events:
            if self.is_before(event) or self.is_after(event):
                continue
            total = event.expected
            if not total and event.context is not None:
                total = 1 if event.context.flags & ContextFlag.STANDALONE else 0
            self.finished += total
            self.missing += total

    def summary(self, counts: KernelCounts) -> Summary:
        """Freeze the figures."""
        return Summary(
            self.events,
            self.finished,
            self.delivered,
            self.joined,
            self.without_context,
            self.missing,
            self.incomplete_events,
            self.malformed,
            self.before,
            self.after,
            self.no_subject_events,
            self.self_events,
            counts,
        )


def words(summary: Summary) -> str:
    """The summary as the lines that `run` prints when it ends."""
    counts = summary.counts
    misses = "not counted by this kernel" if counts.hook_misses is None else str(counts.hook_misses)
    rows = [
        (
            "events",
            f"{summary.events}  ({summary.incomplete_events} incomplete, {summary.self_events} our own)",
        ),
        ("records finished by the kernel", str(summary.finished)),
        ("records delivered", str(summary.delivered)),
        ("  joined with their context", str(summary.joined)),
        ("  without a context", str(summary.without_context)),
        ("records finished and not delivered", str(summary.missing)),
        ("malformed records passed through", str(summary.malformed)),
        ("outside the run (before, after)", f"{summary.before}, {summary.after}"),
        ("lost: netlink, ring, re-entry", f"{counts.netlink_drops}, {counts.ring_drops}, {misses}"),
        ("failed reads in the kernel side", str(counts.hook_failures)),
    ]
    verdict = (
        "every record is accounted for" if summary.balanced else "NOT every record could be joined: see above"
    )
    width = max(len(name) for name, _ in rows)
    return "\n".join([f"{name:<{width}}  {value}" for name, value in rows] + [verdict])


__all__ = ["Context", "KernelCounts", "Ledger", "Summary", "serial_before", "serial_of", "words"]
