# SPDX-License-Identifier: Apache-2.0
"""Acts of `variety` on the network, on devices, modules and the clock, and of the security modules.

Network acts run in a network namespace of their own, which takes what they made with it. Never run by itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from pathlib import Path

from .acts import HOSTILE, act, apart, attempt, attribute, call, fine, generic, run, word

NEW_NET = 0x40000000
PROFILE = b"""
profile variety flags=(attach_disconnected) {
  /** rmix,
  deny /etc/shadow r,
  audit deny /etc/gshadow r,
}
"""


def undo() -> None:
    """Unload the acts' own modules; those that the kernel loaded by itself, for a rule or a table, stay."""
    for module in ("dummy", "dm_integrity", "dm_crypt", "loop"):
        run("modprobe", "-r", "-q", module, ok=(0, 1))


def _own_network() -> None:
    call(272, NEW_NET)
    run("ip", "link", "set", "lo", "up")


@act
def sockets() -> None:
    """Addresses of every family there is, and of some that are none."""
    hostile = [struct.pack("=H", 1) + name[:107] for name in HOSTILE]
    abstract = [struct.pack("=H", 1) + b"\0" + name[:100] for name in HOSTILE]
    addresses = [
        *hostile,
        *abstract,
        struct.pack("=H", 1),
        struct.pack("=H", 1) + b"x" * 108,
        struct.pack("=H", 2) + struct.pack("!H4s8x", 9, b"\x7f\0\0\1"),
        struct.pack("=H", 2) + b"\0\x35",
        struct.pack("=H", 10) + struct.pack("!HI16sI", 9, 7, bytes(15) + b"\1", 1),
        struct.pack("=HHII", 16, 0, 4711, 1),
        struct.pack("=H", 17) + struct.pack("!HiHBB8s", 0x800, 1, 1, 0, 6, b"\2\0\0\0\0\1"),
        struct.pack("=HHIIBxxx", 40, 0, 1024, 2, 0),
        struct.pack("=H14sII64s", 38, b"hash", 0, 0, b"sha256"),
        struct.pack("=H", 0) + bytes(14),
        struct.pack("=H", 99) + b"\xff\x00\x01 strange",
        b"\2",
        b"",
        bytes(range(128)),
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        for address in addresses:
            for number in (42, 49):  # connect, bind: most are refused, all are recorded
                attempt(number, channel.fileno(), address, len(address))
            attempt(44, channel.fileno(), b"data", 4, 0x4000, address, len(address))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind('\0abstract "name"\x01')
        server.listen(1)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(server.getsockname())
            server.accept()[0].close()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as channel:
        channel.bind(("lo", 0x800))


@act
def netfilter_tables() -> None:
    _own_network()
    for program in ("iptables-legacy", "ip6tables-legacy"):
        for chain in ("INPUT", "FORWARD"):
            run(program, "-A", chain, "-j", "DROP")
    tables = """
        add table inet variety; add chain inet variety in { type filter hook input priority 0; }
        add set inet variety addresses { type ipv4_addr; }; add element inet variety addresses { 10.0.0.1 }
        add rule inet variety in ip saddr @addresses drop; delete table inet variety
    """
    run("nft", "-f", "-", text=tables.encode())


@act
def netfilter_packets() -> None:
    _own_network()
    run("iptables-legacy", "-A", "OUTPUT", "-j", "AUDIT", "--type", "accept")
    run("ip6tables-legacy", "-A", "OUTPUT", "-j", "AUDIT", "--type", "drop")
    tables = """
        add table inet variety; add chain inet variety out { type filter hook output priority 0; }
        add rule inet variety out log level audit
    """
    run("nft", "-f", "-", text=tables.encode())
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as channel:
            channel.sendto(b"variety", (address, 9))
        with socket.socket(family, socket.SOCK_STREAM) as channel, contextlib.suppress(ConnectionError):
            channel.connect((address, 9))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as channel:
        channel.sendto(struct.pack("!BBHHH", 8, 0, 0xF7FE, 1, 0), ("127.0.0.1", 0))


@act
def promiscuous() -> None:
    _own_network()
    add_membership, as_promiscuous = 1, 1
    for name in (b"variety0", b"uid=0", b"\xff\xfe\x01"):
        run("ip", "link", "add", name, "type", "dummy")
        run("ip", "link", "set", "dev", name, "promisc", "on")
        index = socket.if_nametoindex(os.fsdecode(name))
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as channel:
            channel.setsockopt(263, add_membership, struct.pack("=iHH8s", index, as_promiscuous, 0, b""))


@act
def ipsec() -> None:
    _own_network()
    policy = ("src", "10.0.0.0/8", "dst", "10.1.0.0/16", "dir", "out")
    run("ip", "xfrm", "policy", "add", *policy, "action", "block")
    run("ip", "xfrm", "policy", "delete", *policy)
    state = ("src", "10.0.0.1", "dst", "10.0.0.2", "proto", "esp", "spi", "0x100")
    run("ip", "xfrm", "state", "add", *state, "mode", "transport", "enc", "cbc(aes)", "0x" + "42" * 16)
    run("ip", "xfrm", "state", "delete", *state)


@act
def netlabel() -> None:
    """Everything is taken away again in the order in which it was made."""
    domain = attribute(1, b"variety\0")
    unlabelled, passed_through, accept = 5, 2, 1
    generic(b"NLBL_MGMT", 1, domain + attribute(2, word(unlabelled)))
    generic(b"NLBL_MGMT", 2, domain)
    doi = attribute(1, word(4242)) + attribute(2, word(passed_through))
    generic(b"NLBL_CIPSOv4", 1, doi + attribute(4, attribute(3, b"\1")))
    generic(b"NLBL_CIPSOv4", 2, attribute(1, word(4242)))
    generic(b"NLBL_CALIPSO", 1, doi)
    generic(b"NLBL_CALIPSO", 2, attribute(1, word(4242)))
    generic(b"NLBL_UNLBL", 1, attribute(1, bytes([accept])))
    where = attribute(4, b"\x0a\0\0\0") + attribute(5, b"\xff\0\0\0") + attribute(6, b"lo\0")
    context = attribute(7, b"unconfined\0")
    generic(b"NLBL_UNLBL", 3, where + context)
    generic(b"NLBL_UNLBL", 4, where)


@act
def modules() -> None:
    run("modprobe", "dummy")
    run("modprobe", "-r", "dummy")


@act
def clock() -> None:
    """A microsecond forth and back, and settings set to others and back."""
    microsecond, set_offset, frequency, tick = 1, 0x0100, 0x0002, 0x4000
    at_frequency, at_time, at_tick = 16, 72, 88  # in struct timex

    def adjust(modes: int, at: int, *values: int) -> tuple[int, ...]:
        """Set what is at this place, or only return it."""
        now = ctypes.create_string_buffer(208)
        call(159, now)
        before = struct.unpack_from("=q", now, at)
        struct.pack_into("=I", now, 0, modes)
        struct.pack_into(f"={len(values)}q", now, at, *values)
        call(159, now)
        return before

    adjust(set_offset, at_time, 0, microsecond)
    adjust(set_offset, at_time, -1, 1_000_000 - microsecond)
    for mode, at in ((frequency, at_frequency), (tick, at_tick)):
        (before,) = adjust(0, at)
        adjust(mode, at, before + 1)
        adjust(mode, at, before)
        if adjust(0, at) != (before,):
            raise RuntimeError(f"mode {mode} is not {before} again")


@act
def apparmor() -> None:
    """A profile is loaded, refuses two files of which one is to be recorded, and is removed."""
    run("apparmor_parser", "--replace", "--skip-cache", text=PROFILE)
    try:
        run("aa-exec", "-p", "variety", "--", "busybox", "cat", "/etc/gshadow", ok=(1,))
    finally:
        run("apparmor_parser", "--remove", text=PROFILE)


@act
def landlock() -> None:
    read_file, no_new_privileges = 4, 38

    def confined() -> None:
        rules = struct.pack("=Q", read_file)
        ruleset = call(444, rules, len(rules), 0)
        call(157, no_new_privileges, 1, 0, 0, 0)
        call(446, ruleset, 0)
        with contextlib.suppress(PermissionError):
            os.close(os.open("/etc/hostname", os.O_RDONLY))
            raise RuntimeError("landlock refuses nothing")

    fine(confined)


@act
def integrity() -> None:
    """What IMA, EVM and IPE are told and refuse, so that nothing changes; and a switch forth and back."""
    security = Path("/sys/kernel/security")
    for name, text in (
        ("ima/policy", "audit func=VARIETY"),
        ("evm/evm_xattrs", "user.variety"),
        ("ipe/new_policy", "no policy"),
    ):
        with contextlib.suppress(OSError):
            (security / name).write_text(text)
    with contextlib.suppress(FileNotFoundError):
        enforce = security / "ipe/enforce"
        before = enforce.read_text()
        for value in ("0", "1", before):
            enforce.write_text(value)


@act
def device_mapper() -> None:
    """A table that is made and torn down; a sector that was never written does not fit its checksum."""
    size = 1 << 20
    Path("device").write_bytes(bytes(size))
    run("modprobe", "loop")
    run("losetup", "/dev/loop7", "device")
    try:
        for sectors in (1, 64):
            table = f"0 {sectors} integrity /dev/loop7 0 4 D 1 internal_hash:crc32c"
            run("dmsetup", "create", "variety", "--table", table)
            if sectors > 1:
                apart(lambda: Path("/dev/mapper/variety").read_bytes())
            run("dmsetup", "remove", "--retry", "variety")
    finally:
        run("losetup", "-d", "/dev/loop7")
        Path("device").unlink()
