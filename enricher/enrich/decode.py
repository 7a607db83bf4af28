# SPDX-License-Identifier: Apache-2.0
"""A record's fields as JSON values: which are numbers, which are text, and what happens to the rest.

Owns the conversion of one `Record` to its entry in ``records[]``. The grammar is the parser's
(`sources.audit.text`). Never interprets a value: names of users, system calls and errors are another piece.

* A field known to be decimal becomes a number, up to 2^53; everything else, hex-looking numbers
  (``a0``, ``arch``, ``mode``, ``cap_fp``) included, is text.
* Text that is not UTF-8 has U+FFFD in place of what cannot be shown, and a sibling ``<field>_hex`` with
  all bytes.
* A name that stands more than once in a record has the list of its values, in order; its ``_hex``
  sibling is then a list as long, null where the text is exact.
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

from typing import TYPE_CHECKING, Final

from enricher.enrich.shape import LARGEST_NUMBER
from enricher.sources.audit.text import EXECVE, VOLATILE, Encoding, Words, parse
from enricher.sources.audit.types import is_user, name_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enricher.enrich.shape import Fields, RecordEntry, Value
    from enricher.model import Record
    from enricher.sources.audit.text import Field

NUMBERS: Final = frozenset(
    """
    argc auid audit_backlog_limit audit_backlog_wait_time audit_enabled audit_failure audit_pid
    audit_rate_limit cap_fe cap_frootid capability compat denials egid enforcing entries errno euid exit
    family fan_type fd fd0 fd1 fport fsgid fsuid gid ino inode item items list lport mq_curmsgs mq_maxmsg
    mq_msgsize mqdes msg_len msg_prio nargs nl-mcgrp nsec oauid obj_gid obj_trust obj_uid ogid old-auid
    old-ses old_enforcing old_prom opid oses ouid pid ppid prog-id prom proto resp sauid sec ses sgid sig
    spid subj_trust suid syscall tid uid uring_op
    """.split()
)
"""Fields the kernel prints with %d, %u or %lu. ``res``, ``old`` and ``id`` are not here: elsewhere they hold
words, and a field that is now a number and now text breaks an index."""

_SAFE_DIGITS: Final = 15  # any number of so many digits is below 2^53
_ZERO: Final = b"0"[0]


def value_of(name: str, value: bytes) -> Value:
    """Return the JSON value of a field that was neither quoted nor hex. Raises UnicodeDecodeError."""
    if name in NUMBERS:
        digits = value[1:] if value[:1] == b"-" else value
        # A leading zero or a lone sign is not how the kernel prints a number: text, so that no byte is lost.
        if digits.isdigit() and (digits[0] != _ZERO or value == b"0"):
            if len(digits) <= _SAFE_DIGITS:
                return int(value)
            if len(digits) == _SAFE_DIGITS + 1 and abs(int(value)) <= LARGEST_NUMBER:
                return int(value)
    return value.decode()


# Fields that differ from record to record and are never quoted nor hex: most of the words that no memory
# helps with. The parser would say the same of them in three times the time; a test holds both together.
_QUICK_NUMBERS: Final = {name: name.decode() for name in VOLATILE if name.decode() in NUMBERS}
_QUICK_WORDS: Final = {b"a0": "a0", b"a1": "a1", b"a2": "a2", b"a3": "a3"}


class _UnusualError(Exception):
    """A word that cannot be looked up by itself: the record takes the long way."""


class _Pairs(dict[bytes, tuple[str, "Value"]]):
    """Words already converted, at most `LIMIT` of at most `LONGEST` bytes; when full it begins anew."""

    LIMIT: Final = 8192
    LONGEST: Final = 96

    def __init__(self, *, execve: bool) -> None:
        super().__init__()
        self._parse = Words(execve=execve).parse
        self._execve = execve

    def __missing__(self, word: bytes) -> tuple[str, Value]:
        name, _, value = word.partition(b"=")
        if name in _QUICK_NUMBERS:
            if len(value) <= _SAFE_DIGITS and value.isdigit() and value[0] != _ZERO:
                return _QUICK_NUMBERS[name], int(value)
        elif name in _QUICK_WORDS and not self._execve and value.isalnum():
            return _QUICK_WORDS[name], value.decode("ascii")
        field = self._parse(word)
        if field is None or not field.name:
            raise _UnusualError
        try:
            if field.encoding is Encoding.PLAIN:
                pair = (field.name, value_of(field.name, field.value))
            else:
                pair = (field.name, field.value.decode())
        except UnicodeDecodeError:
            raise _UnusualError from None
        if len(word) <= self.LONGEST and not self._execve and name not in VOLATILE:
            if len(self) >= self.LIMIT:
                self.clear()
            self[word] = pair
        return pair


_PAIRS: Final = _Pairs(execve=False)
_EXECVE_PAIRS: Final = _Pairs(execve=True)

_names: dict[int, str] = {}


def type_name(number: int) -> str:
    """Return `name_of`, remembered: it is asked once per record."""
    name = _names.get(number)
    if name is None:
        name = _names[number] = name_of(number)  # 65536 at most: a type is 16 bits
    return name


def entry_of(record: Record, *, raw: bool = False) -> RecordEntry:
    """Return the record's entry for ``records[]``; with ``raw`` its text stands beside the fields."""
    number, text, truncated = record
    fields = None if truncated else _usual(number, text)
    if fields is None:
        return _unusual(record, raw=raw)
    entry: RecordEntry = {"type": type_name(number), "fields": fields}
    if raw:
        _put_raw(entry, text)
    return entry


def _usual(number: int, text: bytes) -> Fields | None:
    """Convert by looking up each word; None when the record is not of the usual kind."""
    end = text.find(b"):")
    if end < 0 or text[:6] != b"audit(" or b"\x1d" in text or b"  " in text or is_user(number):
        return None
    body = text[end + 2 :].strip(b" ")
    if not body:
        return {}
    words = body.split(b" ")
    try:
        fields = dict(map((_EXECVE_PAIRS if number == EXECVE else _PAIRS).__getitem__, words))
    except _UnusualError:
        return None
    return fields if len(fields) == len(words) else None  # type: ignore[return-value]  # dict is invariant


def _unusual(record: Record, *, raw: bool) -> RecordEntry:
    """Convert what the parser makes of the record: any bytes, nothing lost."""
    parsed = parse(record)
    fields = fields_of([*parsed.fields, *parsed.enriched])
    if parsed.msg or (is_user(record.type) and b" msg='" in record.text):
        message = fields_of(parsed.msg)
        before = fields.get("msg")
        fields["msg"] = message if before is None else [before, message]
    entry: RecordEntry = {"type": type_name(record.type), "fields": fields}
    if not parsed.clean:
        entry["undecoded"] = True
    if record.truncated:
        entry["truncated"] = True
    if raw or record.truncated or not parsed.clean:
        _put_raw(entry, record.text)
    return entry


def fields_of(parsed: Sequence[Field]) -> Fields:
    """Convert a list of fields, repeated names and damaged text included."""
    gathered: dict[str, list[tuple[Value, str | None]]] = {}
    for name, value, encoding in parsed:
        exact: str | None = None
        shown: Value
        try:
            shown = value_of(name, value) if encoding is Encoding.PLAIN else value.decode()
        except UnicodeDecodeError:
            shown, exact = text_of(value)
        gathered.setdefault(name or "words", []).append((shown, exact))
    fields: Fields = {}
    for name, values in gathered.items():
        single = len(values) == 1 and name != "words"
        fields[name] = values[0][0] if single else [shown for shown, _ in values]
        if any(exact is not None for _, exact in values):
            sibling = name + "_hex"
            while sibling in gathered:  # the record has a field of that name: both stay
                sibling += "_"
            fields[sibling] = (values[0][1] or "") if single else [exact for _, exact in values]
    return fields


def text_of(value: bytes) -> tuple[str, str | None]:
    """Return a value as text and, when the text does not show all of it, its bytes in hex."""
    try:
        return value.decode(), None
    except UnicodeDecodeError:
        return value.decode("utf-8", "replace"), value.hex().upper()


def _put_raw(entry: RecordEntry, text: bytes) -> None:
    entry["raw"], exact = text_of(text)
    if exact is not None:
        entry["raw_hex"] = exact
