# SPDX-License-Identifier: Apache-2.0
"""What a package leaves behind: names that were not there before, and that no other package answers for.

Owns the list of what dpkg, apt and Python keep for themselves. Never looks at a system: it is handed names.
"""

from __future__ import annotations

import re

THEIRS = re.compile(
    r"/(proc|sys|dev|run|tmp|opt/share|usr/lib/modules)(/|$)"
    r"|/var/(cache/|lib/(apt|dpkg)/|tmp/)"
    r"|/var/log/(apt/|dpkg\.log|alternatives\.log|journal|audit/|wtmp|btmp|lastlog)"
    r"|/var/lib/systemd/(random-seed|timers|timesync|catalog|pstore|coredump)(/|$)"
    r"|/usr/(lib|share)/python3[^/]*/(.*/)?__pycache__(/|$)|/etc/python3(/|$)"
    # Written with every change of accounts, whoever asks for it; how they end is looked at in the files themselves.
    r"|/etc/(passwd|group|shadow|gshadow|subuid|subgid)-$|/etc/\.pwd\.lock$"
)
"""Of dpkg and apt: their records and caches. Of Python: compiled modules of its own packages. Of a boot: the rest."""


def left_behind(before: set[str], after: set[str], owned: set[str]) -> list[str]:
    """Return what is new in `after`, sorted: names from the root on, those that packages own left out."""
    return sorted(name for name in after - before - owned if not THEIRS.match(name))


def owned_by(lists: str) -> set[str]:
    """Return the names in dpkg's lists of files, given one behind the other."""
    return set(lists.splitlines())
