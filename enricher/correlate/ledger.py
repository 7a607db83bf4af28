# SPDX-License-Identifier: Apache-2.0
"""Accounts for every record between the start nonce and the stop nonce.

Owns the figures of one run and the words they are reported in. Never decides anything: it is told
which events were given out and what the kernel side and the socket counted.

Each cause of loss has a figure of its own, read from its own source (`KernelCounts`): nothing is
explained by subtraction, and what no source explains is a line of the account as well.

The window is bounded by serials, not by time: a record before the start nonce's serial was
finished before the programs were proved to see all, one after the stop nonce's is not ours any
more. Both are counted apart and are never held against the balance.

An event may be entered in several parts, and its records may come after they were called missing:
the figures are corrected by what the earlier parts of the same stamp entered.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher import scan
from enricher.model import FAILED_AT, ContextFlag, Event, KernelCounts

if TYPE_CHECKING:
    from collections.abc import Iterable

SERIALS: Final = 1 << 32
_SERIALS: Final = SERIALS
_HALF: Final = SERIALS // 2
_QUARTER: Final = SERIALS // 4
_OWED_MAX: Final = 4_096

_STANDALONE: Final = int(ContextFlag.STANDALONE)
_SUBJECT: Final = int(ContextFlag.SUBJECT)
_COLON: Final = 0x3A


def serial_of(stamp: bytes) -> int:
    """The serial of a well-formed stamp."""
    data, end = stamp, len(stamp)
    return scan.number(data, scan.find(data, _COLON, 0, end) + 1, end)


def serial_before(serial: int, other: int) -> bool:
    """Whether `serial` was taken before `other`; the 32-bit counter wraps, so half its range is past."""
    return (serial - other) % SERIALS >= _HALF


class Summary(NamedTuple):
    """The figures of a run; all in records unless named otherwise.

    ``finished`` is what the kernel side counted in the window; where it could not count an event, that
    many records as were read with its context.
    """

    events: int
    finished: int
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
    marked: bool  # both ends of the window are self-test records
    counts: KernelCounts  # since the start, not cut at the window's ends
    gap: Gap | None = None  # before the window
    blind: bool = False  # there was no kernel side: nothing was counted or joined

    @property
    def unmatched(self) -> int:
        """Records on one side only: read without a context, or counted and never read."""
        return self.without_context + self.missing

    @property
    def explained(self) -> int:
        """Records that a source says it dropped between the hook and the reader."""
        return self.counts.netlink_drops + (self.counts.rate_limit or 0)

    @property
    def never_made(self) -> int:
        """Records that the kernel could not make, or lost for a reason that is not known here."""
        counts = self.counts
        return sum(
            count or 0 for count in (counts.backlog, counts.memory, counts.lost_other, counts.lost_unseen)
        )

    @property
    def balanced(self) -> bool:
        """Whether every record that the kernel finished was read and joined.

        Not after a drop of the socket, even where no record is missing: what was dropped may have been
        in an event whose context or count is missing as well.
        """
        agreed = self.unmatched == 0 and self.malformed == 0 and self.finished == self.delivered
        return agreed and self.explained == 0 and self.never_made == 0


class Gap(NamedTuple):
    """The serials between two runs: what was finished there was read by neither.

    ``reason`` is "restart", where the run before closed its account; "crash", where it did not, and of the first
    of these serials some were read; or "boot", where these are all since the kernel started.
    """

    first: int
    last: int
    reason: str

    @property
    def events(self) -> int:
        """How many events there can have been: serials, of which some are never used."""
        return (self.last - self.first) % SERIALS + 1


class Missing(NamedTuple):
    """What was found missing since it was last asked for: serials, and how many records of which type."""

    first: int | None
    last: int | None
    types: tuple[tuple[int, int], ...]


class Ledger:
    """One run's account. `start` is the start nonce's serial, None where there was none.

    A run without a kernel side is `blind`: its account has what was read, and nothing to hold it against.
    """

    def __init__(self, start: int | None, *, blind: bool = False) -> None:
        self._blind = blind
        self._start = start
        self.gap: Gap | None = None
        self._start_marked = start is not None
        self._stop: int | None = None
        self._stop_marked = False
        self._last, self._last_serial = b"", 0  # the stamp whose serial was asked for last
        # Entered as missing, by stamp: they may still come.
        self._owed: OrderedDict[bytes, int] = OrderedDict()
        self._missing_types: Counter[int] = Counter()
        self._missing_first: int | None = None
        self._missing_last: int | None = None
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

    @property
    def started_at(self) -> int | None:
        """The start nonce's serial; None where there was none, or so long ago that nothing is from before it."""
        return self._start

    @property
    def stopped_at(self) -> int | None:
        """The stop nonce's serial, or the last that was read; None while the window is open."""
        return self._stop

    def stop_at(self, serial: int, *, marked: bool = True) -> None:
        """Close the window at the stop nonce's serial; if not `marked`, at the last that came before none did."""
        self._stop, self._stop_marked = serial, marked

    def is_before(self, event: Event) -> bool:
        """Whether the event was finished before the window opened."""
        if self._start is None or event.malformed:
            return False
        stamp = event.stamp
        if stamp is not self._last:  # it is asked more than once about an event
            self._last, self._last_serial = stamp, serial_of(stamp)
        start = self._start
        since = (self._last_serial - start) % _SERIALS
        if since >= _HALF:
            return True
        if since > _QUARTER:
            # A quarter of all serials later nothing from before is to come, and at half of them the
            # comparison would turn around: on a busy host that is a matter of days.
            self._start = None
        return False

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
            context = event.context
            if context is None:
                self.without_context += records
            else:
                self.joined += records
                if not context.flags & _SUBJECT:
                    self.no_subject_events += 1
            if event.complete is False:
                self.incomplete_events += 1
            self._enter(event, records)

    def account_unread(self, events: Iterable[Event]) -> None:
        """Enter events of which the kernel side told and no record was ever read."""
        for event in events:
            if not self.is_before(event) and not self.is_after(event):
                self._enter(event, 0)

    def _enter(self, event: Event, records: int) -> None:
        """Enter what the kernel finished of this stamp since its last part, and what of that is missing."""
        owed = self._owed.pop(event.stamp, 0)
        context = event.context
        if event.tally is not None or (context is not None and context.flags & _STANDALONE):
            due = event.expected
        elif context is not None:
            due = max(records, owed, 1)  # a context speaks of one record at least
        else:
            due = owed  # the kernel side did not count the others, if it saw them
        short = max(due - records, 0)
        self.finished += due - owed
        self.missing += short - owed
        if short > owed:
            self._note_missing(event, again=owed > 0)
        if short:
            self._owed[event.stamp] = short
            if len(self._owed) > _OWED_MAX:
                self._owed.popitem(last=False)  # stays missing, also if it should come

    def _note_missing(self, event: Event, *, again: bool) -> None:
        """Remember what a LOST event will say of it."""
        serial = serial_of(event.stamp)
        if self._missing_first is None or serial_before(serial, self._missing_first):
            self._missing_first = serial
        if self._missing_last is None or serial_before(self._missing_last, serial):
            self._missing_last = serial
        if again or event.part > 1:
            return  # the tally is of all parts, and what of it was noted or read is not known any more
        if event.tally is not None:
            counted = Counter[int]()
            for number, times in event.tally.runs:
                counted[number] += times
            self._missing_types += counted - Counter(record.type for record in event.records)
        elif event.context is not None and not event.records:
            self._missing_types[event.context.record_type] += 1

    def take_missing(self) -> Missing:
        """Return what was found missing since the last call."""
        taken = Missing(self._missing_first, self._missing_last, tuple(sorted(self._missing_types.items())))
        self._missing_types.clear()
        self._missing_first = self._missing_last = None
        return taken

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
            self._start_marked and self._stop_marked,
            counts,
            self.gap,
            self._blind,
        )


def _told(count: int | None, unit: str) -> str:
    return "not counted by this kernel" if count is None else f"{count} {unit}"


def _failed(counts: KernelCounts) -> str:
    """Return how many there were, and how many of them where."""
    places = [f"{count} {what}" for name, what in FAILED_AT.items() if (count := getattr(counts, name))]
    return f"{counts.hook_failures}  ({', '.join(places)})" if places else str(counts.hook_failures)


def words(summary: Summary) -> str:
    """The summary as the lines that `run` prints when it ends."""
    counts = summary.counts
    seen = counts.hook_records
    still_open = seen - counts.counted - counts.uncounted
    rows = [
        (
            "events",
            f"{summary.events}  ({summary.incomplete_events} incomplete, {summary.self_events} our own)",
        ),
        (
            "records finished by the kernel",
            "not counted: no hook" if summary.blind else str(summary.finished),
        ),
        ("records delivered", str(summary.delivered)),
        ("  joined with their context", str(summary.joined)),
        ("  without a context", str(summary.without_context)),
        ("records finished and not delivered", str(summary.missing)),
        ("malformed records passed through", str(summary.malformed)),
        ("outside the run (before, after)", f"{summary.before}, {summary.after}"),
        ("lost: netlink buffer full", f"{counts.netlink_drops} records"),
        ("lost: over the rate limit", _told(counts.rate_limit, "records")),
        ("lost: over the backlog limit", _told(counts.backlog, "records, never made")),
        ("lost: out of kernel memory", _told(counts.memory, "records, never made")),
        ("lost: ring full", f"{counts.contexts_dropped} contexts, {counts.tallies_dropped} tallies"),
        ("lost: re-entry of the hook", _told(counts.hook_misses, "contexts or counts")),
        ("failed reads in the kernel side", _failed(counts)),
        (
            "records the hook saw since attached",
            f"{seen}  ({counts.counted} told, {counts.uncounted} not told, {still_open} of events still open)",
        ),
    ]
    if (gap := summary.gap) is not None:
        rows.append(
            (
                "between the last run and this one",
                f"serials {gap.first} to {gap.last}, at most {gap.events} events ({gap.reason})",
            )
        )
    if counts.facts_dropped or counts.facts_missed:
        rows.append(
            (
                "lost: facts beside records",
                f"{counts.facts_dropped} for want of room, {counts.facts_missed} where a program was skipped",
            )
        )
    if counts.lost_other:
        rows.append(("lost: for another reason", f"{counts.lost_other} records"))
    if counts.lost_unseen:
        rows.append(("lost: for one of these, not seen which", f"{counts.lost_unseen} records"))
    if counts.auditd_queue:
        rows.append(("auditd's queue overflowed (not lost here)", f"{counts.auditd_queue} records"))
    if counts.status_lost is not None:
        rows.append(("the kernel's own `lost` since the start", str(counts.status_lost)))
    rows += [
        (name, str(count))
        for name, count in (
            ("messages of the kernel side not understood", counts.unknown_messages),
            ("records longer than what is received", counts.truncated),
            ("datagrams not from the kernel, refused", counts.foreign),
        )
        if count
    ]
    if summary.missing > summary.explained:
        rows.append(("missing, and explained by no count", str(summary.missing - summary.explained)))
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    if not summary.marked:
        lines.append(
            "(the run is not marked by a self-test record at both ends: records there may lack one side)"
        )
    if summary.blind:
        lines.append("NO record could be joined or counted: there was no hook")
    elif summary.balanced:
        lines.append("every record is accounted for")
    else:
        lines.append("NOT every record could be joined: see above")
    return "\n".join(lines)
