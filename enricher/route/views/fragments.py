# SPDX-License-Identifier: Apache-2.0
"""Records as the JSON that they are in an event, made from their words without a dict in between.

Owns the short ways for the records that every busy host has most of. What they give is what `enrich.decode` and
`codec` give, byte for byte: where a record is not exactly of the usual form it takes their way, so nothing here
decides what a value means. Never sees more than one record, and never keeps anything of one that differs from
record to record.

What makes it short: behind a record's own numbers (serial, pid, addresses, inode) stands text that stood in one
before: who it was and what program (``auid=1000 uid=0 .. key="exec"``), what a file is (``dev=fe:01 mode=0100755
..``). Such a tail is decoded once.
"""

from __future__ import annotations

from binascii import unhexlify
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from enricher.codec import dumps
from enricher.enrich.decode import type_name
from enricher.enrich.keys import keys_of
from enricher.enrich.subject import subject_of
from enricher.enrich.values import PLACES, SAFE_DIGITS
from enricher.model import Record
from enricher.sources.audit.text import EXECVE

if TYPE_CHECKING:
    from enricher.enrich.decode import Decoder
    from enricher.enrich.interpret_args import Argument
    from enricher.enrich.shape import Fields

SYSCALL: Final = 1300
PATH: Final = 1302
CWD: Final = 1307
EOE: Final = 1320
PROCTITLE: Final = 1327

_SYSCALL_NAMES: Final = (
    *(
        b"arch=",
        b"syscall=",
        b"success=",
        b"exit=",
        b"a0=",
        b"a1=",
        b"a2=",
        b"a3=",
        b"items=",
        b"ppid=",
        b"pid=",
    ),
)
_SYSCALL_PARTS: Final = 12  # these eleven and the tail
_PATH_PARTS: Final = 4  # item, name, inode and the tail
_OUTCOMES: Final = {b"yes": b"success", b"no": b"failure"}
_NAMES: Final = tuple(b"a%d=" % index for index in range(256))
_HEX: Final = b"0123456789ABCDEF"

_HEADS: Final = frozenset(
    "arch ARCH syscall SYSCALL success exit EXIT a0 A0 a1 A1 a2 A2 a3 A3 items ppid pid item name inode".split()
)
"""What stands before a tail, and what that means: in a tail such a name would be there twice."""

_PLAIN: Final = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
"""Bytes that are in JSON what they are in a record."""
_TITLE_PLAIN: Final = _PLAIN + b"\0"


_NO_ARGUMENTS: Final = (b"(null)", b"?")
_KEY: Final = b" key="


TAILS = 2048
"""Tails that are remembered, of at most `LONGEST` bytes: some 3 KiB each. When there are as many it begins anew."""
LONGEST: Final = 768
CALLS = 4096
"""System calls that are remembered, and as many of their arguments and errors."""


class Tail(NamedTuple):
    """What a tail says, and of a SYSCALL's what it says of its event. ``members``, ``keys``, ``subject`` are JSON."""

    members: bytes
    fields: Fields
    key_names: list[str]
    keys: bytes
    subject: bytes


class Primary(NamedTuple):
    """What a SYSCALL record says of its event. ``outcome`` is b"" where it says nothing."""

    pid: bytes
    ppid: bytes
    outcome: bytes
    tail: Tail


class Fragments:
    """Makes the JSON of records; holds what was looked up, so keep one per pipeline."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._generation = decoder.refresh()
        self._heads: dict[int, bytes] = {}
        self._forget()

    def _forget(self) -> None:
        self._tails: dict[bytes, Tail | None] = {}
        self._calls: dict[tuple[bytes, bytes], tuple[bytes, tuple[Argument, ...]]] = {}
        self._exits: dict[bytes, bytes] = {}
        self._arguments: dict[tuple[bytes, bytes, int, bytes, bytes], bytes] = {}
        self.primary: Primary | None = None
        """What the last SYSCALL record said, where that was made in the short way."""

    def of(self, records: list[Record]) -> bytes | None:
        """Return the elements of ``records`` of an event; None where one of them depends on another.

        ``primary`` is then what its first SYSCALL record said, None if that takes the long way.
        """
        generation = self._decoder.refresh()
        if generation != self._generation:
            self._generation = generation
            self._forget()
        self.primary = None
        syscalls = execves = 0
        parts = []
        for record in records:
            number, text, truncated = (
                record.type,
                record.text,
                record.truncated,
            )  # unpacking is slow, compiled
            if number == SYSCALL:
                syscalls += 1
            elif _KEY in text:
                return None  # a key of another record than the one whose tail is known
            elif number == EXECVE:
                execves += 1
            made = None if truncated else self._usual(number, text)
            parts.append(dumps(self._decoder.entry_of(record)) if made is None else made)
        return None if execves > 1 or syscalls > 1 else b",".join(parts)

    def _usual(self, number: int, text: bytes) -> bytes | None:
        """Make a record in its short way; None where it has none, or is not of the usual form."""
        body = _body(text)
        if body is None:
            return None
        if number == PATH:
            return self._path(body)
        if number == SYSCALL:
            return self._syscall(body)
        if not body:
            return self._head(number) + b"}}"
        short = _SHORT.get(number)
        return None if short is None else short(body)

    def _head(self, number: int) -> bytes:
        """Return the beginning of a record of this type."""
        head = self._heads.get(number)
        if head is None:
            head = self._heads[number] = b'{"type":%b,"fields":{' % dumps(type_name(number))
        return head

    # -- SYSCALL -------------------------------------------------------------------------------------

    def _syscall(self, body: bytes) -> bytes | None:
        words = body.split(b" ", 11)
        if len(words) != _SYSCALL_PARTS:
            return None
        for name, word in zip(_SYSCALL_NAMES, words):  # noqa: B905 - the tail has none
            if word[: len(name)] != name:
                return None
        arch, number, success, code = words[0][5:], words[1][8:], words[2][8:], words[3][5:]
        a0, a1, a2, a3 = words[4][3:], words[5][3:], words[6][3:], words[7][3:]
        items, ppid, pid, text = words[8][6:], words[9][5:], words[10][4:], words[11]
        outcome = _OUTCOMES.get(success)
        if outcome is None or not (
            arch.isalnum()
            and a0.isalnum()
            and a1.isalnum()
            and a2.isalnum()
            and a3.isalnum()
            and is_number(number)
            and is_number(items)
            and is_number(ppid)
            and is_number(pid)
            and (is_number(code) or (code[:1] == b"-" and code != b"-0" and is_number(code[1:])))
        ):
            return None
        tail = self._tail(SYSCALL, text)
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
        told = self._exits.get(code) if code[:1] == b"-" else b'"exit":' + code
        if told is None:
            told = self._exit(code)
        self.primary = Primary(pid, ppid, outcome, tail)
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

    # -- tails ---------------------------------------------------------------------------------------

    def _tail(self, number: int, text: bytes) -> Tail | None:
        """Return what a tail says; None where the long way has to be taken."""
        tail = self._tails.get(text)
        if tail is None and text not in self._tails:
            tail = self._new_tail(number, text)
            if len(text) <= LONGEST and _room(self._tails, TAILS):
                self._tails[text] = tail
        return tail

    def _new_tail(self, number: int, text: bytes) -> Tail | None:
        fields = self._decoder.usual(number, text)
        if not fields or not _HEADS.isdisjoint(fields):
            return None
        keys = keys_of(Record(number, b" " + text)) if number == SYSCALL else ()
        subject = dumps(subject_of(None, fields))[1:-1] if number == SYSCALL else b""
        if subject:
            subject = b"," + subject
        names = list(dict.fromkeys(key.decode("utf-8", "replace") for key in keys))
        return Tail(dumps(fields)[1:-1], fields, names, dumps(names), subject)

    # -- PATH ----------------------------------------------------------------------------------------

    def _path(self, body: bytes) -> bytes | None:
        words = body.split(b" ", 3)
        if (
            len(words) != _PATH_PARTS
            or words[0][:5] != b"item="
            or words[1][:5] != b"name="
            or words[2][:6] != b"inode="
        ):
            return None
        item = words[0][5:]
        inode = words[2][6:]
        if not is_number(item) or not is_number(inode):
            return None
        name = quoted_of(words[1][5:])
        if name is None:
            return None
        tail = self._tail(PATH, words[3])
        if tail is None:
            return None
        return b"".join(
            (
                b'{"type":"PATH","fields":{"item":',
                item,
                b',"name":',
                name,
                b',"inode":',
                inode,
                b",",
                tail.members,
                b"}}",
            )
        )


def _room(memory: dict[Any, Any], most: int) -> bool:
    """Whether one more may be remembered; makes room where there is none."""
    if len(memory) >= most:
        memory.clear()
    return most > 0


# -- what is made of one record alone ----------------------------------------------------------------


def _body(text: bytes) -> bytes | None:
    """Return what stands behind the stamp, without the spaces around it; None for what has none."""
    end = text.find(b"):")
    if end < 0 or text[:6] != b"audit(":
        return None
    return text[end + 2 :].strip(b" ")


def is_number(value: bytes) -> bool:
    """Whether this is a number as the kernel prints it, and below 2^53: JSON has the same digits."""
    return value.isdigit() and len(value) <= SAFE_DIGITS and (value[:1] != b"0" or len(value) == 1)


def quoted_of(value: bytes) -> bytes | None:  # noqa: PLR0911 - one for each form
    """Return the JSON of a value that is quoted or in hex; None where it is neither, or not UTF-8."""
    if value[:1] == b'"':
        inner = value[1:-1]
        if value[-1:] != b'"' or len(value) == 1:
            return None
        if not inner.translate(None, _PLAIN):
            return value  # JSON quotes it in the same way
        if b'"' in inner or b"\x1d" in inner:
            return None
    else:
        if not value or len(value) & 1 or value.translate(None, _HEX):
            return None
        inner = unhexlify(value)
        if not inner.translate(None, _PLAIN):
            return b"".join((b'"', inner, b'"'))
    try:
        return dumps(inner.decode())
    except UnicodeDecodeError:
        return None


def _directory(body: bytes) -> bytes | None:
    if body[:4] != b"cwd=" or b" " in body:
        return None
    value = quoted_of(body[4:])
    return None if value is None else b"".join((b'{"type":"CWD","fields":{"cwd":', value, b"}}"))


def _proctitle(body: bytes) -> bytes | None:
    if body[:10] != b"proctitle=" or b" " in body:
        return None
    written = body[10:]
    if written[:1] == b'"' or not written or len(written) & 1 or written.translate(None, _HEX):
        return None
    value = unhexlify(written)
    if value.translate(None, _TITLE_PLAIN) or value in _NO_ARGUMENTS:
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


def _arguments(body: bytes) -> bytes | None:
    """A command line in one record, each argument in one piece."""
    words = body.split(b" ")
    count = words[0][5:]
    if (
        words[0][:5] != b"argc="
        or not is_number(count)
        or int(count) != len(words) - 1
        or len(words) > len(_NAMES)
    ):
        return None
    del words[0]
    shown = []
    for name, word in zip(_NAMES, words):  # noqa: B905 - there are as many names as may be
        size = len(name)
        text = quoted_of(word[size:]) if word[:size] == name else None
        if text is None:
            return None
        shown.append(text)
    return b"".join((b'{"type":"EXECVE","fields":{"argc":', count, b',"ARGV":[', b",".join(shown), b"]}}"))


_SHORT: Final = {EXECVE: _arguments, PROCTITLE: _proctitle, CWD: _directory}
