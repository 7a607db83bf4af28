# SPDX-License-Identifier: Apache-2.0
"""The audit keys of a record: the ``-k`` labels of the rules that made it.

Owns finding ``key=`` in a record without taking the rest of it apart, so that a filter on keys is cheap
and still exact; how its value is written is the parser's matter. Never looks into what programs send
(``msg='...'``): a key there would let any program with CAP_AUDIT_WRITE label its own record as an
administrator's rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enricher.sources.audit import text as audit_text
from enricher.sources.audit.types import is_user

if TYPE_CHECKING:
    from enricher.model import Record

_KEY = b" key="
_words = audit_text.Words(execve=False)


class _Memory(dict[bytes, tuple[bytes, ...]]):
    """The keys in each ``key=...`` word seen. There are as many as rules, so few; bounded all the same."""

    LIMIT = 1024

    def __missing__(self, word: bytes) -> tuple[bytes, ...]:
        field = _words.parse(word)
        keys = tuple(filter(None, audit_text.keys_of(field))) if field else ()
        if len(self) >= self.LIMIT:
            self.clear()
        self[word] = keys
        return keys


_keys = _Memory()


def keys_of(record: Record) -> tuple[bytes, ...]:
    """Return the keys of one record in order, decoded; empty if it has none."""
    text = record.text
    begin = text.find(_KEY)
    if begin < 0 or is_user(record.type):
        return ()
    found: tuple[bytes, ...] = ()
    while begin >= 0:
        end = text.find(b" ", begin + 1)
        word = text[begin + 1 : end] if end >= 0 else text[begin + 1 :]
        found += _keys[word.partition(b"\x1d")[0]]  # auditd's ENRICHED log format goes on after 0x1d
        begin = text.find(_KEY, begin + 1)
    return found
