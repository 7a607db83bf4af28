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
from staging import OBJECTS, PACKAGING, ROOT, BuildFailed, changelog, fill, normalise, place, run, version

if TYPE_CHECKING:
    from collections.abc import Sequence

VENDORED = PACKAGING / "vendored.txt"
WHEELS = ROOT / ".cache" / "wheels"
PACKAGES = ("audit-enricher", "audit-enricher-bcc")

_SOURCES = "enricher/sources/bpf/source"
# The package is for amd64; other machines' objects would be dead weight.
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "*.pxd", "aarch64*.o", "source")
_COPYRIGHT_FORMAT = "https://www." + "debian" + ".org/doc/packaging-manuals/copyright-format/1.0/"
_PIN = re.compile(
    r"^(?P<name>[\w-]+)==(?P<version>\S+) --hash=sha256:(?P<sha256>[0-9a-f]{64})$", re.MULTILINE
)
_SUFFIX = re.compile(r"(~[a-z0-9]+)?")


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
    if not list((ROOT / OBJECTS).glob("x86_64*.bpf.o")) or not (ROOT / _SOURCES / "bcc/audit.c").exists():
        raise BuildFailed("the BPF objects are not built: make bpf")
    if not list((ROOT / "enricher").rglob("*.cpython-311-*.so")):
        raise BuildFailed("the hot modules are not compiled: make compiled")
    shutil.copytree(ROOT / "enricher", tree / "enricher", ignore=_LEFT_OUT)
    shutil.copytree(ROOT / _SOURCES, tree / "source")
    with zipfile.ZipFile(wheel()) as archive:
        archive.extractall(tree / "vendor")
    fill(tree, ("debian", "apparmor"))
    # bash looks for a completion by the command's name.
    place(tree / "completions" / "audit-enricher.bash", tree / "completions" / "audit-enricher")
    # debhelper looks for these beside its own files, under the package's name.
    for name in ("service", "sysusers"):
        place(tree / "systemd" / f"audit-enricher.{name}", tree / "debian" / f"audit-enricher.{name}")
    debian = tree / "debian"
    (debian / "changelog").write_text(changelog().replace(version(), version() + suffix, 1), encoding="utf-8")
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
    normalise(tree, [debian / "rules"])


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
        run(["dpkg-buildpackage", "-b", "-us", "-uc", "-d"], tree)
        into.mkdir(parents=True, exist_ok=True)
        made = sorted(work.glob("*.deb"))
        if {path.name.partition("_")[0] for path in made} != set(PACKAGES):
            raise BuildFailed(f"expected {', '.join(PACKAGES)}; made {', '.join(path.name for path in made)}")
        return [Path(shutil.copyfile(path, into / path.name)) for path in made]


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
