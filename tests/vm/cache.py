# SPDX-License-Identifier: Apache-2.0
"""The cache directory: where it is, its locks, temporary directories, publishing, checksums.

Everything is built beside its final place and renamed, so an interrupted build leaves nothing half done.
Never knows what is being built.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.vm.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["LockFile", "build_lock", "cache_dir", "digest_files", "scratch", "shell", "tell"]

PACKAGE = Path(__file__).resolve().parent
_TELL_EVERY = 30.0


def tell(message: str) -> None:
    """Say something to whoever watches: standard error, which pytest captures and a terminal shows."""
    sys.stderr.write(f"vm: {message}\n")
    sys.stderr.flush()


def cache_dir() -> Path:
    """Return the cache directory, created: AUDIT_ENRICHER_CACHE or .cache/vm at the repository's root."""
    chosen = os.environ.get("AUDIT_ENRICHER_CACHE")
    path = Path(chosen).resolve() if chosen else PACKAGE.parent.parent / ".cache" / "vm"
    path.mkdir(parents=True, exist_ok=True)
    return path


class LockFile:
    """An flock on one of several files; the kernel drops it with its last holder, so a crash never leaves it behind."""

    def __init__(self, *names: str) -> None:
        """Name the lock files inside the cache directory: as many holders as names."""
        self._paths = [cache_dir() / name for name in names]
        self._fd = -1
        self.seat = 0
        """Which of the names is held."""

    @property
    def fd(self) -> int:
        """The descriptor that holds the lock; a child that inherits it keeps the lock held."""
        return self._fd

    def acquire(self, why: str) -> None:
        """Wait for one of the locks without limit, telling every half minute who is in the way."""
        told = 0.0
        while not any(self._try(seat) for seat in range(len(self._paths))):
            if time.monotonic() - told > _TELL_EVERY:
                holder = self._paths[0].read_text(errors="replace").strip() or "another process"
                tell(f"{why}: waiting for {self._paths[0].name}, held by {holder}")
                told = time.monotonic()
            time.sleep(0.2)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"pid {os.getpid()}\n".encode(), 0)

    def _try(self, seat: int) -> bool:
        fd = os.open(self._paths[seat], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._fd, self.seat = fd, seat
        return True

    def release(self) -> None:
        """Drop the lock; harmless when it is not held."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@contextlib.contextmanager
def build_lock(why: str) -> Iterator[None]:
    """Hold the lock that keeps two builders apart."""
    lock = LockFile("build.lock")
    lock.acquire(why)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def scratch(label: str) -> Iterator[Path]:
    """Yield an empty directory inside the cache (so that a rename stays on one file system), removed afterwards."""
    parent = cache_dir() / "tmp"
    parent.mkdir(exist_ok=True)
    _sweep(parent)
    path = Path(tempfile.mkdtemp(prefix=f"{label}-{os.getpid()}-", dir=parent))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove what processes that were killed have left; a directory's name carries its owner's pid."""
    for path in parent.iterdir():
        owner = path.name.rsplit("-", 2)[-2:][0]
        if not (owner.isdigit() and Path("/proc", owner).exists()):
            shutil.rmtree(path, ignore_errors=True)


def digest_files(paths: Sequence[Path], *extra: str) -> str:
    """Return 16 hex digits over the files' names, contents and the extra strings, in the given order."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    for text in extra:
        total.update(text.encode() + b"\0")
    return total.hexdigest()[:16]


def shell(argv: Sequence[str | Path], *, cwd: Path | None = None, timeout: float = 900) -> str:
    """Run a build tool and return its standard output; its last words become a BuildError."""
    words = [str(word) for word in argv]
    env = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(  # noqa: S603 - the callers' own words
            words,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        message = f"{words[0]} is not installed (see tests/vm/packages.txt)"
        raise BuildError(message) from error
    except subprocess.TimeoutExpired as error:
        message = f"{' '.join(words[:6])} took more than {timeout:.0f} s"
        raise BuildError(message) from error
    if done.returncode:
        said = (done.stdout[-1500:] + done.stderr[-3000:]).decode(errors="replace")
        message = f"{' '.join(words[:6])} returned {done.returncode}\n{said}"
        raise BuildError(message)
    return done.stdout.decode(errors="replace")
