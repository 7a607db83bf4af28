# SPDX-License-Identifier: Apache-2.0
"""What the builds of all packages share: the version, a tree with modes and times of its own, and a clean environment.

Owns nothing that only one kind of package has: build_deb.py and build_rpm.py say what goes where. Never compiles,
never changes the checkout.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(__file__).resolve().parent.parent
PACKAGING = ROOT / "packaging"
OBJECTS = "enricher/sources/bpf/objects"
COMMON = ("man", "completions", "prometheus", "rules", "systemd", "oci", "auditd", "fleet")
"""Directories of packaging/ that every package takes from."""


class BuildFailed(Exception):
    """The packages cannot be built; the message says why and what to do."""


def changelog() -> str:
    """The Debian changelog without our comment lines, which a package's must not have."""
    lines = (PACKAGING / "debian" / "changelog").read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))


def version() -> str:
    """Return the packages' version. BuildFailed where the changelog is of another version than the program."""
    source = (ROOT / "enricher" / "__init__.py").read_text(encoding="utf-8")
    values = (node.value for node in ast.parse(source).body if isinstance(node, ast.Assign))
    program = next(
        value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)
    )
    head = re.search(r"^audit-enricher \((\S+)\) ", changelog(), re.MULTILINE)
    newest = head[1] if head else "none"
    if newest.partition("-")[0] != program:
        raise BuildFailed(
            f"packaging/debian/changelog has version {newest}, the program is {program}: add an entry"
        )
    return newest


def place(source: Path, target: Path) -> None:
    """Copy a file to a place whose directory may be missing."""
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)


def fill(tree: Path, more: Iterable[str] = ()) -> None:
    """Copy into the tree what does not depend on the package's kind: documents, COMMON, and `more` of packaging/."""
    shutil.copytree(ROOT / "docs", tree / "docs")
    for name in ("README.md", "CHANGELOG.md"):
        shutil.copyfile(ROOT / name, tree / name)
    for name in (*COMMON, *more):
        shutil.copytree(PACKAGING / name, tree / name)
    place(PACKAGING / "audit-enricher.toml", tree / "etc" / "audit-enricher.toml")
    # One launcher for all: what it names and is not there is passed over.
    place(PACKAGING / "debian" / "launcher", tree / "bin" / "audit-enricher")


def normalise(tree: Path, programs: Iterable[Path] = ()) -> None:
    """Modes as of no umask, times as of no clock: a build moves a time back to the changelog's, never forward."""
    executable = {tree / "bin" / "audit-enricher", tree / "oci" / "contid-hook", tree / "oci" / "contid-runc"}
    executable |= set(programs)
    for path in [tree, *tree.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or path in executable else 0o644)
        os.utime(path)


def run(argv: Sequence[str], cwd: Path) -> None:
    """Run a build with an environment that says nothing of this machine; its log is shown where it fails."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    environment = {**kept, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except FileNotFoundError as error:
        raise BuildFailed(f"{argv[0]} is not installed: make setup") from error
    (cwd.parent / "build.log").write_text(done.stdout, encoding="utf-8")
    if done.returncode:
        raise BuildFailed(f"{argv[0]} returned {done.returncode}:\n{done.stdout[-4000:]}")
