# SPDX-License-Identifier: Apache-2.0
"""The receiver's side of Fluent Forward, from the specification and not from our sender: strict in what it takes."""

from __future__ import annotations

import gzip
import hashlib
import socket
import struct
from collections.abc import Callable
from typing import Any

import msgpack

from tests.unit.fake_receivers import reset


def digest(*parts: bytes) -> str:
    return hashlib.sha512(b"".join(parts)).hexdigest()


def seconds(time: msgpack.ExtType) -> float:
    assert time.code == 0
    whole, nano = struct.unpack(">II", time.data)
    assert nano < 1_000_000_000
    return float(whole + nano / 1e9)


class Forward:
    """Serves connections. ``shared`` is its key, ``users`` their passwords; ``answer`` makes what a chunk is answered.

    ``break_after`` chunks of a connection it is reset before the next is acknowledged.
    """

    def __init__(
        self,
        *,
        shared: bytes = b"",
        users: dict[str, bytes] | None = None,
        answer: Callable[[str], object] = lambda chunk: {"ack": chunk},
        keepalive: bool = True,
    ) -> None:
        self.shared = shared
        self.users = users
        self.answer = answer
        self.keepalive = keepalive
        self.name = b"receiver.test"
        self.pong_name = self.name
        self.break_after = -1
        self.hold = 1  # acknowledgements that are sent together, the last first
        self.tags: list[str] = []
        self.times: list[float] = []
        self.records: list[dict[str, Any]] = []
        self.sizes: list[int] = []
        self.options: list[dict[str, Any]] = []
        self.refused = 0

    @property
    def uids(self) -> list[str]:
        return [record["uid"] for record in self.records]

    def __call__(self, connection: socket.socket) -> None:
        unpacker = msgpack.Unpacker()
        if self.shared and not self._hello(connection, unpacker):
            return
        held: list[object] = []
        served = 0
        while data := connection.recv(65536):
            unpacker.feed(data)
            for tag, entries, option in unpacker:
                if served == self.break_after:
                    reset(connection)
                    return
                served += 1
                self._take(tag, entries, option)
                held.insert(0, self.answer(option["chunk"]))
                if len(held) >= self.hold:
                    for each in held:
                        if each is not None:
                            connection.sendall(each if isinstance(each, bytes) else msgpack.packb(each))
                    held.clear()
                    if not self.keepalive:
                        return

    def _take(self, tag: str, entries: bytes, option: dict[str, Any]) -> None:
        assert isinstance(entries, bytes)
        assert isinstance(option["chunk"], str)
        self.options.append(option)
        if option.get("compressed") == "gzip":
            entries = gzip.decompress(entries)
        self.sizes.append(len(entries))
        unpacker = msgpack.Unpacker()
        unpacker.feed(entries)
        found = list(unpacker)
        assert len(found) == option["size"]
        for time, record in found:
            self.tags.append(tag)
            self.times.append(seconds(time))
            self.records.append(record)

    def _hello(self, connection: socket.socket, unpacker: msgpack.Unpacker) -> bool:
        nonce, auth = b"\x00\xffnonce", b"\xfesalt" if self.users is not None else b""
        helo = ["HELO", {"nonce": nonce, "auth": auth, "keepalive": self.keepalive}]
        connection.sendall(msgpack.packb(helo))
        while (found := next(unpacker, None)) is None:
            data = connection.recv(65536)
            if not data:
                return False
            unpacker.feed(data)
        if found[0] != "PING":
            return False
        _, name, salt, proof, user, password = found
        reason = ""
        if proof != digest(salt.encode(), name.encode(), nonce, self.shared):
            reason = "shared key mismatch"
        elif self.users is not None and password != digest(auth, user.encode(), self.users.get(user, b"?")):
            reason = "username/password mismatch"
        else:
            assert self.users is not None or (user, password) == ("", "")
        ours = digest(salt.encode(), self.name, nonce, self.shared)
        self.refused += bool(reason)
        connection.sendall(msgpack.packb(["PONG", not reason, reason, self.pong_name, ours]))
        return not reason
