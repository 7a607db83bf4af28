# SPDX-License-Identifier: Apache-2.0
"""What a filter can ask for: each member's name, what it is compared with, and where its values stand.

Owns the table (`MEMBERS`, which docs/filters.md repeats) and the names that are checked: of record types, system
calls, errors and the few words of ``where``, ``outcome`` and namespaces. Never compares: `route.expression` does.

A member has any number of values of an event; none where the event does not have it. ``type``, ``key`` and ``contid``
are read before a native event is made; all others from the native event.
"""

from __future__ import annotations

import difflib
import re
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from enricher.enrich.contid import contids_of
from enricher.enrich.keys import keys_of
from enricher.enrich.told import type_of
from enricher.errors import UsageError
from enricher.facts import CONTID_UNSET
from enricher.model import KINDS, UNSET
from enricher.route.language import LABEL
from enricher.sources.audit.types import NAMES, number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from enricher.enrich.shape import NativeEvent
    from enricher.model import Event

Scalar = str | int
Read = tuple[Scalar, ...]

LOST: Final = 1394
NOTICE: Final = 1398

_LARGEST_TYPE: Final = 0xFFFF  # nlmsghdr.nlmsg_type is 16 bits
_CONTID_DIGITS: Final = 20
_SHOWN: Final = 40
_SHORT_ID: Final = 12  # digits of a container's id, as engines show it
_LONG_ID: Final = 64
_EQUAL: Final = ("==", "!=", "in", "not in")
_ORDER: Final = ("<", "<=", ">", ">=")
_GLOB: Final = ("~", "!~")
_is_type_number = re.compile("[0-9]{1,5}").fullmatch
_is_number = re.compile("-?[0-9]{1,20}").fullmatch


class Kind(NamedTuple):
    """What a member is compared with. ``what`` is that in words, ``operators`` those it has.

    ``wanted`` returns what a value is looked for as, ``known`` the names among which a pattern has to find one, if
    they are checked. Both raise UsageError.
    """

    what: str
    operators: tuple[str, ...]
    wanted: Callable[[str], frozenset[Scalar]]
    known: Callable[[], Mapping[str, Scalar]] | None = None


class Row(NamedTuple):
    """One member. Just one of ``early`` and ``read`` is there; with ``place`` `NativeBuilder.place` has it."""

    kind: Kind
    doc: str
    read: Callable[[NativeEvent], Read] | None = None
    early: Callable[[Event], Read] | None = None
    place: bool = False


def meant(word: str, known: Iterable[str]) -> str:
    """Return "did you mean ...?" with the names that come close, "" where none does."""
    names = list(known)
    close = [name for name in names if name.endswith(f".{word}")]
    close += [name for name in difflib.get_close_matches(word[:100], names, n=3) if name not in close]
    return f"did you mean {' or '.join(close[:3])}?" if close else ""


def type_number(wanted: str | int) -> int:
    """Return the number of a record type given as name, number or ``UNKNOWN[n]``, in any case.

    Raises `UsageError`, with the names that come close, when it is none.
    """
    if isinstance(wanted, int):
        number: int | None = wanted
    else:
        name = wanted.strip().upper()
        number = int(name) if _is_type_number(name) else number_of(name)
    if number is None or not 0 <= number <= _LARGEST_TYPE:
        hint = meant(str(wanted).strip().upper(), NAMES.values())
        raise UsageError(
            f"no such record type: {wanted}", hint or "a number or UNKNOWN[n] works for any type"
        )
    return number


def types_of(event: Event) -> tuple[int, ...]:
    """Return the types of all records of an event; of one of our own its one type.

    An event whose records were all lost has still the type the kernel side noted.
    """
    if event.told is not None:
        return (number_of(type_of(event.told)) or 0,)
    if event.loss is not None:
        return (LOST,)
    if event.notice is not None:
        return (NOTICE,)
    if event.records:
        return tuple([record.type for record in event.records])
    if event.context is not None:
        return (event.context.record_type,)
    return (event.tally.runs[0][0],) if event.tally is not None and event.tally.runs else ()


def _keys(event: Event) -> Read:
    return tuple(
        [key.decode("utf-8", "surrogateescape") for record in event.records for key in keys_of(record)]
    )


# -- values ------------------------------------------------------------------------------------------


def _text(value: str) -> frozenset[Scalar]:
    return frozenset((value,))


def _number(value: str) -> frozenset[Scalar]:
    if not _is_number(value):
        raise UsageError(f"{value} is no number", "a number is written in decimal digits")
    return frozenset((int(value),))


def _person(value: str) -> frozenset[Scalar]:
    if _is_number(value):
        return _number(value)
    # Where names are not known, as in the log of another host, 0 is root all the same.
    return frozenset((value, 0)) if value == "root" else frozenset((value,))


def _contid(value: str) -> frozenset[Scalar]:
    if value == "unset":
        return frozenset((value,))
    if (
        not value.isascii()
        or not value.isdecimal()
        or not 0 <= int(value[: _CONTID_DIGITS + 1]) <= CONTID_UNSET
    ):
        raise UsageError(
            f"{value[:_SHOWN]} is neither a container identifier nor unset",
            meant(value, ["unset"]) or "a number below 18446744073709551615, in decimal digits",
        )
    number = int(value)
    return frozenset(("unset",)) if number == CONTID_UNSET else frozenset((number,))


def _contids(event: Event) -> Read:
    found = contids_of(event)
    return () if found is None else found or ("unset",)


def _type(value: str) -> frozenset[Scalar]:
    return frozenset((type_number(value),))


def _one_of(*words: str) -> Callable[[str], frozenset[Scalar]]:
    def wanted(value: str) -> frozenset[Scalar]:
        if value not in words:
            raise UsageError(
                f"no such value: {value}", meant(value, words) or f"there are {', '.join(words)}"
            )
        return frozenset((value,))

    return wanted


def _named(what: str, names: Callable[[], Mapping[str, Scalar]]) -> Callable[[str], frozenset[Scalar]]:
    def wanted(value: str) -> frozenset[Scalar]:
        if _is_number(value):
            return _number(value)
        known = names()
        if value not in known:
            raise UsageError(
                f"no such {what}: {value}", meant(value, known) or "a number works for any of them"
            )
        return frozenset((known[value],))

    return wanted


def _types() -> Mapping[str, Scalar]:
    return {name: number for number, name in NAMES.items()}


@cache
def _calls() -> Mapping[str, Scalar]:
    from enricher.enrich.tables.syscalls import BY_ARCH  # noqa: PLC0415 - a large table

    return {name: name for table in BY_ARCH.values() for name in table if name != "-"}


@cache
def _errors() -> Mapping[str, Scalar]:
    from enricher.enrich.interpret import error_name  # noqa: PLC0415 - a large table

    names = ((number, error_name(number)) for number in range(1, 4096))  # MAX_ERRNO of the kernel
    return {name: -number for number, name in names if name is not None}


def _namespace(value: str) -> frozenset[Scalar]:
    if value == "host":
        return frozenset((value,))
    if not _is_number(value):
        raise UsageError(
            f"{value} is neither the number of a namespace nor host",
            meant(value, ["host"]) or "such as 4026531840",
        )
    return _number(value)


TEXT: Final = Kind("text", (*_EQUAL, *_GLOB), _text)
NUMBER: Final = Kind("number", (*_EQUAL, *_ORDER), _number)
PERSON: Final = Kind("number or name", (*_EQUAL, *_ORDER, *_GLOB), _person)
TYPE: Final = Kind("record type", (*_EQUAL, *_GLOB), _type, _types)
CALL: Final = Kind("system call", (*_EQUAL, *_GLOB), _named("system call", _calls), _calls)
ERROR: Final = Kind("number or error", (*_EQUAL, *_ORDER), _named("error", _errors))
NAMESPACE: Final = Kind("number or `host`", _EQUAL, _namespace)
CONTID: Final = Kind("number or `unset`", (*_EQUAL, *_ORDER), _contid)
OUTCOME: Final = Kind("`success`, `failure`, `failed`", _EQUAL, _one_of("success", "failure", "failed"))
WHERE: Final = Kind("`host`, `container`, `unknown`", _EQUAL, _one_of("host", "container", "unknown"))


# -- where they stand --------------------------------------------------------------------------------


def _at(*path: str) -> Callable[[NativeEvent], Read]:
    """Read the one value at this place of the event."""

    def read(native: NativeEvent) -> Read:
        found: object = native
        for name in path:
            if not isinstance(found, dict):
                return ()
            found = found.get(name)
        return (found,) if isinstance(found, str | int) else ()

    return read


def _both(*reads: Callable[[NativeEvent], Read]) -> Callable[[NativeEvent], Read]:
    return lambda native: tuple([value for read in reads for value in read(native)])


def _outcome(native: NativeEvent) -> Read:
    outcome = native.get("outcome")
    if outcome is None:
        return ()
    return (outcome,) if outcome == "success" else (outcome, "failed")


def _of_record(types: tuple[str, ...], field: str) -> Callable[[NativeEvent], Read]:
    """Read a field of the first record of these types, and its meaning."""

    def read(native: NativeEvent) -> Read:
        for record in native["records"]:
            if record["type"] in types:
                found = (record["fields"].get(field), record["fields"].get(field.upper()))
                return tuple([value for value in found if isinstance(value, str | int)])
        return ()

    return read


def _who(field: str) -> Callable[[NativeEvent], Read]:
    """Read a number of the subject's, and the name that a record of the event has for that number.

    Of an id that is not set, which the subject does not have, there is the name alone: ``unset``.
    """

    def read(native: NativeEvent) -> Read:
        subject = cast("Mapping[str, object]", native.get("subject", {}))
        number = subject.get(field)
        looked_for = UNSET if number is None else number
        for record in native["records"]:
            fields = record["fields"]
            if fields.get(field) == looked_for and isinstance(name := fields.get(field.upper()), str):
                return (name,) if number is None else (cast("int", number), name)
        return (number,) if isinstance(number, int) else ()

    return read


def _container_id(native: NativeEvent) -> Read:
    container = native.get("container")
    if container is None:
        return ()
    whole = container["id"]
    return (whole, whole[:_SHORT_ID]) if len(whole) == _LONG_ID else (whole,)


def label(name: str) -> Row:
    """Return the row of one label."""
    return Row(TEXT, "", _at("container", "labels", name), place=True)


def _namespace_of(kind: str) -> Callable[[NativeEvent], Read]:
    def read(native: NativeEvent) -> Read:
        entry = native.get("namespaces", {}).get(kind)
        if not isinstance(entry, dict):
            return ()
        number = entry.get("ino")
        if not isinstance(number, int):
            return ()
        return (number, "host") if entry.get("host") is True else (number,)

    return read


_SUBJECT: Final = {
    "uid": "the user's id",
    "auid": "the login user's id; `unset` where nobody has logged in",
    "euid": "the effective user id",
    "suid": "the saved user id",
    "fsuid": "the user id for files",
    "gid": "the group's id",
    "egid": "the effective group id",
    "sgid": "the saved group id",
    "fsgid": "the group id for files",
}

_PLACE: Final = {
    "where": Row(WHERE, "where the subject's cgroup is; every event has it", _at("where")),
    "container": Row(TEXT, "the container's id or name", _both(_container_id, _at("container", "name"))),
    "container.id": Row(TEXT, "its id, whole or the first 12 of 64 digits", _container_id),
    "container.name": Row(TEXT, "its name", _at("container", "name")),
    "container.runtime": Row(TEXT, "its runtime, such as `docker`", _at("container", "runtime")),
    "container.image": Row(TEXT, "its image, as the runtime was asked for it", _at("container", "image")),
    "pod": Row(
        TEXT, "the pod's uid or name", _both(_at("container", "pod", "uid"), _at("container", "pod", "name"))
    ),
    "pod.uid": Row(TEXT, "its uid", _at("container", "pod", "uid")),
    "pod.name": Row(TEXT, "its name", _at("container", "pod", "name")),
    "pod.namespace": Row(TEXT, "its Kubernetes namespace", _at("container", "pod", "namespace")),
    "cgroup.path": Row(TEXT, "the cgroup's path", _at("cgroup", "path")),
    "cgroup.unit": Row(TEXT, "the systemd unit", _at("cgroup", "unit")),
    "host.name": Row(TEXT, "the host's name", _at("host", "name")),
    **{f"namespace.{kind}": Row(NAMESPACE, f"the `{kind}` namespace", _namespace_of(kind)) for kind in KINDS},
}

MEMBERS: Final[dict[str, Row]] = {
    "type": Row(TYPE, "of any of its records", early=types_of),
    "key": Row(TEXT, "any of its audit keys", early=_keys),
    "syscall": Row(CALL, "the system call", _of_record(("SYSCALL", "SECCOMP"), "syscall")),
    "outcome": Row(OUTCOME, "how it ended; `failed` is the same as `failure`", _outcome),
    "exit": Row(ERROR, "what the system call returned; `EACCES` is -13", _of_record(("SYSCALL",), "exit")),
    "user": Row(PERSON, "the same as `uid`", _who("uid")),
    **{name: Row(PERSON, doc, _who(name)) for name, doc in _SUBJECT.items()},
    "ses": Row(NUMBER, "the login session", _at("subject", "ses")),
    "pid": Row(NUMBER, "the process, in the initial pid namespace", _at("subject", "pid")),
    "tid": Row(NUMBER, "the thread, likewise", _at("subject", "tid")),
    "ppid": Row(NUMBER, "the parent process, likewise", _at("subject", "ppid")),
    "comm": Row(TEXT, "the task's name", _at("subject", "comm")),
    "exe": Row(TEXT, "the program", _at("subject", "exe")),
    "contid": Row(
        CONTID,
        "an audit container identifier of the subject's: its own, or one that it is nested in; `unset` for none",
        early=_contids,
    ),
    **{name: row._replace(place=True) for name, row in _PLACE.items()},
}
"""In the order of the documentation. Beside these there is ``label.NAME`` for any name."""


def row_of(name: str) -> Row:
    """Return a member's row. Raises UsageError with the names that come close."""
    if name.startswith(LABEL) and name != LABEL:
        return label(name.removeprefix(LABEL))
    row = MEMBERS.get(name)
    if row is None:
        hint = meant(name, [*MEMBERS, LABEL + "NAME"])
        raise UsageError(f"no such member: {name}", hint or f"there are {', '.join(MEMBERS)}, {LABEL}NAME")
    return row
