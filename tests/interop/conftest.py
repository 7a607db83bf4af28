# SPDX-License-Identifier: Apache-2.0
"""The other tools, each release's made once, and which records of real kernels there have to be.

Owns the choice of those: what the suites in guests leave for each kernel that this run is for. They come first
(`LAST` in tests/conftest.py), so that what is missing is a failure.
"""

from __future__ import annotations

from typing import Final

import pytest

from tests.interop.readers import Reader, readers
from tests.interop.tools import RELEASES, Root, root_of
from tests.suites.corpus import VARIED
from tests.vm.kernels import SLOTS

RUNS: Final = ("variety", "job")
"""What each kernel leaves: tests/suites/test_variety.py and test_main_job.py."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `run` is called once for each that has to be there."""
    if "run" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--kernel") or list(SLOTS)
        varied = (
            chosen if metafunc.config.getoption("--full") else [slot for slot in chosen if slot in VARIED]
        )
        runs = [f"variety-{kernel}" for kernel in varied] + [f"job-{kernel}" for kernel in chosen]
        metafunc.parametrize("run", runs, scope="session")


@pytest.fixture(scope="session")
def roots() -> dict[str, Root]:
    return {release: root_of(release) for release in RELEASES}


@pytest.fixture(scope="session")
def tools(roots: dict[str, Root], tmp_path_factory: pytest.TempPathFactory) -> list[Reader]:
    """Every tool of every release."""
    place = tmp_path_factory.mktemp("readers")
    return [reader for root in roots.values() for reader in readers(root, place)]
