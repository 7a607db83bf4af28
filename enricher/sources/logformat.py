# SPDX-License-Identifier: Apache-2.0
"""The lines of an audit log: from blocks of bytes to records.

Owns what may stand before a record in a log and what to do with a line that is none. Never opens or reads
a file, never looks into a record's text, never changes a byte of it, and drops nothing but what it counts:
empty lines, our own lines but CONTAINER_ID of the kernel's events, and what is beyond `LINE_MAX`.

The forms; the record's text begins at ``audit(``:

- ``type=SYSCALL msg=audit(...): ...``: auditd's files, ``ausearch --raw``, our own text output;
- ``node=web1 type=...``: the same with auditd's ``name_format``;
- ``audit: type=1300 audit(...): ...``: the kernel's log, with or without ``[   12.345678]`` before it.

A line that is no record stands as ``type=UNKNOWN[0] msg=LINE`` in our text output, and is LINE again here.

Nothing else may stand before a record. In a syslog file the words before the message are chosen by
whoever logs: a line with a record somewhere inside is no record.

Any line can be hostile. The expression has no two ways to match a byte: it takes linear time.
"""

from __future__ import annotations

import re
from typing import Final

from enricher import scan
from enricher.model import Record
from enricher.sources.audit.types import OWN, number_of

LINE_MAX: Final = 65_536
"""Bytes of a line that are kept. The kernel writes no more than 16 KiB; auditd's ENRICHED adds names."""

_PREFIX_MAX: Final = 400  # what can stand before a record, and a little
_PREFIXES: Final = 4_096  # remembered: a type each, times the nodes
_MAX_TYPE: Final = 0xFFFF  # nlmsg_type is 16 bits wide
_NO_RECORD: Final = b"type=UNKNOWN[0] msg="  # our text output puts this before a line that was none

_split = re.compile(
    rb"(\[[^]\n]{1,40}\] (?=audit: ))?"
    rb"((?:node=[^ \n]{1,255} |audit: )?type=[A-Z0-9_\[\]]{1,40} (?:msg=)?)"
    rb"(audit\(([0-9]{1,19}\.[0-9]{1,9}:[0-9]{1,19})\):[^\n]*)"
    rb"|([^\n]+)"
).findall
_prefix = re.compile(rb"(?:node=([^ ]+) |audit: )?type=([^ ]+) (?:msg=)?").fullmatch

_AUDIT: Final = b"audit("
_NEWLINE: Final = 0x0A
_OPENING: Final = 0x28


class LogRecord:
    """One record of a log.

    `node` is what stood after ``node=``, b"" without it. `stamp` is the text's, and the same object where the record
    before has the same. It is None where the line is no audit record: then the record's type is 0 and its text the
    whole line.
    """

    __slots__ = ("node", "record", "stamp")

    def __init__(self, node: bytes, stamp: bytes | None, record: Record) -> None:
        self.node = node
        self.stamp = stamp
        self.record = record

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, LogRecord)
            and self.node == other.node
            and self.stamp == other.stamp
            and self.record == other.record
        )

    __hash__ = None  # type: ignore[assignment] # nothing keeps them by value

    def __repr__(self) -> str:
        return f"LogRecord({self.node!r}, {self.stamp!r}, {self.record!r})"


_OWN: Final = frozenset(OWN)
"""What our text output says beside the records."""
_CONTAINER_ID: Final = 1391
"""Is read, since in a log it is all that tells an identifier, but of an event of our own: those are left out, whole."""
_NO_SERIAL: Final = b":0"
"""Ends the stamp of an event of our own, and of no record of the kernel's."""


class _Prefix:
    """What stood before a record, ``audit(`` included, and what that says; ``next`` stood before the record behind it.

    Records of one kind of event follow each other in the same order, so the one of last time is most often right.
    """

    __slots__ = ("next", "node", "number", "written")

    def __init__(self, written: bytes, node: bytes, number: int, following: _Prefix | None) -> None:
        self.written = written
        self.node = node
        self.number = number
        self.next = self if following is None else following


_NONE: Final = _Prefix(b"\n", b"", 0, None)
"""Of no line: none has a newline."""


class LogCounts:
    """What was read, by kind; the sum of ``records``, ``own``, ``malformed`` and ``blank`` is ``lines``.

    ``own`` are lines that we wrote ourselves, ``malformed`` those that are no record, ``blank`` the empty
    ones. NUL bytes before a record, left by a crash, count as a line. ``truncated`` lines were longer than
    LINE_MAX, by ``skipped`` bytes in all, or their end was lost with the file's.
    """

    __slots__ = ("blank", "files", "lines", "malformed", "own", "records", "skipped", "truncated")

    def __init__(self) -> None:
        self.files = 0
        self.lines = 0
        self.records = 0
        self.own = 0
        self.malformed = 0
        self.blank = 0
        self.truncated = 0
        self.skipped = 0

    def __repr__(self) -> str:
        return " ".join(f"{name}={getattr(self, name)}" for name in self.__slots__)


def _type_of(name: bytes) -> int:
    """Return the number of the type, 0 if it is none."""
    number = int(name) if name.isdigit() else number_of(name.decode("ascii")) or 0
    return number if number <= _MAX_TYPE else 0


class Lines:
    """Splits one stream into records. What it gives does not depend on where the blocks end."""

    def __init__(self, counts: LogCounts) -> None:
        self._counts = counts
        # By what stands before a record. The type's number is 0 for what is no kernel record, or ours.
        self._prefixes: dict[bytes, _Prefix] = {}
        self._last = _Prefix(b"\n", b"", 0, _NONE)  # of the record before
        # A line whose end has not come: its parts, the bytes in them, the bytes beyond LINE_MAX.
        self._parts: list[bytes] = []
        self._kept = 0
        self._beyond = 0
        self._return = False  # its last byte so far is a carriage return

    def feed(self, block: bytes) -> list[LogRecord]:
        """The records in the lines that end in `block`."""
        out: list[LogRecord] = []
        end = block.rfind(b"\n") + 1
        begin = 0
        if end and self._kept:
            begin = block.index(b"\n") + 1
            self._keep(block[: begin - 1])
            self._end_line(out)
        if begin < end:
            self._take(block[begin:end], out)
        self._keep(block[end:])
        return out

    def finish(self, *, cut: bool = False) -> list[LogRecord]:
        """The record in a last line without a newline; `cut` says that its end is known to be missing."""
        out: list[LogRecord] = []
        if self._kept:
            self._end_line(out, cut=cut)
        return out

    def _keep(self, part: bytes) -> None:
        if part:
            self._return = part.endswith(b"\r")
            room = LINE_MAX - self._kept
            if room:
                self._parts.append(part[:room])
            self._beyond += max(len(part) - room, 0)
            self._kept += min(len(part), room)

    def _end_line(self, out: list[LogRecord], *, cut: bool = False) -> None:
        line = b"".join(self._parts)
        beyond = self._beyond
        self._parts.clear()
        self._kept = self._beyond = 0
        self._counts.lines += 1
        if self._return and beyond:
            beyond -= 1
        elif self._return:
            line = line[:-1]
        if line:
            self._line(line, out, beyond, cut=cut)
        else:
            self._counts.blank += 1

    def _take(self, block: bytes, out: list[LogRecord]) -> None:  # noqa: PLR0912 - a call for each line costs too much
        """Take whole lines apart, all at once."""
        if block.find(b"\r") >= 0:  # one byte is looked for ten times as fast as two
            block = block.replace(b"\r\n", b"\n")
        counts = self._counts
        data, size = block, len(block)
        short = LINE_MAX - _PREFIX_MAX
        lines = records = blank = end = 0
        # The stamp of the record before, most often this one's too, and how a text with it begins.
        stamp, head = b"", b"\n"
        last = self._last
        while end < size:
            begin = end
            end = scan.find(data, _NEWLINE, begin, size)
            lines += 1
            if begin == end:
                blank += 1
            else:
                # The short way, for what `_split` would find too: a prefix that it has found, and a stamp behind it.
                known = last.next
                if not scan.is_at(data, known.written, begin, end):
                    known = last
                    if not scan.is_at(data, known.written, begin, end):
                        known = self._prefix_at(block, begin, end)
                at = begin + len(known.written)
                if not known.number or end - begin > short:
                    stop = 0
                elif scan.is_at(data, head, at, end):
                    stop = at
                else:
                    stop = scan.stamp_end(data, at, end)
                    if stop:
                        stamp, head = data[at:stop], data[at : stop + 2]
                if stop:
                    if known is not last:  # of the same kind there may be several
                        last.next = known
                        last = known
                    # Without a call of __init__, which is half of the time that an object takes, compiled.
                    record = Record.__new__(Record)
                    record.type, record.text, record.truncated = known.number, data[at - 6 : end], False
                    each = LogRecord.__new__(LogRecord)
                    each.node, each.stamp, each.record = known.node, stamp, record
                    out.append(each)
                    records += 1
                else:
                    self._line(data[begin:end], out)
            end += 1
        self._last = last
        counts.lines += lines
        counts.records += records
        counts.blank += blank

    def _prefix_at(self, block: bytes, begin: int, end: int) -> _Prefix:
        """Return what is known of the prefix of a line of this block; that of no line where nothing is."""
        at = scan.find(block, _OPENING, begin, end) + 1
        found = self._prefixes.get(block[begin:at])
        return _NONE if found is None else found

    def _line(self, line: bytes, out: list[LogRecord], beyond: int = 0, *, cut: bool = False) -> None:
        """Take one line apart; `beyond` bytes of it have been left out already, more are missing if `cut`."""
        beyond += max(len(line) - LINE_MAX, 0)
        line = line[:LINE_MAX]
        truncated = cut or beyond > 0
        self._counts.truncated += truncated
        self._counts.skipped += beyond
        rest = line.lstrip(b"\0")
        if not rest:
            rest = line
        ((_, prefix, text, stamp, _),) = _split(rest)
        known = self._known(prefix)
        node, number = known.node, known.number
        own = False
        if not number and (found := _prefix(prefix)) is not None:
            kind = _type_of(found[2])
            own = kind in _OWN
            if kind == _CONTAINER_ID and not stamp.endswith(_NO_SERIAL):
                own, number = False, kind
        if not (number or own):
            self._malformed(line.removeprefix(_NO_RECORD) or line, out, truncated=truncated)
            return
        if len(rest) < len(line):
            self._counts.lines += 1
            self._malformed(line[: len(line) - len(rest)], out)
        if own:
            self._counts.own += 1
        else:
            self._counts.records += 1
            out.append(LogRecord(node, stamp, Record(number, text, truncated)))

    def _known(self, prefix: bytes) -> _Prefix:
        """Return node and type of what stands before a record, and remember them: `_take` looks them up."""
        written = prefix + _AUDIT
        known = self._prefixes.get(written)
        if known is None:
            found = _prefix(prefix)
            number = _type_of(found[2]) if found else 0
            node = (found[1] if found else None) or b""
            if len(self._prefixes) >= _PREFIXES:
                for each in self._prefixes.values():
                    each.next = _NONE  # else one would keep another, and that one the next
                self._prefixes.clear()
            number = 0 if number in _OWN else number
            known = self._prefixes[written] = _Prefix(written, node, number, _NONE)
        return known

    def _malformed(self, line: bytes, out: list[LogRecord], *, truncated: bool = False) -> None:
        self._counts.malformed += 1
        out.append(LogRecord(b"", None, Record(0, line, truncated)))
