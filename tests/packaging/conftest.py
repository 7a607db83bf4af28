# SPDX-License-Identifier: Apache-2.0
"""The packages, built once for all tests here; and the build that came before them, by its version."""

from __future__ import annotations

import pytest

from tests.packaging.built import PREVIOUS, Debs, build


@pytest.fixture(scope="session")
def debs(tmp_path_factory: pytest.TempPathFactory) -> Debs:
    return build(tmp_path_factory.mktemp("debs"))


@pytest.fixture(scope="session")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Debs:
    return build(tmp_path_factory.mktemp("previous"), "--suffix", PREVIOUS)
