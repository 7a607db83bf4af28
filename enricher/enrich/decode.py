# SPDX-License-Identifier: Apache-2.0
"""A record's fields as JSON values with their meanings beside them, and what happens to the rest.

Owns the conversion of the records of an event to ``records[]``. The grammar is the parser's
(`sources.audit.text`), what a value means is `enrich.interpret_record`'s. Never drops a value, with one
exception that loses nothing: the arguments of EXECVE once ``ARGV`` holds them all.

* A field known to be decimal becomes a number, up to 2^53; everything else, hex-looking numbers
  (``a0``, ``arch``, ``mode``, ``cap_fp``) included, is text.
* Beside a field stands, under its name in upper case, what it means, where that says more than the value.
  If the record has a field of that name itself (auditd's ENRICHED format), that one stays.
* Text that is not UTF-8 has U+FFFD in place of what cannot be shown, and a sibling ``<field>_hex`` with
  all bytes.
* A name that stands more than once in a record has the list of its values, in order; its siblings are
  lists as long, null where there is nothing to say.
* Words without a name (``avc:``, ``denied``) are the list ``words``.
* What a program sent inside ``msg='...'`` is the object ``msg``, so that it cannot pass for the
  kernel's fields.
* A text that does not fit the grammar has the fields that could be told apart, ``undecoded: true``, and
  ``raw``.

Speed: most words of a record (``uid=0``, ``arch=c000003e``) stood in the one before. The usual record,
one without repeated names and without damage, is a lookup per word; any other takes the long way. Both
give the same.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

from enricher.enrich.memo import CallMemo, UnusualError, WordMemo
from enricher.enrich.values import shown_of, text_of
from enricher.sources.audit.text import EXECVE, parse
from enricher.sources.audit.types import is_user, name_of
from enricher.sources.names import NoNames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enricher.enrich.interpret_record import Meaning, Meanings
    from enricher.enrich.memo import Members
    from enricher.enrich.shape import Fields, FieldValue, RecordEntry, Value
    from enricher.model import Record
    from enricher.sources.audit.text import Field, Parsed
    from enricher.sources.names import Names

_SYSCALL: Final = 1300
_SECCOMP: Final = 1326  # has a system call as well, in another place; too rare for a memo
_MOST_QUICK_ARGUMENTS: Final = 256
_ARGUMENT_NAMES: Final = tuple(f"a{index}" for index in range(_MOST_QUICK_ARGUMENTS))

_names: dict[int, str] = {}


def type_name(number: int) -> str:
    """Return `name_of`, remembered: it is asked once per record."""
    name = _names.get(number)
    if name is None:
        name = _names[number] = name_of(number)  # 65536 at most: a type is 16 bits
    return name


def is_wordwise(number: int) -> bool:
    """Whether each word of a usual record of this type means something by itself; arguments and system calls aside."""
    return number != _SECCOMP and not is_user(number)


class Decoder:
    """Makes the entries of records; holds what was looked up, so keep one per pipeline.

    ``raw`` adds the text of every record beside its fields.
    """

    def __init__(self, names: Names | None = None, *, raw: bool = False) -> None:
        # Not at the top: the tables behind it take time to load, and no command needs them but to decode.
        from enricher.enrich.interpret_record import MEMOS, Meanings  # noqa: PLC0415

        self._people: Names = NoNames() if names is None else names
        self._raw = raw
        self.meanings: Meanings = Meanings(self._people)
        self._own_memos: Final = MEMOS
        self._generation = self._people.generation
        self._forget()

    def _forget(self) -> None:
        """Begin anew: users may have other names than those remembered."""
        self._common = WordMemo(0, self.meanings)
        self._own: dict[int, WordMemo] = {}
        self._arguments = WordMemo(EXECVE, self.meanings)
        self._calls = CallMemo(self.meanings)

    def entries(self, records: Sequence[Record]) -> list[RecordEntry]:
        """Return the entries for all records of an event, ``records[]``."""
        self.refresh()
        execves = [record for record in records if record.type == EXECVE]
        if len(execves) < 2:  # noqa: PLR2004 - one command line in one record
            return list(map(self.entry_of, records))
        together = iter(self._execve(execves))
        return [next(together) if record.type == EXECVE else self.entry_of(record) for record in records]

    def refresh(self) -> int:
        """Forget what users were called when they have other names now; returns which names these are."""
        generation = self._people.generation
        if generation != self._generation:
            self._generation = generation
            self._forget()
        return generation

    def usual(self, number: int, body: bytes) -> Fields | None:
        """Convert a part of a usual record's text, one without system call or arguments; None where it is unusual."""
        if not body or b"  " in body or b"\x1d" in body:
            return None
        memo = self._common if number not in self._own_memos else self._memo_of(number)
        try:
            return _together(list(map(memo.__getitem__, body.split(b" "))))
        except UnusualError:
            return None

    def entry_of(self, record: Record) -> RecordEntry:
        """Return the entry of a record that needs no other one."""
        number, text, truncated = record.type, record.text, record.truncated
        fields = None if truncated else self._usual(number, text)
        if fields is None:
            return self._execve([record])[0] if number == EXECVE else self._unusual(record)
        entry: RecordEntry = {"type": type_name(number), "fields": fields}
        if self._raw:
            _put_raw(entry, text)
        return entry

    # -- the usual record --------------------------------------------------------------------------

    def _usual(self, number: int, text: bytes) -> Fields | None:
        """Convert by looking up each word; None when the record is not of the usual kind."""
        end = text.find(b"):")
        if (
            end < 0
            or text[:6] != b"audit("
            or b"\x1d" in text
            or b"  " in text
            or number == _SECCOMP
            or is_user(number)
        ):
            return None
        body = text[end + 2 :].strip(b" ")
        if not body:
            return {}
        words = body.split(b" ")
        try:
            if number == EXECVE:
                return self._usual_execve(words)
            memo = self._common if number not in self._own_memos else self._memo_of(number)
            members = list(map(memo.__getitem__, words))
            if number == _SYSCALL:
                self._calls.put(words, members)
        except UnusualError:
            return None
        return _together(members)

    def _memo_of(self, number: int) -> WordMemo:
        memo = self._own.get(number)
        if memo is None:
            memo = self._own[number] = WordMemo(number, self.meanings)
        return memo

    def _usual_execve(self, words: list[bytes]) -> Fields | None:
        """Convert one that holds a whole command line, each argument in one piece; None for any other."""
        members = [self._arguments[word][0] for word in words]
        name, count = members[0]
        arguments = members[1:]
        names = _ARGUMENT_NAMES[: len(arguments)]
        if name != "argc" or count != len(names) or tuple(member[0] for member in arguments) != names:
            return None
        return {"argc": count, "ARGV": [member[1] for member in arguments]}

    # -- any other ---------------------------------------------------------------------------------

    def _unusual(self, record: Record) -> RecordEntry:
        """Convert what the parser makes of the record: any bytes, nothing lost."""
        parsed = parse(record)
        return self._entry(record, parsed, self.fields_of(record.type, [*parsed.fields, *parsed.enriched]))

    def _entry(self, record: Record, parsed: Parsed, fields: Fields) -> RecordEntry:
        if parsed.msg or (is_user(record.type) and b" msg='" in record.text):
            message = self.fields_of(record.type, parsed.msg)
            before = fields.get("msg")
            fields["msg"] = message if before is None else [before, message]
        entry: RecordEntry = {"type": type_name(record.type), "fields": fields}
        if not parsed.clean:
            entry["undecoded"] = True
        if record.truncated:
            entry["truncated"] = True
        if self._raw or record.truncated or not parsed.clean:
            _put_raw(entry, record.text)
        return entry

    def _execve(self, records: Sequence[Record]) -> list[RecordEntry]:
        """Convert all EXECVE records of an event: the command line goes to the first of them."""
        from enricher.enrich.interpret_argv import arguments, is_argument, shown  # noqa: PLC0415 - as above

        parsed = [parse(record) for record in records]
        whole = all(text.clean for text in parsed) and not any(record.truncated for record in records)
        found = arguments(text.fields for text in parsed) if whole else None
        entries = []
        for record, text in zip(records, parsed, strict=True):
            fields = text.fields
            if found is not None:
                fields = [field for field in fields if not is_argument(field.name)]
            converted = self.fields_of(EXECVE, [*fields, *text.enriched])
            if found is not None and record is records[0]:
                converted = {**converted, **shown(found)}
            entries.append(self._entry(record, text, converted))
        return entries

    def fields_of(self, number: int, parsed: Sequence[Field]) -> Fields:
        """Convert a list of fields, repeated names and damaged text included."""
        gathered: dict[str, list[tuple[Value, str | None, Meaning]]] = {}
        for field in parsed:
            shown, exact = shown_of(number, field)
            meaning = self.meanings.of_field(number, field, shown)
            gathered.setdefault(field.name or "words", []).append((shown, exact, meaning))

        def single(name: str) -> Value | None:
            values = gathered.get(name, ())
            return values[0][0] if len(values) == 1 else None

        for name, meaning in self.meanings.of_call(number, single).items():
            shown, exact, _ = gathered[name][0]
            gathered[name] = [(shown, exact, meaning)]
        return _members(gathered)


def _together(members: list[Members]) -> Fields | None:
    """Return all members of a record; None where a name is there twice."""
    flat = list(chain.from_iterable(members))
    fields = dict(flat)
    return fields if len(fields) == len(flat) else None


def _members(gathered: dict[str, list[tuple[Value, str | None, Meaning]]]) -> Fields:
    fields: Fields = {}
    for name, values in gathered.items():
        single = len(values) == 1 and name != "words"
        fields[name] = values[0][0] if single else [shown for shown, _, _ in values]
        if any(exact is not None for _, exact, _ in values):
            sibling = name + "_hex"
            while sibling in gathered:  # the record has a field of that name: both stay
                sibling += "_"
            fields[sibling] = (values[0][1] or "") if single else [exact for _, exact, _ in values]
        meanings = [dict(meaning) for _, _, meaning in values]
        for sibling in dict.fromkeys(chain.from_iterable(meanings)):
            if sibling not in gathered:
                found: list[FieldValue | None] = [meaning.get(sibling) for meaning in meanings]
                fields[sibling] = meanings[0][sibling] if single else found
    return fields


def _put_raw(entry: RecordEntry, text: bytes) -> None:
    entry["raw"], exact = text_of(text)
    if exact is not None:
        entry["raw_hex"] = exact
