# SPDX-License-Identifier: Apache-2.0
"""ext4 disk images from directories, without mounting anything and without loop devices.

Never keeps a journal on them: they are read-only or thrown away.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.vm.cache import scratch, shell

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["make_disk", "make_share"]

_MIB = 1 << 20
_SHARE_LEAVES_OUT = shutil.ignore_patterns(
    ".git",
    ".cache",
    ".venv",
    "venv",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
)


def make_disk(source: Path, image: Path, *, label: str, size_mib: int | None = None) -> None:
    """Make a disk holding a directory's content; without a size it is as small as the content allows."""
    if size_mib is None:
        count, used = 0, 0
        for path in source.rglob("*"):
            count += 1
            if path.is_file() and not path.is_symlink():
                used += path.stat().st_size + 4096
        # Inodes take 256 bytes each; the rest of the margin is group tables and directories.
        size_mib = (used * 21 // 20 + count * 1024) // _MIB + 8
    with image.open("wb") as disk:
        disk.truncate(size_mib * _MIB)
    features = "^has_journal,^metadata_csum,^resize_inode,^64bit"
    options = "root_owner=0:0,lazy_itable_init=1,hash_seed=7a1f0c1e-0000-4000-8000-000000000001"
    inodes = ["-i", "16384"] if size_mib > 1024 else ["-i", "4096"]  # noqa: PLR2004 - a root image, not a share
    shell(
        [
            *("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-b", "4096", *inodes),
            *("-L", label, "-O", features, "-E", options, "-d", source, image),
        ]
    )


def make_share(source: Path, image: Path) -> None:
    """Make the disk of a shared directory, leaving out caches, virtual environments and history."""
    with scratch("share") as work:
        copy = work / "share"
        shutil.copytree(source, copy, symlinks=True, ignore=_SHARE_LEAVES_OUT)
        make_disk(copy, image, label="share")
