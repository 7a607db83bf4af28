# SPDX-License-Identifier: Apache-2.0
"""A disk with bcc, its compiler and one kernel's headers, for the test that loads through bcc.

Apart from the root image, which would grow by a third for one test on one kernel. The packages are unpacked,
not installed: the guest puts them in place with mounts (`ENTER`). Never touches the root image or a kernel.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.vm.aptroot import AptRoot
from tests.vm.cache import PACKAGE, build_lock, cache_dir, digest_files, scratch, shell, tell
from tests.vm.disk import make_disk
from tests.vm.errors import BuildError
from tests.vm.kernels import Kernel, ensure_kernel

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ENTER", "ensure_bcc_disk"]

_SUITE = "bookworm"
# What the root image lacks of their dependencies.
_BCC = """
    python3-bpfcc libbpfcc libllvm14 libclang-cpp14 libz3-4 libxml2 libicu72 libedit2 libbsd0 libmd0
""".split()

ENTER = r"""
set -e
python=/usr/lib/python3/dist-packages
mount -o ro /dev/disk/by-id/virtio-extra /mnt
mount --bind /mnt/usr/src /usr/src
modprobe overlay
mount -t overlay -o ro,lowerdir=/mnt/lib/modules:/usr/lib/modules none /usr/lib/modules
export LD_LIBRARY_PATH=/mnt/usr/lib/x86_64-linux-gnu
mount -t overlay -o ro,lowerdir=/mnt$python:$python none $python
"""
"""Shell that makes them appear installed; for a mount namespace of one's own."""


def ensure_bcc_disk(slot: str) -> Path:
    """Return the disk for the slot's kernel, downloading and building it when it is missing."""
    kernel = ensure_kernel(slot)
    with build_lock("bcc disk"):
        image = _path(kernel)
        if image.exists():
            return image
        headers = _headers(kernel)
        if not headers:
            message = f"the mirror has no headers of {kernel.version} any more: `python3 -m tests.vm build --refresh`"
            raise BuildError(message)
        tell(f"bcc disk for {kernel.version}: building")
        image.parent.mkdir(exist_ok=True)
        with scratch("bcc") as work:
            tree = work / "tree"
            bcc = AptRoot(_SUITE, may_be_unsigned=False)
            bcc.update()
            debs = bcc.download(_BCC, work / "bcc")
            debs += AptRoot(kernel.suite, may_be_unsigned=False).download(headers, work / "headers")
            for deb in debs:
                shell(["dpkg", "-x", deb, tree])
            _thin_out(tree)
            make_disk(tree, work / "bcc.ext4", label="bcc")
            (work / "bcc.ext4").rename(image)
        for old in image.parent.glob(f"bcc-{slot}-*.ext4"):
            if old != image:
                old.unlink()
    return image


def _path(kernel: Kernel) -> Path:
    recipe = digest_files(
        [PACKAGE / "bccdisk.py", PACKAGE / "disk.py"], kernel.version, kernel.package_version
    )
    return cache_dir() / "images" / f"bcc-{kernel.slot}-{recipe}.ext4"


def _headers(kernel: Kernel) -> list[str]:
    """The packages of the kernel's headers, each with its version; [] where the mirror has another one by now."""
    apt = AptRoot(kernel.suite, may_be_unsigned=False)
    apt.update()
    name = f"linux-headers-{kernel.version}"
    fields = apt.show(name)
    if fields.get("Version") != kernel.package_version:
        return []
    depends = [clause.split("(")[0].strip() for clause in fields.get("Depends", "").split(",")]
    common = [package for package in depends if package.startswith("linux-headers-")]
    return [f"{package}={kernel.package_version}" for package in (name, *common)]


def _thin_out(tree: Path) -> None:
    """Leave away what no x86_64 compiler run reads: half of the headers."""
    for sources in tree.glob("usr/src/linux-headers-*"):
        for part in sources.glob("arch/*"):
            if part.is_dir() and part.name != "x86":
                shutil.rmtree(part)
        shutil.rmtree(sources / "include" / "dt-bindings", ignore_errors=True)
    shutil.rmtree(tree / "usr" / "share", ignore_errors=True)
