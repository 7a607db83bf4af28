# SPDX-License-Identifier: Apache-2.0
"""auditd with two LAURELs as its plug-ins, in the guest, beside us: the same boot and the same records.

Owns their staging and configuration. Never judges. auditd is the guest's own (Debian 12); each LAUREL is run by the
dynamic loader of its own release's root (tests/interop/tools.py). Both get what favours them: a long queue in
auditd, no dropped privileges, container information on.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.interop.tools import RELEASES, root_of
from tests.suites.staging import SHARE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from tests.vm.guest import Guest

_LIBRARIES: Final = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
_LOADER: Final = "ld-linux-x86-64.so.2"
_STAGED: Final = "laurel"
_HOME: Final = "/srv/laurel"
_PATIENCE: Final = 180.0
QUEUE: Final = 60_000
"""Events that auditd holds for its plug-ins: loss is another comparison."""


def stage(share: Path, releases: Sequence[str] = RELEASES) -> dict[str, str]:
    """Put these releases' LAURELs into the share; returns their versions by release."""
    versions = {}
    for release in releases:
        root = root_of(release)
        into = share / _STAGED / release
        into.mkdir(parents=True)
        shutil.copy2(root.file("sbin/laurel"), into / "laurel")
        for directory in _LIBRARIES:
            if (root.path / directory).is_dir():
                shutil.copytree(root.path / directory, into / "lib", symlinks=True, dirs_exist_ok=True)
        loader = root.file(f"lib64/{_LOADER}", f"lib/x86_64-linux-gnu/{_LOADER}")
        (into / _LOADER).unlink(missing_ok=True)
        shutil.copy2(loader, into / _LOADER, follow_symlinks=True)
        versions[release] = root.versions["laurel"]
    return versions


class Laurel(NamedTuple):
    """One plug-in."""

    release: str
    version: str

    @property
    def home(self) -> str:
        return f"{_HOME}/{self.release}"

    @property
    def log(self) -> str:
        return f"{self.home}/audit.log"


class Rivals:
    """A running auditd with its plug-ins."""

    def __init__(self, guest: Guest, versions: dict[str, str]) -> None:
        self._guest = guest
        self.laurels = [Laurel(release, version) for release, version in versions.items()]
        self._configuration = b""

    def __enter__(self) -> Self:
        guest = self._guest
        for laurel in self.laurels:
            guest.run(["mkdir", "-p", laurel.home], check=True)
            guest.put(f"{laurel.home}/config.toml", _CONFIG.format(home=laurel.home).encode())
            run = _RUN.format(home=laurel.home, at=f"{SHARE}/{_STAGED}/{laurel.release}")
            guest.put(f"{laurel.home}/run", run.encode(), 0o750)
            plugin = _PLUGIN.format(home=laurel.home).encode()
            guest.put(f"/etc/audit/plugins.d/laurel-{laurel.release}.conf", plugin, 0o640)
        self._configuration = guest.get("/etc/audit/auditd.conf")
        text = self._configuration
        for name, value in (("log_format", "RAW"), ("q_depth", str(QUEUE)), ("max_log_file", "99")):
            text = re.sub(rf"(?m)^{name} *=.*\n".encode(), b"", text) + f"{name} = {value}\n".encode()
        guest.put("/etc/audit/auditd.conf", text, 0o640)
        guest.run(["systemctl", "start", "auditd"], timeout=60, check=True)
        guest.run(["auditctl", "-D"], check=True)
        for laurel in self.laurels:
            ready = 'until [ -s "$1/pid" ] && [ -e "$1/audit.log" ]; do sleep 0.2; done'
            guest.run(["sh", "-c", ready, "sh", laurel.home], timeout=60, check=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        guest = self._guest
        # Debian's unit refuses a stop by hand; the daemon's own signal does it.
        guest.run(["pkill", "-TERM", "-x", "auditd"])
        guest.run(["sh", "-c", "while pgrep -x auditd >/dev/null; do :; done"], timeout=60)
        guest.put("/etc/audit/auditd.conf", self._configuration, 0o640)

    @property
    def pids(self) -> list[int]:
        """The plug-ins' pids."""
        return [int(self._guest.get(f"{laurel.home}/pid")) for laurel in self.laurels]

    def wait_for(self, marker: str) -> None:
        """Wait until both have written an event with these words."""
        for laurel in self.laurels:
            wait = 'until grep -q "$1" "$2"; do sleep 0.2; done'
            self._guest.run(["sh", "-c", wait, "sh", marker, laurel.log], timeout=_PATIENCE, check=True)

    def queue_overflows(self) -> int:
        """How often auditd said that its queue for plug-ins was full."""
        done = self._guest.run(["journalctl", "-q", "-u", "auditd", "-g", "queue.*full"])
        return len(done.stdout.splitlines())


_CONFIG = """\
directory = "{home}"
[auditlog]
file = "audit.log"
size = 2000000000
generations = 1
[transform]
execve-argv = [ "array" ]
[translate]
universal = true
user-db = true
[enrich]
pid = true
container = true
container_info = true
"""
_RUN = """\
#!/bin/sh
echo $$ >{home}/pid
exec {at}/ld-linux-x86-64.so.2 --library-path {at}/lib --argv0 laurel {at}/laurel --config "$1"
"""
_PLUGIN = """\
active = yes
direction = out
path = {home}/run
type = always
args = {home}/config.toml
format = string
"""
