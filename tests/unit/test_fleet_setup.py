# SPDX-License-Identifier: Apache-2.0
"""`fleet` without a cluster: users in files, the layout, and Kafka's answers by a double of its administrator.

What servers of NATS do is in tests/delivery/test_fleet_setup.py.
"""

from __future__ import annotations

import json
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AclBindingFilter, AclOperation, ConfigEntry  # type: ignore[attr-defined]

from enricher.cli.main import main
from enricher.errors import FleetNotReady, UsageError
from enricher.runtime.fleet.kafka import Kafka
from enricher.runtime.fleet.layout import Finding, Layout
from enricher.runtime.fleet.users import COLLECT, INBOX, SETUP, permissions, read_hosts, write_users
from enricher.sinks.delivery.kafka import KafkaOptions
from tests.lint.tree import ROOT

EXAMPLES = ROOT / "packaging" / "fleet"


def wells(found: list[Finding]) -> list[bool]:
    return [each.well for each in found]


# -- users ---------------------------------------------------------------------------------------------


def test_users_are_made_once_and_their_passwords_stay(tmp_path: Path) -> None:
    place = tmp_path / "users"
    assert wells(write_users(place, ["a", "b"], "AUDIT", dry=True)) == [False, False]
    assert not place.exists()
    assert wells(write_users(place, ["a", "b"], "AUDIT", dry=False)) == [True, True]
    before = {path.name: path.read_text() for path in place.iterdir()}
    assert set(before) == {"users.conf", *(f"{name}.password" for name in ("a", "b", COLLECT, SETUP))}
    assert len(set(before.values())) == 5
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o600}
    assert wells(write_users(place, ["a", "b"], "AUDIT", dry=True)) == [True, True]
    write_users(place, ["a", "b", "c"], "AUDIT", dry=False)
    assert {
        name: (place / name).read_text() for name in before if name != "users.conf"
    }.items() <= before.items()


def test_a_host_that_is_gone_is_let_in_no_more_and_that_is_said(tmp_path: Path) -> None:
    write_users(tmp_path, ["a", "b"], "AUDIT", dry=False)
    _, gone, written = write_users(tmp_path, ["a"], "AUDIT", dry=False)
    assert "1 users: no more in users.conf" in f"{gone.what}: {gone.said}"
    assert "written" in written.said
    assert '"b"' not in (tmp_path / "users.conf").read_text()
    assert (tmp_path / "b.password").exists()


def test_a_password_that_could_say_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.password").write_text('x", permissions: {publish: ">"} }\n')
    with pytest.raises(UsageError, match="holds no password of ours"):
        write_users(tmp_path, ["a"], "AUDIT", dry=False)


@pytest.mark.parametrize("line", ["a b", "a.b", "a*", ">", COLLECT, SETUP, "x" * 65, '"', "é"])
def test_what_is_no_host_is_said_with_its_line(tmp_path: Path, line: str) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"# hosts\n\ngood\n{line}\n")
    with pytest.raises(UsageError, match="hosts:4: this is no machine id"):
        read_hosts(hosts)


def test_hosts_are_read_once_each(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("# hosts\n\n a \nb # of the shop\na\n")
    assert read_hosts(hosts) == ["a", "b"]
    hosts.write_text("#\n")
    with pytest.raises(UsageError, match="has no host"):
        read_hosts(hosts)


def test_no_hosts_user_hears_what_the_collector_is_sent() -> None:
    heard = permissions(COLLECT, "AUDIT")["subscribe"]
    assert heard == [f"{INBOX}.>"]
    for user in ("a", SETUP):
        assert not set(heard) & set(permissions(user, "AUDIT")["subscribe"])
    assert permissions("a", "AUDIT")["publish"] == ["audit.events.a"]


# -- the command ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, said",
    [
        (["users", "x"], "users needs --hosts"),
        (["users", "nats", "--hosts", "x"], "users takes a directory, not nats"),
        (["setup", "rabbit"], "there is no kind 'rabbit'"),
        (["setup", "nats", "--writer", "User:a"], "--writer and --reader are of kafka"),
        (["setup", "kafka", "--writer", "joe"], "'joe' is no principal"),
        (["setup", "kafka", "--creds-file", "x"], "--creds-file is not of kafka"),
        (["setup", "nats", "--mechanism", "PLAIN"], "--mechanism is not of nats"),
        (["setup", "nats", "--username", "x"], "--username: there is no password_file"),
        (["setup", "nats", "--tls-ca-file", "x"], "--tls: there are options of TLS without it"),
        (["setup", "nats", "--window", "8d"], "--window is longer than --max-age"),
    ],
)
def test_what_cannot_be_done_is_said(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", *words]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "hint: " in shown


def test_no_server_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", "setup", "nats", "--servers", "127.0.0.1:1"]) == 16
    assert "is it the right port" in capsys.readouterr().err


def test_the_example_of_the_stream_is_the_layout() -> None:
    assert json.loads((EXAMPLES / "stream.json").read_text()) == Layout().stream("AUDIT")


# -- Kafka ---------------------------------------------------------------------------------------------


class Administrator:
    """A cluster with one topic at most. ``refuses`` is the name of an error that each change meets."""

    def __init__(self, partitions: int = 0, copies: int = 3, refuses: int | None = None) -> None:
        self.config: dict[str, str] = {"segment.bytes": "7"}
        self.partitions, self.copies = partitions, copies
        self.rules: list[Any] = []
        self.refuses = refuses
        self.changes = 0

    def __call__(self, config: dict[str, Any]) -> Administrator:
        assert config["bootstrap.servers"] == "127.0.0.1:1"
        return self

    def _answer(self, value: object, *, change: bool = True) -> Future[Any]:
        future: Future[Any] = Future()
        if change and self.refuses is not None:
            future.set_exception(KafkaException(KafkaError(self.refuses)))
        else:
            self.changes += change
            future.set_result(value)
        return future

    def list_topics(self, timeout: float) -> SimpleNamespace:
        assert timeout
        topics = {}
        if self.partitions:
            there = {number: SimpleNamespace(replicas=[0] * self.copies) for number in range(self.partitions)}
            topics["audit-events"] = SimpleNamespace(error=None, partitions=there)
        return SimpleNamespace(topics=topics)

    def create_topics(self, new: list[Any]) -> dict[str, Future[Any]]:
        [topic] = new
        if self.refuses is None:
            self.partitions, self.copies = topic.num_partitions, topic.replication_factor
            self.config |= topic.config
        return {topic.topic: self._answer(None)}

    def describe_configs(self, resources: list[Any]) -> dict[Any, Future[Any]]:
        entries = {name: ConfigEntry(name, value) for name, value in self.config.items()}
        return {resources[0]: self._answer(entries, change=False)}

    def incremental_alter_configs(self, resources: list[Any]) -> dict[Any, Future[Any]]:
        [resource] = resources
        for entry in resource.incremental_configs:
            self.config[entry.name] = entry.value
        return {resource: self._answer(None)}

    def describe_acls(self, wanted: AclBindingFilter) -> Future[Any]:
        same = [
            each
            for each in self.rules
            if (each.principal, each.operation) == (wanted.principal, wanted.operation)
        ]
        return self._answer(same, change=False)

    def create_acls(self, rules: list[Any]) -> dict[Any, Future[Any]]:
        self.rules += rules
        return {rules[0]: self._answer(None)}


def kafka(admin: Administrator) -> Kafka:
    return Kafka(KafkaOptions("127.0.0.1:1"), admin)


def test_a_topic_and_its_rights_are_made_once() -> None:
    admin = Administrator()
    layout = Layout(writers=["User:hosts"], readers=["User:collect"], max_age=3600.0)
    dry = kafka(admin).setup(layout, update=False, dry=True)
    assert (wells(dry), admin.changes) == ([False] * 5, 0)
    assert wells(kafka(admin).setup(layout, update=False, dry=False)) == [True] * 5
    assert (admin.partitions, admin.copies) == (24, 3)
    assert admin.config["retention.ms"] == "3600000"
    assert admin.config["min.insync.replicas"] == "2"
    rights = {(each.principal, each.operation) for each in admin.rules}
    describe = AclOperation.DESCRIBE
    assert rights == {
        ("User:hosts", AclOperation.WRITE),
        ("User:hosts", describe),
        ("User:collect", AclOperation.READ),
        ("User:collect", describe),
    }
    changes = admin.changes
    again = kafka(admin).setup(layout, update=True, dry=False)
    assert ({each.said for each in again}, admin.changes) == ({"as wanted"}, changes)


def test_a_topic_that_differs_is_changed_only_where_that_is_asked_for_and_can_be() -> None:
    admin = Administrator()
    kafka(admin).setup(Layout(), update=False, dry=False)
    changes = admin.changes
    wanted = Layout(max_age=3600.0, partitions=48)
    [found] = kafka(admin).setup(wanted, update=False, dry=False)
    assert "left alone without --update: retention.ms is 604800000, wanted is 3600000" in found.said
    assert "partitions are 24, wanted are 48" in found.said
    assert admin.changes == changes
    asked = kafka(admin)
    [found] = asked.setup(wanted, update=True, dry=False)
    assert (found.well, admin.config["retention.ms"], admin.partitions) == (False, "3600000", 24)
    assert "kafka-reassign-partitions.sh" in asked.advice[0]
    [found] = kafka(admin).setup(wanted, update=True, dry=False)
    assert "cannot be changed here: partitions are 24" in found.said


def test_refusals_have_a_hint() -> None:
    admin = Administrator(refuses=KafkaError.INVALID_REPLICATION_FACTOR)
    with pytest.raises(FleetNotReady, match="topic audit-events: ") as raised:
        kafka(admin).setup(Layout(), update=False, dry=False)
    assert raised.value.hint == "fewer brokers are there than --replicas asks for"


def test_brokers_that_are_not_there_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enricher.runtime.fleet.kafka._SECONDS", 1.0)
    with pytest.raises(FleetNotReady, match="the cluster: ") as raised:
        Kafka(KafkaOptions("127.0.0.1:1")).setup(Layout(), update=False, dry=True)
    assert "is it the right port" in raised.value.hint
