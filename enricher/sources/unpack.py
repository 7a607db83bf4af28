# SPDX-License-Identifier: Apache-2.0
"""Bytes from a file that may be packed with gzip, bzip2 or xz: in one pass, in blocks, in constant memory.

Owns finding out how a stream is packed (by its first bytes, never by its name), unpacking it, and saying
where it is damaged. Never seeks: pipes work as files do. Knows nothing of what the bytes mean.

Everything before a place of damage is given out before `DamagedInput` is raised: to the byte for gzip
and for all that are merely cut short, to about `_PIECE` bytes for a fault inside bzip2 or xz.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import TYPE_CHECKING, Final, Protocol

from enricher.errors import DamagedInput, UsageError

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

BLOCK: Final = 1 << 17  # some 500 records; of lines of one byte, hostile ones, 65 536
_CHUNK: Final = 1 << 14  # packed bytes read at a time
_PIECE: Final = 1 << 12  # unpacked bytes taken at a time: what a fault takes with it
_XZ_MEMORY: Final = 128 << 20  # xz -9 takes 65 MiB to unpack; a hostile file could ask for 4 GiB

_HEAD: Final = 6
_MAGIC: Final = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_USED: Final = "what comes before was used; the original may be whole elsewhere"


def packing(head: bytes, name: str) -> str:
    """How a stream that begins so is packed, "" if it is not. Raises UsageError for what is unknown here."""
    if head.startswith(_ZSTD):
        raise UsageError(f"{name}: packed with zstd", "unpack it on the way in: zstd -dc FILE | ... -")
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")


def unpacked(file: io.BufferedReader, name: str) -> Iterator[bytes]:
    """The stream's content, in blocks of at least one byte and at most about BLOCK bytes.

    `name` is for messages. Raises DamagedInput, and UsageError for a packing that is not known here.
    """
    source = _Source(file, name)
    kind = packing(source.peek(), name)
    if not kind:
        while block := source.read(BLOCK):
            yield block
        return
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in _expand(kind, source):
            pieces.append(piece)
            size += len(piece)
            if size >= BLOCK:
                yield b"".join(pieces)
                pieces, size = [], 0
    except DamagedInput:
        if pieces:
            yield b"".join(pieces)
        raise
    if pieces:
        yield b"".join(pieces)


class _Source:
    """A stream as it is read; `at` is the offset reached."""

    def __init__(self, file: io.BufferedReader, name: str) -> None:
        self.name = name
        self.at = 0
        self._file = file
        self._head = b""

    def peek(self) -> bytes:
        """The first bytes, which `read` gives again. Once, before anything else."""
        try:
            self._head = self._file.read(_HEAD)
        except OSError as error:
            raise self.damaged(0, f"cannot be read on: {error.strerror}") from error
        return self._head

    def read(self, size: int) -> bytes:
        """What is there, at most about `size` bytes; b"" at the end. Raises DamagedInput."""
        try:
            data = self._file.read1(size)
        except OSError as error:
            raise self.damaged(self.at, f"cannot be read on: {error.strerror}") from error
        data, self._head = self._head + data, b""
        self.at += len(data)
        return data

    def damaged(self, at: int, what: object) -> DamagedInput:
        return DamagedInput(f"{self.name}: damaged at byte {at}: {what}", _USED)


# -- unpacking ---------------------------------------------------------------------------------------


class _Decoder(Protocol):
    """One stream of packed data: what bz2 and lzma have, and `_Gzip`."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """zlib with the manners of bz2 and lzma, that gives out every byte before a fault."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)
        self._failed: zlib.error | None = None
        self.left = 0  # input behind the fault

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail and not self._failed

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        if self._failed:
            raise self._failed
        data = self._zlib.unconsumed_tail + data
        before = self._zlib.copy()
        try:
            return self._zlib.decompress(data, max_length)
        except zlib.error as error:
            self._failed = error
        # The exception took with it what was unpacked up to the fault. Once more, byte by byte.
        found = []
        for self.left in range(len(data), 0, -1):
            try:
                found.append(before.decompress(data[len(data) - self.left :][:1]))
            except zlib.error:
                break
        return b"".join(found)


def _decoder(kind: str) -> _Decoder:
    if kind == "gzip":
        return _Gzip()
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


def _expand(kind: str, source: _Source) -> Iterator[bytes]:
    """Unpack all streams of a file: gzip, bzip2 and xz files may be put one behind the other."""
    length = BLOCK if kind == "gzip" else _PIECE
    data = source.read(_CHUNK)
    while data:
        decoder = _decoder(kind)
        while True:
            try:
                piece = decoder.decompress(data, length)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, MemoryError) as error:
                left = decoder.left if isinstance(decoder, _Gzip) else 0
                raise source.damaged(source.at - left, error) from error
            if piece:
                yield piece
            if decoder.eof:
                break
            data = b""
            if decoder.needs_input and not (data := source.read(_CHUNK)) and not piece:
                raise source.damaged(source.at, f"the {kind} data ends in the middle")
        data = _next_stream(kind, source, decoder.unused_data)


def _next_stream(kind: str, source: _Source, data: bytes) -> bytes:
    """Return the beginning of the next stream, b"" at the file's end; zero bytes are padding."""
    magic = next(magic for magic, its in _MAGIC.items() if its == kind)
    data = data.lstrip(b"\0")
    while len(data) < len(magic) and (more := source.read(_CHUNK)):
        data = (data + more).lstrip(b"\0")
    if data and not data.startswith(magic):
        raise source.damaged(source.at - len(data), f"behind the {kind} data stands something else")
    return data
