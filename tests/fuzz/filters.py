# SPDX-License-Identifier: Apache-2.0
"""The filter language: any text is a filter that says the same when it is written again, or an error with a place."""

from __future__ import annotations

from enricher.enrich.native import build
from enricher.errors import UsageError
from enricher.model import Event, Notice
from enricher.route.expression import compile_filter
from enricher.route.language import KEYWORDS, LENGTH_MAX, OPERATORS, FilterInvalid, parse, unparse
from enricher.route.members import MEMBERS
from tests.unit.sample_events import HOST, USER_LOGIN, event, exec_event

WORDS = [
    *[word.encode() for word in (*KEYWORDS, *OPERATORS, *MEMBERS, "label.")],
    *[
        b"(",
        b")",
        b", ",
        b'"',
        b"'",
        b"\\",
        b" ",
        b"\n",
        b"*",
        b"?",
        b"[",
        b"=",
        b"host",
        b"EXECVE",
        b"LOST",
        b"root",
    ],
    *[b"4026531840", b"-1", b"execve", b"EACCES", b"failed", b"container", b"\xff", b"\xc3\xa4"],
]


def seeds() -> list[bytes]:
    """Each construct, right and wrong."""
    return [
        b"",
        b'type == EXECVE and key in (exec, "exec root") and not user == root',
        b"(where == container or has container) and container.name ~ \"web-*\" and label.'a b' != x",
        b"not (pid >= 4000 and namespace.net != host) or exit == EACCES or type not in (LOST, 1302)",
        b"where == contaner",
        b"not not ((syscall ~ *at))",
    ]


def _notice() -> Event:
    made = Event(b"1772366400.042:0", 0.0)
    made.own_id, made.notice = "5eed0001/1", Notice("reload", "new settings")
    return made


_EVENTS = [(made, build(made, HOST)) for made in (exec_event(), event((1112, USER_LOGIN)), _notice())]


def filter_text(data: bytes) -> None:
    """See the module."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        tree = parse(text)
        again = unparse(tree)
        made = compile_filter(text)
    except UsageError as error:
        _require(isinstance(error, FilterInvalid), "an error without a place")
        _require(error.message.replace("\n", "").isprintable(), "an error that cannot be shown")
        _require(error.message.count("\n") == 2 and error.hint, "an error without a caret or a hint")
        return
    if len(again.encode("utf-8", "surrogatepass")) > LENGTH_MAX:
        return
    _require(parse(again) == tree, "what is written again is another filter")
    same = compile_filter(again)
    for one, native in _EVENTS:
        passes = made.matches(one, lambda native=native: native)  # type: ignore[misc]
        _require(made.early(one) in (None, passes), "the two stages do not agree")
        _require(same.matches(one, lambda native=native: native) is passes, "it means something else")  # type: ignore[misc]


def _require(holds: object, what: str) -> None:
    if not holds:
        raise AssertionError(what)
