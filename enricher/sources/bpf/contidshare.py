# SPDX-License-Identifier: Apache-2.0
"""The maps of container identifiers, in the object whose programs only look into them.

Owns their names. Never fills one: that is their store's (`contidstore`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from enricher.errors import EnricherError
    from enricher.sources.bpf.libbpf import Libbpf

MAPS: Final = ("contid_tasks", "contid_ids", "contid_gone")
_UNUSED: Final = 64  # entries of a map that nobody uses; an LRU with fewer is refused on large hosts


def share(
    lib: Libbpf,
    named: Callable[[str], int],
    fds: Mapping[str, int],
    fail: Callable[[str, int], EnricherError],
) -> None:
    """Before the load: have the object opened use the store's maps, or small ones where `fds` is empty.

    `named` finds a map of the object, `fail` makes the error of what libbpf refused.
    """
    for name in MAPS:
        if fds:
            code: int = lib.bpf_map__reuse_fd(named(name), fds[name])
            if code:
                raise fail(f"map {name} of container identifiers cannot be shared", code)
        else:
            lib.bpf_map__set_max_entries(named(name), _UNUSED)
