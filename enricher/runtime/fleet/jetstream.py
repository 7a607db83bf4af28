# SPDX-License-Identifier: Apache-2.0
"""The JetStream stream of a fleet: made where it is missing, compared where it is there, changed where that is asked.

Owns the questions to the cluster and what its refusals mean. Never removes a stream, and never changes one unasked:
with a shorter age, say, its events would be gone. Needs nats-py.

There is no consumer to be made: `collect` makes its own, which keeps nothing (docs/adr/0024-position-beside-files.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from enricher.errors import FleetNotReady
from enricher.runtime.fleet.layout import Finding, Layout, differences
from enricher.sinks.delivery.connection import addresses_of, context_of
from enricher.sinks.delivery.extras import extra
from enricher.sinks.delivery.natslogin import client_of, read_login
from enricher.sinks.delivery.words import printable

if TYPE_CHECKING:
    from enricher.sinks.delivery.jetstream import NatsOptions

_NOT_FOUND: Final = 10059
_HINTS: Final = {
    10005: "fewer servers have JetStream and room than --replicas asks for",
    10023: "the servers' limits for JetStream (max_file, or the account's) leave no room",
    10039: "the account has no JetStream: `jetstream: enabled` in it",
    10047: "the servers' limits for JetStream (max_file, or the account's) leave no room",
    10052: "this server cannot change that of a stream that is there",
    10065: "another stream has these subjects: --stream with its name, or remove it",
    10074: "a server alone keeps one copy: --replicas 1",
    10076: "JetStream is not on: `jetstream {}` in the servers' configuration",
}
"""By the number of an error of the API."""
_TRIES: Final = 8
_PATIENCE: Final = 3.0
"""Seconds for the answer to each."""


class JetStream:
    """What is asked of one cluster. Raises FleetNotReady, UsageError and ConfigInvalid."""

    def __init__(self, options: NatsOptions) -> None:
        self._library = extra("nats.aio.client", "nats")
        self._options = options
        self._login, advice = read_login(options, self._library)
        self._context = context_of(options.tls_given) if options.tls else None
        self._client: Any = None
        self._why = ""
        self.advice = [advice] if advice else []
        """Sentences for the operator; more when it has been asked."""

    def setup(self, layout: Layout, *, update: bool, dry: bool) -> list[Finding]:
        """Do, or with `dry` only say, what it takes that the stream is as wanted."""
        return asyncio.run(self._setup(layout, update=update, dry=dry))

    async def _setup(self, layout: Layout, *, update: bool, dry: bool) -> list[Finding]:
        await self._connect()
        try:
            self._look_at_the_server(layout)
            return [await self._stream(layout.stream(self._options.stream), update=update, dry=dry)]
        finally:
            await self._client.close()

    def _look_at_the_server(self, layout: Layout) -> None:
        if self._client.max_payload < layout.max_message:
            self.advice.append(
                f"the server takes messages of {self._client.max_payload} bytes, headers included: larger events are"
                f" refused; max_payload in its configuration"
            )
        if not self._client._server_info.get("auth_required"):  # noqa: SLF001 - nats-py has no other way
            self.advice.append(
                "the server lets anybody in, who may then publish as any host; `fleet users` makes users"
            )

    async def _stream(self, wanted: dict[str, object], *, update: bool, dry: bool) -> Finding:
        what = f"stream {wanted['name']}"
        there = await self._ask("STREAM.INFO", None, missing=True)
        if there is None:
            if dry:
                return Finding(what, f"would be made: {json.dumps(wanted)}", well=False)
            await self._ask("STREAM.CREATE", wanted)
            return Finding(what, "made", well=True)
        differ = differences(wanted, there)
        said = "; ".join(differ.values())
        if not differ:
            return Finding(what, "as wanted", well=True)
        if not update:
            return Finding(what, f"differs, and is left alone without --update: {said}", well=False)
        if dry:
            return Finding(what, f"would be changed: {said}", well=False)
        # What the layout does not speak of stays as it is.
        await self._ask("STREAM.UPDATE", {**there, **wanted})
        return Finding(what, f"changed: {said}", well=True)

    # -- the cluster ---------------------------------------------------------------------------------

    async def _connect(self) -> None:
        options = self._options
        errors = []
        for address in addresses_of(options.address):
            client = client_of(self._library, held_to_tls=self._context is not None)
            self._why = ""
            tls: dict[str, Any] = {}
            if self._context is not None:
                tls = {"tls": self._context, "tls_hostname": address.host}
            try:
                async with asyncio.timeout(options.timeout):
                    await client.connect(
                        f"nats://{address}",
                        name="audit-enricher fleet",
                        allow_reconnect=False,
                        max_reconnect_attempts=1,
                        reconnect_time_wait=0,
                        error_cb=self._complain,
                        connect_timeout=max(1, int(options.timeout)),
                        **tls,
                        **self._login,
                    )
            # A server that says what is no NATS makes the library raise anything.
            except Exception as error:  # noqa: BLE001
                errors.append(f"{address}: {self._why or printable(str(error)) or type(error).__name__}")
                with contextlib.suppress(Exception):  # whatever it is: it is over
                    await client.close()
            else:
                self._client = client
                return
        raise FleetNotReady(
            "; ".join(errors),
            "is it the right port, and the right login? (--servers, --creds-file, --username)",
        )

    async def _complain(self, error: Exception) -> None:
        self._why = self._why or printable(str(error))

    async def _answer(self, subject: str, body: bytes) -> bytes:
        """Ask until there is an answer: a cluster without a leader gives none, and asking twice does nothing twice."""
        for left in reversed(range(_TRIES)):
            try:
                data: bytes = (await self._client.request(subject, body, timeout=_PATIENCE)).data
            except TimeoutError:  # nats-py's is one
                if self._why or not left:
                    raise
            else:
                return data
        return b""

    async def _ask(
        self, request: str, config: dict[str, object] | None, *, missing: bool = False
    ) -> dict[str, object] | None:
        """Return the stream's configuration as it is then; None where there is none and `missing` allows that."""
        subject = f"$JS.API.{request}.{self._options.stream}"
        body = b"" if config is None else json.dumps(config).encode()
        try:
            found = json.loads(await self._answer(subject, body))
        except self._library.errors.NoRespondersError as error:
            raise FleetNotReady("JetStream does not answer", _HINTS[10076]) from error
        except (OSError, self._library.errors.Error, ValueError) as error:
            hint = "the user may not do that: docs/fleet.md says what it takes" if self._why else ""
            said = self._why or printable(str(error)) or type(error).__name__
            raise FleetNotReady(f"{request} {self._options.stream}: {said}", hint) from error
        if refusal := found.get("error"):
            if missing and refusal.get("err_code") == _NOT_FOUND:
                return None
            said = printable(str(refusal.get("description", "refused")))
            raise FleetNotReady(
                f"{request} {self._options.stream}: {said}", _HINTS.get(refusal.get("err_code"), "")
            )
        config = found.get("config")
        return config if isinstance(config, dict) else {}
