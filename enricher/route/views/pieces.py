# SPDX-License-Identifier: Apache-2.0
"""What JSON is made of a record's words alone: quoted values, titles, command lines; and how far a number or word goes.

Owns forms, and no field: where one is not the usual, 0, or -1 where a text is written, says so and `fragments` takes
the long way. Never remembers anything.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final

from enricher import scan, writing
from enricher.codec import dumps
from enricher.enrich.values import SAFE_DIGITS
from enricher.sources.audit.text import EXECVE

if TYPE_CHECKING:
    from enricher.model import Record
    from enricher.writing import Text

_TITLE: Final = b"proctitle="
_COUNT: Final = b"argc="
_ADDRESS: Final = b"saddr="
_AF_LOCAL: Final = 1
_AF_INET: Final = 2
_AF_INET6: Final = 10
_INET: Final = 8  # bytes up to the end of the address
_INET6: Final = 24
_SCOPED: Final = 28
_ZEROS: Final = bytes(4)
_NAMES: Final = tuple(b"a%d=" % index for index in range(256))
_SPACE: Final = 0x20
_QUOTE: Final = 0x22
_MINUS: Final = 0x2D
_ZERO: Final = 0x30
_NO_ARGUMENTS: Final = (b"(null)", b"?")
_SHORT: Final = 6
"""Bytes of the longest of them."""


def number_behind(data: bytes, name: bytes, at: int, end: int) -> int:
    """Return where a number ends that stands at `at` behind this name; 0 where it does not, or `at` is 0.

    As the kernel prints it: JSON has the same digits.
    """
    if not at or not scan.is_at(data, name, at, end):
        return 0
    begin = at + len(name)
    stop = scan.digits(data, begin, end)
    if stop == begin or stop - begin > SAFE_DIGITS or (data[begin] == _ZERO and stop - begin > 1):
        return 0
    return stop


def word_behind(data: bytes, name: bytes, at: int, end: int) -> int:
    """Return where letters and digits end that stand at `at` behind this name; 0 as `number_behind`."""
    if not at or not scan.is_at(data, name, at, end):
        return 0
    begin = at + len(name)
    stop = scan.word(data, begin, end)
    return stop if stop > begin else 0


def result_at(data: bytes, at: int, end: int) -> int:
    """Return where the number ends that stands there, perhaps a negative one; 0 as `number_behind`."""
    if at < end and data[at] == _MINUS:
        stop = number_behind(data, b"-", at, end)
        return 0 if stop and data[at + 1] == _ZERO else stop
    return number_behind(data, b"", at, end)


def put_quoted(out: Text, to: int, text: bytes, at: int, end: int) -> int:  # noqa: PLR0911 - one for each form
    """Write the JSON of a value, a byte at least, that is quoted or in hex; -1 where it is neither, or not UTF-8."""
    data = text
    if data[at] == _QUOTE:
        last = end - 1
        if last == at or data[last] != _QUOTE:
            return -1
        if scan.is_plain(data, at + 1, last, _SPACE):
            return writing.put_part(out, to, b"", data, at, end)  # JSON quotes it in the same way
        value = data[at + 1 : last]
        if value.find(b'"') >= 0 or value.find(b"\x1d") >= 0:
            return -1
    else:
        found = scan.unhex(data, at, end)
        if found is None:
            return -1
        value = found
        if scan.is_plain(value, 0, len(value), _SPACE):
            return writing.put_three(out, to, b'"', value, b'"')
    try:
        shown: bytes = dumps(value.decode())
    except UnicodeDecodeError:
        return -1
    return writing.put(out, to, shown)


def put_title(out: Text, to: int, text: bytes, begin: int) -> int:
    """Write a PROCTITLE record whose fields begin there; -1 where it is not of the usual form."""
    data, end = text, len(text)
    at = begin + len(_TITLE)
    if at >= end or not scan.is_at(data, _TITLE, begin, end):
        return -1
    if data[at] == _QUOTE:
        last = end - 1
        if last == at or data[last] != _QUOTE or scan.find(data, _SPACE, at, last) != last:
            return -1
        value = data[at + 1 : last]
    else:
        found = scan.unhex(data, at, end)
        if found is None:
            return -1
        value = found
    size = len(value)
    if (size <= _SHORT and value in _NO_ARGUMENTS) or not scan.is_plain(value, 0, size, 0):
        return -1
    to = writing.put(out, to, b'{"type":"PROCTITLE","fields":{"proctitle":"')
    to = writing.put_replaced(out, to, value, b"\\u0000")
    to = writing.put(out, to, b'","ARGV":["')
    to = writing.put_replaced(out, to, value, b'","')
    return writing.put(out, to, b'"]}}')


def put_command(out: Text, to: int, records: list[Record], head: bytes) -> int:  # noqa: C901 - one record, one way
    """Write the first EXECVE record, with the whole command line of an event; -1 where it is not the usual one.

    It may go on in further records, but each argument is in one piece.
    """
    shown = 0
    count = -1
    for record in records:
        if record.type != EXECVE:
            continue
        data = text = record.text
        end = len(text)
        if record.truncated or not scan.is_at(data, head, 0, end):
            return -1
        at = len(head)
        while end > at and data[end - 1] == _SPACE:
            end -= 1
        while at < end and data[at] == _SPACE:
            at += 1
        if count < 0:
            stop = number_behind(data, _COUNT, at, end)
            if not stop or (stop < end and data[stop] != _SPACE):
                return -1
            start = at + len(_COUNT)
            count = scan.number(data, start, stop)
            to = writing.put_part(out, to, b'{"type":"EXECVE","fields":{"argc":', data, start, stop)
            to = writing.put(out, to, b',"ARGV":[')
            at = stop + 1
            if stop == end:
                continue
        while at <= end:
            stop = scan.find(data, _SPACE, at, end)
            name = _NAMES[shown] if shown < len(_NAMES) else b"a%d=" % shown
            value_at = at + len(name)
            if value_at >= stop or not scan.is_at(data, name, at, stop):
                return -1
            if shown:
                to = writing.put(out, to, b",")
            to = put_quoted(out, to, text, value_at, stop)
            if to < 0:
                return -1
            shown += 1
            at = stop + 1
    return writing.put(out, to, b"]}}") if count == shown else -1


def put_address(out: Text, to: int, text: bytes, begin: int) -> int:  # noqa: PLR0911 - one for each form
    """Write a SOCKADDR record of a socket of the network's or a file's; -1 for any other, and for unusual ones.

    What the bytes mean is `enrich.interpret_sockaddr`'s to say.
    """
    data, end = text, len(text)
    at = begin + len(_ADDRESS)
    if at >= end or not scan.is_at(data, _ADDRESS, begin, end):
        return -1
    found = scan.unhex(data, at, end)
    if found is None:
        return -1
    socket, size = found, len(found)
    if size <= 2 or socket[1]:  # noqa: PLR2004 - the family's bytes
        return -1
    family = socket[0]
    if family == _AF_INET and size >= _INET:
        to = writing.put_part(out, to, b'{"type":"SOCKADDR","fields":{"saddr":"', data, at, end)
        to = writing.put_number(out, to, b'","SADDR":{"fam":"inet","addr":"', socket[4])
        to = writing.put_number(out, to, b".", socket[5])
        to = writing.put_number(out, to, b".", socket[6])
        to = writing.put_number(out, to, b".", socket[7])
        to = writing.put_number(out, to, b'","port":', socket[2] << 8 | socket[3])
        return writing.put(out, to, b"}}}")
    if family == _AF_INET6 and size >= _INET6 and scan.is_at(socket, _ZEROS, 4, 8):
        if size >= _SCOPED and not scan.is_at(socket, _ZEROS, 24, 28):
            return -1
        shown = str(IPv6Address(found[8:24])).encode()
        to = writing.put_part(out, to, b'{"type":"SOCKADDR","fields":{"saddr":"', data, at, end)
        to = writing.put_two(out, to, b'","SADDR":{"fam":"inet6","addr":"', shown)
        to = writing.put_number(out, to, b'","port":', socket[2] << 8 | socket[3])
        return writing.put(out, to, b"}}}")
    stop = scan.find(socket, 0, 2, size)
    if family == _AF_LOCAL and stop > 2 and scan.is_plain(socket, 2, stop, _SPACE):  # noqa: PLR2004 - as above
        to = writing.put_part(out, to, b'{"type":"SOCKADDR","fields":{"saddr":"', data, at, end)
        to = writing.put_part(out, to, b'","SADDR":{"fam":"local","path":"', socket, 2, stop)
        return writing.put(out, to, b'"}}}')
    return -1
