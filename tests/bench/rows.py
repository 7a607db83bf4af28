# SPDX-License-Identifier: Apache-2.0
"""The programs that are compared: how each is run on a log, and what one run of it cost.

Owns their commands and configurations. Never judges. The others' programs are those of tests/interop/tools.py: each
in a root of its own, run by that root's dynamic loader; nothing is installed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher import __version__
from enricher.forms import VARIABLE, form
from tests.interop.tools import python_root_of, root_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE: Final = Path(__file__).resolve().parent
_TREE: Final = HERE.parents[1]

_LAUREL: Final = """\
directory = "{directory}"
[auditlog]
file = "out"
size = 1000000000000
generations = 1
[transform]
execve-argv = [ "array" ]
[translate]
universal = true
user-db = true
[enrich]
pid = {enrich}
container = {enrich}
"""
_PLAIN: Final = """\
script = false
systemd = false
user-groups = false
spawned-by = false
execve-env = []
"""


class Run(NamedTuple):
    """One run: seconds of CPU, KiB of memory at most, and the lines that came out (of auparse: the events)."""

    user: float
    system: float
    memory: int
    lines: int

    @property
    def cpu(self) -> float:
        """All seconds."""
        return self.user + self.system


class Job(NamedTuple):
    """What to run. ``output`` is the file that it writes; None: its standard output says how many events it read."""

    command: list[str]
    output: Path | None
    environment: dict[str, str] | None = None


class Row(NamedTuple):
    """One program in one configuration. ``job`` makes what is run on a log, in an empty directory."""

    key: str
    words: str
    version: str
    job: Callable[[Path, Path], Job]

    def run(self, log: Path, directory: Path, core: int) -> Run:
        """Run it once; the output and ``errors`` stay in the directory. Raises RuntimeError."""
        job = self.job(log, directory)
        out, errors = directory / "stdout", directory / "errors"
        timed = [sys.executable, "-I", "-S", HERE / "timed.py", core, log, out, errors, *job.command]
        environment = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": "/usr/bin:/bin", **(job.environment or {})}
        done = subprocess.run(
            list(map(str, timed)), env=environment, cwd=_TREE, capture_output=True, text=True, check=True
        )
        user, system, memory, code = done.stdout.split()
        if code != "0":
            said = errors.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.words} returned {code}\n{said}")
        lines = int(out.read_text().split()[0]) if job.output is None else lines_of(job.output)
        return Run(float(user), float(system), int(memory), lines)

    def once(self, log: Path, core: int, into: Path) -> Run:
        """Run it once and leave nothing behind."""
        with tempfile.TemporaryDirectory(dir=into) as directory:
            return self.run(log, Path(directory), core)


def lines_of(path: Path) -> int:
    """How many lines a file has, whatever its size."""
    count = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            count += block.count(b"\n")
    return count


def _ours(view: str, changes: str = "") -> Callable[[Path, Path], Job]:
    def job(_: Path, directory: Path) -> Job:
        output = directory / "out"
        changed = changes.removeprefix("interpreted").strip(",")
        program = ["-m", "tests.bench.replaying", changed] if changed else ["-m", "enricher"]
        words = [sys.executable, *program, "replay", "-", f"--format={view}", "--output", str(output)]
        # What counts puts classes of its own in the place of ours: compiled ones have no room for them.
        sources = {"interpreted", "count"}.intersection(changes.split(","))
        return Job(words, output, {VARIABLE: "1"} if sources else None)

    return job


def _laurel(release: str, *, enrich: bool) -> Callable[[Path, Path], Job]:
    root = root_of(release)
    words = root.command(root.file("sbin/laurel"))

    def job(_: Path, directory: Path) -> Job:
        config = directory / "laurel.toml"
        text = _LAUREL.format(directory=directory, enrich=str(enrich).lower())
        config.write_text(text if enrich else text + _PLAIN)
        return Job([*words, "-c", str(config)], directory / "out")

    return job


def _auparse(release: str, what: str) -> Callable[[Path, Path], Job]:
    root = python_root_of(release)
    words = root.command(root.file("bin/python3"), "-S", HERE / "auparse_reads.py", what)
    place = {
        "PYTHONHOME": str(root.path / "usr"),
        "PYTHONPATH": str(root.path / "usr/lib/python3/dist-packages"),
    }

    def job(log: Path, _: Path) -> Job:
        return Job([*words, str(log)], None, place)

    return job


REFERENCE: Final = "laurel"
"""The row that ratios are to."""
SCORED: Final = "json-names"
"""Our row with what LAUREL decodes, users' names included: the one whose ratio is of equal decoding."""


class _Kind(NamedTuple):
    key: str
    words: str
    make: Callable[[str, str], tuple[str, Callable[[Path, Path], Job]]]
    first: str
    second: str


def _of_ours(view: str, changes: str) -> tuple[str, Callable[[Path, Path], Job]]:
    shown = "interpreted" if "interpreted" in changes else form()
    return f"{__version__}, Python {sys.version.split()[0]}, {shown}", _ours(view, changes)


def _of_laurel(release: str, enrich: str) -> tuple[str, Callable[[Path, Path], Job]]:
    return root_of(release).versions["laurel"], _laurel(release, enrich=bool(enrich))


def _of_auparse(release: str, what: str) -> tuple[str, Callable[[Path, Path], Job]]:
    versions = python_root_of(release).versions
    return f"{versions['python3-audit']}, Python {versions['python3-minimal']}", _auparse(release, what)


_KINDS: Final = (
    _Kind("json", "replay to JSON", _of_ours, "json", ""),
    _Kind(SCORED, "replay to JSON, users named", _of_ours, "json", "names"),
    _Kind("json-forget", "the same, nothing remembered", _of_ours, "json", "names,forget"),
    _Kind("json-sources", "replay to JSON, users named, interpreted", _of_ours, "json", "interpreted,names"),
    _Kind("text", "replay to audit text", _of_ours, "text", ""),
    _Kind(REFERENCE, "LAUREL, translation and enrichment", _of_laurel, "sid", "enrich"),
    _Kind("laurel-translate", "LAUREL, translation alone", _of_laurel, "sid", ""),
    _Kind("laurel-older", "LAUREL of Debian 12, both", _of_laurel, "bookworm", "enrich"),
    _Kind("auparse", "auparse from Python, values", _of_auparse, "sid", "values"),
    _Kind("auparse-meanings", "auparse from Python, interpreted", _of_auparse, "sid", "meanings"),
)
KEYS: Final = tuple(kind.key for kind in _KINDS)
_UNTIMED: Final = (_Kind("json-count", "counting memories", _of_ours, "json", "names,count"),)


def rows(wanted: Sequence[str] = KEYS) -> list[Row]:
    """The rows with these keys; roots are made where they are missing."""
    return [
        Row(kind.key, kind.words, *kind.make(kind.first, kind.second))
        for kind in (*_KINDS, *_UNTIMED)
        if kind.key in wanted
    ]
