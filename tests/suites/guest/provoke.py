# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: provokes records that need a netlink message of their own.

Shares no code with the program under test. Usage: provoke.py user TYPE TEXT | listener | uring-rule add|delete
"""

from __future__ import annotations

import socket
import struct
import sys

NETLINK_AUDIT = 9
AUDIT_ADD_RULE, AUDIT_DEL_RULE = 1011, 1012
FILTER_URING_EXIT = 7
ALWAYS = 2
FILTERKEY = 210
EQUAL = 0x40000000
KEY = b"uring"


def request(kind: int, payload: bytes) -> None:
    """Send one message and wait for its acknowledgement."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_AUDIT) as channel:
        channel.bind((0, 0))
        request_and_ack = 1 | 4
        channel.send(struct.pack("=IHHII", 16 + len(payload), kind, request_and_ack, 1, 0) + payload)
        (code,) = struct.unpack_from("=i", channel.recv(65536), 16)
        if code:
            raise OSError(-code, f"the kernel refused message {kind}")


def uring_rule() -> bytes:
    """``struct audit_rule_data`` for: always, every io_uring operation, key "uring" (auditctl 3.0.9 cannot)."""
    zeros = [0] * 63
    return (
        struct.pack("=III", FILTER_URING_EXIT, ALWAYS, 1)
        + struct.pack("=64I", *[0xFFFFFFFF] * 64)
        + struct.pack("=64I", FILTERKEY, *zeros)
        + struct.pack("=64I", len(KEY), *zeros)
        + struct.pack("=64I", EQUAL, *zeros)
        + struct.pack("=I", len(KEY))
        + KEY
    )


def main(arguments: list[str]) -> None:
    """Do what the first argument says."""
    if arguments[0] == "user":
        request(int(arguments[1]), arguments[2].encode() + b"\0")
    elif arguments[0] == "listener":
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_AUDIT) as reader:
            reader.bind((0, 1))
    elif arguments[0] == "uring-rule":
        request(AUDIT_ADD_RULE if arguments[1] == "add" else AUDIT_DEL_RULE, uring_rule())
    else:
        sys.exit(f"unknown: {arguments}")


main(sys.argv[1:])
