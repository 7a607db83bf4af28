# SPDX-License-Identifier: Apache-2.0
"""Podman's containers, root's and a user's, from the storage that it shares with CRI-O.

Owns the lists of a storage (``overlay-containers/containers.json`` and the one for volatile containers) and the
bundles beside them. Podman's labels and pods are in its database alone, which is not read: labels are always ().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher.enrich.metadata import Known, Metadata, word
from enricher.enrich.metadata.files import LIST_MAX, manager_of, member, objects, parse
from enricher.enrich.metadata.oci import MANAGER, cgroup_of, is_hex, is_place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enricher.enrich.metadata.files import Files
    from enricher.enrich.places import Found

_LISTS: Final = ("containers.json", "volatile-containers.json")
_DRIVERS: Final = ("overlay-containers", "vfs-containers", "btrfs-containers")
_LIBPOD: Final = "libpod"


class Podman:
    """What containers/storage and libpod wrote."""

    name = "podman"

    def __init__(self, files: Files) -> None:
        self._files = files
        # The run root has the list of a transient store. A bundle is in the graph root.
        self._bases = files.bases(
            "/var/lib/containers/storage",
            "/run/containers/storage",
            home=".local/share/containers/storage",
            runtime="containers",
        )

    def lookup(self, found: Found) -> Metadata | None:
        """See `Runtime`."""
        if not is_hex(found.id):
            return None
        for driver, entry in self._entries():
            if entry.get("id") == found.id:
                bundle = self._bundle(driver, found.id)
                if bundle is not None and not (_is_ours(bundle) and is_place_of(bundle, found)):
                    return None
                return self._read(entry)
        return None

    def known(self) -> Iterator[Known]:
        """See `Runtime`: for a ``--cgroup-parent`` of the operator's choice, and a user's containers on cgroup v1."""
        for driver, entry in self._entries():
            ident = entry.get("id")
            if isinstance(ident, str) and is_hex(ident):
                bundle = self._bundle(driver, ident)
                cgroup = cgroup_of(bundle, manager_of(self._files.uid)) if _is_ours(bundle) else ""
                metadata = self._read(entry)
                if cgroup and metadata is not None:
                    yield Known(self.name, ident, cgroup, metadata)

    def _entries(self) -> Iterator[tuple[str, dict[str, object]]]:
        for base in self._bases:
            for driver in _DRIVERS:
                for name in _LISTS:
                    for entry in objects(self._files.json(base, driver, name, limit=LIST_MAX)):
                        yield driver, entry

    def _bundle(self, driver: str, ident: str) -> object:
        specs = (self._files.json(base, driver, ident, "userdata", "config.json") for base in self._bases)
        return next((spec for spec in specs if spec is not None), None)

    def _read(self, entry: dict[str, object]) -> Metadata | None:
        text = entry.get("metadata")
        said = parse(text) if isinstance(text, str) else None
        if member(said, "pod-id") is not None or member(said, "pod-name") is not None:
            return None  # CRI-O's
        names = entry.get("names")
        name = word(member(said, "name")) or word(names[0] if isinstance(names, list) and names else "")
        return Metadata(self.name, name, word(member(said, "image-name")))


def _is_ours(bundle: object) -> bool:
    return member(bundle, "annotations", MANAGER) == _LIBPOD
