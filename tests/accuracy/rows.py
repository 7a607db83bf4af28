# SPDX-License-Identifier: Apache-2.0
"""What is claimed for each runtime on each kind of host: the table that `make accuracy` is gated by.

Owns the claims. Never measures.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

HIERARCHIES: Final = ("unified", "legacy", "hybrid")


class Claim(Enum):
    """How much is promised; nothing is ever allowed to be wrong."""

    RIGHT = "every event right"
    UNKNOWN = "right or unknown, never wrong"


UNTOLD_ON_V1: Final = {
    # docs/containers.md: nspawn has no `payload` there.
    "nspawn": Claim.UNKNOWN,
    # No cgroup of its own: the container is where its starter is, and only its namespaces raise a doubt.
    "podman rootless": Claim.UNKNOWN,
}
"""Rows for which less than RIGHT is claimed where the host has cgroup v1, alone or beside v2."""


def claim(row: str, hierarchy: str) -> Claim:
    """Return what is claimed for a row of the report."""
    if hierarchy != "unified" and row in UNTOLD_ON_V1:
        return UNTOLD_ON_V1[row]
    return Claim.RIGHT
