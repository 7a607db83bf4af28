# SPDX-License-Identifier: Apache-2.0
"""A plain Debian 12, as a host on which nothing of ours was ever installed; and the "Debian" it can install from.

The second is a directory with the packages that the first lacks, which the guest reaches without a network. Owns what
is in both. Never has the package under test in it, nor what that depends on: those have to come by apt.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.vm.aptroot import acquire_options, mirror_for
from tests.vm.cache import PACKAGE, build_lock, cache_dir, digest_files, scratch, shell, tell
from tests.vm.disk import make_disk

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DEBIAN", "FETCHED", "FETCHED_BCC", "INSTALLED", "Plain", "ensure_plain"]

DEBIAN = "debian"
"""The directory of the share in which the guest's apt looks for packages: /opt/share/debian."""

INSTALLED = """
    systemd systemd-sysv udev dbus procps kmod util-linux passwd login auditd python3.11-minimal libpython3.11-stdlib
""".split()
"""Beside what every Debian has. Of Python only what the agent runs on: the command python3 is not there."""

FETCHED = "python3 python3-msgpack python3-urllib3 libbpf1 procps systemd".split()
"""What the package may depend on; with it comes all that these depend on and the plain system lacks."""

FETCHED_BCC = "python3-bpfcc".split()
"""The same for the package for kernels without BTF; the headers of a kernel, which it recommends, are not there."""

_SUITE = "bookworm"
_SIZE_MIB = 1500
_OVERLAY = ("etc/systemd/system/vm-agent.service", "etc/systemd/journald.conf.d/vm.conf")
# They would hold apt's lock, or wait for a terminal or a network that is not there.
_MASKED = """
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
    getty.target getty-static.service getty@tty1.service serial-getty@ttyS0.service console-getty.service
    systemd-networkd-wait-online.service systemd-firstboot.service
""".split()


@dataclass(frozen=True)
class Plain:
    """The system, as a disk and as the tar that the disk is made from, and the packages it can install."""

    directory: Path

    @property
    def image(self) -> Path:
        """The root disk. Others use it too: write to a copy only."""
        return self.directory / "root.ext4"

    @property
    def tar(self) -> Path:
        """The same files."""
        return self.directory / "root.tar"

    @property
    def debian(self) -> Path:
        """Packages and their index, of the same day as the system."""
        return self.directory / DEBIAN


def ensure_plain() -> Plain:
    """Return the plain system, building it when it is missing."""
    overlay = [PACKAGE / "overlay" / name for name in _OVERLAY]
    key = digest_files([PACKAGE / "plain.py", PACKAGE / "agent.py", PACKAGE / "disk.py", *overlay])
    final = Plain(cache_dir() / "images" / f"plain-{key}")
    with build_lock("plain image"):
        if final.directory.exists():
            return final
        final.directory.parent.mkdir(exist_ok=True)
        with scratch("plain") as work:
            made = Plain(work / "plain")
            made.debian.mkdir(parents=True)
            _bootstrap(work / "base.tar", made.debian)
            tree = work / "tree"
            tree.mkdir()
            _tar("-xpf", work / "base.tar", tree)
            _customise(tree)
            _tar("-cf", made.tar, tree, ".")
            make_disk(tree, made.image, label="root", size_mib=_SIZE_MIB)
            made.directory.rename(final.directory)
        for old in final.directory.parent.glob("plain-*"):
            if old != final.directory:
                shutil.rmtree(old)
    return final


def _tar(action: str, archive: Path, tree: Path, *names: str) -> None:
    kept = ("--numeric-owner", "--xattrs", "--xattrs-include=*")
    shell(["tar", "-C", tree, action, archive, *kept, *names])


def _bootstrap(base: Path, debian: Path) -> None:
    """Make the system, and while its package lists are there, fetch what it lacks."""
    tell(f"plain image: bootstrapping {_SUITE}")
    main, security = mirror_for(_SUITE), mirror_for(f"{_SUITE}-security")
    fetch = (
        f'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes --download-only -o Dir::Cache::archives={debian}'
        f" install {' '.join((*FETCHED, *FETCHED_BCC))}"
    )
    (debian / "partial").mkdir()
    shell(
        [
            *("mmdebstrap", "--mode=root", "--variant=minbase", "--architectures=amd64", "--format=tar"),
            *(f"--aptopt={line}" for line in acquire_options()),
            *('--aptopt=Acquire::Check-Valid-Until "false"', "--include=" + ",".join(INSTALLED)),
            f"--customize-hook={fetch}",
            *(_SUITE, base, f"deb {main} {_SUITE} main", f"deb {main} {_SUITE}-updates main"),
            f"deb {security} {_SUITE}-security main",
        ]
    )
    (debian / "partial").rmdir()
    (debian / "lock").unlink(missing_ok=True)
    index = shell(["dpkg-scanpackages", "--multiversion", "."], cwd=debian)
    (debian / "Packages").write_text(index)


def _customise(tree: Path) -> None:
    for name in _OVERLAY:
        # There is no command python3: the service under test brings it.
        text = (PACKAGE / "overlay" / name).read_text().replace("/usr/bin/python3 ", "/usr/bin/python3.11 ")
        _write(tree / name, text)
    _write(tree / "usr/local/lib/vm-agent.py", (PACKAGE / "agent.py").read_text())
    _write(tree / "etc/hostname", "plain\n")
    _write(tree / "etc/hosts", "127.0.0.1 localhost plain\n::1 localhost\n")
    _write(tree / "etc/fstab", "")
    # A fixed identity: systemd would otherwise treat every boot as the first one.
    _write(tree / "etc/machine-id", "c0ffee00c0ffee00c0ffee00c0ffee01\n")
    for mount_point in ("usr/lib/modules", "opt/share"):
        (tree / mount_point).mkdir(parents=True, exist_ok=True)
    # What the bootstrap needed of this machine's apt has no use where there is no network.
    (tree / "etc/apt/apt.conf.d/99mmdebstrap").unlink(missing_ok=True)
    shutil.rmtree(tree / "etc/apt/sources.list.d", ignore_errors=True)
    _write(tree / "etc/apt/sources.list", f"deb [trusted=yes] file:/opt/share/{DEBIAN} ./\n")
    units = tree / "etc/systemd/system"
    shell(["chroot", tree, "systemctl", "enable", "vm-agent.service"])
    for masked in _MASKED:
        (units / masked).unlink(missing_ok=True)
        (units / masked).symlink_to("/dev/null")
    shell(["chroot", tree, "systemctl", "set-default", "multi-user.target"])


def _write(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.write_text(text)
    target.chmod(0o644)
