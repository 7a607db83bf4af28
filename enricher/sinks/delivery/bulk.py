# SPDX-License-Identifier: Apache-2.0
"""Elasticsearch and OpenSearch: `_bulk` into a data stream or an index.

Owns the protocol's lines and what the status of an item means. Never makes an index, a template or a policy.

Every message is a `create` with its uid as `_id`: that it is there already (409) is the proof that an earlier
attempt arrived, and counts as taken. So what is sent again makes no second document, as long as it goes to the same
backing index; see docs/sinks/elasticsearch.md for what a rollover between two attempts does.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enricher import codec
from enricher.config.kinds import Kind, Unfit
from enricher.config.options import option
from enricher.errors import ConfigInvalid
from enricher.sinks.delivery.http import (
    BAD_REQUEST,
    FORBIDDEN,
    NOT_FOUND,
    OK,
    PASSING,
    SERVER_ERROR,
    TOO_MANY,
    UNAUTHORIZED,
    HttpOptions,
    Reply,
    whole,
)
from enricher.sinks.delivery.http_batches import HttpSender, Item, Outcome, Refused, WholeRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enricher.sinks.delivery.message import Message

_CREATED: Final = range(200, 300)
_NO_STATUS: Final = 600
_CONFLICT: Final = 409
_LONGEST_ID: Final = 512
"""Bytes of an `_id`: a longer one makes the receiver refuse the whole request."""
_INDEX: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,254}")
_DEFAULT: Final = "logs-audit_enricher-default"
_ANSWER: Final = "errors,items.*.status,items.*.error.type,items.*.error.reason"

_OF_THE_INDEX: Final = frozenset(
    {
        "cluster_block_exception",
        "index_closed_exception",
        "index_not_found_exception",
        "invalid_index_name_exception",
        "no_shard_available_action_exception",
        "security_exception",
        "unavailable_shards_exception",
    }
)
"""Errors of an item that say nothing of the document, whatever their status: an operator can end them."""


class _IndexKind(Kind[str]):
    metavar = "NAME"

    def __init__(self, *, empty: bool = False) -> None:
        self._empty = empty
        self.what = "a name of lower case letters, digits, '.', '_' and '-' alone"

    def parse(self, text: str) -> str:
        if not _INDEX.fullmatch(text) and (text or not self._empty):
            raise Unfit(self.wrong(text))
        return text


@dataclass(frozen=True)
class BulkOptions(HttpOptions):
    """What can be set of a destination of type `elasticsearch`."""

    index: str = option(_DEFAULT, "data stream or index", _IndexKind())
    pipeline: str = option("", "ingest pipeline; empty: the index's own", _IndexKind(empty=True))


def authorise(secret: str) -> str:
    """Return the header for ``user:password``, or for an API key in its encoded form."""
    if ":" in secret:
        return "Basic " + base64.b64encode(secret.encode()).decode()
    return f"ApiKey {secret}"


class BulkSender(HttpSender):
    """A `Sender` to one index or data stream."""

    content_type = "application/x-ndjson"

    def __init__(self, options: BulkOptions) -> None:
        super().__init__(options, authorise)
        for name, value in (("index", options.index), ("pipeline", options.pipeline)):
            if not _INDEX.fullmatch(value) and (value or name == "index"):
                raise ConfigInvalid(f"{name}: {value!r}: lower case, digits, '.', '_' and '-' alone")
        pipeline = f"&pipeline={options.pipeline}" if options.pipeline else ""
        self._index = options.index
        self._path = f"/{options.index}/_bulk?filter_path={_ANSWER}{pipeline}"

    def path(self) -> str:
        """Return where to post to."""
        return self._path

    def encode(self, message: Message) -> bytes:
        """Return the action's line and the document's."""
        if b"\n" in message.body or not message.body.startswith(b"{"):
            raise Refused("it is not one line with a JSON object")
        if not 0 < len(message.uid.encode(errors="replace")) <= _LONGEST_ID:
            raise Refused(f"its uid is no _id: 1 to {_LONGEST_ID} bytes")
        return b'{"create":{"_id":%b}}\n%b\n' % (codec.dumps(message.uid), message.body)

    def body(self, parts: Sequence[bytes]) -> bytes:
        """Return the lines, each with its newline, the last one too."""
        return b"".join(parts)

    def read(self, reply: Reply, items: list[Item], outcome: Outcome) -> list[Item]:
        """Judge each item by its own status."""
        if reply.status != OK:
            self._refuse(reply)
        document = self.client.document(reply)
        found = document.get("items")
        if not isinstance(found, list) or len(found) != len(items):
            count = len(found) if isinstance(found, list) else "no"
            raise self.client.unreachable(
                f"the answer has {count} items for {len(items)}", "is this Elasticsearch or OpenSearch?"
            )
        blocked = []
        taken = 0
        # All are read before the first counts: an answer that is damaged says nothing of any.
        for item, (status, kind, said) in zip(items, [self._status(entry) for entry in found], strict=True):
            if status in _CREATED or status == _CONFLICT:
                taken += 1
            elif status == TOO_MANY or status >= SERVER_ERROR:
                outcome.put_off([item])
            elif status in {UNAUTHORIZED, FORBIDDEN, NOT_FOUND} or kind in _OF_THE_INDEX:
                blocked.append((item, f"{status} {said}"))
            else:
                outcome.refused[item.place] = f"{status} {said}"
        outcome.taken += taken
        if len(blocked) == len(items):
            hint = f"the data stream or index {self._index} has to exist, or a template for it, and be writable to us"
            raise self.client.unreachable(blocked[0][1], hint)
        outcome.put_off([item for item, _ in blocked])
        return []

    def _refuse(self, reply: Reply) -> None:
        """Raise what the status of a whole request means."""
        if reply.status in {UNAUTHORIZED, FORBIDDEN}:
            raise self.client.refused(reply)
        if reply.status in PASSING or reply.status >= SERVER_ERROR:
            raise self.client.passing(reply)
        said = f"{reply.status}{self.client.reason(reply)}"
        if reply.status == BAD_REQUEST:
            raise WholeRefused(said)
        raise self.client.unreachable(
            f"no _bulk there ({said})", "url is the cluster's address, without an index"
        )

    def _status(self, entry: object) -> tuple[int, str, str]:
        """Return an item's status, the type of its error, and both with the reason as words."""
        inner: object = entry.get("create") if isinstance(entry, dict) else None
        status = whole(inner.get("status"), _NO_STATUS) if isinstance(inner, dict) else -1
        if not isinstance(inner, dict) or status < OK:
            raise self.client.unreachable("the answer is damaged: an item has no status")
        error: Mapping[object, object] = inner["error"] if isinstance(inner.get("error"), dict) else {}
        kind = self.client.clean(error.get("type", "no type"))
        return status, kind, self.client.clean(f"{kind}: {error.get('reason', 'no reason given')}")
