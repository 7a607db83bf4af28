# SPDX-License-Identifier: Apache-2.0
"""Text from pieces: what each step writes. That the compiled steps write the same is test_forms.py's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from enricher import writing

_BYTES = st.binary(max_size=40)


@given(_BYTES, _BYTES, _BYTES, st.integers(0, 2**64 - 1), st.data())
def test_any_pieces(first: bytes, second: bytes, third: bytes, number: int, draw: st.DataObject) -> None:
    end = draw.draw(st.integers(0, len(third)))
    start = draw.draw(st.integers(0, end))
    out = writing.fresh()
    at = writing.put(out, writing.begin(out), first)
    mark = writing.put_two(out, at, second, third)
    at = writing.put_three(out, mark, third, second, first)
    at = writing.back(out, mark)
    at = writing.put_part(out, at, second, third, start, end)
    at = writing.put_number(out, at, first, number)
    at = writing.put_replaced(out, at, third + b"\0" + first, b"<>")
    whole = (
        first
        + second
        + third
        + second
        + third[start:end]
        + first
        + str(number).encode()
        + third.replace(b"\0", b"<>")
        + b"<>"
        + first.replace(b"\0", b"<>")
    )
    assert writing.taken(out, at) == whole
    other = writing.fresh()
    till = writing.put(other, writing.begin(other), third)
    assert writing.taken_with(out, at, other, till, second) == whole + third + second
    assert writing.taken(out, writing.put(out, writing.begin(out), third)) == third
