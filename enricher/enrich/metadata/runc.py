# SPDX-License-Identifier: Apache-2.0
"""Plain runc and crun: the state that they keep of every container, whoever had it made.

Owns runc's ``<id>/state.json`` and crun's ``<id>/status``, the only source for a cgroup whose path says nothing. A
container that Docker, containerd, Podman or CRI-O had made is in here too, and told apart by the directory or by its
bundle. Never calls a 64-digit id a name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.enrich.metadata import Known, Metadata, is_cgroup, labels_of, word
from enricher.enrich.metadata.files import member
from enricher.enrich.metadata.oci import DOCKER_NAMESPACE, is_hex, is_within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enricher.enrich.metadata.files import Base, Files
    from enricher.enrich.places import Found

_MOUNT: Final = "/sys/fs/cgroup"
_CONTAINERD: Final = "/run/containerd/runc"
_DOCKER: Final = f"/run/docker/runtime-runc/{DOCKER_NAMESPACE}"


class _State(NamedTuple):
    """What one state directory says."""

    id: str
    cgroups: tuple[str, ...]
    annotations: tuple[tuple[str, str], ...]


class Runc:
    """runc's state directories, and those of who gives it another one."""

    name = "runc"

    def __init__(self, files: Files) -> None:
        self._files = files
        self._plain = files.bases("/run/runc", runtime="runc")
        self._docker = files.bases(_DOCKER, runtime=f"docker/runtime-runc/{DOCKER_NAMESPACE}")

    def lookup(self, found: Found) -> Metadata | None:
        """See `Runtime`."""
        for base in self._plain:
            state = _runc_state(self._files.json(base, found.id, "state.json"), found.id)
            if state is not None and any(is_within(found.path, cgroup) for cgroup in state.cgroups):
                return _metadata(self.name, state)
        return None

    def known(self) -> Iterator[Known]:
        """See `Runtime`."""
        for runtime, base in self._directories():
            for ident in self._files.names(base):
                # containerd may have been told to use crun, which then has its file there.
                state = _runc_state(self._files.json(base, ident, "state.json"), ident) or _crun_state(
                    self._files.json(base, ident, "status"), ident
                )
                if state is not None:
                    yield from _known(runtime, state)

    def _directories(self) -> Iterator[tuple[str, Base]]:
        yield from (("docker", base) for base in self._docker)
        if not self._files.uid:
            for namespace in self._files.names((_CONTAINERD,)):
                if namespace != DOCKER_NAMESPACE:
                    yield "containerd", (_CONTAINERD, namespace)
        yield from ((self.name, base) for base in self._plain)


class Crun:
    """crun's state directories."""

    name = "crun"

    def __init__(self, files: Files) -> None:
        self._files = files
        # crun heeds XDG_RUNTIME_DIR, which root has in a login session.
        self._bases = files.bases("/run/crun", "/run/user/0/crun", runtime="crun")

    def lookup(self, found: Found) -> Metadata | None:
        """See `Runtime`."""
        for base in self._bases:
            state = _crun_state(self._files.json(base, found.id, "status"), found.id)
            if state is not None and any(is_within(found.path, cgroup) for cgroup in state.cgroups):
                return _metadata(self.name, state)
        return None

    def known(self) -> Iterator[Known]:
        """See `Runtime`."""
        for base in self._bases:
            for ident in self._files.names(base):
                state = _crun_state(self._files.json(base, ident, "status"), ident)
                if state is not None:
                    yield from _known(self.name, state)


def _known(runtime: str, state: _State) -> Iterator[Known]:
    metadata = _metadata(runtime, state) or Metadata(runtime)
    yield from (Known(runtime, state.id, cgroup, metadata) for cgroup in state.cgroups)


def _metadata(runtime: str, state: _State) -> Metadata | None:
    """Return what is worth telling; None for an engine's container, of which only the engine's files do."""
    return None if is_hex(state.id) else Metadata(runtime, word(state.id), "", state.annotations)


def _runc_state(value: object, ident: str) -> _State | None:
    paths = member(value, "cgroup_paths")
    if member(value, "id") != ident or not word(ident) or not isinstance(paths, dict):
        return None
    found = sorted({cgroup for subsystem, path in paths.items() if (cgroup := _unmounted(subsystem, path))})
    labels = member(value, "config", "labels")
    pairs = (
        [text.split("=", 1) for text in labels if isinstance(text, str)] if isinstance(labels, list) else []
    )
    # runc puts the bundle's path among the annotations, and they all come as name=value.
    return _State(ident, tuple(found), labels_of([pair for pair in pairs if pair[0] != "bundle"]))


def _unmounted(subsystem: str, path: object) -> str:
    """Return the path within the hierarchy, "" for none: on v1 it is below a directory for the subsystem."""
    if not isinstance(path, str) or not path.startswith(f"{_MOUNT}/"):
        return ""
    below = path.removeprefix(_MOUNT)
    if subsystem:
        _, slash, rest = below[1:].partition("/")
        below = slash + rest
    return below if is_cgroup(below) else ""


def _crun_state(value: object, ident: str) -> _State | None:
    path = member(value, "cgroup-path")
    if not isinstance(path, str) or not word(ident):
        return None
    cgroup = path if path.startswith("/") else f"/{path}"
    scope = member(value, "scope")
    # With systemd's driver the payload is one below the container's own, in "container".
    if isinstance(scope, str) and scope and f"/{scope}/" in cgroup:
        cgroup = cgroup[: cgroup.index(f"/{scope}/") + len(scope) + 1]
    return _State(ident, (cgroup,) if is_cgroup(cgroup) else (), ())
