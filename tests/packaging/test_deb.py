# SPDX-License-Identifier: Apache-2.0
"""The packages as files: the same bytes from every build, nothing lintian minds, and what is in them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from enricher import __version__
from tests.lint.tree import ROOT
from tests.packaging.built import PREVIOUS, Debs, build
from tests.vm.plain import FETCHED, FETCHED_BCC

pytestmark = pytest.mark.timeout(300)  # on a machine that is busy with other things

PRIVATE = "/usr/lib/audit-enricher"
OBJECTS = "enricher/sources/bpf/objects"
EXTENSION = ".cpython-311-x86_64-linux-gnu.so"


def field(deb: Path, name: str) -> str:
    return subprocess.check_output(["dpkg-deb", "--field", str(deb), name], text=True).strip()


def content(deb: Path) -> dict[str, str]:
    """Return what is in a package: each name from the root on, with its mode and owner."""
    listed = subprocess.check_output(["dpkg-deb", "--contents", str(deb)], text=True)
    rows = (line.split(None, 5) for line in listed.splitlines())
    return {row[5].removeprefix(".").rstrip("/"): f"{row[0]} {row[1]}" for row in rows}


def test_two_builds_are_the_same_bytes(debs: Debs, tmp_path: Path) -> None:
    """In another directory, under another umask, time zone, language and user's settings."""
    elsewhere = tmp_path / "a-directory-with-another-name"
    elsewhere.mkdir()
    environment = {
        **os.environ,
        "TMPDIR": str(elsewhere),
        "TZ": "Asia/Kathmandu",
        "LC_ALL": "C",
        "DEB_BUILD_OPTIONS": "noddebs parallel=7",
        "CFLAGS": "-O0",
    }
    second = build(tmp_path / "second", cwd=str(elsewhere), env=environment, umask=0o077)
    for first, again in zip(debs, second, strict=True):
        assert first.name == again.name
        assert first.read_bytes() == again.read_bytes(), f"see diffoscope {first} {again}"


@pytest.mark.full  # clang takes a minute for all of them where a machine is slow
def test_two_compilations_are_the_same_bytes(tmp_path: Path) -> None:
    """The BPF objects, from a checkout of another name."""
    checkout = tmp_path / "checkout-elsewhere"
    for name in ("bpf", "packaging/build-packages.txt", "tests/vm/packages.txt", "Makefile"):
        source, target = ROOT / name, checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    # What the compilation needs is installed, or this checkout would have no objects.
    stamp = checkout / ".cache/stamps/host-packages"
    stamp.parent.mkdir(parents=True)
    stamp.touch()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    subprocess.run(
        ["make", "--silent", "bpf"], cwd=checkout, env=environment, check=True, capture_output=True
    )
    made = sorted((checkout / OBJECTS).iterdir())
    assert {path.name for path in made} >= {"x86_64.bpf.o", "aarch64.bpf.o"}
    assert [
        path.name for path in made if path.read_bytes() != (ROOT / OBJECTS / path.name).read_bytes()
    ] == []


def test_two_compilations_of_a_module_are_the_same_bytes(tmp_path: Path) -> None:
    """From a checkout of another name."""
    checkout = tmp_path / "checkout-elsewhere"
    for name in (
        "tools/compile.py",
        "enricher/__init__.py",
        "enricher/enrich/__init__.py",
        "enricher/enrich/keys.py",
    ):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, checkout / name)
    code = "import runpy; runpy.run_path('tools/compile.py')['make']('enrich/keys')"
    subprocess.run([sys.executable, "-c", code], cwd=checkout, check=True)
    made = f"enricher/enrich/keys{EXTENSION}"
    assert (checkout / made).read_bytes() == (ROOT / made).read_bytes()


def test_lintian_finds_nothing(debs: Debs) -> None:
    command = [
        "lintian",
        "--fail-on",
        "error,warning,pedantic",
        "--pedantic",
        "--allow-root",
        *map(str, debs),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_every_override_gives_a_reason_and_is_used(debs: Debs) -> None:
    """An override for a tag that is not found any more is one (lintian's own tag, of a level not shown above)."""
    command = ["lintian", "--info", "--show-overrides", "--display-level", "+info", *map(str, debs)]
    said = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    assert "unused-override" not in said
    assert "O: audit-enricher: binary-from-other-architecture" in said


def test_versions(debs: Debs, previous: Debs) -> None:
    now, before = (field(deb, "Version") for deb in (debs.main, previous.main))
    assert now.startswith(f"{__version__}-")
    assert before == now + PREVIOUS
    subprocess.run(["dpkg", "--compare-versions", before, "lt", now], check=True)
    assert {field(deb, "Version") for deb in debs} == {now}


def test_it_depends_on_nothing_but_debian(debs: Debs) -> None:
    """What it names is what the guest's "Debian" is made for; libc is there always."""
    assert depended_on(debs.main) == {*FETCHED, "libc6"}
    assert depended_on(debs.bcc) == {*FETCHED_BCC, "audit-enricher"}


def depended_on(deb: Path) -> set[str]:
    """The names in Depends, of alternatives the first."""
    clauses = field(deb, "Depends").split(",")
    return {re.split(r"[ :]", clause.split("|")[0].strip())[0] for clause in clauses}


def test_what_is_where(debs: Debs) -> None:
    main, bcc = content(debs.main), content(debs.bcc)
    program, text = "-rwxr-xr-x root/root", "-rw-r--r-- root/root"
    expected = {
        "/usr/bin/audit-enricher": program,
        f"{PRIVATE}/enricher/cli/main.py": text,
        f"{PRIVATE}/enricher/enrich/memo.py": text,
        f"{PRIVATE}/enricher/enrich/memo{EXTENSION}": text,
        f"{PRIVATE}/enricher/schemas/audit-enricher-1.schema.json": text,
        f"{PRIVATE}/enricher/schemas/audit-enricher-namespaces-1.schema.json": text,
        f"{PRIVATE}/enricher/sources/bpf/objects/x86_64.bpf.o": text,
        "/lib/systemd/system/audit-enricher.service": text,
        "/usr/lib/sysusers.d/audit-enricher.conf": text,
        "/etc/audit-enricher/audit-enricher.toml": text,
        "/etc/apparmor.d/audit-enricher": text,
        "/etc/audit-enricher/config.d": "drwxr-xr-x root/root",
        "/usr/share/bash-completion/completions/audit-enricher": text,
        "/usr/share/zsh/vendor-completions/_audit-enricher": text,
        "/usr/share/doc/audit-enricher/README.md": text,
        "/usr/share/doc/audit-enricher/sbom.cdx.json": text,
        "/usr/share/doc/audit-enricher/docs/operations.md": text,
        "/usr/share/doc/audit-enricher/examples/audit-enricher-sample.rules": text,
        "/usr/share/doc/audit-enricher/examples/audit-enricher.rules.yml": text,
        **{
            f"/usr/share/doc/audit-enricher/examples/{name}": text
            for name in "audit-enricher-collect.service kafka-server.properties nats-server.conf stream.json".split()
        },
        "/usr/share/doc/audit-enricher/examples/contid.conf": text,
        "/usr/share/doc/audit-enricher/examples/contid-shop.service": text,
        "/usr/libexec/audit-enricher/contid-hook": program,
        "/usr/libexec/audit-enricher/contid-runc": program,
        "/usr/share/audit-enricher/oci/audit-enricher-contid.json": text,
    }
    assert {name: main.get(name) for name in expected} == expected
    pages = {path.name for path in (ROOT / "packaging/man").iterdir()}
    assert {path.suffix for path in (ROOT / "packaging/man").iterdir()} == {".1", ".5", ".7", ".8"}
    assert pages == {Path(name).stem for name in main if re.fullmatch(r"/usr/share/man/man\d/.*\.gz", name)}
    assert f"{PRIVATE}/enricher/sources/bpf/source/bcc/audit.c" in bcc
    assert set(bcc) & {name for name, mode in main.items() if mode.startswith("-")} == set()
    # Programs of other machines, caches, what only tests need; anything that audit or another package would read.
    unwanted = re.compile(r"aarch64|\.pyc$|__pycache__|/tests?/|^/etc/audit/|^/usr/lib/python3|\.egg-info")
    assert [name for name in (*main, *bcc) if unwanted.search(name)] == []
    assert [name for name, mode in main.items() if not mode.endswith(" root/root")] == []


def test_the_configuration_is_the_operators(debs: Debs) -> None:
    listed = subprocess.check_output(["dpkg-deb", "--info", str(debs.main), "conffiles"], text=True)
    assert listed.split() == ["/etc/apparmor.d/audit-enricher", "/etc/audit-enricher/audit-enricher.toml"]
