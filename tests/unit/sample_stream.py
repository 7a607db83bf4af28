# SPDX-License-Identifier: Apache-2.0
"""Both streams made by hand: records as netlink brings them, contexts and tallies as the rings do.

Never read from a real system. Times are nanoseconds since boot, as the kernel side's.
"""

from __future__ import annotations

from enricher.model import Context, ContextFlag, Record, Tally, TallyFlag
from tests.unit import sample_events

SEC = 1772366400
MS = 1_000_000  # nanoseconds
EOE = 1320
LONG = 1 << 32  # serials


def stamp(serial: int, sec: int = SEC) -> bytes:
    return b"%d.042:%d" % (sec, serial % LONG)


def record(serial: int, number: int = 1300, body: bytes = b"", sec: int = SEC) -> Record:
    return Record(number, b"audit(" + stamp(serial, sec) + b"): " + body)


def records(serial: int, *numbers: int, sec: int = SEC) -> list[Record]:
    """Records of these types, each with its place in the text."""
    return [record(serial, number, b"item=%d" % i, sec) for i, number in enumerate(numbers)]


def context(  # noqa: PLR0913 - each is a fact a test may want to vary
    serial: int,
    time: int = 0,
    flags: int = ContextFlag.SUBJECT,
    *,
    pid: int = 4711,
    record_type: int = 1300,
    sec: int = SEC,
) -> Context:
    made = sample_events.context(flags=flags, pid=pid, record_type=record_type)
    return made._replace(stamp=stamp(serial, sec), time=time)


def alone(serial: int, time: int = 0, flags: int = ContextFlag.SUBJECT) -> Context:
    """The context of an event of one record."""
    return context(serial, time, flags | ContextFlag.STANDALONE)


def tally(serial: int, total: int, time: int = 0, flags: int = TallyFlag.EOE, sec: int = SEC) -> Tally:
    return Tally(stamp(serial, sec), time, int(flags), total, ((1300, total),))
