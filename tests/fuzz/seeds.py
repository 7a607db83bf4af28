# SPDX-License-Identifier: Apache-2.0
"""Where the fuzzer begins: inputs of every form, made from the invented records of the unit tests."""

from __future__ import annotations

import bz2
import gzip
import lzma

from enricher.sources.audit.types import text_name_of
from tests.unit import sample_events

WORDS = [
    *[b"audit(", b"):", b"type=", b"msg=", b" msg='", b"'", b"node=", b"UNKNOWN[", b"SYSCALL", b"PROCTITLE"],
    *[b"EOE", b"1772366400.042:9001", b"\x1d", b"\n", b"\r\n", b"\x00", b"audit: ", b"[   1.5] ", b"(null)"],
    *[b'="', b'" ', b"comm=", b"a0=", b"a1[0]=", b"proctitle=", b"key=", b"7F", b"\x1f\x8b\x08", b"BZh9"],
    *[b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"],
]

_RECORDS = [*sample_events.EXEC, (1112, sample_events.USER_LOGIN), (1400, b'apparmor="DENIED" name="a b"')]


def record_texts() -> list[bytes]:
    """A type in two bytes, then the text."""
    made = [number.to_bytes(2, "little") + sample_events.HEAD + body for number, body in _RECORDS]
    return [b"", *made, made[0] + b'\x1dARCH=x86_64 SYSCALL=execve UID="root"']


def joins() -> list[bytes]:
    """Pairs of bytes, see targets.Feed: an event in its order; one whose count is early; one of one record."""
    return [
        b"",
        bytes([0, 2, 1, 0, 1, 8, 1, 28, 1, 16, 1, 7, 1]),
        bytes([1, 28, 1, 2, 1, 7, 1, 0, 1, 14, 1, 8, 1, 255, 1, 16, 1, 7, 1]),
        bytes([0, 3, 2, 24, 2, 5, 0, 7, 0]),
    ]


def logs() -> list[bytes]:
    """Logs in every form of `enricher.sources.logformat`."""
    names = [(text_name_of(number).encode(), number, sample_events.HEAD + body) for number, body in _RECORDS]
    auditd = b"".join(b"type=%b msg=%b\n" % (name, text) for name, _, text in names)
    kernel = b"".join(b"[   12.345678] audit: type=%d %b\n" % (number, text) for _, number, text in names)
    nodes = b"".join(b"node=web1 type=%b msg=%b\r\n" % (name, text) for name, _, text in names)
    own = b"type=UNKNOWN[1390] msg=%brecord=1\n\n\0\0%b" % (sample_events.HEAD, auditd)
    return [b"", auditd, kernel, nodes, own, auditd.replace(b"9001", b"9002") + auditd]


def packed() -> list[bytes]:
    """A log in each packing, two of them in one file, and much in few bytes."""
    text = logs()[1]
    single = [gzip.compress(text, mtime=0), bz2.compress(text), lzma.compress(text)]
    return [*single, *(each + each for each in single), bz2.compress(text * 500)]
