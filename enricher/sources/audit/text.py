# SPDX-License-Identifier: Apache-2.0
"""The text of a record: its stamp and its fields.

Owns the grammar of ``audit(SEC.MS:SERIAL): name=value ...`` as kernel, libaudit and auditd write it.
Never interprets a value (no user names, no system call names), never changes or drops a byte: every
`Field` can be written out again as it stood, and what does not fit the grammar is kept as it is.

No function here raises for any record text. What makes the text hostile: comm, exe, paths and arguments
are chosen by whoever is audited (the kernel quotes or hex-encodes them), and whatever stands inside
``msg='...'`` by any program with CAP_AUDIT_WRITE. So that the second cannot pass for the kernel's
word, its fields are kept apart from the record's own.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.sources.audit.types import is_user

if TYPE_CHECKING:
    from enricher.model import Record

EXECVE: Final = 1309


class Encoding(Enum):
    """How a value stood in the text."""

    WORD = "word"  # no name: a word of prose, such as ``avc:`` and ``denied``
    PLAIN = "plain"  # name=value
    QUOTED = "quoted"  # name="value"
    HEX = "hex"  # name=76616C7565


class Field(NamedTuple):
    """One name=value pair, or a word without name ("").

    `value` is decoded: without the quotes, from hex. ``(null)``, ``(none)`` and ``?`` are PLAIN values.
    """

    name: str
    value: bytes
    encoding: Encoding

    def written(self) -> bytes:
        """Return the bytes as they stood in the text."""
        if self.encoding is Encoding.WORD:
            return self.value
        name = self.name.encode()
        if self.encoding is Encoding.PLAIN:
            return b"%b=%b" % (name, self.value)
        if self.encoding is Encoding.QUOTED:
            return b'%b="%b"' % (name, self.value)
        return b"%b=%b" % (name, self.value.hex().upper().encode())


class Parsed(NamedTuple):
    """A record's text taken apart.

    `fields` are the record's own, `msg` those inside ``msg='...'`` of a user-space record, `enriched` those
    that auditd's ``log_format=ENRICHED`` appends after 0x1d. `clean` is False when something did not fit
    the grammar (a header that is none, a quote that is not closed): nothing is lost then, but a value
    may have been split at its spaces.
    """

    fields: list[Field]
    msg: list[Field]
    enriched: list[Field]
    clean: bool


# -- the stamp ---------------------------------------------------------------------------------------

_stamp = re.compile(rb"audit\(([0-9]{1,19}\.[0-9]{1,9}:[0-9]{1,19})\):").match
_parts = re.compile(rb"([0-9]{1,19})\.([0-9]{1,9}):([0-9]{1,19})").fullmatch


def stamp_of(text: bytes) -> bytes | None:
    """Return the stamp, ``SEC.MS:SERIAL`` as the kernel wrote it; None when the text begins with none."""
    found = _stamp(text)
    return found[1] if found else None


def split_stamp(stamp: bytes) -> tuple[int, int, int]:
    """Return a stamp's seconds since the epoch, milliseconds and serial. Raises ValueError if it is none."""
    found = _parts(stamp)
    if not found:
        msg = f"not a stamp: {stamp[:64]!r}"
        raise ValueError(msg)
    return int(found[1]), int(found[2]), int(found[3])


# -- the fields --------------------------------------------------------------------------------------

ENCODED: Final = frozenset(
    b"""
    acct cgroup cmd comm cwd data device dir exe file grp invalid_context key name new_group ocomm path
    proctitle root_dir saddr sw vm watch
    new-chardev new-disk new-fs new-net new-rng old-chardev old-disk old-fs old-net old-rng
    apparmor denied_mask info namespace operation profile requested_mask target
    """.split()
)
"""Fields whose value, when it is not quoted, is hex: those that the kernel passes to
audit_log_untrustedstring or audit_log_n_hex, and user space to audit_encode_nv_string. In EXECVE the
arguments come on top."""

VOLATILE: Final = {
    name.encode(): name for name in ("a0", "a1", "a2", "a3", "exit", "ino", "inode", "opid", "pid", "spid")
}
"""Numbers that differ from record to record: remembering them would only push out the other words."""

_name = re.compile(rb"[A-Za-z_][A-Za-z0-9_.\[\]-]*").fullmatch
_argument = re.compile(rb"a[0-9]+(?:\[[0-9]+\])?").fullmatch
_tokens = re.compile(rb'[A-Za-z_][A-Za-z0-9_.\[\]-]*="[^"]*"(?![^ ])|[^ ]+').findall
_HEX_DIGITS: Final = b"0123456789ABCDEF"
_MSG: Final = b"msg='"
_PLAIN: Final = Encoding.PLAIN
_SEPARATOR: Final = b"\x1d"


class _OpenQuoteError(Exception):
    """A word begins a quoted value and does not end it: the text cannot be split at its spaces."""


class Words(dict[bytes, Field]):
    """Words already parsed. Most words of a record (``uid=0``, ``arch=c000003e``) were in the one before.

    Holds at most `LIMIT` words of at most `LONGEST` bytes, about a MiB; when full it begins anew and counts
    that in `resets`. What was looked up is the same as what would be parsed: the memory changes no result.
    """

    LIMIT: Final = 4096
    LONGEST: Final = 64

    def __init__(self, *, execve: bool) -> None:
        super().__init__()
        self.resets = 0
        self._execve = execve  # arguments: no two alike, and a0 is a string
        self._volatile = {} if execve else VOLATILE

    def __missing__(self, word: bytes) -> Field:
        """Parse `word` and remember it if that is worthwhile. Raises _OpenQuoteError."""
        name, equals, value = word.partition(b"=")
        known = self._volatile.get(name)
        if known and equals and value[:1] != b'"':
            return tuple.__new__(Field, (known, value, _PLAIN))  # a third of the time that Field() takes
        field = self.parse(word)
        if field is None:
            raise _OpenQuoteError
        if not self._execve and len(word) <= self.LONGEST and field.encoding is not Encoding.HEX:
            if len(self) >= self.LIMIT:
                self.clear()
                self.resets += 1
            self[word] = field
        return field

    def parse(self, word: bytes) -> Field | None:
        """Parse one word; None when its value begins with a quote but is not a quoted value."""
        name, equals, value = word.partition(b"=")
        if not equals or not _name(name):
            return Field("", word, Encoding.WORD)
        if value[:1] == b'"':
            if len(value) == 1 or value.find(b'"', 1) != len(value) - 1:
                return None
            return Field(name.decode("ascii"), value[1:-1], Encoding.QUOTED)
        # audit_log_n_hex writes upper case; lower case and odd lengths are something else
        if value and not len(value) & 1 and not value.translate(None, _HEX_DIGITS) and self._is_encoded(name):
            return Field(name.decode("ascii"), unhexlify(value), Encoding.HEX)
        return Field(name.decode("ascii"), value, Encoding.PLAIN)

    def _is_encoded(self, name: bytes) -> bool:
        return name in ENCODED or (self._execve and _argument(name) is not None)


_WORDS: Final = Words(execve=False)
_EXECVE_WORDS: Final = Words(execve=True)


def parse(record: Record) -> Parsed:
    """Take a record's text apart. Total: any bytes give a result, and no byte but separators is missing."""
    record_type, text = record.type, record.text
    clean = True
    if text[:6] == b"audit(" and (end := text.find(b"):")) > 0:
        body = text[end + 2 :]
    else:
        body, clean = text, False
    if is_user(record_type):
        return _parse_user(body, clean=clean)
    enriched: list[Field] = []
    if _SEPARATOR in body:
        # never raw in the kernel's own text: it hex-encodes control characters
        body, _, tail = body.partition(_SEPARATOR)
        enriched, closed = _fields(tail, _WORDS)
        clean = clean and closed
    fields, closed = _fields(body, _EXECVE_WORDS if record_type == EXECVE else _WORDS)
    return Parsed(fields, [], enriched, clean and closed)


def keys_of(key: Field) -> list[bytes]:
    """Return the rule keys in a ``key=`` field; a record of several rules has them joined by 0x01."""
    if key.encoding is Encoding.PLAIN and key.value == b"(null)":
        return []
    return key.value.split(b"\x01")


def _parse_user(body: bytes, *, clean: bool) -> Parsed:
    """Take ``pid=.. uid=.. msg='..'`` apart.

    The message ends at the last single quote of the text, which is the kernel's: the sender may have put
    others, and a 0x1d, inside. Only after it can auditd have appended anything.
    """
    begin = body.find(_MSG)
    while begin > 0 and body[begin - 1 : begin] != b" ":
        begin = body.find(_MSG, begin + 1)
    if begin < 0:
        inner = b""
        head, _, tail = body.partition(_SEPARATOR)
    else:
        head, inner = body[:begin], body[begin + len(_MSG) :]
        inner, quote, tail = inner.rpartition(b"'")
        if not quote:
            inner, tail, clean = tail, b"", False
        elif tail[:1] == _SEPARATOR:
            tail = tail[1:]
        elif tail:
            head, tail, clean = head + tail, b"", False
    fields, first = _fields(head, _WORDS)
    msg, second = _fields(inner, _WORDS)
    enriched, third = _fields(tail, _WORDS)
    return Parsed(fields, msg, enriched, clean and first and second and third)


def _fields(body: bytes, words: Words) -> tuple[list[Field], bool]:
    """Split at spaces and parse each word; the second value is False when a quote was not closed."""
    body = body.strip(b" ")
    if not body:
        return [], True
    tokens = body.split(b" ")
    if b"  " in body:
        tokens = [token for token in tokens if token]
    try:
        return list(map(words.__getitem__, tokens)), True
    except _OpenQuoteError:
        return _fields_with_spaces(body, words)


def _fields_with_spaces(body: bytes, words: Words) -> tuple[list[Field], bool]:
    """Do the same for a text with spaces inside quotes (``reason="memory violation"``)."""
    fields = []
    clean = True
    for token in _tokens(body):
        field = words.parse(token)
        if field is None:
            clean = False
            name, _, value = token.partition(b"=")
            field = Field(name.decode("ascii"), value, Encoding.PLAIN)
        fields.append(field)
    return fields, clean
