# SPDX-License-Identifier: Apache-2.0
"""Seals what a file sink writes: counts and hashes the lines, and makes the line that closes them in.

Owns where in its chain a file is, found out from the file itself, and the key's file, in which a key is replaced by the
next one once its seal is written. Never writes the file of events: `rotating` does. See `enricher.sealformat`.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import mmap
import os
import stat
import time
import zlib
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enricher import sealformat
from enricher.errors import OutputFailed
from enricher.sealformat import JSON_START, TEXT_START, Key, Malformed, Seal
from enricher.sinks.compress import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EVERY: Final = 1.0
"""Seconds: what is written later than this after the last seal is sealed at once."""
MOST: Final = 1 << 20
"""Bytes after which a seal comes earlier."""
_CHUNK: Final = 1 << 20
_KEY_HINT: Final = "make one with `audit-enricher verify --make-key FILE`, and keep what it prints elsewhere"


class Sealer:
    """Of one path. `begin` comes first, and again after a write that failed: what is in the file then is what counts.

    Raises OutputFailed where there is no key in `key_file`, which may be "".
    """

    def __init__(self, path: str, key_file: str = "", wall: Callable[[], float] = time.time) -> None:
        self.begun = False
        self.advice = ""
        self._path = Path(path)
        self._key_file = Path(key_file) if key_file else None
        self._key = None if self._key_file is None else _load(self._key_file)
        self._wall = wall
        self._chain = "" if self._key is None else self._key.chain
        self._number = 0  # of the last seal
        self._previous = ""
        self._is_text = False
        self._sealed_at = -math.inf
        self._forget()

    def _forget(self) -> None:
        self._digest = sha256()
        self._lines = self._size = 0

    def begin(self, first: bytes) -> bytes | None:
        """Find the place in the chain; returns the seal that the file needs now, None where it ends with one.

        `first` is a line that is to be written: seals are of its kind. Raises OutputFailed where the file cannot be
        read.
        """
        self._is_text = not first.startswith(b"{")
        self._forget()
        try:
            last = self._read(self._path)
            if last is None and not self._number:
                self._begin_behind_older()
        except OSError as error:
            raise OutputFailed(
                f"cannot seal {self._path}: {error.strerror}",
                "it is read once, at the start, to go on with its seals",
            ) from error
        self._go_on_from(last)
        self.begun = True
        if self._size:
            return self.seal("found")
        return self.seal("begin") if last is None else None

    def _begin_behind_older(self) -> None:
        """Go on from the file before this one, whose end is still without a seal where a kill came in a rotation."""
        self._forget()
        older = self._read_older()
        self._go_on_from(older)
        if older is None or _kind(older) == "end":
            self._forget()  # not ours, or written by somebody after us: `verify` says so
        self._read(self._path)

    def _go_on_from(self, line: bytes | None) -> None:
        if line is None:
            return
        try:
            seal = sealformat.parse(line)
        except Malformed:
            return  # somebody's, or half of one: `verify` says so
        if self._key is not None and seal.chain != self._chain:
            self._previous = sealformat.digest_of(line)  # what was sealed before there was this key
        elif seal.number >= self._number:
            self._chain, self._number, self._previous = seal.chain, seal.number, sealformat.digest_of(line)
            self._advance()

    def _advance(self) -> None:
        """A seal may have been written, and the key not: a kill came between the two."""
        if self._key is not None and self._key.number <= self._number:
            with contextlib.suppress(Malformed):
                self._key = self._key.after(self._number + 1)
                self._save()

    def add(self, lines: Sequence[bytes]) -> None:
        """These were written."""
        for line in lines:
            self._digest.update(line)
            self._size += len(line)
            self._lines += line.count(b"\n")

    def due(self, now: float) -> bool:
        """Whether it is time for a seal; `now` is monotonic."""
        if not self._size or (now - self._sealed_at < EVERY and self._size < MOST):
            return False
        self._sealed_at = now
        return True

    @property
    def has_unsealed(self) -> bool:
        """Whether there are lines since the last seal."""
        return self._size > 0

    def seal(self, kind: str) -> bytes:
        """Make the line, to be written now: by the next one it stands in the file."""
        key = self._key
        number = self._number + 1 if key is None else max(key.number, self._number + 1)
        if not self._chain:
            self._chain = sealformat.new_chain()
        seal = Seal(
            self._chain,
            number,
            kind,
            f"{self._wall():.3f}",
            self._lines,
            self._size,
            self._digest.hexdigest(),
            self._previous,
        )
        if key is not None:
            self._key = key = key.after(number)
            seal = seal._replace(mac=key.mac(seal))
        line = sealformat.line_of(seal, is_text=self._is_text)
        self._number, self._previous = number, sealformat.digest_of(line)
        self._forget()
        return line

    def written(self) -> None:
        """The seal that was made stands in the file: its key goes."""
        self._advance()

    def _save(self) -> None:
        """Put the present key into its file. What cannot be done is said, and the old one stays."""
        if self._key is None or self._key_file is None:
            return
        part = Path(f"{self._key_file}.new")
        try:
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w") as file:
                file.write(self._key.text)
            part.rename(self._key_file)
            self.advice = ""
        except OSError as error:
            self.advice = (
                f"the key {self._key_file} cannot be replaced, and stays an older one: {error.strerror}"
            )

    def _read(self, path: Path) -> bytes | None:
        """Return the last seal's line in a plain file. What stands behind it counts as added, and all else as not."""
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OutputFailed(f"{path} cannot be sealed: it is no regular file")
            size = status.st_size
            if not size:
                return None
            with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as whole:
                at = max(_rfind(whole, JSON_START), _rfind(whole, TEXT_START))
                end = whole.find(b"\n", at) + 1 if at >= 0 else 0
                line = whole[at:end] if end else None
            if line is not None:
                self._forget()
            file.seek(end)
            while chunk := file.read(_CHUNK):
                self.add((chunk,))
        return line

    def _read_older(self) -> bytes | None:
        """As `_read`, of the file before this one, plain or compressed; None where there is none."""
        plain, packed = Path(f"{self._path}.1"), Path(f"{self._path}.1{SUFFIX}")
        if plain.exists():
            return self._read(plain)
        last = None
        with contextlib.suppress(OSError, EOFError, zlib.error), gzip.open(packed) as file:
            for line in file:
                if sealformat.is_seal(line):
                    last = line
                    self._forget()
                else:
                    self.add((line,))
        return last


def _rfind(whole: mmap.mmap, start: bytes) -> int:
    """Where the last line begins that starts so, -1 where none does."""
    at = whole.rfind(b"\n" + start)
    return at + 1 if at >= 0 else (0 if whole[: len(start)] == start else -1)


def _kind(line: bytes) -> str:
    try:
        return sealformat.parse(line).kind
    except Malformed:
        return ""


def _load(path: Path) -> Key:
    try:
        return sealformat.parse_key(path.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError, Malformed) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise OutputFailed(f"{path}: no key for seals: {why}", _KEY_HINT) from error
