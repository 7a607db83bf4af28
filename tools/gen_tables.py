#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Write the generated modules of enricher/enrich/tables from the kernel's user-space headers.

Owns which names are taken from which header, the reading of ``#define`` and ``enum``, and the layout of what is
written. Never run by the program or by a build: the generated files are checked in.

The headers are Debian's package linux-libc-dev, which since 6.12 ships those of every architecture
below ``/usr/lib/linux/uapi``. On an older system, unpack a newer package and name the directory that then has
``usr``. What the kernel does not export to user space (address families, socket types) is taken from libc6-dev::

    tools/gen_tables.py --root DIR --source "linux-libc-dev 7.2.13-1" --libc / --libc-source "libc6-dev 2.36"
"""

from __future__ import annotations

import argparse
import ast
import operator
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET = Path(__file__).resolve().parent.parent / "enricher" / "enrich" / "tables"

# name, arch= as the kernel logs it (AUDIT_ARCH_*), header below the uapi directory. x32 has x86_64's arch= and a
# bit in the number, which the table is without.
ARCHES = (
    ("x86_64", "c000003e", "x86/asm/unistd_64.h"),
    ("x32", "x32", "x86/asm/unistd_x32.h"),
    ("i386", "40000003", "x86/asm/unistd_32.h"),
    ("aarch64", "c00000b7", "arm64/asm/unistd_64.h"),
    ("arm", "40000028", "arm/asm/unistd-eabi.h"),
)
NOT_CALLS = {"syscalls", "arch_specific_syscall", "SYSCALL_BASE"}


class Table(NamedTuple):
    """One table: `pattern` is what a constant's whole name matches, `drop` what of it is left out.

    Of two constants with one number the first is taken. With `lower` the pattern's first group becomes the
    name, in lower case: ``CAP_SYS_ADMIN`` is ``sys_admin`` in every tool that reads audit records.
    """

    name: str
    headers: tuple[str, ...]
    pattern: str
    drop: str = ""
    lower: bool = False


ERRNO_HEADERS = ("asm-generic/errno-base.h", "asm-generic/errno.h")
FCNTL = ("asm-generic/fcntl.h", "linux/fcntl.h")
SOCKET = ("asm-generic/socket.h",)
MMAN = ("asm-generic/mman-common.h", "asm-generic/mman.h", "linux/mman.h")
PTRACE = ("linux/ptrace.h", "uapi/x86/asm/ptrace-abi.h")

OPEN = r"O_[A-Z]+|FASYNC|__O_SYNC|__O_TMPFILE"
NO_OPEN = "O_(?:RDONLY|WRONLY|RDWR|ACCMODE|NDELAY|SYNC|TMPFILE)"

NUMBERS = (
    Table("ERRNO", ERRNO_HEADERS, r"E\w+"),
    Table(
        "SIGNAL",
        ("uapi/x86/asm/signal.h",),
        r"SIG[A-Z0-9]+",
        drop="SIGIOT|SIGPOLL|SIGRTMIN|SIGSTKSZ|SIGUNUSED",
    ),
    Table("ARCH", ("linux/audit.h", "linux/elf-em.h"), r"AUDIT_ARCH_(\w+)", lower=True),
    Table("CAPABILITY", ("linux/capability.h",), r"CAP_(\w+)", drop="CAP_LAST_CAP", lower=True),
    Table("FAMILY", ("libc/bits/socket.h",), r"PF_(\w+)", drop="PF_MAX", lower=True),
    Table("SOCKET_TYPE", ("libc/bits/socket_type.h",), r"SOCK_\w+", drop="SOCK_CLOEXEC|SOCK_NONBLOCK"),
    Table("PROTOCOL", ("linux/in.h", "linux/in6.h"), r"IPPROTO_(\w+)", drop="IPPROTO_MAX", lower=True),
    Table(
        "NETLINK",
        ("linux/netlink.h",),
        r"NETLINK_[A-Z0-9_]+",
        drop="NETLINK_(?:UNUSED|[A-Z_]*_(?:MEMBERSHIP|ACK|ID|CHK)|"
        "PKTINFO|BROADCAST_ERROR|NO_ENOBUFS|.X_RING|LISTEN_ALL_NSID|UNCONNECTED|CONNECTED|"
        "CAP_ACK)",
    ),
    Table("SOCKET_LEVEL", ("asm-generic/socket.h", "libc/bits/socket.h"), r"SOL_\w+"),
    Table("SOCKET_OPTION", SOCKET, r"SO_\w+"),
    Table(
        "TCP_OPTION",
        ("linux/tcp.h",),
        r"TCP_[A-Z0-9_]+",
        drop=r"TCP_(?:ACCECN_.*|AO_MAXKEYLEN|MSS_DEFAULT|MSS_DESIRED|REPAIR_O\w+|FLAG_\w+|"
        r"NLA_\w+|MD5SIG_\w+|AO_\w+KEYF\w*|RECVMSG_\w+|ESTABLISHED|RECEIVE_ZEROCOPY_FLAG\w+|"
        r"[A-Z]+_QUEUE|NO_QUEUE|QUEUES_NR|CA_\w+|"
        r"MAX_\w+|MIN_\w+|F[A-Z]*OPEN_CLIENT_FAIL|RTO_MAX)",
    ),
    Table(
        "IP_OPTION",
        ("linux/in.h",),
        r"IP_[A-Z0-9_]+|MCAST_[A-Z_]+",
        drop="IP_(?:PMTUDISC_.*|DEFAULT.*|MAX_.*)|MCAST_(?:EX|IN)CLUDE",
    ),
    Table(
        "IPV6_OPTION",
        ("linux/in6.h",),
        r"IPV6_[A-Z0-9_]+",
        drop="IPV6_(?:FL_.*|FLOWINFO_.*|PRIORITY_.*|PMTUDISC_.*|TLV_.*|OPT_.*|PREFER_.*)",
    ),
    Table("UDP_OPTION", ("linux/udp.h",), r"UDP_[A-Z0-9_]+", drop="UDP_ENCAP_.*"),
    Table(
        "PACKET_OPTION",
        ("linux/if_packet.h",),
        r"PACKET_[A-Z0-9_]+",
        drop="PACKET_(?:HOST|BROADCAST|MULTICAST|OTHERHOST|"
        "OUTGOING|LOOPBACK|USER|KERNEL|FASTROUTE|FANOUT_.*|MR_.*|QDISC_BYPASS_.*)",
    ),
    Table("SOCKETCALL", ("linux/net.h",), r"SYS_(\w+)", lower=True),
    Table("IPC_CALL", ("linux/ipc.h",), r"((?:SEM|MSG|SHM)[A-Z]+)", drop="SEM_.*", lower=True),
    Table("FCNTL", FCNTL, r"F_\w+", drop="F_(?:RDLCK|WRLCK|UNLCK|EXLCK|SHLCK|OWNER_.*|SEAL_.*|LINUX_.*)"),
    Table("SEEK", ("linux/fs.h",), r"SEEK_\w+", drop="SEEK_MAX"),
    Table("RLIMIT", ("asm-generic/resource.h",), r"RLIMIT_\w+"),
    Table(
        "PTRACE",
        PTRACE,
        r"PTRACE_[A-Z0-9_]+",
        drop="PTRACE_(?:EVENT_.*|O_.*|SYSCALL_INFO_.*|EVENTMSG_.*|PEEKSIGINFO_SHARED|OLDSETOPTIONS)",
    ),
    Table(
        "PTRACE_GENERIC",
        ("linux/ptrace.h",),
        r"PTRACE_[A-Z0-9_]+",
        drop="PTRACE_(?:EVENT_.*|O_.*|SYSCALL_INFO_.*|EVENTMSG_.*|PEEKSIGINFO_SHARED|OLDSETOPTIONS)",
    ),
    Table(
        "PRCTL",
        ("linux/prctl.h",),
        r"PR_[A-Z0-9_]+",
        drop="PR_(?:UNALIGN_.*|FPEMU_.*|FP_.*|TIMING_.*|ENDIAN_.*|TSC_.*|MCE_KILL_(?!GET).+|"
        "SET_MM_.*|CAP_AMBIENT_.*|SVE_(?!SET_VL|GET_VL).*|SVE_SET_VL_.+|SME_(?!SET_VL|GET_VL).*|SPEC_.*|"
        "PAC_AP.*|MTE_.*|TAGGED_.*|SYS_DISPATCH_.*|SCHED_CORE_(?!$).*|"
        "MDWE_.*|PPC_DEXCR_.*|RISCV_V_VSTATE_.*|RISCV_CTX_.*|RISCV_SCOPE_.*|FUTEX_HASH_.*|"
        "SHADOW_STACK_.*|THP_.*|RSEQ_SLICE_EXT.*_.*|CFI_.*|SET_VMA_.*|PMLEN_.*|"
        "TIMER_CREATE_RESTORE_IDS_.*)",
    ),
    Table("PR_SET_MM", ("linux/prctl.h",), r"PR_SET_MM_\w+"),
    Table("PR_CAP_AMBIENT", ("linux/prctl.h",), r"PR_CAP_AMBIENT_\w+"),
    Table("SECCOMP_MODE", ("linux/seccomp.h",), r"SECCOMP_MODE_\w+"),
    Table("SECCOMP_OPERATION", ("linux/seccomp.h",), r"SECCOMP_(?:SET_MODE|GET)_\w+"),
    Table(
        "SECCOMP_ACTION",
        ("linux/seccomp.h",),
        r"SECCOMP_RET_(\w+)",
        drop="SECCOMP_RET_(?:ACTION|ACTION_FULL|DATA)",
        lower=True,
    ),
    Table("PERSONALITY", ("linux/personality.h",), r"PER_\w+", drop="PER_(?:MASK|CLEAR_ON_SETID)"),
    Table("SCHEDULER", ("linux/sched.h",), r"SCHED_[A-Z]+"),
    Table("CLOCK", ("linux/time.h",), r"CLOCK_\w+", drop="CLOCK_(?:AUX.*|SGI_CYCLE)"),
    Table("EPOLL_OPERATION", ("linux/eventpoll.h",), r"EPOLL_CTL_\w+"),
    Table(
        "BPF_COMMAND",
        ("linux/bpf.h",),
        r"BPF_(?:MAP|PROG|OBJ|RAW|BTF|TASK|LINK|ENABLE|ITER|TOKEN)_[A-Z_]+",
        drop="BPF_(?:MAP_TYPE|PROG_TYPE|LINK_TYPE|LINK_PROG_TYPE)_.*|BPF_(?:OBJ|MAP|PROG|LINK|"
        "TOKEN)_F_.*|BPF_BTF_F.*|BPF_TASK_ITER.*|"
        "BPF_(?:MAP|BTF|OBJ)_(?:KEYS|NAME).*|BPF_MAP_ITER.*|BPF_LINK_(?:ITER|"
        "KPROBE)(?!_CREATE).*",
    ),
    Table(
        "KEYCTL", ("linux/keyctl.h",), r"KEYCTL_[A-Z0-9_]+", drop="KEYCTL_(?:CAPS.*|SUPPORTS_.*|MOVE_EXCL)"
    ),
    Table(
        "FUTEX",
        ("linux/futex.h",),
        r"FUTEX_[A-Z_]+[A-Z]",
        drop="FUTEX_(?:WAITV_MAX|BITSET_.*|.*_PRIVATE|PRIVATE_FLAG|CLOCK_REALTIME|CMD_MASK|WAITERS|"
        "OWNER_DIED|.*MASK|NUMA|NO_NODE|MPOL|ROBUST.*)",
    ),
    Table("MADVICE", ("asm-generic/mman-common.h",), r"MADV_\w+"),
    Table("FSCONFIG", ("linux/mount.h",), r"FSCONFIG_\w+"),
    Table("REBOOT", ("linux/reboot.h",), r"LINUX_REBOOT_CMD_\w+"),
    Table("PRIORITY", ("linux/resource.h",), r"PRIO_[A-Z]+", drop="PRIO_M.."),
    Table("URING_OPERATION", ("linux/io_uring.h",), r"IORING_OP_(\w+)", drop="IORING_OP_LAST", lower=True),
    Table("FILTER", ("linux/audit.h",), r"AUDIT_FILTER_(\w+)", drop="AUDIT_FILTER_PREPEND", lower=True),
    Table("NETFILTER_FAMILY", ("linux/netfilter.h",), r"NFPROTO_(\w+)", drop="NFPROTO_NUMPROTO", lower=True),
    Table("NETFILTER_VERDICT", ("linux/netfilter.h",), r"NF_([A-Z]+)", lower=True),
    Table("NETFILTER_HOOK", ("linux/netfilter.h",), r"NF_INET_(\w+)", drop="NF_INET_NUMHOOKS", lower=True),
    Table(
        "ICMP",
        ("linux/icmp.h",),
        r"ICMP_(?:ECHO|ECHOREPLY|DEST_UNREACH|SOURCE_QUENCH|REDIRECT|TIME_EXCEEDED|"
        r"PARAMETERPROB|"
        "TIMESTAMP|TIMESTAMPREPLY|INFO_REQUEST|INFO_REPLY|ADDRESS|ADDRESSREPLY)",
    ),
    Table(
        "IOCTL",
        ("asm-generic/ioctls.h", "linux/sockios.h"),
        r"T[CI][A-Z0-9]+|FIO\w+|SIOC[A-Z0-9]+",
        drop="TIOCPKT_.*|TIOCSER_.*|SIOCDEVPRIVATE|SIOCPROTOPRIVATE",
    ),
)

FLAGS = (
    Table("OPEN", ("uapi/x86/asm/fcntl.h", *FCNTL), OPEN, drop=NO_OPEN),
    Table("OPEN_ARM", ("uapi/arm64/asm/fcntl.h", *FCNTL), OPEN, drop=NO_OPEN),
    Table("AT", FCNTL, r"AT_(?:SYMLINK|EACCESS|REMOVEDIR|NO|EMPTY|STATX_FORCE|STATX_DONT|RECURSIVE)\w*"),
    Table("RESOLVE", ("linux/openat2.h",), r"RESOLVE_\w+"),
    Table("PROT", MMAN, r"PROT_[A-Z]+", drop="PROT_NONE"),
    Table(
        "MAP",
        ("uapi/x86/asm/mman.h", *MMAN),
        r"MAP_[A-Z0-9_]+",
        drop="MAP_(?:TYPE|FILE|SHARED|PRIVATE|SHARED_VALIDATE|DROPPABLE|HUGE_.*)",
    ),
    Table(
        "MAP_GENERIC",
        MMAN,
        r"MAP_[A-Z0-9_]+",
        drop="MAP_(?:TYPE|FILE|SHARED|PRIVATE|SHARED_VALIDATE|DROPPABLE|HUGE_.*)",
    ),
    Table("CLONE", ("linux/sched.h",), r"CLONE_[A-Z_]+", drop="CLONE_ARGS_.*"),
    Table("MOUNT", ("linux/mount.h",), r"MS_[A-Z_]+", drop="MS_(?:VERBOSE|RMT_MASK|MGC_VAL|MGC_MSK)"),
    Table("OPEN_TREE", ("linux/mount.h",), r"OPEN_TREE_[A-Z]+"),
    Table("MOVE_MOUNT", ("linux/mount.h",), r"MOVE_MOUNT_\w+", drop="MOVE_MOUNT__MASK"),
    Table(
        "MOUNT_ATTR", ("linux/mount.h",), r"MOUNT_ATTR_[A-Z]+", drop="MOUNT_ATTR_(?:_ATIME|RELATIME|SIZE_.*)"
    ),
    Table("FSOPEN", ("linux/mount.h",), r"FSOPEN_\w+"),
    Table("FSMOUNT", ("linux/mount.h",), r"FSMOUNT_\w+"),
    Table("RENAME", ("linux/fs.h",), r"RENAME_\w+"),
    Table("MESSAGE", ("libc/bits/socket.h",), r"MSG_[A-Z_]+", drop="MSG_(?:TRYHARD|CMSG_COMPAT)"),
    Table("IPC", ("linux/ipc.h",), r"IPC_(?:CREAT|EXCL|NOWAIT)"),
    Table("SHMGET", ("linux/shm.h",), r"SHM_(?:HUGETLB|NORESERVE)"),
    Table("SHMAT", ("linux/shm.h",), r"SHM_(?:RDONLY|RND|REMAP|EXEC)"),
    Table("SECCOMP_FILTER", ("linux/seccomp.h",), r"SECCOMP_FILTER_FLAG_\w+"),
    Table("MODULE", ("linux/module.h",), r"MODULE_INIT_\w+"),
    Table("MEMFD", ("linux/memfd.h",), r"MFD_[A-Z_]+", drop="MFD_HUGE_.*"),
    Table("CLOSE_RANGE", ("linux/close_range.h",), r"CLOSE_RANGE_\w+"),
    Table("GETRANDOM", ("linux/random.h",), r"GRND_\w+"),
    Table("PERSONALITY_FLAG", ("linux/personality.h",), r"[A-Z0-9_]+", drop="PER_.*"),
    Table("SEAL", FCNTL, r"F_SEAL_\w+"),
    Table("PTRACE_OPTION", ("linux/ptrace.h",), r"PTRACE_O_\w+", drop="PTRACE_O_MASK"),
    Table("FANOTIFY_RESPONSE", ("linux/fanotify.h",), r"FAN_(?:AUDIT|INFO)"),
    Table("UMOUNT", ("libc/sys/mount.h",), r"MNT_\w+|UMOUNT_NOFOLLOW"),
    Table("KEXEC", ("linux/kexec.h",), r"KEXEC_(?:ON|PRESERVE|UPDATE|FILE|CRASH)_\w+"),
)

# What programs and people know better by another name: POSIX's, nft's and auditctl's, IANA's keywords.
RENAMED = {
    "FASYNC": "O_ASYNC",
    "SCHED_NORMAL": "SCHED_OTHER",
    "PTRACE_PEEKUSR": "PTRACE_PEEKUSER",
    "PTRACE_POKEUSR": "PTRACE_POKEUSER",
    "NF_INET_PRE_ROUTING": "prerouting",
    "NF_INET_LOCAL_IN": "input",
    "NF_INET_LOCAL_OUT": "output",
    "NF_INET_POST_ROUTING": "postrouting",
    "SECCOMP_RET_KILL_PROCESS": "kill-process",
    "SECCOMP_RET_KILL_THREAD": "kill-thread",
    "SECCOMP_RET_USER_NOTIF": "user-notify",
    "AUDIT_FILTER_FS": "filesystem",
    "AUDIT_FILTER_URING_EXIT": "io_uring",
    "IPPROTO_IPIP": "ipencap",
    "IPPROTO_IDP": "xns-idp",
    "IPPROTO_TP": "iso-tp4",
    "IPPROTO_ROUTING": "ipv6-route",
    "IPPROTO_FRAGMENT": "ipv6-frag",
    "IPPROTO_ICMPV6": "ipv6-icmp",
    "IPPROTO_NONE": "ipv6-nonxt",
    "IPPROTO_DSTOPTS": "ipv6-opts",
    "IPPROTO_COMP": "ipcomp",
}

HEAD = '''\
# SPDX-License-Identifier: Apache-2.0
"""{title} Generated: do not edit.

Owns the names and nothing else. {rule}

Made from {source} by::

    {command}
"""

from __future__ import annotations

'''

# -- headers -----------------------------------------------------------------------------------------

DEEPEST = 20
"""Constants that stand for each other, from the first to the number; more is a circle."""

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+(\S.*?)[ \t]*$", re.MULTILINE)
_ENUM = re.compile(r"\benum\b[^{};]*\{(.*?)\}", re.DOTALL)
_NUMBER_SUFFIX = re.compile(r"\b(0[xX][0-9a-fA-F]+|[0-9]+)[uUlL]+\b")
_OCTAL = re.compile(r"(?<![\w.])0([0-7]+)\b")
_CAST = re.compile(r"\((?:__u32|__u64|int|unsigned int|unsigned long)\)")
_OPERATORS: dict[type[ast.AST], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.LShift: operator.lshift,
}


class Header:
    """The constants of one header: ``names`` maps each to its expression, in the header's order."""

    def __init__(self, path: Path) -> None:
        text = _COMMENT.sub(" ", path.read_text(encoding="utf-8")).replace("\\\n", " ")
        self.names: dict[str, str] = {}
        for body in _ENUM.findall(text):
            entries = re.sub(r"^[ \t]*#.*$", "", body, flags=re.MULTILINE).split(",")
            anchor, beyond = "0", 0  # the last value that is written out, and how many names behind it
            for entry in entries:
                name, _, value = (part.strip() for part in entry.partition("="))
                if re.fullmatch(r"\w+", name):
                    if value:
                        anchor, beyond = value, 0
                    self.names.setdefault(name, f"({anchor}) + {beyond}" if beyond else anchor)
                    beyond += 1
        for name, value in _DEFINE.findall(text):
            if value != name:  # beside an enum, so that #ifdef sees it
                self.names.setdefault(name, value)


def value_of(expression: str, known: dict[str, str], depth: int = 0) -> int:
    """Return a constant expression's value. Raises ValueError when it is none (a string, a type, a macro)."""
    text = _CAST.sub("", _NUMBER_SUFFIX.sub(r"\1", expression))
    text = _OCTAL.sub(r"0o\1", text)
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        raise ValueError(expression) from None
    return _value(tree, known, depth)


def _value(node: ast.AST, known: dict[str, str], depth: int) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.Name) and node.id in known and depth < DEEPEST:
        return value_of(known[node.id], known, depth + 1)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, known, depth)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        apply = _OPERATORS[type(node.op)]
        return apply(_value(node.left, known, depth), _value(node.right, known, depth))
    raise ValueError(ast.dump(node))


def constants(table: Table, find: Callable[[str], Path]) -> dict[int, str]:
    """Return number to name, sorted, for one table."""
    known: dict[str, str] = {}
    for header in table.headers:
        for name, value in Header(find(header)).names.items():
            known.setdefault(name, value)
    found: dict[int, str] = {}
    for name, expression in known.items():
        match = re.fullmatch(table.pattern, name)
        if not match or (table.drop and re.fullmatch(table.drop, name)):
            continue
        try:
            number = value_of(expression, known)
        except ValueError:
            continue
        if number >= 0:
            shown = match[1].lower() if table.lower else name
            found.setdefault(number, RENAMED.get(name, shown))
    if not found:
        raise SystemExit(f"{table.name}: nothing found in {', '.join(table.headers)}")
    return dict(sorted(found.items()))


def calls(header: Path) -> dict[int, str]:
    """Return number to name of one table of system calls; a number defined twice keeps its first name."""
    known = Header(header).names
    names: dict[int, str] = {}
    for name, expression in known.items():
        if name.startswith("__NR_") and name.removeprefix("__NR_") not in NOT_CALLS:
            try:
                number = value_of(re.sub("__NR_SYSCALL_BASE|__X32_SYSCALL_BIT", "0", expression), known)
            except ValueError:
                continue
            names.setdefault(number, name.removeprefix("__NR_"))
    if not names:
        raise SystemExit(f"{header}: no __NR_ definitions: is it the header of another kernel generation?")
    return {number: name for number, name in names.items() if number < 0x10000}  # noqa: PLR2004 - private calls of arm


# -- modules -----------------------------------------------------------------------------------------


def wrapped(words: str, indent: str = "    ") -> str:
    """Return words as lines of a string literal."""
    lines = textwrap.wrap(words, width=109 - len(indent), break_long_words=False, break_on_hyphens=False)
    return "".join(f"{indent}{line}\n" for line in lines)


def syscalls_module(uapi: Path, source: str, command: str) -> str:
    """Return the source of tables/syscalls.py."""
    title = "System call names by number, per architecture."
    rule = (
        "Never says which architecture an event has: `BY_ARCH` is keyed by the\n"
        'text of the SYSCALL record\'s ``arch=`` field, and by "x32" for numbers of c000003e less 0x40000000. A "-"\n'
        "in a table is a number the architecture does not use."
    )
    parts = [HEAD.format(title=title, rule=rule, source=source, command=command)]
    for arch, _, header in ARCHES:
        names = calls(uapi / header)
        words = " ".join(names.get(number, "-") for number in range(max(names) + 1))
        parts.append(f'_{arch.upper()} = tuple(\n    """\n{wrapped(words)}    """.split()\n)\n\n')
    parts.append("BY_ARCH: dict[str, tuple[str, ...]] = {\n")
    parts += [f'    "{number}": _{arch.upper()},\n' for arch, number, _ in ARCHES]
    parts.append("}\n")
    return "".join(parts)


def tables_module(tables: tuple[Table, ...], find: Callable[[str], Path], head: str, maker: str) -> str:
    """Return the source of tables/numbers.py or tables/flags.py."""
    parts = [head, f"from enricher.enrich.tables import {maker}\n\n"]
    for table in tables:
        words = " ".join(f"{number:x} {name}" for number, name in constants(table, find).items())
        parts.append(f'{table.name} = {maker}(\n    """\n{wrapped(words)}    """\n)\n')
    return "".join(parts)


def main() -> None:
    """Read all headers, write the modules."""
    parser = argparse.ArgumentParser(description="regenerate the tables of names")
    parser.add_argument("--root", type=Path, default=Path("/"), help="where linux-libc-dev is unpacked")
    parser.add_argument("--source", required=True, help="package and version the headers come from")
    parser.add_argument("--libc", type=Path, default=Path("/"), help="where libc6-dev is unpacked")
    parser.add_argument("--libc-source", required=True, help="package and version of the C library's headers")
    parser.add_argument("--output", type=Path, default=TARGET)
    options = parser.parse_args()

    uapi = options.root / "usr/lib/linux/uapi"

    def find(header: str) -> Path:
        if header.startswith("libc/"):
            return Path(options.libc, "usr/include/x86_64-linux-gnu", header.removeprefix("libc/"))
        if header.startswith("uapi/"):
            return Path(uapi, header.removeprefix("uapi/"))
        return Path(options.root, "usr/include", header)

    command = "tools/gen_tables.py, with the arguments its docstring shows"
    both = f"{options.source} and {options.libc_source}"
    write = options.output.joinpath
    write("syscalls.py").write_text(syscalls_module(uapi, options.source, command), encoding="ascii")
    for name, title, tables, maker in (
        ("numbers.py", "Names of the kernel's numbers.", NUMBERS, "numbered"),
        ("flags.py", "Names of the kernel's bits.", FLAGS, "bits"),
    ):
        rule = "Never says which field or argument holds such a value; numbers are in hex."
        head = HEAD.format(title=title, rule=rule, source=both, command=command)
        write(name).write_text(tables_module(tables, find, head, maker), encoding="ascii")


if __name__ == "__main__":
    main()
