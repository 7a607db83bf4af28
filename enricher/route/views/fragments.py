# SPDX-License-Identifier: Apache-2.0
"""Records as the JSON that they are in an event, made from their words without a dict in between.

Owns the short ways for the records that every busy host has most of. What they give is what `enrich.decode` and
`codec` give, byte for byte: where a record is not exactly of the usual form it takes their way, so nothing here
decides what a value means. Never sees more than one record, and never keeps anything of one that differs from
record to record.

What makes it short: behind a record's own numbers (serial, pid, addresses, inode) stands text that stood in one
before: who it was and what program (``auid=1000 uid=0 .. key="exec"``), what a file is (``dev=fe:01 mode=0100755
..``). Such a tail is decoded once. Records that are nothing else (CWD, MMAP ..) are a tail as a whole.

Records are read from place to place by `scan`, whose functions are one call into C each, interpreted, and none at all
compiled. A slice of bytes costs more than it looks: there is one for what is written again or looked up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from enricher import scan, writing
from enricher.codec import dumps
from enricher.enrich.decode import is_wordwise, type_name
from enricher.enrich.keys import keys_of
from enricher.enrich.subject import CREDENTIALS, subject_of
from enricher.enrich.values import PLACES, SOCKADDR
from enricher.model import Record
from enricher.route.views import pieces
from enricher.sources.audit.text import EXECVE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enricher.enrich.decode import Decoder
    from enricher.enrich.interpret_args import Argument
    from enricher.enrich.shape import Fields, Subject

    _Place = tuple[int, int, Argument]
    """An argument with a meaning: its place and that of the one it depends on, not to be asked of a named tuple."""

SYSCALL: Final = 1300
PATH: Final = 1302
PROCTITLE: Final = 1327

_ARCH: Final = b"arch="
_CALL: Final = b" syscall="
_SUCCESS: Final = b" success=yes exit="
_FAILURE: Final = b" success=no exit="
_A0: Final = b" a0="
_A1: Final = b" a1="
_A2: Final = b" a2="
_A3: Final = b" a3="
_ITEMS: Final = b" items="
_PPID: Final = b" ppid="
_PID: Final = b" pid="
_ITEM: Final = b"item="
_NAME: Final = b" name="
_INODE: Final = b"inode="
_REGISTERS: Final = (b'"a0":"', b'"a1":"', b'"a2":"', b'"a3":"')

# What stands before a tail, and what that means: in a tail such a name would be there twice.
_BEFORE_SYSCALL: Final = frozenset(
    "arch ARCH syscall SYSCALL success exit EXIT a0 A0 a1 A1 a2 A2 a3 A3 items ppid pid".split()
)
_BEFORE_PATH: Final = frozenset("item name inode".split())
_BEFORE_NOTHING: Final[frozenset[str]] = frozenset()


_SPACE: Final = 0x20
_MINUS: Final = 0x2D
_NULL: Final = b"(null)"
_KEY: Final = b" key="
_FURTHER: Final = b'{"type":"EXECVE","fields":{}}'
"""An EXECVE record whose arguments are in the first one's ARGV."""


TAILS = 512
"""Tails that are remembered, of at most `LONGEST` bytes: some 3 KiB each. When there are as many it begins anew."""
LONGEST: Final = 768
CALLS = 1024
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
        self.out = writing.fresh()
        """What `put` writes into."""
        self._generation = decoder.refresh()
        self._forget()

    def _forget(self) -> None:
        self._tails: dict[bytes, Tail | None] = {}
        self._paths: dict[bytes, bytes] = {}
        self._wholes: dict[tuple[int, bytes], bytes] = {}
        self._calls: dict[bytes, tuple[bytes, tuple[_Place, ...]]] = {}
        self._exits: dict[bytes, bytes] = {}
        self._arguments: dict[tuple[bytes, int, bytes, bytes], bytes] = {}
        self.primary: Primary | None = None
        """What the last SYSCALL record said, where that was made in the short way."""

    def of(self, records: list[Record], stamp: bytes) -> bytes | None:
        """Return what `put` writes; None where it does not."""
        till = self.put(records, stamp)
        return None if till < 0 else writing.taken(self.out, till)

    def put(self, records: list[Record], stamp: bytes) -> int:
        """Write the elements of ``records`` of an event with this stamp; returns where they end.

        That is -1 where one of them depends on another. ``primary`` is then what its first SYSCALL record said, None
        if that takes the long way.
        """
        generation = self._decoder.refresh()
        if generation != self._generation:
            self._generation = generation
            self._forget()
        self.primary = None
        syscalls = execves = 0
        head = b"".join((b"audit(", stamp, b"): "))
        out = self.out
        at = writing.begin(out)
        for record in records:
            if at:
                at = writing.put(out, at, b",")
            # By name: unpacking is slow, compiled.
            number, text = record.type, record.text
            if number == EXECVE:
                execves += 1
                till = (
                    pieces.put_command(out, at, records, head)
                    if execves == 1
                    else writing.put(out, at, _FURTHER)
                )
            else:
                syscalls += number == SYSCALL
                till = (
                    self._usual(at, number, text, len(head))
                    if not record.truncated and scan.is_at(text, head, 0, len(text))
                    else -1
                )
            if till < 0:
                if number == EXECVE and [other.type for other in records].count(EXECVE) > 1:
                    return -1
                if number != SYSCALL and text.find(_KEY) >= 0:
                    return -1  # a key of another record than the one whose tail is known
                at = writing.back(out, at)
                till = writing.put(out, at, dumps(self._decoder.entry_of(record)))
            at = till
        return -1 if syscalls > 1 else at

    def _usual(self, to: int, number: int, text: bytes, begin: int) -> int:
        """Write a record whose words begin there in its short way; -1 where it has none, or another form."""
        if number == SYSCALL:
            return self._syscall(to, text, begin)
        if number == PATH:
            return self._path(to, text, begin)
        if number == PROCTITLE:
            return pieces.put_title(self.out, to, text, begin)
        if number == SOCKADDR:
            till = pieces.put_address(self.out, to, text, begin)
            if till >= 0:
                return till
        data = text
        return self._whole(to, number, data[begin : len(text)])

    # -- SYSCALL -------------------------------------------------------------------------------------

    def _syscall(self, to: int, text: bytes, begin: int) -> int:  # noqa: PLR0912, PLR0915 - one record, one way
        data, end = text, len(text)
        # Each step goes on where the one before has ended, and nowhere from 0: a form that does not fit.
        arch = pieces.word_behind(data, _ARCH, begin, end)
        number = pieces.number_behind(data, _CALL, arch, end)
        if not number:
            return -1
        if scan.is_at(data, _SUCCESS, number, end):
            success, outcome, code_at = b"yes", b"success", number + len(_SUCCESS)
        elif scan.is_at(data, _FAILURE, number, end):
            success, outcome, code_at = b"no", b"failure", number + len(_FAILURE)
        else:
            return -1
        code_end = pieces.result_at(data, code_at, end)
        a0_end = pieces.word_behind(data, _A0, code_end, end)
        a1_end = pieces.word_behind(data, _A1, a0_end, end)
        a2_end = pieces.word_behind(data, _A2, a1_end, end)
        a3_end = pieces.word_behind(data, _A3, a2_end, end)
        items_end = pieces.number_behind(data, _ITEMS, a3_end, end)
        ppid_end = pieces.number_behind(data, _PPID, items_end, end)
        pid_end = pieces.number_behind(data, _PID, ppid_end, end)
        if not pid_end or pid_end + 1 >= end or data[pid_end] != _SPACE:
            return -1
        rest = data[pid_end + 1 : end]
        tail = self._tails.get(rest)
        if tail is None:
            tail = self._tail(rest)
            if tail is None:
                return -1
        about = data[begin + len(_ARCH) : number]
        call = self._calls.get(about)
        if call is None:
            call = self._call(about)
        named, arguments = call
        out = self.out
        to = writing.put_three(out, to, b'{"type":"SYSCALL","fields":{', named, b',"success":"')
        # Only an error has a name; other results are as many as there are addresses and sizes.
        if data[code_at] == _MINUS:
            code = data[code_at:code_end]
            told = self._exits.get(code)
            if told is None:
                told = self._exit(code)
            to = writing.put_three(out, to, success, b'",', told)
        else:
            to = writing.put_two(out, to, success, b'",')
            to = writing.put_part(out, to, b'"exit":', data, code_at, code_end)
        if arguments:
            to = self._put_registers(to, text, about, arguments, code_end, a0_end, a1_end, a2_end, a3_end)
        else:
            to = writing.put_part(out, to, b',"a0":"', data, code_end + len(_A0), a0_end)
            to = writing.put_part(out, to, b'","a1":"', data, a0_end + len(_A1), a1_end)
            to = writing.put_part(out, to, b'","a2":"', data, a1_end + len(_A2), a2_end)
            to = writing.put_part(out, to, b'","a3":"', data, a2_end + len(_A3), a3_end)
            to = writing.put(out, to, b'"')
        # Without a call of __init__, as in `logformat`.
        primary = Primary.__new__(Primary)
        primary.ppid = data[items_end + len(_PPID) : ppid_end]
        primary.pid = data[ppid_end + len(_PID) : pid_end]
        primary.outcome, primary.tail = outcome, tail
        self.primary = primary
        to = writing.put_part(out, to, b',"items":', data, a3_end + len(_ITEMS), items_end)
        to = writing.put_two(out, to, b',"ppid":', primary.ppid)
        to = writing.put_three(out, to, b',"pid":', primary.pid, b",")
        return writing.put_two(out, to, tail.members, b"}}")

    def _put_registers(  # noqa: PLR0913 - where each of them ends
        self,
        to: int,
        text: bytes,
        about: bytes,
        arguments: tuple[_Place, ...],
        code_end: int,
        a0_end: int,
        a1_end: int,
        a2_end: int,
        a3_end: int,
    ) -> int:
        """Write the arguments of a call that has some with a meaning."""
        data, out = text, self.out
        a0, a1 = data[code_end + len(_A0) : a0_end], data[a0_end + len(_A1) : a1_end]
        a2, a3 = data[a1_end + len(_A2) : a2_end], data[a2_end + len(_A3) : a3_end]
        written = [a0, a1, a2, a3]
        values: list[bytes | None] = [None, None, None, None]
        for argument in arguments:
            place = argument[0]
            key = (about, place, written[place], written[argument[1]])
            known = self._arguments.get(key)
            if known is None:
                known = self._argument(argument[2], key)
            values[place] = known
        for at in range(4):
            value = values[at]
            if value is None:
                to = writing.put_two(out, to, b",", _REGISTERS[at])
                to = writing.put_two(out, to, written[at], b'"')
            else:
                to = writing.put_two(out, to, b",", value)
        return to

    def _call(self, about: bytes) -> tuple[bytes, tuple[_Place, ...]]:
        """Return the members that name a system call, and which of its arguments have a meaning."""
        arch, _, number = about.partition(_CALL)
        call = self._decoder.meanings.call(arch.decode(), int(number))
        entry = self._decoder.entry_of(
            Record(SYSCALL, b"audit(0.0:0): arch=%b syscall=%b a0=0 a1=0 a2=0 a3=0" % (arch, number))
        )
        fields = entry["fields"]
        members = {name: fields[name] for name in ("arch", "ARCH", "syscall", "SYSCALL") if name in fields}
        known = (dumps(members)[1:-1], tuple((each.place, each.other, each) for each in call.arguments))
        if _room(self._calls, CALLS):
            self._calls[about] = known
        return known

    def _argument(self, argument: Argument, key: tuple[bytes, int, bytes, bytes]) -> bytes:
        """Return an argument's members."""
        _, place, value, other = key
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

    def _path(self, to: int, text: bytes, begin: int) -> int:
        data, end = text, len(text)
        item_end = pieces.number_behind(data, _ITEM, begin, end)
        if not item_end or not scan.is_at(data, _NAME, item_end, end):
            return -1
        name_at = item_end + len(_NAME)
        name_end = scan.find(data, _SPACE, name_at, end)
        rest_at = inode_at = name_end + 1
        if name_end == name_at or rest_at >= end:
            return -1
        inode = pieces.number_behind(data, _INODE, rest_at, end)
        if inode and inode + 1 < end and data[inode] == _SPACE:
            rest_at = inode + 1
        rest = data[rest_at:end]
        members = self._paths.get(rest)
        if members is None:
            members = self._members(PATH, rest, _BEFORE_PATH)
            if len(rest) <= LONGEST and _room(self._paths, TAILS):
                self._paths[rest] = members
        if not members:
            return -1
        out = self.out
        to = writing.put_part(
            out, to, b'{"type":"PATH","fields":{"item":', data, begin + len(_ITEM), item_end
        )
        to = writing.put(out, to, b',"name":')
        if name_end - name_at == len(_NULL) and scan.is_at(data, _NULL, name_at, name_end):
            to = writing.put(out, to, b'"(null)"')
        else:
            to = pieces.put_quoted(out, to, text, name_at, name_end)
            if to < 0:
                return -1
        if rest_at > inode_at:
            to = writing.put_part(out, to, b',"inode":', data, inode_at + len(_INODE), inode)
        return writing.put_three(out, to, b",", members, b"}}")

    def _whole(self, to: int, number: int, body: bytes) -> int:
        """Write a record that other ones have been like, but for the stamp."""
        made = self._wholes.get((number, body))
        if made is None:
            made = self._new_whole(number, body)
            if len(body) <= LONGEST and _room(self._wholes, TAILS):
                self._wholes[number, body] = made
        return writing.put(self.out, to, made) if made else -1

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
