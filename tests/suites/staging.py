# SPDX-License-Identifier: Apache-2.0
"""Puts what a guest needs into one directory, which the guest sees read-only at /opt/share.

Owns the list of what goes in. Never builds: `make` has made the BPF objects and the workload.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARE = "/opt/share"
COMMAND = f"{SHARE}/bin/audit-enricher"

_WRAPPER = f"""#!/bin/sh
PYTHONPATH={SHARE} exec /usr/bin/python3 -m enricher "$@"
"""


def stage(into: Path) -> Path:
    """Fill the empty directory `into` and return it."""
    shutil.copytree(ROOT / "enricher", into / "enricher", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "build/workload", into / "workload")
    shutil.copytree(ROOT / "tests/suites/guest", into / "guest", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "packaging/rules", into / "rules")
    # The directory is read-only there: without this every start would compile every module again.
    compileall.compile_dir(
        into / "enricher",
        quiet=1,
        stripdir=str(into),
        prependdir=SHARE,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    command = into / "bin/audit-enricher"
    command.parent.mkdir()
    command.write_text(_WRAPPER)
    command.chmod(0o755)
    return into
