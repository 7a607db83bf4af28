# SPDX-License-Identifier: Apache-2.0
"""What runtimes say of their containers: its bounds, and the protocol of those who know.

Owns the checks that every value passes, on its way out of a state file and again on its way out of the helper
process. Never reads a file: that is `files`, for the runtimes beside it, in the helper process alone.

Everything here is decoration: the id is the fact. What does not pass a check is left out and never cut to fit, since
half a name is another name.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Protocol

from enricher.model import Known, Metadata

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enricher.enrich.places import Found

__all__ = [
    "CGROUP_MAX",
    "KEY_MAX",
    "LABELS_MAX",
    "VALUE_MAX",
    "Known",
    "Metadata",
    "Runtime",
    "is_cgroup",
    "known_from",
    "labels_of",
    "metadata_from",
    "word",
]

LABELS_MAX: Final = 64
KEY_MAX: Final = 256
VALUE_MAX: Final = 1024
"""Characters of a label's value, a name or an image."""
CGROUP_MAX: Final = 4096
"""Characters of a cgroup's path."""
SAID_MAX: Final = 4096
"""Characters of an answer's text that may hold labels."""
_SAID_LONGEST: Final = 65_536  # without labels, every character of the longest texts escaped


class Runtime(Protocol):
    """One kind of runtime, as its state files below one owner's directories tell of it."""

    @property
    def name(self) -> str:
        """What it is called in answers, where its files do not say otherwise."""
        ...

    def lookup(self, found: Found) -> Metadata | None:
        """Return what is said of this container; None where it is not known here, or where the files contradict."""
        ...

    def known(self) -> Iterable[Known]:
        """Everything in the state directories that names its cgroup."""
        ...


def word(value: object, limit: int = VALUE_MAX) -> str:
    """Return a name: printable text of at most `limit` characters; "" for anything else."""
    return value if isinstance(value, str) and len(value) <= limit and value.isprintable() else ""


def labels_of(value: object) -> tuple[tuple[str, str], ...]:
    """Return the pairs of a JSON object (or list of pairs) that can be labels: the first 64 in the order of keys."""
    if isinstance(value, dict):
        pairs: Iterable[object] = value.items()
    elif isinstance(value, list):
        pairs = value
    else:
        return ()
    found = {}
    for pair in pairs:
        if not (isinstance(pair, list | tuple) and len(pair) == 2):  # noqa: PLR2004 - a key and its value
            continue
        key, text = pair
        if word(key, KEY_MAX) and isinstance(text, str) and len(text) <= VALUE_MAX and _is_unicode(text):
            found[key] = text
    return tuple(sorted(found.items())[:LABELS_MAX])


def _is_unicode(text: str) -> bool:
    """Whether this can be written as UTF-8. JSON can escape halves of surrogate pairs, which cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_cgroup(path: object) -> bool:
    """Whether this is the normal path of a cgroup that can be a container's own.

    Not the root, nor what systemd makes for itself: a container without a cgroup of its own runs in one of those,
    and so does much else.
    """
    if not (isinstance(path, str) and path.startswith("/") and len(path) <= CGROUP_MAX and "\0" not in path):
        return False
    parts = path[1:].split("/")
    last = parts[-1]
    return (
        not any(part in {"", ".", ".."} for part in parts)
        and not last.endswith((".slice", ".service"))
        and not (last.endswith(".scope") and last.startswith(("session-", "init.")))
    )


def metadata_from(value: object) -> Metadata | None:
    """Return what JSON has made of a Metadata; None where it is no such thing."""
    if not isinstance(value, list) or len(value) != len(Metadata._fields):
        return None
    runtime, name, image, pairs, *pod = value
    texts = [word(text) for text in (runtime, name, image, *pod)]
    if texts != [runtime, name, image, *pod] or not runtime or not isinstance(pairs, list):
        return None
    labels = labels_of(pairs)
    if len(labels) != len(pairs):
        return None
    return Metadata(texts[0], texts[1], texts[2], labels, *texts[3:])


def known_from(value: object) -> Known | None:
    """Return what JSON has made of a Known; None where it is no such thing."""
    if not isinstance(value, list) or len(value) != len(Known._fields):
        return None
    runtime, ident, cgroup, rest = value
    metadata = metadata_from(rest)
    if metadata is None or not (word(runtime) and word(ident, KEY_MAX) and is_cgroup(cgroup)):
        return None
    return Known(runtime, ident, cgroup, metadata)


def said_text(said: Metadata | Known) -> str:
    """Return an answer as text that `said_from` reads. Of many labels, none."""
    text = json.dumps(said, separators=(",", ":"))
    if len(text) <= SAID_MAX:
        return text
    if isinstance(said, Known):
        return json.dumps(said._replace(metadata=said.metadata._replace(labels=())), separators=(",", ":"))
    return json.dumps(said._replace(labels=()), separators=(",", ":"))


def said_from(text: str) -> Metadata | Known | None:
    """Return what `said_text` wrote; None where it is no such thing, whoever wrote it."""
    if len(text) > _SAID_LONGEST:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return known_from(value) or metadata_from(value)
