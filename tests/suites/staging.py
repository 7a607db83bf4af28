# SPDX-License-Identifier: Apache-2.0
"""Puts what a guest needs into one directory, which the guest sees read-only at /opt/share; and installs from there.

Owns the list of what goes in, and how the package gets into a guest: as on any host, by dpkg. Never starts the
service: the suites run the command themselves.
"""

from __future__ import annotations

import py_compile
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.packaging.built import build
from tests.vm.guest import Guest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vm.machine import Machine

ROOT = Path(__file__).resolve().parents[2]
SHARE = "/opt/share"
COMMAND = "/usr/bin/audit-enricher"

_MAIN, _BCC = "audit-enricher.deb", "audit-enricher-bcc.deb"
# A guest is gone when its suites are done: nothing has to reach its disk, nor be read by a person.
_DPKG = "dpkg --force-unsafe-io --path-exclude='/usr/share/doc/*' --path-exclude='/usr/share/man/*'"
_MASK = "ln -s /dev/null /etc/systemd/system/audit-enricher.service"
# Under emulation a guest takes longer to compile the modules than to install them: it gets them compiled. Where its
# Python is another one than ours it passes them over, and compiles as it goes.
_COMPILED = "compiled"
_QUICK = "mkdir -p /run/quick && ln -sf /bin/true /run/quick/py3compile"
# The unit has 90 s for a start, and packaging/test_package.py keeps to them. An emulated guest beside another took 40,
# and a slow machine takes a few times that.
_UNIT = "/etc/systemd/system/audit-enricher.service.d"
_START = f"mkdir -p {_UNIT} && printf '[Service]\\nTimeoutStartSec=6min\\n' >{_UNIT}/guest.conf"
_INSTALL = (
    f"{_MASK} && {_START} && {_QUICK} && PATH=/run/quick:$PATH {_DPKG} --install {SHARE}/{_MAIN} &&"
    f" cp -r {SHARE}/{_COMPILED}/. /"
)


def stage(into: Path) -> Path:
    """Fill the empty directory `into` with packages of this tree, and what the suites run; return it."""
    debs = build(into / "built")
    _compile(debs.main, into / _COMPILED)
    debs.main.rename(into / _MAIN)
    debs.bcc.rename(into / _BCC)
    shutil.rmtree(into / "built")
    shutil.copytree(ROOT / "build/workload", into / "workload")
    shutil.copytree(ROOT / "tests/suites/guest", into / "guest", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "packaging/rules", into / "rules")
    return into


def _compile(package: Path, into: Path) -> None:
    """Compile the modules of a package, each to where it belongs beside its source as that is installed."""
    with tempfile.TemporaryDirectory() as root:
        subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
        for source in Path(root).rglob("*.py"):
            place = source.relative_to(root)
            cached = into / place.parent / "__pycache__" / f"{place.stem}.{sys.implementation.cache_tag}.pyc"
            # As py3compile does: valid as long as the source has this time and size, which dpkg keeps.
            py_compile.compile(str(source), str(cached), f"/{place}", doraise=True)


def install(guest: Machine) -> None:
    """Install the package in a guest that has the share."""
    guest.run(["sh", "-c", _INSTALL], timeout=180, check=True)


def install_bcc(guest: Machine) -> None:
    """Install audit-enricher-bcc beside it, without the compiler that it depends on: see tests/vm/bccdisk.py."""
    guest.run(["sh", "-c", f"{_DPKG} --force-depends --install {SHARE}/{_BCC}"], timeout=180, check=True)


@contextmanager
def installed(slot: str, share: Path, **options: Any) -> Iterator[Guest]:  # noqa: ANN401 - those of `Guest`
    """Boot a guest of this slot and install the package in it."""
    with Guest(slot, share=share, **options) as guest:
        install(guest)
        yield guest
