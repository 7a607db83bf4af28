# SPDX-License-Identifier: Apache-2.0
"""All segments of a spool: which there are, and the one that is written to.

Owns appending, when a new segment begins, what a failed write leaves, and what is found on opening. Never decides
what is kept, and holds no lock: who uses it does.

A run never writes to a segment of an earlier one, so nothing that a crash left is ever written behind.
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from enricher.sinks.delivery.segment import (
    HEAD_SIZE,
    NUMBER_MAX,
    RECORD_HEAD,
    Head,
    Reader,
    decode_head,
    encode,
    encode_head,
    new_head,
    tail,
)
from enricher.sinks.delivery.spooldir import segment_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enricher.sinks.delivery.message import Message
    from enricher.sinks.delivery.spooldir import Cursor, Directory

BLOCK: Final = 4096
"""Bytes that a segment counts for beside its own: many small ones take more of a disk than they have."""

_PACKED: Final = 32  # bytes of msgpack beside texts and body, at most
_WRITE: Final = 1 << 20  # bytes in one call, about


def cost(message: Message) -> int:
    """Return about how many bytes of a segment a message takes."""
    return RECORD_HEAD + _PACKED + len(message.uid) + len(message.type) + len(message.body)


class Segment:
    """One file. Its messages have numbers from ``head.first`` up to and without ``end``."""

    __slots__ = ("end", "end_before", "head", "made", "name", "serials", "size", "touched")

    def __init__(self, head: Head, size: int, made: float) -> None:
        self.name = segment_name(head.first)
        self.head = head
        self.end, self.end_before = head.first, head.before
        self.size = size
        self.made = made
        self.touched = made
        """When it was last written to, seconds since the epoch."""
        self.serials: tuple[int | None, int | None] = (None, None)
        """Of the first and the last message, where this run wrote them."""


class Segments:
    """``next`` is the number of the message that is appended next, ``before`` the records of all before it.

    ``dirty`` are those that may not be on the disk yet. Raises OSError and UsageError where they cannot be read.
    """

    def __init__(self, directory: Directory, size: int, age: float, wall: Callable[[], float]) -> None:
        self._directory = directory
        self._size = size
        self._age = age
        self._wall = wall
        self._fd = -1
        self.all: list[Segment] = []
        self.bytes = 0
        self.next = self.before = 0
        self.dirty: dict[str, None] = {}
        self.advice = ""
        """One sentence on what was found damaged on opening."""

    @property
    def used(self) -> int:
        """Bytes that count towards the limit, with those of the two segments that one `append` may begin."""
        return self.bytes + (BLOCK + HEAD_SIZE) * (len(self.all) + 2)

    @property
    def live(self) -> Segment | None:
        """The one that is written to."""
        return self.all[-1] if self._fd >= 0 else None

    # -- opening -------------------------------------------------------------------------------------

    def load(self, cursor: Cursor | None) -> tuple[int, int]:
        """Take in what is there; return messages and records that were cut off at the end, half written."""
        cut = (0, 0)
        for name in self._directory.segments():
            self._load_head(name)
        for segment, after in zip(self.all, self.all[1:], strict=False):
            segment.end, segment.end_before = after.head.first, after.head.before
            for gap in sorted(cursor.gaps if cursor else (), reverse=True):
                if gap.end == segment.end and gap.first >= segment.head.first:
                    segment.end, segment.end_before = gap.first, segment.end_before - gap.records
        if self.all:
            cut = self._load_tail(self.all[-1])
            self.next, self.before = self.all[-1].end, self.all[-1].end_before
            if self.all[-1].end == self.all[-1].head.first:
                self._drop_empty()
        for gap in sorted(cursor.gaps if cursor else ()):
            if gap.end > self.next:  # it was the last that there was
                self.next, self.before = gap.end, self.before + gap.records
        if cursor is not None and cursor.done > self.next:
            # A power cut took what had been delivered, or it was damaged since.
            cut = max(0, cut[0] - cursor.done + self.next), max(0, cut[1] - cursor.before + self.before)
            self.next, self.before = cursor.done, cursor.before
        if cut[0]:
            self.advice = (
                f"the spool {self._directory.path} ends in a message that is cut off, and was cut there"
            )
        return cut

    def _load_head(self, name: str) -> None:
        fd = self._directory.open(name, os.O_RDONLY)
        try:
            status = os.fstat(fd)
            head = decode_head(os.pread(fd, HEAD_SIZE, 0), f"{self._directory.path}/{name}")
        finally:
            os.close(fd)
        if head is not None and segment_name(head.first) == name:
            segment = Segment(head, status.st_size, status.st_mtime)
            self.all.append(segment)
            self.bytes += segment.size
        elif status.st_size <= HEAD_SIZE:
            self._directory.remove(name)  # cut off before its first message
        else:
            self._directory.set_aside(name)
            self.advice = f"{self._directory.path}/{name} cannot be read, and is {name}.damaged now"

    def _load_tail(self, segment: Segment) -> tuple[int, int]:
        fd = self._directory.open(segment.name, os.O_RDWR)
        try:
            reader = Reader(fd, segment.head)
            segment.end, segment.end_before, *cut = tail(reader, segment.head, segment.size)
            if reader.good < segment.size:
                os.ftruncate(fd, reader.good)
                self.bytes -= segment.size - reader.good
                segment.size = reader.good
        finally:
            os.close(fd)
        return cut[0], cut[1]

    # -- writing -------------------------------------------------------------------------------------

    def append(self, messages: Sequence[Message]) -> tuple[int, OSError | None]:
        """Write them; return how many are there whole, and why not all."""
        done = 0
        while done < len(messages):
            try:
                segment = self._segment()
            except OSError as error:
                return done, error
            written, failed = self._write(segment, messages, done)
            done += written
            if failed is not None:
                return done, failed
        return done, None

    def _segment(self) -> Segment:
        """Return the one to write to, a new one where the last is full, or so old that its age is too coarse."""
        live, now = self.live, self._wall()
        if (
            live is not None
            and live.size < self._size
            and not (self._age and now - live.made > self._age / 8)
        ):
            return live
        self.seal()
        if self.next >= NUMBER_MAX:  # four billion a second for thirty years
            raise OSError(0, "the spool's numbers are used up")
        head = new_head(self.next, self.before)
        name = segment_name(head.first)
        fd = self._directory.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        data = encode_head(head)
        try:
            _write_all(fd, data)
            os.fchmod(fd, 0o600)
        except OSError:
            os.close(fd)
            self._directory.remove(name)
            raise
        self._fd = fd
        segment = Segment(head, HEAD_SIZE, now)
        self.all.append(segment)
        self.bytes += HEAD_SIZE
        return segment

    def _write(self, segment: Segment, messages: Sequence[Message], start: int) -> tuple[int, OSError | None]:
        records: list[bytes] = []
        number, before, size = self.next, self.before, segment.size
        most = min(self._size, segment.size + _WRITE)
        for message in messages[start:]:
            if size >= most:
                break
            records.append(encode(segment.head, number, before, message))
            number += 1
            before += message.records
            size += len(records[-1])
        self.dirty[segment.name] = None
        failed = None
        try:
            _write_all(self._fd, b"".join(records))
            whole = len(records)
        except _WriteError as error:
            failed = error.cause
            whole = sum(1 for end in accumulate(map(len, records)) if end <= error.written)
        size = sum(map(len, records[:whole]))
        segment.size += size
        self.bytes += size
        if whole:
            written = messages[start : start + whole]
            self.next += whole
            self.before += sum(message.records for message in written)
            segment.end, segment.end_before = self.next, self.before
            segment.touched = self._wall()
            first, _ = segment.serials
            segment.serials = first or written[0].serial or None, written[-1].serial or segment.serials[1]
        if failed is not None:
            try:
                os.ftruncate(self._fd, segment.size)
            except OSError:
                self.seal()  # half a record stays behind it; what follows has a file of its own
        return whole, failed

    def seal(self) -> None:
        """Write no more to the present segment; an empty one goes, since the next will have its name."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        os.close(fd)
        if self.all[-1].end == self.all[-1].head.first:
            self._drop_empty()

    def _drop_empty(self) -> None:
        segment = self.all[-1]
        self.forget(segment)
        with suppress(OSError):  # the one that has its name next is made of it
            self._directory.remove(segment.name)

    def forget(self, segment: Segment) -> None:
        """Take it from the list; removing the file is another matter."""
        if segment is self.live:
            os.close(self._fd)
            self._fd = -1
        self.all.remove(segment)
        self.bytes -= segment.size
        self.dirty.pop(segment.name, None)


class _WriteError(OSError):
    """A write ended early: so many bytes are there."""

    def __init__(self, written: int, cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror)
        self.written = written
        self.cause = cause


def _write_all(fd: int, data: bytes) -> None:
    sent = 0
    rest = memoryview(data)
    while sent < len(data):
        try:
            sent += os.write(fd, rest[sent:])
        except OSError as error:
            raise _WriteError(sent, error) from error
