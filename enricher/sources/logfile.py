# SPDX-License-Identifier: Apache-2.0
"""Audit logs as a source: which files, in which order, in one pass and in constant memory.

Owns opening and ordering. Never writes, and never decides how a file is packed (`unpack`), what a line means
(`logformat`) or which lines are one event.

Order is oldest first. Files that differ by their number alone (``audit.log.2``, ``audit.log.1.gz``,
``audit.log``) go by it, since that is how auditd and logrotate name them; such groups, and files without
a number, by their first stamp. What cannot be read twice, a pipe or standard input, comes last, as named.

Where a file is damaged or cannot be read on, what comes before is used, the other files are read, and then
`DamagedInput` tells where.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import ExitStack, nullcontext, suppress
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.errors import DamagedInput, UsageError
from enricher.sources.logformat import Lines, LogCounts, LogRecord
from enricher.sources.unpack import packing, unpacked

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator, Sequence

STDIN: Final = "-"
_LATEST: Final = 1 << 64  # behind every stamp

_in_directory = re.compile(r"audit\.log(?:[.-][0-9]{1,14})?(?:\.(?:gz|xz|bz2))?").fullmatch
_numbered = re.compile(r"(.+?)(?:\.([0-9]{1,5}))?(?:\.(?:gz|xz|bz2))?").fullmatch

_HINTS: Final = {
    errno.EACCES: "audit logs are for root and the log group: run as root",
    errno.EPERM: "audit logs are for root and the log group: run as root",
    errno.EMFILE: "all files are opened at once: raise `ulimit -n`, or name fewer",
    errno.ENOENT: "auditd writes to /var/log/audit/audit.log unless log_file in auditd.conf says otherwise",
}


class _Log(NamedTuple):
    """A file to read. `file` is None for what is opened when its turn comes: pipes and standard input."""

    name: str
    file: io.BufferedReader | None


def read_log(
    paths: Sequence[str], counts: LogCounts | None = None, stdin: io.BufferedReader | None = None
) -> Iterator[list[LogRecord]]:
    """The records of these files and directories, ``-`` for standard input, in batches, oldest first.

    What cannot be opened raises UsageError before anything is read. Damage raises DamagedInput, but only
    at the end: the caller has everything then that could be read, and should use it. All files are open
    from the start: where auditd rotates meanwhile, a name means another file.
    """
    with ExitStack() as opened:
        logs = _in_order(paths, opened)
        return _read(logs, LogCounts() if counts is None else counts, stdin, opened.pop_all())


# -- which files, in which order ---------------------------------------------------------------------


def _in_order(paths: Sequence[str], opened: ExitStack) -> list[_Log]:
    """The files that these paths name, oldest first, each once. Raises UsageError."""
    files: dict[tuple[int, int], _Log] = {}
    streams: dict[str, _Log] = {}
    for path in paths:
        for name in [STDIN] if path == STDIN else _files_of(path):
            kind = stat.S_IFIFO if name == STDIN else stat.S_IFMT(_stat(name).st_mode)
            if kind in {stat.S_IFIFO, stat.S_IFCHR}:
                streams[name] = _Log(name, None)
            elif kind == stat.S_IFREG:
                file = opened.enter_context(_opened(name))
                facts = os.fstat(file.fileno())
                files.setdefault((facts.st_dev, facts.st_ino), _Log(name, file))
                with suppress(OSError):  # it is told when its turn comes
                    packing(file.peek(), name)
            else:
                raise UsageError(
                    f"{name}: not a file", "name a log file, a directory of them, or - for standard input"
                )
    return [*_oldest_first(list(files.values())), *streams.values()]


def _files_of(path: str) -> list[str]:
    if not stat.S_ISDIR(_stat(path).st_mode):
        return [path]
    try:
        names = sorted(each.name for each in Path(path).iterdir() if _in_directory(each.name))
    except OSError as error:
        raise _cannot_read(path, error) from error
    if not names:
        raise UsageError(f"{path}: no audit.log in this directory", "name the log files themselves")
    return [str(Path(path, name)) for name in names]


def _oldest_first(logs: list[_Log]) -> list[_Log]:
    groups: dict[tuple[str, str], list[tuple[int, _Log]]] = {}
    for log in logs:
        directory, base = os.path.split(log.name)
        found = _numbered(base)
        stem, number = (found[1], found[2]) if found else (base, None)
        groups.setdefault((directory, stem), []).append((int(number) if number else -1, log))
    ordered = [
        [log for _, log in sorted(group, key=itemgetter(0), reverse=True)] for group in groups.values()
    ]
    if len(ordered) > 1:
        ordered.sort(key=_first_second)  # stable: without a stamp as named
    return [log for group in ordered for log in group]


def _first_second(group: list[_Log]) -> int:
    """The first stamp in these files, seconds since the epoch; only the beginning of each is looked at."""
    for name, file in group:
        if file is None:
            continue
        lines = Lines(LogCounts())
        found: list[LogRecord] = []
        # What is wrong is told when its turn comes: it is read again from its beginning.
        with suppress(OSError, DamagedInput):
            try:
                found = lines.feed(next(unpacked(file, name), b"")) or lines.finish()
            finally:
                file.seek(0)
        for each in found:
            if each.stamp is not None:
                return int(each.stamp[: each.stamp.index(b".")])
    return _LATEST


def _stat(path: str) -> os.stat_result:
    try:
        return Path(path).stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _cannot_read(path, error) from error


def _opened(name: str) -> io.BufferedReader:
    try:
        return Path(name).open("rb") if name != STDIN else os.fdopen(0, "rb", closefd=False)
    except OSError as error:
        raise _cannot_read(name, error) from error


def _cannot_read(name: str, error: OSError | ValueError) -> UsageError:
    if isinstance(error, OSError):
        return UsageError(
            f"{name}: cannot be read: {error.strerror}", _HINTS.get(error.errno or 0, "check the path")
        )
    return UsageError(f"{name!r}: cannot be read: {error}", "check the path")


# -- reading -----------------------------------------------------------------------------------------


def _read(
    logs: list[_Log], counts: LogCounts, stdin: io.BufferedReader | None, opened: ExitStack
) -> Iterator[list[LogRecord]]:
    damage: list[DamagedInput] = []
    with opened:
        for log in logs:
            lines = Lines(counts)
            counts.files += 1
            cut = False
            try:
                for block in _blocks(log, stdin):
                    if batch := lines.feed(block):
                        yield batch
            except DamagedInput as error:
                damage.append(error)
                cut = True
            if batch := lines.finish(cut=cut):
                yield batch
    if damage:
        more = f" (and {len(damage) - 1} more files)" if len(damage) > 1 else ""
        raise DamagedInput(damage[0].message + more, damage[0].hint)


def _blocks(log: _Log, stdin: io.BufferedReader | None) -> Iterator[bytes]:
    name, file = log
    if name == STDIN:
        name, file = "standard input", stdin
    with nullcontext(file) if file else _opened(log.name) as source:
        yield from unpacked(source, name)
