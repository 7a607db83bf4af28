# SPDX-License-Identifier: Apache-2.0
"""Provokes as many kinds of audit records as one process tree can.

Usage: python3 -m variety [ACT...]. Prints a JSON object: for each act null, or why it went wrong. Before each
act the audit stream gets a USER record `op=variety act=NAME`, after the last one `act=end`. Everything runs
with login uid AUID, so that a rule can mean it and nothing else; what an act leaves behind, it or the end
removes. Which records an act must make is the test's business (tests/suites/test_variety.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import resource
import shutil
import signal
import socket
import struct
import sys
import termios
import traceback
from functools import partial
from pathlib import Path

from . import calls, network  # they enter their acts
from .acts import ACTS, AT_FDCWD, HOSTILE, act, apart, attempt, audit, call, fine, run

AUID = 4242
SOMEBODY = 1000
WORK = Path("/var/tmp/variety")  # noqa: S108 - in a guest that nobody else uses
PROGRAMS = Path(__file__).resolve().parents[2] / "workload"
TRUE = "truth-leaf"  # the name under which the workload's static program does nothing
USER, LOGIN_USER, SET_TTY, SET_FEATURE, TRIM, USER_TTY = 1005, 1112, 1017, 1018, 1014, 1124
ADD_RULE, DEL_RULE = 1011, 1012


def perform(*argv: bytes) -> None:
    """Run a static program that does nothing, under these arguments."""
    child = os.fork()
    if not child:
        try:
            os.execv(PROGRAMS / "truth", [TRUE.encode(), *argv])  # noqa: S606 - no shell is the point
        finally:
            os._exit(99)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError(f"the exec with {len(argv)} arguments failed")


@act
def login() -> None:
    fine(lambda: Path("/proc/self/loginuid").write_text(str(AUID + 1)))


@act
def execve() -> None:
    perform(*HOSTILE)
    perform(b"", b"", b"empty before")
    perform(b"long " + b"x" * 20000, b"short")
    perform(b"long and not UTF-8 \xff" + b"y" * 20000)
    perform(*[b"%d" % number for number in range(3000)])
    perform(*[b"%04x" % number for number in range(600)])  # each could be hex
    memory = os.memfd_create('"exe" \x01\n')
    os.write(memory, (PROGRAMS / "truth").read_bytes())
    fine(lambda: os.execve(memory, [TRUE, "from memory"], {}))  # noqa: S606 - as above


@act
def names() -> None:
    """Files, and processes, of hostile names."""
    for name in HOSTILE:
        path = WORK / os.fsdecode(name)
        path.mkdir()
        os.chdir(path)
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        Path(os.fsdecode(name)).rename(".renamed").unlink()
        with contextlib.suppress(OSError):
            os.close(os.open(name + b"/absent", os.O_RDONLY))
        os.chdir(WORK)
        path.rmdir()
        calls.named(name)
        os.close(os.open("/dev/null", os.O_RDONLY))


@act
def fd_pair() -> None:
    for fd in (*os.pipe(), *os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)):
        os.close(fd)
    for one in socket.socketpair():
        one.close()


@act
def ipc() -> None:
    get = {"shm": 29, "sem": 64, "msg": 68}
    arguments = {"shm": (0, 4096, 0o1640), "sem": (0, 3, 0o1600), "msg": (0, 0o1622)}
    control = {"shm": 31, "sem": 66, "msg": 71}
    remove, change, look = 0, 1, 2
    for kind, number in get.items():
        ident = call(number, *arguments[kind])
        status = ctypes.create_string_buffer(256)
        before = (ident, 0) if kind == "sem" else (ident,)
        call(control[kind], *before, look, status)
        call(control[kind], *before, change, status)
        call(control[kind], *before, remove, None)


@act
def message_queue() -> None:
    opened, unlink, send, receive, notify, attributes = 240, 241, 242, 243, 244, 245
    name = b'quo"te and\nline'
    queue = call(opened, name, os.O_CREAT | os.O_RDWR, 0o600, struct.pack("=8q", 0, 4, 64, 0, 0, 0, 0, 0))
    none = 1
    call(notify, queue, struct.pack("=qii48x", 0, signal.SIGUSR1, none))
    call(notify, queue, None)
    call(attributes, queue, struct.pack("=8q", os.O_NONBLOCK, 0, 0, 0, 0, 0, 0, 0), None)
    call(send, queue, b"message", 7, 3, struct.pack("=qq", 2_000_000_000, 5))
    call(receive, queue, ctypes.create_string_buffer(64), 64, None, None)
    attempt(receive, queue, ctypes.create_string_buffer(64), 64, None, None)
    call(unlink, name)


@act
def signals() -> None:
    attach, detach, ptrace, tgkill, queue = 16, 17, 101, 234, 129
    sleepers: list[int] = []
    for number in range(3):
        child = os.fork()
        if not child:
            calls.named(HOSTILE[number + 4])
            signal.pause()
            os._exit(99)
        os.setpgid(child, sleepers[0] if sleepers else 0)
        sleepers.append(child)
    call(ptrace, attach, sleepers[0], 0, 0)
    os.waitpid(sleepers[0], os.WUNTRACED)
    call(ptrace, detach, sleepers[0], 0, 0)
    call(tgkill, sleepers[0], sleepers[0], 0)
    attempt(queue, sleepers[0], 0, bytes(128))
    attempt(62, 4_000_000, signal.SIGTERM)
    os.killpg(sleepers[0], signal.SIGKILL)
    for child in sleepers:
        os.waitpid(child, 0)


@act
def capabilities() -> None:
    """A process sets its capabilities, and a program that brings its own to an ordinary user."""
    header, sets = struct.pack("=Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
    call(125, header, sets)
    call(126, header, sets)
    program, net_admin, effective = WORK / "with capability", 1 << 12, 1
    shutil.copy(PROGRAMS / "truth", program)
    os.setxattr(
        program, "security.capability", struct.pack("<5I", 0x02000000 | effective, net_admin, 0, 0, 0)
    )

    def ordinary() -> None:
        os.setresgid(SOMEBODY, SOMEBODY, SOMEBODY)
        os.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
        os.execv(program, [TRUE])  # noqa: S606 - as above

    fine(ordinary)
    program.unlink()


@act
def mmaps() -> None:
    with Path("/etc/hostname").open("rb") as file:
        for protection in (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_EXEC):
            mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, protection).close()


@act
def openat2() -> None:
    no_symlinks, beneath = 4, 8
    for name in (b"/etc/hostname", b"/proc/self/exe", b"absent", HOSTILE[4]):
        how = struct.pack("=QQQ", os.O_RDONLY | os.O_CLOEXEC, 0, no_symlinks)
        attempt(437, AT_FDCWD, name, how, len(how))
    how = struct.pack("=QQQ", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o640, beneath)
    os.close(call(437, AT_FDCWD, b"made by openat2", how, len(how)))
    Path("made by openat2").unlink()


@act
def seccomp() -> None:
    log, kill, errno, getppid = 0x7FFC0000, 0x80000000, 0x00050001, 110
    set_filter, flag_log, no_new_privileges = 1, 2, 38

    def filtered(action: int) -> None:
        code = ctypes.create_string_buffer(
            struct.pack("=HBBI", 0x20, 0, 0, 0)  # the number of the system call
            + struct.pack("=HBBI", 0x15, 0, 1, getppid)
            + struct.pack("=HBBI", 0x06, 0, 0, action)
            + struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
        )
        call(157, no_new_privileges, 1, 0, 0, 0)
        call(317, set_filter, flag_log, struct.pack("=H6xQ", 4, ctypes.addressof(code)))
        calls.named(b'sec"comp\x01')
        attempt(getppid)

    fine(lambda: filtered(log))
    fine(lambda: filtered(errno))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if apart(lambda: filtered(kill)) != -signal.SIGSYS:
        raise RuntimeError("seccomp did not kill")


@act
def bpf() -> None:
    code = ctypes.create_string_buffer(bytes.fromhex("b700000000000000" + "9500000000000000"))
    licence = ctypes.create_string_buffer(b"GPL")
    socket_filter, load = 1, 5
    attributes = struct.pack("=IIQQ48x", socket_filter, 2, ctypes.addressof(code), ctypes.addressof(licence))
    os.close(call(321, load, attributes, len(attributes)))


@act
def uring() -> None:
    for how in ("inline", "iowq"):
        run(str(PROGRAMS / "uring"), how)


@act
def abend() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def crash(name: bytes) -> None:
        calls.named(name)
        ctypes.string_at(0)

    for name in HOSTILE[:9]:
        if apart(partial(crash, name)) != -signal.SIGSEGV:
            raise RuntimeError("it did not crash")
    apart(os.abort)


@act
def links() -> None:
    """What the kernel refuses in directories that everybody may write to."""
    sticky = WORK / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    os.chdir(sticky)

    def somebody() -> None:
        os.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
        for name in HOSTILE[:5]:
            Path(os.fsdecode(name)).symlink_to("/etc/hostname")
        os.mkfifo("fifo")
        try:
            os.link("/etc/shadow", "not mine")
        except PermissionError:
            return
        raise RuntimeError("protected_hardlinks is off")

    fine(somebody)
    for name in HOSTILE[:5]:
        with contextlib.suppress(PermissionError):
            os.close(os.open(name, os.O_RDONLY))
            raise RuntimeError("protected_symlinks is off")
    with contextlib.suppress(PermissionError):
        os.close(os.open("fifo", os.O_CREAT | os.O_RDWR | os.O_NONBLOCK))
        raise RuntimeError("protected_fifos is off")
    os.chdir(WORK)
    shutil.rmtree(sticky)


def _rule(fields: dict[int, int | bytes], calls: int = 0xFFFFFFFF) -> bytes:
    """``struct audit_rule_data`` for: always, on exit, these fields, each with "equal"."""
    at_exit, always, equal = 4, 2, 0x40000000
    texts = [value for value in fields.values() if isinstance(value, bytes)]
    values = [len(value) if isinstance(value, bytes) else value for value in fields.values()]
    rest = [0] * (64 - len(fields))
    return b"".join(
        [
            struct.pack("=III", at_exit, always, len(fields)),
            struct.pack("=64I", *[calls] * 64),
            struct.pack("=64I", *fields, *rest),
            struct.pack("=64I", *values, *rest),
            struct.pack("=64I", *[equal] * len(fields), *rest),
            struct.pack("=I", sum(map(len, texts))),
            *texts,
        ]
    )


@act
def configuration() -> None:
    """Rules of hostile keys and paths; a watched file is replaced; and settings set to what they are."""
    watch, permission, key, auid, writes = 105, 106, 210, 9, 2
    for name in HOSTILE:
        rule = _rule({auid: AUID + 5, key: name})
        audit(ADD_RULE, rule)
        audit(DEL_RULE, rule)
    for name in HOSTILE[:6]:
        path = WORK / os.fsdecode(b"watched " + name)
        rule = _rule({watch: bytes(path), permission: writes, key: name})
        audit(ADD_RULE, rule)
        path.write_text("first")
        path.rename(WORK / "elsewhere")
        path.write_text("second")
        audit(DEL_RULE, rule)
    audit(TRIM, b"")
    run("auditctl", "-f", "1", "-b", "8192", "-r", "0")


@act
def features() -> None:
    version, only_unset_loginuid, unlocked = 1, 1, 0
    for value in (1, 0):
        audit(SET_FEATURE, struct.pack("=4I", version, only_unset_loginuid, value, unlocked))


@act
def terminal() -> None:
    """A session of which what is typed is recorded, and a line of a shell that says it by itself."""
    master, slave = os.openpty()

    def session() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        audit(SET_TTY, struct.pack("=II", 1, 0))
        for line in (b'echo "typed" \x1b[A\n', b"\xff\xfe pid=1 uid=0\n"):
            os.write(master, line)
            os.read(slave, 4096)
        audit(USER_TTY, b'echo "typed" \x01\0')

    fine(session)
    os.close(master)
    os.close(slave)


@act
def user_messages() -> None:
    """Every kind of message that programs may send, in the words of those that do."""
    who = f'acct="root" exe="{sys.executable}" hostname=? addr=? terminal=/dev/pts/0 res=success'
    own = {
        1107: "avc:  denied  { send_msg } for msgtype=method_call dest=org.example scontext=a tcontext=b",
        1123: 'cwd="/root" cmd=6964202D75 terminal=pts/0 res=success',
        1130: f'unit=variety comm="systemd" exe="{sys.executable}" hostname=? addr=? terminal=? res=success',
        1138: 'sw="bash-5.2" sw_type=deb key_enforce=0 gpg_res=1 root_dir="/" res=success',
        2404: "op=destroy kind=server fp=SHA256:00 direction=? spid=7 suid=0 res=success",
        2500: 'virt=kvm op=start reason=booted vm="a" uuid=0 vm-pid=7 res=success',
    }
    for number in (*range(1100, 1124), *range(1125, 1142), *range(2100, 2112), *range(2200, 2213), *range(2300, 2312),
                   *range(2400, 2411), *range(2500, 2503)):  # fmt: skip
        audit(number, own.get(number, f"op=PAM:variety grantors=pam_unix {who}").encode() + b"\0")


@act
def user_hostile() -> None:
    for name in HOSTILE:
        audit(LOGIN_USER, b"op=" + name + b" res=success\0")
        audit(USER, name + b"\0")
    for text in (
        b"",
        b"'",
        b"\n",
        b"=",
        b"== =a a= 'b",
        b"pid=1 uid=0 auid=0 ses=1 msg='op=login res=success'",
        b"' exe=\"/bin/true\" hostname=x' auid=0 audit(1.000:1): type=SYSCALL",
        b'acct="unfinished',
        b'acct=4142430A exe="a" exe="b" res=failed res=success',
        b"res=success\0res=failed",
        b"\xc3\x28 \xa0 \xed\xa0\x80",
        b"x" * 8000,
        b"\x00\x00",
    ):
        with contextlib.suppress(OSError):  # the kernel refuses one of no length
            audit(LOGIN_USER, text + b"\0")


@act
def listener() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9) as reader:
        reader.bind((0, 1))


@act
def fanotify() -> None:
    content_and_audit, add, open_permission, allow, deny, asked = 0x4 | 0x40, 1, 0x10000, 1, 2, 0x10
    path = WORK / "watched"
    path.write_text("content")
    group = call(300, content_and_audit, os.O_RDONLY)
    call(301, group, add, open_permission, AT_FDCWD, bytes(path))
    for answer in (allow, deny):
        child = os.fork()
        if not child:
            with contextlib.suppress(PermissionError):
                os.close(os.open(path, os.O_RDONLY))
            os._exit(0)
        opened = struct.unpack_from("=i", os.read(group, 4096), 16)[0]
        os.write(group, struct.pack("=iI", opened, answer | asked))
        os.close(opened)
        os.waitpid(child, 0)
    os.close(group)
    path.unlink()


@act
def ia32() -> None:
    """A program of 32 bits, made by hand: socketcall, open and bind by int 0x80, and a system call that is none."""
    base, start = 0x08048000, 84
    system = b"\xcd\x80"

    def code(data: int) -> bytes:
        def load(eax: int, ebx: int, ecx: int, edx: int) -> bytes:
            return struct.pack("<BIBIBIBI", 0xB8, eax, 0xBB, ebx, 0xB9, ecx, 0xBA, edx) + system

        return (
            load(102, 1, data, 0)  # socket(AF_UNIX, SOCK_STREAM, 0)
            + load(102, 2, data + 12, 0)  # bind(3, address, 16)
            + load(5, data + 40, 0x80000, 0)  # open(name, O_CLOEXEC)
            + load(0xFFF, 1, 2, 3)
            + load(1, 0, 0, 0)
        )

    data = base + start + len(code(0))
    content = struct.pack("<3I", 1, 1, 0) + struct.pack("<3I", 3, data + 24, 16)
    content += struct.pack("<H14s", 1, b"\0abstract\x01 \xff") + b'/absent "32"\0'
    text = code(data) + content
    size = start + len(text)
    header = b"\x7fELF\x01\x01\x01" + bytes(9)
    header += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, base + start, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    header += struct.pack("<8I", 1, 0, base, base, size, size, 5, 0x1000)
    program = WORK / "ia32"
    program.write_bytes(header + text)
    program.chmod(0o755)
    run(str(program))
    program.unlink()


def result_of(name: str) -> str | None:
    """Perform one act in a child; return why it failed, or None."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.close(reader)
        try:
            ACTS[name]()
        except BaseException:  # noqa: BLE001 - whatever it is, it is this act's result
            os.write(writer, traceback.format_exc().encode(errors="replace")[-3000:])
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, errors="replace") as said:
        text = said.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return text or (f"it ended with {status}" if status else None)


def main() -> None:
    """Perform all acts."""
    Path("/proc/self/loginuid").write_text(str(AUID))
    os.umask(0o022)
    WORK.mkdir()
    os.chdir(WORK)
    results = {}
    try:
        for name in sys.argv[1:] or ACTS:
            audit(USER, f"op=variety act={name}\0".encode())
            results[name] = result_of(name)
        audit(USER, b"op=variety act=end\0")
    finally:
        os.chdir("/")
        shutil.rmtree(WORK)
        network.undo()
    print(json.dumps(results))


main()
