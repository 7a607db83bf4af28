# SPDX-License-Identifier: Apache-2.0
"""A segment: the file format of the spool, written and read (docs/spool.md).

Owns the bytes: what a segment's head and a record look like, and finding again the records behind damage. Never
opens, names or removes a file, and never decides what damage means.

Every record is numbered, and says how many audit records all messages before it stood for. So a reader that goes
on behind damage knows exactly how many messages and records are missing, whatever was damaged.

Bodies hold what anybody on the machine may write. To find the next record behind damage, its mark is looked for:
eight random bytes that each segment draws for itself, so that no body can pretend to hold records.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

import msgpack

from enricher.errors import UsageError
from enricher.sinks.delivery.message import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC: Final = b"AUDENSP"
VERSION: Final = 1
NUMBER_MAX: Final = 1 << 62
"""Numbers of messages, and sums of records, are below it."""

_HEAD: Final = struct.Struct(
    "<7sBQQ8s"
)  # magic, version, number of the first message, records before it, mark
_COPY: Final = _HEAD.size + 4
HEAD_SIZE: Final = 2 * _COPY
"""Bytes of a segment's head: it is there twice, since nothing can be read without its mark."""

_RECORD: Final = struct.Struct("<8sQQIIII")  # mark, number, records before, records, serial, length, checksum
_CHECK: Final = struct.Struct("<I")
RECORD_HEAD: Final = _RECORD.size + _CHECK.size
"""Bytes of a record in front of its body."""

_CHUNK: Final = 256 << 10
_U32: Final = (1 << 32) - 1

_pack = msgpack.Packer(use_bin_type=True, unicode_errors="surrogatepass").pack


class Head(NamedTuple):
    """What a segment says of itself: the number of its first message, the records before it, its mark."""

    first: int
    before: int
    mark: bytes


class Stored(NamedTuple):
    """One record: the message's number, the records of all before it, and the message."""

    number: int
    before: int
    message: Message


class _RecordHead(NamedTuple):
    mark: bytes
    number: int
    before: int
    records: int
    serial: int
    length: int
    checksum: int


def new_head(first: int, before: int) -> Head:
    """Return the head of a new segment."""
    return Head(first, before, os.urandom(8))


def encode_head(head: Head) -> bytes:
    """Return what a segment begins with."""
    copy = _HEAD.pack(MAGIC, VERSION, *head)
    return 2 * (copy + _CHECK.pack(zlib.crc32(copy)))


def decode_head(data: bytes, name: str) -> Head | None:
    """Return the head, None where neither copy of it is whole. Raises UsageError for another version's."""
    for at in (0, _COPY):
        copy, check = data[at : at + _HEAD.size], data[at + _HEAD.size : at + _COPY]
        if len(check) < _CHECK.size or _CHECK.unpack(check)[0] != zlib.crc32(copy):
            continue
        magic, version, first, before, mark = _HEAD.unpack(copy)
        if magic != MAGIC or max(first, before) >= NUMBER_MAX:
            continue
        if version != VERSION:
            raise UsageError(
                f"{name}: a spool of another version ({version})",
                "empty it with the version that filled it, or move the directory away",
            )
        return Head(first, before, mark)
    return None


def encode(head: Head, number: int, before: int, message: Message) -> bytes:
    """Return the record of a message."""
    body = _pack((message.uid, message.time, message.type, message.body))
    records, serial = min(message.records, _U32), message.serial & _U32
    check = zlib.crc32(body, zlib.crc32(head.mark))
    start = _RECORD.pack(head.mark, number, before, records, serial, len(body), check)
    return b"%b%b%b" % (start, _CHECK.pack(zlib.crc32(start)), body)


def _decode_record_head(data: bytes, mark: bytes) -> _RecordHead | None:
    if len(data) < RECORD_HEAD or not data.startswith(mark):
        return None
    if _CHECK.unpack_from(data, _RECORD.size)[0] != zlib.crc32(data[: _RECORD.size]):
        return None
    return _RecordHead(*_RECORD.unpack_from(data))


def _decode(head: _RecordHead, body: bytes) -> Message | None:
    if zlib.crc32(body, zlib.crc32(head.mark)) != head.checksum:
        return None
    try:
        members = msgpack.unpackb(body, use_list=True, raw=False, unicode_errors="surrogatepass")
    except (ValueError, msgpack.exceptions.UnpackException):
        return None
    if not isinstance(members, list) or list(map(type, members)) not in _SHAPES:
        return None
    uid, time, kind, text = members
    return Message(uid, float(time), kind, text, head.serial, head.records)


_SHAPES: Final = ([str, float, str, bytes], [str, int, str, bytes])


class Reader:
    """Reads the records of one segment front to back, over whatever damage is between them. Raises OSError.

    ``good`` is where the last record that could be trusted ends. ``bad`` is what the last head of a record said
    whose body cannot be trusted, number and records up to and with it; None where a record was read since.
    """

    def __init__(self, fd: int, head: Head) -> None:
        self._fd = fd
        self._mark = head.mark
        self._at = HEAD_SIZE
        self._buffer = b""
        self._base = 0  # where in the file the buffer begins
        self._least = head.first  # number that the next record has at least
        self.good = HEAD_SIZE
        self.bad: tuple[int, int] | None = None

    def read(self, end: int, wanted: int = 0) -> Iterator[Stored]:
        """Give the records before the byte ``end`` of the file, but those with a number below ``wanted``.

        A later call goes on where this one came to; ``end`` is where a record ends, or damage.
        """
        while self._at < end:
            at = self._at
            head = _decode_record_head(self._bytes(at, RECORD_HEAD, end), self._mark)
            stop = at + RECORD_HEAD + head.length if head is not None else 0
            if head is None or stop > end:
                if head is not None:
                    self.bad = head.number, head.before + head.records
                self._at = self._find(at + 1, end)
                continue
            message = _decode(head, self._bytes(at + RECORD_HEAD, head.length, end))
            self._at = stop
            if message is None:
                self.bad = head.number, head.before + head.records
                continue
            self.good, self.bad = stop, None
            if head.number < self._least:
                continue  # once more, or of another place: we did not write it here
            self._least = head.number + 1
            if head.number >= wanted:
                yield Stored(head.number, head.before, message)

    def _bytes(self, at: int, size: int, end: int) -> bytes:
        """Return as many of these bytes as there are before ``end``."""
        size = min(size, end - at)
        start = at - self._base
        if start < 0 or start + size > len(self._buffer):
            # Never past `end`: what is behind it may be written this moment, and half of it be there.
            self._buffer = os.pread(self._fd, min(max(_CHUNK, size), end - at), at)
            self._base, start = at, 0
        return self._buffer[start : start + size]

    def _find(self, at: int, end: int) -> int:
        """Return where the mark is next, ``end`` where it is not."""
        step = _CHUNK // 2
        while at < end:
            found = self._bytes(at, min(step, end - at), end).find(self._mark)
            if found >= 0:
                return at + found
            if at + step >= end:
                return end
            at += step - len(self._mark) + 1
        return end


def tail(reader: Reader, head: Head, size: int) -> tuple[int, int, int, int]:
    """Read to the end: the number and the sum of records that come next, messages and records that are cut off.

    Of a half record whose head is not whole it is known that something was there: it counts as one of each.
    """
    number, before = head.first, head.before
    for stored in reader.read(size):
        number, before = stored.number + 1, stored.before + stored.message.records
    if reader.good >= size:
        return number, before, 0, 0
    if reader.bad is None:
        return number, before, 1, 1
    last, records = reader.bad
    return number, before, max(1, last + 1 - number), max(0, records - before)
