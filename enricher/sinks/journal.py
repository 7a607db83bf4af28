# SPDX-License-Identifier: Apache-2.0
"""The journal: which context each event had, kept for the day when somebody reads auditd's log of it.

Owns what waits to be written and when it is, and what happens while it cannot be: events wait in bounded memory, the
oldest go first, and it is counted. Nothing here raises: the service does not fail because of its journal.

For each event a number is noted, that of its context: the rest is made when it is written. Nothing is written for the
sake of our own events alone: writing makes more of them where every system call is audited.

It is written beside the loop, which events must not wait for; one write at a time. What it comes to is taken in by the
loop: until then what it has of events, contexts and cgroups is as much ours as what came since.
"""

from __future__ import annotations

import math
import sqlite3
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enricher.clock import rfc3339
from enricher.enrich.attribution import subject_context
from enricher.enrich.metadata import said_text
from enricher.journalformat import NAME, Columns, numbers_of
from enricher.messages import ContextFlag
from enricher.model import CgroupOp
from enricher.recent import Recent
from enricher.sinks.journal_file import JournalFile, Unfit, is_damage, set_aside
from enricher.sinks.journal_rows import CgroupRow, ContextRow, Waiting, joined

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.clock import TurnClock
    from enricher.correlate.lives import Born, Lives
    from enricher.enrich.cgroups import CgroupTable
    from enricher.messages import Context
    from enricher.model import Batch, Event, HostFacts
    from enricher.sinks.aside import Aside, Task
    from enricher.sinks.journal_file import Gone

FLUSH_EVERY: Final = 5.0
"""Seconds for which an event waits."""
FLUSH_AT: Final = 4096
"""Events that are written at once, however long they have waited."""
HELD_MAX: Final = 65_536
"""Events that wait while the file cannot be written."""
KNOWN_MAX: Final = 16_384
"""Contexts whose numbers are remembered, with those of the generation before; cgroups, beyond which all are forgotten.
What is forgotten gets a new number."""
KEPT: Final = 300.0
"""Seconds for which one is remembered that has no events; a cgroup, after it was removed."""
FRESH_MAX: Final = 512 << 10
"""Bytes of contexts and cgroups that are not written yet; as many again are being written."""
TAKE_IN: Final = 0.25
"""Seconds after which to ask for the outcome of a write though nothing happens."""

_AFTER_SERVING: Final = int(ContextFlag.AFTER_SERVING)
_GONE: Final = (CgroupOp.REMOVED, CgroupOp.RELEASED)
_CONTEXT_SIZE: Final = 416
_FAILURES: Final = (sqlite3.Error, OSError, Unfit, UnicodeError)

_NOTHING: Final = Waiting(Columns([], [], []), {}, {}, {}, 0)

_Key = tuple[bytes, int, int, tuple[int | None, ...]]  # the context's, its cgroup, flags, and which lives


class Journal:
    """One run's part of the journal in `directory`. ``lost`` events were given up; ``failed`` counts writes.

    Without `aside` the caller of `begin` waits for the write. `close` is to come before that of `aside`.
    """

    def __init__(  # noqa: PLR0913 - what it stands between
        self,
        directory: str,
        facts: HostFacts,
        cgroups: CgroupTable,
        clock: TurnClock,
        say: Callable[[str], None],
        *,
        lives: Lives,
        max_size: int,
        max_age: float,
        aside: Aside | None = None,
    ) -> None:
        self._disk = aside
        self._task: Task[Gone] | None = None
        self._writing = _NOTHING  # what the task has
        self._used: dict[int, tuple[_Key, Context]] | None = None  # since it has it, by the context's number
        self.path = str(Path(directory, NAME))
        self._facts = facts
        self._cgroups = cgroups
        self._lives = lives
        self._clock = clock
        self._say = say
        self._max_size = max_size
        self._max_age = max_age
        self._waiting = Columns([], [], [])
        self._at: float | None = None  # when to write, while anything waits that is worth it
        self._known = Recent(KNOWN_MAX // 2, KEPT)
        self._born = Recent(KNOWN_MAX // 2, KEPT)  # by the context's key
        self._known_cgroups: dict[int, tuple[int, bytes]] = {}
        self._gone: deque[tuple[float, int, int]] = deque()  # when to forget a cgroup, its id, its number
        self._fresh: dict[int, ContextRow] = {}
        self._fresh_cgroups: dict[int, CgroupRow] = {}
        self._fresh_size = 0
        self._removed: dict[int, int] = {}
        self._next_context = self._next_cgroup = 1
        self.lost = 0
        self.failed = 0
        self.error = ""
        self._file: JournalFile | None = None
        self._open()

    # -- what happens ------------------------------------------------------------------------------------

    def take(self, events: list[Event]) -> None:
        """Note which context each event had, where one may stand for its subject."""
        known = self._known
        serials, times, numbers = self._waiting
        births, epoch, now = self._born, self._lives.epoch, self._clock.now
        used = self._used
        others = False
        for event in events:
            context = subject_context(event)
            if context is None:
                continue
            born = births.get(context.key, now)
            if born is None or born.epoch != epoch or not born.since <= context.time <= born.until:
                born = self._born_of(context)
            key = (context.key, context.cgroup_id, context.flags & _AFTER_SERVING, born.born)
            number = known.get(key, now)
            if number is None:
                number = self._enter(key, context)
                if not number:
                    continue
            stamp = numbers_of(event.stamp)
            if stamp is None:
                continue
            serials.append(stamp[0])
            times.append(stamp[1])
            numbers.append(number)
            if used is not None:
                used[number] = key, context
            others = others or not event.self_caused
        if others and self._at is None:
            self._at = self._clock.now + FLUSH_EVERY
        self._bound()

    def _bound(self) -> None:
        over = self._held() - HELD_MAX
        if over > 0:
            for column in self._waiting:
                del column[:over]
            self.lost += over

    def _held(self) -> int:
        """Return how many events wait, or are being written."""
        return len(self._waiting.serials) + len(self._writing.events.serials)

    def _born_of(self, context: Context) -> Born:
        """Return of which lives the context's numbers are, as an event that is made now has it."""
        born = self._lives.born_of(context.inums, context.ids, context.time)
        self._born.put(context.key, born, self._clock.now)
        return born

    def learn(self, batch: Batch) -> None:
        """Note which cgroups went, which have another path now, and of which something was said."""
        cgroups = self._known_cgroups
        for answer in batch.answers:
            self._outdate(answer.cgroup)
        for change in batch.cgroups:
            if change.op == CgroupOp.RENAMED:
                self._forget()  # of all below it as well
                continue
            known = cgroups.get(change.id)
            if known is None:
                continue
            number, path = known
            if change.op in _GONE:
                self._removed.setdefault(number, int(batch.wall * 1000))
                self._gone.append((self._clock.now + KEPT, change.id, number))
                if self._at is None:
                    self._at = self._clock.now + FLUSH_EVERY
            elif change.path and change.path != path:
                self._forget()
        self._forget_gone()

    def _forget_gone(self) -> None:
        while self._gone and self._gone[0][0] <= self._clock.now:
            _, ident, number = self._gone.popleft()
            if self._known_cgroups.get(ident, (0,))[0] == number:
                del self._known_cgroups[ident]

    def _outdate(self, ident: int) -> None:
        """From now on, have new rows for the cgroups that are in the same container as this one."""
        home = self._cgroups.of(ident)
        members = set() if home is None else home.inquiry.members.intersection(self._known_cgroups)
        if members:
            for member in members:
                del self._known_cgroups[member]
            self._known.keep(lambda key, _: key[1] not in members)

    def _forget(self) -> None:
        self._known.clear()
        self._known_cgroups.clear()

    def _enter(self, key: _Key, context: Context) -> int:
        """Give a context a number; 0 where there is no room for it."""
        if self._fresh_size > FRESH_MAX:
            self.lost += 1
            return 0
        if len(self._known_cgroups) >= KNOWN_MAX:
            self._forget()
        number = self._next_context
        self._next_context += 1
        cgroup = self._cgroup(context.cgroup_id) if context.cgroup_id else 0
        self._fresh[number] = ContextRow(cgroup, key[2], context.inums, context.ids, key[3])
        self._fresh_size += _CONTEXT_SIZE
        if self._fresh_size > FRESH_MAX // 2 and not self.error:
            self._at = self._clock.now
        self._known.put(key, number, self._clock.now)
        return number

    def _cgroup(self, ident: int) -> int:
        known = self._known_cgroups.get(ident)
        if known is not None:
            return known[0]
        number = self._next_cgroup
        self._next_cgroup += 1
        home = self._cgroups.of(ident)
        path = b"" if home is None else home.path
        said = None if home is None or home.inquiry.said is None else said_text(home.inquiry.said)
        self._fresh_cgroups[number] = CgroupRow(ident, path, said)
        self._fresh_size += _CONTEXT_SIZE + len(path) + len(said or "")
        self._known_cgroups[ident] = (number, path)
        return number

    # -- writing -----------------------------------------------------------------------------------------

    @property
    def patience(self) -> float:
        """Seconds after which to ask `due` again though nothing happens."""
        if self._task is not None:
            return TAKE_IN
        return math.inf if self._at is None else FLUSH_EVERY

    def due(self, now: float) -> bool:
        """Whether to `begin`. Takes in what was written meanwhile."""
        if self._task is not None:
            if not self._task.done:
                return False
            self._take_in()
        if self._at is not None and now >= self._at:
            return True
        return len(self._waiting.serials) >= FLUSH_AT and not self.error

    def begin(self, wall: float) -> None:
        """Have what waits written, beside the caller; does nothing while a write is under way.

        What cannot be written goes on waiting; `wall` is seconds since the epoch.
        """
        if self._disk is None:
            self.flush(wall)
        elif self._task is None and (file := self._ready()) is not None:
            writing, wall_ms = self._hand_over(), int(wall * 1000)
            self._used = {}
            self._task = self._disk.start(lambda: file.write_all(writing, wall_ms))

    def flush(self, wall: float) -> None:
        """Write what waits, at once: waits for a write that is under way, and for this one."""
        self._take_in()
        if (file := self._ready()) is None:
            return
        writing = self._hand_over()
        try:
            gone = file.write_all(writing, int(wall * 1000))
        except _FAILURES as error:
            self._take_back(error)
        else:
            self._let_go(gone)

    def _ready(self) -> JournalFile | None:
        """Return the file, where there is one and anything to write."""
        if not (self._waiting.serials or self._removed):
            self._at = None
            return None
        if self._file is None:
            self._open()
        if self._file is None:
            self._at = self._clock.now + FLUSH_EVERY
        return self._file

    def _hand_over(self) -> Waiting:
        """Return what waits; from now on nothing does."""
        self._writing = Waiting(
            self._waiting, self._fresh_cgroups, self._fresh, self._removed, self._fresh_size
        )
        self._waiting, self._fresh_cgroups, self._fresh, self._removed = Columns([], [], []), {}, {}, {}
        self._fresh_size = 0
        self._at = None
        return self._writing

    def _take_in(self) -> None:
        """Wait for the write that is under way, and see what came of it."""
        task, self._task = self._task, None
        if task is None:
            return
        try:
            gone = task.result()
        except _FAILURES as error:
            self._take_back(error)
        else:
            self._let_go(gone)

    def _take_back(self, error: Exception) -> None:
        """All that was handed over waits again, before what came since."""
        old, self._writing, self._used = self._writing, _NOTHING, None
        self._waiting = joined(old.events, self._waiting)
        self._fresh_cgroups = {**old.cgroups, **self._fresh_cgroups}
        self._fresh = {**old.contexts, **self._fresh}
        self._removed = {**self._removed, **old.removed}  # of two times the first is right
        self._fresh_size += old.size
        self._bound()
        self._failed(error)

    def _let_go(self, gone: Gone) -> None:
        """Forget the numbers of rows that are not in the file: they went, or no event was left that needs them."""
        self._writing = _NOTHING
        used, self._used = self._used or {}, None
        if gone.contexts:
            self._known.keep(lambda _, number: number not in gone.contexts)
        if gone.cgroups:
            self._known_cgroups = {
                ident: known for ident, known in self._known_cgroups.items() if known[0] not in gone.cgroups
            }
        if (gone.contexts or gone.cgroups) and used:
            self._renew(used, gone)
        if self.error:
            self.error = ""
            self._say(f"{self.path} can be written again")

    def _renew(self, used: dict[int, tuple[_Key, Context]], gone: Gone) -> None:
        """Give numbers of rows that will be there to what was noted with one that is not, while it was written."""
        absent: dict[int, tuple[_Key, Context]] = {}
        for number, noted in used.items():
            row = self._fresh.get(number)
            if number in gone.contexts or (row is not None and row.cgroup in gone.cgroups):
                absent[number] = noted
                if row is not None:
                    del self._fresh[number]
                    self._fresh_size -= _CONTEXT_SIZE
                if self._known.get(noted[0], self._clock.now) == number:
                    self._known.discard(noted[0])
        others = {
            number: self._known.get(key, self._clock.now) or self._enter(key, context)
            for number, (key, context) in absent.items()
        }
        if not others:
            return
        before = len(self._waiting.serials)
        renewed = Columns([], [], [])
        for serial, ms, number in zip(*self._waiting, strict=True):
            if other := others.get(number, number):
                renewed.serials.append(serial)
                renewed.times.append(ms)
                renewed.contexts.append(other)
        self._waiting = renewed
        self.lost += before - len(renewed.serials)

    def _failed(self, error: Exception) -> None:
        self._at = self._clock.now + FLUSH_EVERY
        self.failed += 1
        if is_damage(error):
            self._begin_anew(error)
            return
        self._tell(error)

    def _tell(self, error: Exception) -> None:
        said = (isinstance(error, OSError) and error.strerror) or str(error)
        if said != self.error:
            self.error = said
            self._say(f"{self.path} cannot be written: {said}; up to {HELD_MAX} events wait for it in memory")

    def _open(self) -> None:
        """Open the file or begin one; what keeps it from being had is told and tried again."""
        for _ in range(2):
            try:
                self._file = JournalFile(self.path, self._facts, self._max_size, self._max_age)
            except _FAILURES as error:
                if not is_damage(error):
                    self.failed += 1
                    self._tell(error)
                    return
                if not self._aside(error):
                    return
            else:
                self._renumber(self._file)
                return

    def _renumber(self, file: JournalFile) -> None:
        """Go on behind the numbers that the file has; what was noted before it could be opened comes along."""
        contexts, cgroups = file.next_context - 1, file.next_cgroup - 1
        if self._next_context == 1 or not (contexts or cgroups):
            self._next_context = max(self._next_context, file.next_context)
            self._next_cgroup = max(self._next_cgroup, file.next_cgroup)
            return
        self._give_up()
        self._next_context, self._next_cgroup = file.next_context, file.next_cgroup

    def _give_up(self) -> None:
        """Let go what is noted: its numbers are of another file."""
        self.lost += len(self._waiting.serials)
        self._waiting = Columns([], [], [])
        self._removed.clear()
        self._fresh.clear()
        self._fresh_cgroups.clear()
        self._fresh_size = 0
        self._forget()

    def _begin_anew(self, error: Exception) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._give_up()
        self._next_context = self._next_cgroup = 1
        if self._aside(error):
            self._open()

    def _aside(self, error: Exception) -> bool:
        try:
            set_aside(self.path, self._say, str(error))
        except OSError as failure:
            self._tell(failure)
            return False
        return True

    # -- what is told ------------------------------------------------------------------------------------

    def facts(self) -> dict[str, object]:
        """Return what `status` says of it."""
        size, events, oldest = 0, 0, None
        if self._file is not None:
            events = self._file.events
            try:
                oldest = self._file.oldest_ms
                size = sum(
                    path.stat().st_size
                    for path in (Path(self.path), Path(self.path + "-wal"))
                    if path.exists()
                )
            except _FAILURES:
                pass  # the next write tells it
        return {
            "path": self.path,
            "bytes": size,
            "max_bytes": self._max_size,
            "events": events,
            "oldest": None if oldest is None else rfc3339(*divmod(oldest, 1000)),
            "waiting": self._held(),
            "lost": self.lost,
            "failed": self.failed,
            "error": self.error,
        }

    def close(self, wall: float) -> None:
        """Write what waits, and close."""
        self.flush(wall)
        if left := len(self._waiting.serials):
            self._say(f"{self.path}: {left} events could not be written")
        if self._file is not None:
            self._file.close()
            self._file = None
