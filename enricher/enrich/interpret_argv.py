# SPDX-License-Identifier: Apache-2.0
"""The command line: ``ARGV`` from the EXECVE records of one event, and from PROCTITLE.

Owns the putting together of arguments that the kernel spread over records (``a0`` .. in one, ``a500`` .. in the
next) or over pieces (``a1_len=``, ``a1[0]=``, ``a1[1]=``). Never gives half an answer: either every field fits
and the list holds all arguments, or there is no list and the fields stay as they are.

What fits: ``argc`` is a number, no argument stands twice, none is beyond ``argc``, the pieces of one
are all there in order and as long together as the kernel said. Arguments that never came, because a record
was lost, are null; of more than `MOST_MISSING` the list would be made of nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enricher.enrich.shape import FieldValue
    from enricher.sources.audit.text import Field

MOST_MISSING: Final = 4096

_NAME: Final = re.compile(r"a(0|[1-9][0-9]{0,9})(_len|\[(0|[1-9][0-9]{0,9})\])?").fullmatch


def is_argument(name: str) -> bool:
    """Return whether a field of EXECVE is an argument, a piece of one, or its length."""
    return _NAME(name) is not None


class _Misfit(Exception):
    """A field that does not fit."""


def arguments(records: Iterable[Iterable[Field]]) -> list[bytes | None] | None:
    """Return the arguments that the EXECVE records of one event hold, None where they do not fit."""
    whole: dict[int, bytes] = {}
    pieces: dict[int, list[bytes]] = {}
    lengths: dict[int, int] = {}
    count = -1
    try:
        for fields in records:
            for field in fields:
                if field.name == "argc":
                    count = _count(field.value, count)
                elif (match := _NAME(field.name)) is not None:
                    _take(field, match, whole, pieces, lengths)
        for index, parts in pieces.items():
            if index in whole or not _is_as_long(parts, lengths.pop(index, None)):
                return None
            whole[index] = b"".join(parts)
    except _Misfit:
        return None
    if lengths or count < 0 or count - len(whole) > MOST_MISSING or (whole and max(whole) >= count):
        return None
    return [whole.get(index) for index in range(count)]


def _count(value: bytes, before: int) -> int:
    if before >= 0 or not value.isdigit() or len(value) > 10:  # noqa: PLR2004 - argc is an int
        raise _Misfit
    return int(value)


def _take(
    field: Field,
    match: re.Match[str],
    whole: dict[int, bytes],
    pieces: dict[int, list[bytes]],
    lengths: dict[int, int],
) -> None:
    index = int(match[1])
    if match[2] is None:
        if index in whole:
            raise _Misfit
        whole[index] = field.value
    elif match[3] is None:
        if index in lengths or not field.value.isdigit() or len(field.value) > 10:  # noqa: PLR2004
            raise _Misfit
        lengths[index] = int(field.value)
    else:
        parts = pieces.setdefault(index, [])
        if int(match[3]) != len(parts):
            raise _Misfit
        parts.append(field.value)


def _is_as_long(parts: list[bytes], said: int | None) -> bool:
    """The kernel gives the length in characters of the record: twice the bytes where it wrote hex."""
    size = sum(map(len, parts))
    return said in (size, 2 * size)


def title(value: bytes) -> list[bytes | None]:
    """Return the arguments in a PROCTITLE, which has them separated by NUL. The last may have been cut."""
    return list(value.split(b"\0"))


def shown(found: list[bytes | None]) -> dict[str, FieldValue]:
    """Return ``ARGV`` and, where an argument is not UTF-8, ``ARGV_hex``, a list as long, null where exact."""
    texts: list[FieldValue | None] = []
    exact: list[FieldValue | None] = []
    damaged = False
    for argument in found:
        hexed = None
        if argument is None:
            texts.append(None)
        else:
            try:
                texts.append(argument.decode())
            except UnicodeDecodeError:
                texts.append(argument.decode("utf-8", "replace"))
                hexed = argument.hex().upper()
                damaged = True
        exact.append(hexed)
    return {"ARGV": texts, "ARGV_hex": exact} if damaged else {"ARGV": texts}
