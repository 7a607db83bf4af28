# SPDX-License-Identifier: Apache-2.0
"""Records as auditd's dispatcher hands them to a plugin: lines, or what `frames` makes lines of, on standard input.

Owns reading them at once, whatever the rest of the program is doing: auditd's own queue is small, and what it cannot
get rid of it throws away or waits for. So a thread reads, into memory with a limit; what is beyond it is dropped and
counted. Never answers, and never changes a byte of the kernel's text: with ``log_format = ENRICHED`` auditd adds its
own words behind a separator, and those go.

auditd's own records (DAEMON_*, 1200 to 1299) are left out: the kernel has not written them. So are another host's
(``node=``): their serials are of another kernel.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from enricher.model import Record
from enricher.sources.audit.frames import Frames
from enricher.sources.audit.receiver import BATCH
from enricher.sources.logformat import LINE_MAX, Lines, LogCounts

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.sources.logformat import LogRecord

_BLOCK: Final = 1 << 16
_ENOUGH: Final = LINE_MAX + 1
"""Bytes of one line: what is beyond is left out anyway, and that there is more marks the record as cut."""
_DAEMON: Final = range(1200, 1300)
_ENRICHED: Final = re.compile(rb"\x1d(?:[A-Z][A-Z0-9_]*=(?:\"[^\"']*\"|[^ \x1d'\"]*) ?)+").fullmatch
_PATIENCE: Final = 20.0
"""auditd starts its plugins before it asks the kernel for records, and reads its configuration in between."""


class PluginReader:
    """A `Source` over a descriptor, which it closes. `receive_buffer` is what may wait, in bytes; one read always may.

    Ends where the other end is closed: auditd does that when it ends, or is told that there is no such plugin any more.
    `begin` is called in the thread that reads, first of all: it needs no privilege of its maker's.
    """

    way = "plugin"
    batch = BATCH
    buffer_limited = False
    patience = _PATIENCE
    unheard = "auditd has to be running and registered with the kernel (auditctl -s), and to have started this plugin"

    def __init__(self, fd: int, receive_buffer: int, begin: Callable[[], None] = lambda: None) -> None:
        self.receive_buffer = receive_buffer
        self.foreign = 0
        self.overflows = 0
        self._counts = LogCounts()
        self._lines = Lines(self._counts)
        self._frames = Frames()
        self._node: bytes | None = None  # what the first record had
        self._records: deque[Record] = deque()  # taken apart, and not yet received
        self._fd = fd
        self._lock = threading.Lock()
        self._blocks: deque[bytes] = deque()
        self._waiting = 0  # bytes in them
        self._dropped = 0
        self._at_end = False
        self._finished = False  # the last line was taken, whether it was whole or not
        self._begin = begin
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        threading.Thread(target=self._read, name="auditd", daemon=True).start()

    @property
    def truncated(self) -> int:
        """Records that were longer than any line may be."""
        return self._counts.truncated

    @property
    def ended(self) -> bool:
        """See `Source`."""
        return self._finished and not self._records

    def fileno(self) -> int:
        """See `Source`."""
        return self._wake

    def drops(self) -> int:
        """See `Source`: exact, since whole lines are dropped."""
        return self._dropped

    def receive(self) -> list[Record]:
        """See `Source`."""
        records = self._records
        while len(records) < self.batch and (block := self._next()):
            for each in self._lines.feed(block):
                self._take(each)
        if self._at_end and not self._blocks:
            for each in self._lines.finish(cut=True):  # auditd ends each with a newline
                self._take(each)
            self._finished = True
        return [records.popleft() for _ in range(min(len(records), self.batch))]

    def leave(self) -> bool:
        """See `Source`: auditd ends its plugins, and not they auditd."""
        return False

    def close(self) -> None:
        """See `Source`. The thread ends with what it reads: a pipe that nobody closes keeps it, as a daemon."""
        with self._lock:
            wake, self._wake = self._wake, -1
        if wake >= 0:
            os.close(wake)

    def queued(self) -> int:
        """See `Source`."""
        return self._waiting

    def _take(self, each: LogRecord) -> None:
        record = each.record
        number, text = record.type, record.text
        if number in _DAEMON:
            return
        if number:
            if self._node is None:
                self._node = each.node
            elif each.node != self._node:
                self.foreign += 1
                return
        at = text.rfind(b"\x1d")
        # What a program wrote stands within msg='...': a separator of its own has an apostrophe behind it.
        if at >= 0 and _ENRICHED(text, at):
            text = text[:at]
            record = Record(number, text, record.truncated)
        self._records.append(record)

    def _next(self) -> bytes:
        with self._lock:
            if not self._blocks:
                if not self._records:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._wake)
                    if self._at_end:
                        os.eventfd_write(self._wake, 1)  # it stays readable: whoever waits learns of the end
                return b""
            block = self._blocks.popleft()
            self._waiting -= len(block)
            return block

    def _read(self) -> None:
        self._begin()
        rest = b""  # of a line whose end has not come: no more than shows that it is too long
        while block := self._read_block():
            end = block.rfind(b"\n") + 1
            if end:
                begin = block.index(b"\n") if len(rest) == _ENOUGH else 0
                self._hand_on(rest + block[begin:end])
                rest = b""
            rest = (rest + block[end:])[:_ENOUGH]
        if rest:
            self._hand_on(rest)
        with self._lock:
            self._at_end = True
            self._tell()

    def _read_block(self) -> bytes:
        while True:
            try:
                block = os.read(self._fd, _BLOCK)
            except OSError:
                block = b""
            if not block:
                return self._frames.finish()
            broken = self._frames.broken
            lines = self._frames.feed(block)
            if self._frames.broken > broken:
                with self._lock:
                    self._dropped += 1  # at least
                    self.overflows += 1
            if lines:
                return lines

    def _hand_on(self, lines: bytes) -> None:
        with self._lock:
            if self._waiting and self._waiting + len(lines) > self.receive_buffer:
                self._dropped += lines.count(b"\n") or 1
                self.overflows += 1
                return
            self._blocks.append(lines)
            self._waiting += len(lines)
            self._tell()

    def _tell(self) -> None:
        """The lock is held: the descriptor's number may be another file's once it is closed."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)
