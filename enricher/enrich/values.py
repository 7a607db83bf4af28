# SPDX-License-Identifier: Apache-2.0
"""One value as JSON has it: which fields are numbers, and what happens to bytes that are no text.

Owns the table of decimal fields. Never interprets a value, and never looks at another field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher.enrich.shape import LARGEST_NUMBER
from enricher.sources.audit.text import Encoding

if TYPE_CHECKING:
    from enricher.enrich.shape import Value
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

SOCKADDR: Final = 1306
PLACES: Final = ("a0", "a1", "a2", "a3")
"""The registers with a system call's arguments, in SYSCALL."""

SAFE_DIGITS: Final = 15
"""Any number of so many digits is below 2^53."""

_ZERO: Final = b"0"[0]


def value_of(name: str, value: bytes) -> Value:
    """Return the JSON value of a field that was neither quoted nor hex. Raises UnicodeDecodeError."""
    if name in NUMBERS:
        digits = value[1:] if value[:1] == b"-" else value
        # A leading zero or a lone sign is not how the kernel prints a number: text, so that no byte is lost.
        if digits.isdigit() and (digits[0] != _ZERO or value == b"0"):
            if len(digits) <= SAFE_DIGITS:
                return int(value)
            if len(digits) == SAFE_DIGITS + 1 and abs(int(value)) <= LARGEST_NUMBER:
                return int(value)
    return value.decode()


def text_of(value: bytes) -> tuple[str, str | None]:
    """Return a value as text and, when the text does not show all of it, its bytes in hex."""
    try:
        return value.decode(), None
    except UnicodeDecodeError:
        return value.decode("utf-8", "replace"), value.hex().upper()


def shown_of(number: int, field: Field) -> tuple[Value, str | None]:
    """Return the JSON value of a field of a record of type `number`, and its bytes in hex if it shows not all."""
    name, value, encoding = field
    if encoding is Encoding.PLAIN:
        try:
            return value_of(name, value), None
        except UnicodeDecodeError:
            return text_of(value)
    if number == SOCKADDR and name == "saddr" and encoding is Encoding.HEX:
        return value.hex().upper(), None  # a structure, not a text
    return text_of(value)
