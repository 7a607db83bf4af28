# SPDX-License-Identifier: Apache-2.0
"""Fields of records that a route keeps or hides: ``records.fields.NAME``, ``records.TYPE.NAME``, ``records.*.NAME``.

Owns which spellings of a field one name covers: the field, its bytes (``NAME_hex``), its meaning (``NAME`` in
capitals); ``argv`` and ``proctitle`` are the command line in every form a record has of it. Never reads a value but to
hide it.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final, cast

from enricher.errors import UsageError
from enricher.sources.audit.types import NAMES

if TYPE_CHECKING:
    from enricher.enrich.shape import Fields, FieldValue

REDACTED: Final = "[redacted]"
_ALL: Final = ("*", "fields")
_argument = re.compile(r"a[0-9]+(\[[0-9]+\]|_len)?").fullmatch
_type_name = re.compile(r"UNKNOWN\[[0-9]{1,5}\]").fullmatch
_TYPES: Final = frozenset(NAMES.values())

Rules = dict[str, "Rules"]
"""By the field's one name; what is below it, {} for all of it."""


def _one_name(kind: str, name: str) -> str:
    """Return the name that stands for all spellings of a field."""
    plain = name.rstrip("_").lower().removesuffix("_hex")
    if (kind == "PROCTITLE" and plain == "proctitle") or (kind == "EXECVE" and _argument(plain)):
        return "argv"
    return plain


class RecordFields:
    """Chosen fields, by record type."""

    def __init__(self) -> None:
        self._paths: dict[str, list[tuple[str, ...]]] = {}
        self._rules: dict[str, Rules] = {}  # by type, made when one is first seen: there are as many as types

    def __bool__(self) -> bool:
        return bool(self._paths)

    def add(self, path: str) -> None:
        """Choose by a path that begins with ``records.``; UsageError where it names no record type, or no field."""
        _, kind, *names = path.split(".")
        if kind not in _ALL and kind not in _TYPES and not _type_name(kind):
            near = difflib.get_close_matches(kind.upper(), _TYPES, n=1)
            hint = f"did you mean records.{near[0]}?" if near else "records.fields.NAME, or records.TYPE.NAME"
            raise UsageError(f"no such record type: {kind}, in {path}", hint)
        if "" in names or (kind in _ALL and kind == "*" and not names):
            raise UsageError(f"not a field of records: {path}", "records.fields.NAME, or records.TYPE.NAME")
        self._paths.setdefault("*" if kind in _ALL else kind, []).append(tuple(names))

    def _of(self, kind: str) -> tuple[bool, Rules]:
        """Return whether all fields of such a record are chosen, and else which."""
        rules = self._rules.get(kind)
        if rules is None:
            rules = {}
            for names in (*self._paths.get("*", ()), *self._paths.get(kind, ())):
                _enter(rules, kind, names)
            self._rules[kind] = rules
        return "" in rules, rules

    def concern(self, kind: str) -> bool:
        """Whether any field of such a record may be chosen."""
        return bool(self._of(kind)[1])

    def kept(self, kind: str, fields: Fields) -> Fields:
        """Return the chosen fields."""
        everything, rules = self._of(kind)
        return fields if everything else _kept(kind, fields, rules)

    def hidden(self, kind: str, fields: Fields, *, damaged: bool = False) -> Fields:
        """Return the fields with the chosen ones hidden; of a damaged record all, since no name in it is sure."""
        everything, rules = self._of(kind)
        if everything or (damaged and rules):
            return cast("Fields", _hide(fields))
        return _hidden(kind, fields, rules) if rules else fields


def _enter(rules: Rules, kind: str, names: tuple[str, ...]) -> None:
    at = rules
    if not names:
        at[""] = {}
    for place, name in enumerate(names):
        one = _one_name(kind if place == 0 else "", name)
        if one in at and not at[one]:
            return  # all of it is chosen already
        inner = at.setdefault(one, {})
        if place == len(names) - 1:
            inner.clear()
        at = inner


def _below(rules: Rules, kind: str, name: str) -> Rules | None:
    """Return what is chosen of a field. A name is that of a program's field in ``msg`` as well."""
    found = rules.get(_one_name(kind, name))
    return rules if found is None and name == "msg" else found


def _kept(kind: str, members: dict[str, FieldValue], rules: Rules) -> dict[str, FieldValue]:
    kept: dict[str, FieldValue] = {}
    for name, value in members.items():
        below = _below(rules, kind, name)
        if below is None:
            continue
        if not below:
            kept[name] = value
        elif isinstance(value, dict):
            if inner := _kept("", value, below):
                kept[name] = inner
        elif isinstance(value, list):
            kept[name] = [_kept("", each, below) for each in value if isinstance(each, dict)]
    return kept


def _hidden(kind: str, members: dict[str, FieldValue], rules: Rules) -> dict[str, FieldValue]:
    shown: dict[str, FieldValue] = {}
    for name, value in members.items():
        below = _below(rules, kind, name)
        if below is None:
            shown[name] = value
        elif below and isinstance(value, dict):
            shown[name] = _hidden("", value, below)
        elif below and isinstance(value, list):
            shown[name] = [
                _hidden("", each, below)
                if isinstance(each, dict)
                else each
                if below is rules
                else _hide(each)
                for each in value
            ]
        elif (hidden := _hide({name: value})) and isinstance(hidden, dict):
            shown |= hidden
    return shown


def _hide(value: FieldValue | None) -> FieldValue | None:
    """Return what may be shown of a value: a text says that it is hidden, a number is left out."""
    if isinstance(value, str):
        return REDACTED
    if isinstance(value, list):
        return [_hide(each) for each in value]
    if isinstance(value, dict):
        hidden = {
            name: _hide(each) for name, each in value.items() if not name.rstrip("_").lower().endswith("_hex")
        }
        return {name: each for name, each in hidden.items() if each is not None}
    return None
