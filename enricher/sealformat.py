# SPDX-License-Identifier: Apache-2.0
"""Seals: lines in a file of events that say what stands before them, for its writer and for `verify`.

Owns the line's form, the key and how it changes. Never reads or writes a file of events.

A seal holds the SHA-256 of all bytes since the seal before it, and that of that seal's own line: so each is about
everything before it. With a key it also holds an HMAC over all its members. The key of seal N+1 is made of that of seal
N, which is then forgotten: who takes the host over finds no key with which an earlier seal could be made anew. Who
verifies has kept the first key elsewhere.

In a file of JSON it is a line of JSON, in audit text a line of one record (``type=UNKNOWN[1399]``).
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from hashlib import sha256
from typing import Final, NamedTuple

SCHEMA: Final = "audit-enricher-seal/1"
JSON_START: Final = b'{"schema":"audit-enricher-seal/1",'
TEXT_START: Final = b"type=UNKNOWN[1399] msg=audit("
KEY_START: Final = "audit-enricher-seal-key/1"
KINDS: Final = ("begin", "lines", "found", "end")
"""`begin` and `end` stand first and last in a file; `lines` is about lines that its writer wrote, `found` about what
was there when it looked: at a start after a kill, or after a write that failed half-way."""
LONGEST: Final = 1024
"""Bytes of a seal's line."""
FARTHEST: Final = 10_000_000
"""Seals from one key to a later one: a second's work for each million."""

_HEX: Final = re.compile(r"[0-9a-f]{64}").fullmatch
_CHAIN: Final = re.compile(r"[0-9a-f]{16}").fullmatch
_TIME: Final = re.compile(r"([0-9]{1,12})\.([0-9]{3})").fullmatch
_FIELD: Final = re.compile(rb' ([a-z]+)="([^"]*)"')


class Malformed(ValueError):
    """A line that begins as a seal does and is none, or a key that is none."""


class Seal(NamedTuple):
    """One seal. ``time`` is seconds since the epoch, with three digits; digests are hex; ``mac`` may be ""."""

    chain: str
    number: int
    kind: str
    time: str
    lines: int
    size: int
    digest: str
    previous: str
    mac: str = ""


class Key(NamedTuple):
    """The key of one seal and, by `after`, of all later ones."""

    chain: str
    number: int
    secret: bytes

    def after(self, number: int) -> Key:
        """The key of a later seal. Raises Malformed where it is an earlier one, or too far."""
        if not 0 <= number - self.number <= FARTHEST:
            raise Malformed(
                f"the key is that of seal {self.number} and later ones; {number} is not among them"
            )
        secret = self.secret
        for _ in range(number - self.number):
            secret = hmac.digest(secret, b"audit-enricher next seal", "sha256")
        return Key(self.chain, number, secret)

    def mac(self, seal: Seal) -> str:
        """What the seal's ``mac`` is with this key."""
        said = "\n".join((SCHEMA, *map(str, seal[:-1])))
        return hmac.digest(self.secret, said.encode("ascii"), "sha256").hex()

    @property
    def text(self) -> str:
        """The key as a file has it."""
        return f"{KEY_START} {self.chain} {self.number} {self.secret.hex()}\n"


def new_key() -> Key:
    """A key of random numbers, for a chain that begins."""
    return Key(secrets.token_hex(8), 1, secrets.token_bytes(32))


def new_chain() -> str:
    """The name of a chain without a key."""
    return secrets.token_hex(8)


def parse_key(text: str) -> Key:
    """Read a key. Raises Malformed, never with the key's bytes in it."""
    words = text.split()
    if len(words) != len(("start", *Key._fields)) or words[0] != KEY_START:
        raise Malformed(f"no key: it does not have four words, {KEY_START} first")
    _, chain, number, secret = words
    if not _CHAIN(chain) or not number.isascii() or not number.isdigit() or not _HEX(secret):
        raise Malformed("no key: chain, number or secret are not of the form that they have")
    return Key(chain, int(number[:18]), bytes.fromhex(secret))


def digest_of(line: bytes) -> str:
    """What the next seal calls ``previous``: of the line without its newline."""
    return sha256(line.rstrip(b"\n")).hexdigest()


def line_of(seal: Seal, *, is_text: bool) -> bytes:
    """The seal as a line of a file, with its newline."""
    members = {name: value for name, value in seal._asdict().items() if value != ""}
    if is_text:
        time = members.pop("time")
        said = " ".join(f'{name}="{value}"' for name, value in members.items())
        return f"{TEXT_START.decode()}{time}:0): {said}\n".encode("ascii")
    return json.dumps({"schema": SCHEMA, **members}, separators=(",", ":")).encode("ascii") + b"\n"


def is_seal(line: bytes) -> bool:
    """Whether a line begins as only seals do: events' first member is another schema, and no record has this type."""
    return line.startswith((JSON_START, TEXT_START))


def parse(line: bytes) -> Seal:
    """Read a line for which `is_seal` holds. Raises Malformed."""
    if len(line) > LONGEST:
        raise Malformed("too long for a seal")
    try:
        members = _text_members(line) if line.startswith(TEXT_START) else json.loads(line)
        members.pop("schema", None)
        seal = Seal(**{"previous": "", **members})
    except (ValueError, TypeError, RecursionError) as error:
        raise Malformed("not the members of a seal") from error
    numbers = (seal.number, seal.lines, seal.size)
    if not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers):
        raise Malformed("a number that is none")
    words = (seal.chain, seal.kind, seal.time, seal.digest, seal.previous, seal.mac)
    if not all(isinstance(word, str) for word in words) or seal.kind not in KINDS:
        raise Malformed("a kind that there is not")
    whole = (seal.digest, *filter(None, (seal.previous, seal.mac)))
    if not _CHAIN(seal.chain) or not _TIME(seal.time) or not all(map(_HEX, whole)):
        raise Malformed("a digest or a time that is none")
    if line_of(seal, is_text=line.startswith(TEXT_START)) != line.rstrip(b"\n") + b"\n":
        raise Malformed("written in another way than seals are")
    return seal


def _text_members(line: bytes) -> dict[str, object]:
    time, _, rest = line[len(TEXT_START) :].partition(b":0):")
    members: dict[str, object] = {"time": time.decode("ascii")}
    for name, value in _FIELD.findall(rest):
        word = value.decode("ascii")
        members[name.decode("ascii")] = int(word) if name in (b"number", b"lines", b"size") else word
    return members
