# SPDX-License-Identifier: Apache-2.0
"""Native JSON: one event, one line.

Owns the line form (JSON, then one newline, no newline inside) and nothing of the content: the event is
built by `enrich.native` and encoded by `codec`. Never adds, drops or reorders a member.

A consumer may split the stream at newline bytes: inside JSON they only exist as escapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enricher.codec import dumps

if TYPE_CHECKING:
    from enricher.enrich.shape import NativeEvent


def render(native: NativeEvent) -> bytes:
    """Return the event as one line of JSON with its newline."""
    return dumps(native) + b"\n"
