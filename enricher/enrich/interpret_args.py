# SPDX-License-Identifier: Apache-2.0
"""What a system call's arguments mean: ``a0`` to ``a3`` of a SYSCALL record.

Owns what each kind of argument means; which argument of which call is of which kind is the table of
`interpret_calls`. An argument may depend on another (the third of ``open`` is a mode only if a file may be made),
never on anything outside the four. Never names a pointer, a descriptor, a length or a count.

The arguments are the registers: which is which follows the kernel's own definition of the call, also where the
C library's function has another order (``clone``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.enrich.interpret import (
    bit_names,
    hexadecimal,
    map_flags,
    mode_text,
    open_flags,
    personality_text,
)
from enricher.enrich.interpret_calls import CALLS
from enricher.enrich.tables import flags, numbers, syscalls

if TYPE_CHECKING:
    from enricher.enrich.shape import Value
    from enricher.sources.names import Names

Kind = Callable[[int, int], "str | None"]
"""Argument, and the one it depends on (0 if none), to text."""

_INT: Final = 0xFFFFFFFF
_AT_FDCWD: Final = 0xFFFFFF9C
_X32: Final = 0x40000000
_CREATES: Final = 0x400040  # O_CREAT, __O_TMPFILE
_EXIT_SIGNAL: Final = 0xFF
_MAGIC: Final = 0xC0ED0000  # MS_MGC_VAL, which mount programs of old put in front of the flags


class Argument(NamedTuple):
    """How one argument is read: its place, the place of the one it depends on (or its own), and its kind."""

    place: int
    other: int
    kind: Kind


class Call(NamedTuple):
    """One system call of one architecture: its name, None if it has none, and the arguments with a meaning."""

    name: str | None
    arguments: tuple[Argument, ...]


# -- kinds -------------------------------------------------------------------------------------------


def _number(table: dict[int, str]) -> Kind:
    return lambda value, _: table.get(value & _INT)


def _bits(table: tuple[tuple[int, str], ...], none: str | None = None) -> Kind:
    """With `none` as the name of 0."""
    return lambda value, _: bit_names(value, table) if value else none


def _directory(value: int, _: int) -> str | None:
    return "AT_FDCWD" if value & _INT == _AT_FDCWD else None


def _permissions(value: int, _: int) -> str:
    special = [name for bit, name in ((0o4000, "suid"), (0o2000, "sgid"), (0o1000, "sticky")) if value & bit]
    return ",".join([*special, f"0{value & 0o777:03o}"])


def _permissions_if_made(value: int, opened: int) -> str | None:
    return _permissions(value, 0) if opened & _CREATES else None


def _node(value: int, _: int) -> str:
    return mode_text(value & 0xFFFF) or _permissions(value, 0)


def _access(value: int, _: int) -> str | None:
    return bit_names(value, ((1, "X_OK"), (2, "W_OK"), (4, "R_OK"))) if value else "F_OK"


def _ipc_flags(table: tuple[tuple[int, str], ...]) -> Kind:
    """``shmget``: flags and permissions in one number."""

    def kind(value: int, _: int) -> str:
        names = bit_names(value & ~0o777, table)
        if names is None and value & ~0o777:
            names = f"{value & ~0o777:#x}"
        return f"{names}|0{value & 0o777:03o}" if names else f"0{value & 0o777:03o}"

    return kind


def _clone(value: int, _: int) -> str | None:
    """The low byte is the signal at the end; what there is CLONE_NEWTIME elsewhere is a signal's bit here."""
    names = bit_names(value & ~_EXIT_SIGNAL, flags.CLONE)
    signal = numbers.SIGNAL.get(value & _EXIT_SIGNAL)
    return "|".join(part for part in (names, signal) if part) or None


def _mount(value: int, _: int) -> str | None:
    if value & 0xFFFF0000 == _MAGIC:
        names = bit_names(value & 0xFFFF, flags.MOUNT)
        return f"MS_MGC_VAL|{names}" if names else "MS_MGC_VAL"
    return bit_names(value, flags.MOUNT)


_NONBLOCK: Final = 0x800
_CLOEXEC: Final = 0x80000
_SOCKET_BITS: Final = ((_NONBLOCK, "SOCK_NONBLOCK"), (_CLOEXEC, "SOCK_CLOEXEC"))


def _socket_type(value: int, _: int) -> str | None:
    name = numbers.SOCKET_TYPE.get(value & 0xF)
    rest = bit_names(value & ~0xF, _SOCKET_BITS)
    if rest is None and value & ~0xF:
        return None
    return f"{name}|{rest}" if name and rest else name


def _descriptor(direct: int) -> Kind:
    return _bits(((_NONBLOCK, "O_NONBLOCK"), (direct, "O_DIRECT"), (_CLOEXEC, "O_CLOEXEC")))


def _protocol(value: int, family: int) -> str | None:
    """What a protocol number says depends on the family; 0 is the family's usual one."""
    name = numbers.FAMILY.get(family & _INT)
    if name in ("inet", "inet6"):
        return numbers.PROTOCOL.get(value & _INT)
    return numbers.NETLINK.get(value & _INT) if name == "netlink" else None


def _level(value: int, _: int) -> str | None:
    number = value & _INT
    return numbers.SOCKET_LEVEL.get(number) or (
        numbers.PROTOCOL.get(number) if number < _FIRST_LEVEL else None
    )


_FIRST_LEVEL: Final = 256  # below it a level is a protocol of IP


_OPTIONS: Final = {
    "SOL_SOCKET": numbers.SOCKET_OPTION,
    "ip": numbers.IP_OPTION,
    "tcp": numbers.TCP_OPTION,
    "udp": numbers.UDP_OPTION,
    "ipv6": numbers.IPV6_OPTION,
    "SOL_PACKET": numbers.PACKET_OPTION,
}


def _option(value: int, level: int) -> str | None:
    return _OPTIONS.get(_level(level, 0) or "", {}).get(value & _INT)


def _fcntl(opened: tuple[tuple[int, str], ...]) -> Kind:
    def kind(value: int, command: int) -> str | None:
        name = numbers.FCNTL.get(command & _INT)
        if name == "F_SETFD":
            return "FD_CLOEXEC" if value == 1 else None
        if name == "F_SETFL":
            return open_flags(value, opened)
        return bit_names(value, flags.SEAL) if name == "F_ADD_SEALS" else None

    return kind


_PRCTL_TABLES: Final = {
    "PR_SET_PDEATHSIG": numbers.SIGNAL,
    "PR_CAPBSET_READ": numbers.CAPABILITY,
    "PR_CAPBSET_DROP": numbers.CAPABILITY,
    "PR_SET_SECCOMP": numbers.SECCOMP_MODE,
    "PR_CAP_AMBIENT": numbers.PR_CAP_AMBIENT,
    "PR_SET_MM": numbers.PR_SET_MM,
}


def _prctl(value: int, option: int) -> str | None:
    return _PRCTL_TABLES.get(numbers.PRCTL.get(option & _INT, ""), {}).get(value & _INT)


def _ambient(value: int, option: int) -> str | None:
    return numbers.CAPABILITY.get(value) if numbers.PRCTL.get(option & _INT) == "PR_CAP_AMBIENT" else None


def _seccomp_flags(value: int, operation: int) -> str | None:
    return bit_names(value, flags.SECCOMP_FILTER) if operation == 1 else None


def _ptrace_data(value: int, request: int) -> str | None:
    name = numbers.PTRACE.get(request & _INT)
    if name in ("PTRACE_SETOPTIONS", "PTRACE_SEIZE"):
        return bit_names(value, flags.PTRACE_OPTION)
    return numbers.SIGNAL.get(value) if name in ("PTRACE_CONT", "PTRACE_SYSCALL", "PTRACE_DETACH") else None


def _policy(value: int, _: int) -> str | None:
    name = numbers.SCHEDULER.get(value & ~_RESET_ON_FORK & _INT)
    return f"{name}|SCHED_RESET_ON_FORK" if name and value & _RESET_ON_FORK else name


_RESET_ON_FORK: Final = 0x40000000


def _futex(value: int, _: int) -> str | None:
    name = numbers.FUTEX.get(value & 0x7F)
    rest = bit_names(value & ~0x7F, ((0x80, "FUTEX_PRIVATE_FLAG"), (0x100, "FUTEX_CLOCK_REALTIME")))
    return f"{name}|{rest}" if name and rest else name


def _personality(value: int, _: int) -> str | None:
    return personality_text(value & _INT)


def _ipc_call(value: int, _: int) -> str | None:
    return numbers.IPC_CALL.get(value & 0xFFFF)  # above it is the version of the call


_KINDS: Final[dict[str, Kind]] = {
    "access": _access,
    "advice": _number(numbers.MADVICE),
    "ambient": _ambient,
    "at": _bits(flags.AT),
    "bpf": _number(numbers.BPF_COMMAND),
    "clock": _number(numbers.CLOCK),
    "clone": _clone,
    "closerange": _bits(flags.CLOSE_RANGE),
    "dirfd": _directory,
    "domain": _number(numbers.FAMILY),
    "epoll": _number(numbers.EPOLL_OPERATION),
    "fcntl": _number(numbers.FCNTL),
    "fcntlarg": _fcntl(flags.OPEN),
    "fdflags": _descriptor(0x4000),
    "fsconfig": _number(numbers.FSCONFIG),
    "fsmount": _bits(flags.FSMOUNT),
    "fsopen": _bits(flags.FSOPEN),
    "futex": _futex,
    "ioctl": _number(numbers.IOCTL),
    "ipc": _ipc_call,
    "ipcget": _ipc_flags(flags.IPC),
    "kexec": _bits(flags.KEXEC),
    "keyctl": _number(numbers.KEYCTL),
    "level": _level,
    "map": lambda value, _: map_flags(value, flags.MAP),
    "memfd": _bits(flags.MEMFD),
    "mode": _permissions,
    "modeifmade": _permissions_if_made,
    "module": _bits(flags.MODULE),
    "mount": _mount,
    "mountattr": _bits(flags.MOUNT_ATTR),
    "movemount": _bits(flags.MOVE_MOUNT),
    "message": _bits(flags.MESSAGE),
    "namespaces": _bits(flags.CLONE),
    "node": _node,
    "open": lambda value, _: open_flags(value, flags.OPEN),
    "opentree": _bits((*flags.OPEN_TREE, (0x80000, "OPEN_TREE_CLOEXEC"), *flags.AT)),
    "option": _option,
    "personality": _personality,
    "policy": _policy,
    "prctl": _number(numbers.PRCTL),
    "prctlarg": _prctl,
    "priority": _number(numbers.PRIORITY),
    "prot": _bits(flags.PROT, "PROT_NONE"),
    "protocol": _protocol,
    "ptrace": _number(numbers.PTRACE),
    "ptracedata": _ptrace_data,
    "random": _bits(flags.GETRANDOM),
    "reboot": _number(numbers.REBOOT),
    "rename": _bits(flags.RENAME),
    "rlimit": _number(numbers.RLIMIT),
    "seccomp": _number(numbers.SECCOMP_OPERATION),
    "seccompflags": _seccomp_flags,
    "seek": _number(numbers.SEEK),
    "shmat": _bits(flags.SHMAT),
    "shmget": _ipc_flags((*flags.IPC[:2], *flags.SHMGET)),
    "signal": _number({0: "SIG0", **numbers.SIGNAL}),
    "socketcall": _number(numbers.SOCKETCALL),
    "socktype": _socket_type,
    "accept": _bits(_SOCKET_BITS),
    "exit": _number({0: "EXIT_SUCCESS", 1: "EXIT_FAILURE"}),
    "unlinkat": _bits(((0x200, "AT_REMOVEDIR"),)),
    "umount": _bits(flags.UMOUNT),
}

# On arm and aarch64 four flags of open have the numbers of four others, and some numbers are x86's alone.
_ARM: Final[dict[str, Kind]] = {
    "fcntlarg": _fcntl(flags.OPEN_ARM),
    "fdflags": _descriptor(0x10000),
    "map": lambda value, _: map_flags(value, flags.MAP_GENERIC),
    "open": lambda value, _: open_flags(value, flags.OPEN_ARM),
    "ptrace": _number(numbers.PTRACE_GENERIC),
}
_ARM_TABLES: Final = ("c00000b7", "40000028")

_LAST_ARGUMENT: Final = 3  # the record has four


class Arguments:
    """Calls by architecture and number, each looked up once; bounded by the size of the tables."""

    def __init__(self, names: Names) -> None:
        self._calls: dict[tuple[str, int], Call] = {}
        self._kinds = dict(_KINDS)
        self._kinds["user"] = lambda value, _: names.user(value & _INT)
        self._kinds["group"] = lambda value, _: names.group(value & _INT)
        self._table = {line.split(" ", 1)[0]: line for line in CALLS.splitlines()}

    def of(self, arch: Value, number: Value) -> Call:
        """Return the call that ``arch=`` and ``syscall=`` of a record name."""
        if not isinstance(arch, str) or not isinstance(number, int):
            return _NO_CALL
        call = self._calls.get((arch, number))
        if call is None:
            name = call_name(arch, number)
            if name is None:
                return _NO_CALL
            call = self._calls[arch, number] = Call(name, self._arguments(arch, name))
        return call

    def _arguments(self, arch: str, name: str) -> tuple[Argument, ...]:
        found = []
        for word in self._table.get(name, "").split()[1:]:
            place, _, kind = word.partition(":")
            kind, _, other = kind.partition("@")
            if int(place) <= _LAST_ARGUMENT:
                function = (arch in _ARM_TABLES and _ARM.get(kind)) or self._kinds[kind]
                found.append(Argument(int(place), int(other or place), function))
        return tuple(found)


_NO_CALL: Final = Call(None, ())


def call_name(arch: str, number: int) -> str | None:
    """Return a system call's name; None for an architecture or a number without one.

    An x32 program has the architecture of a 64-bit one and a bit in the number.
    """
    if arch == "c000003e" and number >= _X32:
        arch, number = "x32", number - _X32
    table = syscalls.BY_ARCH.get(arch, ())
    if not 0 <= number < len(table) or table[number] == "-":
        return None
    return table[number]


def argument_text(argument: Argument, value: Value, other: Value) -> str | None:
    """Return the meaning of one argument, both as they stand in the record."""
    own = hexadecimal(value)
    depends = hexadecimal(other)
    return None if own is None or depends is None else argument.kind(own, depends)
