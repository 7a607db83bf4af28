# SPDX-License-Identifier: Apache-2.0
"""JSON encoding: one function, the same bytes whichever library does the work.

Owns the choice between orjson (about ten times faster, optional) and the standard library, and the
escaping both are held to. Never writes the bytes anywhere and knows nothing of what they say.

Every control character (Unicode category Cc) leaves as an escape. Both libraries already do that below
U+0020; U+007F..U+009F is legal raw in JSON, but U+009B opens an escape sequence on a terminal in
eight-bit mode, so those are escaped here. The rest of the text stays UTF-8.
"""

from __future__ import annotations

import importlib
import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Inside JSON these bytes can only stand in a string: DEL, and the UTF-8 form of U+0080..U+009F.
_RAW_CONTROL = re.compile(rb"\x7f|\xc2[\x80-\x9f]")

_stdlib_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _escaped(match: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % match.group(0)[-1]


def _stdlib(obj: object) -> bytes:
    return _stdlib_encode(obj).encode()


def _choose() -> Callable[[object], bytes]:
    """Return orjson's encoder, or the standard library's where orjson is missing or cannot be loaded."""
    try:
        encode: Callable[[object], bytes] = importlib.import_module("orjson").dumps
    except (ImportError, AttributeError):  # a build for another Python raises either
        return _stdlib
    return encode


# Chosen at the first call, not at import: a command that writes no JSON does not pay for the library.
_encode: Callable[[object], bytes] | None = None


def dumps(obj: object) -> bytes:
    """Encode dicts with string keys, lists, strings, integers, booleans and None as one line of JSON.

    Integers must fit in 64 bits and strings must hold no lone surrogates: callers decode with U+FFFD.
    """
    global _encode  # noqa: PLW0603 - the one lazily made choice of this process
    if _encode is None:
        _encode = _choose()
    encoded = _encode(obj)
    if b"\xc2" in encoded or b"\x7f" in encoded:
        return _RAW_CONTROL.sub(_escaped, encoded)
    return encoded
