# SPDX-License-Identifier: Apache-2.0
"""The rules in force, as AUDIT_LIST_RULES gives them: which record types they keep from ever being written.

Owns the layout of ``struct audit_rule_data`` (``linux/audit.h``) and how the kernel's filters decide about
a type. Never asks the kernel and never makes or changes a rule. What it cannot read counts as a rule of
which nothing is known.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from enricher.sources.audit.types import NAMES, is_user

FILTER_USER: Final = 0
FILTER_TASK: Final = 1
FILTER_EXIT: Final = 4
FILTER_EXCLUDE: Final = 5
ACTION_NEVER: Final = 0

_PREPEND: Final = 0x10  # AUDIT_FILTER_PREPEND: where it was put, not which list it is on
_FIELD_ARCH: Final = 11
_FIELD_MSGTYPE: Final = 12
_FIELDS_MAX: Final = 64
_CLASS_WORD: Final = 63  # the last word of the mask stands for classes of system calls

# flags, action, field_count, mask[64], fields[64], values[64], fieldflags[64], buflen; then the strings
_HEAD: Final = struct.Struct("=III")
_WORDS: Final = struct.Struct("=64I")
_SIZE: Final = _HEAD.size + 4 * _WORDS.size

_LESS, _GREATER, _EQUAL, _BITS = 0x10000000, 0x20000000, 0x40000000, 0x08000000
_OPERATORS: Final = _LESS | _GREATER | _EQUAL | _BITS
_ALL: Final = 0xFFFFFFFF


class Condition(NamedTuple):
    """One comparison of a rule: a field (AUDIT_PID, ...), the operator's bits and the number."""

    field: int
    operator: int
    value: int


class Rule(NamedTuple):
    """One rule. `every_syscall` says that its mask has all system calls, which matters on the exit list."""

    which: int
    action: int
    conditions: tuple[Condition, ...]
    every_syscall: bool


class Excluded(NamedTuple):
    """Record types that the rules keep from being written: of every task, and of some tasks only."""

    always: tuple[int, ...]
    sometimes: tuple[int, ...]


def parse_rule(data: bytes) -> Rule | None:
    """Read one struct audit_rule_data; None where it is too short or claims more fields than there can be."""
    if len(data) < _SIZE:
        return None
    flags, action, count = _HEAD.unpack_from(data)
    if count > _FIELDS_MAX:
        return None
    mask, fields, values, operators = (
        _WORDS.unpack_from(data, _HEAD.size + i * _WORDS.size) for i in range(4)
    )
    conditions = tuple(Condition(fields[i], operators[i] & _OPERATORS, values[i]) for i in range(count))
    return Rule(flags & ~_PREPEND, action, conditions, all(word == _ALL for word in mask[:_CLASS_WORD]))


def excluded(rules: list[Rule]) -> Excluded:
    """Return the record types that never, or not always, pass the exclude and the user filter.

    ``audit_filter``: the first rule of a list that matches decides. On the exclude list every match drops
    the record, whatever the action; on the user list the action ``never`` does. A condition on anything
    but the type makes a rule one about some tasks. Types that have no name are looked at only where a
    rule names them.
    """
    drops = [rule for rule in rules if rule.which == FILTER_EXCLUDE]
    users = [rule for rule in rules if rule.which == FILTER_USER]
    named = {c.value for rule in (*drops, *users) for c in rule.conditions if _names(c)}
    always, sometimes = [], []
    for number in sorted(set(NAMES) | named):
        verdicts = [_dropped(number, drops, any_action=True)]
        if is_user(number):
            verdicts.append(_dropped(number, users, any_action=False))
        if True in verdicts:
            always.append(number)
        elif None in verdicts:
            sometimes.append(number)
    return Excluded(tuple(always), tuple(sometimes))


def swallowed(rules: list[Rule]) -> int:
    """Count the rules of the exit list behind a ``never`` for every task and system call: they do nothing.

    A ``never`` for one architecture counts against the rules for that one.
    """
    found = 0
    blind: list[tuple[Condition, ...]] = []
    for rule in rules:
        if rule.which != FILTER_EXIT:
            continue
        if any(set(never) <= set(rule.conditions) for never in blind):
            found += 1
        elif rule.action == ACTION_NEVER and rule.every_syscall and _only_arch(rule.conditions):
            blind.append(rule.conditions)
    return found


def _names(condition: Condition) -> bool:
    """Whether a condition is about one type; the number of another operator need not be a type at all."""
    return condition.field == _FIELD_MSGTYPE and condition.operator == _EQUAL


def _only_arch(conditions: tuple[Condition, ...]) -> bool:
    return all(each.field == _FIELD_ARCH and each.operator == _EQUAL for each in conditions)


def _dropped(number: int, rules: list[Rule], *, any_action: bool) -> bool | None:
    """Whether `rules`, in order, drop records of this type; None for those of some tasks only."""
    some_dropped = some_kept = False
    for rule in rules:
        on_type = [each for each in rule.conditions if each.field == _FIELD_MSGTYPE]
        if not all(_holds(number, each) for each in on_type):
            continue
        drops = any_action or rule.action == ACTION_NEVER
        if len(on_type) == len(rule.conditions):
            if drops:
                return None if some_kept else True
            break
        some_dropped |= drops
        some_kept |= not drops
    return None if some_dropped else False


def _holds(number: int, condition: Condition) -> bool:
    """``audit_comparator``: an operator without bits is never true."""
    value, operator = condition.value, condition.operator
    if operator == _BITS:
        return number & value != 0
    if operator == _BITS | _EQUAL:
        return number & value == value
    return bool(
        (operator & _LESS and number < value)
        or (operator & _GREATER and number > value)
        or (operator & _EQUAL and number == value)
    )
