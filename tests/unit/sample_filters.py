# SPDX-License-Identifier: Apache-2.0
"""Trees of the filter language, as hypothesis draws them, and filters with what they say of one event."""

from __future__ import annotations

from hypothesis import strategies as st

from enricher.route.language import LABEL, And, Compare, Has, Member, Node, Not, Or, Value
from enricher.route.members import MEMBERS

# What a filter may hold: anything but control characters, and what is no character.
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]) | st.sampled_from("\t\n\udc80"))
NAMES = st.sampled_from([*MEMBERS, "label.app", "nonsense"]) | TEXTS.map(lambda name: LABEL + name)
VALUES = st.one_of(
    TEXTS,
    st.integers(-(10**12), 10**12).map(str),
    st.sampled_from(["and", "not in", "in", "has", '"', "\\", "'", "*", "host", "EXECVE", "1394", "root"]),
).map(Value)
MEMBER = NAMES.map(Member)
LEAVES = st.one_of(
    MEMBER.map(Has),
    st.builds(
        Compare,
        MEMBER,
        st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "~", "!~"]),
        st.tuples(VALUES),
    ),
    st.builds(
        Compare,
        MEMBER,
        st.sampled_from(["in", "not in"]),
        st.lists(VALUES, min_size=1, max_size=3).map(tuple),
    ),
)


def _grown(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(nodes, min_size=2, max_size=3).map(tuple)
    return nodes.map(Not) | several.map(And) | several.map(Or)


TREES: st.SearchStrategy[Node] = st.recursive(LEAVES, _grown, max_leaves=12)

OF_SHORT = st.sampled_from(
    [
        "type == EXECVE",
        "type in (USER_LOGIN, 1302)",
        "type != SYSCALL",
        'type ~ "USER_*"',
        "type == LOST",
        "type not in (NOTICE, LOST)",
        "key == exec",
        'key ~ "e*"',
        "key != exec",
        "has key",
        "where == host",
        "pid == 4711",
        "container.name != web",
        "has outcome",
    ]
)
"""Filters that compile, of both kinds of members."""


def _joined(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        texts.map(lambda one: f"not ({one})"),
        st.tuples(texts, texts).map(lambda two: f"({two[0]}) and ({two[1]})"),
        st.tuples(texts, texts).map(lambda two: f"({two[0]}) or ({two[1]})"),
    )


COMPILED: st.SearchStrategy[str] = st.recursive(OF_SHORT, _joined, max_leaves=8)
