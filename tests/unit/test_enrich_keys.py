# SPDX-License-Identifier: Apache-2.0
"""Audit keys, found without parsing the record."""

from __future__ import annotations

import pytest

from enricher.enrich.keys import _keys, keys_of
from enricher.model import Record
from tests.unit.sample_events import HEAD


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        (b'uid=0 key="exec"', (b"exec",)),
        (b'op=add_rule key="k" list=4 res=1', (b"k",)),
        (b"uid=0 key=(null)", ()),
        (b'uid=0 key="(null)"', (b"(null)",)),  # a rule may really have that key
        (b"uid=0 key=6578656301726F6F74", (b"exec", b"root")),
        (b"uid=0 key=6120C3A4", ("a ä".encode(),)),
        (b"uid=0 key=6501", (b"e",)),
        (b'uid=0 key="a" key="b"', (b"a", b"b")),
        (b'uid=0 key="a"\x1dUID="root"', (b"a",)),
        (b'uid=0 key="', ()),
        (b"uid=0 key=", ()),
        (b'uid=0 keys="a" mykey="b"', ()),
        (b"uid=0", ()),
    ],
)
def test_keys(body: bytes, keys: tuple[bytes, ...]) -> None:
    assert keys_of(Record(1300, HEAD + body)) == keys


def test_a_program_cannot_claim_an_administrators_key() -> None:
    body = b"pid=1 uid=0 msg='op=x key=\"root-exec\" res=success'"
    assert keys_of(Record(1112, HEAD + body)) == ()


def test_the_memory_is_bounded() -> None:
    for number in range(_keys.LIMIT + 10):
        keys_of(Record(1300, HEAD + b'x=1 key="k%d"' % number))
    assert len(_keys) <= _keys.LIMIT
