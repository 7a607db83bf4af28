# SPDX-License-Identifier: Apache-2.0
"""Messages of a Kafka topic from known offsets on; each partition in its order, the partitions as they come.

Owns the consumer, which is in no group and commits nothing: the position is ours, written with the files. A lane has
the partitions whose number falls to it, and reads no others. Rows are numbered as they come, since ever. Needs
confluent-kafka.

librdkafka connects, and connects again, by itself. What it reports is waited for, but for what no time mends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from enricher.errors import UsageError
from enricher.runtime.collect.parquet import Row
from enricher.runtime.collect.source import WAIT, Found, host_of
from enricher.sinks.delivery.extras import extra
from enricher.sinks.delivery.kafkalogin import read_connection
from enricher.sinks.delivery.words import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from enricher.runtime.collect.lane import Position
    from enricher.sinks.delivery.kafka import KafkaOptions

_FETCH: Final = 5000
_ANSWER: Final = 5.0
"""Seconds for one question to the cluster."""


class Topic:
    """A `Source`: the topic of these options, of it the partitions of one lane. Raises UsageError and ConfigInvalid."""

    def __init__(self, options: KafkaOptions, lane: int = 0, lanes: int = 1) -> None:
        self._library: Any = extra("confluent_kafka", "kafka", "python3-confluent-kafka")
        connection, self.advice = read_connection(options)
        self._config: dict[str, Any] = {
            **connection,
            "group.id": "audit-enricher-collect",  # asked for by the library; nothing is ever committed
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "queued.max.messages.kbytes": 65_536,
            "error_cb": self._complain,
        }
        self._lane, self._lanes = lane, lanes
        self.name = options.topic
        self.expired = 0
        self.kept_in: dict[str, int] = {}
        self.ended = False
        self.trouble = ""
        self._partitions: list[int] = []
        self._at_end: set[int] = set()
        self._consumer: Any = None

    def _complain(self, error: Any) -> None:  # noqa: ANN401 - KafkaError
        """Keep why, and what no waiting mends: nothing is known of a cluster that is merely away."""
        self.trouble = printable(error.str())
        if error.code() in {self._library.KafkaError._AUTHENTICATION, self._library.KafkaError._SSL}:  # noqa: SLF001
            self._refused = printable(error.str())

    _refused = ""

    async def created_at(self) -> str:
        """See `Source`: the cluster's id, since Kafka does not tell of a topic when it was made."""
        if self._consumer is None:
            self._consumer = self._library.Consumer(self._config)
        while not self.ended:
            try:
                metadata = self._consumer.list_topics(self.name, timeout=_ANSWER)
                there = metadata.topics[self.name]
                error = there.error
            except self._library.KafkaException as failed:
                error = failed.args[0]
            else:
                if error is None and there.partitions:
                    mine = (each for each in there.partitions if each % self._lanes == self._lane)
                    self._partitions = sorted(mine)
                    self.trouble = ""
                    return str(metadata.cluster_id or "unknown")
            unknown = self._library.KafkaError.UNKNOWN_TOPIC_OR_PART
            if error is not None and error.code() in {unknown, self._library.KafkaError._UNKNOWN_TOPIC}:  # noqa: SLF001
                raise UsageError(
                    f"there is no topic {self.name}", "audit-enricher fleet setup kafka makes it"
                )
            if error is not None and error.code() == self._library.KafkaError.TOPIC_AUTHORIZATION_FAILED:
                self._refused = printable(error.str())
            if error is not None:
                self.trouble = printable(error.str())
            if self._refused:
                raise UsageError(
                    f"{self.name}: {self._refused}", "--username, --mechanism, --tls; fleet setup --reader"
                )
            await asyncio.sleep(WAIT)
        return ""

    async def batches(self, position: Position) -> AsyncIterator[Found]:
        """See `Source`. A partition's offsets that are gone are counted; one that begins anew is read from there."""
        last = position.through
        self.kept_in = dict(position.offsets)
        begins = [await self._begin(number) for number in self._partitions]
        if not self.ended:
            self._consumer.assign(begins)
        while not self.ended:
            # librdkafka's own threads read on meanwhile; the loop has nothing else to do.
            messages = self._consumer.consume(_FETCH, WAIT)
            rows = []
            for message in messages:
                number, error = message.partition(), message.error()
                if error is not None:
                    await self._learn(number, error)
                    continue
                self.trouble = ""
                self._at_end.discard(number)
                last += 1
                self.kept_in[str(number)] = message.offset() + 1
                key = (message.key() or b"").decode("ascii", "replace")
                rows.append(Row(last, host_of(key.partition("/")[0]), message.value() or b""))
            yield Found(last, rows, idle=not rows and len(self._at_end) == len(self._partitions))
            await asyncio.sleep(0)
        self._consumer.close()

    async def _begin(self, number: int) -> Any:  # noqa: ANN401 - TopicPartition
        """Return where to read the partition from, as soon as the cluster says what it has."""
        place = self._library.TopicPartition(self.name, number)
        while not self.ended:
            try:
                low, high = self._consumer.get_watermark_offsets(place, timeout=_ANSWER)
            except self._library.KafkaException:
                await asyncio.sleep(WAIT)
                continue
            known = self.kept_in.get(str(number))
            if known is None:
                known = low  # what was let go of before we ever came is nobody's loss
            elif known > high:  # another topic of that name
                known = low
            elif known < low:
                self.expired += low - known
                known = low
            place.offset = self.kept_in[str(number)] = known
            break
        return place

    async def _learn(self, number: int, error: Any) -> None:  # noqa: ANN401 - KafkaError
        """Take in what a partition says instead of a message."""
        code = error.code()
        if code == self._library.KafkaError._PARTITION_EOF:  # noqa: SLF001
            self._at_end.add(number)
            self.trouble = ""
        elif code in {
            self._library.KafkaError.OFFSET_OUT_OF_RANGE,
            self._library.KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001
        }:
            self._consumer.seek(await self._begin(number))
