# SPDX-License-Identifier: Apache-2.0
"""What a field's value means, for fields that can be read without the rest of their record.

Owns which field is of which kind, and the text for each kind: the names of users, errors, signals, modes,
capabilities and so on. Never needs another field (`interpret_args` does) and never keeps anything.

An interpreter takes the field's JSON value and returns its meaning, None where it adds nothing: a number
without a name, a value that is not of the kernel's form, a text that says it already. What is not known of a
set of bits is left as hex behind its names, so that no bit is hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from enricher.enrich.tables import flags, numbers
from enricher.model import UNSET

if TYPE_CHECKING:
    from enricher.enrich.shape import FieldValue, Value
    from enricher.sources.names import Names

Interpreter = Callable[["Value"], "FieldValue | None"]

_HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")
_MOST_DIGITS: Final = 16  # of a 64-bit number in hex; more is not the kernel's
_MOST_DECIMALS: Final = 20
_MOST_OCTALS: Final = 22

# include/linux/errno.h: between kernel and task only, but a record is written before they are replaced.
_RESTARTS: Final = {
    512: "ERESTARTSYS",
    513: "ERESTARTNOINTR",
    514: "ERESTARTNOHAND",
    515: "ENOIOCTLCMD",
    516: "ERESTART_RESTARTBLOCK",
    517: "EPROBE_DEFER",
    518: "EOPENSTALE",
    519: "ENOPARAM",
    521: "EBADHANDLE",
    522: "ENOTSYNC",
    523: "EBADCOOKIE",
    524: "ENOTSUPP",
    525: "ETOOSMALL",
    526: "ESERVERFAULT",
    527: "EBADTYPE",
    528: "EJUKEBOX",
    529: "EIOCBQUEUED",
    530: "ERECALLCONFLICT",
}


# -- numbers -----------------------------------------------------------------------------------------


def decimal(value: Value) -> int | None:
    """Return a number that the kernel prints with %d or %u."""
    if isinstance(value, int):
        return value
    digits = value[1:] if value[:1] == "-" else value
    return int(value) if digits.isascii() and digits.isdecimal() and len(digits) <= _MOST_DECIMALS else None


def hexadecimal(value: Value) -> int | None:
    """Return a number that the kernel prints with %x or %#x."""
    if isinstance(value, int):
        return None
    digits = value[2:] if value[:2] == "0x" else value
    if not digits or len(digits) > _MOST_DIGITS or not _HEX_DIGITS.issuperset(digits):
        return None
    return int(digits, 16)


def octal(value: Value) -> int | None:
    """Return a number that the kernel prints with %#o or 0%o."""
    if isinstance(value, int) or not value.isascii() or not value.isdecimal() or len(value) > _MOST_OCTALS:
        return None
    try:
        return int(value, 8)
    except ValueError:
        return None


def bit_names(value: int, table: tuple[tuple[int, str], ...]) -> str | None:
    """Return ``NAME|NAME|0x..`` for the bits of a value; None when none of them has a name."""
    names = []
    for bit, name in table:
        if value & bit == bit:
            names.append(name)
            value &= ~bit
    if not names:
        return None
    if value:
        names.append(f"{value:#x}")
    return "|".join(names)


def _named(table: dict[int, str], number: Callable[[Value], int | None] = decimal) -> Interpreter:
    def interpret(value: Value) -> str | None:
        found = number(value)
        return None if found is None else table.get(found)

    return interpret


# -- kinds -------------------------------------------------------------------------------------------


def error_name(number: int) -> str | None:
    """Return the name of a positive error number, those that never leave the kernel included."""
    return numbers.ERRNO.get(number) or _RESTARTS.get(number)


def error(value: Value) -> str | None:
    """``exit`` and ``errno``: a negative number is an error, any other a result."""
    return error_name(-value) if isinstance(value, int) and value < 0 else None


def yes_or_no(value: Value) -> str | None:
    """``res``: the kernel's 1 and 0."""
    return {"1": "yes", "0": "no"}.get(str(value))


def session(value: Value) -> str | None:
    """``ses``: whether there is one."""
    return "unset" if decimal(value) in (UNSET, -1) else None


def from_hex(value: Value) -> str | None:
    """``fan_info``: a rule's number, printed in hex without saying so."""
    number = hexadecimal(value)
    return None if number is None else str(number)


def promiscuous(value: Value) -> str | None:
    """``prom``: IFF_PROMISC or nothing."""
    number = decimal(value)
    return None if number is None else "yes" if number else "no"


_FILE_TYPES: Final = {
    0o140000: "socket",
    0o120000: "link",
    0o100000: "file",
    0o060000: "block",
    0o040000: "dir",
    0o020000: "character",
    0o010000: "fifo",
}
_SPECIAL_BITS: Final = ((0o4000, "suid"), (0o2000, "sgid"), (0o1000, "sticky"))


def mode_text(mode: int) -> str | None:
    """Return ``file,suid,755``; None when it holds nothing but permissions, which say themselves."""
    kind = _FILE_TYPES.get(mode & 0o170000)
    parts = [kind] if kind else []
    parts += [name for bit, name in _SPECIAL_BITS if mode & bit]
    return ",".join([*parts, f"{mode & 0o777:03o}"]) if parts else None


def mode(value: Value) -> str | None:
    """``mode``: the type, the special bits and the permissions of a file."""
    number = octal(value)
    return None if number is None else mode_text(number)


def capabilities(value: Value) -> str | None:
    """``cap_fp`` and the like: a set of capabilities."""
    number = hexadecimal(value)
    if number is None:
        return None
    names = []
    rest = number
    for bit, name in numbers.CAPABILITY.items():
        if number >> bit & 1:
            names.append(name)
            rest &= ~(1 << bit)
    if rest:
        names.append(f"{rest:#x}")
    return ",".join(names) or "none"


def open_flags(number: int, table: tuple[tuple[int, str], ...]) -> str:
    """Return the names of open's flags, access mode first."""
    access = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")[number & 3]
    rest = bit_names(number & ~3, table)
    if rest is None:
        return f"{access}|{number & ~3:#x}" if number & ~3 else access
    # Each of these two contains another flag, and is only ever used together with it.
    rest = rest.replace("O_DIRECTORY|__O_TMPFILE", "O_TMPFILE") if "__O_T" in rest else rest
    return f"{access}|{rest}"


def open_flags_field(value: Value) -> str | None:
    """``oflag``: MQ_OPEN prints it in hex, OPENAT2 in octal."""
    text = str(value)
    number = hexadecimal(value) if text[:2] == "0x" else octal(value)
    return None if number is None else open_flags(number, flags.OPEN)


def queue_flags(value: Value) -> str | None:
    """``mq_flags``: of open's flags the kernel keeps one."""
    number = hexadecimal(value)
    return None if number is None else bit_names(number, flags.OPEN)


def resolve(value: Value) -> str | None:
    """``resolve`` of OPENAT2."""
    number = hexadecimal(value)
    return None if number is None else bit_names(number, flags.RESOLVE)


_MAP_TYPES: Final = {1: "MAP_SHARED", 2: "MAP_PRIVATE", 3: "MAP_SHARED_VALIDATE", 8: "MAP_DROPPABLE"}


def map_flags(number: int, table: tuple[tuple[int, str], ...]) -> str | None:
    """Return the names of mmap's flags, the kind of mapping first."""
    kind = _MAP_TYPES.get(number & 0xF)
    rest = number & ~0xF if kind else number
    names = bit_names(rest, table)
    if names is None and rest:
        names = f"{rest:#x}" if kind else None
    return "|".join(part for part in (kind, names) if part) or None


def map_flags_field(value: Value) -> str | None:
    """``flags`` of MMAP."""
    number = hexadecimal(value)
    return None if number is None else map_flags(number, flags.MAP)


def personality_text(number: int) -> str | None:
    """Return the domain's name, or of a domain with further bits both."""
    whole = numbers.PERSONALITY.get(number)
    if whole is not None:
        return whole
    domain = numbers.PERSONALITY.get(number & 0xFF)
    bits = bit_names(number & ~0xFF, flags.PERSONALITY_FLAG)
    return f"{domain}|{bits}" if domain and bits else None


def personality(value: Value) -> str | None:
    """``per``."""
    number = hexadecimal(value)
    return None if number is None else personality_text(number)


def seccomp_action(value: Value) -> str | None:
    """``code`` of SECCOMP: the action, and the number that goes with it where there is one."""
    number = hexadecimal(value)
    if number is None:
        return None
    name = numbers.SECCOMP_ACTION.get(number & 0xFFFF0000)
    data = number & 0xFFFF
    if name == "errno" and data:
        return f"errno({error_name(data) or data})"
    return f"{name}({data})" if name and data else name


_RESPONSES: Final = {1: "allow", 2: "deny"}


def fanotify_response(value: Value) -> str | None:
    """``resp`` of FANOTIFY: the answer, and what came with it."""
    number = decimal(value)
    if number is None:
        return None
    answer = _RESPONSES.get(number & 3)
    rest = bit_names(number & ~3, flags.FANOTIFY_RESPONSE)
    return f"{answer}|{rest}" if answer and rest else answer


# -- which field is of which kind --------------------------------------------------------------------

_USERS: Final = """
    uid auid euid suid fsuid ouid oauid sauid iuid old-auid inode_uid obj_uid id
""".split()
_GROUPS: Final = "gid egid sgid fsgid ogid igid inode_gid obj_gid new_gid".split()
_SESSIONS: Final = "ses oses old-ses".split()
_CAPABILITY_SETS: Final = "cap_fp cap_fi cap_pi cap_pp cap_pe cap_pa".split()

_ALWAYS: Final[dict[str, Interpreter]] = {
    "arch": _named(numbers.ARCH, hexadecimal),
    "exit": error,
    "errno": error,
    "res": yes_or_no,
    "mode": mode,
    "per": personality,
    "sig": _named(numbers.SIGNAL),
    "sigev_signo": _named(numbers.SIGNAL),
    "capability": _named(numbers.CAPABILITY),
    "list": _named(numbers.FILTER),
    "prom": promiscuous,
    "old_prom": promiscuous,
    "ioctlcmd": _named(numbers.IOCTL, hexadecimal),
    **dict.fromkeys(_SESSIONS, session),
    **dict.fromkeys(_CAPABILITY_SETS, capabilities),
}

_TRUST: Final = {0: "no", 1: "yes", 2: "unknown"}
_GROUP_RECORDS: Final = (1116, 1117, 1132)  # ADD_GROUP, DEL_GROUP, GRP_MGMT: their id is a group's

# Names that mean something else, or nothing, in other records.
_BY_TYPE: Final[dict[int, dict[str, Interpreter]]] = {
    1312: {"oflag": open_flags_field, "mq_flags": queue_flags},  # MQ_OPEN
    1315: {"mq_flags": queue_flags},  # MQ_GETSETATTR
    1321: dict.fromkeys("fp fi pp pi pe pa old_pp old_pi old_pe old_pa".split(), capabilities),  # BPRM_FCAPS
    1323: {"flags": map_flags_field},  # MMAP
    1324: {  # NETFILTER_PKT
        "proto": _named(numbers.PROTOCOL),
        "hook": _named(numbers.NETFILTER_HOOK),
        "action": _named(numbers.NETFILTER_VERDICT),
        "icmptype": _named(numbers.ICMP),
    },
    1325: {"family": _named(numbers.NETFILTER_FAMILY)},  # NETFILTER_CFG
    1326: {"code": seccomp_action},  # SECCOMP
    1331: {  # FANOTIFY
        "resp": fanotify_response,
        "fan_type": _named({0: "none", 1: "rule_info"}),
        "fan_info": from_hex,
        "subj_trust": _named(_TRUST),
        "obj_trust": _named(_TRUST),
    },
    1335: {"nl-mcgrp": _named({1: "readlog"})},  # EVENT_LISTENER
    1336: {"uring_op": _named(numbers.URING_OPERATION)},  # URINGOP
    1337: {"oflag": open_flags_field, "resolve": resolve},  # OPENAT2
}

OWN_TABLE: Final = frozenset((*_BY_TYPE, *_GROUP_RECORDS))
"""Record types in which a name can mean something else than in the others."""


def _person(ask: Callable[[int], str | None]) -> Interpreter:
    def interpret(value: Value) -> str | None:
        number = decimal(value)
        return None if number is None else ask(UNSET if number == -1 else number)  # OBJ_PID prints %d

    return interpret


def interpreters(names: Names) -> dict[str, Interpreter]:
    """Return field name to interpreter, for records of a type that is not in `OWN_TABLE`."""
    return {
        **_ALWAYS,
        **dict.fromkeys(_USERS, _person(names.user)),
        **dict.fromkeys(_GROUPS, _person(names.group)),
    }


def interpreters_of(record_type: int, names: Names) -> dict[str, Interpreter]:
    """Return the same for one record type."""
    table = interpreters(names)
    table.update(_BY_TYPE.get(record_type, {}))
    if record_type in _GROUP_RECORDS:
        table["id"] = _person(names.group)
    return table
