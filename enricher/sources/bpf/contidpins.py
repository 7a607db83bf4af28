# SPDX-License-Identifier: Apache-2.0
"""What stays of the store of container identifiers when its process goes: maps and links in the bpffs.

Owns the names there. Never loads: `contidstore` asks for what is there before its load, and hands over what it has
attached. Without pins a restart of the service, or its kill, would forget every identifier, and what containers
made meanwhile would have none.

The directory is named after the version of the maps' shapes. Programs of another build that know the same shapes take
the maps over: they are attached before the old ones' links go, so that no fork is without either.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enricher.sources.bpf.libbpf import Libbpf

HOME: Final = Path("/sys/fs/bpf/audit-enricher")
VERSION: Final = "contid-1"
"""Of the shapes in `contidwire`: another number for each change of a map's key or value."""
_OPEN: Final = 0o700
_NEW: Final = "-new"
"""The bpffs refuses a name with a dot (EPERM)."""


class Pins:
    """Below `home`, which is made where it can be. ``why`` says why nothing is pinned, "" where it is."""

    def __init__(self, lib: Libbpf, home: Path | None = HOME) -> None:
        self._lib = lib
        self._home = home
        self.why = "" if home is not None else "not asked for"
        if home is None:
            return
        try:
            home.mkdir(mode=_OPEN, exist_ok=True)
            self._place.mkdir(mode=_OPEN, exist_ok=True)
        except OSError as error:
            self.why = f"{error.filename}: {error.strerror}"

    @property
    def _place(self) -> Path:
        assert self._home is not None  # noqa: S101 - asked only where there is one
        return self._home / VERSION

    def found(self, names: tuple[str, ...]) -> dict[str, int]:
        """The maps that are pinned, as descriptors that are the caller's; none where one of these names is missing.

        Some alone are what a start has left that was cut short: nothing was attached to them.
        """
        fds: dict[str, int] = {}
        if self.why:
            return fds
        for name in names:
            fd = self._lib.bpf_obj_get(os.fsencode(self._place / name))
            if fd < 0:
                for other in fds.values():
                    os.close(other)
                return {}
            fds[name] = fd
        return fds

    def keep(self, maps: Mapping[str, int], links: Mapping[str, int], names: tuple[str, ...]) -> None:
        """Pin these maps, and these links in place of those that are there, which end by that.

        What is neither of these links nor one of the maps `names` is another build's, and ends too.
        """
        if self.why:
            return
        try:
            for name, fd in maps.items():
                self._pin(name, fd)
            for name, fd in links.items():
                self._pin(name + _NEW, fd)
            for name in links:
                (self._place / (name + _NEW)).replace(self._place / name)
            for path in self._place.iterdir():
                if path.name not in links and path.name not in names:
                    path.unlink()
        except OSError as error:
            self.why = f"{error.filename}: {error.strerror}"
            remove(self._place.parent)

    def _pin(self, name: str, fd: int) -> None:
        path = self._place / name
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        if self._lib.bpf_obj_pin(fd, os.fsencode(path)):
            code = ctypes.get_errno() or errno.EINVAL
            raise OSError(code, os.strerror(code), str(path))


def remove(home: Path = HOME) -> bool:
    """Take every pin away, of all versions: what nobody else holds ends. Whether there was one.

    For a start with container identifiers off, after which nothing may stay of a run that had them on.
    """
    found = False
    with contextlib.suppress(OSError):
        for place in home.glob("contid-*"):
            for path in place.iterdir():
                path.unlink()
                found = True
            place.rmdir()
        home.rmdir()
    return found


def remains(home: Path = HOME) -> bool:
    """Whether something is pinned still: `remove` may not write there."""
    with contextlib.suppress(OSError):
        return any(True for _ in home.glob("contid-*/*"))
    return False
