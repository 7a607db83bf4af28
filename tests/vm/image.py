# SPDX-License-Identifier: Apache-2.0
"""The guests' root disk: Debian 12 with the container engines, the agent, and their stores already filled.

Three stages, each cached by its inputs: the bootstrap's tar, the disk made from it, and the same disk after one boot
that loads the busybox image into every engine (a chroot cannot do that).
Never holds a kernel or modules: one image serves all slots.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.vm.aptroot import acquire_options, mirror_for
from tests.vm.busybox_rootfs import write_archive, write_rootfs
from tests.vm.cache import PACKAGE, build_lock, cache_dir, digest_files, scratch, shell, tell
from tests.vm.disk import make_disk
from tests.vm.kernels import ensure_kernel
from tests.vm.machine import BootOptions, Machine

__all__ = ["ensure_image"]

_SUITE = "bookworm"
_SIZE_MIB = 3000
# The image's own release: what its userspace was made for fills the stores.
_BAKING_KERNEL = "6.1"

_PACKAGES = """
    systemd systemd-sysv systemd-container dbus dbus-user-session udev kmod procps util-linux passwd login acl
    iproute2 iptables nftables strace libcap2-bin bpftool libbpf1 busybox-static ca-certificates apparmor
    podman docker.io containerd runc crun lxc uidmap slirp4netns fuse-overlayfs
    auditd python3 python3-msgpack python3-pyroute2 python3-urllib3
""".split()

_MASKED = """
    systemd-journald-audit.socket
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
    podman-auto-update.timer podman-auto-update.service podman-restart.service systemd-tmpfiles-clean.timer
    getty.target getty-static.service getty@tty1.service serial-getty@ttyS0.service console-getty.service
    systemd-networkd-wait-online.service systemd-firstboot.service systemd-hwdb-update.service
    systemd-machine-id-commit.service systemd-pstore.service systemd-random-seed.service systemd-repart.service
    systemd-journal-flush.service systemd-journal-catalog-update.service systemd-pcrphase.service
    systemd-pcrphase-sysinit.service systemd-update-utmp.service systemd-update-utmp-runlevel.service
    systemd-boot-system-token.service systemd-rfkill.socket systemd-initctl.socket
    systemd-ask-password-console.path systemd-ask-password-wall.path
    cryptsetup.target integritysetup.target veritysetup.target remote-fs.target dev-hugepages.mount
    modprobe@drm.service modprobe@efi_pstore.service proc-sys-fs-binfmt_misc.automount systemd-binfmt.service
""".split()

# Installed, off at boot, started by the tests (or by their sockets) when wanted.
_DISABLED = """
    auditd.service containerd.service docker.service apparmor.service lxc.service lxc-net.service
    lxc-monitord.service podman.service
""".split()

_ENABLED = ["docker.socket", "podman.socket", "vm-agent.service"]


def ensure_image(*, refresh: bool = False) -> Path:
    """Return the root disk, building what is missing; refresh bootstraps anew to pick up security updates."""
    overlay = sorted(path for path in (PACKAGE / "overlay").rglob("*") if path.is_file())
    sources = [PACKAGE / name for name in ("agent.py", "busybox_rootfs.py", "disk.py", "image.py")] + overlay
    final = cache_dir() / "images" / f"root-{digest_files(sources)}.ext4"
    if final.exists() and not refresh:
        return final
    kernel = ensure_kernel(_BAKING_KERNEL)
    with build_lock("root image"):
        if final.exists() and not refresh:
            return final
        base = _ensure_base(refresh=refresh)
        tell("root image: making the disk")
        final.parent.mkdir(exist_ok=True)
        with scratch("image") as work:
            tree = work / "root"
            tree.mkdir()
            shell(["tar", "-C", tree, "-xpf", base, "--numeric-owner", "--xattrs", "--xattrs-include=*"])
            _customise(tree, overlay)
            fresh = work / "root.ext4"
            make_disk(tree, fresh, label="root", size_mib=_SIZE_MIB)
            tell(f"root image: one boot with kernel {_BAKING_KERNEL} to fill the engines' stores")
            with Machine(kernel, fresh, BootOptions(writable=True), name="bake") as machine:
                machine.run(
                    ["/usr/local/sbin/guest-images", "podman", "docker", "containerd"],
                    timeout=300,
                    check=True,
                )
                machine.run(["podman", "run", "--rm", "localhost/busybox", "true"], timeout=120, check=True)
                machine.run(["docker", "run", "--rm", "localhost/busybox", "true"], timeout=120, check=True)
                stop = ["systemctl", "stop", "docker.socket", "docker.service", "containerd.service"]
                machine.run(stop, timeout=120, check=True)
                machine.power_off(timeout=120)
            fresh.rename(final)
        for old in final.parent.glob("root-*.ext4"):
            # A running guest keeps the file it has open.
            if old != final:
                old.unlink()
    return final


def _ensure_base(*, refresh: bool) -> Path:
    key = digest_files([], _SUITE, *_PACKAGES)
    base = cache_dir() / "images" / f"base-{key}.tar"
    if base.exists() and not refresh:
        return base
    base.parent.mkdir(exist_ok=True)
    tell(f"root image: bootstrapping {_SUITE}")
    main, security = mirror_for(_SUITE), mirror_for(f"{_SUITE}-security")
    options = [f"--aptopt={line}" for line in acquire_options()]
    excluded = ("man", "locale", "doc", "info")
    options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in excluded]
    with scratch("bootstrap") as work:
        bootstrap: list[str | Path] = [
            *("mmdebstrap", "--mode=root", "--variant=minbase", "--architectures=amd64", "--format=tar"),
            *(*options, '--aptopt=Acquire::Check-Valid-Until "false"', "--include=" + ",".join(_PACKAGES)),
            *(_SUITE, work / "base.tar", f"deb {main} {_SUITE} main", f"deb {main} {_SUITE}-updates main"),
            f"deb {security} {_SUITE}-security main",
        ]
        shell(bootstrap)
        (work / "base.tar").rename(base)
    for old in base.parent.glob("base-*.tar"):
        if old != base:
            old.unlink()
    return base


def _customise(tree: Path, overlay: list[Path]) -> None:
    for source in overlay:
        name = source.relative_to(PACKAGE / "overlay")
        mode = 0o755 if "sbin" in name.parts else 0o644
        _install(tree / name, source.read_bytes(), mode)
    _install(tree / "usr/local/lib/vm-agent.py", (PACKAGE / "agent.py").read_bytes(), 0o644)
    _install(tree / "etc/hostname", b"guest\n", 0o644)
    _install(tree / "etc/hosts", b"127.0.0.1 localhost guest\n::1 localhost\n", 0o644)
    _install(tree / "etc/fstab", b"", 0o644)
    # A fixed identity: systemd would otherwise treat every boot as the first one.
    _install(tree / "etc/machine-id", b"c0ffee00c0ffee00c0ffee00c0ffee00\n", 0o444)
    _install(tree / "etc/docker/daemon.json", b'{"storage-driver": "overlay2"}\n', 0o644)
    for mount_point in ("usr/lib/modules", "opt/share", "srv"):
        (tree / mount_point).mkdir(parents=True, exist_ok=True)
    # The mirrors' addresses have no use in a guest without a network.
    shutil.rmtree(tree / "etc/apt/sources.list.d", ignore_errors=True)
    (tree / "etc/apt/sources.list").write_text("")

    units = tree / "etc/systemd/system"
    shell(["chroot", tree, "systemctl", "disable", *_DISABLED])
    shell(["chroot", tree, "systemctl", "enable", *_ENABLED])
    for masked in _MASKED:
        (units / masked).unlink(missing_ok=True)
        (units / masked).symlink_to("/dev/null")
    shell(["chroot", tree, "systemctl", "set-default", "multi-user.target"])
    # An ordinary user for rootless containers and user namespaces.
    shell(["chroot", tree, "useradd", "--create-home", "--uid", "1000", "--shell", "/bin/bash", "tester"])
    shell(["chroot", tree, "passwd", "--delete", "root"])

    write_rootfs(tree / "srv/busybox")
    write_archive(tree / "srv/busybox", tree / "srv/busybox.tar")
    # A slip in the agent should not cost a boot to find.
    shell(["chroot", tree, "python3", "-m", "py_compile", "/usr/local/lib/vm-agent.py"])


def _install(target: Path, content: bytes, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.write_bytes(content)
    target.chmod(mode)
