#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Compile the modules of the record path, ahead of time and in place; see docs/adr/0022-hot-modules-compiled.md.

Owns the list of them and how each becomes an extension module beside its source: Cython makes C of the module as it
is, gcc compiles that. Only what has changed is made again. Never changes a source, and nothing that it writes
depends on where or when it runs::

    tools/compile.py              # what has changed
    tools/compile.py --clean      # leaves the sources alone to run
    tools/compile.py --list
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).resolve().parent.parent
WORK: Final = Path("build") / "compiled"
SUFFIX: Final = str(sysconfig.get_config_var("EXT_SUFFIX"))

MODULES: Final = """
    correlate/acts correlate/join correlate/ledger correlate/logjoin correlate/watch
    enrich/attribution enrich/cgroups enrich/decode enrich/keys enrich/memo enrich/namespaces enrich/native
    enrich/subject enrich/tenants enrich/users enrich/values enrich/whereabouts
    clock journalformat messages model recent
    route/own route/views/fragments route/views/native_json route/views/pieces
    route/views/textlines
    runtime/duties runtime/pipeline runtime/prefetch runtime/serviceoutput runtime/stages
    sinks/journal sinks/journal_rows sinks/rotating sinks/stream
    sources/audit/receiver sources/audit/text sources/bpf/ring sources/bpf/wire sources/logformat
    sources/names
""".split()
"""What every record passes through. A module that runs once, or once a batch, gains nothing."""

_CIMPORT: Final = re.compile(r"^from (enricher[.a-z_]*) cimport (\w+)", re.MULTILINE)
_CYTHON: Final = (
    *("-3", "--no-docstrings"),
    *("-X", "annotation_typing=False"),  # the annotations are mypy's to check: a wrong type must not raise
    *("-X", "emit_code_comments=False"),
)
_GCC: Final = (
    *("gcc", "-shared", "-fPIC", "-O2", "-g0", "-fwrapv", "-fvisibility=hidden", "-DNDEBUG", "-w"),
    # These modules read what others chose: the checks stay in.
    *("-fstack-protector-strong", "-D_FORTIFY_SOURCE=2"),
    *("-Wl,-z,relro", "-Wl,-z,now", "-Wl,--build-id=none", "-Wl,-s"),
    f"-I{sysconfig.get_path('include')}",
)


class CompileFailed(Exception):
    """A module cannot be compiled; the message says why and what to do."""


def source_of(module: str) -> Path:
    """Return a module's source, below the root."""
    return Path("enricher") / f"{module}.py"


def made_of(module: str) -> Path:
    """Return what is made of it, for the Python that runs this."""
    return Path("enricher") / f"{module}{SUFFIX}"


def is_stale(module: str) -> bool:
    """Whether it has to be made: its source, its types or this file are newer."""
    made = ROOT / made_of(module)
    if not made.exists():
        return True
    then = made.stat().st_mtime_ns
    source = ROOT / source_of(module)
    inputs = [source, *_types_of(source.with_suffix(".pxd")), Path(__file__)]
    return any(path.stat().st_mtime_ns > then for path in inputs if path.exists())


def _types_of(pxd: Path) -> set[Path]:
    """Return a module's types, and those of others that they are made of: an object's layout is in both."""
    if not pxd.exists():
        return set()
    found = {pxd}
    for package, name in _CIMPORT.findall(pxd.read_text(encoding="ascii")):
        other = ROOT / package.replace(".", "/")
        found |= _types_of(other.with_suffix(".pxd")) | _types_of(other / f"{name}.pxd")
    return found


def make(module: str) -> float:
    """Compile one; returns the seconds that it took. Raises CompileFailed."""
    begin = time.monotonic()
    c = WORK / f"{module}.c"
    (ROOT / c).parent.mkdir(parents=True, exist_ok=True)
    # Relative names alone: the C and so the object name no directory of this machine.
    _run([sys.executable, "-m", "cython", *_CYTHON, str(source_of(module)), "-o", str(c)], module)
    made = made_of(module)
    scratch = WORK / f"{module}.so"
    _run([*_GCC, str(c), "-o", str(scratch)], module)
    (ROOT / scratch).chmod(0o644)
    (ROOT / scratch).replace(ROOT / made)  # at once: a program that runs keeps the one that it has
    return time.monotonic() - begin


def _run(command: Sequence[str], module: str) -> None:
    try:
        done = subprocess.run(
            command, cwd=ROOT, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except FileNotFoundError as error:
        raise CompileFailed(f"{command[0]} is not installed: make setup") from error
    if done.returncode:
        raise CompileFailed(f"{module}: {command[0]} returned {done.returncode}:\n{done.stdout[-4000:]}")


def clean() -> list[Path]:
    """Remove what was made, for whichever Python, of modules that are not in the list any more too."""
    found = [path for path in (ROOT / "enricher").rglob("*.so") if path.name.count(".cpython-")]
    for path in found:
        path.unlink()
    return found


def stray() -> list[Path]:
    """Return extension modules without a place in the list: they would run in place of a source that has changed."""
    wanted = {ROOT / made_of(module) for module in MODULES}
    return [path for path in (ROOT / "enricher").rglob(f"*{SUFFIX}") if path not in wanted]


def main(words: Sequence[str] | None = None) -> int:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description="Compile the modules of the record path in place.")
    parser.add_argument("--clean", action="store_true", help="remove what was compiled")
    parser.add_argument("--list", action="store_true", help="print the modules")
    options = parser.parse_args(words)
    if options.list:
        print(*(str(source_of(module)) for module in MODULES), sep="\n")
        return 0
    if options.clean:
        for path in clean():
            print(f"Removing {path.relative_to(ROOT)}")
        return 0
    for path in stray():
        path.unlink()
    todo = [module for module in MODULES if is_stale(module)]
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for module, seconds in zip(todo, pool.map(make, todo), strict=True):
                print(f"CY   {made_of(module)}  {seconds:.0f} s", flush=True)
    except CompileFailed as error:
        print(f"compile: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
