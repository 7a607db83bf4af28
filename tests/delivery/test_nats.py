# SPDX-License-Identifier: Apache-2.0
"""NATS JetStream: a real server, everything that it can answer, and every way to log in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from enricher.sinks.delivery.jetstream import NatsOptions, NatsSender
from enricher.sinks.delivery.message import ALL_TAKEN, Unreachable
from tests.certificates import Authority
from tests.delivery.driver import deliver, messages
from tests.delivery.natsjwt import trust
from tests.delivery.natsservers import NatsServers
from tests.delivery.protocols import uids
from tests.delivery.rsyslog import wait_for

HOST = "0123456789abcdef0123456789abcdef"
COUNT = 1_200


@contextmanager
def running(directory: Path, count: int = 1, **more: object) -> Iterator[NatsServers]:
    servers = NatsServers(directory, count, **more)  # type: ignore[arg-type]
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


@contextmanager
def sender_for(servers: NatsServers, **changed: object) -> Iterator[NatsSender]:
    sender = NatsSender(NatsOptions(servers.address, **changed), HOST)  # type: ignore[arg-type]
    try:
        yield sender
    finally:
        sender.close()
        sender.close()


def test_every_event_is_in_the_stream_once_in_order_whatever_is_sent_again(tmp_path: Path) -> None:
    waiting = messages(COUNT)
    with running(tmp_path) as servers, sender_for(servers) as sender:
        servers.make_stream()
        done = deliver(sender, waiting)
        assert (done.errors, done.refused, sender.duplicates) == ([], {}, 0)
        assert sender.send(waiting[:500]) == ALL_TAKEN
        assert (sender.duplicates, sender.sessions) == (500, 1)
        found = servers.messages()
    assert [(uid, body) for uid, _, body in found] == [(each.uid, each.body) for each in waiting]
    assert {subject for _, subject, _ in found} == {f"audit.events.{HOST}"}


def test_a_stream_that_is_missing_is_said_with_what_to_do(tmp_path: Path) -> None:
    with running(tmp_path) as servers, sender_for(servers) as sender:
        with pytest.raises(Unreachable) as raised:
            sender.send(messages(3))
        assert f"no stream takes audit.events.{HOST}: make AUDIT" in raised.value.message
        assert raised.value.wait
        servers.make_stream()
        assert sender.send(messages(3)) == ALL_TAKEN
        assert servers.count() == 3


def test_a_subject_of_another_stream_is_said(tmp_path: Path) -> None:
    with running(tmp_path) as servers, sender_for(servers, stream="OTHER") as sender:
        servers.make_stream()
        with pytest.raises(Unreachable, match="belongs to another stream than OTHER: set stream"):
            sender.send(messages(3))
        assert servers.count() == 0


def test_an_event_that_is_too_large_is_refused_and_the_others_are_not(tmp_path: Path) -> None:
    few = messages(4)
    few[1] = few[1]._replace(body=b'"' + b"x" * 30_000 + b'"')
    few[2] = few[2]._replace(body=b'"' + b"x" * 3_000_000 + b'"')
    with running(tmp_path) as servers, sender_for(servers) as sender:
        servers.make_stream(max_msg_size=20_000)
        receipt = sender.send(few)
        assert list(receipt.again) == []
        assert receipt.refused[1] == "message size exceeds maximum allowed"
        assert "that the server takes" in receipt.refused[2]
        assert set(receipt.refused) == {1, 2}
        assert servers.count() == 2


def test_a_stream_that_is_full_is_waited_for(tmp_path: Path) -> None:
    from nats.js.api import DiscardPolicy, StreamConfig

    with running(tmp_path) as servers, sender_for(servers) as sender:
        servers.make_stream(max_msgs=5, discard=DiscardPolicy.NEW)
        receipt = sender.send(messages(8))
        assert (receipt.refused, len(receipt.again)) == ({}, 3)
        with pytest.raises(Unreachable, match="maximum messages exceeded"):
            sender.send([messages(8)[index] for index in receipt.again])

        async def widen(stream: object) -> None:
            config = StreamConfig(name="AUDIT", subjects=["audit.events.>"], duplicate_window=3600.0)
            await stream.update_stream(config)  # type: ignore[attr-defined]

        servers.ask(widen)
        assert sender.send([messages(8)[index] for index in receipt.again]) == ALL_TAKEN
        assert {uid for uid, _, _ in servers.messages()} == uids(messages(8))


def secret(directory: Path, text: str) -> str:
    path = directory / "secret"
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_a_user_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign("server", "IP:127.0.0.1")
    more = 'authorization { user: "joe", password: "s3cret" }\n'
    keys = {"username": "joe", "password_file": secret(tmp_path, "s3cret")}
    tls = {"tls": True, "tls_ca_file": authority.file}
    with running(tmp_path / "s", more=more, tls=pair) as servers:
        with (
            sender_for(servers, **tls, **keys) as sender,
            pytest.raises(Unreachable, match="no stream takes"),
        ):
            sender.send(messages(3))
        with sender_for(servers, **tls) as sender, pytest.raises(Unreachable, match=r"(?i)authorization"):
            sender.send(messages(3))
        other = Authority(tmp_path, "other").file
        with (
            sender_for(servers, tls=True, tls_ca_file=other, **keys) as sender,
            pytest.raises(Unreachable, match=r"(?i)certificate"),
        ):
            sender.send(messages(3))


def test_a_server_without_tls_gets_nothing_where_it_is_asked_for(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with running(tmp_path / "s") as servers:
        servers.make_stream()
        with (
            sender_for(servers, tls=True, tls_ca_file=authority.file) as sender,
            pytest.raises(Unreachable, match="it does not ask for TLS, which is set here"),
        ):
            sender.send(messages(3))
        assert servers.count() == 0


def test_a_token(tmp_path: Path) -> None:
    with running(tmp_path / "s", more='authorization { token: "s3cret" }\n', login="s3cret") as servers:
        servers.make_stream()
        with sender_for(servers, token_file=secret(tmp_path, "s3cret")) as sender:
            assert sender.send(messages(3)) == ALL_TAKEN
        with sender_for(servers, token_file=secret(tmp_path, "wr0ng")) as sender:
            with pytest.raises(Unreachable) as raised:
                sender.send(messages(3))
            assert "wr0ng" not in raised.value.message
        assert servers.count() == 3


def test_a_server_that_went_and_came_back_costs_one_error(tmp_path: Path) -> None:
    with running(tmp_path) as servers, sender_for(servers) as sender:
        servers.make_stream()
        assert sender.send(messages(3)) == ALL_TAKEN
        servers.kill("n1")
        with pytest.raises(Unreachable):
            sender.send(messages(3, 3))
        with pytest.raises(Unreachable, match="Connection refused"):
            sender.send(messages(3, 3))
        servers.start()
        done = deliver(sender, messages(3, 3))
        assert len(done.errors) <= 20
        assert {uid for uid, _, _ in servers.messages()} == uids(messages(6))


@pytest.mark.timeout(25)
def test_a_connection_that_ended_while_it_was_idle_costs_no_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enricher.sinks.delivery.jetstream._IDLE", -1.0)
    with running(tmp_path) as servers, sender_for(servers, timeout=120.0) as sender:
        servers.make_stream()
        assert sender.send(messages(3)) == ALL_TAKEN
        assert sender.send(messages(3, 3)) == ALL_TAKEN
        assert sender.sessions == 1
        servers.restart("n1")
        assert deliver(sender, messages(3, 6)).refused == {}
        assert {uid for uid, _, _ in servers.messages()} == uids(messages(9))


def test_a_server_that_hangs_is_left_for_another(tmp_path: Path) -> None:
    with (
        running(tmp_path, 3) as servers,
        sender_for(servers, timeout=2.0, ack_timeout=2.0) as sender,
    ):
        servers.make_stream()
        deliver(sender, messages(3))
        held = next(name for name, port in servers.ports().items() if sender._where.endswith(f":{port}"))
        servers.pause(held)
        done = deliver(sender, messages(300, 3))
        assert done.errors
        assert not sender._where.endswith(f":{servers.ports()[held]}")
        servers.go_on(held)
        # It may answer for a moment with what it knew.
        wait_for(lambda: len(servers.messages()) >= 303, "all messages")
        assert {uid for uid, _, _ in servers.messages()} == uids(messages(303))


def test_a_creds_file(tmp_path: Path) -> None:
    made, other = trust(), trust()
    with running(tmp_path / "s", more=made.config) as servers:
        with (
            sender_for(servers, creds_file=secret(tmp_path, made.creds)) as sender,
            pytest.raises(Unreachable, match="no stream takes"),  # it was let in
        ):
            sender.send(messages(3))
        with (
            sender_for(servers, creds_file=secret(tmp_path, other.creds)) as sender,
            pytest.raises(Unreachable, match=r"(?i)authorization"),
        ):
            sender.send(messages(3))
