#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Build the rpm from a checkout in which `make bpf` has run; see docs/packaging.md.

Makes the source archive that packaging/rpm/audit-enricher.spec takes, the same bytes each time, and runs rpmbuild in
a directory of its own. Owns what goes into the archive; where it goes on a host is the spec's. Never compiles, never
changes the checkout, and bundles nothing of others::

    tools/build_rpm.py --into dist
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import sbom
from staging import OBJECTS, PACKAGING, ROOT, BuildFailed, fill, normalise, place, run, version

if TYPE_CHECKING:
    from collections.abc import Sequence

SPEC = PACKAGING / "rpm" / "audit-enricher.spec"
ARCHITECTURES = ("x86_64", "aarch64")
"""Machines whose BPF objects have to be in a package that is for every machine."""

# Extension modules are for one Python and one machine; the sources that bcc compiles are for kernels without BTF, which
# no distribution with a Python that is new enough has.
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "*.pxd", "*.so", "source")


def spec_version(spec: str) -> str:
    """Return the version in the spec's head. BuildFailed where its own changelog begins with another one."""
    head = re.search(r"^Version:\s*(\S+)\nRelease:\s*(\S+)$", spec, re.MULTILINE)
    newest = re.search(r"^%changelog\n\* .* - (\S+)$", spec, re.MULTILINE)
    if head is None or newest is None or newest[1] != f"{head[1]}-{head[2]}":
        told = f"{newest[1] if newest else 'none'}, its head {'-'.join(head.groups()) if head else 'none'}"
        raise BuildFailed(f"the changelog of {SPEC.name} has version {told}: add an entry")
    return newest[1]


def stage(tree: Path, spec: str) -> None:
    """Fill the directory that becomes the source archive. BuildFailed where something is not built yet."""
    missing = [name for name in ARCHITECTURES if not (ROOT / OBJECTS / f"{name}.bpf.o").exists()]
    if missing:
        raise BuildFailed(f"the BPF objects for {', '.join(missing)} are not built: make bpf")
    shutil.copytree(ROOT / "enricher", tree / "enricher", ignore=_LEFT_OUT)
    shutil.copytree(ROOT / "LICENSES", tree / "LICENSES")
    fill(tree)
    # One list for both kinds of package.
    for line in (PACKAGING / "debian" / "audit-enricher.examples").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            place(tree / line, tree / "examples" / Path(line).name)
    try:
        bill = sbom.document(spec, "", spec_version(spec), kind="rpm")
    except ValueError as error:
        raise BuildFailed(str(error)) from error
    (tree / "sbom.cdx.json").write_bytes(bill)
    normalise(tree)


def archive(tree: Path, target: Path) -> None:
    """Pack the tree: names in order, root's, without a time."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = "root"
        return member

    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        tar.add(tree, tree.name, filter=plain)  # goes through a directory in the names' order


def build(into: Path) -> Path:
    """Build the package and return it, in the directory `into`."""
    spec = SPEC.read_text(encoding="utf-8")
    if spec_version(spec) != version():
        raise BuildFailed(
            f"{SPEC.name} has version {spec_version(spec)}, the Debian package {version()}: both are one program"
        )
    with tempfile.TemporaryDirectory(prefix="audit-enricher-rpm-") as scratch:
        top = Path(scratch)
        tree = top / f"audit-enricher-{spec_version(spec).partition('-')[0]}"
        tree.mkdir()
        stage(tree, spec)
        for name in ("SOURCES", "BUILD"):
            (top / name).mkdir()
        archive(tree, top / "SOURCES" / f"{tree.name}.tar.gz")
        # --nodeps: what the build needs is in packaging/build-packages.txt, not in rpm's database on every system.
        places = ("--define", f"_topdir {top}", "--define", "_tmppath %{_topdir}/tmp")
        run(["rpmbuild", "-bb", "--nodeps", *places, "--target", "noarch-linux", str(SPEC)], top / "BUILD")
        made = sorted((top / "RPMS").rglob("*.rpm"))
        if len(made) != 1:
            raise BuildFailed(f"expected one package; made {', '.join(path.name for path in made) or 'none'}")
        into.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(made[0], into / made[0].name))


def main(words: Sequence[str] | None = None) -> int:
    """Build as the command line says; print the package's name."""
    parser = argparse.ArgumentParser(description="Build the rpm.")
    parser.add_argument(
        "--into", type=Path, default=ROOT / "dist", metavar="DIR", help="where it goes (dist)"
    )
    options = parser.parse_args(words)
    try:
        made = build(options.into)
    except BuildFailed as error:
        print(f"rpm: {error}", file=sys.stderr)
        return 1
    print(f"RPM  {os.path.relpath(made)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
