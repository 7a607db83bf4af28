# SPDX-License-Identifier: Apache-2.0
"""What of an event a route passes on: the members it keeps, and those it hides.

Owns both choices, made ready once and put to a copy of the native event before any schema sees it. Never changes the
event itself, and never what says which event it is.

What comes out is still valid by the published schema. So a member that the schema requires stays where its object does,
``where`` keeps what it rests on (a container's ``id``, a cgroup's ``id`` and ``path``), every record keeps its
``type``, and a loss or a notice is told whole. A hidden text is ``[redacted]``; a number, and a word that the schema
lists, cannot say so and is left out; where the schema has it required, hiding it is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from enricher.errors import UsageError
from enricher.route import paths
from enricher.route.recordfields import REDACTED, RecordFields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enricher.enrich.shape import NativeEvent, RecordEntry
    from enricher.route.paths import Node

Tree = dict[str, "Tree | None"]
"""What is kept of an object, by name; None: all of the member."""

Hidden = dict[str, "Hidden | bool"]
"""What is hidden of an object. True: its texts say so; False: it is left out, since it could not be valid."""

_RESTS_ON: Final = ("container.id", "cgroup.id", "cgroup.path", "namespace.ino")
"""Kept where they are there: `where` and ``enrichment`` would contradict an event without them."""

_WHOLE: Final = ("lost", "notice")
_NOT_TO_HIDE: Final = ("cgroup", "container", "namespaces", "namespace", "host.boot_id", "records")
"""What is not required by name, but by what else the event says; and of ``records`` one hides fields."""

_OF_RECORD: Final = ("raw", "raw_hex", "undecoded", "truncated")
_NEVER_EMPTY: Final = "labels"


class Selection:
    """Raises UsageError, with a hint, for a path that names nothing or cannot be hidden.

    Without `fields` everything is kept. Paths are those of the native event, ``records.fields.NAME`` and
    ``records.TYPE.NAME`` (`route.recordfields`).
    """

    def __init__(self, fields: Sequence[str] = (), redact: Sequence[str] = ()) -> None:
        self._all = not fields
        self._records = RecordFields()
        self._record_members: set[str] = set()
        self._tree: Tree = dict.fromkeys(paths.required(paths.root()))
        self._tree["namespaces"] = {}
        self._every_record = False
        for path in (*fields, *_RESTS_ON, *_WHOLE) if fields else ():
            if not self._is_of_records(path, self._records, self._record_members):
                self._keep(path)
        self._hidden_records = RecordFields()
        self._hidden_members: set[str] = set()
        self._hide: Hidden = {}
        for path in redact:
            if not self._is_of_records(path, self._hidden_records, self._hidden_members):
                _enter_hidden(self._hide, path)
        self._shortens = bool(self._hide or self._hidden_records or self._hidden_members)

    @property
    def passes_all(self) -> bool:
        """Whether events come out as they are."""
        return self._all and not self._shortens

    def apply(self, native: NativeEvent) -> NativeEvent:
        """Return what is passed on, to be read only: what is not touched is shared with the event."""
        if self.passes_all:
            return native
        made: dict[str, object] = dict(native)
        if not self._all:
            made = _cut(made, self._tree)
            if not self._every_record:
                made["records"] = [self._kept(entry) for entry in native["records"]]
        if self._shortens:
            made = _hidden(made, self._hide) if self._hide else made
            if self._hidden_records or self._hidden_members:
                made["records"] = [self._shown(entry) for entry in cast("list[RecordEntry]", made["records"])]
        return cast("NativeEvent", made)

    # -- making ready ------------------------------------------------------------------------------

    def _keep(self, path: str) -> None:
        if path == "records":
            self._every_record = True
            return
        for names, _, _ in paths.find(path):
            _enter_kept(self._tree, names)

    @staticmethod
    def _is_of_records(path: str, fields: RecordFields, named: set[str]) -> bool:
        first, _, rest = path.partition(".")
        if first != "records" or not rest:
            return False
        if rest in _OF_RECORD:
            named.add(rest)
            return True
        if rest == "type":
            return False
        fields.add(path)
        return True

    # -- records -----------------------------------------------------------------------------------

    def _kept(self, entry: RecordEntry) -> RecordEntry:
        kind = entry["type"]
        kept: dict[str, object] = {"type": kind, "fields": {}}
        if self._records.concern(kind):
            kept["fields"] = self._records.kept(kind, entry["fields"])
        named = self._record_members
        if named:
            kept |= {name: value for name, value in entry.items() if name in named}
            # Both stand beside the text that they are about, and its bytes beside the text.
            if "raw" in entry and ("raw" in named or not kept.keys().isdisjoint(_OF_RECORD)):
                kept["raw"] = entry["raw"]
        return cast("RecordEntry", kept)

    def _shown(self, entry: RecordEntry) -> RecordEntry:
        kind = entry["type"]
        shown: dict[str, object] = dict(entry)
        rules, named = self._hidden_records, self._hidden_members
        if concerned := rules.concern(kind):
            shown["fields"] = rules.hidden(kind, entry["fields"], damaged="undecoded" in entry)
        if "raw" in entry and (concerned or "raw" in named or "raw_hex" in named):
            shown["raw"] = REDACTED  # the record's text has the same in it
            shown.pop("raw_hex", None)
        for name in named - {"raw"}:
            shown.pop(name, None)
        return cast("RecordEntry", shown)


def _enter_kept(tree: Tree, names: tuple[str, ...]) -> None:
    at, node = tree, paths.root()
    for name in names[:-1]:
        node = paths.properties(node).get(name) or paths.open_members(node) or {}
        inner = at.setdefault(name, _minimal(node))
        if inner is None:
            return  # all of it is kept already
        at = inner
    plain = names[-1].removesuffix("_hex")
    for name in (names[-1], plain, f"{plain}_hex"):  # a text, and its bytes where it does not show them all
        if name == names[-1] or name in paths.properties(node):
            at[name] = None


def _minimal(node: Node) -> Tree | None:
    """Return what an object keeps in any case: what is required of it, and of that again as little."""
    known = paths.properties(node)
    if known:
        return {name: _minimal(known[name]) for name in paths.required(node)}
    return {} if paths.open_members(node) else None


def _cut(value: dict[str, object], tree: Tree) -> dict[str, object]:
    kept: dict[str, object] = {}
    for name, each in value.items():
        if name in tree:
            below = tree[name]
        elif "*" in tree:
            below = tree["*"]
        else:
            continue
        if below is None:
            kept[name] = each
        elif isinstance(each, list):
            kept[name] = [_cut(inner, below) if isinstance(inner, dict) else inner for inner in each]
        elif isinstance(each, dict) and ((made := _cut(each, below)) or name != _NEVER_EMPTY):
            kept[name] = made
    return kept


def _enter_hidden(tree: Hidden, path: str) -> None:
    """Choose a member to hide. Whether it can be is asked of the schema now, never of an event."""
    for names, node, needed in paths.find(path):
        dotted = ".".join(names)
        tells = _can_tell(node)
        fixed = names[0] == "lost" or dotted in _NOT_TO_HIDE
        if fixed or (not tells and (needed or names[0] == "notice")):
            raise UsageError(f"{dotted} cannot be redacted", _why(dotted, node))
        at = tree
        for name in names[:-1]:
            inner = at.setdefault(name, {})
            if isinstance(inner, bool):
                break  # all of it is hidden already
            at = inner
        else:
            at[names[-1]] = tells


def _can_tell(node: Node) -> bool:
    """Whether it is a text, or has no other members, so that it can say that it is hidden."""
    more = paths.open_members(node)
    return paths.is_free_text(node) or (more is not None and paths.is_free_text(more))


def _why(dotted: str, node: Node) -> str:
    if dotted == "records":
        return "name fields of records, as records.fields.proctitle or records.EXECVE.argv"
    texts = [name for name, inner in paths.properties(node).items() if paths.is_free_text(inner)]
    hint = "an event without it would not be valid"
    return f"{hint}; redact {dotted}.{texts[0]}, for example" if texts else hint


def _hidden(value: dict[str, object], tree: Hidden) -> dict[str, object]:
    shown: dict[str, object] = {}
    for name, each in value.items():
        below = tree.get(name, tree.get("*"))
        if below is None:
            if not name.endswith("_hex") or not isinstance(tree.get(name.removesuffix("_hex")), bool):
                shown[name] = each  # the bytes of what is hidden are not shown either
        elif below is True:
            shown[name] = _told(each)
        elif below is not False:
            if isinstance(each, list):
                shown[name] = [_hidden(inner, below) if isinstance(inner, dict) else inner for inner in each]
            elif isinstance(each, dict):
                shown[name] = _hidden(each, below)
    return shown


def _told(value: object) -> object:
    if isinstance(value, dict):
        return dict.fromkeys(value, REDACTED)
    if isinstance(value, list):
        return [REDACTED] if value else []  # of `keys` each is there once
    return REDACTED
