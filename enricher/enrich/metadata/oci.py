# SPDX-License-Identifier: Apache-2.0
"""What the bundle of an OCI runtime says: containerd's (CRI, nerdctl, ctr) and CRI-O's annotations.

Owns the reading of `config.json`: who made it, for which pod, and in which cgroup it wants its container. Never takes
an annotation for a label: what containerd calls labels is in its database.

The cgroup that a bundle names is what ties a file to a cgroup. An id alone does not: whoever may make cgroups may
give one the id of another container.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher.enrich.metadata import Known, Metadata, is_cgroup, labels_of, word
from enricher.enrich.metadata.files import manager_of, member, owner_of, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enricher.enrich.metadata.files import Base, Files
    from enricher.enrich.places import Found

_TASKS: Final = "io.containerd.runtime.v2.task"
_CONTAINERD: Final = (
    f"/run/containerd/{_TASKS}",
    f"/run/k3s/containerd/{_TASKS}",
    f"/run/docker/containerd/daemon/{_TASKS}",
)
DOCKER_NAMESPACE: Final = "moby"
"""The containerd namespace of Docker, whose own files say more."""

_CRI: Final = "io.kubernetes.cri."
_CRIO: Final = "io.kubernetes.cri-o."
_POD: Final = "io.kubernetes.pod."
MANAGER: Final = "io.container.manager"
_ID_LENGTH: Final = 64


def cgroup_of(spec: object, manager: str = "") -> str:
    """Return the cgroup that a bundle asks for, below a user's service manager where one is given; "" for unknown.

    ``slice:prefix:name`` is the form for systemd, an absolute path the other one. A path that is not absolute is
    below the runtime's own cgroup, of which the bundle knows nothing.
    """
    asked = member(spec, "linux", "cgroupsPath")
    if not isinstance(asked, str):
        return ""
    if asked.startswith("/"):
        return asked.rstrip("/") if is_cgroup(asked.rstrip("/")) else ""
    slice_name, *rest = asked.split(":")
    if len(rest) != 2 or not rest[1]:  # noqa: PLR2004 - slice:prefix:name
        return ""
    prefix, name = rest
    slices = _slices(slice_name or ("user.slice" if manager else "system.slice"))
    path = f"{manager}{slices}/{prefix}-{name}.scope" if prefix else f"{manager}{slices}/{name}.scope"
    return path if slices is not None and is_cgroup(path) else ""


def _slices(name: str) -> str | None:
    """Return where systemd puts a slice: ``a-b.slice`` is ``/a.slice/a-b.slice``; None for what is no slice."""
    if name == "-.slice":
        return ""
    stem = name.removesuffix(".slice")
    parts = stem.split("-")
    if stem == name or not all(parts):
        return None
    return "".join(f"/{'-'.join(parts[: end + 1])}.slice" for end in range(len(parts)))


def is_place_of(spec: object, found: Found) -> bool:
    """Whether this bundle's container can be in that cgroup."""
    asked = member(spec, "linux", "cgroupsPath")
    if not isinstance(asked, str) or not asked:
        return False
    expected = cgroup_of(spec, manager_of(owner_of(found.path) or 0))
    if expected and is_within(found.path, expected):
        return True
    # A runtime without systemd's driver takes systemd's form for the name of a directory, below its own cgroup.
    return not asked.startswith("/") and ":" in asked and found.path.endswith(f"/{asked}")


def is_within(path: str, cgroup: str) -> bool:
    """Whether a path is this cgroup or below it."""
    return path == cgroup or path.startswith(f"{cgroup}/")


def is_pod(uid: object, found: Found) -> bool:
    """Whether a pod's uid, if both are known, is that of the cgroup's path. Both forms of a static pod's are one."""
    if not found.pod or not uid:
        return True
    return isinstance(uid, str) and uid.replace("-", "") == found.pod.replace("-", "")


class Containerd:
    """Bundles of containerd, for Kubernetes, nerdctl and ctr."""

    name = "containerd"

    def __init__(self, files: Files) -> None:
        self._files = files
        # Without root, containerd's /run is a mount of its own namespace and not to be seen from here.
        self._bases = files.bases(*_CONTAINERD)

    def lookup(self, found: Found) -> Metadata | None:
        """See `Runtime`."""
        for base, namespace in self._namespaces():
            if namespace == DOCKER_NAMESPACE:
                continue
            # ctr's names are unique in a namespace only: the cgroup decides.
            spec = self._files.json(base, namespace, found.id, "config.json")
            if (metadata := self._read(spec, found)) is not None:
                return metadata
        return None

    def spec(self, namespace: str, ident: str) -> object:
        """Return the bundle's config.json, None where there is none."""
        specs = (self._files.json(base, namespace, ident, "config.json") for base in self._bases)
        return next((spec for spec in specs if spec is not None), None)

    def known(self) -> Iterator[Known]:
        """See `Runtime`."""
        for base, namespace in self._namespaces():
            runtime = "docker" if namespace == DOCKER_NAMESPACE else self.name
            for ident in self._files.names(base, namespace):
                cgroup = cgroup_of(self._files.json(base, namespace, ident, "config.json"))
                if cgroup and word(ident):
                    yield Known(runtime, ident, cgroup, Metadata(runtime))

    def _namespaces(self) -> Iterator[tuple[Base, str]]:
        for base in self._bases:
            for namespace in self._files.names(base):
                yield base, namespace

    def _read(self, spec: object, found: Found) -> Metadata | None:
        said = member(spec, "annotations")
        uid = member(said, f"{_CRI}sandbox-uid")
        if not is_place_of(spec, found) or not is_pod(uid, found):
            return None
        name = word(member(said, f"{_CRI}container-name")) or word(member(said, "nerdctl/name"))
        # ctr has nothing else: there the id is what the operator chose.
        return Metadata(
            self.name,
            name or ("" if is_hex(found.id) else word(found.id)),
            word(member(said, f"{_CRI}image-name")),
            (),
            word(uid),
            word(member(said, f"{_CRI}sandbox-name")),
            word(member(said, f"{_CRI}sandbox-namespace")),
        )


class Crio:
    """Bundles of CRI-O, which keeps them where Podman keeps its own."""

    name = "cri-o"

    def __init__(self, files: Files) -> None:
        self._files = files
        self._bases = files.bases("/run/containers/storage", "/var/run/crio", "/var/lib/containers/storage")

    def lookup(self, found: Found) -> Metadata | None:
        """See `Runtime`."""
        for base in self._bases:
            spec = self._files.json(base, "overlay-containers", found.id, "userdata", "config.json")
            said = member(spec, "annotations")
            if member(said, MANAGER) == self.name and member(said, f"{_CRIO}ContainerID") == found.id:
                return self._read(spec, said, found)
        return None

    def known(self) -> Iterator[Known]:
        """See `Runtime`. None: its paths carry the id."""
        yield from ()

    def _read(self, spec: object, said: object, found: Found) -> Metadata | None:
        # The three of the pod come from the kubelet, after all that a pod's author can set.
        uid = member(said, f"{_POD}uid")
        if not is_place_of(spec, found) or not is_pod(uid, found):
            return None
        image = word(member(said, f"{_CRIO}Image"))
        labels = member(said, f"{_CRIO}Labels")
        return Metadata(
            self.name,
            word(member(said, "io.kubernetes.container.name")),
            # Where the kubelet asked for it by its id, this is some name of the same image.
            word(member(said, f"{_CRIO}ImageName")) if not image or is_hex(image) else image,
            labels_of(parse(labels)) if isinstance(labels, str) else (),
            word(uid),
            word(member(said, f"{_POD}name")),
            word(member(said, f"{_POD}namespace")),
        )


def is_hex(ident: str) -> bool:
    """Whether this is an id such as Docker, Podman and the CRI make, and no name."""
    return len(ident) == _ID_LENGTH and not set(ident) - set("0123456789abcdef")
