# SPDX-License-Identifier: Apache-2.0
"""JSON: the same bytes from both libraries, one line per event, no raw control character."""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Callable

import pytest

from enricher import codec
from enricher.enrich.native import build
from enricher.route.views.native_json import render
from tests.unit.sample_events import HOST, context, event, exec_event

SAMPLES: list[object] = [
    {},
    {"a": [1, -1, 0, 2**53, -(2**53), 2**63 - 1, True, False, None, "", [], {}]},
    {'quote"back\\slash/': "\u2028\u2029\ufffd\ufeff"},
    {"all": "".join(chr(code) for code in range(0x300))},
    {"wide": "你好 \U0001f600 \U0010ffff é e\u0301"},
    {chr(code): chr(code) for code in range(0xA1)},
]


@pytest.fixture(params=["orjson", "stdlib"])
def encode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[object], bytes]:
    if request.param == "orjson":
        pytest.importorskip("orjson")
        monkeypatch.setattr(codec, "_encode", None)
    else:
        monkeypatch.setattr(codec, "_encode", codec._stdlib)
    return codec.dumps


@pytest.mark.parametrize("sample", SAMPLES)
def test_output_reads_back_and_has_no_raw_control_character(
    encode: Callable[[object], bytes], sample: object
) -> None:
    encoded = encode(sample)
    assert json.loads(encoded) == sample
    assert not [char for char in encoded.decode() if unicodedata.category(char) == "Cc"]


def both(sample: object, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, bytes]:
    pytest.importorskip("orjson")
    with monkeypatch.context() as patch:
        patch.setattr(codec, "_encode", None)
        fast = codec.dumps(sample)
        patch.setattr(codec, "_encode", codec._stdlib)
        return fast, codec.dumps(sample)


@pytest.mark.parametrize("sample", SAMPLES)
def test_both_libraries_write_the_same_bytes(sample: object, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, slow = both(sample, monkeypatch)
    assert fast == slow


def test_both_libraries_agree_on_any_text(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(22)  # noqa: S311 - repeatable on purpose
    for _ in range(500):
        text = rng.randbytes(rng.randrange(60)).decode("utf-8", "replace")
        fast, slow = both({"text": text, "n": rng.randrange(-(2**53), 2**53)}, monkeypatch)
        assert fast == slow


def test_terminal_introducers_are_escaped(encode: Callable[[object], bytes]) -> None:
    assert encode(["\x1b[31m\x9b31m\x7f"]) == b'["\\u001b[31m\\u009b31m\\u007f"]'
    assert encode(["\x7f"]) == b'["\\u007f"]'
    assert encode(["\xa0é\xc2"]) == '["\xa0é\xc2"]'.encode()  # their UTF-8 also begins with or holds 0xC2


def test_without_orjson_the_standard_library_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    monkeypatch.setattr(codec, "_encode", None)
    assert codec.dumps({"a": "ä"}) == '{"a":"ä"}'.encode()
    assert codec._encode is codec._stdlib


def test_one_event_is_one_line() -> None:
    body = b"cwd=" + b"/a\nb\rc\x1b[2J".hex().upper().encode()
    native = build(event((1307, body), context=context(comm=b"x\ny")), HOST)
    line = render(native)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert b"\r" not in line
    assert json.loads(line) == native


def test_the_numbers_of_an_event_survive_a_double() -> None:
    ids = (2**63 + 1, *[0] * 9)
    native = build(exec_event(context(ids=ids, cgroup_id=2**64 - 1)), HOST)
    read = json.loads(render(native), parse_int=lambda digits: int(float(digits)))
    assert read == native
    assert read["namespaces"]["mnt"]["id"] == "9223372036854775809"
    assert read["cgroup"]["id"] == "18446744073709551615"
