# SPDX-License-Identifier: Apache-2.0
"""Looking for bytes: what each function says, told byte by byte. That the compiled ones agree is test_forms.py's."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher import scan

_BYTES = st.binary(max_size=40) | st.text(alphabet="a0. :)(\t\n\x1d\x7f", max_size=40).map(str.encode)


@given(_BYTES, st.data())
def test_of_any_bytes(data: bytes, draw: st.DataObject) -> None:
    end = draw.draw(st.integers(0, len(data)))
    at = draw.draw(st.integers(0, end))
    byte = draw.draw(st.integers(0, 255))
    piece = data[at:end]
    assert scan.find(data, byte, at, end) == next((i for i in range(at, end) if data[i] == byte), end)
    assert scan.is_at(data, piece, at, end)
    assert not scan.is_at(data, piece + b"x", at, end)
    assert scan.is_clean(data, at, end) == all(each == 9 or 32 <= each < 127 for each in piece)
    plain = all(each == byte or (32 <= each < 127 and each not in b'"\\') for each in piece)
    assert scan.is_plain(data, at, end, byte) == plain
    assert scan.digits(data, at, end) == at + len(re.match(rb"\d*", piece)[0])  # type: ignore[index]
    assert scan.word(data, at, end) == at + len(re.match(rb"[0-9a-zA-Z]*", piece)[0])  # type: ignore[index]
    upper = len(piece) % 2 == 0 and re.fullmatch(rb"[0-9A-F]*", piece)
    assert scan.unhex(data, at, end) == (bytes.fromhex(piece.decode()) if upper else None)
    if re.fullmatch(rb"[0-9]{1,18}", piece):
        assert scan.number(data, at, end) == int(piece)
    found = re.match(rb"(\d{1,19}\.\d{1,9}:\d{1,19})\):", piece)
    assert scan.stamp_end(data, at, end) == (at + found.end(1) if found else 0)


@pytest.mark.parametrize("stamp", [b"1.2:3", b"%d.%d:%d" % (10**18, 10**8, 10**18)])
def test_a_stamp(stamp: bytes) -> None:
    text = b"audit(" + stamp + b"): a"
    assert scan.stamp_end(text, 6, len(text)) == 6 + len(stamp)
    assert scan.stamp_end(text, 6, len(text) - 3) == 0, "the colon is beyond the end"
    for wrong in (
        b"1" + stamp + b"0" * 19,
        stamp + b" ",
        stamp.replace(b".", b""),
        stamp.replace(b":", b" "),
    ):
        text = b"audit(" + wrong + b"): a"
        assert scan.stamp_end(text, 6, len(text)) == 0


@given(st.binary(max_size=40))
def test_hex_there_and_back(content: bytes) -> None:
    written = b"<" + content.hex().upper().encode() + b">"
    assert scan.unhex(written, 1, len(written) - 1) == content
    assert scan.unhex(written, 0, len(written) - 1) is None
