# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: a client of containerd's CRI service that knows a handful of calls. Standard library only.

Usage: cri.py up POD UID PARENT SHARED SHARE YARD NAME...      a pod of host network, a container for each NAME
       cri.py exec CONTAINER WORD...
       cri.py down POD...

`up` prints a JSON object: the pod's id, and the containers' ids by their names. SHARED is "pod" for one pid namespace
for all, "container" for one each. Debian has no crictl; the messages are written by hand from the field numbers of
k8s.io/cri-api, runtime/v1, and carried by as little of HTTP/2 as one call at a time needs.
"""

from __future__ import annotations

import json
import socket
import struct
import sys

SOCKET = "/run/containerd/containerd.sock"
SERVICE = "/runtime.v1.RuntimeService/"
IMAGE = "localhost/busybox:latest"
TIMEOUT = 120.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
NODE = 2
PID_MODES = {"pod": 0, "container": 1}

Value = int | str | bytes


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def message(*fields: tuple[int, Value]) -> bytes:
    """Encode fields in their order; bytes are also what an inner message is."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            raw = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(raw)) + raw
    return out


def texts(raw: bytes) -> dict[int, bytes]:
    """Decode a message that has numbers and texts only: the last value of each field."""
    found: dict[int, bytes] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(raw):
        tag = number()
        size = number()
        if tag & 7 == 2:
            found[tag >> 3] = raw[at : at + size]
            at += size
        else:
            found[tag >> 3] = str(size).encode()
    return found


def literal(name: bytes, value: str) -> bytes:
    """Write a header that enters no table, without Huffman coding. ``name`` is an index or a new name, as encoded."""
    raw = value.encode()
    return name + bytes([len(raw)]) + raw


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def call(method: str, request: bytes) -> dict[int, bytes]:
    """Make one call on a connection of its own."""
    headers = (
        b"\x83\x86"  # :method POST, :scheme http
        + literal(b"\x04", SERVICE + method)
        + literal(b"\x01", "localhost")
        + literal(b"\x0f\x10", "application/grpc")  # content-type
        + literal(b"\x00\x02te", "trailers")
    )
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(TIMEOUT)
        channel.connect(SOCKET)
        body = b"\0" + struct.pack("!I", len(request)) + request
        channel.sendall(
            PREFACE
            + frame(SETTINGS, 0, 0)
            + frame(HEADERS, END_HEADERS, 1, headers)
            + frame(DATA, END_STREAM, 1, body)
        )
        stream = channel.makefile("rb")
        answer = trailers = b""
        while True:
            head = stream.read(9)
            if len(head) < 9:
                sys.exit(f"{method}: the connection ended")
            size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            payload = stream.read(size)
            if kind == SETTINGS and not flags & ACK:
                channel.sendall(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                channel.sendall(frame(PING, ACK, 0, payload))
            elif kind == DATA:
                answer += payload
            elif kind == HEADERS:
                trailers = payload
            if kind in {RST_STREAM, GOAWAY} or (kind in {DATA, HEADERS} and flags & END_STREAM):
                break
    if not answer:
        sys.exit(f"{method} was refused; its trailers, in HPACK: {trailers!r}")
    return texts(answer[5:])


def sandbox_config(name: str, uid: str, parent: str, pid_mode: int) -> bytes:
    """PodSandboxConfig: host network, since there are no CNI plugins here."""
    metadata = message((1, name), (2, uid), (3, "yard"))
    namespaces = message((1, NODE), (2, pid_mode))
    linux = message((1, parent), (2, message((1, namespaces))))
    return message((1, metadata), (3, "/run/yard-logs"), (8, linux))


def up(words: list[str]) -> None:
    """Start a pod."""
    name, uid, parent, shared, share, yard, *names = words
    mode = PID_MODES[shared]
    sandbox = sandbox_config(name, uid, parent, mode)
    pod = call("RunPodSandbox", message((1, sandbox)))[1].decode()
    ids = {}
    for each in names:
        mounts = [
            (7, message((1, "/w"), (2, share), (3, 1))),
            (7, message((1, "/yard"), (2, yard))),
        ]
        command = [(3, word) for word in ("/bin/sh", "/yard/box.sh", each)]
        namespaces = message((1, NODE), (2, mode))
        # One capability more, so that a process can make namespaces inside.
        capabilities = message((1, "SYS_ADMIN"))
        security = message((15, message((2, message((1, capabilities), (3, namespaces))))))
        container = message((1, message((1, each))), (2, message((1, IMAGE))), *command, *mounts) + security
        made = call("CreateContainer", message((1, pod), (2, container), (3, sandbox)))[1].decode()
        call("StartContainer", message((1, made)))
        ids[each] = made
    print(json.dumps({"pod": pod, "containers": ids}))


def main(verb: str, words: list[str]) -> None:
    """Do what the first argument says."""
    if verb == "up":
        up(words)
    elif verb == "exec":
        said = call("ExecSync", message((1, words[0]), *((2, word) for word in words[1:]), (3, 60)))
        sys.exit(int(said.get(3, b"0")))
    elif verb == "down":
        for pod in words:
            call("StopPodSandbox", message((1, pod)))
            call("RemovePodSandbox", message((1, pod)))
    else:
        sys.exit(f"unknown: {verb}")


main(sys.argv[1], sys.argv[2:])
