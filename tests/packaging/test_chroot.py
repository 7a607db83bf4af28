# SPDX-License-Identifier: Apache-2.0
"""Installing and purging on a plain Debian 12, as far as that goes without booting it: in a directory.

Needs root, as making the system does. No service runs here; that is test_package.py's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.packaging.traces import left_behind, owned_by
from tests.vm.cache import scratch
from tests.vm.plain import ensure_plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.packaging.built import Debs

# The guests' suites have the package installed; here is what becomes of a system that had nothing of it.
pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]  # the first run of a checkout makes the system

ENCODER = """
command = open("/usr/bin/audit-enricher").read().replace("sys.exit(main())", "")
exec(command)
import enricher.codec
enricher.codec.dumps({})
print(enricher.codec._encode.__module__)
"""
"""All that the command does before it runs, and then which encoder it would use."""


class Tree(NamedTuple):
    """A system in a directory."""

    path: Path

    def run(self, *argv: str, cwd: str = "/", check: bool = True, **environment: str) -> str:
        """Run a command inside; with /proc, without a network or anything of the host's systemd."""
        inside = [
            "unshare",
            "--net",
            "--mount-proc",
            "--pid",
            "--fork",
            "--root",
            str(self.path),
            "--wd",
            cwd,
            *argv,
        ]
        done = subprocess.run(
            inside,
            check=False,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", **environment},
        )
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def names(self) -> set[str]:
        """Every name below, from the root on."""
        found = set()
        for base, directories, names in os.walk(self.path):
            inside = base.removeprefix(str(self.path))
            found |= {f"{inside}/{name}" for name in (*directories, *names)}
        return found

    def owned(self) -> set[str]:
        """What installed packages have."""
        lists = (self.path / "var/lib/dpkg/info").glob("*.list")
        return owned_by("".join(path.read_text() for path in lists))


@pytest.fixture(scope="module")
def plain() -> Iterator[Tree]:
    made = ensure_plain()
    with scratch("chroot") as work:
        tree = work / "tree"
        tree.mkdir()
        subprocess.run(["tar", "-C", str(tree), "-xpf", str(made.tar)], check=True)
        shutil.copytree(made.debian, tree / "opt/share" / made.debian.name)
        yield Tree(tree)


@pytest.fixture(scope="module")
def before(plain: Tree) -> set[str]:
    return plain.names()


@pytest.fixture(scope="module")
def installed(plain: Tree, before: set[str], debs: Debs) -> Tree:
    assert before
    shutil.copyfile(debs.main, plain.path / "opt/share" / debs.main.name)
    plain.run("apt-get", "update")
    plain.run("apt-get", "install", "--yes", f"/opt/share/{debs.main.name}")
    return plain


def test_the_command_is_there(installed: Tree) -> None:
    from enricher import __version__

    assert installed.run("audit-enricher", "--version") == f"audit-enricher {__version__} (compiled)\n"
    assert installed.run("audit-enricher", "schema").startswith("{")


def test_nothing_is_imported_from_where_one_stands(installed: Tree) -> None:
    trap = installed.path / "srv/trap"
    for name in ("enricher", "orjson", "argparse"):
        (trap / name).mkdir(parents=True)
        (trap / name / "__init__.py").write_text("raise SystemExit('imported from outside')\n")
    said = installed.run(
        "audit-enricher", "--version", cwd="/srv/trap", PYTHONPATH="/srv/trap", HOME="/srv/trap"
    )
    shutil.rmtree(trap)
    assert said.startswith("audit-enricher ")


def test_the_bundled_encoder_is_used(installed: Tree) -> None:
    assert installed.run("/usr/bin/python3", "-I", "-c", ENCODER) == "orjson\n"


def test_modules_are_compiled(installed: Tree) -> None:
    private = installed.path / "usr/lib/audit-enricher"
    modules = list(private.rglob("*.py"))
    compiled = [path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc" for path in modules]
    assert modules
    assert [path for path in compiled if not path.exists()] == []


def test_the_user_is_nobody_who_logs_in(installed: Tree) -> None:
    user = installed.run("getent", "passwd", "audit-enricher").strip().split(":")
    assert user[5:] == ["/var/lib/audit-enricher", "/usr/sbin/nologin"]
    assert installed.run("id", "--groups", "--name", "audit-enricher").split() == ["audit-enricher"]


def test_the_service_is_enabled_and_its_unit_valid(installed: Tree) -> None:
    assert installed.run("systemctl", "is-enabled", "audit-enricher").strip() == "enabled"
    # It exits with 0 for a line that it does not know.
    said = installed.run("sh", "-c", "systemd-analyze verify --man=no audit-enricher.service 2>&1")
    assert [line for line in said.splitlines() if "audit-enricher" in line] == []


def test_the_pages_that_the_unit_names_are_there(installed: Tree) -> None:
    unit = (installed.path / "lib/systemd/system/audit-enricher.service").read_text()
    pages = re.findall(r"man:(\S+)\((\d)\)", unit)
    assert pages
    manual = installed.path / "usr/share/man"
    assert [page for page, part in pages if not (manual / f"man{part}/{page}.{part}.gz").exists()] == []


def test_remove_and_purge_leave_nothing(installed: Tree, before: set[str]) -> None:
    accounts = {
        name: (installed.path / "etc" / name).read_text() for name in ("passwd", "group", "shadow", "gshadow")
    }
    assert all("audit-enricher" in text for text in accounts.values())
    for directory in ("var/log/audit-enricher", "var/lib/audit-enricher"):
        (installed.path / directory).mkdir()
        (installed.path / directory / "events.json").touch()
    installed.run("apt-get", "remove", "--yes", "audit-enricher")
    kept = left_behind(before, installed.names(), installed.owned())
    assert all(name.startswith(("/etc/", "/var/log/audit-enricher", "/var/lib/")) for name in kept), kept
    assert "/etc/audit-enricher/audit-enricher.toml" in installed.names()
    # An operator who reads events: the group has a member.
    installed.run("usermod", "--append", "--groups", "audit-enricher", "games")
    installed.run("apt-get", "purge", "--yes", "audit-enricher")
    assert left_behind(before, installed.names(), installed.owned()) == []
    for name in accounts:
        assert "audit-enricher" not in (installed.path / "etc" / name).read_text()
