# SPDX-License-Identifier: Apache-2.0
"""A capture through the stages again: the same batches, the same answers, so the same bytes. And logs with a journal.

Owns the order in which frames are taken, and which events are looked up. Never asks the host for anything: what it
needs to know is in the capture, or in the journal, or is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher.correlate.logjoin import DAEMON, FROM_LOG, FROM_LOG_KNOWN
from enricher.errors import DamagedInput
from enricher.model import Batch, KernelCounts
from enricher.runtime.stages import Opening, Stages
from enricher.sources.capture import Answer, End, Head, Stop
from enricher.sources.journal import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from enricher.correlate.ledger import Summary
    from enricher.model import Event, Recalled
    from enricher.sources.capture import Frame
    from enricher.sources.journal import JournalReader
    from enricher.sources.recorded import RecordedNames

_DAMAGED: Final = "the journal is damaged"


class Recall:
    """Gives a log's events what a journal has kept of them. ``damage`` is what ended that early, ``found`` counts."""

    def __init__(self, journal: JournalReader) -> None:
        self._journal = journal
        self.damage: DamagedInput | None = None
        self.found = 0

    def fill(self, events: list[Event]) -> None:
        """Look up each event; what is not found says why."""
        for event in events:
            if event.malformed:
                continue
            found = self._of(event)
            if isinstance(found, str):
                event.reason = f"{event.reason}; {found}"
            else:
                event.recalled = found
                event.reason = event.reason.replace(FROM_LOG, FROM_LOG_KNOWN, 1)
                self.found += 1

    def _of(self, event: Event) -> Recalled | str:
        if self.damage is not None:
            return _DAMAGED
        # What auditd says of itself has serials of its own, which are not the kernel's.
        if any(record.type in DAEMON for record in event.records):
            return UNKNOWN
        try:
            return self._journal.find(event.stamp, event.node)
        except DamagedInput as error:
            self.damage = error
            return _DAMAGED


def replay(  # noqa: PLR0913 - the parts of one run
    head: Head,
    frames: Iterable[Frame],
    names: RecordedNames,
    emit: Callable[[list[Event]], None],
    stop: Callable[[], bool] = lambda: False,
    learn: Callable[[Batch], None] | None = None,
) -> tuple[Summary, DamagedInput | None]:
    """Process what follows a capture's head; returns the account, and the damage that ended it early.

    The answers that a batch gave rise to stand behind it in the file: they are entered before the batch is
    processed. `stop` is asked between batches.
    """
    stages = Stages(Opening(head.pid, head.run, head.start), emit, learn)
    last = Batch([], [], [], parked=False, now=0.0, wall=0.0)
    counts = KernelCounts()
    summary: Summary | None = None
    damage: DamagedInput | None = None
    waiting: Batch | End | None = None

    def process() -> None:
        nonlocal waiting, last, counts, summary
        if isinstance(waiting, Batch):
            stages.take(waiting)
            last = waiting
            counts = waiting.counts or counts
        elif waiting is not None:
            summary = stages.finish(waiting.now, waiting.wall, waiting.counts)
        waiting = None

    try:
        for frame in frames:
            if isinstance(frame, Answer):
                names.learn(frame.kind, frame.number, frame.name)
                continue
            process()
            if stop():
                break
            if isinstance(frame, Stop):
                stages.ledger.stop_at(frame.serial)
            elif not isinstance(frame, Head):
                waiting = frame
    except DamagedInput as error:
        damage = error
    if not stop():
        process()
    if summary is None:
        summary = stages.finish(last.now, last.wall, counts)
    return summary, damage
