# SPDX-License-Identifier: Apache-2.0
"""A message to audit that the kernel refused, as the member ``refused`` of an event of type USER_REFUSED.

Owns how its text is shown. The sender is anybody who may make a user namespace: of what he wrote nothing is read, no
field of it is taken for a fact, and it is kept as one text in which every byte that is no text shows as such.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enricher.enrich.decode import type_name
from enricher.enrich.values import text_of

if TYPE_CHECKING:
    from enricher.enrich.shape import RefusedEntry
    from enricher.facts import Refused


def refused_entry(refused: Refused) -> RefusedEntry:
    """Return the member: ``text`` is empty for a type that no program sends as a record.

    ``length`` is how many bytes were sent, of which 1024 at most are told; the NULs that C programs send behind a
    text are in it, and not in the text.
    """
    text, exact = text_of(refused.text.rstrip(b"\0"))
    entry: RefusedEntry = {"type": type_name(refused.record_type), "text": text, "length": refused.length}
    if exact is not None:
        entry["text_hex"] = exact
    return entry
