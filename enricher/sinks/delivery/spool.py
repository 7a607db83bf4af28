# SPDX-License-Identifier: Apache-2.0
"""A destination's queue on disk: what waits outlives the process.

Owns what is given up over size and age, what waits in memory while the disk takes nothing, and the account of what
is missing. Never skips what was not told to be done, raises nothing once it is open, and waits for nothing in `put`
but the file system.

Promised (docs/delivery.md): what `put` has written when it returns outlives a kill. The courier's thread brings it to
the disk every `sync` seconds; what was put since may be lost to a power cut, and no more.

What was taken and is not done is in the courier's hands. Its segments are not given up, nor are those before: so
nothing is told to be lost that is sent all the same. The next `take` says that nothing is in its hands any more.
"""

from __future__ import annotations

import os
import time
from collections import deque
from threading import Condition, Lock
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.clock import SystemClock
from enricher.errors import OutputFailed
from enricher.sinks.delivery.account import Account
from enricher.sinks.delivery.givenup import POLICIES
from enricher.sinks.delivery.memory import TAKE_BYTES, weight
from enricher.sinks.delivery.segment import Reader, Stored
from enricher.sinks.delivery.segments import Segment, Segments, cost
from enricher.sinks.delivery.spooldir import Cursor, Directory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enricher.clock import Clock
    from enricher.model import Loss
    from enricher.sinks.delivery.message import Message

RETRY: Final = 1.0
"""Seconds between two tries to write where the disk took nothing."""
_LOOK_AT_AGE: Final = 1.0  # seconds between two looks
_SEGMENTS: Final = 8  # at least, in the size that is allowed: the oldest goes whole
_WRITE: Final = 1 << 20  # bytes that the policy is asked about at once
_AT_THE_END: Final = 5.0  # seconds for a `take` to end


class Limits(NamedTuple):
    """What a spool may take."""

    size: int
    """Bytes on disk."""

    age: float = 0.0
    """Seconds after which what was not delivered goes, whatever the policy; 0: never."""

    policy: str = "drop_oldest"
    held: int = 4 << 20
    """Bytes of memory for what the disk does not take."""

    segment: int = 8 << 20
    """Bytes of a segment; fewer where the spool is small."""

    sync: float = 1.0
    """Seconds that a power cut may cost."""


class _Taken(NamedTuple):
    number: int  # -1: it was held in memory, and is nowhere else
    after: int  # records of all messages up to and with this one
    message: Message


class Spool:
    """See `message.Queue`. Raises OutputFailed and UsageError where it cannot be opened; later nothing.

    ``error`` is why the file system did not do the last thing it was asked for, "" where it did; ``advice`` what was
    found damaged on opening; ``given_up`` counts what was lost.
    """

    def __init__(
        self,
        path: str,
        limits: Limits,
        *,
        clock: Clock | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        if limits.policy not in POLICIES or limits.size < 1:
            msg = f"no such spool: {limits}"
            raise ValueError(msg)
        self.error = ""
        self._limits = limits
        self._oldest_goes = limits.policy == "drop_oldest"
        self._clock = clock or SystemClock()
        self._wall = wall
        self._changed = Condition()
        self._saving = Lock()  # taken before the other
        self._held: deque[Message] = deque()
        self._held_bytes = 0
        self._retry_at = self._sync_at = self._look_at = 0.0
        self._window: deque[_Taken] = deque()  # given out, not done
        self._busy = False  # `take` is at work outside the lock
        self._closed = False
        self._reader: Reader | None = None
        self._reading: Segment | None = None
        self._reader_fd = -1
        self._garbage: list[str] = []  # segments that are done with, until the cursor says so on the disk
        self._directory = Directory(path)
        try:
            self._open()
        except OSError as error:
            self._directory.close()
            raise OutputFailed(f"cannot open the spool {path}: {error.strerror}") from error
        except BaseException:
            self._directory.close()
            raise

    def _open(self) -> None:
        cursor = self._directory.load()
        size = max(1, min(self._limits.segment, self._limits.size // _SEGMENTS))
        self._piece = min(size, _WRITE)
        self._log = Segments(self._directory, size, self._limits.age, self._wall)
        cut = self._log.load(cursor)
        self.advice = self._log.advice
        if cursor is None:
            # Where it cannot be read, all that is there is delivered once more.
            first = self._log.all[0].head if self._log.all else None
            cursor = Cursor(first.first, first.before) if first else Cursor(0, 0)
        self._account = Account(cursor)
        self.given_up = self._account.given_up
        self.given_up.add(*cut)
        self._read, self._read_before = cursor.done, cursor.before
        self._release()
        self._skip_gap(self._log.all[0] if self._log.all else None)
        self._save(clean=True)

    # -- the thread of records -----------------------------------------------------------------------

    def put(self, messages: Sequence[Message]) -> None:
        """See `Queue`. What is written when it returns outlives a kill; what the disk does not take is held."""
        with self._changed:
            done = 0
            if not self._closed:
                self._expire(pinned=bool(self._window) or self._busy)
                if self._flush():
                    done = self._append(messages)
            for message in messages[done:]:
                self._hold(message)
            self._changed.notify()

    def _append(self, messages: Sequence[Message]) -> int:
        """Return how many were dealt with: written, or given up by the policy. The others the disk did not take."""
        done = 0
        while done < len(messages):
            run, size = done, 0
            while run < len(messages) and size < self._piece and self._make_room(size + cost(messages[run])):
                size += cost(messages[run])
                run += 1
            if run == done:
                self.given_up.add_message(messages[done])
                done += 1
                continue
            written, error = self._log.append(messages[done:run])
            done += written
            if error is not None:
                self._retry_at = self._clock.monotonic() + RETRY
                self._complain("written", error)
                return done
            self.error = ""
        return done

    def _make_room(self, size: int) -> bool:
        if size > self._limits.size:
            return False  # nothing need go for what will not fit
        while self._log.used + size > self._limits.size:
            segment = self._oldest(pinned=bool(self._window) or self._busy) if self._oldest_goes else None
            if segment is None or segment is self._log.live:
                return False
            self._drop(segment)
        return True

    def _hold(self, message: Message) -> None:
        size = weight(message)
        fits = size <= self._limits.held and not self._closed
        while fits and self._held_bytes + size > self._limits.held:
            if not self._oldest_goes or not self._held:
                fits = False
                break
            oldest = self._held.popleft()
            self._held_bytes -= weight(oldest)
            self.given_up.add_message(oldest)
        if fits:
            self._held.append(message)
            self._held_bytes += size
        else:
            self.given_up.add_message(message)

    def _flush(self, *, at_once: bool = False) -> bool:
        """Write what is held; whether nothing is any more."""
        if self._window and self._window[-1].number < 0:
            return False  # what is held goes behind what was taken of it, which may have to be written first
        if not self._held:
            return at_once or self._clock.monotonic() >= self._retry_at
        if not at_once and self._clock.monotonic() < self._retry_at:
            return False
        for _ in range(self._append(list(self._held))):
            self._held_bytes -= weight(self._held.popleft())
        return not self._held

    # -- what is given up ----------------------------------------------------------------------------

    def _oldest(self, *, pinned: bool) -> Segment | None:
        """Return the oldest segment that may go; `pinned`: nothing of it is in the courier's hands."""
        for segment in self._log.all:
            if not pinned or (segment.head.first >= self._read and segment is not self._reading):
                return segment
        return None

    def _expire(self, *, pinned: bool) -> None:
        now = self._clock.monotonic()
        if not self._limits.age or now < self._look_at:
            return
        self._look_at = now + _LOOK_AT_AGE
        while segment := self._oldest(pinned=pinned):
            if segment.touched >= self._wall() - self._limits.age:
                return
            self._drop(segment)

    def _drop(self, segment: Segment) -> None:
        """Give up what is in a segment and not done."""
        first, last = segment.serials
        start, before = segment.head.first, segment.head.before
        if self._account.done > start:
            start, before, first = self._account.done, self._account.before, None
        self._account.lose(start, segment.end, segment.end_before - before, first, last)
        if segment.head.first <= self._read < segment.end:
            self._read, self._read_before = segment.end, segment.end_before
        if segment is self._reading:
            self._close_reader()
        self._window = deque(
            taken for taken in self._window if not segment.head.first <= taken.number < segment.end
        )
        self._log.forget(segment)
        try:
            self._directory.remove(segment.name)
        except OSError as error:
            self._complain("removed", error)

    def losses(self) -> Sequence[Loss]:
        """See `Queue`. Once it is closed there are none: what was not told by then, the next run tells."""
        with self._changed:
            if self._closed:
                return []
            losses, fresh = self._account.tell()
            self._catch_up()
        if fresh:
            self._save()
        return losses

    # -- the courier's thread ------------------------------------------------------------------------

    def take(self, most: int, timeout: float) -> Sequence[Message]:
        """See `Queue`."""
        with self._changed:
            if self._closed:
                return []
            while self._window and self._window[-1].number < 0:
                self._held.appendleft(self._window.pop().message)
            self._expire(pinned=False)
            self._flush()
            self._busy = True
        try:
            self._sync()
            can_read = self._fill(most)
            if not self._window and timeout > 0:
                with self._changed:
                    # What cannot be read now is no reason to try at once.
                    self._changed.wait_for(
                        lambda: self._closed or (can_read and not self._is_idle()), timeout
                    )
                self._fill(most)
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
        return [taken.message for taken, _ in zip(self._window, range(most), strict=False)]

    def _is_idle(self) -> bool:
        return self._read >= self._log.next and not self._held

    def _fill(self, most: int) -> bool:
        """Read, and say whether what there is could be."""
        while True:
            with self._changed:
                room = TAKE_BYTES - sum(weight(taken.message) for taken in self._window)
                wanted = most - len(self._window)
                if wanted <= 0 or (room <= 0 and self._window) or self._closed:
                    return True
                try:
                    segment = self._select()
                except OSError as error:
                    self._complain("read", error)
                    return False
                if segment is None:
                    self._take_held(wanted, room)
                    return True
                reader, size, end = self._reader, segment.size, segment.end
            assert reader is not None  # noqa: S101 - `_select` opened it
            found, at_end = self._read_some(reader, size, wanted, room)
            with self._changed:
                self._admit(found, end)
                if at_end and size == segment.size:
                    self._pass(segment.end, segment.end_before)

    def _read_some(self, reader: Reader, size: int, wanted: int, room: int) -> tuple[list[Stored], bool]:
        """Read so many messages or bytes; and whether there is no more, or nothing that can be read."""
        found = []
        try:
            for stored in reader.read(size, self._read):
                found.append(stored)
                wanted -= 1
                room -= weight(stored.message)
                if wanted <= 0 or room <= 0:
                    return found, False
        except OSError as error:
            with self._changed:
                self._complain("read", error)
                if self._reading is self._log.live:
                    self._log.seal()  # what comes next is to be read elsewhere
        return found, True

    def _select(self) -> Segment | None:
        """Return the segment that has the next message, open for reading; None where all were read."""
        while self._read < self._log.next:
            segment = self._reading
            if segment is not None and self._read < segment.end:
                return segment
            self._close_reader()
            segment = next((segment for segment in self._log.all if segment.end > self._read), None)
            self._skip_gap(segment)
            if segment is None:
                return None
            try:
                self._reader_fd = self._directory.open(segment.name, os.O_RDONLY)
            except FileNotFoundError:
                self._pass(segment.end, segment.end_before)  # somebody removed it
                continue
            self._reading, self._reader = segment, Reader(self._reader_fd, segment.head)
        return None

    def _catch_up(self) -> None:
        """Do not look for what is behind us: a gap that was told, and is next, was passed."""
        if self._account.done > self._read:
            self._read, self._read_before = self._account.done, self._account.before

    def _skip_gap(self, segment: Segment | None) -> None:
        """Go on at this segment's first message, at the end where there is none."""
        if segment is None:
            self._pass(self._log.next, self._log.before)
        else:
            self._pass(segment.head.first, segment.head.before)

    def _pass(self, number: int, before: int) -> None:
        """Go on at this message; those before it that were not read are lost."""
        if number > self._read:
            self._account.lose(self._read, number, before - self._read_before)
            self._read, self._read_before = number, before

    def _admit(self, found: list[Stored], end: int) -> None:
        for stored in found:
            if not self._read <= stored.number < end:
                continue  # no record of ours has such a number there
            self._pass(stored.number, stored.before)
            after = stored.before + stored.message.records
            self._window.append(_Taken(stored.number, after, stored.message))
            self._read, self._read_before = stored.number + 1, after

    def _take_held(self, wanted: int, room: int) -> None:
        while self._held and wanted > 0 and room > 0:
            wanted -= 1
            room -= weight(self._held[0])
            self._window.append(_Taken(-1, 0, self._held.popleft()))

    def _close_reader(self) -> None:
        fd, self._reader_fd = self._reader_fd, -1
        self._reader = self._reading = None
        if fd >= 0:
            os.close(fd)

    def done(self, count: int) -> None:
        """See `Queue`. The receiver's progress outlives a kill when it returns."""
        with self._changed:
            if self._closed:
                return  # the directory may be another's: who has it sends it again
            last = None
            for _ in range(count):
                taken = self._window.popleft()
                if taken.number < 0:
                    self._held_bytes -= weight(taken.message)
                else:
                    last = taken
            if last is not None:
                self._account.advance(last.number + 1, last.after)
            self._catch_up()
            self._release()
        self._save(clean=True)

    def _release(self) -> None:
        """Let go the segments that are done with; their files go once that is on the disk."""
        while (
            self._log.all
            and self._log.all[0].end <= self._account.done
            and self._log.all[0] is not self._log.live
        ):
            segment = self._log.all[0]
            if segment is self._reading:
                self._close_reader()
            self._log.forget(segment)
            self._garbage.append(segment.name)

    # -- the disk ------------------------------------------------------------------------------------

    def _save(self, *, clean: bool = False, sync: bool = False) -> None:
        """Write the cursor; `clean`: and then remove what it says is done with."""
        with self._saving:
            with self._changed:
                cursor = self._account.cursor()
                garbage = list(self._garbage) if clean else []
            try:
                # A power cut that kept the removal and not the cursor would make a loss of what was delivered.
                self._directory.save(cursor, sync=sync or bool(garbage))
                for name in garbage:
                    self._directory.remove(name)
            except OSError as error:
                self._complain("written", error)
                return
            with self._changed:
                self._garbage = self._garbage[len(garbage) :]

    def _sync(self, *, at_once: bool = False) -> None:
        with self._changed:
            now = self._clock.monotonic()
            if not self._log.dirty or not (at_once or now >= self._sync_at):
                return
            self._sync_at = now + self._limits.sync
            names = list(self._log.dirty)
            self._log.dirty.clear()
        try:
            self._directory.sync(names)
        except OSError as error:
            self._complain("synchronised", error)

    def _complain(self, what: str, error: OSError) -> None:
        self.error = f"the spool {self._directory.path} cannot be {what}: {error.strerror}"

    def close(self) -> None:
        """Bring all to the disk and let others have it; what the disk does not take is given up."""
        with self._changed:
            if self._closed:
                return
            while self._window and self._window[-1].number < 0:
                self._held.appendleft(self._window.pop().message)
            self._flush(at_once=True)
            self._closed = True
            for message in self._held:
                self.given_up.add_message(message)
            self._held.clear()
            self._held_bytes = 0
            self._log.seal()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._busy, _AT_THE_END)
        self._sync(at_once=True)
        self._save(clean=True, sync=True)
        self._close_reader()
        self._directory.close()

    # -- what is told --------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """See `Queue`."""
        with self._changed:
            on_disk = self._log.next - self._account.done - self._account.missing()
            return on_disk + len(self._held) + sum(1 for taken in self._window if taken.number < 0)

    @property
    def size(self) -> int:
        """See `Queue`."""
        return self._log.bytes + self._held_bytes
