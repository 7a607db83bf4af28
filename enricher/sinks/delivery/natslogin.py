# SPDX-License-Identifier: Apache-2.0
"""How a program logs in to a NATS cluster: a .creds file, a token, or a user, and over TLS alone where that is asked.

Owns the reading of the files and a client that says nothing in clear text. Never connects: who publishes does, who
collects, and who sets the stream up. Nobody imports nats-py here; it is handed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from enricher.errors import ConfigInvalid
from enricher.sinks.delivery.extras import extra
from enricher.sinks.delivery.secret import read_file, read_secret, secret_path

if TYPE_CHECKING:
    from nats.aio.client import Client


class Login(Protocol):
    """What can be set of it; at most one way is."""

    @property
    def creds_file(self) -> str:
        """A JWT and its key."""

    @property
    def token_file(self) -> str:
        """A token."""

    @property
    def username(self) -> str:
        """The user, with password_file."""

    @property
    def password_file(self) -> str:
        """The user's password."""


def read_login(options: Login, library: Any) -> tuple[dict[str, Any], str]:  # noqa: ANN401 - nats.aio.client
    """Return nats-py's arguments for it, and advice on the file. Raises UsageError and ConfigInvalid."""
    if options.creds_file:
        extra("nkeys", "nats")
        raw, advice = read_file(secret_path(options.creds_file, "creds_file"), "creds_file")
        if not all(mark in raw for mark in (b"BEGIN NATS USER JWT", b"BEGIN USER NKEY SEED")):
            said = f"creds_file: {options.creds_file}: it is no .creds file"
            raise ConfigInvalid(said, "what `nsc generate creds` writes: a JWT and its key")
        return {"user_credentials": library.RawCredentials(raw.decode(errors="replace"))}, advice
    if options.token_file:
        token, advice = read_secret(secret_path(options.token_file, "token_file"), "token_file")
        return {"token": token}, advice
    if options.username:
        path = secret_path(options.password_file, "password_file")
        password, advice = read_secret(path, "password_file")
        return {"user": options.username, "password": password}, advice
    return {}, ""


def client_of(library: Any, *, held_to_tls: bool) -> Client:  # noqa: ANN401 - nats.aio.client
    """Return a client that is not connected; one that is held to TLS has a member ``secured``, once it is.

    nats-py uses TLS where the server says so, and logs in without where it does not: so the server's word is
    looked at before CONNECT is made, which has the password in it.
    """
    if not held_to_tls:
        plain: Client = library.Client()
        return plain
    errors = library.errors

    class Secured(library.Client):  # type: ignore[misc]  # imported when it is needed
        secured = False

        def _connect_command(self) -> bytes:
            if not self._server_info.get("tls_required"):
                raise errors.Error("it does not ask for TLS, which is set here")
            self.secured = True
            command: bytes = super()._connect_command()
            return command

    secured: Client = Secured()
    return secured
