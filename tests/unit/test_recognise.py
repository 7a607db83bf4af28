# SPDX-License-Identifier: Apache-2.0
"""Paths of cgroups: every layout, and every name that only looks like one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.enrich import recognise as module
from enricher.enrich.patterns import CONTAINERS, DEEPEST, HOST, Anchor
from enricher.enrich.places import Place
from enricher.enrich.recognise import recognise
from tests.lint.tree import ROOT
from tests.unit.sample_cgroups import ALICE, DB, MANAGER, NODE, UID, UID_, VECTORS, WEB, Vector

DOCS = ROOT / "docs" / "containers.md"


def check(path: str, place: Place) -> None:
    """What holds for every path."""
    assert (place.where == "container") == bool(place.chain)
    before = ""
    for found in place.chain:
        assert path.startswith(found.path)
        assert found.path.startswith(before + "/")
        assert found.id
        assert re.fullmatch(r"[!-.0-~]+", found.id)
        assert found.name in ("", found.id)
        assert re.fullmatch(r"|[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", found.pod)
        before = found.path
    if place.chain:
        assert before + place.payload == path
    else:
        assert place.payload == ""
    assert re.fullmatch(r"|[A-Za-z0-9:_.\\@-]+\.(service|scope|socket|mount|swap)", place.unit)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector.what}: {ascii(vector.path)[:120]}")
def test_a_path_is_what_it_is(vector: Vector) -> None:
    assert recognise(vector.path) == vector.place
    check(vector.path, vector.place)


def test_there_are_vectors_enough_and_each_path_stands_once() -> None:
    assert len(VECTORS) >= 120
    paths = [vector.path for vector in VECTORS]
    assert sorted({path for path in paths if paths.count(path) > 1}) == []


def test_every_row_of_containers_has_a_vector() -> None:
    used = set()
    for vector in VECTORS:
        level = module._level(vector.path, 0)
        if vector.place.chain:
            used |= {
                (anchor, pattern)
                for anchor, start in level.anchors
                for pattern, _ in module._CONTAINERS[anchor]
                if pattern.match(vector.path, start)
            }
    assert used == {(anchor, pattern) for anchor in Anchor for pattern, _ in module._CONTAINERS[anchor]}


def test_every_row_of_the_host_has_a_vector() -> None:
    used = set()
    for vector in VECTORS:
        if vector.place.where == "host":
            level = module._level(vector.path, 0)
            used |= {
                (anchor, pattern)
                for anchor, start in level.anchors
                for pattern, _ in module._HOST[anchor]
                if pattern.match(vector.path, start)
            }
    assert used == {(anchor, pattern) for anchor in Anchor for pattern, _ in module._HOST[anchor]}


@pytest.mark.parametrize("vector", [one for one in VECTORS if one.place.chain], ids=lambda one: one.what)
def test_nothing_below_a_container_leads_out_of_it(vector: Vector) -> None:
    """Whatever its root makes below its own cgroup, the first container stays the first."""
    first = vector.place.chain[0]
    for path in [first.path + other.path for other in VECTORS if other.path.startswith("/")]:
        if len(path) > 4096 or not module._SOUND.match(path):
            continue
        place = recognise(path)
        assert place.chain[:1] == (first,)
        assert place.unit == vector.place.unit


@pytest.mark.parametrize("vector", VECTORS, ids=lambda one: one.what)
def test_nothing_below_a_users_manager_is_more_than_his_claim(vector: Vector) -> None:
    place = recognise(MANAGER + vector.path)
    assert place.unit in ("", ALICE)
    assert place.unit or place == Place("unknown", (), "", "")
    if place.chain:
        assert place.chain[0].runtime in ("docker", "podman", "containerd")
        assert place.chain[0].pod == ""


def test_the_same_holds_in_a_containers_own_hierarchy() -> None:
    outer = f"/docker/{NODE}"
    inner = f"/kubepods.slice/kubepods-pod{UID_}.slice/docker-{WEB}.scope"
    assert [found.pod for found in recognise(outer + inner).chain] == ["", UID]
    assert [found.pod for found in recognise(outer + MANAGER + inner).chain] == ["", ""]


def test_a_chain_has_an_end() -> None:
    place = recognise(f"/docker/{WEB}" + "/lxc/a" * 600)
    assert len(place.chain) == DEEPEST
    assert place.payload == "/lxc/a" * (601 - DEEPEST)


WORDS = st.sampled_from(
    [
        *"docker kubepods kubelet lxc lxc.pivot machine container ns libvirt payload supervisor runtime".split(),
        *"init.scope system.slice user.slice user-1000.slice user@1000.service app.slice web.service".split(),
        *(
            "kubepods.slice",
            f"kubepods-pod{UID_}.slice",
            f"pod{UID}",
            "burstable",
            "machine.slice",
            ".control",
        ),
        *(WEB, DB, WEB[:-1], WEB.upper(), f"docker-{WEB}.scope", f"libpod-{DB}.scope", f"crio-{WEB}"),
        *(f"cri-containerd-{WEB}.scope", f"libpod-payload-{WEB}", f"libpod-conmon-{WEB}.scope"),
        *("lxc.payload.a", "lxc.monitor.a", r"machine-a\x2db.scope", r"machine-lxc\x2d1\x2da.scope"),
        *("..", ".", "", "\n", "\udcff", "a b", "session-1.scope", "run-u1.scope", "\0", "a-b.slice"),
    ]
)
TEXT = st.text(st.characters(codec=None), max_size=300)


@given(st.lists(WORDS | TEXT, max_size=12))
def test_any_path_is_read_without_a_crash(words: list[str]) -> None:
    path = "/" + "/".join(words)
    place = recognise(path)
    check(path, place)
    if ".." in path.split("/") or "//" in path:
        assert place == Place("unknown", (), "", "")


@given(TEXT)
def test_any_text_is_read_without_a_crash(text: str) -> None:
    check(text, recognise(text))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_a_crash(raw: bytes) -> None:
    path = "/" + raw.decode("utf-8", "surrogateescape")
    check(path, recognise(path))


@given(st.lists(WORDS, max_size=6), st.lists(WORDS, max_size=6))
def test_what_a_container_is_does_not_depend_on_what_is_below(above: list[str], below: list[str]) -> None:
    chain = recognise("/" + "/".join(above)).chain
    deeper = recognise("/" + "/".join(above + below)).chain
    if chain and deeper:
        assert deeper[: len(chain)] == chain


def documented() -> set[tuple[str, str, str]]:
    """Return the rows `| runtime | anchor | `layout` | ...` of the documentation."""
    rows = re.findall(r"^\| ([^|]+) \| (\w+) \| `([^`]+)` \|", DOCS.read_text(), re.MULTILINE)
    return {(runtime, anchor, layout) for runtime, anchor, layout in rows}


def test_every_row_is_documented_and_no_other() -> None:
    containers = {(row.runtime or '""', row.anchor.value, row.layout) for row in CONTAINERS}
    host = {("host", row.anchor.value, row.layout) for row in HOST}
    assert documented() == containers | host
