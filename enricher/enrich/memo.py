# SPDX-License-Identifier: Apache-2.0
"""Words already converted: most words of a record (``uid=0``, ``arch=c000003e``) stood in the one before.

Owns what is remembered of words and of system calls, within bounds. What was looked up is what would be
computed: the memory changes no result. Never sees a whole record, and gives up (`UnusualError`) on whatever needs
more than its word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher.enrich.values import NUMBERS, PLACES, SAFE_DIGITS, shown_of
from enricher.sources.audit.text import EXECVE, VOLATILE, Words

if TYPE_CHECKING:
    from enricher.enrich.interpret_args import Argument
    from enricher.enrich.interpret_record import Meanings
    from enricher.enrich.shape import FieldValue

Members = tuple[tuple[str, "FieldValue"], ...]
"""A field and what it brings along."""

_ZERO: Final = b"0"[0]

# Fields that differ from record to record and are never quoted nor hex: most of the words that no memory
# helps with. The parser would say the same of them in three times the time; a test holds both together.
_QUICK_NUMBERS: Final = {name: name.decode() for name in VOLATILE if name.decode() in NUMBERS}
_QUICK_WORDS: Final = {place.encode(): place for place in PLACES}


class UnusualError(Exception):
    """A word that cannot be looked up by itself: the record takes the long way."""


class WordMemo(dict[bytes, Members]):
    """Words of records of one type, or of all types that have no memo of their own.

    At most `LIMIT` words of at most `LONGEST` bytes; when full it begins anew.
    """

    LIMIT: Final = 2048
    LONGEST: Final = 96

    def __init__(self, number: int, meanings: Meanings) -> None:
        super().__init__()
        self._number = number
        self._meanings = meanings
        self._execve = number == EXECVE
        self._parse = Words(execve=self._execve).parse

    def __missing__(self, word: bytes) -> Members:
        """Convert `word` and remember it if that is worthwhile. Raises UnusualError."""
        name, _, value = word.partition(b"=")
        if name in _QUICK_NUMBERS:
            if len(value) <= SAFE_DIGITS and value.isdigit() and value[0] != _ZERO:
                return ((_QUICK_NUMBERS[name], int(value)),)
        elif name in _QUICK_WORDS and not self._execve and value.isalnum():
            return ((_QUICK_WORDS[name], value.decode("ascii")),)
        field = self._parse(word)
        if field is None or not field.name:
            raise UnusualError
        shown, exact = shown_of(self._number, field)
        if exact is not None:
            raise UnusualError
        members = ((field.name, shown), *self._meanings.of_field(self._number, field, shown))
        if len(word) <= self.LONGEST and not self._execve and (name not in VOLATILE or len(members) > 1):
            if len(self) >= self.LIMIT:
                self.clear()
            self[word] = members
        return members


class CallMemo:
    """System calls and their arguments, by the words that name them."""

    LIMIT: Final = 2048

    def __init__(self, meanings: Meanings) -> None:
        self._meanings = meanings
        self._calls: dict[tuple[bytes, bytes], tuple[Members, tuple[Argument, ...]]] = {}
        self._arguments: dict[tuple[bytes, bytes, bytes, bytes], Members] = {}

    def put(self, words: list[bytes], members: list[Members]) -> None:
        """Put the meanings of the call and its arguments into `members`, which stand as `words` do."""
        if len(words) < 2:  # noqa: PLR2004 - arch= and syscall=
            raise UnusualError
        arch, syscall = words[0], words[1]
        known = self._calls.get((arch, syscall))
        if known is None:
            known = self._call(arch, syscall, members)
        members[1], arguments = known
        if arguments:
            at = 4  # behind success= and exit=
            if len(words) <= at or words[at][:3] != b"a0=":
                at = self._first_argument(words)
            for argument in arguments:
                place = at + argument.place
                if place >= len(words):
                    raise UnusualError
                other = words[at + argument.other]
                found = self._arguments.get((arch, syscall, words[place], other))
                if found is None:
                    found = self._argument(argument, words, members, at)
                members[place] = found

    def _first_argument(self, words: list[bytes]) -> int:
        """Return where ``a0=`` is: before it may be ``per=``, or no ``success=`` and ``exit=``."""
        for at, word in enumerate(words[2:7], start=2):
            if word[:3] == b"a0=":
                return at
        raise UnusualError

    def _call(
        self, arch: bytes, syscall: bytes, members: list[Members]
    ) -> tuple[Members, tuple[Argument, ...]]:
        (first, value), (second, number) = members[0][0], members[1][0]
        if (
            first != "arch"
            or second != "syscall"
            or not isinstance(value, str)
            or not isinstance(number, int)
        ):
            raise UnusualError
        call = self._meanings.call(value, number)
        named: Members = (members[1][0],) if call.name is None else (members[1][0], ("SYSCALL", call.name))
        if len(self._calls) >= self.LIMIT:
            self._calls.clear()
        self._calls[arch, syscall] = known = named, call.arguments
        return known

    def _argument(self, argument: Argument, words: list[bytes], members: list[Members], at: int) -> Members:
        place, other = at + argument.place, at + argument.other
        member = members[place][0]
        if member[0] != PLACES[argument.place] or members[other][0][0] != PLACES[argument.other]:
            raise UnusualError
        first, second = member[1], members[other][0][1]
        if not isinstance(first, str) or not isinstance(second, str):
            raise UnusualError
        found: Members = (member, *self._meanings.of_argument(argument, first, second))
        if len(self._arguments) >= self.LIMIT:
            self._arguments.clear()
        self._arguments[words[0], words[1], words[place], words[other]] = found
        return found
