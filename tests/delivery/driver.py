# SPDX-License-Identifier: Apache-2.0
"""What stands in for the courier where only senders are tested: send until nothing is left.

Never waits: what a receiver said of waiting is kept for the test to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from enricher.sinks.delivery.message import Message, Sender, Unreachable


class Delivered(NamedTuple):
    refused: dict[str, str]
    unnamed: int
    errors: list[Unreachable]
    waits: list[float]
    calls: int


def messages(count: int, first: int = 0, body: bytes = b'{"n":%d,"uid":"uid-%d"}') -> list[Message]:
    return [
        Message(f"uid-{number}", 1772366400.0 + number / 1000, "SYSCALL", body % (number, number))
        for number in range(first, first + count)
    ]


def records(count: int, first: int = 0) -> list[Message]:
    """Return messages that are logRecords of OTLP."""
    body = (
        b'{"timeUnixNano":"177236640000%07d","severityNumber":9,"body":{"stringValue":"x"},'
        b'"attributes":[{"key":"log.record.uid","value":{"stringValue":"uid-%d"}}]}'
    )
    return messages(count, first, body)


def deliver(sender: Sender, waiting: Sequence[Message], calls: int = 200) -> Delivered:
    """Send them all, in batches as large as the sender likes. More calls than these are a failure."""
    left = list(waiting)
    refused: dict[str, str] = {}
    errors: list[Unreachable] = []
    waits: list[float] = []
    unnamed = 0
    used = 0
    while left:
        used += 1
        assert used <= calls, f"{len(left)} are left; {errors[-1:]}"
        batch, rest = left[: sender.most], left[sender.most :]
        try:
            receipt = sender.send(batch)
        except Unreachable as error:
            errors.append(error)
            waits += [error.wait] if error.wait is not None else []
            continue
        assert not set(receipt.refused) & set(receipt.again)
        assert len(set(receipt.again)) == len(receipt.again)
        waits += [receipt.wait] if receipt.wait is not None else []
        refused |= {batch[place].uid: reason for place, reason in receipt.refused.items()}
        unnamed += receipt.unnamed
        left = [batch[place] for place in receipt.again] + rest
    return Delivered(refused, unnamed, errors, waits, used)
