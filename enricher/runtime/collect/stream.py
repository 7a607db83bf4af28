# SPDX-License-Identifier: Apache-2.0
"""Messages of a JetStream stream from a sequence on, in order and without a hole.

Owns the consumer, which keeps nothing: the position is ours, written with the files, and what the server would remember
of acknowledgements is not needed. A message that did not come is asked for again. Needs nats-py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from enricher.errors import UsageError
from enricher.runtime.collect.parquet import Row
from enricher.runtime.collect.source import WAIT, Found, host_of, lane_of
from enricher.runtime.fleet.users import INBOX
from enricher.sinks.delivery.connection import addresses_of, context_of
from enricher.sinks.delivery.extras import extra
from enricher.sinks.delivery.natslogin import client_of, read_login
from enricher.sinks.delivery.words import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from enricher.runtime.collect.lane import Position
    from enricher.sinks.delivery.jetstream import NatsOptions

_FETCH: Final = 5000
_BYTES: Final = 64 << 20
"""Of one answer, which is in memory; a message may have as many, which is the most that a server can be set to take."""
_CONNECT: Final = 60.0
"""Seconds for a connection: nats-py tries each server, some seconds each."""
_CLOSE: Final = 5.0
"""Seconds that closing one may take."""
_LATE: Final = 3.0
"""Seconds that an answer may need beyond its time."""


class Stream:
    """A `Source`: the stream of these options, of it the hosts of one lane. Raises UsageError and ConfigInvalid."""

    def __init__(self, options: NatsOptions, lane: int = 0, lanes: int = 1) -> None:
        self._library = extra("nats.aio.client", "nats")
        self._errors = extra("nats.errors", "nats")
        self._api = extra("nats.js.api", "nats")
        self._servers = [f"nats://{each}" for each in addresses_of(options.address)]
        self._login, self.advice = read_login(options, self._library)
        self._tls: dict[str, Any] = {"tls": context_of(options.tls_given)} if options.tls else {}
        self.name = options.stream
        self._lane, self._lanes = lane, lanes
        self.expired = 0
        self.kept_in: dict[str, int] = {}
        self.ended = False
        self.trouble = ""

    async def _connect(self) -> Any:  # noqa: ANN401 - nats-py's
        async def complain(error: Exception) -> None:
            """Keep why: what was asked fails, and is asked again."""
            self._fails(error)

        client = client_of(self._library, held_to_tls=bool(self._tls))
        try:
            async with asyncio.timeout(_CONNECT):
                await client.connect(
                    self._servers,
                    name="audit-enricher collect",
                    error_cb=complain,
                    connect_timeout=5,
                    max_reconnect_attempts=1,
                    pending_size=1 << 26,
                    inbox_prefix=INBOX,
                    **self._tls,
                    **self._login,
                )
        except BaseException:
            await self._close(client)
            raise
        if not client.is_connected:
            # nats-py takes an end in place of the answer to CONNECT for an answer, and waits for ever later.
            await self._close(client)
            raise self._errors.Error("the server closed the connection without an answer to the login")
        return client

    async def _close(self, client: Any) -> None:  # noqa: ANN401 - nats-py's
        """Let a connection go, whatever state it is in: closing one that never came about may wait for it."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CLOSE):
                await client.close()

    def _fails(self, error: Exception) -> None:
        self.trouble = printable(str(error)) or type(error).__name__

    async def created_at(self) -> str:
        """See `Source`: when the stream was made."""
        found = ""
        while not found and not self.ended:
            try:
                client = await self._connect()
                try:
                    info = await client.jetstream(timeout=5).stream_info(self.name)
                    found = str(getattr(info, "created", "") or self.name)
                except extra("nats.js.errors", "nats").NotFoundError as error:
                    raise UsageError(
                        f"there is no stream {self.name}", "audit-enricher fleet setup nats makes it"
                    ) from error
                finally:
                    await self._close(client)
            except (OSError, self._errors.Error) as error:
                self._fails(error)
                await asyncio.sleep(WAIT)
        self.trouble = ""
        return found

    async def batches(self, position: Position) -> AsyncIterator[Found]:
        """See `Source`; numbers are the stream's sequences."""
        last = position.through
        while not self.ended:
            client: Any = None
            try:
                client = await self._connect()
                async for found in self._pull(client, last):
                    last = found.last
                    yield found
            except (OSError, self._errors.Error) as error:
                self._fails(error)
                yield Found(last, (), idle=True)
                await asyncio.sleep(WAIT)
            finally:
                if client is not None:
                    await self._close(client)

    async def _pull(
        self,
        client: Any,  # noqa: ANN401 - nats-py's
        position: int,
    ) -> AsyncIterator[Found]:
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
        consumer = (await stream.add_consumer(self.name, config)).name
        pull = _Pull(client, f"$JS.API.CONSUMER.MSG.NEXT.{self.name}.{consumer}")
        await pull.start()
        count, lanes = 0, self._lanes
        while not self.ended:
            messages = await pull.fetch()
            if messages:
                self.trouble = ""
            else:
                if not client.is_connected:
                    return
                await stream.consumer_info(self.name, consumer)  # it may be gone with its server
            rows = []
            for each in messages:
                # $JS.ACK.<stream>.<consumer>.<tries>.<stream's sequence>.<consumer's sequence>.<time>.<left>
                words = each.reply.split(".")
                count += 1
                if int(words[-3]) != count:
                    return  # one is missing: from the last on again
                position = int(words[-4])
                host = host_of(each.subject.rpartition(".")[2])
                if lanes == 1 or lane_of(host, lanes) == self._lane:
                    rows.append(Row(position, host, each.data))
            yield Found(position, rows, idle=not messages)


class _Pull:
    """Asks a consumer for messages, many at a time.

    nats-py's own way makes a task and a timer for each message, which costs more than all else that is done with it.
    """

    def __init__(self, client: Any, subject: str) -> None:  # noqa: ANN401 - nats-py's
        self._client = client
        self._subject = subject
        self._inbox = str(client.new_inbox())
        self._asked = 0
        self._messages: list[Any] = []
        self._over = asyncio.Event()

    async def start(self) -> None:
        """Hear the answers."""
        await self._client.subscribe(f"{self._inbox}.*", cb=self._take)

    async def _take(self, message: Any) -> None:  # noqa: ANN401 - nats-py's
        if message.headers and "Status" in message.headers:  # that there are no more, or none within the time
            if message.subject == f"{self._inbox}.{self._asked}":  # and not of a question that was given up
                self._over.set()
            return
        self._messages.append(message)
        if len(self._messages) >= _FETCH:
            self._over.set()

    async def fetch(self) -> list[Any]:
        """Return what is there, or else what comes within `WAIT` seconds; it may be nothing."""
        found = await self._ask({"no_wait": True})
        return found or await self._ask({"expires": int(WAIT * 1e9)})

    async def _ask(self, how: dict[str, Any]) -> list[Any]:
        self._over.clear()
        self._asked += 1
        request = json.dumps({"batch": _FETCH, "max_bytes": _BYTES, **how}).encode()
        await self._client.publish(self._subject, request, f"{self._inbox}.{self._asked}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * WAIT + _LATE):
                await self._over.wait()
        found, self._messages = self._messages, []
        return found
