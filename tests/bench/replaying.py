# SPDX-License-Identifier: Apache-2.0
"""`audit-enricher` as it is, but for what a benchmark changes: whose names, which memories, and what those did.

    python -m tests.bench.replaying WHAT,... replay - --format json --output FILE

Owns the changes, which are made from outside before the command runs. WHAT is one or more of:

* ``names``: users and groups are this machine's. `replay` leaves them out, since a log may be another machine's;
  LAUREL looks them up.
* ``forget``: no word, system call, key, record type or second is remembered; what users are called still is.
* ``count``: how often a memory had what it was asked for, told at the end on standard error, a line of JSON. Not to be
  timed.

There is no switch for this in the product, and none is needed: the memories are attributes.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

from enricher import clock
from enricher.cli import main, replay
from enricher.enrich import decode, keys, memo, native
from enricher.route.views import fragments, native_json
from enricher.sources.audit.types import name_of
from enricher.sources.names import HostNames

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.enrich.interpret_record import Meanings

counts: Final[Counter[str]] = Counter()
"""Look-ups by memory, and as ``MEMORY found`` those of them that found something."""


class _Forgetful(dict):  # type: ignore[type-arg] # whatever the memory holds
    """A memory that keeps nothing."""

    def __setitem__(self, key: object, value: object) -> None:
        pass


class _Counted(dict):  # type: ignore[type-arg]
    """A memory that counts."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def get(self, key: object, default: object = None) -> object:
        counts[self._name] += 1
        counts[f"{self._name} found"] += key in self
        return super().get(key, default)


class _ForgetfulCalls(memo.CallMemo):
    def __init__(self, meanings: Meanings) -> None:
        super().__init__(meanings)
        self._calls, self._arguments = _Forgetful(), _Forgetful()


class _CountedCalls(memo.CallMemo):
    def __init__(self, meanings: Meanings) -> None:
        super().__init__(meanings)
        self._calls, self._arguments = _Counted("calls"), _Counted("calls")


class _CountedWords(memo.WordMemo):
    def __getitem__(self, word: bytes) -> memo.Members:
        kind = "words of EXECVE" if self._execve else "words"
        counts[kind] += 1
        counts[f"{kind} found"] += word in self
        return super().__getitem__(word)


class _ForgetfulKeys(keys._Memory):
    def __setitem__(self, key: bytes, value: tuple[bytes, ...]) -> None:
        pass


class _CountedKeys(keys._Memory):
    def __getitem__(self, word: bytes) -> tuple[bytes, ...]:
        counts["keys"] += 1
        counts["keys found"] += word in self
        return super().__getitem__(word)


class _CountedFragments(fragments.Fragments):
    def _forget(self) -> None:
        super()._forget()
        self._calls = _Counted("calls")
        self._tails, self._paths, self._wholes = _Counted("tails"), _Counted("tails"), _Counted("wholes")


def _put(owner: object, name: str, value: object) -> None:
    """Put something in another's place. Raises AttributeError where that has gone: a change here would do nothing."""
    getattr(owner, name)
    setattr(owner, name, value)


def _names() -> None:
    _put(replay, "NoNames", HostNames)


def _forget() -> None:
    _put(memo.WordMemo, "LONGEST", -1)
    _put(decode, "CallMemo", _ForgetfulCalls)
    _put(keys, "_keys", _ForgetfulKeys())
    _put(fragments, "TAILS", 0)
    _put(fragments, "CALLS", 0)
    _put(clock, "utc_second", clock.utc_second.__wrapped__)
    for module in (decode, native):
        _put(module, "type_name", name_of)


def _count() -> None:
    _put(decode, "WordMemo", _CountedWords)
    _put(decode, "CallMemo", _CountedCalls)
    _put(native_json, "Fragments", _CountedFragments)
    _put(keys, "_keys", _CountedKeys())


CHANGES: Final[dict[str, Callable[[], None]]] = {"names": _names, "forget": _forget, "count": _count}


def run(words: list[str]) -> int:
    """Change what is asked for, and run the command."""
    asked, *command = words
    for name in asked.split(","):
        CHANGES[name]()
    code = main.main(command)
    if "count" in asked:
        found = clock.utc_second.cache_info()
        counts["seconds"], counts["seconds found"] = found.hits + found.misses, found.hits
        sys.stderr.write(json.dumps(counts) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
