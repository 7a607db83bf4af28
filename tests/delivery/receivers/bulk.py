# SPDX-License-Identifier: Apache-2.0
"""Elasticsearch's `_bulk`, as far as it concerns one index: `create`, a status for each item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from tests.delivery.receivers.base import Answer, Receiver, Request, need, parsed

_ORDINARY = 201


class BulkReceiver(Receiver):
    """``busy`` are uids with how many times an item of theirs gets 429 before it is taken.

    ``block`` is an error type that every item gets, with status 403, until it is "" again.
    """

    def __init__(self, *args: object, busy: Mapping[str, int] | None = None, **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self.busy = Counter(busy or {})
        self.index = "logs-audit_enricher-default"
        self.block = ""
        self.conflicts = 0
        self.whole = False
        """Whether one that is poison makes the whole request fail."""

    def take(self, request: Request) -> Answer:
        need(request.path == f"/{self.index}/_bulk", f"path {request.path}")
        need(request.headers["content-type"] == "application/x-ndjson", "content type")
        need(request.body.endswith(b"\n"), "no newline at the end")
        lines = request.body[:-1].split(b"\n")
        need(len(lines) % 2 == 0, "an action without its document")
        pairs = [self._pair(*pair) for pair in zip(lines[::2], lines[1::2], strict=True)]
        if self.whole and self.poison.intersection(pairs):
            return Answer(400, {"error": {"type": "illegal_argument_exception", "reason": "malformed line"}})
        need("filter_path" in request.query, "the whole of each item is asked for")
        items = [{"create": self._item(uid)} for uid in pairs]
        return Answer(200, {"errors": any("error" in item["create"] for item in items), "items": items})

    def _pair(self, action: bytes, document: bytes) -> str:
        parsed(document)
        inner = parsed(action).get("create")
        need(isinstance(inner, dict) and set(inner) == {"_id"}, f"action {action!r}")
        assert isinstance(inner, dict)
        need(isinstance(inner["_id"], str) and inner["_id"], "no _id")
        return str(inner["_id"])

    def _item(self, uid: str) -> dict[str, object]:
        if self.block:
            return _error(403, self.block, "index is read-only")
        if uid in self.poison:
            self.refused.add(uid)
            return _error(400, "document_parsing_exception", f"failed to parse field [x] of {uid}")
        if self.busy[uid]:
            self.busy[uid] -= 1
            return _error(429, "es_rejected_execution_exception", "queue is full")
        if uid in self.taken:
            self.conflicts += 1
            return _error(409, "version_conflict_engine_exception", "document already exists")
        self.taken[uid] += 1
        return {"status": _ORDINARY}


def _error(status: int, kind: str, reason: str) -> dict[str, object]:
    return {"status": status, "error": {"type": kind, "reason": reason}}


def uids(numbers: Iterable[int]) -> list[str]:
    return [f"uid-{number}" for number in numbers]
