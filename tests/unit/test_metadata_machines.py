# SPDX-License-Identifier: Apache-2.0
"""LXC, Incus and nspawn: containers that have names and no ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from enricher.enrich.metadata import Metadata
from enricher.enrich.metadata.lxc import Lxc
from enricher.enrich.metadata.nspawn import Nspawn
from tests.unit.sample_state import MANAGER, USER, Tree, found

CONFIG = "# made by hand\nlxc.uts.name = web\nlxc.rootfs.path = dir:/var/lib/lxc/web/rootfs\n"
MACHINE = """# This is private data. Do not parse.
NAME=web-1
SCOPE=machine-web\\\\x2d1.scope
SERVICE=systemd-nspawn
ROOT=/var/lib/machines/web-1
LEADER=4711
CLASS=container
"""
MACHINE_PATH = r"/machine.slice/machine-web\x2d1.scope/payload"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_lxc(tree: Tree) -> None:
    tree.text("var/lib/lxc/web/config", CONFIG)
    lxc = Lxc(tree.files())
    assert lxc.lookup(found("/lxc.payload.web", "lxc", "web")) == Metadata("lxc", "web")
    assert lxc.lookup(found("/lxc.payload.db", "lxc", "db")) is None
    assert lxc.lookup(found("/x", "nspawn", "web")) is None
    assert lxc.lookup(found("/lxc.payload...", "lxc", "..")) is None
    assert list(lxc.known()) == []


def test_a_users_lxc(tree: Tree) -> None:
    tree.text("home/ann/.local/share/lxc/web/config", CONFIG, USER)
    path = f"{MANAGER}/app.slice/lxc.payload.web"
    assert Lxc(tree.files(USER)).lookup(found(path, "lxc", "web")) == Metadata("lxc", "web")
    assert Lxc(tree.files()).lookup(found("/lxc.payload.web", "lxc", "web")) is None


def test_incus(tree: Tree) -> None:
    tree.text("run/incus/web/lxc.conf", CONFIG)
    tree.text("run/incus/stage_db/lxc.conf", CONFIG)
    lxc = Lxc(tree.files())
    assert lxc.lookup(found("/lxc.payload.web", "lxc", "web")) == Metadata("incus", "web")
    assert lxc.lookup(found("/lxc.payload.stage_db", "lxc", "stage_db")) == Metadata("incus", "db")


def test_one_name_of_two(tree: Tree) -> None:
    tree.text("run/incus/web/lxc.conf", CONFIG)
    tree.text("var/lib/lxc/web/config", CONFIG)
    assert Lxc(tree.files()).lookup(found("/lxc.payload.web", "lxc", "web")) is None


def test_a_number_that_lxc_may_have_added(tree: Tree) -> None:
    tree.text("var/lib/lxc/web-1/config", CONFIG)
    path = "/lxc.payload.web-1"
    assert Lxc(tree.files()).lookup(found(path, "lxc", "web-1")) == Metadata("lxc", "web-1")
    tree.text("var/lib/lxc/web/config", CONFIG)
    assert Lxc(tree.files()).lookup(found(path, "lxc", "web-1")) is None


def test_nspawn(tree: Tree) -> None:
    tree.text("run/systemd/machines/web-1", MACHINE)
    nspawn = Nspawn(tree.files())
    assert nspawn.lookup(found(MACHINE_PATH, "nspawn", "web-1")) == Metadata("nspawn", "web-1")
    assert nspawn.lookup(found(MACHINE_PATH, "lxc", "web-1")) is None
    assert nspawn.lookup(found("/machine.slice/machine-web.scope/payload", "nspawn", "web-1")) is None
    assert nspawn.lookup(found(MACHINE_PATH, "nspawn", "web-2")) is None
    assert list(nspawn.known()) == []
    assert Nspawn(tree.files(USER)).lookup(found(MACHINE_PATH, "nspawn", "web-1")) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("NAME=web-1", "NAME=web-2"),
        ("=systemd-nspawn", "=libvirt-lxc"),
        ("=container", "=vm"),
        ("SCOPE=", "UNIT="),
        ("NAME=", "NAME"),
    ],
)
def test_a_machine_that_is_another(tree: Tree, old: str, new: str) -> None:
    tree.text("run/systemd/machines/web-1", MACHINE.replace(old, new, 1))
    assert Nspawn(tree.files()).lookup(found(MACHINE_PATH, "nspawn", "web-1")) is None


def test_a_machine_in_no_encoding(tree: Tree) -> None:
    (tree.text("run/systemd/machines/web-1", MACHINE)).write_bytes(MACHINE.encode() + b"\xff")
    assert Nspawn(tree.files()).lookup(found(MACHINE_PATH, "nspawn", "web-1")) is None
