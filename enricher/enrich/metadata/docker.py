# SPDX-License-Identifier: Apache-2.0
"""Docker's containers, from the daemon's own state files; root's daemon and a user's.

Owns ``containers/<id>/config.v2.json`` below the daemon's root. The cgroup is not in there: it is in the bundle that
the daemon's containerd has for as long as the container runs, and must agree where that still is. Never asks the
daemon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher.enrich.metadata import Known, Metadata, labels_of, word
from enricher.enrich.metadata.files import member
from enricher.enrich.metadata.oci import DOCKER_NAMESPACE, Containerd, is_hex, is_place_of, is_pod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enricher.enrich.metadata.files import Base, Files
    from enricher.enrich.places import Found

_ROOTS: Final = ("/var/lib/docker", "/var/snap/docker/common/var-lib-docker")
_POD: Final = "io.kubernetes.pod."


class Docker:
    """What dockerd wrote about its containers."""

    name = "docker"

    def __init__(self, files: Files) -> None:
        self._files = files
        self._bundles = Containerd(files)

    def lookup(self, found: Found) -> Metadata | None:
        """See `Runtime`."""
        if not is_hex(found.id):
            return None
        for base in self._bases():
            config = self._files.json(base, "containers", found.id, "config.v2.json")
            if member(config, "ID") == found.id:
                return self._read(config, found)
        return None

    def known(self) -> Iterator[Known]:
        """See `Runtime`. None: its containers' cgroups are in containerd's bundles."""
        yield from ()

    def _bases(self) -> Iterator[Base]:
        # Where the operator has put it elsewhere. A daemon.json of the user's own says nothing about root's.
        moved = (
            None
            if self._files.uid
            else member(self._files.json(("/etc/docker",), "daemon.json"), "data-root")
        )
        roots = (moved, *_ROOTS) if isinstance(moved, str) and moved.startswith("/") else _ROOTS
        for base in self._files.bases(*roots, home=".local/share/docker"):
            yield base
            # With userns-remap the state is one level down, in <uid>.<gid>.
            for name in [] if self._files.uid else self._files.names(base):
                if name.replace(".", "", 1).isdecimal() and "." in name:
                    yield (*base, name)

    def _read(self, config: object, found: Found) -> Metadata | None:
        bundle = self._bundles.spec(DOCKER_NAMESPACE, found.id)
        if bundle is not None and not is_place_of(bundle, found):
            return None
        labels = member(config, "Config", "Labels")
        # Anybody can give a container these labels: in a pod's cgroup alone are they cri-dockerd's.
        uid = member(labels, f"{_POD}uid") if found.pod else None
        if not is_pod(uid, found):
            return None
        name = word(member(config, "Name")).removeprefix("/")
        return Metadata(
            self.name,
            name,
            word(member(config, "Config", "Image")),
            labels_of(labels),
            word(uid),
            word(member(labels, f"{_POD}name")) if uid else "",
            word(member(labels, f"{_POD}namespace")) if uid else "",
        )
