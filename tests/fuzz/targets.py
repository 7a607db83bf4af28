# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed: one function per reader of bytes that others choose, with what must hold for any bytes.

A target raises for a finding and returns for everything else. It needs no fuzzer: unit tests run the
seeds through it, and a finding is reproduced with ``python -m tests.fuzz TARGET FILE``.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from enricher.cli.replay import NOWHERE
from enricher.correlate.join import Correlator, Limits
from enricher.correlate.ledger import Ledger
from enricher.correlate.logjoin import LogJoin, LogLimits
from enricher.enrich.native import NativeBuilder
from enricher.errors import DamagedInput, UsageError
from enricher.model import Context, Event, KernelCounts, Record, Tally
from enricher.route.views import native_json
from enricher.route.views.audit_text import AuditText
from enricher.route.views.table import Table
from enricher.sources.audit.text import parse, split_stamp, stamp_of
from enricher.sources.audit.types import text_name_of
from enricher.sources.logfile import read_log
from enricher.sources.logformat import LINE_MAX, Lines, LogCounts, LogRecord
from tests import schema
from tests.fuzz import capture, filters, relp, seeds
from tests.unit.sample_stream import EOE, alone, context, record, stamp, tally


class Target(NamedTuple):
    """`run` takes the fuzzer's bytes; `seeds` are where it begins; `words` are put into its inputs."""

    run: Callable[[bytes], None]
    seeds: list[bytes]
    words: list[bytes]


def require(holds: object, what: str) -> None:
    """Raise for a finding; an assertion would be gone under ``python -O``."""
    if not holds:
        raise AssertionError(what)


# -- the text of a record ----------------------------------------------------------------------------


def record_text(data: bytes) -> None:
    """Any bytes parse, the same way twice, and no byte but separators is missing or out of order."""
    number = int.from_bytes(data[:2], "little")
    text = data[2:]
    made = Record(number, text)
    parsed = parse(made)
    require(parse(made) == parsed, "what is remembered changes the result")
    body = text
    if (found := stamp_of(text)) is not None:
        split_stamp(found)
        body = text[len(b"audit():") + len(found) :]
    elif text.startswith(b"audit(") and (end := text.find(b"):")) > 0:
        body = text[end + 2 :]
    fields = [*parsed.fields, *parsed.msg, *parsed.enriched]
    require(all(field.name.isascii() for field in fields), "a name that is not ASCII")
    now = b"".join(field.written() for field in fields).replace(b" ", b"")
    was, there = Counter(body.replace(b" ", b"")), Counter(now)
    require(not there - was, "bytes that were not there")
    require(not was - there - Counter(b"msg=''\x1d"), "bytes that are gone")
    if not parsed.msg and not parsed.enriched and was == there:
        require(now == body.replace(b" ", b""), "bytes out of order")


# -- the join ----------------------------------------------------------------------------------------

NONE_LOST = KernelCounts()
SMALL = Limits(open_events=4, patience=5.0, context_patience=0.5, continued=4)


class Feed:
    """One run of the join; each pair of bytes is one thing that the kernel, or the reader, does."""

    def __init__(self, limits: Limits) -> None:
        self.correlator = Correlator(limits)
        self.ledger = Ledger(None)
        self.now = 0.0
        self.records: list[Record] = []
        self.contexts: list[Context] = []
        self.tallies: list[Tally] = []
        self.read: list[Record] = []
        self.events: list[Event] = []

    def take(self, act: int, serial: int) -> None:
        kind, amount = act & 7, act >> 3
        if kind <= 1:
            self.records.append(record(serial, (1300, 1302, EOE, 1112)[amount & 3], b"%d" % len(self.read)))
            self.read.append(self.records[-1])
        elif kind == 2:
            self.contexts.append(context(serial, amount * 10**8))
        elif kind == 3:
            self.contexts.append(alone(serial, amount * 10**8))
        elif kind == 4:
            self.tallies.append(tally(serial, amount, amount * 10**8))
        elif kind == 5:
            self.records.append(Record(1300, b"malformed %d" % len(self.read)))
            self.read.append(self.records[-1])
        else:
            self.now += amount / 4
            self.turn(parked=kind == 6)

    def turn(self, *, parked: bool) -> None:
        made = self.correlator.feed(self.records, self.contexts, self.tallies, self.now, parked=parked)
        self.enter(made)
        self.records, self.contexts, self.tallies = [], [], []

    def enter(self, events: list[Event]) -> None:
        self.events += events
        self.ledger.account(events)
        self.ledger.account_unread(self.correlator.orphan_contexts)
        self.correlator.orphan_contexts.clear()


def join(data: bytes) -> None:
    """Whatever comes in whatever order: each record is given out once, in order, and nothing is left."""
    feed = Feed(SMALL if data[:1] == b"\x01" else Limits())
    for act, serial in zip(data[1::2], data[2::2], strict=False):
        feed.take(act, serial & 15)
    feed.turn(parked=False)
    feed.enter(feed.correlator.finish(feed.now))
    require(len(feed.correlator) == 0, "something is left")
    given = [each for event in feed.events for each in event.records]
    require(Counter(given) == Counter(feed.read), "records that are missing, or not from here")
    for serial in range(16):
        own = [each for each in feed.read if stamp_of(each.text) == stamp(serial)]
        parts = [event for event in feed.events if event.stamp == stamp(serial)]
        require([each for event in parts for each in event.records] == own, "records out of order")
    for event in feed.events:
        require(event.records, "an event without records")
        require(event.complete or event.reason, "no reason for what is missing")
        require(
            not event.complete or len(event.records) == event.expected, "called complete with another count"
        )
    summary = feed.ledger.summary(NONE_LOST)
    require(summary.delivered == len(feed.read), "the ledger counted other records")
    require(summary.missing >= 0, "fewer than no record is missing")


# -- logs --------------------------------------------------------------------------------------------

NO_RECORD = b"type=UNKNOWN[0] msg="  # what our text output puts before a line that is no record
WRITTEN = 200  # records of a file that go through the views: a packed one of 400 bytes can hold 17 MB
CONTROLS = frozenset((*range(9), *range(11, 32), 127))
HARMFUL = CONTROLS - {0x1D}  # which stands before the names in auditd's ENRICHED format
TIGHT = LogLimits(titled=2, further=1, seconds=0, open_events=3, open_bytes=2_000, continued=4)


def _told(batches: list[list[LogRecord]], limits: LogLimits) -> list[tuple[object, ...]]:
    joined = LogJoin(limits)
    events = [event for batch in batches for event in joined.feed(batch)]
    events += joined.finish()
    require(len(joined) == 0, "something is left")
    given = Counter(each for event in events for each in event.records)
    require(given == Counter(each.record for batch in batches for each in batch), "records lost or made up")
    return [(event.node, event.stamp, event.part, event.reason, event.records) for event in events]


def _explain(text: bytes, given: list[LogRecord]) -> int:
    """Go through the lines with what they gave, where each byte has to be again; how many gave nothing."""
    left = iter([*given, None])
    each = next(left)
    own = 0
    for whole in text.split(b"\n"):
        line = whole.removesuffix(b"\r")
        if not line:
            continue
        if each and each.stamp is None and each.record.text in {line, line.removeprefix(NO_RECORD)}:
            each = next(left)
            continue
        if rest := line.lstrip(b"\0"):
            before = line[: len(line) - len(rest)]
            if before and each and each.stamp is None and each.record.text == before:
                line, each = rest, next(left)
        if each and each.stamp is not None and _is_from(line, each.record):
            each = next(left)
            continue
        require(b"139" in line, "a line that gave something else")
        own += 1
    require(each is None, "a record from nowhere")
    return own


def _is_from(line: bytes, made: Record) -> bool:
    before = line.removesuffix(made.text)
    names = text_name_of(made.type).encode(), b"%d" % made.type
    return len(before) < len(line) and any(name in before for name in names)


def log_lines(data: bytes) -> None:
    """Every line is counted as one thing, and where blocks end makes no difference to lines or events."""
    step = (data[0] if data else 0) + 1
    text = data[1:]
    results = []
    for size in (step, len(text) + 1):
        counts = LogCounts()
        lines = Lines(counts)
        batches = [lines.feed(text[at : at + size]) for at in range(0, len(text), size)]
        batches.append(lines.finish())
        given = [each for batch in batches for each in batch]
        total = counts.records + counts.own + counts.malformed + counts.blank
        require(counts.lines == total, "a line that is counted as nothing, or twice")
        require(len(given) == counts.records + counts.malformed, "records that are not counted")
        for each in given:
            found, made = each.stamp, each.record
            require(made.text in text, "bytes that were not there")
            require(found is None or found == stamp_of(made.text), "another stamp than the text's")
            require((found is None) == (made.type == 0), "neither a record nor malformed")
            parse(made)
        require(_explain(text, given) == counts.own, "a line of ours that is not counted, or another that is")
        results.append((repr(counts), given, _told(batches, TIGHT), _told(batches, LogLimits())))
    require(results[0] == results[1], "the size of the blocks makes a difference")


def _written(given: list[LogRecord]) -> None:
    """What a replay of these writes is harmless in every view, and the text is a log of the same records."""
    joined = LogJoin()
    events = [*joined.feed(given), *joined.finish()]
    build = NativeBuilder(NOWHERE, raw=True).build
    text, table = AuditText(NOWHERE), Table(None, colour=False)
    again = Lines(LogCounts())
    for event in events:
        native = build(event)
        schema.validate(native)
        log = text.render(event)
        for line in (native_json.render(native), log, table.render(native)):
            require(not HARMFUL.intersection(line), "a control character reaches the output")
        records = [Record(each.type, each.text) for each in event.records]
        found = [each.record for each in again.feed(log)]
        texts = b"".join(each.text for each in records)
        # Control characters are written as spaces, and 0x1d where it can be one; there is a notice then.
        if texts.isascii() and not CONTROLS.intersection(texts) and len(texts) < LINE_MAX - 1_000:
            require(found == records, "text that reads otherwise")


def log_file(data: bytes) -> None:
    """Packed or not, whole or not: records, or a DamagedInput or UsageError, and nothing else.

    Then what a replay makes of the records.
    """
    counts = LogCounts()
    given = []
    try:
        # typeshed's BufferedReader asks for more than it uses
        for batch in read_log(["-"], counts, io.BufferedReader(io.BytesIO(data))):  # type: ignore[arg-type, unused-ignore]
            require(batch, "an empty batch")
            given += batch
    except DamagedInput as error:
        require("damaged at byte" in error.message, "damage without its place")
    except UsageError as error:
        require(error.hint, "an error without a hint")
    require(len(given) == counts.records + counts.malformed, "records that are not counted")
    _written(given[:WRITTEN])


TARGETS = {
    "record_text": Target(record_text, seeds.record_texts(), seeds.WORDS),
    "join": Target(join, seeds.joins(), []),
    "log_lines": Target(log_lines, [b"\x07" + text for text in seeds.logs()], seeds.WORDS),
    "log_file": Target(log_file, [*seeds.logs(), *seeds.packed()], seeds.WORDS),
    "filter": Target(filters.filter_text, filters.seeds(), filters.WORDS),
    "capture": Target(capture.capture, capture.seeds(), capture.WORDS),
    "relp": Target(relp.answers, relp.seeds(), relp.WORDS),
}
