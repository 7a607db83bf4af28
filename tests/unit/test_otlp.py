# SPDX-License-Identifier: Apache-2.0
"""OTLP's logs: the envelope as the protocol's definition has it, partial success, what may be tried again."""

from __future__ import annotations

import pytest

from enricher.sinks.delivery.message import Unreachable
from enricher.sinks.delivery.otlp import OtlpOptions, OtlpSender
from tests.delivery.driver import deliver, messages, records
from tests.delivery.protocols import otlp, uids
from tests.delivery.receivers.base import Fault, status
from tests.delivery.receivers.otlp import OtlpReceiver


def test_the_envelope() -> None:
    with OtlpReceiver() as receiver:
        sender = otlp(receiver.url)
        assert sender.send(records(3)) == ({}, [], None, 0, "")
        sender.close()
    assert receiver.resource == {"host.name": "host1", "process.pid": 7, "x": True}
    assert receiver.uids == uids(records(3))


def test_a_url_with_the_path() -> None:
    with OtlpReceiver() as receiver:
        sender = otlp(receiver.url + "/v1/logs")
        sender.send(records(1))
        sender.close()
    assert receiver.uids == {"uid-0"}


def test_a_partial_success_is_a_number() -> None:
    waiting = records(20)
    poison = {"uid-3", "uid-11"}
    with OtlpReceiver(poison=poison) as receiver:
        sender = otlp(receiver.url)
        receipt = sender.send(waiting)
        sender.close()
    assert receipt == ({}, [], None, 2, "attribute too long")
    assert receiver.uids == uids(waiting) - poison
    assert len(receiver.requests) == 1


def test_all_of_a_request_rejected_is_no_riddle() -> None:
    with OtlpReceiver(poison=["uid-1"]) as receiver:
        sender = otlp(receiver.url, batch=1)
        done = deliver(sender, records(3))
        sender.close()
    assert done.refused == {"uid-1": "attribute too long"}
    assert done.unnamed == 0


def test_a_warning_is_a_success() -> None:
    body = b'{"partialSuccess":{"rejectedLogRecords":"0","errorMessage":"use gRPC"}}'
    with OtlpReceiver([Fault("status", 200, {}, body)]) as receiver:
        sender = otlp(receiver.url)
        assert sender.send(records(2)) == ({}, [], None, 0, "")
        sender.close()


@pytest.mark.parametrize("code", [400, 422, 500, 501])
def test_what_must_not_be_tried_again_is_halved_and_refused(code: int) -> None:
    class Strict(OtlpReceiver):
        def take(self, request):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            answer = super().take(request)
            return answer._replace(status=code) if answer.status == 400 else answer

    waiting = records(32)
    with Strict(poison=["uid-20"]) as receiver:
        receiver.whole = True
        sender = otlp(receiver.url)
        done = deliver(sender, waiting)
        sender.close()
    assert done.refused == {"uid-20": f"{code}: bad record uid-20"}
    assert receiver.uids == uids(waiting) - {"uid-20"}
    assert not done.errors


@pytest.mark.parametrize(
    "said, words",
    [
        (b'{"partialSuccess":{"rejectedLogRecords":"3"}}', "3 of 2 records"),
        (b'{"partialSuccess":{"rejectedLogRecords":-1}}', "is no number"),
        (b'{"partialSuccess":{"rejectedLogRecords":"many"}}', "is no number"),
        (b'{"partialSuccess":{"rejectedLogRecords":true}}', "is no number"),
        (b'{"partialSuccess":{"rejectedLogRecords":"%b"}}' % (b"9" * 5000), "is no number"),
        (b'{"partialSuccess":[1]}', "is no object"),
        (b"", "not a JSON object"),
    ],
)
def test_an_answer_that_is_damaged(said: bytes, words: str) -> None:
    with OtlpReceiver([Fault("status", 200, {}, said)]) as receiver:
        sender = otlp(receiver.url)
        with pytest.raises(Unreachable, match=words):
            sender.send(records(2))
        sender.close()


def test_another_path_is_no_verdict() -> None:
    with OtlpReceiver([None, status(404)]) as receiver:
        sender = otlp(receiver.url)
        sender.send(records(1))
        with pytest.raises(Unreachable, match="no /v1/logs there"):
            sender.send(records(1))
        sender.close()


def test_what_is_no_record_is_refused_here() -> None:
    with OtlpReceiver() as receiver:
        sender = otlp(receiver.url)
        waiting = [messages(1)[0]._replace(body=b"type=SYSCALL"), *records(1, first=1)]
        assert list(sender.send(waiting).refused) == [0]
        sender.close()


def test_a_header_of_ones_own(tmp_path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    (tmp_path / "key").write_text("k3y-of-0urs")
    key = str(tmp_path / "key")

    class Keyed(OtlpReceiver):
        def take(self, request):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            assert request.headers["x-api-key"] == "k3y-of-0urs"
            return super().take(request)

    with Keyed() as receiver:
        sender = OtlpSender(OtlpOptions(receiver.url, credential_file=key, header="x-api-key"), {})
        sender.send(records(1))
        sender.close()
    assert receiver.uids == {"uid-0"}
