# SPDX-License-Identifier: Apache-2.0
"""One namespace: how /proc names it, how it is opened without harm, and what the kernel says of it through ioctl.

Owns the links' format, the check that what was opened is the namespace that was meant, and the numbers of
linux/nsfs.h. Never enters a namespace, and never looks for one.

A link is read, not followed, wherever its text is enough: on Linux 5.10 one that may not be followed leads to the
process's own directory, and one that may not be read has another text, both without an error. What is followed is
first opened as a mere place (O_PATH), which neither waits nor starts anything, whatever it turns out to be.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.model import KINDS
from enricher.sources.host import PROC

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

OWN_KINDS: Final = KINDS[:8]
"""The kinds of namespaces; the other two of `KINDS` are second uses of pid and time."""

NESTED: Final = ("pid", "user")
"""The kinds that have a parent."""

_LINK: Final = re.compile(r"([a-z]{3,6}):\[([0-9]{1,10})\]\Z")

_NS_GET_USERNS: Final = 0xB701
_NS_GET_PARENT: Final = 0xB702
_NS_GET_OWNER_UID: Final = 0xB704
_NS_GET_MNTNS_ID: Final = 0x8008B705
_NS_GET_ID: Final = 0x8008B70D  # 6.18


class Ns(NamedTuple):
    """A namespace by its kind (of `OWN_KINDS`) and inum. It means one namespace only while that one is there."""

    kind: str
    inum: int


class Said(NamedTuple):
    """What the kernel says of one namespace. 0 and None are "not known", or "has none"."""

    parent: int = 0
    """The inum of the parent, of the same kind. The initial namespace has none, nor has one whose parent is outside
    of what we may see."""

    owner: int = 0
    """The inum of the owning user namespace; of a user namespace that is its parent."""

    uid: int | None = None
    """Of a user namespace: who made it, as seen from our own user namespace."""

    ident: int = 0
    """The kernel's unique id, never used again within a boot: of every kind from 6.18 on, of mnt from 6.11 on."""

    noticed: int = 0
    """When the kernel made the namespace's inode, in ns of the wall clock: the namespace is no younger. It is made
    when somebody opens or mounts the namespace, and goes when nobody has it open any more."""


def parse_link(text: str) -> Ns | None:
    """Return the namespace that a link's text names; None for anything else."""
    match = _LINK.match(text)
    if not match or match[1] not in OWN_KINDS:
        return None
    return Ns(match[1], int(match[2]))


def read_link(path: str) -> Ns | None:
    """Return the namespace that a link of /proc/PID/ns names, None where the kernel has none to name.

    Raises OSError: PermissionError where we may not know, which 5.10 says by a text that names nothing.
    """
    try:
        text = os.readlink(path)  # noqa: PTH115 - a Path for each of thousands of links is most of the time
    except FileNotFoundError:
        return None
    ns = parse_link(text)
    if ns is None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    return ns


def device(proc: Path = PROC) -> int:
    """Return the number of nsfs, one for the whole boot; 0 where it cannot be read."""
    try:
        found = (proc / "self" / "ns" / "mnt").stat()
    except OSError:
        return 0
    return 0 if stat.S_ISDIR(found.st_mode) else found.st_dev


def open_at(path: str | bytes, wanted: Ns, dev: int) -> int:
    """Return a descriptor of the namespace, which is at this path. Raises OSError: ESTALE if something else is."""
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        found = os.fstat(place)
        if not stat.S_ISREG(found.st_mode) or (found.st_dev, found.st_ino) != (dev, wanted.inum):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(place)


def open_any(paths: Iterable[str], wanted: Ns, dev: int) -> int:
    """Return the same of the first path where it still is. Raises OSError."""
    error = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for path in paths:
        try:
            return open_at(path, wanted, dev)
        except OSError as failed:
            error = failed
    raise error


def said_of(fd: int, ns: Ns) -> tuple[Said, list[tuple[Ns, int]]]:
    """Return what the kernel says of an open namespace, and the namespaces above it with a descriptor each.

    The caller closes those descriptors.
    """
    above: list[tuple[Ns, int]] = []
    parent = _related(fd, _NS_GET_PARENT, ns.kind, above) if ns.kind in NESTED else 0
    owner = parent if ns.kind == "user" else _related(fd, _NS_GET_USERNS, "user", above)
    uid = _number(fd, _NS_GET_OWNER_UID, "=I") if ns.kind == "user" else None
    ident = _number(fd, _NS_GET_ID, "=Q")
    if ident is None and ns.kind == "mnt":
        ident = _number(fd, _NS_GET_MNTNS_ID, "=Q")
    return Said(parent, owner, uid, ident or 0, os.fstat(fd).st_mtime_ns), above


def _related(fd: int, request: int, kind: str, above: list[tuple[Ns, int]]) -> int:
    try:
        other = fcntl.ioctl(fd, request)
    except OSError:  # EPERM: there is none, or it is not for us to see
        return 0
    inum = os.fstat(other).st_ino
    above.append((Ns(kind, inum), other))
    return inum


def _number(fd: int, request: int, layout: str) -> int | None:
    try:
        answer = fcntl.ioctl(fd, request, bytes(struct.calcsize(layout)))
    except OSError:  # ENOTTY: the kernel does not know the question
        return None
    number: int = struct.unpack(layout, answer)[0]
    return number
