# SPDX-License-Identifier: Apache-2.0
"""Names of users and groups, by number.

Owns the question (`Names`) and two answers to it: this machine's name service and none. Never raises, and never
keeps an answer for longer than its lifetime. A name is the host's: the kernel writes ids as the initial user
namespace sees them.

A name service may be a directory in the network. It is asked once per id and lifetime, for ids that do not
exist as well, and the pipeline waits for its answer.
"""

from __future__ import annotations

import grp
import pwd
from typing import TYPE_CHECKING, Final, Protocol

from enricher.clock import SystemClock
from enricher.model import UNSET

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.clock import Clock

LIFETIME: Final = 300.0
"""Seconds after which all answers are asked for anew: a user that was just made is named soon."""

LIMIT: Final = 16_384
"""Users and groups that are remembered, each; when full the memory begins anew."""

_LARGEST_ID: Final = 0xFFFFFFFE


class Names(Protocol):
    """Who a uid or gid is. `generation` changes when an earlier answer may no longer be right."""

    @property
    def generation(self) -> int:
        """Any number; ask for it before each use of what was remembered."""
        ...

    def user(self, uid: int) -> str | None:
        """Return the user's name, ``unset`` for 4294967295, None if there is none."""
        ...

    def group(self, gid: int) -> str | None:
        """Return the group's name, as `user`."""
        ...


class NoNames:
    """Knows nobody: for records of another machine, and for tests."""

    generation = 0

    def user(self, uid: int) -> str | None:
        """See `Names`."""
        return "unset" if uid == UNSET else None

    def group(self, gid: int) -> str | None:
        """See `Names`."""
        return "unset" if gid == UNSET else None


def _user(uid: int) -> str:
    return pwd.getpwuid(uid).pw_name


def _group(gid: int) -> str:
    return grp.getgrgid(gid).gr_name


class HostNames:
    """The name service of this machine (NSS): what ``id`` and ``ls -l`` say."""

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        lifetime: float = LIFETIME,
        ask_user: Callable[[int], str] = _user,
        ask_group: Callable[[int], str] = _group,
    ) -> None:
        self._clock: Clock = clock or SystemClock()
        self._lifetime = lifetime
        self._begin = self._clock.monotonic()
        self._generation = 0
        self._ask_user = ask_user
        self._ask_group = ask_group
        self._users: dict[int, str | None] = {}
        self._groups: dict[int, str | None] = {}

    @property
    def generation(self) -> int:
        """See `Names`; one more after each lifetime."""
        now = self._clock.monotonic()
        if now - self._begin >= self._lifetime:
            self._begin = now
            self._generation += 1
            self._users.clear()
            self._groups.clear()
        return self._generation

    def user(self, uid: int) -> str | None:
        """See `Names`."""
        return _known(self._users, uid, self._ask_user)

    def group(self, gid: int) -> str | None:
        """See `Names`."""
        return _known(self._groups, gid, self._ask_group)


def _known(known: dict[int, str | None], number: int, ask: Callable[[int], str]) -> str | None:
    if number == UNSET:
        return "unset"
    if not 0 <= number <= _LARGEST_ID:
        return None
    try:
        return known[number]
    except KeyError:
        pass
    name: str | None
    try:
        # A directory may answer with bytes that are no text; they arrive as lone surrogates.
        name = ask(number).encode("utf-8", "surrogateescape").decode("utf-8", "replace") or None
    except (KeyError, OSError, ValueError, OverflowError):
        name = None
    if len(known) >= LIMIT:
        known.clear()
    known[number] = name
    return name
