# SPDX-License-Identifier: Apache-2.0
"""The emulator: which QEMU runs the guests, and where its firmware is.

Owns the cache's emulator directory. The machine's own QEMU is taken where it is new enough; else Debian's newer build
for the same release is unpacked in the cache, whose libraries come with the machine's own. Never installs anything.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.vm.aptroot import AptRoot
from tests.vm.cache import LockFile, cache_dir, scratch, shell, tell
from tests.vm.errors import BuildError

__all__ = ["NAME", "Emulator", "ensure_emulator"]

NAME = "qemu-system-x86_64"
# Starting a program is five times as fast with 10.0 as with 7.2, where writing to a page that holds code threw away
# more than what was translated from it (docs/adr/0023-a-newer-emulator.md).
_GOOD_MAJOR = 10
_TRIES = 3
_BETWEEN = 10.0
"""Seconds."""
_SUITE = "bookworm-backports"
_PACKAGES = ("qemu-system-x86", "qemu-system-common", "qemu-system-data")
_SEABIOS = Path("/usr/share/seabios")


@dataclass(frozen=True)
class Emulator:
    """A QEMU that starts on this machine: its binary, and the directories of firmware to name to it, maybe none."""

    binary: str
    firmware: tuple[str, ...] = ()

    @property
    def argv(self) -> list[str]:
        """How its command line begins."""
        return [self.binary, *(word for directory in self.firmware for word in ("-L", directory))]


@cache
def ensure_emulator() -> Emulator:
    """Return the QEMU to run guests with, unpacking it when it is missing.

    Where the newer one is not to be had the machine's own does, which is slower: that is told once per process.
    """
    own = shutil.which(NAME)
    if own is None:
        message = f"{NAME} is not installed (see tests/vm/packages.txt)"
        raise BuildError(message)
    # A lock of its own: whoever builds the image boots a guest, and holds the builders' lock meanwhile.
    lock = LockFile("emulator.lock")
    lock.acquire("the emulator")
    try:
        known = _read_pointer(own)
        if known is None:
            known = Emulator(own) if _major(own) >= _GOOD_MAJOR else _unpack()
            if known is None:
                return Emulator(own)  # not written down: the next process asks again
            _write_pointer(own, known)
        return known
    finally:
        lock.release()


def _major(binary: str) -> int:
    """Return the first number of its version; 0 where it does not start or says none."""
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, timeout=60, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(rb"version (\d+)\.", done.stdout)
    return int(found[1]) if found else 0


def _unpack() -> Emulator | None:
    apt = AptRoot(_SUITE, may_be_unsigned=False)
    for attempt in range(1, _TRIES + 1):
        # Without it every guest takes several times as long: a mirror that is away for a moment is waited for.
        try:
            return _unpack_from(apt)
        except BuildError as error:
            said = str(error).strip().splitlines()[-1]
            tell(f"emulator: attempt {attempt} of {_TRIES}: {said}")
            time.sleep(_BETWEEN if attempt < _TRIES else 0)
    tell("emulator: the machine's own runs the guests, slowly")
    return None


def _unpack_from(apt: AptRoot) -> Emulator | None:
    apt.update()
    fields = apt.show(_PACKAGES[0])
    if not fields:
        tell(f"emulator: {_SUITE} has none, so the machine's own runs the guests, slowly")
        return None
    final = _home() / fields["SHA256"][:16]
    if not final.exists():
        tell(f"emulator: unpacking QEMU {fields['Version']} from {_SUITE}")
        with scratch("emulator") as work:
            for deb in apt.download(list(_PACKAGES), work / "debs"):
                shell(["dpkg", "-x", deb, work / "root"])
            (work / "root").rename(final)
    found = _unpacked(final.name)
    if _major(found.binary) < _GOOD_MAJOR:
        tell("emulator: what was unpacked does not start, so the machine's own runs the guests, slowly")
        return None
    return found


def _home() -> Path:
    path = cache_dir() / "emulator"
    path.mkdir(exist_ok=True)
    return path


def _state(own: str) -> str:
    """What the choice depends on: the machine's own QEMU, whose libraries both use."""
    about = Path(own).stat()
    return f"{about.st_size} {about.st_mtime_ns}"


def _read_pointer(own: str) -> Emulator | None:
    try:
        fields = json.loads((_home() / "chosen.json").read_text())
        if fields["own"] != _state(own):
            return None
        # Directories are stored by name only, so that a cache can be moved.
        found = _unpacked(fields["directory"]) if fields["directory"] else Emulator(own)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if Path(found.binary).exists() else None


def _unpacked(directory: str) -> Emulator:
    root = _home() / directory
    return Emulator(str(root / "usr/bin" / NAME), (str(root / "usr/share/qemu"), str(_SEABIOS)))


def _write_pointer(own: str, chosen: Emulator) -> None:
    directory = "" if chosen.binary == own else Path(chosen.binary).parents[2].name
    fresh = _home() / "chosen.new"
    fresh.write_text(json.dumps({"own": _state(own), "directory": directory}) + "\n")
    fresh.replace(_home() / "chosen.json")
