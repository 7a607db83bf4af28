# SPDX-License-Identifier: Apache-2.0
"""A hundred thousand events through three requests in ten that fail, in every protocol over HTTP."""

from __future__ import annotations

import pytest

from tests.delivery.driver import deliver
from tests.delivery.protocols import PROTOCOLS, Protocol, uids
from tests.delivery.receivers.base import mixed

EVENTS = 100_000


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=[protocol.name for protocol in PROTOCOLS])
def test_all_of_them_arrive_or_are_refused(protocol: Protocol) -> None:
    waiting = protocol.messages(EVENTS)
    # OTLP does not say which it rejects: its partial success has its own tests.
    poison = set() if protocol.name == "otlp" else {f"uid-{number}" for number in range(777, EVENTS, 9973)}
    with protocol.receiver(mixed(3, 0.3), poison=poison) as receiver:
        sender = protocol.sender(receiver.url)
        done = deliver(sender, waiting, calls=5000)
        sender.close()
    assert receiver.uids == uids(waiting) - poison
    assert set(done.refused) == poison
    assert done.errors
