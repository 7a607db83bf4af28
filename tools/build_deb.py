#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Build the Debian packages from a checkout in which `make bpf compiled` has run; see docs/packaging.md.

Puts a source tree together in a directory of its own (what is packed, where, is in packaging/debian), fetches the
one bundled library by its checksum, and runs dpkg-buildpackage there. Owns that tree and the packages' version.
Never compiles, never changes the checkout, and writes nothing that depends on where or when it runs::

    tools/build_deb.py --into dist
    tools/build_deb.py --into build/previous --suffix '~prev1'
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import sbom

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
PACKAGING = ROOT / "packaging"
VENDORED = PACKAGING / "vendored.txt"
WHEELS = ROOT / ".cache" / "wheels"
PACKAGES = ("audit-enricher", "audit-enricher-bcc")

_OBJECTS = "enricher/sources/bpf/objects"
_SOURCES = "enricher/sources/bpf/source"
# The package is for amd64; other machines' objects would be dead weight.
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "*.pxd", "aarch64*.o", "source")
_COPYRIGHT_FORMAT = "https://www." + "debian" + ".org/doc/packaging-manuals/copyright-format/1.0/"
_PIN = re.compile(
    r"^(?P<name>[\w-]+)==(?P<version>\S+) --hash=sha256:(?P<sha256>[0-9a-f]{64})$", re.MULTILINE
)
_SUFFIX = re.compile(r"(~[a-z0-9]+)?")


class BuildFailed(Exception):
    """The packages cannot be built; the message says why and what to do."""


def version() -> str:
    """Return the packages' version. BuildFailed where the changelog is of another version than the program."""
    source = (ROOT / "enricher" / "__init__.py").read_text(encoding="utf-8")
    values = (node.value for node in ast.parse(source).body if isinstance(node, ast.Assign))
    program = next(
        value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)
    )
    head = re.search(r"^audit-enricher \((\S+)\) ", _changelog(), re.MULTILINE)
    newest = head[1] if head else "none"
    if newest.partition("-")[0] != program:
        raise BuildFailed(
            f"packaging/debian/changelog has version {newest}, the program is {program}: add an entry"
        )
    return newest


def _changelog() -> str:
    """The changelog without our comment lines, which a package's must not have."""
    lines = (PACKAGING / "debian" / "changelog").read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))


def wheel() -> Path:
    """Return the bundled library's wheel, fetched if it is not here. BuildFailed where it cannot be had as pinned."""
    pin = _PIN.search(VENDORED.read_text(encoding="utf-8"))
    if pin is None:
        raise BuildFailed(f"{VENDORED.name} has no line NAME==VERSION --hash=sha256:...")
    pattern = f"{pin['name']}-{pin['version']}-cp311-*.whl"
    if not _valid(pattern, pin["sha256"]):
        WHEELS.mkdir(parents=True, exist_ok=True)
        fetch = [
            *(_pip(), "download", "--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps"),
            *("--only-binary=:all:", "--implementation=cp", "--python-version=3.11"),
            *("--platform=manylinux2014_x86_64", f"--dest={WHEELS}", f"--requirement={VENDORED}"),
        ]
        done = subprocess.run(fetch, check=False, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise BuildFailed(
                f"{pin['name']} {pin['version']}, which the package bundles, cannot be fetched: {reason}\n"
                f"Put its wheel for CPython 3.11 on x86_64 into {WHEELS}; it is checked against {VENDORED.name}."
            )
    found = _valid(pattern, pin["sha256"])
    if found is None:
        raise BuildFailed(f"no {pattern} in {WHEELS} has the checksum in {VENDORED.name}")
    return found


def _valid(pattern: str, sha256: str) -> Path | None:
    """The wheel whose bytes are the pinned ones."""
    found = WHEELS.glob(pattern)
    return next((path for path in found if hashlib.sha256(path.read_bytes()).hexdigest() == sha256), None)


def _pip() -> str:
    """`make .venv` has one; Debian's Python comes without."""
    return str(ROOT / ".venv" / "bin" / "pip")


def stage(tree: Path, suffix: str) -> None:
    """Fill the directory with what debian/rules packs. BuildFailed where something is not built yet."""
    if not list((ROOT / _OBJECTS).glob("x86_64*.bpf.o")) or not (ROOT / _SOURCES / "bcc/audit.c").exists():
        raise BuildFailed("the BPF objects are not built: make bpf")
    if not list((ROOT / "enricher").rglob("*.cpython-311-*.so")):
        raise BuildFailed("the hot modules are not compiled: make compiled")
    shutil.copytree(ROOT / "enricher", tree / "enricher", ignore=_LEFT_OUT)
    shutil.copytree(ROOT / _SOURCES, tree / "source")
    with zipfile.ZipFile(wheel()) as archive:
        archive.extractall(tree / "vendor")
    shutil.copytree(ROOT / "docs", tree / "docs")
    for name in ("README.md", "CHANGELOG.md"):
        shutil.copyfile(ROOT / name, tree / name)
    for name in ("debian", "man", "completions", "prometheus", "rules", "systemd", "oci", "auditd", "fleet"):
        shutil.copytree(PACKAGING / name, tree / name)
    _place(tree / "debian" / "launcher", tree / "bin" / "audit-enricher")
    _place(PACKAGING / "audit-enricher.toml", tree / "etc" / "audit-enricher.toml")
    # bash looks for a completion by the command's name.
    _place(tree / "completions" / "audit-enricher.bash", tree / "completions" / "audit-enricher")
    # debhelper looks for these beside its own files, under the package's name.
    for name in ("service", "sysusers"):
        _place(tree / "systemd" / f"audit-enricher.{name}", tree / "debian" / f"audit-enricher.{name}")
    debian = tree / "debian"
    (debian / "changelog").write_text(
        _changelog().replace(version(), version() + suffix, 1), encoding="utf-8"
    )
    try:
        bill = sbom.document(
            (debian / "control").read_text(encoding="utf-8"),
            VENDORED.read_text(encoding="utf-8"),
            version() + suffix,
        )
    except ValueError as error:
        raise BuildFailed(str(error)) from error
    (tree / "sbom.cdx.json").write_bytes(bill)
    copyright_ = debian / "copyright"
    body = copyright_.read_text(encoding="utf-8")
    copyright_.write_text(f"Format: {_COPYRIGHT_FORMAT}\n{body}", encoding="utf-8")
    _normalise(tree)


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)


def _normalise(tree: Path) -> None:
    """Modes as of no umask, times as of no clock: dpkg-deb moves a time back to the changelog's, never forward."""
    programs = {tree / "debian" / "rules", tree / "bin" / "audit-enricher"}
    programs |= {tree / "oci" / "contid-hook", tree / "oci" / "contid-runc"}
    for path in [tree, *tree.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or path in programs else 0o644)
        os.utime(path)


def build(into: Path, *, suffix: str = "", workdir: Path | None = None) -> list[Path]:
    """Build both packages and return them, in the directory `into`; a workdir given is kept, with the build's log."""
    if not _SUFFIX.fullmatch(suffix):
        raise BuildFailed(
            f"the suffix {suffix!r} is not like ~prev1: it has to sort before the version itself"
        )
    with tempfile.TemporaryDirectory(prefix="audit-enricher-deb-") as scratch:
        work = workdir or Path(scratch)
        tree = work / f"audit-enricher-{version()}"
        tree.mkdir(parents=True)
        stage(tree, suffix)
        # -d: what the build needs is in packaging/build-packages.txt, not all of it in packages on every system.
        _run(["dpkg-buildpackage", "-b", "-us", "-uc", "-d"], tree)
        into.mkdir(parents=True, exist_ok=True)
        made = sorted(work.glob("*.deb"))
        if {path.name.partition("_")[0] for path in made} != set(PACKAGES):
            raise BuildFailed(f"expected {', '.join(PACKAGES)}; made {', '.join(path.name for path in made)}")
        return [Path(shutil.copyfile(path, into / path.name)) for path in made]


def _run(argv: Sequence[str], cwd: Path) -> None:
    """Run the build with an environment that says nothing of this machine; its log is shown where it fails."""
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


def main(words: Sequence[str] | None = None) -> int:
    """Build as the command line says; print the packages' names."""
    parser = argparse.ArgumentParser(description="Build the Debian packages.")
    parser.add_argument(
        "--into", type=Path, default=ROOT / "dist", metavar="DIR", help="where they go (dist)"
    )
    parser.add_argument("--suffix", default="", metavar="STR", help="appended to the version: ~prev1")
    options = parser.parse_args(words)
    try:
        made = build(options.into, suffix=options.suffix)
    except BuildFailed as error:
        print(f"deb: {error}", file=sys.stderr)
        return 1
    for path in made:
        print(f"DEB  {os.path.relpath(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
