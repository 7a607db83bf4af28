# SPDX-License-Identifier: Apache-2.0
"""Splunk's HEC: acknowledgements, codes, events that are to blame."""

from __future__ import annotations

import pytest

from enricher.sinks.delivery.message import Unreachable
from tests.delivery.driver import deliver, messages
from tests.delivery.protocols import hec, uids
from tests.delivery.receivers.base import Fault, status
from tests.delivery.receivers.hec import HecReceiver


def test_an_event() -> None:
    waiting = [*messages(1), messages(2)[1]._replace(body=b'type=X msg="\xff"\ntype=EOE')]
    with HecReceiver() as receiver:
        sender = hec(receiver.url, index="audit")
        assert sender.acknowledged
        sender.send(waiting)
        sender.close()
    first, second = receiver.events
    assert first == {
        "time": 1772366400.0,
        "host": "host1",
        "source": "audit-enricher",
        "sourcetype": "audit-enricher",
        "index": "audit",
        "event": {"n": 0, "uid": "uid-0"},
        "fields": {"uid": "uid-0"},
    }
    assert second["time"] == 1772366400.001
    assert second["event"] == 'type=X msg="\ufffd"\ntype=EOE'


def test_it_asks_until_all_is_indexed() -> None:
    with HecReceiver(asked=5) as receiver:
        sender = hec(receiver.url, batch_bytes=2000)
        receipt = sender.send(messages(100))
        sender.close()
    assert receipt == ({}, [], None, 0, "")
    assert receiver.requests.count("/services/collector/ack") == 5
    assert receiver.requests.count("/services/collector/event") > 3
    assert receiver.uids == uids(messages(100))


def test_what_is_never_indexed_is_sent_again_on_another_channel() -> None:
    with HecReceiver(lost=1) as receiver:
        sender = hec(receiver.url, ack_timeout=0.2)
        with pytest.raises(Unreachable, match=r"not acknowledged within 0\.2 seconds") as caught:
            sender.send(messages(3))
        assert "same receiver" in caught.value.hint
        assert not receiver.taken
        sender.send(messages(3))
        sender.close()
    assert receiver.uids == uids(messages(3))
    assert len(receiver.channels) == 2


def test_of_two_requests_the_one_that_is_lost_is_sent_again() -> None:
    waiting = messages(20)
    with HecReceiver(lost=1) as receiver:
        sender = hec(receiver.url, batch_bytes=1500, ack_timeout=0.2)
        receipt = sender.send(waiting)
        assert receipt.again
        assert len(receipt.again) < 20
        deliver(sender, [waiting[place] for place in receipt.again])
        sender.close()
    assert receiver.uids == uids(waiting)
    assert set(receiver.taken.values()) == {1}


def test_numbers_that_start_anew_are_no_acknowledgement_of_earlier_ones() -> None:
    """The receiver starts again between two requests of one batch, and both have the number 0."""
    waiting = messages(20)

    class Restarting(HecReceiver):
        def _events(self, channel: str, text: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
            if len(self.requests) == 2:
                self.restart()
            return super()._events(channel, text)

    with Restarting() as receiver:
        sender = hec(receiver.url, batch_bytes=1500, ack_timeout=0.3)
        receipt = sender.send(waiting)
        assert 0 in receipt.again
        deliver(sender, [waiting[place] for place in receipt.again])
        sender.close()
    assert receiver.uids == uids(waiting)


def test_a_question_that_fails_is_asked_again() -> None:
    with HecReceiver([None, Fault("reset"), status(503), Fault("html")]) as receiver:
        sender = hec(receiver.url)
        done = deliver(sender, messages(5))
        sender.close()
    assert not done.errors
    assert set(receiver.taken.values()) == {1}


def test_events_that_are_to_blame_are_refused_alone() -> None:
    waiting = messages(60)
    poison = ["uid-0", "uid-31", "uid-59"]
    with HecReceiver(poison=poison) as receiver:
        sender = hec(receiver.url)
        done = deliver(sender, waiting)
        sender.close()
    assert set(done.refused) == set(poison) == receiver.refused
    assert done.refused["uid-0"] == "HEC code 6: Invalid data format"
    assert receiver.uids == uids(waiting) - set(poison)
    assert done.calls == 1


def test_events_that_are_to_blame_and_not_named() -> None:
    waiting = messages(60)
    with HecReceiver(poison=["uid-17", "uid-44"]) as receiver:
        receiver.numbered = False
        sender = hec(receiver.url)
        done = deliver(sender, waiting)
        sender.close()
    assert set(done.refused) == {"uid-17", "uid-44"}
    assert receiver.uids == uids(waiting) - {"uid-17", "uid-44"}


@pytest.mark.parametrize(
    "code, words, hint",
    [
        (7, "HEC code 7: no", "allowed indexes"),
        (14, "HEC code 14: no", "ack = false"),
        (10, "HEC code 10: no", "channel"),
        (1, "the credential is refused", "credential_file"),
        (9, "takes nothing now (503: no)", ""),
    ],
)
def test_codes_that_say_nothing_of_the_events(code: int, words: str, hint: str) -> None:
    with HecReceiver() as receiver:
        sender = hec(receiver.url)
        receiver.code = code
        with pytest.raises(Unreachable) as caught:
            sender.send(messages(3))
        assert words in caught.value.message
        assert hint in caught.value.hint
        receiver.code = 0
        sender.send(messages(3))
        sender.close()
    assert receiver.uids == uids(messages(3))


def test_without_acknowledgement_it_has_to_be_said() -> None:
    with HecReceiver(ack=False) as receiver:
        sender = hec(receiver.url)
        with pytest.raises(Unreachable, match="the answer has no ackId") as caught:
            sender.send(messages(3))
        assert "ack = false" in caught.value.hint
        without = hec(receiver.url, ack=False)
        assert not without.acknowledged
        without.send(messages(3))
        assert receiver.requests.count("/services/collector/ack") == 0
        sender.close()
        without.close()
    assert receiver.uids == uids(messages(3))


@pytest.mark.parametrize("number", ["true", "-1", '"0"', "null", "1.5"])
def test_a_number_that_is_none(number: str) -> None:
    body = b'{"text":"Success","code":0,"ackId":%b}' % number.encode()
    with HecReceiver([Fault("status", 200, {}, body)]) as receiver:
        sender = hec(receiver.url)
        with pytest.raises(Unreachable, match="has no ackId"):
            sender.send(messages(1))
        sender.close()
