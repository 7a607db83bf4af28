# SPDX-License-Identifier: Apache-2.0
"""`pip install .` into an environment of its own: the program with all that it reads beside its modules.

From a copy: setuptools leaves its workings in the directory it builds from.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from enricher import __version__
from tests.lint.tree import ROOT

pytestmark = pytest.mark.timeout(300)  # what it needs may have to be fetched

LEFT_OUT = shutil.ignore_patterns("__pycache__")
PACKED = ("objects/x86_64.bpf.o", "objects/aarch64.bpf.o", "source/audit.bpf.c", "source/bcc/audit.c")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("pip")
    source = work / "source"
    for name in ("enricher", "LICENSES"):
        shutil.copytree(ROOT / name, source / name, ignore=LEFT_OUT)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, source / name)
    made = work / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(made)], check=True)
    install = [str(made / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", str(source)]
    cached = {**os.environ, "PIP_CACHE_DIR": str(ROOT / ".cache/pip")}
    done = subprocess.run(install, check=False, capture_output=True, text=True, env=cached)
    assert done.returncode == 0, done.stderr
    return made


def said(environment: Path, *argv: str, cwd: Path) -> str:
    return subprocess.check_output([str(environment / "bin" / argv[0]), *argv[1:]], cwd=cwd, text=True)


def test_the_command_runs(environment: Path, tmp_path: Path) -> None:
    assert said(environment, "audit-enricher", "--version", cwd=tmp_path) == f"audit-enricher {__version__}\n"
    assert said(environment, "audit-enricher", "schema", cwd=tmp_path).startswith("{")


def test_what_is_read_at_run_time_is_installed(environment: Path, tmp_path: Path) -> None:
    place = said(
        environment, "python", "-c", "import enricher; print(enricher.__path__[0])", cwd=tmp_path
    ).strip()
    assert place.startswith(str(environment))
    directory = Path(place) / "sources/bpf"
    assert [name for name in PACKED if not (directory / name).exists()] == []
