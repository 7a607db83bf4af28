# SPDX-License-Identifier: Apache-2.0
"""What `nsc` makes, for one test: an operator, an account with JetStream, and a user's .creds file.

A JWT of NATS is signed by the key of its issuer (ed25519-nkey); the server trusts the operator's.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any, NamedTuple

import nkeys

_UNLIMITED = dict.fromkeys(
    "subs data payload imports exports conn leaf mem_storage disk_storage streams consumer".split(), -1
)


class _Key:
    def __init__(self, prefix: int) -> None:
        self.seed = nkeys.encode_seed(os.urandom(32), prefix)
        self._pair = nkeys.from_seed(bytearray(self.seed))
        self.public: str = self._pair.public_key.decode()

    def sign(self, name: str, subject: str, claims: dict[str, Any]) -> str:
        body = {"jti": name, "iat": 1, "iss": self.public, "name": name, "sub": subject}
        parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, {**body, "nats": {**claims, "version": 2}}]
        text = b".".join(_text(json.dumps(part).encode()) for part in parts)
        return (text + b"." + _text(self._pair.sign(text))).decode()


def _text(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class Trust(NamedTuple):
    """``config`` is for the server, ``creds`` what the user's file holds."""

    config: str
    creds: str


def trust() -> Trust:
    """Make all of it anew."""
    operator = _Key(nkeys.PREFIX_BYTE_OPERATOR)
    accounts = {name: _Key(nkeys.PREFIX_BYTE_ACCOUNT) for name in ("AUDIT", "SYS")}
    user = _Key(nkeys.PREFIX_BYTE_USER)
    preload = ""
    for name, key in accounts.items():
        limits = {**_UNLIMITED, "wildcards": True}
        if name == "SYS":  # which has no JetStream
            limits = {each: value for each, value in limits.items() if "storage" not in each}
        preload += (
            f'{key.public}: "{operator.sign(name, key.public, {"type": "account", "limits": limits})}"\n'
        )
    said = operator.sign("test", operator.public, {"type": "operator"})
    config = f'operator: "{said}"\nsystem_account: {accounts["SYS"].public}\nresolver: MEMORY\n'
    config += f"resolver_preload {{\n{preload}}}\n"
    claims = {"type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}
    jwt = accounts["AUDIT"].sign("enricher", user.public, claims)
    creds = f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
    creds += f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    return Trust(config, creds)
