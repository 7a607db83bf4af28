# SPDX-License-Identifier: Apache-2.0
"""Podman's storage, root's and a user's, and whom it is shared with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from enricher.enrich.metadata import Known
from enricher.enrich.metadata.podman import Podman
from tests.unit.sample_state import CACHE, ID, MANAGER, OTHER, USER, Tree, found

PATH = f"/machine.slice/libpod-{ID}.scope"
USERS_PATH = f"{MANAGER}/user.slice/libpod-{ID}.scope"
STORAGE = "var/lib/containers/storage/overlay-containers"
LIST = f"{STORAGE}/containers.json"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.mark.parametrize("listed", ["containers.json", "volatile-containers.json"])
def test_a_container(tree: Tree, listed: str) -> None:
    tree.podman(f"machine.slice:libpod:{ID}", listed=listed)
    podman = Podman(tree.files())
    assert podman.lookup(found(PATH, "podman")) == CACHE
    assert podman.lookup(found(PATH, "podman", "cache")) is None
    assert list(podman.known()) == [Known("podman", ID, PATH, CACHE)]


def test_a_transient_store_has_its_list_in_the_run_root(tree: Tree) -> None:
    tree.podman(f"machine.slice:libpod:{ID}", "run/containers/storage", listed="volatile-containers.json")
    assert Podman(tree.files()).lookup(found(PATH)) == CACHE


def test_a_unit_of_the_operators(tree: Tree) -> None:
    path = f"/system.slice/cache.service/libpod-payload-{ID}"
    tree.podman(path)
    assert Podman(tree.files()).lookup(found(path)) == CACHE
    assert Podman(tree.files()).lookup(found(f"/system.slice/evil.service/libpod-payload-{ID}")) is None


@pytest.mark.parametrize(
    ("storage", "listed"),
    [
        ("home/ann/.local/share/containers/storage", "containers.json"),
        (f"run/user/{USER}/containers", "volatile-containers.json"),
    ],
)
def test_a_users_container(tree: Tree, storage: str, listed: str) -> None:
    tree.podman(f"user.slice:libpod:{ID}", storage, USER, listed)
    assert Podman(tree.files(USER)).lookup(found(USERS_PATH)) == CACHE
    assert Podman(tree.files(USER)).lookup(found(f"{USERS_PATH}/container")) == CACHE
    assert list(Podman(tree.files(USER)).known()) == [Known("podman", ID, USERS_PATH, CACHE)]
    assert Podman(tree.files()).lookup(found(PATH)) is None


def test_without_its_bundle_the_list_is_enough(tree: Tree) -> None:
    tree.podman(f"machine.slice:libpod:{ID}")
    (tree.root / STORAGE / ID / "userdata/config.json").unlink()
    assert Podman(tree.files()).lookup(found(PATH)) == CACHE
    assert list(Podman(tree.files()).known()) == []


def test_crios_containers_are_not_podmans(tree: Tree) -> None:
    tree.podman(f"machine.slice:libpod:{ID}")
    tree.bundle(f"{STORAGE}/{ID}/userdata", f"machine.slice:libpod:{ID}", {"io.container.manager": "cri-o"})
    assert Podman(tree.files()).lookup(found(PATH)) is None
    (tree.root / STORAGE / ID / "userdata/config.json").unlink()
    said = json.dumps({"pod-name": "p", "pod-id": OTHER, "image-name": "x", "name": "k8s_x"})
    tree.json(LIST, [{"id": ID, "metadata": said}])
    assert Podman(tree.files()).lookup(found(PATH)) is None


@pytest.mark.parametrize(
    "value",
    [None, {}, [], "x", [[ID]], [{"id": [ID]}], [{"id": ID[:-1]}], {"id": ID}],
)
def test_a_list_of_something_else(tree: Tree, value: object) -> None:
    tree.json(LIST, value)
    assert Podman(tree.files()).lookup(found(PATH)) is None
    assert list(Podman(tree.files()).known()) == []


@pytest.mark.parametrize(
    "entry", [{}, {"metadata": 5, "names": 5}, {"metadata": "[", "names": [5]}, {"metadata": "[]"}]
)
def test_an_entry_that_says_nothing(tree: Tree, entry: dict[str, object]) -> None:
    tree.json(LIST, [{"id": ID, **entry}])
    assert Podman(tree.files()).lookup(found(PATH)) == ("podman", "", "", (), "", "", "")
