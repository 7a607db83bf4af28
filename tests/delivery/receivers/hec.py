# SPDX-License-Identifier: Apache-2.0
"""Splunk's HTTP Event Collector with indexer acknowledgement: a channel, numbers, and their confirmation."""

from __future__ import annotations

import json
import re
import uuid
from collections import defaultdict
from collections.abc import Mapping

from tests.delivery.receivers.base import Answer, Receiver, Request, Violation, need

_KEYS = {"time", "host", "source", "sourcetype", "event", "fields"}
_GAP = re.compile(r"\s*")


class HecReceiver(Receiver):
    """An event is in `taken` when it is indexed: with the question that confirms it where ``ack`` is on.

    ``asked`` is how many questions a number takes; ``lost`` how many of the next batches are read and never
    indexed, as in a crash. ``code`` answers every event with this code, until it is 0 again.
    """

    def __init__(
        self, *args: object, ack: bool = True, asked: int = 1, lost: int = 0, **more: object
    ) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self.ack = ack
        self.asked = asked
        self.lost = lost
        self.code = 0
        self.numbered = True
        """Whether it says which event is invalid."""
        self.events: list[Mapping[str, object]] = []
        self.channels: set[str] = set()
        self._numbers: dict[str, int] = defaultdict(int)
        self._pending: dict[tuple[str, int], tuple[int, list[str]]] = {}

    def take(self, request: Request) -> Answer:
        need(request.headers["content-type"] == "application/json", "content type")
        channel = request.headers.get("x-splunk-request-channel", "")
        need(str(uuid.UUID(channel)) == channel, f"channel {channel}")
        self.channels.add(channel)
        if request.path == "/services/collector/ack":
            need(request.query.get("channel") == [channel], "the channel of the query")
            return self._acknowledge(channel, request.body)
        need(request.path == "/services/collector/event", f"path {request.path}")
        if self.code:
            return Answer(503 if self.code == 9 else 400, {"text": "no", "code": self.code})
        return self._events(channel, request.body.decode())

    def _events(self, channel: str, text: str) -> Answer:
        found: list[dict[str, dict[str, str]]] = []
        at = 0
        decoder = json.JSONDecoder()
        while at < len(text):
            try:
                event, at = decoder.raw_decode(text, at)
            except ValueError as error:
                raise Violation(f"event {len(found)} is not JSON: {error}") from None
            found.append(event)
            gap = _GAP.match(text, at)
            assert gap
            at = gap.end()
        for number, event in enumerate(found):
            need(set(event) - {"index"} == _KEYS, f"keys {sorted(event)}")
            need(isinstance(event["time"], float), "time")
            need(set(event["fields"]) == {"uid"}, "fields")
            if event["fields"]["uid"] in self.poison:
                answer: dict[str, object] = {"text": "Invalid data format", "code": 6}
                if self.numbered:
                    self.refused.add(event["fields"]["uid"])
                    answer["invalid-event-number"] = number
                return Answer(400, answer)
        self.events += found
        uids = [event["fields"]["uid"] for event in found]
        if not self.ack:
            self.taken.update(uids)
            return Answer(200, {"text": "Success", "code": 0})
        number = self._numbers[channel]
        self._numbers[channel] += 1
        if self.lost:
            self.lost -= 1
        else:
            self._pending[channel, number] = (self.asked, uids)
        return Answer(200, {"text": "Success", "code": 0, "ackId": number})

    def _acknowledge(self, channel: str, body: bytes) -> Answer:
        question = json.loads(body)
        need(set(question) == {"acks"} and question["acks"], f"question {body!r}")
        answer = {}
        for number in question["acks"]:
            left, uids = self._pending.get((channel, number), (0, []))
            if left == 1:
                del self._pending[channel, number]  # told once
                self.taken.update(uids)
            elif left:
                self._pending[channel, number] = (left - 1, uids)
            answer[str(number)] = left == 1
        return Answer(200, {"acks": answer})

    def restart(self) -> None:
        """Forget what was not indexed; numbers start anew."""
        self._pending.clear()
        self._numbers.clear()

    def unauthorized(self, request: Request) -> Answer:
        return Answer(403, {"text": f"Invalid token {request.headers.get('authorization')}", "code": 4})
