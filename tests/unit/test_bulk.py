# SPDX-License-Identifier: Apache-2.0
"""Elasticsearch's bulk: the status of each item, and the errors that are the index's."""

from __future__ import annotations

import json

import pytest

from enricher.sinks.delivery.bulk import BulkOptions, BulkSender, authorise
from enricher.sinks.delivery.message import Unreachable
from tests.delivery.driver import deliver, messages
from tests.delivery.protocols import bulk, uids
from tests.delivery.receivers.base import Fault, status
from tests.delivery.receivers.bulk import BulkReceiver
from tests.delivery.receivers.bulk import uids as named


def test_the_credential() -> None:
    assert authorise("user:pass") == "Basic dXNlcjpwYXNz"
    assert authorise("VnVhQ2ZHY0JDZGJrUW0") == "ApiKey VnVhQ2ZHY0JDZGJrUW0"


def test_each_item_has_its_own_status() -> None:
    waiting = messages(100)
    poison = named([3, 50, 99])
    with BulkReceiver(poison=poison, busy=dict.fromkeys(named(range(10, 20)), 2)) as receiver:
        sender = bulk(receiver.url)
        done = deliver(sender, waiting)
        sender.close()
    assert set(done.refused) == set(poison) == receiver.refused
    assert done.refused["uid-3"].startswith("400 document_parsing_exception: failed to parse")
    assert receiver.uids == uids(waiting) - set(poison)
    assert done.calls == 3
    assert not done.errors
    assert set(receiver.taken.values()) == {1}
    assert receiver.conflicts == 0


def test_what_is_there_already_is_taken() -> None:
    with BulkReceiver([Fault("reset", taken=True)]) as receiver:
        sender = bulk(receiver.url)
        done = deliver(sender, messages(20))
        sender.close()
    assert len(done.errors) == 1
    assert receiver.conflicts == 20
    assert not done.refused


def test_a_request_that_is_refused_as_a_whole_is_halved() -> None:
    waiting = messages(64)
    with BulkReceiver(poison=["uid-41"]) as receiver:
        receiver.whole = True
        sender = bulk(receiver.url)
        done = deliver(sender, waiting)
        sender.close()
    assert done.refused == {"uid-41": "400: malformed line"}
    assert receiver.uids == uids(waiting) - {"uid-41"}
    assert len(receiver.requests) <= 13


def test_one_that_is_to_blame_waits_until_something_else_is_taken() -> None:
    """Alone, at a start, it cannot be told from a receiver that takes nothing."""
    with BulkReceiver(poison=["uid-0"]) as receiver:
        receiver.whole = True
        sender = bulk(receiver.url)
        with pytest.raises(Unreachable, match="refuses everything: 400: malformed line"):
            sender.send(messages(1))
        receipt = sender.send(messages(2))
        assert receipt.refused == {0: "400: malformed line"}
        assert sender.send(messages(1)).refused == {0: "400: malformed line"}
        sender.close()


def test_an_index_that_is_blocked_refuses_no_document() -> None:
    with BulkReceiver() as receiver:
        receiver.block = "cluster_block_exception"
        sender = bulk(receiver.url)
        with pytest.raises(Unreachable, match="403 cluster_block_exception: index is read-only") as caught:
            sender.send(messages(5))
        assert "logs-audit_enricher-default" in caught.value.hint
        receiver.block = ""
        deliver(sender, messages(5))
        sender.close()
    assert receiver.uids == uids(messages(5))


def test_what_is_no_document_is_refused_here() -> None:
    waiting = messages(4)
    waiting[0] = waiting[0]._replace(body=b"type=SYSCALL msg=audit(1.0:1): x")
    waiting[1] = waiting[1]._replace(body=b'{"a":1}\n{"delete":{}}')
    waiting[2] = waiting[2]._replace(uid="x" * 513)
    with BulkReceiver() as receiver:
        sender = bulk(receiver.url)
        receipt = sender.send(waiting)
        sender.close()
    assert sorted(receipt.refused) == [0, 1, 2]
    assert receiver.uids == {"uid-3"}


def test_a_uid_is_no_way_into_the_action() -> None:
    waiting = [messages(1)[0]._replace(uid='x"}}\n{"delete":{"_id":"y\u2028')]
    with BulkReceiver() as receiver:
        sender = bulk(receiver.url)
        sender.send(waiting)
        sender.close()
    assert receiver.uids == uids(waiting)


@pytest.mark.parametrize(
    "answer, words",
    [
        ({}, "has no items for 2"),
        ({"items": [{"create": {"status": 201}}]}, "has 1 items for 2"),
        ({"items": [{"create": {"status": 201}}, {"index": {"status": 201}}]}, "an item has no status"),
        ({"items": [{"create": {"status": 400}}, None]}, "an item has no status"),
        ({"items": [{"create": {"status": 201}}, {"create": {"status": "201"}}]}, "an item has no status"),
        ([], "not a JSON object"),
    ],
)
def test_an_answer_that_does_not_say_what_became_of_each(answer: object, words: str) -> None:
    with BulkReceiver([Fault("status", 200, {}, json.dumps(answer).encode())]) as receiver:
        sender = bulk(receiver.url)
        with pytest.raises(Unreachable, match=words):
            sender.send(messages(2))
        sender.close()


def test_nothing_is_there() -> None:
    with BulkReceiver([status(404, body=b'{"error":"no handler"}')]) as receiver:
        sender = bulk(receiver.url)
        with pytest.raises(Unreachable, match=r"no _bulk there \(404: no handler\)"):
            sender.send(messages(2))
        sender.close()


def test_a_pipeline_and_a_path() -> None:
    with BulkReceiver() as receiver:
        receiver.index = "es/events"
        options = BulkOptions(receiver.url + "/es/", index="events", pipeline="geo")
        sender = BulkSender(options)
        sender.send(messages(1))
        sender.close()
    assert receiver.uids == {"uid-0"}
