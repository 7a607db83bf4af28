# SPDX-License-Identifier: Apache-2.0
"""A root file system of one static busybox: as a directory for nspawn, lxc and runc, as an archive for the engines.

Owns both layouts. Never talks to a container engine; the guest's guest-images script does.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

from tests.vm.cache import shell
from tests.vm.errors import BuildError

__all__ = ["IMAGE_NAME", "write_archive", "write_rootfs"]

IMAGE_NAME = "localhost/busybox:latest"
_DIRECTORIES = ("bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr/lib", "var/tmp")
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    # systemd-nspawn refuses a tree without it.
    "etc/os-release": "ID=busybox\nNAME=busybox\nVERSION_ID=1\n",
}


def write_rootfs(root: Path) -> None:
    """Fill a new directory with the file system."""
    busybox = shutil.which("busybox")
    if busybox is None:
        message = "busybox is not installed (see tests/vm/packages.txt)"
        raise BuildError(message)
    for name in _DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    for name, content in _FILES.items():
        (root / name).write_text(content)
    shutil.copyfile(busybox, root / "bin/busybox")
    (root / "bin/busybox").chmod(0o755)
    for applet in shell([busybox, "--list"]).split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")


def write_archive(root: Path, target: Path) -> None:
    """Write the layout of `docker save`, which docker, podman and containerd all load."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for path in sorted(root.rglob("*")):
            tar.add(path, arcname=str(path.relative_to(root)), recursive=False, filter=_anonymous)
    content = layer.getvalue()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(content).hexdigest()]},
        "history": [{"created": "2024-01-01T00:00:00Z"}],
    }
    raw = json.dumps(config).encode()
    config_name = hashlib.sha256(raw).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": [IMAGE_NAME], "Layers": ["layer.tar"]}]
    with tarfile.open(target, mode="w") as tar:
        for name, data in (
            (config_name, raw),
            ("layer.tar", content),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "root"
    return member
