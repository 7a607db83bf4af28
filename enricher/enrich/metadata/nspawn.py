# SPDX-License-Identifier: Apache-2.0
"""systemd-nspawn's containers, from what systemd-machined keeps of each machine.

Owns ``/run/systemd/machines/<name>``, lines of KEY=VALUE. It is private to machined, which is why every line that is
used is checked: a format that has changed gives no answer. Virtual machines and libvirt's containers, which register
there as well, are not ours. It names no image.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from enricher.enrich.metadata import Known, Metadata, word

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enricher.enrich.metadata.files import Files
    from enricher.enrich.places import Found

_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-f]{2})|\\)")


class Nspawn:
    """Machines that systemd-nspawn registered."""

    name = "nspawn"

    def __init__(self, files: Files) -> None:
        self._files = files
        self._bases = files.bases("/run/systemd/machines")

    def lookup(self, found: Found) -> Metadata | None:
        """See `Runtime`."""
        if found.runtime != self.name or not word(found.id):
            return None
        for base in self._bases:
            said = _pairs(self._files.read(base, found.id))
            mine = said.get("NAME") == found.id and said.get("SERVICE") == "systemd-nspawn"
            # The unit, in the path as it is here, ties the name to the cgroup.
            if (
                mine
                and said.get("CLASS") == "container"
                and said.get("SCOPE", "") in found.path.split("/")[1:]
            ):
                return Metadata(self.name, found.id)
        return None

    def known(self) -> Iterator[Known]:
        """See `Runtime`. None: the files name the unit, not where in the tree it is."""
        yield from ()


def _pairs(data: bytes | None) -> dict[str, str]:
    try:
        lines = (data or b"").decode().splitlines()
    except UnicodeDecodeError:
        return {}
    pairs = (line.partition("=") for line in lines if not line.startswith("#"))
    return {key: _ESCAPE.sub(_unescape, value) for key, equals, value in pairs if equals}


def _unescape(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else "\\"
