# SPDX-License-Identifier: Apache-2.0
"""What the path of a cgroup says about where its tasks are: the shapes, not the reading.

Owns the two shapes that `enrich.recognise` returns. Never holds what a runtime says of a container (its image, its
labels): that is metadata, and comes from elsewhere.

Who vouches for what:

* the outermost `Found` outside of any user's service manager: the host. Only its root makes such cgroups.
* a `Found` where ``Place.unit`` is ``user@UID.service``: that user, who may name cgroups below it as he likes.
* a `Found` directly below another service (``libpod-payload-<id>``): that service, where it runs as a user and
  systemd delegates its cgroup to it; else the host.
* each further member of a chain: the container before it, and nobody else.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Found(NamedTuple):
    """One container, as its cgroup's path tells of it."""

    runtime: str
    """Who made it: docker, podman, containerd, cri-o, lxc (LXC, Incus and LXD name cgroups alike), nspawn,
    libvirt-lxc; "" where the path tells a container and not its runtime."""

    id: str
    """64 hex digits where the runtime has such ids; the name for lxc and nspawn, the machine's for libvirt-lxc."""

    name: str
    """The container's name where the path carries it, else ""."""

    pod: str
    """The Kubernetes pod's uid with dashes, or the 32 hex digits of a static pod; "" for none."""

    path: str
    """The container's own cgroup as seen from the root of the hierarchy. One id with two paths is two containers,
    or a lie."""


class Place(NamedTuple):
    """Where the tasks of one cgroup are."""

    where: Literal["host", "container", "unknown"]

    chain: tuple[Found, ...]
    """Outermost to innermost; () unless ``where`` is container."""

    unit: str
    """The systemd unit of the host that the path lies in, outside of any container, as systemctl shows it (escapes
    such as ``\\x2d`` kept): ``sshd.service``, ``session-3.scope``. Below a user's service manager it is always that
    manager: the units below it are named by the user. "" for none; a slice is none."""

    payload: str
    """Inside a container: the path below the innermost container's own cgroup, "" or ``/init.scope``; may hold any
    byte but NUL. "" elsewhere."""

    helper: bool = False
    """Whether the path is that of a container runtime's helper: host, whatever its namespaces are. In any other of the
    host's cgroups there may be a container that has none of its own, and the path does not tell."""
