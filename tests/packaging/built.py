# SPDX-License-Identifier: Apache-2.0
"""The packages as tools/build_deb.py builds them, for whoever installs them in a test."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from tests.lint.tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path

BUILD = ROOT / "tools" / "build_deb.py"
PREVIOUS = "~prev1"
"""The suffix of a version that sorts before this tree's."""


class Debs(NamedTuple):
    """The two packages of one build."""

    main: Path
    bcc: Path


def build(into: Path, *options: str, **how: str | int | dict[str, str]) -> Debs:
    """Build into a directory; `how` goes to the process."""
    command = [sys.executable, str(BUILD), "--into", str(into), *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, **how)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    (main,) = into.glob("audit-enricher_*_amd64.deb")
    (bcc,) = into.glob("audit-enricher-bcc_*_all.deb")
    return Debs(main, bcc)
