# SPDX-License-Identifier: Apache-2.0
"""What JSON is made of a record's words alone: quoted values, titles, command lines; and how far a number or word goes.

Owns forms, and no field: where one is not the usual, None or 0 says so and `fragments` takes the long way. Never
remembers anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher import scan
from enricher.codec import dumps
from enricher.enrich.values import SAFE_DIGITS
from enricher.sources.audit.text import EXECVE

if TYPE_CHECKING:
    from enricher.model import Record

_TITLE: Final = b"proctitle="
_COUNT: Final = b"argc="
_NAMES: Final = tuple(b"a%d=" % index for index in range(256))
_SPACE: Final = 0x20
_QUOTE: Final = 0x22
_MINUS: Final = 0x2D
_ZERO: Final = 0x30
_NO_ARGUMENTS: Final = (b"(null)", b"?")


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


def quoted_at(text: bytes, at: int, end: int) -> bytes | None:  # noqa: PLR0911 - one for each form
    """Return the JSON of a value, a byte at least, that is quoted or in hex; None where it is neither, or not UTF-8."""
    data = text
    if data[at] == _QUOTE:
        last = end - 1
        if last == at or data[last] != _QUOTE:
            return None
        if scan.is_plain(data, at + 1, last, _SPACE):
            return data[at:end]  # JSON quotes it in the same way
        value = data[at + 1 : last]
        if value.find(b'"') >= 0 or value.find(b"\x1d") >= 0:
            return None
    else:
        found = scan.unhex(data, at, end)
        if found is None:
            return None
        value = found
        if scan.is_plain(value, 0, len(value), _SPACE):
            return b"".join((b'"', value, b'"'))
    try:
        return dumps(value.decode())
    except UnicodeDecodeError:
        return None


def title(text: bytes, begin: int) -> bytes | None:
    """Make a PROCTITLE record whose fields begin there; None where it is not of the usual form."""
    data, end = text, len(text)
    at = begin + len(_TITLE)
    if at >= end or not scan.is_at(data, _TITLE, begin, end):
        return None
    if data[at] == _QUOTE:
        last = end - 1
        if last == at or data[last] != _QUOTE or scan.find(data, _SPACE, at, last) != last:
            return None
        value = data[at + 1 : last]
    else:
        found = scan.unhex(data, at, end)
        if found is None:
            return None
        value = found
    size = len(value)
    if value in _NO_ARGUMENTS or not scan.is_plain(value, 0, size, 0):
        return None
    whole = listed = value
    if scan.find(value, 0, 0, size) != size:
        whole, listed = value.replace(b"\0", b"\\u0000"), value.replace(b"\0", b'","')
    return b"".join((b'{"type":"PROCTITLE","fields":{"proctitle":"', whole, b'","ARGV":["', listed, b'"]}}'))


def command(records: list[Record], head: bytes) -> bytes | None:
    """Make the first EXECVE record, with the whole command line of an event; None where it is not the usual one.

    It may go on in further records, but each argument is in one piece.
    """
    shown: list[bytes] = []
    count = None
    for record in records:
        if record.type != EXECVE:
            continue
        data = text = record.text
        end = len(text)
        if record.truncated or not scan.is_at(data, head, 0, end):
            return None
        at = len(head)
        while end > at and data[end - 1] == _SPACE:
            end -= 1
        while at < end and data[at] == _SPACE:
            at += 1
        if count is None:
            stop = number_behind(data, _COUNT, at, end)
            if not stop or (stop < end and data[stop] != _SPACE):
                return None
            count = data[at + len(_COUNT) : stop]
            at = stop + 1
            if stop == end:
                continue
        if not _put_arguments(text, at, end, shown):
            return None
    if count is None or int(count) != len(shown):
        return None
    return b"".join((b'{"type":"EXECVE","fields":{"argc":', count, b',"ARGV":[', b",".join(shown), b"]}}"))


def _put_arguments(text: bytes, at: int, end: int, shown: list[bytes]) -> bool:
    """Add the JSON of the arguments that stand from `at` on to those before; False where one has another form."""
    data = text
    while at <= end:
        stop = scan.find(data, _SPACE, at, end)
        index = len(shown)
        name = _NAMES[index] if index < len(_NAMES) else b"a%d=" % index
        value_at = at + len(name)
        if value_at >= stop or not scan.is_at(data, name, at, stop):
            return False
        value = quoted_at(text, value_at, stop)
        if value is None:
            return False
        shown.append(value)
        at = stop + 1
    return True
