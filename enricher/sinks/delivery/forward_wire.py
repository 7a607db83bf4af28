# SPDX-License-Identifier: Apache-2.0
"""Fluent Forward v1 as bytes: chunks of events, the digests of its handshake, and what a receiver says.

Owns the encoding. Never sends anything and knows no state. What a receiver says is hostile until it was read here:
anything but a short array or map raises `ProtocolError`, and no more than `MOST_SAID` bytes of it are held.

A chunk is ``[tag, entries, {"chunk": ID, "size": N}]``, PackedForward: ``entries`` are one msgpack ``[time, record]``
after the other, as binary, all of them gzip where ``"compressed": "gzip"`` says so. ``time`` is EventTime, the
extension 0 with the seconds and nanoseconds in 32 bits each, big endian.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import os
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

import msgpack

from enricher.sinks.delivery.words import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from enricher.sinks.delivery.message import Message

MOST_SAID: Final = 16 << 10
"""Bytes that a receiver may say without ending what it says; an acknowledgement has forty."""
_EVENT_TIME: Final = 0
_LATEST: Final = (1 << 32) - 1
_MICRO: Final = 1_000_000


class ProtocolError(Exception):
    """What came is not Forward, or has no place here."""


class Chunk(NamedTuple):
    """So many messages from ``first`` on, as they are sent; ``id`` is what the receiver acknowledges."""

    id: bytes
    first: int
    events: int
    data: bytes


def event_time(seconds: float) -> msgpack.ExtType:
    """Return the time as EventTime. Beyond 32 bits of seconds it is the first or the last there is."""
    whole, micro = divmod(round(seconds * _MICRO), _MICRO)
    if not 0 <= whole <= _LATEST:
        whole, micro = (0, 0) if whole < 0 else (_LATEST, 0)
    return msgpack.ExtType(_EVENT_TIME, struct.pack(">II", whole, micro * 1000))


def entry(message: Message) -> bytes:
    """Return ``[time, record]``: a JSON object is the record itself, any other text is ``message`` beside ``uid``.

    So is an object that msgpack cannot hold, such as one with a number of more than 64 bits.
    """
    time = event_time(message.time)
    if message.body.startswith(b"{"):
        try:
            packed: bytes = msgpack.packb([time, json.loads(message.body)])
        except (ValueError, OverflowError, RecursionError):  # UnicodeError is a ValueError
            pass
        else:
            return packed
    text = message.body.decode(errors="replace")
    whole: bytes = msgpack.packb([time, {"message": text, "uid": message.uid}])
    return whole


def chunks(messages: Sequence[Message], tag: str, most: int, *, compress: bool) -> Iterator[Chunk]:
    """Return the messages in chunks of at most `most` bytes of entries; a larger one goes alone."""
    held: list[bytes] = []
    size = first = 0
    for number, message in enumerate(messages):
        packed = entry(message)
        if held and size + len(packed) > most:
            yield _chunk(held, first, tag, compress=compress)
            held, size, first = [], 0, number
        held.append(packed)
        size += len(packed)
    if held:
        yield _chunk(held, first, tag, compress=compress)


def _chunk(entries: Sequence[bytes], first: int, tag: str, *, compress: bool) -> Chunk:
    data = b"".join(entries)
    name = base64.b64encode(os.urandom(16)).decode()
    option: dict[str, object] = {"chunk": name, "size": len(entries)}
    if compress:
        data = gzip.compress(data, compresslevel=1, mtime=0)
        option["compressed"] = "gzip"
    return Chunk(name.encode(), first, len(entries), msgpack.packb([tag, data, option]))


# -- the handshake -----------------------------------------------------------------------------------


class Keys(NamedTuple):
    """What we prove ourselves by. Without a user `user` is "", and `password` too."""

    hostname: str
    shared: str
    user: str
    password: str


class Helo(NamedTuple):
    """What a receiver says first. ``auth`` is b"" where it asks for no user."""

    nonce: bytes
    auth: bytes
    keepalive: bool


def helo_of(said: object) -> Helo:
    """Read ``["HELO", options]``. Raises ProtocolError."""
    if not (isinstance(said, list) and len(said) == 2 and said[0] == b"HELO" and isinstance(said[1], dict)):  # noqa: PLR2004
        raise ProtocolError("it does not begin with HELO, so it does not know the shared key")
    nonce, auth = said[1].get(b"nonce"), said[1].get(b"auth", b"")
    if not isinstance(nonce, bytes) or not isinstance(auth, bytes):
        raise ProtocolError("a HELO without a nonce")
    return Helo(nonce, auth, said[1].get(b"keepalive") is not False)


def ping(helo: Helo, keys: Keys, salt: str) -> bytes:
    """Return the answer to HELO."""
    digest = _digest(salt.encode(), keys.hostname.encode(), helo.nonce, keys.shared.encode())
    user = password = ""
    if helo.auth:
        user = keys.user
        password = _digest(helo.auth, keys.user.encode(), keys.password.encode())
    data: bytes = msgpack.packb(["PING", keys.hostname, salt, digest, user, password])
    return data


def check_pong(said: object, helo: Helo, keys: Keys, salt: str) -> None:
    """Raise ProtocolError where it does not let us in, or does not know the shared key itself."""
    if not (isinstance(said, list) and len(said) == 5 and said[0] == b"PONG"):  # noqa: PLR2004 - its members
        raise ProtocolError("no PONG after PING")
    _, let_in, reason, hostname, digest = said
    if let_in is not True:
        words = reason.decode(errors="replace") if isinstance(reason, bytes) else ""
        raise ProtocolError(f"it does not let us in: {printable(words) or 'it does not say why'}")
    if not isinstance(hostname, bytes) or not isinstance(digest, bytes):
        raise ProtocolError("no PONG after PING")
    if hostname == keys.hostname.encode():
        raise ProtocolError("it has our own name: set hostname")
    ours = _digest(salt.encode(), hostname, helo.nonce, keys.shared.encode())
    if not hmac.compare_digest(digest, ours.encode()):
        raise ProtocolError("it does not know the shared key")


def _digest(*parts: bytes) -> str:
    return hashlib.sha512(b"".join(parts)).hexdigest()


# -- what a receiver says ----------------------------------------------------------------------------


class Answers:
    """Takes objects out of a stream of bytes, in which every text is bytes."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(raw=True, max_buffer_size=MOST_SAID)

    def feed(self, data: bytes) -> Iterator[object]:
        """Take in what came, and give out every object that is whole. Raises ProtocolError."""
        view = memoryview(data)
        while view:
            # Piece by piece, so that what is held is one object's, whatever comes at once.
            piece, view = view[: MOST_SAID // 2], view[MOST_SAID // 2 :]
            try:
                self._unpacker.feed(piece)
                yield from self._unpacker
            # Nested too deeply, a key that is none, a length that nobody means, and what the library calls damage.
            except (msgpack.UnpackException, ValueError, TypeError, RecursionError) as error:
                raise ProtocolError("what it says is not Forward") from error


def acknowledged(said: object) -> bytes:
    """Return the chunk that this acknowledges. Raises ProtocolError where it is something else."""
    if isinstance(said, list) and said[:1] == [b"HELO"]:
        raise ProtocolError("it asks for a shared key: name the file in shared_key_file")
    if isinstance(said, dict) and isinstance(chunk := said.get(b"ack"), bytes):
        return chunk
    raise ProtocolError("an answer that acknowledges nothing")
