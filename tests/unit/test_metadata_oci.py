# SPDX-License-Identifier: Apache-2.0
"""Bundles: containerd's, CRI-O's, and the cgroups that they ask for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from enricher.enrich.metadata import Metadata
from enricher.enrich.metadata.oci import Containerd, Crio, cgroup_of, is_place_of
from tests.unit.sample_state import BUNDLES, ID, MANAGER, OTHER, POD, POD_, USER, Tree, found

SLICE = f"kubepods-besteffort-pod{POD_}.slice"
SLICES = f"/kubepods.slice/kubepods-besteffort.slice/{SLICE}"
PATH = f"{SLICES}/cri-containerd-{ID}.scope"
CRI = {
    "io.kubernetes.cri.container-type": "container",
    "io.kubernetes.cri.container-name": "app",
    "io.kubernetes.cri.image-name": "registry.example/app@sha256:" + "0d" * 32,
    "io.kubernetes.cri.sandbox-id": OTHER,
    "io.kubernetes.cri.sandbox-name": "app-7d9f",
    "io.kubernetes.cri.sandbox-namespace": "prod",
    "io.kubernetes.cri.sandbox-uid": POD,
}
APP = Metadata("containerd", "app", "registry.example/app@sha256:" + "0d" * 32, (), POD, "app-7d9f", "prod")
LABELS = {"app": "web", "io.kubernetes.pod.name": "web-0"}
CRIO = {
    "io.container.manager": "cri-o",
    "io.kubernetes.cri-o.ContainerID": ID,
    "io.kubernetes.cri-o.Image": "registry.example/web:2",
    "io.kubernetes.cri-o.ImageName": "registry.example/other-name:2",
    "io.kubernetes.cri-o.Labels": json.dumps(LABELS),
    "io.kubernetes.container.name": "web",
    "io.kubernetes.pod.uid": POD,
    "io.kubernetes.pod.name": "web-0",
    "io.kubernetes.pod.namespace": "prod",
}
WEB = Metadata("cri-o", "web", "registry.example/web:2", tuple(LABELS.items()), POD, "web-0", "prod")
CRIO_PATH = f"{SLICES}/crio-{ID}.scope"
CRIO_BUNDLE = f"run/containers/storage/overlay-containers/{ID}/userdata"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.mark.parametrize(
    ("asked", "cgroup"),
    [
        ("system.slice:docker:x", "/system.slice/docker-x.scope"),
        (":docker:x", "/system.slice/docker-x.scope"),
        ("a-b-c.slice:p:x", "/a.slice/a-b.slice/a-b-c.slice/p-x.scope"),
        ("-.slice:p:x", "/p-x.scope"),
        ("machine.slice::x", "/machine.slice/x.scope"),
        ("/docker/x", "/docker/x"),
        ("/docker/x/", "/docker/x"),
        ("docker/x", ""),
        ("/", ""),
        ("/../x", ""),
        ("a--b.slice:p:x", ""),
        (".slice:p:x", ""),
        ("none:p:x", ""),
        ("a.slice:p:", ""),
        ("a.slice:p:x:y", ""),
        ("a.slice:p:x/../../y", ""),
        ("", ""),
        (7, ""),
        (None, ""),
    ],
)
def test_the_cgroup_that_a_bundle_asks_for(asked: object, cgroup: str) -> None:
    assert cgroup_of({"linux": {"cgroupsPath": asked}}) == cgroup


def test_below_a_users_manager() -> None:
    spec = {"linux": {"cgroupsPath": "user.slice:libpod:x"}}
    assert cgroup_of(spec, MANAGER) == f"{MANAGER}/user.slice/libpod-x.scope"
    assert is_place_of(spec, found(f"{MANAGER}/user.slice/libpod-x.scope/container"))
    assert not is_place_of(spec, found("/user.slice/libpod-y.scope"))
    assert not is_place_of({}, found("/x"))


def test_the_driver_that_was_not_told() -> None:
    spec = {"linux": {"cgroupsPath": f"{SLICE}:cri-containerd:{ID}"}}
    assert is_place_of(spec, found(f"/system.slice/containerd.service/{SLICE}:cri-containerd:{ID}"))
    assert not is_place_of(spec, found(f"/system.slice/containerd.service/{SLICE}:cri-containerd:{OTHER}"))


@pytest.mark.parametrize("base", [BUNDLES, BUNDLES.replace("run/", "run/k3s/", 1)])
def test_a_pods_container_of_containerd(tree: Tree, base: str) -> None:
    tree.bundle(f"{base}/k8s.io/{ID}", f"{SLICE}:cri-containerd:{ID}", CRI)
    containerd = Containerd(tree.files())
    assert containerd.lookup(found(PATH, "containerd", pod=POD)) == APP
    assert containerd.lookup(found(PATH, "containerd", OTHER, POD)) is None
    assert containerd.lookup(found(f"/other/{ID}", "containerd")) is None
    assert containerd.lookup(found(PATH, "containerd", pod=POD.replace("0", "9"))) is None
    assert [known[:3] for known in containerd.known()] == [("containerd", ID, PATH)]


def test_a_static_pods_uid_has_two_forms(tree: Tree) -> None:
    plain = POD.replace("-", "")
    tree.bundle(f"{BUNDLES}/k8s.io/{ID}", f"/kubepods/pod{plain}/{ID}", CRI)
    assert Containerd(tree.files()).lookup(found(f"/kubepods/pod{plain}/{ID}", pod=plain)) == APP


def test_nerdctl_and_ctr(tree: Tree) -> None:
    tree.bundle(f"{BUNDLES}/default/{ID}", f"system.slice:nerdctl:{ID}", {"nerdctl/name": "proxy"})
    tree.bundle(f"{BUNDLES}/default/batch", "/default/batch")
    tree.bundle(f"{BUNDLES}/ops/batch", "/ops/batch")
    containerd = Containerd(tree.files())
    assert containerd.lookup(found(f"/system.slice/nerdctl-{ID}.scope")) == Metadata("containerd", "proxy")
    assert containerd.lookup(found("/ops/batch", "", "batch")) == Metadata("containerd", "batch")
    assert {known.cgroup for known in containerd.known()} == {
        f"/system.slice/nerdctl-{ID}.scope",
        "/default/batch",
        "/ops/batch",
    }


def test_dockers_containers_are_dockers(tree: Tree) -> None:
    tree.bundle(f"{BUNDLES}/moby/{ID}", f"/mine/{ID}")
    assert Containerd(tree.files()).lookup(found(f"/mine/{ID}")) is None
    assert [known[:3] for known in Containerd(tree.files()).known()] == [("docker", ID, f"/mine/{ID}")]


def test_annotations_of_the_wrong_type(tree: Tree) -> None:
    tree.bundle(f"{BUNDLES}/k8s.io/{ID}", f"{SLICE}:cri-containerd:{ID}", dict.fromkeys(CRI, 5))
    assert Containerd(tree.files()).lookup(found(PATH)) == Metadata("containerd")
    tree.json(f"{BUNDLES}/k8s.io/{ID}/config.json", {"annotations": [], "linux": []})
    assert Containerd(tree.files()).lookup(found(PATH)) is None


def test_a_user_has_no_containerd_to_be_seen(tree: Tree) -> None:
    tree.bundle(f"{BUNDLES}/k8s.io/{ID}", f"{SLICE}:cri-containerd:{ID}", CRI)
    assert Containerd(tree.files(USER)).lookup(found(PATH)) is None


@pytest.mark.parametrize("base", ["run/containers/storage", "var/run/crio", "var/lib/containers/storage"])
def test_a_pods_container_of_crio(tree: Tree, base: str) -> None:
    tree.bundle(f"{base}/overlay-containers/{ID}/userdata", f"{SLICE}:crio:{ID}", CRIO)
    crio = Crio(tree.files())
    assert crio.lookup(found(CRIO_PATH, "cri-o", pod=POD)) == WEB
    assert crio.lookup(found(f"/other/crio-{ID}", "cri-o")) is None
    assert crio.lookup(found(CRIO_PATH, "cri-o", pod=POD.replace("0", "9"))) is None
    assert list(crio.known()) == []


@pytest.mark.parametrize(
    "wrong", [{"io.container.manager": "libpod"}, {"io.kubernetes.cri-o.ContainerID": OTHER}]
)
def test_what_is_not_crios_or_not_this_one(tree: Tree, wrong: dict[str, str]) -> None:
    tree.bundle(CRIO_BUNDLE, f"{SLICE}:crio:{ID}", CRIO | wrong)
    assert Crio(tree.files()).lookup(found(CRIO_PATH)) is None


def test_an_image_that_was_asked_for_by_its_id(tree: Tree) -> None:
    tree.bundle(CRIO_BUNDLE, f"{SLICE}:crio:{ID}", CRIO | {"io.kubernetes.cri-o.Image": OTHER})
    said = Crio(tree.files()).lookup(found(CRIO_PATH))
    assert said is not None
    assert said.image == "registry.example/other-name:2"
