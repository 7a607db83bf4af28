# SPDX-License-Identifier: Apache-2.0
"""Requests and answers, and who may speak of which cgroup."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from enricher.enrich.metadata import Known, Metadata, known_from, metadata_from, worker
from enricher.enrich.metadata.files import Budget, Files
from enricher.enrich.metadata.worker import ANSWER_MAX, answer, request_for
from enricher.enrich.places import Found
from tests.unit.sample_state import BUNDLES, CACHE, ID, MANAGER, OTHER, SHOP, USER, Tree, found

DOCKER = found(f"/system.slice/docker-{ID}.scope", "docker")
PODMAN = found(f"/machine.slice/libpod-{ID}.scope", "podman")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def look_up(tree: Tree, asked: Found) -> Metadata | None:
    said = json.loads(answer(request_for(asked), tree.host))
    assert set(said) == {"metadata"}
    return metadata_from(said["metadata"]) if said["metadata"] else None


def by_cgroup(tree: Tree, path: str) -> Known | None:
    said = json.loads(answer(request_for(path), tree.host))
    assert set(said) == {"known"}
    return known_from(said["known"]) if said["known"] else None


def test_who_knows_it_answers(tree: Tree) -> None:
    tree.docker()
    tree.podman(f"machine.slice:libpod:{ID}")
    assert look_up(tree, DOCKER) == SHOP
    assert look_up(tree, PODMAN) == CACHE
    # With cgroupfs a pod's path does not tell the runtime.
    assert look_up(tree, found(f"/docker/{ID}")) == SHOP


def test_roots_state_is_not_for_a_users_cgroup(tree: Tree) -> None:
    tree.docker()
    tree.podman(f"user.slice:libpod:{ID}")
    tree.runc("batch", f"{MANAGER}/batch")
    for name in (f"docker-{ID}.scope", f"libpod-{ID}.scope"):
        assert look_up(tree, found(f"{MANAGER}/user.slice/{name}", "docker")) is None
    assert by_cgroup(tree, f"{MANAGER}/batch") is None


def test_a_users_state_is_for_his_cgroups_alone(tree: Tree) -> None:
    storage = "home/ann/.local/share/containers/storage"
    tree.podman(f"user.slice:libpod:{ID}", storage, USER)
    mine = f"{MANAGER}/user.slice/libpod-{ID}.scope"
    assert look_up(tree, found(mine, "podman")) == CACHE
    assert look_up(tree, PODMAN) is None
    other = MANAGER.replace(str(USER), str(USER + 1))
    assert look_up(tree, found(f"{other}/user.slice/libpod-{ID}.scope", "podman")) is None
    # He may say of root's cgroups, or of another user's, what he likes.
    tree.crun("mine", "/jobs/roots", base=f"run/user/{USER}/crun", uid=USER)
    assert by_cgroup(tree, "/jobs/roots") is None
    for claimed in ("/", "/user.slice", MANAGER.rpartition("/")[0], MANAGER):
        tree.crun("mine", claimed, base=f"run/user/{USER}/crun", uid=USER)
        assert by_cgroup(tree, f"{MANAGER}/jobs/his") is None
    tree.crun("mine", f"{MANAGER}/jobs/his", base=f"run/user/{USER}/crun", uid=USER)
    assert by_cgroup(tree, f"{MANAGER}/jobs/his") == Known(
        "crun", "mine", f"{MANAGER}/jobs/his", Metadata("crun", "mine")
    )


def test_a_container_in_a_container_is_not_the_hosts(tree: Tree) -> None:
    tree.docker()
    tree.docker(OTHER)
    assert look_up(tree, DOCKER) == SHOP
    inner = found(f"/system.slice/docker-{OTHER}.scope/docker/{ID}", "docker")
    assert look_up(tree, inner) is None


def test_a_cgroup_that_only_state_knows(tree: Tree) -> None:
    tree.runc("batch", "/jobs/batch")
    tree.runc("other", "/jobs/other")
    said = by_cgroup(tree, "/jobs/batch/sub")
    assert said is not None
    assert said[:3] == ("runc", "batch", "/jobs/batch")
    assert by_cgroup(tree, "/jobs/batch2") is None
    assert by_cgroup(tree, "/jobs") is None
    assert by_cgroup(tree, "/") is None


def test_who_made_it_says_more(tree: Tree) -> None:
    cgroup = f"/racks/{ID}"
    tree.docker()
    tree.bundle(f"{BUNDLES}/moby/{ID}", cgroup)
    tree.runc(ID, cgroup, "run/docker/runtime-runc/moby")
    assert by_cgroup(tree, cgroup) == Known("docker", ID, cgroup, SHOP)
    (tree.root / f"var/lib/docker/containers/{ID}/config.v2.json").unlink()
    assert by_cgroup(tree, cgroup) == Known("docker", ID, cgroup, Metadata("docker"))


def test_crun_is_told_by_podman(tree: Tree) -> None:
    cgroup = f"/racks/libpod-{ID}"
    tree.podman(cgroup)
    tree.crun(ID, cgroup)
    assert by_cgroup(tree, f"{cgroup}/x") == Known("podman", ID, cgroup, CACHE)


def test_two_that_claim_one_cgroup(tree: Tree) -> None:
    tree.runc("one", "/jobs/x")
    tree.crun("two", "/jobs/x")
    assert by_cgroup(tree, "/jobs/x") is None


def test_the_innermost_counts(tree: Tree) -> None:
    tree.runc("outer", "/jobs/x")
    tree.runc("inner", "/jobs/x/y")
    said = by_cgroup(tree, "/jobs/x/y/z")
    assert said is not None
    assert said.id == "inner"


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b"null", b'{"op":1}', b'{"op":"lookup"}', b'{"op":"lookup","found":[1,2,3,4,5]}',
     b'{"op":"lookup","found":["a"]}', b'{"op":"by_cgroup"}', b'{"op":"by_cgroup","path":"x"}', b"\xff"],
)  # fmt: skip
def test_a_request_that_is_none(tree: Tree, line: bytes) -> None:
    assert json.loads(answer(line, tree.host)) == {"failed": "request"}


@pytest.mark.parametrize("text", ["..", "\udcff", "a\0b", "x" * 5000, "/"])
def test_odd_requests(tree: Tree, text: str) -> None:
    assert look_up(tree, found(f"/lxc.payload.{text}", "lxc", text)) is None
    assert look_up(tree, Found(text, text, text, text, text)) is None
    assert by_cgroup(tree, f"/{text}") is None


def test_what_is_said_of_every_request_is_one_line(tree: Tree) -> None:
    labels = {f"k{number}": "\x00" * 1024 for number in range(64)}
    tree.docker(Config={"Image": "x", "Labels": labels})
    line = answer(request_for(DOCKER), tree.host)
    assert len(line) <= ANSWER_MAX
    assert line.count(b"\n") == 1
    assert look_up(tree, DOCKER) == SHOP._replace(image="x", labels=())


def test_a_budget_for_each_request(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.docker()
    monkeypatch.setattr(worker, "Budget", lambda: Budget(files=1))
    assert json.loads(answer(request_for(PODMAN), tree.host)) == {"failed": "budget"}


def test_no_exception_gets_out(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Files, "read", broken)
    tree.docker()
    assert json.loads(answer(request_for(DOCKER), tree.host)) == {"failed": "error"}
