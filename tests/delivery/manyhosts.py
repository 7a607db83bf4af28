# SPDX-License-Identifier: Apache-2.0
"""Many hosts at once: each with a machine id, a boot, a user and a connection of its own; events of a real capture.

Owns what the hosts send and the processes that they are in, some hundreds in each. What a host sends is what its
service would: the native event, by the sender of destinations of type nats. Never knows what has to come of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from enricher.codec import dumps
from enricher.enrich.native import build
from enricher.sinks.delivery.jetstream import NatsOptions, NatsSender
from enricher.sinks.delivery.message import Message, Unreachable
from tests.delivery.events import Events

_PAUSE = 0.05
"""Seconds until a host tries again; the courier would wait longer."""
_LIMIT = 600.0


@dataclass(frozen=True)
class Plan:
    """`hosts` hosts with `each` events, sent in `rounds`; one in ten sends a round again, as after a kill."""

    events: Events
    hosts: int
    each: int
    rounds: int
    address: str
    users: Path
    progress: Path
    """A directory, in which each process has a file that grows by a byte for each round."""

    @property
    def gate(self) -> Path:
        """The file that says how many rounds may be sent."""
        return self.progress.with_name("gate")


def ident(number: int) -> str:
    """Return the machine id of a host."""
    return UUID(int=(number + 1) << 64 | 0xF1EE7).hex


def messages(plan: Plan, number: int, turn: int) -> list[Message]:
    """Return what this host sends in this round."""
    host, size = ident(number), plan.each // plan.rounds
    facts = plan.events.facts._replace(
        machine_id=host, name=f"host{number}", boot_id=str(UUID(int=number + 1))
    )
    found = []
    for event in plan.events.some(1 + turn * size, 1 + (turn + 1) * size):
        native = build(event, facts)
        found.append(Message(native["uid"], 1772366400.0, native["type"], dumps(native)))
    return found


def work(plan: Plan, share: int, shares: int) -> None:
    """Be the hosts of one share: each connects for itself, and sends its rounds as the others do."""
    with (plan.progress / str(share)).open("ab", buffering=0) as done:
        senders = {number: _sender(plan, number) for number in range(share, plan.hosts, shares)}
        for turn in range(plan.rounds):
            while int(plan.gate.read_text()) <= turn:
                time.sleep(_PAUSE)
            for number, sender in senders.items():
                mine = messages(plan, number, turn)
                _send(sender, mine)
                if number % 10 == 0:
                    _send(sender, mine)
            done.write(b".")
        for sender in senders.values():
            sender.close()


def turns(plan: Plan) -> Iterator[int]:
    """Return how many rounds each process has done."""
    for path in plan.progress.iterdir():
        yield path.stat().st_size


def _sender(plan: Plan, number: int) -> NatsSender:
    host = ident(number)
    password = str(plan.users / f"{host}.password")
    options = NatsOptions(plan.address, username=host, password_file=password, timeout=5.0, ack_timeout=2.0)
    return NatsSender(options, host)


def _send(sender: NatsSender, waiting: Sequence[Message]) -> None:
    left, end = list(waiting), time.monotonic() + _LIMIT
    while left:
        try:
            receipt = sender.send(left[: sender.most])
        except Unreachable:
            if time.monotonic() >= end:
                raise
            time.sleep(_PAUSE)
            continue
        assert not receipt.refused, receipt.refused
        left = [left[place] for place in receipt.again] + left[sender.most :]
