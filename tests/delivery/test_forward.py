# SPDX-License-Identifier: Apache-2.0
"""Fluent Forward to a receiver that is not ours, over everything that the protocol can do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from enricher.sinks.delivery.forward import ForwardOptions, ForwardSender
from enricher.sinks.delivery.message import Unreachable
from tests.certificates import Authority
from tests.delivery.conftest import FEW, Run
from tests.delivery.driver import deliver, messages
from tests.delivery.fluentserver import FluentServer
from tests.delivery.protocols import uids
from tests.delivery.rsyslog import wait_for
from tests.delivery.streams import NAME, everything_is_there, through_faults, through_kills

pytestmark = pytest.mark.timeout(1200)

COUNT = 2_000
SECURITY = {
    "serverHostname": "fluent.test",
    "sharedKey": "s3cret",
    "authorize": True,
    "userDict": {"joe": "p w"},
}


@contextmanager
def running(directory: Path, **options: object) -> Iterator[FluentServer]:
    server = FluentServer(directory, **options)  # type: ignore[arg-type]
    server.start()
    try:
        yield server
    finally:
        server.stop()


def keys(directory: Path, key: str = "s3cret") -> dict[str, str]:
    found = {"username": "joe"}
    for name, text in (("shared_key_file", key), ("password_file", "p w")):
        path = directory / name
        path.write_text(text)
        path.chmod(0o600)
        found[name] = str(path)
    return found


def everything_arrives(server: FluentServer, **options: object) -> None:
    waiting = messages(COUNT)
    sender = ForwardSender(ForwardOptions(server.address, **options))  # type: ignore[arg-type]
    done = deliver(sender, waiting)
    assert (done.errors, done.refused) == ([], {})
    wait_for(lambda: len(server.entries()) >= COUNT, "FluentServer has everything")
    sender.close()
    entries = server.entries()
    assert len(entries) == COUNT
    assert {entry.record["uid"] for entry in entries} == uids(waiting)
    assert {entry.tag for entry in entries} == {"audit"}
    for entry in entries:
        assert entry.nanoseconds == entry.record["n"] % 1000 * 1_000_000
        assert entry.seconds == 1772366400 + entry.record["n"] // 1000


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_packed_forward(tmp_path: Path, compression: str) -> None:
    with running(tmp_path) as server:
        everything_arrives(server, compression=compression, batch_bytes=4096)


def test_a_unix_socket(tmp_path: Path) -> None:
    with running(tmp_path, path=str(tmp_path / "fluent.sock")) as server:
        everything_arrives(server)


def test_a_shared_key_and_a_user_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign("server", "IP:127.0.0.1")
    with running(tmp_path, security=SECURITY, tls={"key": pair.key, "cert": pair.cert}) as server:
        everything_arrives(server, tls=True, tls_ca_file=authority.file, **keys(tmp_path))


def test_another_key_is_not_let_in(tmp_path: Path) -> None:
    with running(tmp_path, security=SECURITY) as server:
        sender = ForwardSender(ForwardOptions(server.address, **keys(tmp_path, "wrong")))  # type: ignore[arg-type]
        with pytest.raises(Unreachable, match="it does not let us in: shared key mismatch"):
            sender.send(messages(1))
        assert server.entries() == []


def config(server: FluentServer) -> str:
    return f'[sinks.{NAME}]\ntype = "forward"\naddress = "{server.address}"\ntimeout = 2\nack_timeout = 2\n'


def test_the_receiver_hangs_and_goes_on(run: Run) -> None:
    with running(run.directory) as server:
        driver = run.driver_of(config(server))
        times = 1 if run.count == FEW else 5
        through_faults(run, driver, [(server.pause, server.go_on)] * times, goes_on=False)
        wait_for(lambda: run.all <= set(server.taken(run.events)), "FluentServer has handed on everything")
        taken = server.taken(run.events)
        everything_is_there(run, driver, taken)
        assert taken.total() - len(taken) <= driver.facts(NAME)["retries"]


def test_the_program_is_killed_at_random_moments(run: Run) -> None:
    with running(run.directory) as server:
        driver = run.driver_of(config(server), chunk=5)
        through_kills(run, driver)
        kept = driver.numbers("in")
        wait_for(lambda: kept <= set(server.taken(run.events)), "FluentServer has handed on everything")
        everything_is_there(run, driver, server.taken(run.events))
