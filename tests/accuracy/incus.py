# SPDX-License-Identifier: Apache-2.0
"""Incus, which Debian 12 has in its backports: its packages in the share, and its row of the report.

Owns which packages are missing in the guest's image; they are installed in guests of `make accuracy` only. Where the
mirror has no backports, the row is left out and the report says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.accuracy.runtimes import Runtime, names
from tests.accuracy.yard import BOX, WORKLOAD, YARD, Box
from tests.suites.staging import SHARE
from tests.vm.aptroot import AptRoot
from tests.vm.cache import build_lock, tell
from tests.vm.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.accuracy.yard import Yard

_PACKAGES: Final = {
    "bookworm-backports": ("incus-base", "incus-client", "libcowsql0", "libraft0"),
    "bookworm": (
        "attr",
        "libuv1",
        "rsync",
        "libpopt0",
        "squashfs-tools",
        "liblzo2-2",
        "xz-utils",
        "lxcfs",
        "runit-helper",
    ),
}
_STAGED: Final = "incus"


def stage(share: Path) -> bool:
    """Put the packages into the share; False where they cannot be had."""
    with build_lock("packages of Incus"):
        for suite, packages in _PACKAGES.items():
            apt = AptRoot(suite, may_be_unsigned=False)
            try:
                apt.update()
                apt.download(list(packages), share / _STAGED)
            except BuildError as error:
                tell(f"no Incus: {str(error).strip().splitlines()[-1]}")
                return False
    return True


class Incus(Runtime):
    """Unprivileged system containers; the id is the instance's name."""

    row = "incus"

    def prepare(self, yard: Yard) -> None:
        install = "dpkg --force-depends --force-unsafe-io --install"
        yard.sh(f"{install} {SHARE}/{_STAGED}/*.deb >/run/incus-dpkg.log 2>&1")
        yard.run("incus", "admin", "waitready", "--timeout", "120")
        yard.guest.run(["incus", "admin", "init", "--preseed"], input=_PRESEED, timeout=120, check=True)
        yard.guest.put("/srv/incus/metadata.yaml", _METADATA)
        yard.run("tar", "-C", "/srv/incus", "-cf", "/srv/incus/metadata.tar", "metadata.yaml")
        yard.run("tar", "-C", "/srv/busybox", "-cf", "/srv/incus/rootfs.tar", ".")
        images = ("/srv/incus/metadata.tar", "/srv/incus/rootfs.tar")
        yard.run("incus", "image", "import", *images, "--alias", "busybox")

    def boxes(self, yard: Yard, names: Sequence[str]) -> list[Box]:
        for name in names:
            init = f"raw.lxc=lxc.init.cmd=/bin/sh {BOX} {name}"
            yard.run("incus", "init", "busybox", name, "--config", init)
            for device, source, target in (("w", WORKLOAD, "/w"), ("yard", YARD, "/yard")):
                disk = ("disk", f"source={source}", f"path={target}")
                yard.run("incus", "config", "device", "add", name, device, *disk)
            yard.run("incus", "start", name)
        # By its path it may be LXC's as well: which of both is a matter of metadata.
        return [Box(self.row, name, "", name) for name in names]

    def enter(self, yard: Yard, box: Box, *words: str) -> None:
        yard.run("incus", "exec", box.name, "--", *words)

    def remove(self, yard: Yard, boxes: Sequence[Box]) -> None:
        yard.run("incus", "delete", "--force", *names(boxes))


_PRESEED: Final = b"""\
storage_pools:
- name: default
  driver: dir
profiles:
- name: default
  devices:
    root:
      type: disk
      path: /
      pool: default
"""
_METADATA: Final = b"""\
architecture: x86_64
creation_date: 1700000000
properties:
  os: busybox
  release: "1"
"""
