# SPDX-License-Identifier: Apache-2.0
"""Kernel slots: which Debian suite serves each, and the built kernel with its initramfs and module disk.

Owns the cache's kernels directory. Never decides anything by comparing versions: a slot is served by whatever
its first reachable suite carries, and the version is only printed.
"""

from __future__ import annotations

import json
import lzma
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.vm import initramfs
from tests.vm.aptroot import AptRoot
from tests.vm.cache import PACKAGE, build_lock, cache_dir, digest_files, scratch, shell, tell
from tests.vm.disk import make_disk
from tests.vm.errors import BuildError

__all__ = ["SLOTS", "Kernel", "ensure_kernel"]

_META = "linux-image-cloud-amd64"


@dataclass(frozen=True)
class Suite:
    """A suite that may serve a slot; unsigned says whether a missing key may be overlooked."""

    name: str
    unsigned: bool = False


SLOTS: dict[str, tuple[Suite, ...]] = {
    "5.10": (Suite("bullseye-security"), Suite("bullseye-updates"), Suite("bullseye")),
    "6.1": (Suite("bookworm-security"), Suite("bookworm")),
    "6.12": (
        Suite("trixie-security", unsigned=True),
        Suite("trixie", unsigned=True),
        Suite("bookworm-backports"),
    ),
    "newest": (Suite("sid", unsigned=True), Suite("experimental", unsigned=True)),
}


@dataclass(frozen=True)
class Kernel:
    """A kernel ready to boot. Files live in `directory`."""

    slot: str
    version: str
    package_version: str
    suite: str
    verified: bool
    directory: str

    @property
    def vmlinuz(self) -> Path:
        """The compressed kernel."""
        return Path(self.directory) / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The initramfs."""
        return Path(self.directory) / "initramfs.cpio"

    @property
    def modules(self) -> Path:
        """The read-only disk with the content of /lib/modules."""
        return Path(self.directory) / "modules.ext4"


def ensure_kernel(slot: str, *, refresh: bool = False) -> Kernel:
    """Return the slot's kernel, building it when it is missing; refresh asks the mirror for a newer one."""
    if slot not in SLOTS:
        message = f"unknown kernel slot {slot!r}; there are {', '.join(SLOTS)}"
        raise BuildError(message)
    with build_lock(f"kernel {slot}"):
        known = None if refresh else _read_pointer(slot)
        return known or _build(slot)


def _recipe() -> str:
    sources = [PACKAGE / name for name in ("kernels.py", "initramfs.py", "disk.py")]
    return digest_files(sources)[:8]


def _pointer(slot: str) -> Path:
    return cache_dir() / "kernels" / f"{slot}.json"


def _read_pointer(slot: str) -> Kernel | None:
    try:
        fields = json.loads(_pointer(slot).read_text())
    except (OSError, ValueError):
        return None
    recipe = fields.pop("recipe", "")
    # The directory is stored by name only, so that a cache can be moved.
    fields["directory"] = str(cache_dir() / "kernels" / fields["directory"])
    kernel = Kernel(**fields)
    return kernel if recipe == _recipe() and kernel.modules.exists() else None


def _write_pointer(kernel: Kernel) -> None:
    fields = asdict(kernel) | {"directory": Path(kernel.directory).name, "recipe": _recipe()}
    fresh = _pointer(kernel.slot).with_suffix(".new")
    fresh.write_text(json.dumps(fields, indent=2) + "\n")
    fresh.replace(_pointer(kernel.slot))


def _build(slot: str) -> Kernel:
    apt, packages = _resolve(slot)
    checksum = digest_files([], *sorted(fields["SHA256"] for fields in packages))
    image = packages[0]
    version = re.sub(r"^linux-(image|binary)-", "", image["Package"]).removesuffix("-unsigned")
    final = cache_dir() / "kernels" / f"{version}_{checksum}_{_recipe()}"
    kernel = Kernel(slot, version, image["Version"], apt.suite, apt.verified, str(final))
    if not final.exists():
        tell(f"kernel {slot}: building {version} from {apt.suite}")
        final.parent.mkdir(exist_ok=True)
        with scratch(f"kernel-{slot}") as work:
            names = [f"{fields['Package']}={fields['Version']}" for fields in packages]
            root = work / "root"
            for deb in apt.download(names, work / "debs"):
                shell(["dpkg", "-x", deb, root])
            _assemble(root, version, work / "out")
            (work / "out").rename(final)
    _write_pointer(kernel)
    return kernel


def _resolve(slot: str) -> tuple[AptRoot, list[dict[str, str]]]:
    """Find the first suite that serves the slot; return it with its packages' fields, the image's first."""
    problems = []
    for suite in SLOTS[slot]:
        apt = AptRoot(suite.name, may_be_unsigned=suite.unsigned)
        try:
            apt.update()
        except BuildError as error:
            problems.append(f"{suite.name}: {str(error).strip().splitlines()[-1]}")
            continue
        packages = _closure(apt)
        if packages:
            return apt, packages
        problems.append(f"{suite.name}: no {_META}")
    message = f"no suite serves kernel {slot}: " + "; ".join(problems)
    raise BuildError(message)


def _closure(apt: AptRoot) -> list[dict[str, str]]:
    """Follow the meta package's Depends through everything that belongs to the kernel itself."""
    todo, found = [_META], dict[str, dict[str, str]]()
    while todo:
        name = todo.pop(0)
        if name in found:
            continue
        found[name] = fields = apt.show(name)
        for clause in fields.get("Depends", "").split(","):
            first = clause.split("|")[0].split("(")[0].strip()
            # linux-base alone is the boot-loader glue; linux-base-<version> carries the configuration.
            if re.match(r"linux-(image|binary|modules|base)-", first):
                todo.append(first)
    real = [fields for name, fields in found.items() if fields and re.search(r"\d+\.\d+\.\d+", name)]
    return sorted(real, key=lambda fields: not fields["Package"].startswith("linux-image-"))


def _assemble(root: Path, version: str, out: Path) -> None:
    out.mkdir()
    # Kernels from 6.13 on install straight into /usr/lib.
    homes = [
        path for path in (root / "lib/modules" / version, root / "usr/lib/modules" / version) if path.exists()
    ]
    images = [*root.glob(f"boot/vmlinuz-{version}"), *(home / "vmlinuz" for home in homes)]
    image = next((path for path in images if path.exists()), None)
    if not homes or image is None:
        message = f"{version}: the packages carry no vmlinuz or no modules"
        raise BuildError(message)
    shutil.copyfile(image, out / "vmlinuz")
    home = root / "merged" / "lib" / "modules" / version
    for part in homes:
        shutil.copytree(part, home, dirs_exist_ok=True, symlinks=True)
    (home / "vmlinuz").unlink(missing_ok=True)
    for config in [*root.glob(f"boot/config-{version}"), home / "config"]:
        if config.exists():
            shutil.copyfile(config, out / "config")
            if config != home / "config":
                shutil.copyfile(config, home / "config")
            break
    _decompress(home)
    shell(["depmod", "-b", root / "merged", version])
    initramfs.write(home, out / "initramfs.cpio")
    make_disk(home.parent, out / "modules.ext4", label="modules")


def _decompress(home: Path) -> None:
    """Unpack compressed modules once here: in an emulated guest every load would pay for it."""
    for packed in home.rglob("*.ko.xz"):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()
    for packed in home.rglob("*.ko.zst"):
        shell(["zstd", "-q", "-d", "--rm", packed])
