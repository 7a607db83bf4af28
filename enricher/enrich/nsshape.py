# SPDX-License-Identifier: Apache-2.0
"""The shape of what ``audit-enricher namespaces --json`` writes, as types.

Owns the names of its members; the published schema says the same, and a test compares the two. What is not known is
absent. Numbers that may exceed 2^53 are decimal strings, as in the native event.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

__all__ = [
    "Box",
    "Document",
    "Entry",
    "Fd",
    "Host",
    "Link",
    "Mount",
    "Network",
    "Oldest",
    "Peer",
    "TaskEntry",
]

Kind = Literal["mnt", "uts", "ipc", "net", "pid", "user", "cgroup", "time"]
Where = Literal["host", "container", "unknown"]
SinceFrom = Literal["service", "process", "inode"]


class Host(TypedDict):
    """The machine and its boot."""

    name: NotRequired[str]
    machine_id: NotRequired[str]
    boot_id: NotRequired[str]


class BoxName(TypedDict):
    """A container, as the path of its cgroup tells of it."""

    id: str
    name: NotRequired[str]
    runtime: NotRequired[str]
    pod: NotRequired[str]


class Box(BoxName):
    """A container that has tasks in a namespace."""

    chain: NotRequired[list[BoxName]]
    tasks: int


class Oldest(TypedDict):
    """The task of a namespace that started first."""

    pid: int
    tid: NotRequired[int]
    comm: str
    comm_hex: NotRequired[str]
    started: str


class Thread(TypedDict):
    """A thread that is in other namespaces than its process."""

    pid: int
    tid: int


class Mount(TypedDict):
    """A bind mount that holds a namespace."""

    mnt: int
    path: str
    path_hex: NotRequired[str]


class Fd(TypedDict):
    """A descriptor that holds a namespace."""

    pid: int
    fd: int


class Peer(TypedDict):
    """The other end of a pair of links."""

    index: int
    net: NotRequired[int]
    name: NotRequired[str]
    name_hex: NotRequired[str]


class Link(TypedDict):
    """A link of a network namespace."""

    index: int
    name: str
    name_hex: NotRequired[str]
    kind: NotRequired[str]
    state: str
    up: bool
    mac: NotRequired[str]
    addresses: list[str]
    peer: NotRequired[Peer]


class Network(TypedDict):
    """What is in a network namespace, or why that is not known."""

    links: NotRequired[list[Link]]
    cut: NotRequired[bool]
    reason: NotRequired[str]


class Entry(TypedDict):
    """One namespace."""

    kind: Kind
    ino: int
    id: NotRequired[str]
    host: NotRequired[bool]
    parent: NotRequired[int]
    owner: NotRequired[int]
    owner_uid: NotRequired[int]
    since: NotRequired[str]
    since_at_latest: NotRequired[str]
    since_from: NotRequired[SinceFrom]
    oldest: NotRequired[Oldest]
    pids: list[int]
    threads: NotRequired[list[Thread]]
    for_children: NotRequired[list[int]]
    tasks: int
    host_tasks: int
    unknown_tasks: int
    containers: list[Box]
    mounts: NotRequired[list[Mount]]
    more_mounts: NotRequired[int]
    fds: NotRequired[list[Fd]]
    more_fds: NotRequired[int]
    network: NotRequired[Network]


class TaskEntry(TypedDict):
    """One process, or a thread that is elsewhere than its process."""

    pid: int
    tid: NotRequired[int]
    start: str
    comm: str
    comm_hex: NotRequired[str]
    cgroup: NotRequired[str]
    cgroup_hex: NotRequired[str]
    where: Where
    container: NotRequired[BoxName]
    namespaces: dict[str, int]


class Document(TypedDict):
    """All of it."""

    schema: str
    time: str
    host: Host
    dev: NotRequired[str]
    namespaces: list[Entry]
    tasks: list[TaskEntry]
    notes: list[str]
