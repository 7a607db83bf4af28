# SPDX-License-Identifier: Apache-2.0
"""Messages of a JetStream stream from a sequence on, in order and without a hole.

Owns the consumer, which keeps nothing: the position is ours, written with the files, and what the server would remember
of acknowledgements is not needed. A message that did not come is asked for again. Needs nats-py.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import zlib
from typing import TYPE_CHECKING, Any, Final

from enricher.errors import UsageError
from enricher.runtime.collect.parquet import Row
from enricher.runtime.fleet.users import INBOX
from enricher.sinks.delivery.connection import addresses_of, context_of
from enricher.sinks.delivery.extras import extra
from enricher.sinks.delivery.natslogin import client_of, read_login

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from enricher.sinks.delivery.jetstream import NatsOptions

_HOST: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FETCH: Final = 5000
_WAIT: Final = 1.0
"""Seconds that a pull waits for a message, and between two tries to connect."""


def lane_of(host: str, lanes: int) -> int:
    """Return the lane that a host's events are in, always the same one."""
    return zlib.crc32(host.encode()) % lanes


class Stream:
    """The stream of these options. Raises UsageError and ConfigInvalid; ``advice`` is for the operator."""

    def __init__(self, options: NatsOptions) -> None:
        self._library = extra("nats.aio.client", "nats")
        self._errors = extra("nats.errors", "nats")
        self._api = extra("nats.js.api", "nats")
        self._servers = [f"nats://{each}" for each in addresses_of(options.address)]
        self._login, self.advice = read_login(options, self._library)
        self._tls: dict[str, Any] = {"tls": context_of(options.tls_given)} if options.tls else {}
        self.name = options.stream
        self.created = ""
        self.expired = 0
        """Messages that the stream had let go of before they were read."""
        self.ended = False

    async def _connect(self) -> Any:  # noqa: ANN401 - nats-py's
        async def ignored(_: Exception) -> None:
            """Say nothing: what was asked fails, and is asked again."""

        client = client_of(self._library, held_to_tls=bool(self._tls))
        await client.connect(
            self._servers,
            name="audit-enricher collect",
            error_cb=ignored,
            connect_timeout=5,
            max_reconnect_attempts=1,
            pending_size=1 << 26,
            inbox_prefix=INBOX,
            **self._tls,
            **self._login,
        )
        return client

    async def created_at(self) -> str:
        """Return when the stream was made, which tells it from another of its name. Raises UsageError."""
        found = ""
        while not found and not self.ended:
            with contextlib.suppress(OSError, self._errors.Error):
                client = await self._connect()
                try:
                    info = await client.jetstream(timeout=5).stream_info(self.name)
                    found = str(getattr(info, "created", "") or self.name)
                except extra("nats.js.errors", "nats").NotFoundError as error:
                    raise UsageError(
                        f"there is no stream {self.name}", "audit-enricher fleet setup nats makes it"
                    ) from error
                finally:
                    await client.close()
            if not found:
                await asyncio.sleep(_WAIT)
        return found

    async def batches(self, through: int) -> AsyncIterator[tuple[int, list[tuple[int, str, bytes]]]]:
        """Yield what comes behind the sequence `through`: the last sequence, and (seq, subject, body) of each.

        An empty list is a second without a message. Ends when `ended` is set.
        """
        position = through
        while not self.ended:
            client: Any = None
            try:
                client = await self._connect()
                async for last, found in self._pull(client, position):
                    position = last
                    yield last, found
            except (OSError, self._errors.Error):
                yield position, []
                await asyncio.sleep(_WAIT)
            finally:
                if client is not None:
                    with contextlib.suppress(OSError, self._errors.Error):
                        await client.close()

    async def _pull(
        self,
        client: Any,  # noqa: ANN401 - nats-py's
        position: int,
    ) -> AsyncIterator[tuple[int, list[tuple[int, str, bytes]]]]:
        """Yield until something is not as it should be: a connection that broke, a message that is missing."""
        stream = client.jetstream(timeout=5)
        state = (await stream.stream_info(self.name)).state
        if state.first_seq > position + 1:
            self.expired += state.first_seq - position - 1
            position = state.first_seq - 1
        api = self._api
        config = api.ConsumerConfig(
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=position + 1,
            ack_policy=api.AckPolicy.NONE,
            inactive_threshold=60.0,
            mem_storage=True,
            num_replicas=1,
        )
        reader = await stream.pull_subscribe("", stream=self.name, config=config)
        count = 0
        while not self.ended:
            try:
                messages = await reader.fetch(_FETCH, timeout=_WAIT)
            except self._errors.TimeoutError:
                if not client.is_connected:
                    return
                await reader.consumer_info()  # it may be gone with its server
                messages = []
            found = []
            for each in messages:
                # $JS.ACK.<stream>.<consumer>.<tries>.<stream's sequence>.<consumer's sequence>.<time>.<left>
                words = each.reply.split(".")
                count += 1
                if int(words[-3]) != count:
                    return  # one is missing: from the last on again
                position = int(words[-4])
                found.append((position, each.subject, each.data))
            yield position, found


def row_of(seq: int, subject: str, body: bytes) -> Row:
    """Return the message as a row; its host is the subject's last word, or "" where that cannot be a host's."""
    host = subject.rpartition(".")[2]
    return Row(seq, host if _HOST.fullmatch(host) else "", body)
