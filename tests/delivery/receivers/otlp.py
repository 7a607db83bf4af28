# SPDX-License-Identifier: Apache-2.0
"""An OTLP receiver for logs in JSON: every request is parsed by the protocol's own definition."""

from __future__ import annotations

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from tests.delivery.receivers.base import Answer, Receiver, Request, Violation, need


class OtlpReceiver(Receiver):
    """Poison is rejected in a partial success, or with ``whole`` by 400 for the request."""

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self.whole = False
        self.resource: dict[str, object] = {}

    def take(self, request: Request) -> Answer:
        need(request.path == "/v1/logs", f"path {request.path}")
        need(request.headers["content-type"] == "application/json", "content type")
        try:
            message = json_format.Parse(request.body, ExportLogsServiceRequest())
        except json_format.ParseError as error:
            raise Violation(f"not the protocol's JSON: {error}") from None
        need(len(message.resource_logs) == 1, "one resource")
        need(len(message.resource_logs[0].scope_logs) == 1, "one scope")
        scope = message.resource_logs[0].scope_logs[0]
        need(scope.scope.name == "audit-enricher" and scope.scope.version, "scope")
        self.resource = {
            attribute.key: getattr(attribute.value, str(attribute.value.WhichOneof("value")))
            for attribute in message.resource_logs[0].resource.attributes
        }
        uids = [self._uid(record) for record in scope.log_records]
        bad = self.poison.intersection(uids)
        self.refused |= bad
        if bad and self.whole:
            return Answer(400, {"code": 3, "message": f"bad record {min(bad)}"})
        self.taken.update(uid for uid in uids if uid not in bad)
        if not bad:
            return Answer(200, {})
        words = {"rejectedLogRecords": str(len(bad)), "errorMessage": "attribute too long"}
        return Answer(200, {"partialSuccess": words})

    def _uid(self, record: object) -> str:
        attributes = getattr(record, "attributes", [])
        found = [item.value.string_value for item in attributes if item.key == "log.record.uid"]
        need(len(found) == 1 and found[0], "log.record.uid")
        return str(found[0])
