# SPDX-License-Identifier: Apache-2.0
"""The initramfs: busybox, the modules needed to see the disks, and an init that mounts them and leaves.

Never grows into a distribution's initramfs: it knows three disks by serial number and one file system.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from tests.vm.errors import BuildError

__all__ = ["write"]

# In this order where they are modules; dependencies are put before each. The last two serve the agent's port
# and the entropy the guest's first getrandom() waits for.
_WANTED = (
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "ext4",
    "virtio_console",
    "virtio_rng",
)

_INIT = """#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
b=/bin/busybox
die() { echo "initramfs: $1" >/dev/console; $b sleep 1; $b poweroff -f; }
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
while read -r name; do
    $b insmod "/modules/$name" || echo "initramfs: $name did not load" >/dev/console
done </modules/order

# A disk's name depends on probing; its serial number does not.
disk() {
    tries=0
    while [ $tries -lt 200 ]; do
        for dir in /sys/block/vd*; do
            if [ "$($b cat "$dir/serial" 2>/dev/null)" = "$1" ]; then echo "/dev/${dir##*/}"; return 0; fi
        done
        tries=$((tries + 1))
        $b usleep 50000
    done
    return 1
}
root=$(disk root) || die "no root disk"
modules=$(disk modules) || die "no module disk"
$b mount -t ext4 -o rw,noatime "$root" /root || die "cannot mount the root disk"
$b mount -t ext4 -o ro "$modules" /root/usr/lib/modules || die "cannot mount the module disk"
if $b grep -qw vm.share=1 /proc/cmdline; then
    share=$(disk share) || die "no shared disk"
    $b mount -t ext4 -o ro "$share" /root/opt/share || die "cannot mount the shared disk"
fi
$b umount /proc
$b mount --move /sys /root/sys
$b mount --move /dev /root/dev
exec $b switch_root /root /usr/lib/systemd/systemd
die "switch_root failed"
"""


def write(home: Path, target: Path) -> None:
    """Write an initramfs for the modules in `home` (a /lib/modules/<version> with depmod's files)."""
    busybox = shutil.which("busybox")
    if busybox is None:
        message = "busybox is not installed (see tests/vm/packages.txt)"
        raise BuildError(message)
    order = _load_order(home)
    entries: list[tuple[str, int, bytes]] = [
        *((name, stat.S_IFDIR | 0o755, b"") for name in ("bin", "dev", "modules", "proc", "root", "sys")),
        ("bin/busybox", stat.S_IFREG | 0o755, Path(busybox).read_bytes()),
        ("init", stat.S_IFREG | 0o755, _INIT.encode()),
        ("modules/order", stat.S_IFREG | 0o644, "".join(f"{path.name}\n" for path in order).encode()),
        *((f"modules/{path.name}", stat.S_IFREG | 0o644, path.read_bytes()) for path in order),
    ]
    with target.open("wb") as archive:
        for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
            archive.write(_newc(number, name, mode, data))


def _load_order(home: Path) -> list[Path]:
    depends: dict[str, list[str]] = {}
    for line in (home / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        depends[path] = rest.split()
    by_name = {os.path.basename(path).split(".")[0].replace("-", "_"): path for path in depends}  # noqa: PTH119
    order: list[str] = []

    def visit(path: str) -> None:
        if path in order:
            return
        # modules.dep lists the nearest dependency first.
        for needed in reversed(depends[path]):
            visit(needed)
        order.append(path)

    for name in _WANTED:
        if name in by_name:
            visit(by_name[name])
        elif name in {"virtio_pci", "virtio_blk", "ext4"} and not _built_in(home, name):
            message = f"{home.name} has no {name}"
            raise BuildError(message)
    return [home / path for path in order]


def _built_in(home: Path, name: str) -> bool:
    lines = (home / "modules.builtin").read_text().splitlines()
    return any(line.rsplit("/", 1)[-1].split(".")[0].replace("-", "_") == name for line in lines)


def _newc(number: int, name: str, mode: int, data: bytes) -> bytes:
    """Return one member of a cpio archive in the newc format (Documentation/driver-api/early-userspace)."""
    raw = name.encode() + b"\0"
    nlink = 2 if stat.S_ISDIR(mode) else 1
    numbers = (number, mode, 0, 0, nlink, 0, len(data), 0, 0, 0, 0, len(raw), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in numbers) + raw
    return _pad4(head) + _pad4(data)


def _pad4(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
