# SPDX-License-Identifier: Apache-2.0
"""State files of runtimes as they lie on disk, made up: the layouts are real, the containers are not."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from enricher.enrich.metadata import Metadata
from enricher.enrich.metadata.files import Budget, Files, Host
from enricher.enrich.places import Found

ID = "5e" * 32
OTHER = "a7" * 32
POD = "0b1c2d3e-1111-2222-3333-444455556666"
POD_ = POD.replace("-", "_")
USER = os.getuid() or 4242
"""The user of rootless containers. Where the tests do not run as root, the same one owns everything."""
MANAGER = f"/user.slice/user-{USER}.slice/user@{USER}.service"
BUNDLES = "run/containerd/io.containerd.runtime.v2.task"


class Tree:
    """A file system of a host, below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host = Host(root, os.getuid())
        self.text("etc/passwd", f"root:x:0:0::/root:/bin/sh\nann:x:{USER}:{USER}:Ann:/home/ann:/bin/sh\n")

    def text(self, path: str, text: str, uid: int | None = None) -> Path:
        """Write a file; with `uid` it and the directories that are made for it are that user's."""
        file = self.root / path
        missing = [parent for parent in file.parents if not parent.exists()]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        if uid is not None and uid != os.getuid():
            try:
                for made in [file, *missing]:
                    os.chown(made, uid, uid)
            except PermissionError:
                pytest.skip("giving files away needs CAP_CHOWN")
        return file

    def json(self, path: str, value: object, uid: int | None = None) -> Path:
        return self.text(path, json.dumps(value), uid)

    def files(self, uid: int = 0) -> Files:
        return Files(self.host, uid, Budget())

    def bundle(
        self, path: str, cgroup: str, annotations: Mapping[str, object] | None = None, uid: int | None = None
    ) -> Path:
        """Write an OCI bundle's config.json."""
        spec = {
            "ociVersion": "1.1.0",
            "process": {"args": ["sh"], "cwd": "/"},
            "annotations": dict(annotations or {}),
            "linux": {"cgroupsPath": cgroup},
        }
        return self.json(f"{path}/config.json", spec, uid)

    def docker(
        self, ident: str = ID, base: str = "var/lib/docker", uid: int | None = None, **more: object
    ) -> Path:
        """Write what dockerd keeps of a container."""
        labels = {"com.example.team": "blue", "com.example.tier": "front\nend"}
        config: dict[str, object] = {
            "ID": ident,
            "Name": "/shop",
            "Image": "sha256:" + "c0" * 32,
            "Config": {"Hostname": "5e5e5e5e5e5e", "Image": "registry.example/shop:1.4", "Labels": labels},
            "State": {"Running": True, "Pid": 4711},
        }
        return self.json(f"{base}/containers/{ident}/config.v2.json", config | more, uid)

    def podman(
        self,
        cgroup: str,
        storage: str = "var/lib/containers/storage",
        uid: int | None = None,
        listed: str = "containers.json",
    ) -> None:
        """Write what podman keeps of a container."""
        said = {
            "image-name": "docker.io/library/redis:7",
            "image-id": "d1" * 32,
            "name": "cache",
            "created-at": 1,
        }
        entry = {
            "id": ID,
            "names": ["cache"],
            "image": "d1" * 32,
            "layer": "e2" * 32,
            "metadata": json.dumps(said),
        }
        self.json(f"{storage}/overlay-containers/{listed}", [{"id": OTHER, "metadata": "{}"}, entry], uid)
        bundle = f"{storage}/overlay-containers/{ID}/userdata"
        self.bundle(bundle, cgroup, {"io.container.manager": "libpod"}, uid)

    def runc(
        self, ident: str, cgroup: str, base: str = "run/runc", uid: int | None = None, **more: object
    ) -> Path:
        """Write runc's state, as on cgroup v2."""
        state: dict[str, object] = {
            "id": ident,
            "init_process_pid": 4711,
            "cgroup_paths": {"": f"/sys/fs/cgroup{cgroup}"},
            "config": {"labels": ["bundle=/srv/bundles/x", "org.example.owner=ops", "empty"]},
        }
        return self.json(f"{base}/{ident}/state.json", state | more, uid)

    def crun(
        self, ident: str, cgroup: str, scope: str = "", base: str = "run/crun", uid: int | None = None
    ) -> Path:
        """Write crun's status."""
        status = {"pid": 4711, "cgroup-path": cgroup, "scope": scope, "rootfs": "rootfs", "bundle": "/srv/x"}
        return self.json(f"{base}/{ident}/status", status, uid)


def found(path: str, runtime: str = "", ident: str = ID, pod: str = "") -> Found:
    return Found(runtime, ident, "", pod, path)


SHOP = Metadata(
    "docker",
    "shop",
    "registry.example/shop:1.4",
    (("com.example.team", "blue"), ("com.example.tier", "front\nend")),
)
CACHE = Metadata("podman", "cache", "docker.io/library/redis:7")
