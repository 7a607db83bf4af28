# SPDX-License-Identifier: Apache-2.0
"""Debian packages of any suite, through an apt state of our own.

Owns the choice of mirror (always the one the machine's apt already uses) and the separate apt directories.
Never touches the machine's own apt state and never installs anything.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.vm.cache import cache_dir, shell, tell
from tests.vm.errors import BuildError

__all__ = ["AptRoot", "acquire_options", "mirror_for"]

# Options of the machine's apt a bootstrap must share: proxies and how strictly dates are taken.
_SHARED_OPTION = re.compile(r'^Acquire::(https?::\S+|Check-\S+|Retries) ".+";$')


def acquire_options() -> list[str]:
    """Return the machine's own Acquire settings that matter to a download, as lines of apt.conf."""
    lines = shell(["apt-config", "dump"]).splitlines()
    return [line for line in lines if _SHARED_OPTION.match(line)]


def mirror_for(suite: str) -> str:
    """Return the base address that serves a suite, taken from the machine's apt configuration."""
    rows = shell(["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages"])
    wants_security = suite.endswith("-security")
    # The signed Release file says whose repository it is; a vendor's may use Debian's release names.
    label = "Debian-Security" if wants_security else "Debian"
    for row in rows.splitlines():
        uri, _, found = row.partition(" ")
        if found == label:
            return uri
    message = (
        f"the machine's apt configuration has no {'security ' if wants_security else ''}mirror for {suite}"
    )
    raise BuildError(message)


class AptRoot:
    """One suite's package lists, kept in the cache directory."""

    def __init__(self, suite: str, *, may_be_unsigned: bool) -> None:
        """Choose a suite; may_be_unsigned allows a fallback when the machine lacks the suite's key."""
        self.suite = suite
        self.verified = True
        self._may_be_unsigned = may_be_unsigned
        self._dir = cache_dir() / "apt" / suite

    def _apt(self, tool: str, *words: str, cwd: Path | None = None) -> str:
        options = {
            "Dir::State": str(self._dir / "state"),
            "Dir::State::status": str(self._dir / "state" / "status"),
            "Dir::Cache": str(self._dir / "cache"),
            "Dir::Etc::sourcelist": str(self._dir / "sources.list"),
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Sandbox::User": "root",
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            "APT::Update::Error-Mode": "any",
            # Old suites are past their Valid-Until, and a mirror of a rolling one may lag.
            "Acquire::Check-Valid-Until": "false",
            "Acquire::Languages": "none",
            "Acquire::Retries": "5",
        }
        flags = [flag for key, value in options.items() for flag in ("-o", f"{key}={value}")]
        return shell([tool, *flags, *words], cwd=cwd)

    def update(self) -> None:
        """Fetch the suite's package list and verify its signature."""
        for part in ("state/lists/partial", "cache/archives/partial"):
            (self._dir / part).mkdir(parents=True, exist_ok=True)
        (self._dir / "state" / "status").touch()
        self._write_source("")
        try:
            self._apt("apt-get", "update")
        except BuildError as error:
            if not (self._may_be_unsigned and "NO_PUBKEY" in str(error)):
                raise
            tell(f"{self.suite}: this machine has no key for the suite; its packages are NOT verified")
            self.verified = False
            self._write_source("[trusted=yes] ")
            self._apt("apt-get", "update")

    def _write_source(self, options: str) -> None:
        line = f"deb {options}{mirror_for(self.suite)} {self.suite} main\n"
        (self._dir / "sources.list").write_text(line)

    def show(self, package: str) -> dict[str, str]:
        """Return the fields of the newest version of a package, or an empty dict."""
        try:
            text = self._apt("apt-cache", "show", "--no-all-versions", package)
        except BuildError:
            return {}
        pairs = re.findall(r"^([A-Za-z0-9-]+): (.*)$", text.split("\n\n")[0], re.MULTILINE)
        return dict(pairs)

    def download(self, packages: list[str], target: Path) -> list[Path]:
        """Download packages into a directory; apt checks their checksums against the signed list."""
        target.mkdir(parents=True, exist_ok=True)
        self._apt("apt-get", "download", *packages, cwd=target)
        return sorted(target.glob("*.deb"))
