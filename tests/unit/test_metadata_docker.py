# SPDX-License-Identifier: Apache-2.0
"""Docker's state, root's and a user's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from enricher.enrich.metadata.docker import Docker
from tests.unit.sample_state import BUNDLES, ID, MANAGER, OTHER, POD, POD_, SHOP, USER, Tree, found

PATH = f"/system.slice/docker-{ID}.scope"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_container(tree: Tree) -> None:
    tree.docker()
    assert Docker(tree.files()).lookup(found(PATH, "docker")) == SHOP
    assert Docker(tree.files()).lookup(found(PATH, "docker", OTHER)) is None
    assert list(Docker(tree.files()).known()) == []


@pytest.mark.parametrize(
    ("path", "asked"), [(PATH, f"system.slice:docker:{ID}"), (f"/docker/{ID}", f"/docker/{ID}")]
)
def test_the_cgroup_must_be_the_bundles(tree: Tree, path: str, asked: str) -> None:
    tree.docker()
    tree.bundle(f"{BUNDLES}/moby/{ID}", asked)
    assert Docker(tree.files()).lookup(found(path, "docker")) == SHOP
    assert Docker(tree.files()).lookup(found(f"/elsewhere/{ID}", "docker")) is None


def test_a_file_must_be_of_this_container(tree: Tree) -> None:
    tree.docker(ID=OTHER)
    assert Docker(tree.files()).lookup(found(PATH)) is None


@pytest.mark.parametrize(
    "more",
    [
        {"Name": 5, "Config": None},
        {"Name": ["x"], "Config": {"Image": 1, "Labels": "x"}},
        {"Name": "\n", "Config": []},
    ],
)
def test_what_is_of_the_wrong_type_is_not_there(tree: Tree, more: dict[str, Any]) -> None:
    tree.docker(**more)
    assert Docker(tree.files()).lookup(found(PATH)) == ("docker", "", "", (), "", "", "")


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '"x"', "[" * 5000])
def test_a_file_that_says_nothing(tree: Tree, text: str) -> None:
    tree.docker().write_text(text)
    assert Docker(tree.files()).lookup(found(PATH)) is None


@pytest.mark.parametrize("ident", ["..", "../x", "", "5e" * 31, "5E" * 32, "5e" * 32 + "\n"])
def test_an_id_is_64_digits(tree: Tree, ident: str) -> None:
    tree.docker()
    assert Docker(tree.files()).lookup(found(PATH, ident=ident)) is None


def test_where_the_operator_moved_it(tree: Tree) -> None:
    tree.docker(base="srv/docker")
    tree.json("etc/docker/daemon.json", {"data-root": "/srv/docker"})
    assert Docker(tree.files()).lookup(found(PATH)) == SHOP
    tree.json("etc/docker/daemon.json", {"data-root": ["/srv/docker"]})
    assert Docker(tree.files()).lookup(found(PATH)) is None


def test_remapped_users(tree: Tree) -> None:
    tree.docker(base="var/lib/docker/165536.165536")
    assert Docker(tree.files()).lookup(found(PATH)) == SHOP


def test_a_users_own_daemon(tree: Tree) -> None:
    tree.docker(base="home/ann/.local/share/docker", uid=USER)
    path = f"{MANAGER}/user.slice/docker-{ID}.scope"
    assert Docker(tree.files(USER)).lookup(found(path)) == SHOP
    assert Docker(tree.files()).lookup(found(PATH)) is None


def test_a_pods_labels_count_in_a_pods_cgroup_alone(tree: Tree) -> None:
    labels = {
        "io.kubernetes.pod.uid": POD,
        "io.kubernetes.pod.name": "shop-0",
        "io.kubernetes.pod.namespace": "prod",
    }
    tree.docker(Config={"Image": "x", "Labels": labels})
    path = f"/kubepods.slice/kubepods-pod{POD_}.slice/docker-{ID}.scope"
    said = Docker(tree.files()).lookup(found(path, pod=POD))
    assert said is not None
    assert said[4:] == (POD, "shop-0", "prod")
    said = Docker(tree.files()).lookup(found(PATH))
    assert said is not None
    assert said[4:] == ("", "", "")
    assert Docker(tree.files()).lookup(found(path, pod=POD.replace("0", "9"))) is None
