# SPDX-License-Identifier: Apache-2.0
"""The boots of `make accuracy`: each kernel with cgroup v2, and 6.1 also with v1, alone and beside v2."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.accuracy import incus, rivals
from tests.suites.staging import stage

if TYPE_CHECKING:
    from pathlib import Path

V1_SLOT = "6.1"
KERNELS = ("6.1", "newest")
"""Unless --kernel says otherwise."""


class Host(NamedTuple):
    """One boot."""

    slot: str
    hierarchy: str


class Staged(NamedTuple):
    """What all boots find at /opt/share, the versions of the LAURELs in it, and whether Incus is there."""

    share: Path
    versions: dict[str, str]
    incus: bool


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "host" not in metafunc.fixturenames:
        return
    slots = metafunc.config.getoption("--kernel") or list(KERNELS)
    hosts = [Host(slot, "unified") for slot in slots]
    if V1_SLOT in slots:
        hosts += [Host(V1_SLOT, hierarchy) for hierarchy in ("legacy", "hybrid")]
    names = [host.slot if host.hierarchy == "unified" else f"{host.slot}-{host.hierarchy}" for host in hosts]
    marked = [
        pytest.param(host, marks=(pytest.mark.kernel(name), pytest.mark.vm), id=name)
        for host, name in zip(hosts, names, strict=True)
    ]
    metafunc.parametrize("host", marked)


@pytest.fixture(scope="session")
def staged(tmp_path_factory: pytest.TempPathFactory, rows: list[str]) -> Staged:
    share = stage(tmp_path_factory.mktemp("accuracy"))
    if rows:
        # A look at some rows is about us: it needs no other program.
        return Staged(share, {}, incus="incus" in rows and incus.stage(share))
    return Staged(share, rivals.stage(share), incus.stage(share))


@pytest.fixture(scope="session")
def rows(pytestconfig: pytest.Config) -> list[str]:
    """Those of the report that --rows asks for; [] for all."""
    return [row for row in pytestconfig.getoption("--rows").split(",") if row]
