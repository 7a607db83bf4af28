# SPDX-License-Identifier: Apache-2.0
"""Many hosts' events from librdkafka's mock cluster into Parquet: each once, whatever is killed."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import confluent_kafka
import pytest

from enricher.cli.main import main
from enricher.sinks.delivery.kafka import key_of
from tests.delivery.kafkamock import TOPIC, KafkaMock
from tests.delivery.test_collect import ask, body, collect, collector, counts, spread

MANY, FEW, CHUNK = 100_000, 2_000, 1_000
"""A chunk has its place in the mock cluster, which keeps some megabytes of each partition."""
FROM = ("--from", "kafka")


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[KafkaMock]:
    made = KafkaMock(tmp_path / "kafka")
    try:
        made.start()
        yield made
    finally:
        made.stop()


def produce(address: str, messages: list[tuple[str, bytes]]) -> None:
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": address, "partitioner": "murmur2", "enable.idempotence": True}
    )
    for host, data in messages:
        key = key_of(host, data) if host else b"no host/"
        producer.produce(TOPIC, value=data, key=key, headers=[("uid", uid_of(data))])
        producer.poll(0)
    assert producer.flush(60) == 0


def uid_of(data: bytes) -> bytes:
    return str(json.loads(data)["uid"]).encode()


@pytest.mark.timeout(1800)
@pytest.mark.grows
def test_each_event_is_there_once_through_kills(mock: KafkaMock, tmp_path: Path, full: bool) -> None:  # noqa: FBT001
    count, chance = MANY if full else FEW, random.Random(10)  # noqa: S311 - the same kills each time
    directory = tmp_path / "out"
    everything, chunk = spread(count), 2 * CHUNK if full else CHUNK
    kills = 0
    for first in range(0, count, chunk):
        produce(mock.address, everything[first : first + chunk])
        with collector(
            mock.address, directory, *FROM, "--batch-events", str(chunk // 4), "--until-idle"
        ) as process:
            assert process.stderr is not None
            process.stderr.readline()
            time.sleep(chance.random() * 0.2)  # which moment is what is being tried
            kills += process.poll() is None
            process.kill()
        collect(mock.address, directory, *FROM)
    produce(mock.address, everything[-CHUNK // 2 :])  # what a host had not heard of being taken
    said = collect(mock.address, directory, *FROM)
    assert counts(directory) == (count, count), said
    assert f", {CHUNK // 2} duplicates" in said
    assert " 0 expired unread" in said
    assert kills


def test_lanes_share_the_partitions(mock: KafkaMock, tmp_path: Path) -> None:
    directory = tmp_path / "out"
    produce(mock.address, spread(400))
    lanes = [collect(mock.address, directory, *FROM, "--lane", f"{number}/2") for number in range(2)]
    assert counts(directory) == (400, 400)
    assert all("400 written" not in each for each in lanes)


def test_what_has_no_host_or_is_no_event_is_rejected(mock: KafkaMock, tmp_path: Path) -> None:
    good = body(1, "one")
    produce(mock.address, [("one", good), ("", good), ("one", b'{"uid":"u","time":"never"}')])
    said = collect(mock.address, tmp_path / "out", *FROM)
    assert "1 written, 0 duplicates, 0 late, 2 rejected" in said
    assert ask(tmp_path / "out", "SELECT host FROM '/srv/audit/day=*/host=*/*.parquet'") == [("one",)]


def test_what_the_topic_let_go_of_before_it_was_read_is_counted(mock: KafkaMock, tmp_path: Path) -> None:
    directory = tmp_path / "out"
    produce(mock.address, [("one", body(0, "one"))])
    collect(mock.address, directory, *FROM)
    many = 4 * CHUNK
    produce(
        mock.address, [("one", body(10 * number + 10, "one")) for number in range(many)]
    )  # of one partition
    said = collect(mock.address, directory, *FROM)
    expired = int(said.rsplit(" rejected, ", 1)[1].split()[0])
    assert expired > 0
    assert counts(directory) == (many + 1 - expired, many + 1 - expired)


def test_a_topic_and_brokers_that_are_not_there(
    mock: KafkaMock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["collect", str(tmp_path / "out"), "--from", "kafka", "--servers", mock.address, "--until-idle"]
    assert main([*words, "--creds-file", "x"]) == 2
    assert "--creds-file is not of kafka" in capsys.readouterr().err
    with collector("127.0.0.1:1", tmp_path / "out", *FROM) as process:
        assert process.stderr is not None
        assert "; trying on" in process.stderr.readline()
        process.terminate()
        process.communicate(timeout=60)
    assert list((tmp_path / "out").glob("day=*")) == []
