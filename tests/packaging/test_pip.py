# SPDX-License-Identifier: Apache-2.0
"""`pip install .` into an environment of its own: the program with all that it reads beside its modules.

From copies: setuptools leaves its workings in the directory it builds from. One has what `make bpf` makes; the other is
as git has it, where pip has the programs compiled, or says what to do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from enricher import __version__
from tests.lint.tree import ROOT

pytestmark = pytest.mark.timeout(300)  # what it needs may have to be fetched

MADE = ("objects", "source")
PACKED = (
    "objects/x86_64.bpf.o",
    "objects/x86_64-casts.bpf.o",
    "objects/x86_64-pcpu_hot.bpf.o",
    "objects/x86_64-nowhere.bpf.o",
    "objects/aarch64.bpf.o",
    "source/audit.bpf.c",
    "source/bcc/audit.c",
)
BASE = ("mkdir", "cp", "uname")
"""What `make bpf` needs beside the compiler and bpftool."""


def copy(into: Path, *, made: bool) -> Path:
    """Copy what is built from; without what `make bpf` makes it is all that git has of it."""
    left_out = shutil.ignore_patterns("__pycache__", *(() if made else MADE))
    for name in ("enricher", "LICENSES", *(() if made else ("bpf", "packaging"))):
        shutil.copytree(ROOT / name, into / name, ignore=left_out)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", *(() if made else ("Makefile",))):
        shutil.copyfile(ROOT / name, into / name)
    return into


def pip(*words: str | Path, python: str = sys.executable, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run pip; with a PATH of its own where one is given."""
    environment = {**os.environ, "PIP_CACHE_DIR": str(ROOT / ".cache/pip")}
    if path:
        environment["PATH"] = path
    command = [python, "-m", "pip", *words, "--quiet", "--disable-pip-version-check"]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("pip")
    venv = work / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    done = pip("install", copy(work / "source", made=True), python=str(venv / "bin/python"))
    assert done.returncode == 0, done.stderr
    return venv


def said(environment: Path, *argv: str, cwd: Path) -> str:
    return subprocess.check_output([str(environment / "bin" / argv[0]), *argv[1:]], cwd=cwd, text=True)


def test_the_command_runs(environment: Path, tmp_path: Path) -> None:
    assert (
        said(environment, "audit-enricher", "--version", cwd=tmp_path)
        == f"audit-enricher {__version__} (interpreted)\n"
    )
    assert said(environment, "audit-enricher", "schema", cwd=tmp_path).startswith("{")


def test_what_is_read_at_run_time_is_installed(environment: Path, tmp_path: Path) -> None:
    place = said(
        environment, "python", "-c", "import enricher; print(enricher.__path__[0])", cwd=tmp_path
    ).strip()
    assert place.startswith(str(environment))
    directory = Path(place) / "sources/bpf"
    assert [name for name in PACKED if not (directory / name).exists()] == []


@pytest.mark.full  # as test_deb.py's
def test_a_fresh_clone_has_its_programs_compiled(tmp_path: Path) -> None:
    """The same bytes as `make bpf` makes."""
    clone = copy(tmp_path / "clone", made=False)
    done = pip("wheel", "--no-deps", "--wheel-dir", tmp_path, clone)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        there = set(packed.namelist())
        assert {f"enricher/sources/bpf/{name}" for name in PACKED} - there == set()
        ours = (ROOT / "enricher/sources/bpf" / PACKED[0]).read_bytes()
        assert packed.read(f"enricher/sources/bpf/{PACKED[0]}") == ours


@pytest.mark.parametrize(("tools", "reason"), [((), "make cannot be run"), (("make", *BASE), "clang-14")])
def test_a_fresh_clone_without_the_compiler_is_told_what_to_do(
    tools: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    for tool in tools:
        found = shutil.which(tool)
        assert found
        (path / tool).symlink_to(found)
    clone = copy(tmp_path / "clone", made=False)
    done = pip("wheel", "--no-deps", "--wheel-dir", tmp_path, clone, path=str(path))
    assert done.returncode != 0
    assert list(tmp_path.glob("*.whl")) == []
    assert "Traceback" not in done.stderr, done.stderr
    told = " ".join(done.stdout.split() + done.stderr.split())
    assert "error: the BPF programs are not compiled, and " in told
    assert reason in told
    assert "run `make bpf`" in told
