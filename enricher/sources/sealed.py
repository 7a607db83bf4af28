# SPDX-License-Identifier: Apache-2.0
"""Files with seals, read again: whether everything is there, unaltered and in its order.

Owns the comparison of lines with seals and what is said where they differ, and which files belong to a path. Never
trusts a line: files may be anybody's work. See `enricher.sealformat`.
"""

from __future__ import annotations

import gzip
import re
import zlib
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, cast

from enricher import sealformat
from enricher.sealformat import Malformed, Seal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from enricher.sealformat import Key

_PIECE: Final = 1 << 20
"""Bytes: what is longer without a newline is taken in pieces."""
_GZIP: Final = b"\x1f\x8b"


class Break(NamedTuple):
    """Where the files are not as they were written, and what is wrong there. ``line`` counts from 1."""

    file: str
    line: int
    what: str


class Verdict(NamedTuple):
    """What was found. ``found`` lines were sealed only when a later start saw them; ``open`` lines by none yet.

    ``first`` and ``last`` are the first and the last seal.
    """

    lines: int
    seals: int
    found: int
    open: int
    first: Seal | None
    last: Seal | None
    breaks: list[Break]


def files_of(path: Path) -> list[Path]:
    """A path and its older files, ``PATH.N`` or ``PATH.N.gz``, the oldest first. Two of a number are equal."""
    numbered = re.compile(rf"{re.escape(path.name)}\.([0-9]{{1,9}})(?:\.gz)?").fullmatch
    found: dict[int, Path] = {}
    for each in sorted(path.parent.iterdir()):
        if (match := numbered(each.name)) is not None:
            found.setdefault(int(match[1]), each)
    return [found[number] for number in sorted(found, reverse=True)] + [path]


class Verifier:
    """Looks at files in their order. `most` breaks are told; with a `key` every seal needs its mac."""

    def __init__(self, key: Key | None = None, most: int = 20) -> None:
        self._key = key
        self._most = most
        self._breaks: list[Break] = []
        self._first: Seal | None = None
        self._last: Seal | None = None
        self._of_last = ""  # digest of the last seal's line
        self._lines = self._seals = self._found = 0
        self._begin()

    def _begin(self) -> None:
        self._digest = sha256()
        self._here = 0  # lines since the last seal
        self._size = 0

    def look(self, path: Path) -> None:
        """Read one file, plain or compressed. Raises OSError where it cannot be opened."""
        file = str(path)
        number = 1
        at_start = True
        with path.open("rb") as raw:
            try:
                for piece in _pieces(raw):
                    if at_start and sealformat.is_seal(piece):
                        self._seal(piece, file, number)
                    else:
                        self._digest.update(piece)
                        self._size += len(piece)
                        self._here += piece.endswith(b"\n")
                        self._lines += piece.endswith(b"\n")
                    at_start = piece.endswith(b"\n")
                    number += at_start
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                self._tell(file, number, f"the compressed file is damaged: {error}")

    def _tell(self, file: str, line: int, what: str) -> None:
        if len(self._breaks) < self._most:
            self._breaks.append(Break(file, line, what))

    def _seal(self, line: bytes, file: str, number: int) -> None:
        try:
            seal = sealformat.parse(line)
        except Malformed as error:
            self._tell(file, number, f"a seal that is none: {error}")
            self._digest.update(line)  # the next one shows whether that was all
            self._size += len(line)
            return
        self._seals += 1
        wrong = self._wrong(seal)
        if wrong:
            self._tell(file, number, wrong)
        if seal.kind == "found":
            self._found += self._here
        if self._first is None:
            self._first = seal
        self._last = seal
        self._of_last = sealformat.digest_of(line)
        self._begin()

    def _wrong(self, seal: Seal) -> str:
        """What is wrong with a seal and the lines before it; "" where nothing is."""
        last = self._last
        if self._key is not None and (forged := self._forged(seal, self._key)):
            return forged
        if last is not None and seal.chain == last.chain and seal.number != last.number + 1:
            if seal.number <= last.number:
                return (
                    f"seal {seal.number} follows seal {last.number}: out of order, or something is here twice"
                )
            gone = seal.number - last.number - 1
            return f"seal {seal.number} follows seal {last.number}: {gone} in between and their lines are missing"
        if last is not None and seal.previous != self._of_last:
            return f"seal {seal.number} does not follow the seal that stands before it, {last.number}"
        # Files begin with a seal, or with what the first one found: also the first can be compared.
        return "" if self._same(seal) else self._differs(seal)

    def _forged(self, seal: Seal, key: Key) -> str:
        if seal.chain != key.chain:
            return f"seal {seal.number} is of another chain, {seal.chain}: not made with this key"
        try:
            self._key = key = key.after(seal.number)
        except Malformed as error:
            return str(error)
        if key.mac(seal) != seal.mac:
            return f"seal {seal.number} was not made with this key, or was altered"
        return ""

    def _same(self, seal: Seal) -> bool:
        return (seal.digest, seal.size) == (self._digest.hexdigest(), self._size)

    def _differs(self, seal: Seal) -> str:
        if seal.lines != self._here:
            said = f"there are {self._here} lines where {seal.lines} were written"
        else:
            said = f"the {seal.lines} lines before it are not those that were written"
        after = "" if self._last is None else f", since seal {self._last.number}"
        return f"seal {seal.number}: {said}{after}"

    def verdict(self) -> Verdict:
        """What all files together came to."""
        return Verdict(
            self._lines,
            self._seals,
            self._found,
            self._here if self._seals else 0,
            self._first,
            self._last,
            self._breaks,
        )


def _pieces(raw: BinaryIO) -> Iterator[bytes]:
    """Lines, the long ones in pieces, of a file that may be compressed."""
    start = raw.read(len(_GZIP))
    raw.seek(0)
    file = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if start == _GZIP else raw
    while piece := file.readline(_PIECE):
        yield piece
