# SPDX-License-Identifier: Apache-2.0
"""What the fields of one record mean: which interpreter a field of which record has, and the system call.

Owns the names of the members that carry a meaning: a field's name in upper case, as auditd's ENRICHED format and
LAUREL have it, and ``ARGV``. Never decides whether a member may be added: what the record has itself wins, and
`enrich.decode` sees to that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher.enrich.interpret import OWN_TABLE, Interpreter, interpreters, interpreters_of
from enricher.enrich.interpret_args import Arguments, argument_text
from enricher.enrich.interpret_argv import shown, title
from enricher.enrich.interpret_sockaddr import socket_address
from enricher.enrich.values import PLACES, SOCKADDR
from enricher.sources.audit.text import Encoding

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.enrich.interpret_args import Argument, Call
    from enricher.enrich.shape import FieldValue, Value
    from enricher.sources.audit.text import Field
    from enricher.sources.names import Names

Meaning = tuple[tuple[str, "FieldValue"], ...]
"""Members that a field brings along: none or one; two where an argument is not UTF-8."""

SYSCALL: Final = 1300
SECCOMP: Final = 1326
PROCTITLE: Final = 1327
MEMOS: Final = OWN_TABLE | {SOCKADDR, PROCTITLE}
"""Record types in which a word can mean something else than in the others."""

_NO_ARGUMENTS: Final = (b"(null)", b"?")


class Meanings:
    """Interprets the fields of records, with the names of one machine's users."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._common = interpreters(names)
        self._own: dict[int, dict[str, Interpreter]] = {}
        self._arguments = Arguments(names)

    def _interpreter(self, number: int, name: str) -> Interpreter | None:
        if number not in OWN_TABLE:
            return self._common.get(name)
        table = self._own.get(number)
        if table is None:
            table = self._own[number] = interpreters_of(number, self._names)
        return table.get(name)

    def of_field(self, number: int, field: Field, value: Value) -> Meaning:
        """Return what a field of a record of type `number` means by itself; `value` is its JSON value."""
        name, exact, encoding = field
        if encoding is Encoding.PLAIN:
            interpret = self._interpreter(number, name)
            if interpret is not None:
                meaning = interpret(value)
                return () if meaning is None or meaning == value else ((name.upper(), meaning),)
        if number == PROCTITLE and name == "proctitle" and exact not in _NO_ARGUMENTS:
            return tuple(shown(title(exact)).items())
        if number == SOCKADDR and name == "saddr" and encoding is Encoding.HEX:
            address = socket_address(exact)
            return () if address is None else (("SADDR", address),)
        return ()

    def call(self, arch: Value, number: Value) -> Call:
        """Return the system call that a record's ``arch=`` and ``syscall=`` name."""
        return self._arguments.of(arch, number)

    def of_call(self, number: int, get: Callable[[str], Value | None]) -> dict[str, Meaning]:
        """Return, by field, what the system call and its arguments mean; `get` gives a field's one value."""
        arch, syscall = get("arch"), get("syscall")
        if arch is None or syscall is None or number not in (SYSCALL, SECCOMP):
            return {}
        call = self.call(arch, syscall)
        found: dict[str, Meaning] = {}
        if call.name is not None:
            found["syscall"] = (("SYSCALL", call.name),)
        if number == SYSCALL:
            for argument in call.arguments:
                value, other = get(PLACES[argument.place]), get(PLACES[argument.other])
                if value is not None and other is not None:
                    found[PLACES[argument.place]] = self.of_argument(argument, value, other)
        return found

    def of_argument(self, argument: Argument, value: Value, other: Value) -> Meaning:
        """Return what an argument of a system call means, given the one that it depends on as well."""
        text = argument_text(argument, value, other)
        return () if text is None or text == value else ((PLACES[argument.place].upper(), text),)
