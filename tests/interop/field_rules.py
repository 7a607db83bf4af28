# SPDX-License-Identifier: Apache-2.0
"""Where our reading of a field may differ from libauparse's, and why: one rule per reason.

Owns the table. Never excuses a whole field: a rule says what exactly the two values have to be. libauparse is
that of audit 3.0.9 or of the rolling release; a rule may be needed for one of the two only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.enrich.interpret_args import call_name
from enricher.enrich.tables import flags, numbers
from enricher.enrich.tables.syscalls import BY_ARCH

if TYPE_CHECKING:
    from collections.abc import Callable


class Difference(NamedTuple):
    """One field of one record, as both read it. `context` holds the record's raw values by name."""

    stamp: str
    record_type: str
    name: str
    raw: bytes
    theirs: bytes
    ours: bytes
    context: dict[str, str]

    @property
    def call(self) -> str:
        """The system call's name and the argument: ``open.a1``."""
        number = self.context.get("syscall", "")
        name = call_name(self.context.get("arch", ""), int(number)) if number.lstrip("-").isdigit() else None
        return f"{name}.{self.name}"

    @property
    def unnamed(self) -> bool:
        """Whether auparse shows no more than the number."""
        theirs = self.theirs
        if theirs.startswith((b"unknown", b"UNKNOWN")):
            return True
        hexed = theirs.removeprefix(b"0x")
        try:  # it takes some arguments for 32-bit numbers
            return theirs == self.raw or int(hexed, 16) == int(self.raw, 16) & 0xFFFFFFFF or hexed == self.raw
        except ValueError:
            return False


class Rule(NamedTuple):
    """Why two readings may differ, and when they are the two that are meant."""

    reason: str
    explains: Callable[[Difference], bool]


def _words(text: bytes) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """Return the names in a list of flags, and the bits that are there as a number."""
    words = frozenset(re.split(rb"[|,]", text))
    rest = frozenset(word for word in words if word[:2] == b"0x")
    return words - rest, rest


_KNOWN_BITS: Final = frozenset(
    name.encode() for value in vars(flags).values() if isinstance(value, tuple) for _, name in value
)
_EMPTY: Final = frozenset(
    {b"O_RDONLY", b"PROT_NONE", b"F_OK", b"MAP_FILE", b"SEEK_SET", b"PER_LINUX", b"0000"}
)


def _leftover(difference: Difference) -> bool:
    """Ours is theirs, and bits that have no name there."""
    ours, rest = _words(difference.ours)
    theirs, _ = _words(difference.theirs)
    more = ours - theirs
    return bool(rest or more) and theirs - ours <= _EMPTY and more <= _KNOWN_BITS and bool(ours)


def _renamed(pairs: dict[str, str]) -> Callable[[Difference], bool]:
    """Compare once every name of auparse's on the left is the one on the right; leftover bits aside."""

    def explains(difference: Difference) -> bool:
        theirs = re.sub(
            rb"[A-Za-z_0-9-]+", lambda m: pairs.get(m[0].decode(), m[0].decode()).encode(), difference.theirs
        )
        return theirs != difference.theirs and (
            theirs == difference.ours or _leftover(difference._replace(theirs=theirs))
        )

    return explains


def _escaped(value: bytes) -> bytes:
    return re.sub(rb"[\x00-\x1f]", lambda match: b"\\%03o" % match[0][0], value)


def _added_argument(difference: Difference) -> bool:
    return difference.record_type == "SYSCALL" and difference.call in ADDED and difference.unnamed


ADDED: Final = frozenset(
    """
    accept4.a3 clock_adjtime.a0 close_range.a2 dup3.a2 epoll_create1.a0 eventfd2.a1 execveat.a0 faccessat2.a3
    fchmodat2.a0 fchmodat2.a2 fchmodat2.a3 fchown.a1 fchown.a2 fchownat.a2 fchownat.a3 lchown.a1 lchown.a2
    chown.a2 finit_module.a2 fsmount.a1 fsmount.a2 fsopen.a1 fspick.a0 futex.a1 getpriority.a0 getrandom.a2
    inotify_init1.a0 kexec_load.a3 keyctl.a0 madvise.a2 memfd_create.a1 mount_setattr.a0 mount_setattr.a2
    move_mount.a0 move_mount.a2 msgget.a1 newfstatat.a3 open_tree.a0 open_tree.a2 open_tree_attr.a0
    open_tree_attr.a2 openat.a3 pidfd_send_signal.a1 pipe2.a1 pkey_mprotect.a2 prctl.a1 prctl.a2 prlimit64.a1
    ptrace.a3 reboot.a2 renameat2.a4 rt_sigqueueinfo.a1 rt_tgsigqueueinfo.a2 sched_get_priority_max.a0
    sched_get_priority_min.a0 seccomp.a0 seccomp.a1 semget.a2 setpriority.a0 shmat.a2 signalfd4.a3 socketpair.a0
    socketpair.a1 socketpair.a2 statx.a0 statx.a2 symlinkat.a1 umask.a0 unlinkat.a2 utimensat.a3 fcntl.a2
    clone.a0 ioctl.a1 fsconfig.a1 setxattrat.a0 setxattrat.a2 getxattrat.a0 getxattrat.a2 listxattrat.a0
    listxattrat.a2 removexattrat.a0 removexattrat.a2 file_getattr.a0 file_setattr.a0 linkat.a2 symlinkat.a0
    name_to_handle_at.a0 ugetrlimit.a0 setfsuid32.a0 setfsgid32.a0 chown32.a1 chown32.a2 fchown32.a1 fchown32.a2
    lchown32.a1 lchown32.a2 utimensat_time64.a0 utimensat_time64.a3 fstatat64.a0 fstatat64.a3 futex_time64.a1
    clock_settime64.a0 clock_adjtime64.a0 recvmmsg_time64.a3 setuid32.a0 setgid32.a0 ipc.a0 sigaction.a0 signal.a0
    setreuid32.a0 setreuid32.a1 setregid32.a0 setregid32.a1 setresuid32.a0 setresuid32.a1 setresuid32.a2
    setresgid32.a0 setresgid32.a1 setresgid32.a2 mmap2.a2 mmap2.a3 fcntl64.a1 fcntl64.a2
    """.split()
)
"""Arguments that auparse leaves as numbers."""

ADDED_FIELDS: Final = frozenset(
    """
    FANOTIFY.fan_type FANOTIFY.fan_info FANOTIFY.subj_trust FANOTIFY.obj_trust URINGOP.uring_op
    MQ_OPEN.mq_flags MQ_GETSETATTR.mq_flags MQ_NOTIFY.sigev_signo LOGIN.old-ses OBJ_PID.oses
    AVC.ioctlcmd
    """.split()
)
"""Fields that auparse leaves as numbers."""

_NEWER: Final = frozenset(
    name.encode()
    for title, table in vars(numbers).items()
    if title.isupper() and isinstance(table, dict)
    for name in table.values()
)

_HEXED: Final = ("acct", "cmd", "comm", "exe", "name", "cwd", "key")
_IP: Final = ("inet", "inet6")
_ARM: Final = ("c00000b7", "40000028")


def _are_open_flags(difference: Difference) -> bool:
    ours, _ = _words(difference.ours)
    theirs, _ = _words(difference.theirs)
    return all(
        word[:2] == b"O_" or word in _KNOWN_BITS for word in (ours | theirs) - {b"MAP_SHARED", b"MAP_PRIVATE"}
    )


def _other_protocol(difference: Difference) -> bool:
    if difference.call not in ("socket.a2", "socketpair.a2"):
        return False
    return numbers.FAMILY.get(int(difference.context["a0"], 16) & 0xFFFFFFFF) not in _IP


def _kind(pattern: str, test: Callable[[Difference], bool]) -> Callable[[Difference], bool]:
    """Return a test for fields whose ``TYPE.name``, or call and argument, match."""
    match = re.compile(pattern).fullmatch

    def explains(difference: Difference) -> bool:
        where = difference.call if difference.record_type == "SYSCALL" and difference.name != "exit" else ""
        return bool(match(where) or match(f"{difference.record_type}.{difference.name}")) and test(difference)

    return explains


def _bits_without_names(difference: Difference) -> bool:
    return _no_meaning(difference) and difference.theirs in _EMPTY and difference.raw.strip(b"0") != b""


def _no_meaning(difference: Difference) -> bool:
    return difference.ours == difference.raw


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "a number without a name stays as the kernel wrote it; auparse writes 0x before it or unknown-..()",
        lambda d: _no_meaning(d) and d.unnamed,
    ),
    Rule(
        "an error has its name; the sentence for it is the C library's",
        lambda d: d.name in ("exit", "errno") and d.theirs.split(b"(")[0] == d.ours,
    ),
    Rule(
        "errors that only exist inside the kernel have their name",
        lambda d: d.name == "exit" and b"Unknown error" in d.theirs and d.ours[:1] == b"E",
    ),
    Rule(
        "a multiplexed call is named by SYSCALL and A0, auparse names both in one",
        _kind(r"(socketcall|ipc)\.syscall", lambda d: d.theirs.startswith(d.ours + b"(")),
    ),
    Rule(
        "control characters in text are escapes of JSON, auparse writes \\ooo",
        lambda d: d.ours != d.theirs == _escaped(d.ours),
    ),
    Rule(
        "quotes around a value are not the value's",
        lambda d: d.raw == d.theirs and d.raw.strip(b"\"'") == d.ours.strip(b"'"),
    ),
    Rule("all bits of a set are told: those without a name as hex", _leftover),
    Rule("auparse leaves this argument as a number", _added_argument),
    Rule(
        "auparse leaves this field as a number",
        lambda d: (
            (d.name == "errno" or f"{d.record_type}.{d.name}" in ADDED_FIELDS)
            and (d.unnamed or d.theirs == b"unknown")
        ),
    ),
    Rule("auparse's table is older than the name", lambda d: d.theirs[:7] == b"unknown" and d.ours in _NEWER),
    Rule(
        "calls of an architecture that we have no table for, of which auparse takes those of another",
        lambda d: (
            d.context.get("arch") not in BY_ARCH
            and d.name in ("syscall", "a0", "a1", "a2", "a3")
            and _no_meaning(d)
        ),
    ),
    Rule("auparse's list of calls is older", lambda d: d.name == "syscall" and d.theirs[:7] == b"unknown"),
    Rule(
        "the kernel's header has another name for it, or auparse a misprint",
        _renamed(
            {
                "IGPWR": "SIGPWR",
                "pread": "pread64",
                "pwrite": "pwrite64",
                "CLONE_STOPPED": "CLONE_NEWCGROUP",
                "MS_SNAP_STABLE": "MS_NOREMOTELOCK",
                "armeb": "arm",
                "sys_kexec_load": "kexec_load",
                "sched_rr_get_interval64": "sched_rr_get_interval_time64",
                "newfstat": "fstat",
                "llseek": "_llseek",
                "newselect": "_newselect",
                "sysctl": "_sysctl",
                "fadvise64_64": "arm_fadvise64_64",
                "sync_file_range": "arm_sync_file_range",
                "getdents": "getdents64",
                "audit-netlink-multicast": "readlog",
            }
        ),
    ),
    Rule(
        "access modes: 3 is O_ACCMODE, not O_WRONLY and O_RDWR at once",
        lambda d: d.theirs.startswith(b"O_WRONLY|O_RDWR") and d.ours.startswith(b"O_ACCMODE"),
    ),
    Rule(
        "kinds of mapping are numbers, not bits",
        _kind(
            r"mmap2?\.a3|MMAP\.flags",
            lambda d: (b"MAP_" in d.theirs or d.unnamed) and int(d.raw, 16) & 0xF not in (1, 2),
        ),
    ),
    Rule(
        "the flags of open on arm and aarch64 are not x86's, and some numbers there are x86's alone",
        lambda d: (
            d.context.get("arch") in _ARM
            and (_are_open_flags(d) or (d.call == "ptrace.a0" and _no_meaning(d)))
        ),
    ),
    Rule(
        "bits without any name are a number, not an empty set",
        _bits_without_names,
    ),
    Rule("UMOUNT_UNUSED is no flag", _kind(r"umount2\.a1", lambda d: b"UMOUNT_UNUSED" in d.theirs)),
    Rule(
        "a number that auparse cannot convert",
        lambda d: d.theirs.startswith(b"conversion error") and _no_meaning(d),
    ),
    Rule(
        "an exit code is an int",
        _kind(
            r"exit(_group)?\.a0", lambda d: d.theirs == b"UNKNOWN" and d.raw[-8:].strip(b"0") in (b"", b"1")
        ),
    ),
    Rule(
        "an empty path is none",
        lambda d: (
            d.name == "saddr"
            and d.theirs == b"{ saddr_fam=local path= }"
            and d.ours == b"{ saddr_fam=local }"
        ),
    ),
    Rule(
        "addresses of amateur radio and of X.25 are left in saddr",
        lambda d: (
            d.name == "saddr"
            and d.ours in (b"{ saddr_fam=ax25 }", b"{ saddr_fam=x25 }", b"{ saddr_fam=ipx }")
        ),
    ),
    Rule(
        "OPENAT2 prints oflag in octal, which audit 3.0.9 takes for hex; O_LARGEFILE is the kernel's own",
        _kind(r"OPENAT2\.oflag", lambda d: d.ours[:2] == b"O_" and d.theirs[:2] == b"O_"),
    ),
    Rule(
        "a mode without a file type has none, and says itself in octal",
        lambda d: d.theirs.startswith(b"000,") and d.theirs.rsplit(b",", 1)[1][-3:] == d.ours[-3:],
    ),
    Rule(
        "a mode has the file's type where the call takes one, and four digits where not",
        _kind(r"mknodat\.a2|mknod\.a1", lambda d: d.theirs.rsplit(b",", 1)[-1][-3:] == d.ours[-3:]),
    ),
    Rule(
        "a mode counts only where a file may be made",
        _kind(r"(open|mq_open)\.a2", lambda d: d.unnamed and d.ours[-4:-3] == b"0"),
    ),
    Rule(
        "what a protocol number is depends on the family; auparse takes all for IP's",
        lambda d: _other_protocol(d) and (d.ours == d.raw or d.ours.startswith(b"NETLINK_")),
    ),
    Rule(
        "/etc/protocols has names of protocols that Linux has not",
        _kind(
            r"socket\.a2|(set|get)sockopt\.a1|NETFILTER_PKT\.proto",
            lambda d: d.ours == d.raw and d.theirs.isascii() and b"unknown" not in d.theirs,
        ),
    ),
    Rule(
        "a socket's type with bits that are none of its flags is no type",
        _kind(r"socket(pair)?\.a1", lambda d: b"SOCK_" in d.theirs and _no_meaning(d)),
    ),
    Rule(
        "a message's flags: the kernel's own are not a task's",
        _kind(r"\w+\.a[23]", lambda d: b"MSG_SENDPAGE_NOTLAST" in d.theirs or b"MSG_CMSG_COMPAT" in d.theirs),
    ),
    Rule(
        "clone's flags are the first register; auparse 3.0.9 names the third",
        _kind(r"clone\.a2", _no_meaning),
    ),
    Rule(
        "unshare and setns take no signal: 0x80 is CLONE_NEWTIME",
        _kind(
            r"(unshare|setns)\.a[01]",
            lambda d: b"SIG" in d.theirs or b"CLONE_STOPPED" in d.theirs or b"NEWTIME" in d.ours,
        ),
    ),
    Rule(
        "a third argument of readlinkat or renameat is not a directory",
        _kind(r"readlinkat\.a2", _no_meaning),
    ),
    Rule("faccessat has three arguments", _kind(r"faccessat\.a3", _no_meaning)),
    Rule("the fourth argument of open_tree_attr is a pointer", _kind(r"open_tree_attr\.a3", _no_meaning)),
    Rule(
        "fsmount takes MOUNT_ATTR_ flags, which mostly have the numbers of MS_ ones",
        _kind(r"fsmount\.a2", lambda d: b"MS_" in d.theirs),
    ),
    Rule(
        "a whence, a domain or a policy is compared as a whole, not by its low byte",
        _kind(r"lseek\.a2|personality\.a0|sched_setscheduler\.a1|SYSCALL\.per", lambda d: d.ours == d.raw),
    ),
    Rule(
        "a further bit of a policy or a personality is named",
        _kind(
            r"sched_setscheduler\.a1|personality\.a0|SYSCALL\.per",
            lambda d: d.ours.startswith(d.theirs.split(b"|")[0]) or d.unnamed,
        ),
    ),
    Rule(
        "F_SETFL, F_SETLEASE ..: what fcntl's third argument is depends on the command, and is no group",
        _kind(r"fcntl(64)?\.a2", _no_meaning),
    ),
    Rule(
        "what a socket address has is told, also of one that is cut off; a scope is a member of its own",
        _kind(
            r"SOCKADDR\.saddr",
            lambda d: (
                b"too short" in d.theirs
                or b"unnamed" in d.theirs
                or b"(unsupported)" in d.theirs
                or b"unknown" in d.theirs
                or re.sub(rb"%[^ ]+", b"", d.theirs) == d.ours
            ),
        ),
    ),
    Rule(
        "a file that can be made without a name has O_TMPFILE, which is two bits",
        lambda d: d.theirs.replace(b"O_DIRECTORY|__O_TMPFILE", b"O_TMPFILE") == d.ours,
    ),
    Rule(
        "a mode without any bit",
        lambda d: d.name == "mode" and d.theirs == b"000,000" and d.ours.strip(b"0") == b"",
    ),
    Rule(
        "of a task's end by seccomp there are two kinds",
        lambda d: d.name == "code" and d.theirs == b"kill" and d.ours in (b"kill-process", b"kill-thread"),
    ),
    Rule(
        "a word is no mode",
        lambda d: d.name == "mode" and not d.raw.isdigit() and d.theirs == b"000,000" and _no_meaning(d),
    ),
    Rule(
        "options of netfilter have one number for two names, one to set and one to get",
        _kind(r"[sg]etsockopt\.a2", lambda d: b"_SO_" in d.theirs and _no_meaning(d)),
    ),
    Rule(
        "hex that the kernel and libaudit write is in upper case and of even length; any other is text",
        lambda d: _no_meaning(d) and d.name in _HEXED and not re.fullmatch(rb"([0-9A-F]{2})+", d.raw),
    ),
    Rule(
        "a record of several rules' keys has them joined by 0x01; auparse shows one",
        lambda d: d.name == "key" and d.theirs in map(_escaped, d.ours.split(b"\x01")),
    ),
    Rule(
        "auparse interprets nothing in TRUSTED_APP",
        lambda d: d.record_type == "TRUSTED_APP" and d.raw == d.theirs,
    ),
    Rule(
        "a message that a program put into its message is not taken apart",
        lambda d: d.ours == b"" and d.raw == d.theirs and d.context.get("res", "").endswith("'"),
    ),
    Rule(
        "a set of capabilities that the kernel did not look up is not empty",
        lambda d: d.raw == d.ours == b"?" and d.theirs == b"none",
    ),
    Rule("MS_MGC_VAL is no set of flags", _kind(r"mount\.a3", lambda d: d.ours.startswith(b"MS_MGC_VAL"))),
    Rule(
        "a socket's type has flags of its own",
        _kind(
            r"socket\.a1",
            lambda d: d.ours[:5] == b"SOCK_" and (d.ours.split(b"|")[0] == d.theirs or d.unnamed),
        ),
    ),
    Rule(
        "a signal 0 is none",
        lambda d: d.name in ("sig", "sigev_signo") and d.raw == d.ours == b"0" and d.theirs == b"SIG0",
    ),
    Rule(
        "requests of ioctl that are made up of size and direction are numbers here",
        _kind(r"ioctl\.a1|AVC\.ioctlcmd", _no_meaning),
    ),
    Rule(
        "auparse ends a quoted value at a space",
        lambda d: b'"' in d.raw and d.raw.count(b'"') == 1 and d.ours.startswith(d.raw.strip(b'"')),
    ),
    Rule(
        "auparse takes a closing bracket for its own",
        lambda d: d.ours == d.theirs + b")",
    ),
    Rule(
        "keystrokes are text; auparse writes keys as <ret>",
        _kind(r"(TTY|USER_TTY)\.data", lambda d: bytes.fromhex(d.raw.decode()) == d.ours),
    ),
    Rule(
        "AppArmor names a family in words",
        _kind(r"AVC\.family", lambda d: b'"' in d.raw and d.raw.strip(b'"') == d.ours),
    ),
)
