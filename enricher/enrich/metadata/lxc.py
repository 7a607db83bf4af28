# SPDX-License-Identifier: Apache-2.0
"""LXC's and Incus's containers, which name their cgroups alike: which of both has one of that name.

Owns ``/var/lib/lxc/<name>/config`` (a user's below his home) and what Incus leaves in ``/run/incus`` and
``/var/lib/incus`` for ``<project>_<name>``. Neither says what image a container was made from. Never decides where
both have one of that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enricher.enrich.metadata import Known, Metadata, word

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enricher.enrich.metadata.files import Files
    from enricher.enrich.places import Found


class Lxc:
    """LXC and Incus."""

    name = "lxc"

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lxc = files.bases("/var/lib/lxc", home=".local/share/lxc")
        self._incus = files.bases("/run/incus")

    def lookup(self, found: Found) -> Metadata | None:
        """See `Runtime`."""
        if found.runtime not in {"lxc", "incus"} or not word(found.id):
            return None
        stem, _, number = found.id.rpartition("-")
        if stem and number.isdecimal() and self._owners(stem):
            # LXC adds -1 where the cgroup of a container's last run is still there.
            return None
        owners = self._owners(found.id)
        if len(owners) != 1:
            return None
        # A name has no underscore, so what is before one is a project.
        name = found.id.rpartition("_")[2] if owners == ["incus"] else found.id
        return Metadata(owners[0], name)

    def known(self) -> Iterator[Known]:
        """See `Runtime`. None: the path carries the name."""
        yield from ()

    def _owners(self, name: str) -> list[str]:
        """Return which of both knows this name."""
        owners = []
        if any(self._files.read(base, name, "config") is not None for base in self._lxc):
            owners.append("lxc")
        if any(self._files.read(base, name, "lxc.conf") is not None for base in self._incus):
            owners.append("incus")
        return owners
