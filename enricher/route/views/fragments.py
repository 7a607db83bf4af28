# SPDX-License-Identifier: Apache-2.0
"""Records as the JSON that they are in an event, made from their words without a dict in between.

Owns the short ways for the records that every busy host has most of. What they give is what `enrich.decode` and
`codec` give, byte for byte: where a record is not exactly of the usual form it takes their way, so nothing here
decides what a value means. Never sees more than one record, and never keeps anything of one that differs from
record to record.

What makes it short: behind a record's own numbers (serial, pid, addresses, inode) stands text that stood in one
before: who it was and what program (``auid=1000 uid=0 .. key="exec"``), what a file is (``dev=fe:01 mode=0100755
..``). Such a tail is decoded once. Records that are nothing else (CWD, MMAP, SOCKADDR ..) are a tail as a whole.

One call into C for many bytes is what is quick in both forms, interpreted and compiled: hence the expressions, and
tables for `bytes.translate`. A slice of bytes, or ``in``, costs more than it looks.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from typing import TYPE_CHECKING, Any, Final, cast

from enricher.codec import dumps
from enricher.enrich.decode import is_wordwise, type_name
from enricher.enrich.keys import keys_of
from enricher.enrich.subject import CREDENTIALS, subject_of
from enricher.enrich.values import PLACES, SAFE_DIGITS
from enricher.model import Record
from enricher.sources.audit.text import EXECVE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enricher.enrich.decode import Decoder
    from enricher.enrich.interpret_args import Argument
    from enricher.enrich.shape import Fields, Subject

SYSCALL: Final = 1300
PATH: Final = 1302
PROCTITLE: Final = 1327

_FORMS: Final = {
    b"number": rb"(0|[1-9][0-9]{0,%d})"
    % (SAFE_DIGITS - 1),  # as the kernel prints it; JSON has the same digits
    b"result": rb"(0|-?[1-9][0-9]{0,%d})" % (SAFE_DIGITS - 1),
    b"word": rb"([0-9A-Za-z]+)",
}
_syscall_form = re.compile(
    rb"arch=%(word)b syscall=%(number)b success=(yes|no) exit=%(result)b"
    rb" a0=%(word)b a1=%(word)b a2=%(word)b a3=%(word)b"
    rb" items=%(number)b ppid=%(number)b pid=%(number)b (.+)" % _FORMS,
    re.DOTALL,
).fullmatch
_path_form = re.compile(
    rb"item=%(number)b name=([^ ]+) (?:inode=%(number)b |)(.+)" % _FORMS, re.DOTALL
).fullmatch
_title_form = re.compile(rb'proctitle=(?:([0-9A-F]+)|"([^" ]*)")').fullmatch
_count_form = re.compile(rb"argc=%(number)b" % _FORMS).fullmatch

_OUTCOMES: Final = {b"yes": b"success", b"no": b"failure"}
_NAMES: Final = tuple(b"a%d=" % index for index in range(256))

# What stands before a tail, and what that means: in a tail such a name would be there twice.
_BEFORE_SYSCALL: Final = frozenset(
    "arch ARCH syscall SYSCALL success exit EXIT a0 A0 a1 A1 a2 A2 a3 A3 items ppid pid".split()
)
_BEFORE_PATH: Final = frozenset("item name inode".split())
_BEFORE_NOTHING: Final[frozenset[str]] = frozenset()


def _marks(allowed: bytes) -> bytes:
    """Return the table with which `bytes.translate` changes every byte but the allowed ones."""
    return bytes(byte if byte in allowed else byte ^ 0x80 for byte in range(256))


_PLAIN_BYTES: Final = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
_PLAIN: Final = _marks(_PLAIN_BYTES)
"""Bytes that are in JSON what they are in a record."""
_TITLE_PLAIN: Final = _marks(_PLAIN_BYTES + b"\0")
_HEX: Final = _marks(b"0123456789ABCDEF")

_QUOTE: Final = 0x22
_NULL: Final = b"(null)"
_NO_ARGUMENTS: Final = (_NULL, b"?")
_KEY: Final = b" key="
_FURTHER: Final = b'{"type":"EXECVE","fields":{}}'
"""An EXECVE record whose arguments are in the first one's ARGV."""


TAILS = 2048
"""Tails that are remembered, of at most `LONGEST` bytes: some 3 KiB each. When there are as many it begins anew."""
LONGEST: Final = 768
CALLS = 4096
"""System calls that are remembered, and as many of their arguments and errors."""


class Tail:
    """What a SYSCALL's tail says, also of its event. ``members``, ``keys``, ``subject`` are JSON.

    So are ``program`` and ``credentials``, what a subject has of a tail where a context is known; ``numbers`` are those
    credentials.
    """

    __slots__ = ("credentials", "fields", "key_names", "keys", "members", "numbers", "program", "subject")

    def __init__(self, fields: Fields, key_names: list[str]) -> None:
        self.members: bytes = dumps(fields)[1:-1]
        self.fields = fields
        self.key_names = key_names
        self.keys: bytes = dumps(key_names)
        subject = subject_of(None, fields)
        self.subject = _further(subject, subject)
        self.program = _further(subject, ("exe", "exe_hex"))
        self.credentials = _further(subject, CREDENTIALS)
        self.numbers = cast(
            "Subject", {name: number for name, number in subject.items() if name in CREDENTIALS}
        )


def _further(subject: Subject, names: Iterable[str]) -> bytes:
    """Return those of a subject's members, each behind a comma."""
    said = {name: value for name in names if (value := subject.get(name)) is not None}
    return b"," + dumps(said)[1:-1] if said else b""


class Primary:
    """What a SYSCALL record says of its event."""

    __slots__ = ("outcome", "pid", "ppid", "tail")

    def __init__(self, pid: bytes, ppid: bytes, outcome: bytes, tail: Tail) -> None:
        self.pid = pid
        self.ppid = ppid
        self.outcome = outcome
        self.tail = tail


class Fragments:
    """Makes the JSON of records; holds what was looked up, so keep one per pipeline."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._generation = decoder.refresh()
        self._forget()

    def _forget(self) -> None:
        self._tails: dict[bytes, Tail | None] = {}
        self._paths: dict[bytes, bytes] = {}
        self._wholes: dict[tuple[int, bytes], bytes] = {}
        self._calls: dict[tuple[bytes, bytes], tuple[bytes, tuple[Argument, ...]]] = {}
        self._exits: dict[bytes, bytes] = {}
        self._arguments: dict[tuple[bytes, bytes, int, bytes, bytes], bytes] = {}
        self.primary: Primary | None = None
        """What the last SYSCALL record said, where that was made in the short way."""

    def of(self, records: list[Record], stamp: bytes) -> bytes | None:
        """Return the elements of ``records`` of an event with this stamp; None where one of them depends on another.

        ``primary`` is then what its first SYSCALL record said, None if that takes the long way.
        """
        generation = self._decoder.refresh()
        if generation != self._generation:
            self._generation = generation
            self._forget()
        self.primary = None
        syscalls = execves = 0
        head = b"".join((b"audit(", stamp, b"): "))
        parts = []
        for record in records:
            # By name: unpacking is slow, compiled.
            number, text = record.type, record.text
            if number == EXECVE:
                execves += 1
                made = _command(records, head) if execves == 1 else _FURTHER
            else:
                syscalls += number == SYSCALL
                made = (
                    None if record.truncated or not text.startswith(head) else self._usual(number, text, head)
                )
            if made is None:
                if number == EXECVE and [other.type for other in records].count(EXECVE) > 1:
                    return None
                if number != SYSCALL and text.find(_KEY) >= 0:
                    return None  # a key of another record than the one whose tail is known
                made = dumps(self._decoder.entry_of(record))
            parts.append(made)
        return None if syscalls > 1 else b",".join(parts)

    def _usual(self, number: int, text: bytes, head: bytes) -> bytes | None:
        """Make a record that begins with this head in its short way; None where it has none, or another form."""
        if number == SYSCALL:
            return self._syscall(text, len(head))
        if number == PATH:
            return self._path(text, len(head))
        if number == PROCTITLE:
            return _proctitle(text, len(head))
        return self._whole(number, text.removeprefix(head))

    # -- SYSCALL -------------------------------------------------------------------------------------

    def _syscall(self, text: bytes, begin: int) -> bytes | None:
        form = _syscall_form(text, begin)
        if form is None:
            return None
        arch, number, success, code, a0, a1, a2, a3, items, ppid, pid, rest = form.groups()
        tail = self._tails.get(rest)
        if tail is None:
            tail = self._tail(rest)
            if tail is None:
                return None
        call = self._calls.get((arch, number))
        if call is None:
            call = self._call(arch, number)
        named, arguments = call
        if arguments:
            values = [b'"a0":"%b"' % a0, b'"a1":"%b"' % a1, b'"a2":"%b"' % a2, b'"a3":"%b"' % a3]
            written = (a0, a1, a2, a3)
            for argument in arguments:
                place = argument.place
                value, other = written[place], written[argument.other]
                key = (arch, number, place, value, other)
                known = self._arguments.get(key)
                if known is None:
                    known = self._argument(argument, key)
                values[place] = known
            registers = b",".join(values)
        else:
            registers = b"".join((b'"a0":"', a0, b'","a1":"', a1, b'","a2":"', a2, b'","a3":"', a3, b'"'))
        # Only an error has a name; other results are as many as there are addresses and sizes.
        told = self._exits.get(code) if code.startswith(b"-") else b'"exit":' + code
        if told is None:
            told = self._exit(code)
        self.primary = Primary(pid, ppid, _OUTCOMES[success], tail)
        return b"".join(
            (
                b'{"type":"SYSCALL","fields":{',
                named,
                b',"success":"',
                success,
                b'",',
                told,
                b",",
                registers,
                b',"items":',
                items,
                b',"ppid":',
                ppid,
                b',"pid":',
                pid,
                b",",
                tail.members,
                b"}}",
            )
        )

    def _call(self, arch: bytes, number: bytes) -> tuple[bytes, tuple[Argument, ...]]:
        """Return the members that name a system call, and which of its arguments have a meaning."""
        call = self._decoder.meanings.call(arch.decode(), int(number))
        entry = self._decoder.entry_of(
            Record(SYSCALL, b"audit(0.0:0): arch=%b syscall=%b a0=0 a1=0 a2=0 a3=0" % (arch, number))
        )
        fields = entry["fields"]
        members = {name: fields[name] for name in ("arch", "ARCH", "syscall", "SYSCALL") if name in fields}
        known = (dumps(members)[1:-1], call.arguments)
        if _room(self._calls, CALLS):
            self._calls[arch, number] = known
        return known

    def _argument(self, argument: Argument, key: tuple[bytes, bytes, int, bytes, bytes]) -> bytes:
        """Return an argument's members."""
        _, _, place, value, other = key
        shown = value.decode()
        members = {
            PLACES[place]: shown,
            **dict(self._decoder.meanings.of_argument(argument, shown, other.decode())),
        }
        known = dumps(members)[1:-1]
        if _room(self._arguments, CALLS):
            self._arguments[key] = known
        return known

    def _exit(self, code: bytes) -> bytes:
        """Return the members of ``exit=``."""
        fields = self._decoder.usual(SYSCALL, b"exit=" + code)
        made = b'"exit":' + code if fields is None else dumps(fields)[1:-1]
        if _room(self._exits, CALLS):
            self._exits[code] = made
        return made

    def _tail(self, text: bytes) -> Tail | None:
        """Return what a SYSCALL's tail says, and remember it; None where the long way has to be taken."""
        if text in self._tails:
            return None
        tail = None
        fields = self._decoder.usual(SYSCALL, text)
        if fields and _BEFORE_SYSCALL.isdisjoint(fields):
            keys = keys_of(Record(SYSCALL, b" " + text))
            tail = Tail(fields, list(dict.fromkeys(key.decode("utf-8", "replace") for key in keys)))
        if len(text) <= LONGEST and _room(self._tails, TAILS):
            self._tails[text] = tail
        return tail

    # -- any other -----------------------------------------------------------------------------------

    def _path(self, text: bytes, begin: int) -> bytes | None:
        form = _path_form(text, begin)
        if form is None:
            return None
        item, written, inode, rest = form.groups()
        name = b'"(null)"' if written == _NULL else quoted_of(written)
        if name is None:
            return None
        members = self._paths.get(rest)
        if members is None:
            members = self._members(PATH, rest, _BEFORE_PATH)
            if len(rest) <= LONGEST and _room(self._paths, TAILS):
                self._paths[rest] = members
        if not members:
            return None
        known = b"," if inode is None else b"".join((b',"inode":', inode, b","))
        return b"".join(
            (
                b'{"type":"PATH","fields":{"item":',
                item,
                b',"name":',
                name,
                known,
                members,
                b"}}",
            )
        )

    def _whole(self, number: int, body: bytes) -> bytes | None:
        """Make a record that other ones have been like, but for the stamp."""
        made = self._wholes.get((number, body))
        if made is None:
            made = self._new_whole(number, body)
            if len(body) <= LONGEST and _room(self._wholes, TAILS):
                self._wholes[number, body] = made
        return made or None

    def _new_whole(self, number: int, body: bytes) -> bytes:
        if not is_wordwise(number):
            return b""
        members = self._members(number, body, _BEFORE_NOTHING)
        return (
            b'{"type":%b,"fields":{%b}}' % (dumps(type_name(number)), members) if members or not body else b""
        )

    def _members(self, number: int, text: bytes, before: frozenset[str]) -> bytes:
        """Return the members that a record's text, or its tail behind those before, makes; b"" for the long way."""
        fields = self._decoder.usual(number, text)
        return dumps(fields)[1:-1] if fields and before.isdisjoint(fields) and "key" not in fields else b""


def _room(memory: dict[Any, Any], most: int) -> bool:
    """Whether one more may be remembered; makes room where there is none."""
    if len(memory) >= most:
        memory.clear()
    return most > 0


# -- what is made of one record alone ----------------------------------------------------------------


def quoted_of(value: bytes) -> bytes | None:  # noqa: PLR0911 - one for each form
    """Return the JSON of a value that is quoted or in hex; None where it is neither, or not UTF-8."""
    if value[0] == _QUOTE:
        inner = value.strip(b'"')
        if len(inner) != len(value) - 2 or value[-1] != _QUOTE:
            return None
        if inner.translate(_PLAIN) == inner:
            return value  # JSON quotes it in the same way
        if inner.find(b'"') >= 0 or inner.find(b"\x1d") >= 0:
            return None
    else:
        if len(value) & 1 or value.translate(_HEX) != value:
            return None
        inner = unhexlify(value)
        if inner.translate(_PLAIN) == inner:
            return b"".join((b'"', inner, b'"'))
    try:
        return dumps(inner.decode())
    except UnicodeDecodeError:
        return None


def _proctitle(text: bytes, begin: int) -> bytes | None:
    form = _title_form(text, begin)
    if form is None:
        return None
    written, value = form.groups()
    if value is None:
        if len(written) & 1:
            return None
        value = unhexlify(written)
    if value in _NO_ARGUMENTS or value.translate(_TITLE_PLAIN) != value:
        return None
    return b"".join(
        (
            b'{"type":"PROCTITLE","fields":{"proctitle":"',
            value.replace(b"\0", b"\\u0000"),
            b'","ARGV":["',
            value.replace(b"\0", b'","'),
            b'"]}}',
        )
    )


def _command(records: list[Record], head: bytes) -> bytes | None:
    """Make the first EXECVE record, with the whole command line of an event; None where it is not the usual one.

    It may go on in further records, but each argument is in one piece.
    """
    words: list[bytes] = []
    for record in records:
        if record.type == EXECVE:
            text = record.text
            if record.truncated or not text.startswith(head):
                return None
            words += text.removeprefix(head).strip(b" ").split(b" ")
    form = _count_form(words[0])
    if form is None or int(form[1]) != len(words) - 1:
        return None
    shown = []
    names = _NAMES if len(words) <= len(_NAMES) else map(b"a%d=".__mod__, range(len(words)))
    del words[0]
    for name, word in zip(names, words):  # noqa: B905 - there are as many names as may be
        written = word.removeprefix(name)
        value = quoted_of(written) if written and len(written) < len(word) else None
        if value is None:
            return None
        shown.append(value)
    return b"".join((b'{"type":"EXECVE","fields":{"argc":', form[1], b',"ARGV":[', b",".join(shown), b"]}}"))
