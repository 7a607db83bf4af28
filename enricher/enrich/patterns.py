# SPDX-License-Identifier: Apache-2.0
"""Where each container runtime puts its cgroups, and what else on a host has one: the table, as data.

Owns the rows, where each is anchored and what the placeholders in them stand for. Never matches anything itself:
`enrich.recognise` does. ``docs/containers.md`` lists every row, and a test compares the two.

A layout is written as a path: ``<word>`` is a placeholder, ``[..]`` may be missing, all else is literal. A name
means something only where the runtime really puts it, because names alone can be had by anybody with a cgroup
of his own; so each row has an anchor.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

__all__ = [
    "CONTAINERS",
    "DEEPEST",
    "HOST",
    "INNER",
    "PLACEHOLDERS",
    "UNIT_NAME",
    "Anchor",
    "Container",
    "Host",
]


class Anchor(Enum):
    """The place that a layout starts from; the value is its name in the documentation."""

    ROOT = "root"
    """The root of the hierarchy, or a container's own cgroup."""

    SLICES = "slices"
    """Below any chain of the system manager's slices, or none. systemd does not delegate slices (systemd.unit,
    systemd.resource-control: Delegate=), so only the host's root makes a cgroup directly in one."""

    USER = "user"
    """Below any chain of slices in a user's own service manager, ``user@UID.service``: the user names all of it."""


class Container(NamedTuple):
    """A layout that is a container's own cgroup."""

    runtime: str
    """As in `places.Found`; "" where the layout does not tell."""
    anchor: Anchor
    layout: str


class Host(NamedTuple):
    """A layout that holds processes of the host. It is the whole path: what is below was made by somebody else."""

    anchor: Anchor
    layout: str
    helper: bool = True
    """Whether only a runtime's helper is there, never a container that has no cgroup of its own."""


UNIT_NAME: Final = r"(?!lxc\.(?:payload|monitor)\.)[A-Za-z0-9:_.\\@-]+"
"""The characters of a unit's name (systemd.unit). Names of liblxc may end in ``.service`` and are none."""

_HEX: Final = "[0-9a-f]"
_UUID: Final = "-".join(f"{_HEX}{{{digits}}}" for digits in (8, 4, 4, 4, 12))
_UUID_: Final = "_".join(f"{_HEX}{{{digits}}}" for digits in (8, 4, 4, 4, 12))
# machined takes hostnames only, and of their characters a unit's name escapes "-" alone.
_ESCAPED: Final = r"(?:[A-Za-z0-9._]|\\x2d){1,64}"

PLACEHOLDERS: Final = {
    "id": f"(?P<id>{_HEX}{{64}})",
    "podman-pod": f"{_HEX}{{64}}",
    "qos": "(?:besteffort|burstable)",
    "uid": f"(?P<pod>{_UUID}|{_HEX}{{32}})",
    "pod-slice": (
        rf"(?:{UNIT_NAME}-)?kubepods(?:-besteffort|-burstable)?"
        rf"-pod(?P<pod>{_UUID_}|{_HEX}{{32}})\.slice"
    ),
    "name": r"(?P<name>[!-.0-~]+)",  # liblxc sets no rule; what cannot be printed is left unknown
    "machine": f"(?P<name>{_ESCAPED})",
    "instance": r"(?P<name>(?:[A-Za-z0-9._-]|\\x2d){1,64})",  # nspawn's own unit leaves "-" as it is
    "lxc-n-domain": rf"(?P<id>lxc\\x2d[0-9]+\\x2d{_ESCAPED})",
    "qemu-n-domain": rf"qemu\\x2d[0-9]+\\x2d{_ESCAPED}",
    "domain": r"(?P<id>[A-Za-z0-9._-]+)",
    "thread": "(?:emulator|(?:vcpu|iothread)[0-9]+)",
    "service": rf"{UNIT_NAME}\.service",
    "words": r"[A-Za-z0-9:_.\\@-]+",
    "n": "[0-9]{1,20}",
    "c-n": "c?[0-9]{1,20}",
    "hex": f"{_HEX}{{1,20}}",
    "hex32": f"{_HEX}{{32}}",
    "uuid": _UUID,
}
"""What stands for each ``<word>``, as a regular expression. A group is what the path tells: id, name, pod."""

_ROOT, _SLICES, _USER = Anchor.ROOT, Anchor.SLICES, Anchor.USER

CONTAINERS: Final = (
    # Docker; below a pod's slice it is cri-dockerd's.
    Container("docker", _SLICES, "/docker-<id>.scope"),
    Container("docker", _USER, "/docker-<id>.scope"),
    Container("docker", _ROOT, "/docker/<id>"),
    Container("docker", _ROOT, "/actions_job/<id>"),
    # Kubernetes. With the cgroupfs driver containerd and cri-dockerd name containers alike.
    Container("containerd", _SLICES, "/cri-containerd-<id>.scope"),
    Container("cri-o", _SLICES, "/crio-<id>.scope"),
    Container("", _ROOT, "[/kubelet]/kubepods[/<qos>]/pod<uid>/<id>"),
    Container("cri-o", _ROOT, "[/kubelet]/kubepods[/<qos>]/pod<uid>/crio-<id>"),
    # The kubelet asks for systemd's driver and runc was not told: it takes "slice:prefix:name" for a path, relative
    # to its own cgroup (v1), or to that one's parent (v2).
    Container("containerd", _SLICES, "/<pod-slice>:cri-containerd:<id>"),
    Container("containerd", _SLICES, "/containerd.service/<pod-slice>:cri-containerd:<id>"),
    # Podman. The service is a quadlet's, or any that runs podman with --cgroups=split.
    Container("podman", _SLICES, "/libpod-<id>.scope"),
    Container("podman", _SLICES, "/<service>/libpod-payload-<id>"),
    Container("podman", _USER, "/libpod-<id>.scope"),
    Container("podman", _USER, "/<service>/libpod-payload-<id>"),
    Container("podman", _ROOT, "/libpod_parent[/<podman-pod>]/libpod-<id>"),
    # nerdctl's containers are containerd's.
    Container("containerd", _SLICES, "/nerdctl-<id>.scope"),
    Container("containerd", _USER, "/nerdctl-<id>.scope"),
    # liblxc: LXC, Incus (outside its default project <name> is <project>_<name>), LXD; Proxmox keeps /lxc/<name>.
    Container("lxc", _ROOT, "/lxc.payload.<name>"),
    Container("lxc", _ROOT, "/lxc.payload/<name>"),
    Container("lxc", _ROOT, "/lxc/<name>"),
    # libvirt before nspawn: its container may make any cgroup in its own scope, "payload" too.
    Container("libvirt-lxc", _SLICES, "/machine-<lxc-n-domain>.scope"),
    Container("libvirt-lxc", _ROOT, "/machine/<domain>.libvirt-lxc"),
    Container("nspawn", _SLICES, "/machine-<machine>.scope/payload"),
    Container("nspawn", _SLICES, "/systemd-nspawn@<instance>.service/payload"),
)
"""In the order in which they are tried; the first that fits is taken."""

INNER: Final = ("", "/container", "/ns", "/libvirt")
"""Where the root of a container's hierarchy may lie below its own cgroup: crun makes "container" for a payload that
runs systemd (also under CRI-O), Proxmox "ns", libvirt "libvirt"."""

DEEPEST: Final = 16
"""Containers in one chain. Nobody nests that deep, but a container may make directories that look like it."""

HOST: Final = (
    # Helpers of runtimes: they serve a container and are not in it.
    Host(_SLICES, "/libpod-conmon-<id>.scope"),
    Host(_USER, "/libpod-conmon-<id>.scope"),
    Host(_ROOT, "/libpod_parent[/<podman-pod>]/conmon"),
    Host(_SLICES, "/<service>/runtime"),
    Host(_USER, "/<service>/runtime"),
    Host(_USER, "/podman-pause-<hex>.scope"),
    Host(_USER, "/rootless-netns-<hex>.scope"),
    Host(_SLICES, "/crio-conmon-<id>.scope"),
    Host(_ROOT, "[/kubelet]/kubepods[/<qos>]/pod<uid>/crio-conmon-<id>"),
    Host(_SLICES, "/crio-pull-image-<n>.scope"),
    Host(_ROOT, "/lxc.monitor.<name>"),
    Host(_ROOT, "/lxc.monitor/<name>"),
    Host(_ROOT, "/lxc.pivot"),
    Host(_SLICES, "/machine-<machine>.scope/supervisor"),
    Host(_SLICES, "/systemd-nspawn@<instance>.service/supervisor"),
    # A virtual machine is a process of the host.
    Host(_SLICES, "/machine-<qemu-n-domain>.scope[/libvirt][/<thread>]"),
    Host(_ROOT, "/machine/<domain>.libvirt-qemu[/<thread>]"),
    # Scopes that systemd, logind or a well-known program makes. Any other scope may be a container of runc's or
    # crun's: with systemd's driver they call it <prefix>-<name>.scope, and both parts are free.
    Host(_ROOT, "/init.scope", helper=False),
    Host(_USER, "/init.scope", helper=False),
    Host(_ROOT, "/user.slice/user-<n>.slice/session-<c-n>.scope", helper=False),
    Host(_SLICES, "/run-r<hex32>.scope", helper=False),
    Host(_SLICES, "/run-u<n>.scope", helper=False),
    Host(_SLICES, "/run-p<n>-i<n>.scope", helper=False),
    Host(_USER, "/run-r<hex32>.scope", helper=False),
    Host(_USER, "/run-u<n>.scope", helper=False),
    Host(_USER, "/run-p<n>-i<n>.scope", helper=False),
    Host(_USER, "/app-<words>.scope", helper=False),
    Host(_USER, "/snap.<words>-<uuid>.scope", helper=False),
    Host(_USER, "/tmux-spawn-<uuid>.scope", helper=False),
    Host(_USER, "/vte-spawn-<uuid>.scope", helper=False),
    # Cgroups that systemd makes below a unit that it delegates.
    Host(_SLICES, "/<service>/.control", helper=False),
    Host(_USER, "/<service>/.control", helper=False),
    Host(_USER, "/.control", helper=False),
    Host(_SLICES, "/systemd-udevd.service/udev", helper=False),
)
"""What is the host's beyond slices and units of the types that hold processes and are no scope."""
