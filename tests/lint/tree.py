# SPDX-License-Identifier: Apache-2.0
"""The repository's own files, for the lint tests: everything but what `make` creates.

Walks the directory rather than asking git, so that the tests also run in an unpacked source archive.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ROOT", "files", "relative"]

ROOT = Path(__file__).parents[2]

_CREATED_AT_TOP = {"build", "dist"}
_HIDDEN_AT_TOP = {".ci"}
_MADE = {".pyc", ".so"}
_CREATED_ANYWHERE = {"__pycache__", "objects"}
_CREATED = {ROOT / "enricher/sources/bpf/source"}  # `make bpf` copies bpf/ there


def files(*suffixes: str, under: str = "") -> list[Path]:
    """Return the files below `under`, of these suffixes or of any."""
    found = [path for path in _walk(ROOT / under) if not suffixes or path.suffix in suffixes]
    return sorted(found)


def relative(path: Path) -> str:
    """Return the path as it is written in messages and in the tables of exceptions."""
    return str(path.relative_to(ROOT))


def _walk(directory: Path) -> Iterator[Path]:
    if not directory.is_dir():
        return
    for path in directory.iterdir():
        if path.is_symlink():
            continue
        if path.is_file():
            if path.suffix not in _MADE and path.name != ".git":  # a worktree has a file of that name
                yield path
        elif not _created(path):
            yield from _walk(path)


def _created(path: Path) -> bool:
    if path.name in _CREATED_ANYWHERE or path in _CREATED or path.suffix == ".egg-info":
        return True
    if path.parent != ROOT:
        return False
    # Every tool keeps its cache in a hidden directory.
    return path.name in _CREATED_AT_TOP or (path.name.startswith(".") and path.name not in _HIDDEN_AT_TOP)
