# SPDX-License-Identifier: Apache-2.0
"""What pyproject.toml cannot say: the BPF programs are compiled before the package is put together.

Owns no rule of how: `make bpf` does it, without installing anything here. Never compiles what is there already, and
never leaves out what cannot be: a package without its programs would only say so on the host that has to run them.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.errors import ExecError

ROOT = Path(__file__).resolve().parent
BPF = ROOT / "enricher" / "sources" / "bpf"
MADE = (BPF / "objects", BPF / "source" / "bcc")
HINT = "run `make bpf`, as root the first time: it installs the compiler and bpftool; then try again"
_LINES = 8  # of what make said


def compile_programs() -> None:
    """Run `make bpf` with the compiler that is there. ExecError with make's own words and a hint where that fails."""
    # Another make may have started this one; the packages of its list are not pip's to install.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    command = ["make", "--no-print-directory", "bpf", "HOST="]
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True
        )
    except OSError as error:
        raise ExecError(
            f"the BPF programs are not compiled, and make cannot be run: {error}\n{HINT}"
        ) from None
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-_LINES:])
        raise ExecError(f"the BPF programs are not compiled, and `make bpf` failed:\n{said}\n{HINT}")


class BuildWithPrograms(build_py):
    """Compiles first. Where the package is used in place, as in `make .venv`, that is whoever's turn it is."""

    def run(self) -> None:
        """Run as setuptools does."""
        if not self.editable_mode and not all(any(made.glob("*")) for made in MADE):
            compile_programs()
        super().run()


setup(cmdclass={"build_py": BuildWithPrograms})
