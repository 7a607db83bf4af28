# SPDX-License-Identifier: Apache-2.0
"""Names out of a capture, and into one: what the host answered is part of the run.

Owns nothing but the two sides of an answer. Never asks a host by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.sources.capture import CaptureWriter
    from enricher.sources.names import Names

_REMEMBERED: Final = 65_536  # answers; then all are asked for and written once more, which changes nothing


class RecordingNames:
    """Names of the host, each answer written to the capture the first time and whenever it differs.

    Within a generation nothing is asked twice: a second answer that differs would be known too early in a replay.
    """

    def __init__(self, names: Names, capture: CaptureWriter) -> None:
        self._names = names
        self._capture = capture
        self._written: dict[tuple[str, int], str | None] = {}
        self._answers: dict[tuple[str, int], str | None] = {}  # of this generation
        self._turn = -1
        self._theirs = names.generation
        self._generation = 0

    @property
    def generation(self) -> int:
        """See `Names.generation`. The same all through a batch: a replay learns before each, not within."""
        if self._turn != self._capture.turns:
            self._turn = self._capture.turns
            theirs = self._names.generation
            if theirs != self._theirs or len(self._answers) >= _REMEMBERED:
                self._theirs = theirs
                self._generation += 1
                self._answers.clear()
        return self._generation

    def user(self, uid: int) -> str | None:
        """See `Names.user`."""
        return self._answer("user", uid, self._names.user)

    def group(self, gid: int) -> str | None:
        """See `Names.group`."""
        return self._answer("group", gid, self._names.group)

    def _answer(self, kind: str, number: int, ask: Callable[[int], str | None]) -> str | None:
        key = (kind, number)
        if key in self._answers:
            return self._answers[key]
        name = self._answers[key] = ask(number)
        if key not in self._written or self._written[key] != name:
            if len(self._written) >= _REMEMBERED:
                self._written.clear()
            self._written[key] = name
            self._capture.answer(kind, number, name)
        return name


class RecordedNames:
    """Names as a capture has them; what was never asked is not known."""

    def __init__(self) -> None:
        self.generation = 0
        self._known: dict[tuple[str, int], str | None] = {}

    def learn(self, kind: str, number: int, name: str | None) -> None:
        """Enter an answer; one that replaces another makes a new generation."""
        key = (kind, number)
        if key in self._known and self._known[key] != name:
            self.generation += 1
        self._known[key] = name

    def user(self, uid: int) -> str | None:
        """See `Names.user`."""
        return self._known.get(("user", uid))

    def group(self, gid: int) -> str | None:
        """See `Names.group`."""
        return self._known.get(("group", gid))
