# SPDX-License-Identifier: Apache-2.0
"""What the service manager is told, over real datagram sockets."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from enricher.runtime.notify import Notifier

Make = Callable[[dict[str, str]], Notifier]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)  # noqa: FBT003 - its signature
        yield listening


@pytest.fixture
def make() -> Iterator[Make]:
    with ExitStack() as made:

        def notifier(environment: dict[str, str]) -> Notifier:
            fresh = Notifier(environment)
            made.callback(fresh.close)
            return fresh

        yield notifier


def told(manager: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in manager.recv(65_536).decode().split("\n"))


def test_ready_reload_stop(manager: socket.socket, make: Make) -> None:
    notifier = make({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.ready("at work")
    assert told(manager) == {"READY": "1", "STATUS": "at work"}
    notifier.reloading()
    reloading = told(manager)
    assert reloading.pop("RELOADING") == "1"
    assert re.fullmatch(r"[0-9]{6,}", reloading.pop("MONOTONIC_USEC"))
    assert not reloading
    notifier.status("as it goes")
    assert told(manager) == {"STATUS": "as it goes"}
    notifier.alive()
    assert told(manager) == {"WATCHDOG": "1"}
    notifier.stopping()
    assert told(manager) == {"STOPPING": "1"}
    notifier.close()
    notifier.alive()
    with pytest.raises(BlockingIOError):
        manager.recv(1)


def test_an_abstract_address(make: Make) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"audit-enricher-test-{os.getpid()}"
        manager.bind(f"\0{name}")
        make({"NOTIFY_SOCKET": f"@{name}"}).alive()
        assert told(manager) == {"WATCHDOG": "1"}


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "relative"}, {"NOTIFY_SOCKET": ""}])
def test_without_a_manager_nothing_is_said(environment: dict[str, str], make: Make) -> None:
    notifier = make({**environment, "WATCHDOG_USEC": "1000000"})
    notifier.ready("nobody hears this")
    assert notifier.watchdog is None


def test_a_manager_that_is_gone_harms_nobody(tmp_path: Path, make: Make) -> None:
    make({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("at work")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog(
    manager: socket.socket, environment: dict[str, str], seconds: float | None, make: Make
) -> None:
    notifier = make({"NOTIFY_SOCKET": manager.getsockname(), **environment})
    assert notifier.watchdog == seconds


def test_children_cannot_speak_for_us(manager: socket.socket, make: Make) -> None:
    environment = {
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": "1",
        "WATCHDOG_PID": "1",
        "A": "b",
    }
    make(environment)
    assert environment == {"A": "b"}


def test_a_status_is_one_line_of_one_message(manager: socket.socket, make: Make) -> None:
    make({"NOTIFY_SOCKET": manager.getsockname()}).status("writing to /a\0b")
    assert told(manager) == {"STATUS": "writing to /a b"}
