# SPDX-License-Identifier: Apache-2.0
"""What fields mean: one example of every kind, and that hostile values mean nothing and break nothing."""

from __future__ import annotations

import random

import pytest

from enricher.enrich.decode import Decoder
from enricher.enrich.interpret import _BY_TYPE, interpreters, interpreters_of
from enricher.enrich.interpret_args import Arguments, argument_text, call_name
from enricher.enrich.interpret_sockaddr import socket_address
from enricher.enrich.shape import Fields, FieldValue
from enricher.enrich.tables.syscalls import BY_ARCH
from enricher.model import Record
from enricher.sources.names import NoNames
from tests.unit.sample_events import HEAD

SYSCALL, PATH, SOCKADDR, EXECVE, MMAP, PROCTITLE = 1300, 1302, 1306, 1309, 1323, 1327


class Two:
    """A name service that knows root and one user."""

    generation = 0

    def user(self, uid: int) -> str | None:
        return {0: "root", 1000: "alice", 0xFFFFFFFF: "unset"}.get(uid)

    def group(self, gid: int) -> str | None:
        return {0: "wheel", 4: "adm"}.get(gid)


DECODER = Decoder(Two())


def fields(number: int, body: bytes) -> Fields:
    return DECODER.entry_of(Record(number, HEAD + body))["fields"]


@pytest.mark.parametrize(
    ("number", "word", "meaning"),
    [
        (SYSCALL, b"uid=0", "root"),
        (SYSCALL, b"uid=4242", None),
        (SYSCALL, b"auid=4294967295", "unset"),
        (1318, b"oauid=-1", "unset"),
        (SYSCALL, b"gid=4", "adm"),
        (SYSCALL, b"ses=4294967295", "unset"),
        (SYSCALL, b"ses=3", None),
        (SYSCALL, b"arch=c000003e", "x86_64"),
        (SYSCALL, b"arch=c00000f3", "riscv64"),
        (SYSCALL, b"arch=xyz", None),
        (SYSCALL, b"exit=-13", "EACCES"),
        (SYSCALL, b"exit=-512", "ERESTARTSYS"),
        (SYSCALL, b"exit=13", None),
        (SYSCALL, b"exit=-99999", None),
        (SYSCALL, b"per=8", "PER_LINUX32"),
        (SYSCALL, b"per=400000", "PER_LINUX|READ_IMPLIES_EXEC"),
        (SYSCALL, b"per=1", None),
        (PATH, b"mode=0104755", "file,suid,755"),
        (PATH, b"mode=041777", "dir,sticky,777"),
        (1303, b"mode=0600", None),
        (PATH, b"cap_fp=3000", "net_admin,net_raw"),
        (PATH, b"cap_fp=0", "none"),
        (PATH, b"cap_fp=20000000000", "0x20000000000"),
        (PATH, b"cap_fp=?", None),
        (1321, b"fp=2000", "net_raw"),
        (SYSCALL, b"fp=2000", None),
        (1701, b"sig=11", "SIGSEGV"),
        (1314, b"sigev_signo=10", "SIGUSR1"),
        (1305, b"list=4", "exit"),
        (1305, b"list=7", "io_uring"),
        (1305, b"res=1", "yes"),
        (1305, b"res=0", "no"),
        (1305, b"res=failed", None),
        (1312, b"oflag=0x42", "O_RDWR|O_CREAT"),
        (1315, b"mq_flags=0x800", "O_NONBLOCK"),
        (MMAP, b"flags=0x22", "MAP_PRIVATE|MAP_ANONYMOUS"),
        (MMAP, b"flags=0x40000002", "MAP_PRIVATE|0x40000000"),
        (1324, b"proto=6", "tcp"),
        (1324, b"hook=3", "output"),
        (1324, b"action=0", "drop"),
        (1325, b"family=10", "ipv6"),
        (1326, b"code=0x80000000", "kill-process"),
        (1326, b"code=0x7ff00007", "trace(7)"),
        (1326, b"code=0x5000d", "errno(EACCES)"),
        (1331, b"resp=2", "deny"),
        (1331, b"resp=17", "allow|FAN_AUDIT"),
        (1331, b"fan_type=1", "rule_info"),
        (1331, b"fan_info=3137", "12599"),
        (1331, b"subj_trust=2", "unknown"),
        (1336, b"uring_op=18", "openat"),
        (1337, b"oflag=0100102", "O_RDWR|O_CREAT|O_LARGEFILE"),
        (1337, b"resolve=0xa", "RESOLVE_NO_MAGICLINKS|RESOLVE_BENEATH"),
        (1400, b"capability=21", "sys_admin"),
        (1400, b"ioctlcmd=0x5413", "TIOCGWINSZ"),
        (1700, b"prom=256", "yes"),
        (1700, b"old_prom=0", "no"),
        (1800, b"errno=-13", "EACCES"),
        (1114, b"id=1000", "alice"),
        (1116, b"id=4", "adm"),
        (1335, b"nl-mcgrp=1", "readlog"),
    ],
)
def test_a_field_by_itself(number: int, word: bytes, meaning: str | None) -> None:
    name = word.partition(b"=")[0].decode()
    found = fields(number, word)
    assert found.get(name.upper()) == meaning
    assert list(found) == ([name] if meaning is None else [name, name.upper()])


def test_a_record_of_a_system_call() -> None:
    found = fields(
        SYSCALL, b"arch=c000003e syscall=257 success=no exit=-2 a0=ffffff9c a1=7f0 a2=80241 a3=1a4 items=1"
    )
    assert list(found.items()) == [
        ("arch", "c000003e"),
        ("ARCH", "x86_64"),
        ("syscall", 257),
        ("SYSCALL", "openat"),
        ("success", "no"),
        ("exit", -2),
        ("EXIT", "ENOENT"),
        ("a0", "ffffff9c"),
        ("A0", "AT_FDCWD"),
        ("a1", "7f0"),
        ("a2", "80241"),
        ("A2", "O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC"),
        ("a3", "1a4"),
        ("A3", "0644"),
        ("items", 1),
    ]


@pytest.mark.parametrize(
    ("arch", "call", "arguments", "place", "meaning"),
    [
        ("c000003e", "open", (0, 0x41, 0o600, 0), 2, "0600"),
        ("c000003e", "open", (0, 0x1, 0o600, 0), 2, None),  # no file is made: not a mode
        ("c000003e", "open", (0, 0x410041, 0, 0), 1, "O_WRONLY|O_CREAT|O_TMPFILE"),
        ("c000003e", "open", (0, 0x4000, 0, 0), 1, "O_RDONLY|O_DIRECT"),
        ("c00000b7", "openat", (0, 0, 0x4000, 0), 2, "O_RDONLY|O_DIRECTORY"),
        ("c000003e", "chmod", (0, 0o4755, 0, 0), 1, "suid,0755"),
        ("c000003e", "mknod", (0, 0o20666, 0, 0), 1, "character,666"),
        ("c000003e", "access", (0, 0, 0, 0), 1, "F_OK"),
        ("c000003e", "mmap", (0, 0, 3, 0x22), 2, "PROT_READ|PROT_WRITE"),
        ("c000003e", "mmap", (0, 0, 3, 0x22), 3, "MAP_PRIVATE|MAP_ANONYMOUS"),
        ("c000003e", "clone", (0x1200011, 9, 0, 0), 0, "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD"),
        ("c000003e", "unshare", (0x80, 0, 0, 0), 0, "CLONE_NEWTIME"),
        ("c000003e", "socket", (2, 0x80001, 6, 0), 0, "inet"),
        ("c000003e", "socket", (2, 0x80001, 6, 0), 1, "SOCK_STREAM|SOCK_CLOEXEC"),
        ("c000003e", "socket", (2, 0x80001, 6, 0), 2, "tcp"),
        ("c000003e", "socket", (16, 3, 9, 0), 2, "NETLINK_AUDIT"),
        ("c000003e", "socket", (1, 1, 0, 0), 2, None),
        ("c000003e", "setsockopt", (3, 1, 2, 0), 2, "SO_REUSEADDR"),
        ("c000003e", "setsockopt", (3, 6, 1, 0), 2, "TCP_NODELAY"),
        ("c000003e", "kill", (1, 15, 0, 0), 1, "SIGTERM"),
        ("c000003e", "ptrace", (0x4206, 1, 0, 0x10), 0, "PTRACE_SEIZE"),
        ("c000003e", "ptrace", (0x4206, 1, 0, 0x10), 3, "PTRACE_O_TRACEEXEC"),
        ("c000003e", "prctl", (24, 21, 0, 0), 1, "sys_admin"),
        ("c000003e", "prctl", (47, 2, 13, 0), 2, "net_raw"),
        ("c000003e", "fcntl", (3, 4, 0x802, 0), 2, "O_RDWR|O_NONBLOCK"),
        ("c000003e", "fcntl", (3, 2, 1, 0), 2, "FD_CLOEXEC"),
        ("c000003e", "mount", (0, 0, 0, 0x1001), 3, "MS_RDONLY|MS_BIND"),
        ("c000003e", "mount", (0, 0, 0, 0xC0ED0001), 3, "MS_MGC_VAL|MS_RDONLY"),
        ("c000003e", "setresuid", (0xFFFFFFFF, 1000, 0, 0), 1, "alice"),
        ("c000003e", "setresuid", (0xFFFFFFFF, 1000, 0, 0), 0, "unset"),
        ("c000003e", "bpf", (5, 0, 0, 0), 0, "BPF_PROG_LOAD"),
        ("c000003e", "lseek", (3, 0, 2, 0), 2, "SEEK_END"),
        ("c000003e", "sched_setscheduler", (0, 0x40000001, 0, 0), 1, "SCHED_FIFO|SCHED_RESET_ON_FORK"),
        ("c000003e", "personality", (0x40008, 0, 0, 0), 0, "PER_LINUX32|ADDR_NO_RANDOMIZE"),
        ("40000003", "socketcall", (3, 0, 0, 0), 0, "connect"),
        ("40000003", "ipc", (0x10015, 0, 0, 0), 0, "shmat"),
        ("c000003e", "futex", (0, 0x81, 0, 0), 1, "FUTEX_WAKE|FUTEX_PRIVATE_FLAG"),
    ],
)
def test_arguments(arch: str, call: str, arguments: tuple[int, ...], place: int, meaning: str | None) -> None:
    number = BY_ARCH[arch].index(call)
    words = " ".join(f"a{index}={value:x}" for index, value in enumerate(arguments))
    body = f"arch={arch} syscall={number} success=yes exit=0 {words} items=0"
    found = fields(SYSCALL, body.encode())
    assert found["SYSCALL"] == call
    assert found.get(f"A{place}") == meaning


@pytest.mark.parametrize(
    ("arch", "number", "name"),
    [
        ("c000003e", 59, "execve"),
        ("c000003e", 0x40000000 + 59, None),  # x32 has its own execve
        ("c000003e", 0x40000000 + 520, "execve"),
        ("c000003e", 0x40000000 + 39, "getpid"),
        ("c000003e", -1, None),
        ("c000003e", 10**18, None),
        ("40000003", 0x40000000 + 39, None),
        ("c00000f3", 56, None),
        ("", 0, None),
    ],
)
def test_names_of_calls(arch: str, number: int, name: str | None) -> None:
    assert call_name(arch, number) == name


@pytest.mark.parametrize(
    ("hexed", "address"),
    [
        ("020000507F0000010000000000000000", {"fam": "inet", "addr": "127.0.0.1", "port": 80}),
        ("02000050", {"fam": "inet", "port": 80}),
        ("0200", {"fam": "inet"}),
        ("02", None),
        (
            "0A0000500000000700000000000000000000000000000001" + "03000000",
            {"fam": "inet6", "addr": "::1", "port": 80, "flowinfo": 7, "scope_id": 3},
        ),
        ("01002F72756E2F7800FF", {"fam": "local", "path": "/run/x"}),
        ("01002FFF", {"fam": "local", "path": "/\ufffd", "path_hex": "2FFF"}),
        ("0100006162", {"fam": "local", "abstract": "ab"}),
        ("01000061006200", {"fam": "local", "abstract": "a\0b"}),
        ("0100", {"fam": "local"}),
        ("100000000700000001000000", {"fam": "netlink", "pid": 7, "groups": 1}),
        ("28000000D20400000200000000000000", {"fam": "vsock", "port": 1234, "cid": 2}),
        (
            "11000003010000000100000600112233445566" + "00",
            {
                "fam": "packet",
                "protocol": 3,
                "ifindex": 1,
                "hatype": 1,
                "pkttype": 0,
                "addr": "00:11:22:33:44:55",
            },
        ),
        (
            "2600686173680000000000000000000000000000000000007368613100",
            {"fam": "alg", "type": "hash", "name": "sha1"},
        ),
        ("0000FF", {"fam": "unspec"}),
        ("E803", {"fam": "1000"}),
    ],
)
def test_socket_addresses(hexed: str, address: dict[str, FieldValue] | None) -> None:
    assert socket_address(bytes.fromhex(hexed)) == address
    found = fields(SOCKADDR, b"saddr=" + hexed.encode())
    assert found["saddr"] == hexed  # the kernel's bytes stay as it wrote them
    assert found.get("SADDR") == address


def test_what_the_record_has_itself_wins() -> None:
    assert fields(SYSCALL, b'uid=0 gid=0\x1dUID="toor"') == {
        "uid": 0,
        "gid": 0,
        "GID": "wheel",
        "UID": "toor",
    }
    found = fields(SYSCALL, b"arch=c000003e syscall=59 a0=1\x1dARCH=other SYSCALL=thing")
    assert found["ARCH"] == "other"
    assert found["SYSCALL"] == "thing"
    assert fields(PROCTITLE, b"proctitle=6100 ARGV=x") == {"proctitle": "a\0", "ARGV": "x"}


def test_a_programs_numbers_are_interpreted_inside_its_message() -> None:
    found = fields(1114, b"pid=1 uid=0 auid=1000 ses=1 msg='op=add id=1000 UID=forged res=1'")
    assert found["UID"] == "root"
    assert found["msg"] == {
        "op": "add",
        "id": "1000",
        "ID": "alice",
        "UID": "forged",
        "res": "1",
        "RES": "yes",
    }


def test_a_repeated_field_has_a_list_of_meanings() -> None:
    assert fields(SYSCALL, b"uid=0 uid=7 uid=1000") == {"uid": [0, 7, 1000], "UID": ["root", None, "alice"]}
    assert fields(SYSCALL, b"uid=5 uid=7") == {"uid": [5, 7]}


def test_a_call_that_is_named_twice_is_not_interpreted() -> None:
    found = fields(SYSCALL, b"arch=c000003e syscall=59 syscall=60 a0=1")
    assert "SYSCALL" not in found


HOSTILE = [
    *(
        "",
        "-",
        "?",
        "0x",
        "-0",
        "٣",
        "1e9",
        "nan",
        "0b1",
        "1_0",
        "\ud7ff",
        "\0",
        "(null)",
        "f" * 16,
        "f" * 17,
    ),
    *("9" * 30, "-" + "9" * 30, "7" * 40, "0" * 5000, "²", "99999999999999999999", "18446744073709551615"),
]


def test_no_value_breaks_an_interpreter() -> None:
    rng = random.Random(3)  # noqa: S311 - repeatable on purpose
    values: list[str | int] = [*HOSTILE, -1, 0, 2**53, -(2**53), *(rng.getrandbits(53) for _ in range(200))]
    values += [f"{rng.getrandbits(64):x}" for _ in range(200)]
    for number in (*_BY_TYPE, 0):
        for interpret in interpreters_of(number, NoNames()).values():
            for value in values:
                interpret(value)
    known = Arguments(NoNames())
    calls = [known.of(arch, number) for arch, table in BY_ARCH.items() for number in range(len(table))]
    for argument in {argument for call in calls for argument in call.arguments}:
        for value in values:
            argument_text(argument, value, rng.choice(values))
    for _ in range(2_000):
        socket_address(rng.randbytes(rng.randrange(40)))
        family = rng.choice((1, 2, 10, 16, 17, 38, 40, 44)).to_bytes(2, "little")
        socket_address(family + rng.randbytes(rng.randrange(120)))


def test_every_interpreter_can_say_something() -> None:
    samples: list[str | int] = [
        0,
        1,
        2,
        -1,
        -2,
        0xFFFFFFFF,
        "0",
        "1",
        "2",
        "0x2",
        "100644",
        "c000003e",
        "0x5401",
    ]
    for number in (*_BY_TYPE, 0):
        for name, interpret in interpreters_of(number, Two()).items():
            assert any(interpret(value) is not None for value in samples), name
    assert set(interpreters(Two())) <= set(interpreters_of(1300, Two()))
