# SPDX-License-Identifier: Apache-2.0
"""A journal as it is read: the context of the event with a stamp, exactly, or why it is not known.

Owns the reading of a file that may be anyone's: damaged, cut off, or made to harm. It is opened read-only, nothing in
it is run, every value is looked at before it is believed, and no query works without end. Never writes, and never
holds the file: the service may go on writing it meanwhile.

Exactly: seconds, milliseconds and serial are all the same. Serials begin anew with each boot; where two boots have the
same stamp and not the same context (a clock that was set back), it is not known which one is meant.
"""

from __future__ import annotations

import re
import sqlite3
import stat
from bisect import bisect_left
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from enricher.errors import DamagedInput, UsageError
from enricher.journalformat import (
    BLOCK,
    LIFE_COLUMNS,
    NAMESPACE_COLUMNS,
    READABLE,
    VERSION,
    Columns,
    Damaged,
    checksum,
    complaint,
    context_sum,
    numbers_of,
    unpack,
    unpacked_inums,
    unsigned,
    version_of,
)
from enricher.model import KINDS, HostFacts, Recalled

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

K = TypeVar("K")
V = TypeVar("V")

UNKNOWN: Final = "not in the journal"
AMBIGUOUS: Final = "the journal has this stamp of two boots"
ELSEWHERE: Final = "the journal is of another host"

_VALUE_MAX: Final = 1 << 20  # bytes of a value; a full segment has some ten thousand
_STEPS: Final = 100_000  # of SQLite's machine, between two looks at
_LOOKS: Final = 500
_CANDIDATES: Final = 65_536  # segments of one block: one for each run, boot and straggler
_PATH_MAX: Final = 1 << 16
_TEXT_MAX: Final = 4096

_FAILURES: Final = (sqlite3.Error, UnicodeError, MemoryError)
"""The second where SQLite's own message quotes bytes of the file."""

_is_boot_id = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_is_machine_id = re.compile(r"[!-~]{0,64}").fullmatch
_is_device = re.compile(r"(?:[0-9a-f]{2,5}:[0-9a-f]{2,5})?").fullmatch


class _Candidate(NamedTuple):
    number: int
    first_ms: int
    last_ms: int


class _Cgroup(NamedTuple):
    id: int
    path: bytes
    said: str | None


_NOBODY: Final = (None,) * len(KINDS)
_NO_CGROUP: Final = _Cgroup(0, b"", None)


class _Kept(OrderedDict[K, V]):
    """What was read of late."""

    def __init__(self, most: int, read: Callable[[K], V]) -> None:
        super().__init__()
        self._most = most
        self._read = read

    def __missing__(self, key: K) -> V:
        if len(self) >= self._most:
            self.popitem(last=False)
        made = self[key] = self._read(key)
        return made


class JournalReader:
    """Raises UsageError for what is no journal or cannot be read, and DamagedInput, here and when it is read on."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._looks = 0
        self._seen: os.stat_result | None = None  # of a file that must not change while it is read
        self._db = self._connect()
        self._blocks: _Kept[int, list[_Candidate]] = _Kept(256, self._candidates)
        self._segments: _Kept[int, Columns] = _Kept(64, self._segment)
        self._contexts: _Kept[int, Recalled | None] = _Kept(4096, self._context)
        self._cgroups: _Kept[int, _Cgroup | None] = _Kept(4096, self._cgroup)
        self._boots: _Kept[int, HostFacts | None] = _Kept(256, self._boot)

    def find(self, stamp: bytes, node: bytes = b"") -> Recalled | str:
        """Return the context of an event, or why it is not known. `node` is the host that its records name."""
        numbers = numbers_of(stamp)
        if numbers is None:
            return UNKNOWN
        serial, ms = numbers
        found: set[Recalled] = set()
        for number, first_ms, last_ms in self._blocks[serial // BLOCK]:
            if first_ms <= ms <= last_ms:
                for context in _at(self._segments[number], serial, ms):
                    recalled = self._contexts[context]
                    if recalled is None:
                        return UNKNOWN
                    found.add(recalled)
        if not found:
            return UNKNOWN
        one = _one_of(found)
        if one is None:
            return AMBIGUOUS
        if node and node != one.host.name.encode("utf-8", "replace"):
            return ELSEWHERE
        return one

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # -- opening -------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        path = Path(self._path)
        try:
            found = path.stat()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(
                f"{self._path}: cannot be read: {why}", "the service keeps it in its state directory"
            ) from error
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{self._path}: not a file", "name the service's journal.sqlite")
        try:
            return self._checked("mode=ro")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in {
                sqlite3.SQLITE_CANTOPEN,
                sqlite3.SQLITE_READONLY,
            }:
                raise self._damage(error) from error
            cause = error
        except _FAILURES as error:
            raise self._damage(error) from error
        # What it needs beside the file cannot be made here. Without a log there is nothing to need it for.
        log = Path(self._path + "-wal")
        if log.exists() and log.stat().st_size:
            raise UsageError(
                f"{self._path}: cannot be read here: {cause}",
                "copy it, and the file that ends in -wal beside it, to a directory that you may write to",
            ) from cause
        self._seen = found
        try:
            return self._checked("mode=ro&immutable=1")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CANTOPEN:
                raise UsageError(
                    f"{self._path}: cannot be read: {error}",
                    "read it as root or as a member of the service's group",
                ) from error
            raise self._damage(error) from error
        except _FAILURES as error:
            raise self._damage(error) from error

    def _checked(self, how: str) -> sqlite3.Connection:
        """Connect and look whether it is a journal. Raises sqlite3.Error and UsageError."""
        uri = f"{Path(self._path).absolute().as_uri()}?{how}"
        db = sqlite3.connect(uri, uri=True, timeout=5.0, isolation_level=None)
        try:
            db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _VALUE_MAX)
            db.set_progress_handler(self._is_too_long, _STEPS)
            for pragma in (
                "trusted_schema = OFF",
                "query_only = ON",
                "cell_size_check = ON",
                "mmap_size = 0",
            ):
                db.execute(f"PRAGMA {pragma}")
            why = complaint(db, READABLE)
            self._lives = "" if why or version_of(db) < VERSION else f", {LIFE_COLUMNS}"
        except BaseException:
            db.close()
            raise
        if why:
            db.close()
            raise UsageError(
                f"{self._path}: no journal that can be read: {why}",
                f"journals up to version {VERSION} can; the service keeps its own as journal.sqlite",
            )
        return db

    def _is_too_long(self) -> int:
        self._looks += 1
        return self._looks > _LOOKS

    def _damage(self, error: Exception) -> DamagedInput:
        return DamagedInput(
            f"{self._path}: the journal is damaged: {error}",
            "what was found before that was used; the rest is unknown",
        )

    # -- reading -------------------------------------------------------------------------------------

    def _rows(self, query: str, *values: int) -> list[tuple[object, ...]]:
        self._looks = 0
        try:
            rows = self._db.execute(query, values).fetchall()
        except _FAILURES as error:
            raise self._damage(error) from error
        if self._seen is not None:
            now = Path(self._path).stat()
            if (now.st_mtime_ns, now.st_size, now.st_ino) != (
                self._seen.st_mtime_ns,
                self._seen.st_size,
                self._seen.st_ino,
            ):
                raise self._damage(Damaged("it was written while it was read"))
        return rows

    def _candidates(self, block: int) -> list[_Candidate]:
        first = block * BLOCK
        rows = self._rows(
            "SELECT number, first_ms, last_ms FROM segments WHERE first_serial BETWEEN ? AND ? LIMIT ?",
            *(first, first + BLOCK - 1, _CANDIDATES + 1),
        )
        if len(rows) > _CANDIDATES:
            raise self._damage(Damaged("too many segments of the same serials"))
        return [_Candidate(*map(self._whole, row)) for row in rows]

    def _segment(self, number: int) -> Columns:
        rows = self._rows(
            "SELECT number, boot, first_serial, last_serial, first_ms, last_ms, events, sum, content FROM segments"
            " WHERE number = ?",
            number,
        )
        if not rows:
            return Columns([], [], [])  # it has gone meanwhile
        *numbers, total, content = rows[0]
        if not isinstance(content, bytes):
            raise self._damage(Damaged("a segment is no bytes"))
        whole = list(map(self._whole, numbers))
        self._sum(total, *whole, content)
        _, _, first_serial, _, first_ms, _, events = whole
        try:
            columns = unpack(content, events, first_serial, first_ms)
        except Damaged as error:
            raise self._damage(error) from error
        if columns.serials[-1] // BLOCK != first_serial // BLOCK:
            raise self._damage(Damaged("a segment leaves its block"))
        return columns

    def _context(self, number: int) -> Recalled | None:
        rows = self._rows(
            f"SELECT number, boot, home, flags, {NAMESPACE_COLUMNS}, sum{self._lives} FROM contexts"  # noqa: S608 - constants
            " WHERE number = ?",
            self._number(number),
        )
        if not rows:
            return None
        count = 4 + 2 * len(KINDS)
        whole = list(map(self._whole, rows[0][:count]))
        born = (
            tuple([None if life is None else self._whole(life) for life in rows[0][count + 1 :]]) or _NOBODY
        )
        if rows[0][count] != context_sum(whole, born):
            raise self._damage(Damaged("a row's checksum does not fit"))
        _, boot, cgroup, flags, *namespaces = whole
        inums, ids = namespaces[::2], list(map(unsigned, namespaces[1::2]))
        if any(not 0 <= inum < 1 << 32 for inum in inums):
            raise self._damage(Damaged("an inum that is none"))
        if any(life is not None and life < 0 for life in born):
            raise self._damage(Damaged("a life that is none"))
        host = self._boots[boot]
        home = self._cgroups[cgroup] if cgroup else _NO_CGROUP
        if host is None or home is None:
            return None
        key = repr((boot, *namespaces, *born)).encode("ascii")
        return Recalled(host, flags, home.id, home.path, home.said, tuple(inums), tuple(ids), key, born)

    def _cgroup(self, number: int) -> _Cgroup | None:
        rows = self._rows("SELECT number, boot, id, path, said, sum FROM cgroups WHERE number = ?", number)
        if not rows:
            return None
        ours, boot, ident, path, said, total = rows[0]
        if not isinstance(path, bytes) or len(path) > _PATH_MAX or not isinstance(said, str | None):
            raise self._damage(Damaged("a cgroup's path is none"))
        whole = list(map(self._whole, (ours, boot, ident)))
        self._sum(total, *whole, path, said)
        return _Cgroup(unsigned(whole[2]), path, said)

    def _boot(self, number: int) -> HostFacts | None:
        rows = self._rows(
            "SELECT number, boot_id, name, machine_id, ns_dev, initial, sum FROM boots WHERE number = ?",
            number,
        )
        if not rows:
            return None
        ours, boot_id, name, machine_id, ns_dev, initial, total = rows[0]
        texts = [
            text
            for text in (boot_id, name, machine_id, ns_dev)
            if isinstance(text, str) and len(text) <= _TEXT_MAX
        ]
        if len(texts) != 4 or not isinstance(initial, bytes):  # noqa: PLR2004 - all of them
            raise self._damage(Damaged("a boot's facts are none"))
        self._sum(total, self._whole(ours), *texts, initial)
        boot, host, machine, device = texts
        if not (_is_boot_id(boot) and _is_machine_id(machine) and _is_device(device)):
            raise self._damage(Damaged("a boot's facts are not what a kernel says"))
        try:
            return HostFacts(host, machine, boot, device, unpacked_inums(initial))
        except Damaged as error:
            raise self._damage(error) from error

    def _whole(self, value: object) -> int:
        if type(value) is not int:
            raise self._damage(Damaged("a number is none"))
        return value

    def _number(self, number: int) -> int:
        """Return a row's number out of a segment, which SQLite may not hold."""
        return number if number < 1 << 63 else 0

    def _sum(self, total: object, *values: object) -> None:
        if total != checksum(*values):
            raise self._damage(Damaged("a row's checksum does not fit"))


def _one_of(found: set[Recalled]) -> Recalled | None:
    """Return the context that all of them are, None where they are several.

    Of an event that was given out in parts a life may have been known at one of them only.
    """
    one = next(iter(found))
    if len(found) == 1:
        return one
    if len({each._replace(born=_NOBODY, key=b"") for each in found}) > 1:
        return None
    lives = [
        {life for life in told if life is not None}
        for told in zip(*(each.born for each in found), strict=True)
    ]
    born = tuple([life.pop() if len(life) == 1 else None for life in lives])
    return one._replace(
        born=born, key=b"%b %b" % (repr(born).encode("ascii"), min(each.key for each in found))
    )


def _at(columns: Columns, serial: int, ms: int) -> Iterator[int]:
    """Return the contexts that a segment has for a stamp."""
    serials, times, contexts = columns
    for at in range(bisect_left(serials, serial), len(serials)):
        if serials[at] != serial:
            return
        if times[at] == ms:
            yield contexts[at]
