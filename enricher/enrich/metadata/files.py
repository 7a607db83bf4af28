# SPDX-License-Identifier: Apache-2.0
"""State files of container runtimes, read as what they are: input that somebody else has written.

Owns whose files may answer for which cgroup, how a file is opened, and every bound on what is read. Never follows a
link below a runtime's directory, never opens anything but a regular file of the expected owner, never waits for one,
and never raises for what a file holds.

Root's state answers for root's cgroups. A user's state answers for the cgroups below that user's service manager and
for nothing else: there the user may name cgroups as he likes, and what he says is his own business.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_MAX: Final = 1 << 20
"""Bytes of a state file."""
LIST_MAX: Final = 16 << 20
"""Bytes of a file that lists all containers of a storage."""
NAMES_MAX: Final = 4096
"""Entries of a directory that are looked at."""
FILES_BUDGET: Final = 8192
BYTES_BUDGET: Final = 64 << 20
"""What may be read for one request."""
ITEMS_MAX: Final = 500_000
"""Values in one JSON text: ``[[],[],..`` needs twenty times its size in memory. Enough for a list of 16,000
containers."""

_USER: Final = re.compile(r"/user\.slice/user-([0-9]{1,10})\.slice/user@\1\.service/")
_NAME: Final = re.compile(r"[^/\0]{1,255}")

_OPEN: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
# O_NONBLOCK: a FIFO has no writer, and a lease that its owner took on the file is not waited for.
_FILE: Final = _OPEN | os.O_NONBLOCK | os.O_NOCTTY
_STEP: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


Base = tuple[str, ...]
"""A directory: a path in which links are followed, since only root can have made them, and names below it."""


class BudgetSpent(Exception):
    """One request has read as much as a request may."""


class Budget:
    """What is left for one request."""

    def __init__(self, files: int = FILES_BUDGET, size: int = BYTES_BUDGET) -> None:
        self._files = files
        self._bytes = size

    def spend(self, files: int, size: int = 0) -> None:
        """Take from it. Raises BudgetSpent."""
        self._files -= files
        self._bytes -= size
        if self._files < 0 or self._bytes < 0:
            raise BudgetSpent


class Host(NamedTuple):
    """Where all directories are, and who root is: something else in tests alone."""

    root: Path = Path("/")
    root_uid: int = 0


def owner_of(cgroup: str) -> int | None:
    """Return whose state may answer for this cgroup: 0 for root's, a user's uid, None for nobody's."""
    found = _USER.match(cgroup)
    if found:
        return int(found[1])
    return None if "/user@" in cgroup else 0


def manager_of(uid: int) -> str:
    """Return the cgroup of this user's service manager; "" for root, who is not bound to one."""
    return f"/user.slice/user-{uid}.slice/user@{uid}.service" if uid else ""


class Files:
    """The state files of one owner: `uid`, 0 for root."""

    def __init__(self, host: Host, uid: int, budget: Budget) -> None:
        self.uid = uid
        self._host = host
        self._owner = uid or host.root_uid
        self._budget = budget
        self._home: str | None = None

    @property
    def home(self) -> str:
        """This user's home directory as /etc/passwd has it; "" where it has none, and for root."""
        if self._home is None:
            self._home = self._find_home() if self.uid else ""
        return self._home

    def _find_home(self) -> str:
        passwd = Files(self._host, 0, self._budget).read(("/etc",), "passwd") or b""
        for line in passwd.decode("utf-8", "replace").splitlines():
            fields = line.split(":")
            if len(fields) == 7 and fields[2] == str(self.uid):  # noqa: PLR2004 - passwd(5)
                return fields[5] if fields[5].startswith("/") else ""
        return ""

    def bases(self, *root: str, home: str = "", runtime: str = "") -> tuple[Base, ...]:
        """Return root's directories, or those below a user's runtime directory and home."""
        if not self.uid:
            return tuple((path,) for path in root)
        found: list[Base] = []
        if runtime:
            found.append((f"/run/user/{self.uid}", *runtime.split("/")))
        if home and self.home:
            found.append((self.home, *home.split("/")))
        return tuple(found)

    def is_mine(self, cgroup: str) -> bool:
        """Whether this owner's files may speak of that cgroup."""
        return owner_of(cgroup) == self.uid

    def read(self, base: Base, *names: str, limit: int = FILE_MAX) -> bytes | None:
        """Return a file's bytes; None where it is none, another's, writable for all, too large or not there."""
        with contextlib.ExitStack() as stack:
            try:
                directory = self._walk(stack, (*base, *names[:-1]))
                fd = os.open(_checked(names[-1]), _FILE, dir_fd=directory)
                stack.callback(os.close, fd)
                found = os.fstat(fd)
                if not stat.S_ISREG(found.st_mode) or not self._trusts(found) or found.st_size > limit:
                    return None
                # One more than the size: a file that grows is being written, and its rest is missing.
                self._budget.spend(0, found.st_size + 1)
                data = os.read(fd, found.st_size + 1)
            except (OSError, ValueError):
                return None
        return data if len(data) == found.st_size else None

    def json(self, base: Base, *names: str, limit: int = FILE_MAX) -> object:
        """Return what a JSON file holds; None where `read` has nothing, or where it is no JSON."""
        data = self.read(base, *names, limit=limit)
        return None if data is None else parse(data)

    def names(self, base: Base, *names: str) -> list[str]:
        """Return the names in a directory of this owner, in order; [] where there is none."""
        with contextlib.ExitStack() as stack:
            try:
                directory = self._walk(stack, (*base, *names))
                fd = os.open(".", _OPEN | os.O_DIRECTORY, dir_fd=directory)
                stack.callback(os.close, fd)
                if not self._trusts(os.fstat(fd)):
                    return []
                with os.scandir(fd) as entries:
                    found = [entry.name for entry in islice(entries, NAMES_MAX)]
            except (OSError, ValueError):
                return []
        self._budget.spend(len(found) // 8)
        return sorted(found)

    def _walk(self, stack: contextlib.ExitStack, path: Base) -> int:
        """Open a directory step by step."""
        self._budget.spend(1)
        fd = os.open(self._host.root / path[0].lstrip("/"), _STEP)
        stack.callback(os.close, fd)
        for name in path[1:]:
            fd = os.open(_checked(name), _STEP | os.O_NOFOLLOW, dir_fd=fd)
            stack.callback(os.close, fd)
        return fd

    def _trusts(self, found: os.stat_result) -> bool:
        return found.st_uid == self._owner and not found.st_mode & stat.S_IWOTH


def _checked(part: str) -> str:
    """Return one step of a path. Raises ValueError for what is more, or leads elsewhere."""
    if part in {".", ".."} or not _NAME.fullmatch(part):
        raise ValueError(part)
    return part


def parse(data: bytes | str) -> object:
    """Return the value of a JSON text; None for what is none, too deep, or mostly punctuation."""
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    items = data.count(b",") + data.count(b"[") + data.count(b"{")
    if items > ITEMS_MAX:
        return None
    try:
        return json.loads(data.decode())  # decoded here: loads() guesses an encoding
    except (ValueError, RecursionError, MemoryError):
        return None


def member(value: object, *keys: str) -> object:
    """Return what a path of keys leads to in JSON objects; None where it leads nowhere."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def objects(value: object) -> Iterator[dict[str, object]]:
    """Yield the objects of a JSON list; none for what is no list."""
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))
