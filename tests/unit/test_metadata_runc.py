# SPDX-License-Identifier: Apache-2.0
"""The state of runc and crun: cgroups whose path says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from enricher.enrich.metadata import Known, Metadata
from enricher.enrich.metadata.runc import Crun, Runc
from tests.unit.sample_state import ID, MANAGER, USER, Tree, found

BATCH = Metadata("runc", "batch", "", (("empty", ""), ("org.example.owner", "ops")))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_container_of_runc(tree: Tree) -> None:
    tree.runc("batch", "/jobs/batch", config={"labels": ["bundle=/srv/b", "org.example.owner=ops", "empty="]})
    assert list(Runc(tree.files()).known()) == [Known("runc", "batch", "/jobs/batch", BATCH)]
    assert Runc(tree.files()).lookup(found("/jobs/batch", "", "batch")) == BATCH
    assert Runc(tree.files()).lookup(found("/jobs/batch/sub", "", "batch")) == BATCH
    assert Runc(tree.files()).lookup(found("/jobs/batch2", "", "batch")) is None
    assert Runc(tree.files()).lookup(found("/jobs/batch", "", "other")) is None


def test_every_hierarchy_of_v1(tree: Tree) -> None:
    paths = {
        "memory": "/sys/fs/cgroup/memory/jobs/batch",
        "pids": "/sys/fs/cgroup/pids/jobs/batch",
        "name=systemd": "/sys/fs/cgroup/systemd/system.slice/batch.scope",
        "freezer": "/sys/fs/cgroup/freezer",
        "cpu": "/elsewhere/cpu/jobs/x",
        "rdma": 5,
    }
    tree.runc("batch", "", cgroup_paths=paths)
    assert [known.cgroup for known in Runc(tree.files()).known()] == [
        "/jobs/batch",
        "/system.slice/batch.scope",
    ]


@pytest.mark.parametrize("cgroup", ["", "/", "/system.slice", "/system.slice/x.service", "/a/../b", "/a//b"])
def test_a_cgroup_that_is_not_the_containers_own(tree: Tree, cgroup: str) -> None:
    tree.runc("batch", cgroup)
    tree.crun("batch", cgroup)
    assert [*Runc(tree.files()).known(), *Crun(tree.files()).known()] == []


@pytest.mark.parametrize(
    "more",
    [
        {"id": "other"},
        {"id": 5},
        {"cgroup_paths": []},
        {"cgroup_paths": {"": ["/x"]}},
        {"cgroup_paths": None},
    ],
)
def test_a_state_that_does_not_fit(tree: Tree, more: dict[str, Any]) -> None:
    tree.runc("batch", "/jobs/batch", **more)
    assert list(Runc(tree.files()).known()) == []


@pytest.mark.parametrize("config", [None, {}, {"labels": 5}, {"labels": [5, None]}])
def test_labels_that_are_none(tree: Tree, config: object) -> None:
    tree.runc("batch", "/jobs/batch", config=config)
    assert Runc(tree.files()).lookup(found("/jobs/batch", "", "batch")) == Metadata("runc", "batch")


@pytest.mark.parametrize(
    ("base", "runtime"),
    [
        ("run/docker/runtime-runc/moby", "docker"),
        ("run/containerd/runc/k8s.io", "containerd"),
        ("run/runc", "runc"),
    ],
)
def test_the_directory_tells_whose_it_is(tree: Tree, base: str, runtime: str) -> None:
    tree.runc(ID, f"/mine/{ID}", base)
    assert list(Runc(tree.files()).known()) == [Known(runtime, ID, f"/mine/{ID}", Metadata(runtime))]
    assert Runc(tree.files()).lookup(found(f"/mine/{ID}")) is None, "an engine's files say more"


def test_containerd_with_crun(tree: Tree) -> None:
    tree.crun("batch", "/default/batch", base="run/containerd/runc/default")
    assert [known[:3] for known in Runc(tree.files()).known()] == [("containerd", "batch", "/default/batch")]


@pytest.mark.parametrize(
    ("path", "scope", "cgroup"),
    [
        ("/jobs/batch", "", "/jobs/batch"),
        ("jobs/batch", "", "/jobs/batch"),
        ("/system.slice/crun-batch.scope", "crun-batch.scope", "/system.slice/crun-batch.scope"),
        ("/system.slice/crun-batch.scope/container", "crun-batch.scope", "/system.slice/crun-batch.scope"),
    ],
)
@pytest.mark.parametrize("base", ["run/crun", "run/user/0/crun"])
def test_a_container_of_crun(tree: Tree, path: str, scope: str, cgroup: str, base: str) -> None:
    tree.crun("batch", path, scope, base)
    metadata = Metadata("crun", "batch")
    assert list(Crun(tree.files()).known()) == [Known("crun", "batch", cgroup, metadata)]
    assert Crun(tree.files()).lookup(found(cgroup, "", "batch")) == metadata
    assert Crun(tree.files()).lookup(found("/elsewhere", "", "batch")) is None


def test_a_users_containers(tree: Tree) -> None:
    cgroup = f"{MANAGER}/user.slice/runc-batch.scope"
    tree.runc("batch", cgroup, f"run/user/{USER}/runc", USER)
    tree.crun("other", f"{cgroup}x", "", f"run/user/{USER}/crun", USER)
    assert [known.cgroup for known in Runc(tree.files(USER)).known()] == [cgroup]
    assert [known.id for known in Crun(tree.files(USER)).known()] == ["other"]
    assert [*Runc(tree.files()).known(), *Crun(tree.files()).known()] == []
