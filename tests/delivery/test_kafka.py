# SPDX-License-Identifier: Apache-2.0
"""Kafka, with librdkafka's mock cluster: every event is there by its key, while the cluster hangs and we are killed."""

from __future__ import annotations

import pytest

from enricher.sinks.delivery.kafka import KafkaOptions, KafkaSender
from enricher.sinks.delivery.message import ALL_TAKEN, Message, Unreachable
from tests.delivery.conftest import FEW, Run
from tests.delivery.driver import deliver
from tests.delivery.kafkamock import KafkaMock
from tests.delivery.rsyslog import wait_for
from tests.delivery.streams import NAME, everything_is_there, through_faults, through_kills

pytestmark = pytest.mark.timeout(1200)
HOST = "0123456789abcdef0123456789abcdef"


def cluster(run: Run) -> KafkaMock:
    mock = KafkaMock(run.directory / "kafka")
    run.at_end(mock.stop)
    mock.start()
    return mock


def config(mock: KafkaMock) -> str:
    table = f'[sinks.{NAME}]\ntype = "kafka"\naddress = "{mock.address}"\n'
    return table + 'ack_timeout = 2\ncompression = "zstd"\n'


def test_events_of_one_container_are_in_one_partition_in_their_order(run: Run) -> None:
    mock = cluster(run)
    sender = KafkaSender(KafkaOptions(mock.address), HOST)
    waiting = [
        Message(
            f"u/{number}",
            1772366400.0,
            "EXECVE",
            b'{"uid":"u/%d"%b}'
            % (number, b',"container":{"id":"c%d"}' % (number % 7) if number % 8 else b""),
        )
        for number in range(2_000)
    ]
    done = deliver(sender, waiting)
    assert (done.refused, sender.send([])) == ({}, ALL_TAKEN)
    sender.close()
    sender.close()
    wait_for(lambda: len(mock.lines()) >= len(waiting), "the consumer has everything")
    lines = mock.lines()
    assert sorted(uid for uid, _, _ in lines) == sorted(each.uid for each in waiting)
    assert set(mock.partitions()) == {f"{HOST}/", *(f"{HOST}/c{number}" for number in range(7))}
    for key, partitions in mock.partitions().items():
        assert len(partitions) == 1, key
        mine = [int(uid[2:]) for uid, each, _ in lines if each == key]
        assert mine == sorted(mine)


def test_an_event_that_is_too_large_is_refused_and_the_others_are_not(run: Run) -> None:
    mock = cluster(run)
    sender = KafkaSender(KafkaOptions(mock.address), HOST)
    few = [Message(f"u/{number}", 1.0, "X", b'{"uid":"u/%d"}' % number) for number in range(3)]
    few[1] = few[1]._replace(body=b'"' + b"x" * 3_000_000 + b'"')
    receipt = sender.send(few)
    sender.close()
    assert list(receipt.again) == []
    assert set(receipt.refused) == {1}
    wait_for(lambda: len(mock.lines()) == 2, "the two others are there")


def test_brokers_that_are_not_there_are_said() -> None:
    sender = KafkaSender(KafkaOptions("127.0.0.1:1", ack_timeout=1.0), HOST)
    with pytest.raises(Unreachable) as raised:
        sender.send([Message("u/1", 1.0, "X", b"{}")])
    sender.close()
    assert raised.value.message.startswith("127.0.0.1:1: ")
    assert raised.value.wait


def test_the_cluster_hangs_and_goes_on(run: Run) -> None:
    mock = cluster(run)
    driver = run.driver_of(config(mock))
    times = 1 if run.count == FEW else 5
    through_faults(run, driver, [(mock.pause, mock.go_on)] * times, goes_on=False)
    wait_for(lambda: len(mock.taken(run.events)) >= run.count, "the consumer has everything")
    taken = mock.taken(run.events)
    everything_is_there(run, driver, taken)
    assert all(len(each) == 1 for each in mock.partitions().values())
    assert taken.total() - len(taken) <= driver.facts(NAME)["retries"]


@pytest.mark.full
def test_the_program_is_killed_at_random_moments(run: Run) -> None:
    mock = cluster(run)
    driver = run.driver_of(config(mock), chunk=5)
    through_kills(run, driver)
    kept = driver.numbers("in")
    wait_for(lambda: kept <= set(mock.taken(run.events)), "the consumer has everything")
    everything_is_there(run, driver, mock.taken(run.events))
