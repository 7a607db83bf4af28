# SPDX-License-Identifier: Apache-2.0
"""The other tools that read audit text, of two Debian releases, each in a root of its own.

Owns fetching and unpacking their packages (nothing is installed) and how a program of a root is run: by
that root's own dynamic loader and libraries, so that a program of the rolling release runs here too. Never
knows what they read.

A root is made once and kept in the cache by the checksums of its packages; without a mirror the last one
made is used. One is never made from what the machine has installed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.vm.aptroot import AptRoot
from tests.vm.cache import build_lock, cache_dir, digest_files, scratch, shell, tell
from tests.vm.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence

RELEASES: Final = ("bookworm", "sid")
"""Debian 12 with audit 3.0.9 and LAUREL 0.5.1, and the rolling release with whatever is newest there."""

_WANTED: Final = ("auditd", "laurel")
_LIBRARIES: Final = r"lib(?!perl|python)"
_PYTHON: Final = ("python3-audit",)
_PYTHON_LIBRARIES: Final = r"lib(?!perl)|python3"
_LOADER: Final = "ld-linux-x86-64.so.2"
_TIMEOUT: Final = 120.0


class Root(NamedTuple):
    """One release's tools. ``versions`` are those of the packages, for the test's report."""

    release: str
    path: Path
    versions: dict[str, str]

    def _libraries(self) -> str:
        parts = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64", "usr/lib")
        return ":".join(str(self.path / part) for part in parts if (self.path / part).is_dir())

    def file(self, *names: str) -> Path:
        """Return the first of these paths that the root has; older releases still have /lib and /sbin."""
        for name in names:
            for prefix in ("usr", ""):
                found = self.path / prefix / name
                if found.is_file():
                    return found
        message = f"{self.release}: none of {', '.join(names)} in {self.path}"
        raise BuildError(message)

    def command(self, program: Path, *arguments: str | Path) -> list[str]:
        """Return the words that run a program with this root's libraries."""
        loader = self.file(f"lib64/{_LOADER}", f"lib/x86_64-linux-gnu/{_LOADER}")
        return [str(loader), "--library-path", self._libraries(), str(program), *map(str, arguments)]

    def run(
        self,
        program: Path,
        *arguments: str | Path,
        stdin: Path | None = None,
        may_return: Sequence[int] = (0,),
    ) -> bytes:
        """Run a program of this root (or one built for its libraries); returns its standard output."""
        with (stdin or Path("/dev/null")).open("rb") as source:
            done = subprocess.run(
                self.command(program, *arguments),
                stdin=source,
                capture_output=True,
                timeout=_TIMEOUT,
                check=False,
                env={"LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": "/usr/bin:/bin"},
            )
        assert done.returncode in may_return, (
            f"{program.name} of {self.release}: {done.returncode}\n{done.stderr[-2000:]!r}"
        )
        return done.stdout


def root_of(release: str) -> Root:
    """Return a release's root, made where it is missing."""
    return _root(release, release, _WANTED, _LIBRARIES)


def python_root_of(release: str) -> Root:
    """Return a root with the release's own Python and its module for auparse."""
    return _root(f"python-{release}", release, _PYTHON, _PYTHON_LIBRARIES)


def _root(kind: str, release: str, wanted: Sequence[str], needs: str) -> Root:
    with build_lock(f"tools of {kind}"):
        return _known(kind, release) or _build(kind, release, wanted, needs)


def _pointer(kind: str) -> Path:
    return cache_dir() / "tools" / f"{kind}.json"


def _known(kind: str, release: str) -> Root | None:
    try:
        fields = json.loads(_pointer(kind).read_text())
        path = cache_dir() / "tools" / fields["directory"]
    except (OSError, ValueError, KeyError):
        return None
    return Root(release, path, fields["versions"]) if path.is_dir() else None


def _build(kind: str, release: str, wanted: Sequence[str], needs: str) -> Root:
    apt = AptRoot(release, may_be_unsigned=release == "sid")
    apt.update()
    packages = _closure(apt, wanted, needs)
    checksum = digest_files([], *sorted(fields["SHA256"] for fields in packages.values()))
    name = f"{kind}_{checksum}"
    final = cache_dir() / "tools" / name
    versions = {name: fields["Version"] for name, fields in sorted(packages.items())}
    if not final.exists():
        tell(f"tools of {kind}: {', '.join(f'{name} {versions[name]}' for name in wanted)}")
        final.parent.mkdir(exist_ok=True)
        with scratch(f"tools-{kind}") as work:
            exact = [f"{name}={version}" for name, version in versions.items()]
            for deb in apt.download(exact, work / "debs"):
                shell(["dpkg", "-x", deb, work / "root"])
            for bulky in (
                "usr/share/doc",
                "usr/share/man",
                "usr/share/locale",
                "usr/lib/x86_64-linux-gnu/gconv",
            ):
                shutil.rmtree(work / "root" / bulky, ignore_errors=True)
            (work / "root").rename(final)
    fresh = _pointer(kind).with_suffix(".new")
    fresh.write_text(json.dumps({"directory": name, "versions": versions}, indent=2) + "\n")
    fresh.replace(_pointer(kind))
    return Root(release, final, versions)


def _closure(apt: AptRoot, wanted: Sequence[str], needs: str) -> dict[str, dict[str, str]]:
    """Return the fields of the wanted packages, and of every one they need whose name begins with `needs`."""
    todo, found = list(wanted), dict[str, dict[str, str]]()
    while todo:
        name = todo.pop(0)
        if name in found:
            continue
        fields = apt.show(name)
        if not fields:
            message = f"{apt.suite} has no package {name}"
            raise BuildError(message)
        found[name] = fields
        clauses = f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}".split(",")
        first = [clause.split("|")[0].split("(")[0].partition(":")[0].strip() for clause in clauses]
        todo += [package for package in first if re.match(needs, package)]
    return found


def build_reader(source: Path, root: Root, into: Path) -> Path:
    """Compile one C file against this root's libauparse; returns the program.

    The declarations stand in the source: the development package would bring no more than those.
    """
    library = next(iter(sorted((root.path / "usr/lib/x86_64-linux-gnu").glob("libauparse.so.*"))), None)
    library = library or next(iter(sorted((root.path / "lib/x86_64-linux-gnu").glob("libauparse.so.*"))))
    program = into / f"{source.stem}-{root.release}"
    words: Sequence[str | Path] = (
        *("gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, source, library),
        "-Wl,--unresolved-symbols=ignore-in-shared-libs",
    )
    shell(words)
    return program
